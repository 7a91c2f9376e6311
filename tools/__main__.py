"""Entry point: `python -m corfu.tools`, installed as `corfu`.

Imports next to nothing before Ctrl-C is looked after: all else takes a moment to load.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable

_INTERRUPTED = 130


def main() -> None:
    """Run the command and exit."""
    try:
        load()()
    except KeyboardInterrupt:
        # Between the places that look after it themselves.
        sys.exit(_INTERRUPTED)


def load() -> Callable[[], None]:
    """Import the command; Ctrl-C ends the process meanwhile, in silence."""
    before = signal.getsignal(signal.SIGINT)
    # Not as an exception: code that is half imported might take it for a missing module. And who
    # started us with the signal ignored, as `nohup` does, means it.
    if before is signal.default_int_handler:
        signal.signal(signal.SIGINT, lambda _number, _frame: os._exit(_INTERRUPTED))
    from .cli import main as command

    signal.signal(signal.SIGINT, before)
    return command


if __name__ == "__main__":
    main()
