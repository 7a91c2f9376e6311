"""A storage unit that writes as fast as it can: its journal, index and commits, and no network."""

from __future__ import annotations

import asyncio
import os
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

from corfu.effects import Send
from corfu.runtime.committer import Committer
from corfu.runtime.disk import ThreadDiskWorker
from corfu.storage_units.process import UnsyncedWorker
from corfu.storage_units.settings import UnitSettings
from corfu.types import Offset

from .assignment import Assignment
from .job import Counters
from .lone_unit import LoneUnit
from .meter import Meter

_KEPT_BYTES = 64 << 20
"""What a unit whose log is trimmed keeps."""


class UnitWriting:
    """Keeps twice a group of entries under way, so that one is taken while the other is synced.

    As a process of a unit does it: a commit at a time in a thread, housekeeping beside it, and an
    entry counts when its reply leaves.
    """

    def __init__(self, assignment: Assignment) -> None:
        self._assignment = assignment
        self._settings = UnitSettings()
        # Random: a disk may be cleverer about zeros.
        self._entry = os.urandom(assignment.size)
        self._begun: deque[int] = deque()
        self._note: Callable[[int], None] = _nowhere
        self._stopped = False
        self._drained = asyncio.Event()
        self._failure: Exception | None = None
        self._commits = 0
        self._indexing = False

    async def open(self) -> None:
        """See `Job`."""
        loop = self._loop = asyncio.get_running_loop()
        self._lone = await asyncio.to_thread(LoneUnit.make, Path(self._assignment.folder))
        self._worker = ThreadDiskWorker(self._lone.disk, loop.call_soon_threadsafe, self._fail)
        self._committer = Committer(
            self._lone.unit.journal,
            self._worker if self._assignment.sync else UnsyncedWorker(self._worker),
            loop,
            release=self._released,
            flush=self._pump,
            guarded=self._guarded,
        )

    def meter(self) -> Meter:
        """See `Job`."""
        return Meter(1, self._assignment.size)

    async def work(self, meter: Meter, stop: asyncio.Event) -> None:
        """See `Job`."""
        self._note = meter.samples.append
        self._guarded(self._pump)
        self._guarded(self._housekeep)
        await stop.wait()
        self._stopped = True
        self._guarded(self._pump)
        await self._drained.wait()
        if self._failure is not None:
            raise self._failure

    def counters(self) -> Counters:
        """See `Job`."""
        return {"commits": self._lone.unit.journal.commits_done}

    async def close(self) -> None:
        """See `Job`. Whoever made the folder removes it."""
        self._committer.stop()
        self._worker.close()
        self._lone.disk.close()

    def _pump(self) -> None:
        """Keep entries under way; the committer calls it when some are durable."""
        # First what came while the last group was synced: the disk is not to wait for the next.
        self._committer.work()
        for _ in range(2):
            self._write_group()
            self._committer.work()
        if self._stopped and not self._begun:
            self._drained.set()

    def _write_group(self) -> None:
        lone, group = self._lone, self._assignment.batch
        for _ in range(min(group, 2 * group - len(self._begun))):
            if self._stopped or not lone.unit.store.has_room(len(self._entry), reserve=False):
                return
            self._begun.append(time.monotonic_ns())
            for effect in lone.write(self._entry):
                if isinstance(effect, Send):
                    self._committer.send_when_durable(effect)

    def _released(self, _: Send) -> None:
        self._note(time.monotonic_ns() - self._begun.popleft())

    def _housekeep(self) -> None:
        if self._stopped:
            return
        lone, entry_bytes = self._lone, len(self._entry)
        lone.close_until(lone.next_offset)
        if self._assignment.trimmed:
            lone.trim_to(Offset(max(0, lone.next_offset - _KEPT_BYTES // entry_bytes)))
        lone.unit.maintain(0.0)
        work = None if self._indexing else lone.unit.next_index()
        if work is not None:
            serial, operations = work
            self._indexing = True
            self._worker.background(operations, lambda error: self._indexed(serial, error))
        # What waits for a spare goes on without any commit that would call for it.
        self._pump()
        pause_s = self._settings.housekeeping_s
        self._loop.call_later(pause_s, lambda: self._guarded(self._housekeep))

    def _indexed(self, serial: int, error: OSError | None) -> None:
        self._indexing = False
        self._lone.unit.index_done(serial, error)

    def _guarded(self, step: Callable[[], None]) -> None:
        if self._failure is not None:
            return
        try:
            step()
        except Exception as error:  # noqa: BLE001 - raised by `work`
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        self._failure = error
        self._drained.set()


def _nowhere(_: int) -> None:
    """Take a sample before there is a meter."""
