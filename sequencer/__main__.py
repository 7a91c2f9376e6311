"""Entry point: `python -m sequencer`, installed as `corfu-sequencer`."""

from __future__ import annotations

import sys

from .server import main

if __name__ == "__main__":
    sys.exit(main())
