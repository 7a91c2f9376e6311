"""One client of a run, a process of its own: what it measures is what a program would see.

    python -m corfu.tools.nemesis.client CLUSTER NAME SEED HISTORY [ordered]

Works until SIGTERM, then ends every operation under way; exit status 0 only after that. HISTORY
gets a line for each operation once it has ended.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections.abc import Awaitable
from pathlib import Path
from typing import TextIO

import corfu
from corfu.tools.history import Operation, encode_operation
from corfu.tools.recorder import Recorder
from corfu.tools.workload import Workload, WorkloadOptions

OPTIONS = WorkloadOptions(
    append_gap_s=0.05,
    read_gap_s=0.1,
    append_timeout_s=10.0,
    trimmed_share=0.25,
)
"""What four clients of this kind ask for leaves two processors mostly idle, so that what is
measured are the faults: about 150 appends a second."""


async def work(cluster: str, name: str, seed: int, history: TextIO, *, ordered: bool) -> None:
    """Do every kind of operation until SIGTERM."""

    def keep(operation: Operation) -> None:
        history.write(encode_operation(operation) + "\n")

    def connect() -> Awaitable[corfu.Log]:
        return corfu.connect(cluster, ordered=ordered)

    # One clock for all processes of the machine, read at every stamp.
    recorder = Recorder(time.monotonic, keep)
    workload = Workload(name, connect, recorder, OPTIONS, seed, ordered=ordered)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, workload.end)
    await workload.run()


def main() -> None:
    """Run one client."""
    cluster, name, seed, path, *rest = sys.argv[1:]
    # A line at a time: whoever watches sees an append as soon as it has ended.
    with Path(path).open("x", buffering=1) as history:
        asyncio.run(work(cluster, name, int(seed), history, ordered=rest == ["ordered"]))


if __name__ == "__main__":
    main()
