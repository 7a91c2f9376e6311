"""Clients under test, in a process of their own: what they measure is what a program would see.

    python -m corfu.tools.nemesis.client CLUSTER NAME,... SEED HISTORY [SETTINGS]

Works until SIGTERM, then ends every operation under way; exit status 0 only after that. HISTORY
gets a line for each operation once it has ended. SETTINGS is what `Settings.encode` returns.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TextIO

import corfu
from corfu.compression import CodecName
from corfu.tools.history import encode_operation
from corfu.tools.operations import Operation
from corfu.tools.recording import Recorder
from corfu.tools.workload import Workload, WorkloadOptions

OPTIONS = WorkloadOptions(
    append_gap_s=0.05,
    read_gap_s=0.1,
    append_timeout_s=10.0,
    trimmed_share=0.25,
    catch_up_s=20.0,
)
"""What four clients of this kind ask for leaves two processors mostly idle, so that what is
measured are the faults: about 150 appends a second."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What the clients of one process do, and which of them keep log order equal to call order."""

    options: WorkloadOptions
    ordered: tuple[str, ...] = ()
    compression: CodecName | None = None
    dictionaries: tuple[str, ...] = ()
    """Paths of files."""

    def encode(self) -> str:
        """Return the settings as an argument."""
        return json.dumps(asdict(self))

    @classmethod
    def decode(cls, text: str) -> Settings:
        """Return what was encoded."""
        fields = json.loads(text)
        return cls(
            WorkloadOptions(**fields["options"]),
            tuple(fields["ordered"]),
            fields["compression"],
            tuple(fields["dictionaries"]),
        )


async def work(
    cluster: str, names: list[str], seed: int, history: TextIO, settings: Settings
) -> None:
    """Do every kind of operation until SIGTERM."""

    def keep(operation: Operation) -> None:
        history.write(encode_operation(operation) + "\n")

    # One clock for all processes of the machine, read at every stamp.
    recorder = Recorder(time.monotonic, keep)
    workloads = [
        Workload(
            name,
            partial(
                corfu.connect,
                cluster,
                ordered=name in settings.ordered,
                compression=settings.compression,
                dictionary=settings.dictionaries,
            ),
            recorder,
            settings.options,
            seed,
            ordered=name in settings.ordered,
        )
        for name in names
    ]

    def end() -> None:
        for workload in workloads:
            workload.end()

    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, end)
    await asyncio.gather(*(workload.run() for workload in workloads))


def main() -> None:
    """Run the clients of one process."""
    cluster, listed, seed, path, *rest = sys.argv[1:]
    names = listed.split(",")
    settings = Settings.decode(rest[0]) if rest else Settings(OPTIONS)
    # A line at a time: whoever watches sees an append as soon as it has ended.
    with Path(path).open("x", buffering=1) as history:
        asyncio.run(work(cluster, names, int(seed), history, settings))


if __name__ == "__main__":
    main()
