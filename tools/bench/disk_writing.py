"""The yardstick for durable writes: a process that writes and syncs, and does nothing else."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from pathlib import Path

from corfu.runtime.disk import FileDisk
from corfu.storage_units.settings import UnitSettings

from .assignment import Assignment
from .job import Counters
from .meter import Meter

FILES = 8
"""Journal files of one process, written from one end to the other and again: twice what a disk's
own cache may hold, and small enough to be made in a second or two."""


class DiskWriting:
    """Writes pieces into preallocated files one after the other, a group of them with each sync.

    As a unit does it, with all that is not the disk left out: no network, no index, no digest.
    """

    def __init__(self, assignment: Assignment) -> None:
        self._assignment = assignment
        self._file_bytes = UnitSettings().journal_file_bytes
        self._names = [f"file-{number}" for number in range(FILES)]

    async def open(self) -> None:
        """See `Job`."""
        await asyncio.to_thread(self._allocate)

    def meter(self) -> Meter:
        """See `Job`."""
        return Meter(self._assignment.batch, self._assignment.size)

    async def work(self, meter: Meter, stop: asyncio.Event) -> None:
        """See `Job`."""
        await asyncio.to_thread(self._write, meter.samples.append, stop.is_set)

    def counters(self) -> Counters:
        """See `Job`."""
        return {}

    async def close(self) -> None:
        """See `Job`. Whoever made the folder removes it."""

    def _allocate(self) -> None:
        disk = FileDisk(Path(self._assignment.folder))
        try:
            for name in self._names:
                disk.allocate(name, self._file_bytes)
                disk.sync(name)
            disk.sync_folder()
        finally:
            disk.close()

    def _write(self, note: Callable[[int], None], stopped: Callable[[], bool]) -> None:
        told = self._assignment
        # Random: a disk may be cleverer about zeros.
        group = os.urandom(told.size * told.batch)
        while not stopped():
            for name in self._names:
                descriptor = os.open(Path(told.folder) / name, os.O_RDWR | os.O_CLOEXEC)
                try:
                    self._fill(descriptor, group, note, stopped)
                finally:
                    os.close(descriptor)

    def _fill(
        self,
        descriptor: int,
        group: bytes,
        note: Callable[[int], None],
        stopped: Callable[[], bool],
    ) -> None:
        for position in range(0, self._file_bytes - len(group) + 1, len(group)):
            if stopped():
                return
            begun = time.monotonic_ns()
            written = os.pwrite(descriptor, group, position)
            assert written == len(group)
            if self._assignment.sync:
                os.fdatasync(descriptor)
            note(time.monotonic_ns() - begun)
