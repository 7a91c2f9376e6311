"""Which journal files still count, and which of them have an index file."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field

from corfu.journal.planner import Journal
from corfu.types import Offset, State

from .index import SERIAL_AT, STATE_MASK, OffsetIndex
from .index_file import FileIndex, JunkRun
from .memory import Memory
from .names import JUNK_NAME
from .suspicion import Suspicion
from .tentative import Tentatives


@dataclass(slots=True)
class FileLog:
    """What was put into one journal file that has no index file yet, in order."""

    offsets: array[int] = field(default_factory=lambda: array("Q"))
    runs: list[JunkRun] = field(default_factory=list)


class FileBook:
    """Keeps the account of finished journal files: frees them, and has them indexed."""

    def __init__(
        self,
        journal: Journal,
        index: OffsetIndex,
        suspicion: Suspicion,
        memory: Memory,
        tentative: Tentatives,
        *,
        logs: dict[int, FileLog],
        indexed: set[int],
    ) -> None:
        self.indexed = indexed
        """Serials that have an index file."""
        self._journal = journal
        self._index = index
        self._suspicion = suspicion
        self._memory = memory
        self._tentative = tentative
        self._logs = logs
        self._finished: set[int] = set(journal.live)
        self._replaced_commit = -1

    def put(self, serial: int, offset: Offset) -> None:
        """Note that a record of `offset` went to the file `serial`."""
        self._log(serial).offsets.append(offset)

    def put_run(self, serial: int, run: JunkRun) -> None:
        """Note that a junk record went to the file `serial`."""
        self._log(serial).runs.append(run)

    def replaced(self) -> None:
        """Note that a record just appended takes the place of older ones, or trims them."""
        self._replaced_commit = self._journal.commits_begun

    def release_dead(self) -> int:
        """Release every finished journal file in which no record counts any more.

        The trim mark, or the record that took the place of a damaged one, was appended before;
        the journal frees a file only after both are committed.
        """
        live = self._index.live
        dead = [
            serial
            for serial in self._finished
            if live[serial] <= 0 and not self._suspicion.holds_back(serial)
        ]
        for serial in sorted(dead):
            self._logs.pop(serial, None)
            live.pop(serial, None)
            self.release(serial)
        return len(dead)

    def release(self, serial: int) -> None:
        """Release one finished journal file."""
        self._finished.discard(serial)
        self._journal.release(serial)

    def drain_finished(self) -> None:
        """Take note of journal files that were finished since the last call."""
        # One that recovery reports may have been released since.
        self._finished |= set(self._journal.live) & set(self._journal.drain_finished())

    def next_to_index(self) -> int | None:
        """Return the serial of a finished journal file that should have an index file.

        Not one that holds damage nobody can name: with an index file a restart would not read
        it, and the doubt would be forgotten before it is settled. And none while a record that
        took an older one's place, or a trim mark, is not durable: the index would leave the older
        one out, and after a crash neither would be found. Nor a file that holds a tentative entry:
        an index file lists what is held, so that its reader need no later record.
        """
        if self._replaced_commit >= self._journal.commits_done:
            return None
        due = self._finished & self._logs.keys() - self.indexed
        return min((s for s in due if not self._holds_back(s)), default=None)

    def _holds_back(self, serial: int) -> bool:
        return self._suspicion.holds_back(serial) or self._tentative.lies_in(serial)

    def file_index(self, serial: int, closed_until: Offset) -> FileIndex:
        """Return what of one finished journal file still counts."""
        log = self._logs[serial]
        index = FileIndex(serial, closed_until)
        for number in log.offsets:
            cell = self._index.get(number)
            # Junk that took an entry's place in the same file is told by its run.
            if cell >> SERIAL_AT == serial and cell & STATE_MASK != State.JUNK:
                offset = Offset(number)
                name = self._suspicion.named.get(offset) or self._memory.name(offset)
                index.add(offset, cell, *(name or JUNK_NAME))
        index.runs = [
            run
            for run in log.runs
            if any(self._index.get(o) == run.cell for o in range(run.start, run.end, run.step))
        ]
        return index

    def index_written(self, serial: int) -> None:
        """Note that the index file of `serial` is durable."""
        self.indexed.add(serial)
        self._logs.pop(serial, None)

    def give_up_index(self, serial: int) -> None:
        """Do without an index file of `serial`: a restart reads the journal file itself."""
        self._logs.pop(serial, None)

    def is_finished(self, serial: int) -> bool:
        """Tell whether nothing is written to a journal file any more, and it still counts."""
        return serial in self._finished

    def without_index(self) -> list[int]:
        """Return the serials of finished files that have no index file and will get none."""
        return sorted(
            serial
            for serial in self._finished - self.indexed - self._logs.keys()
            if not self._suspicion.holds_back(serial)
        )

    def renew_index(self, serial: int, log: FileLog) -> None:
        """Have the index file of `serial` written again; `log` is what the index has of it."""
        if serial in self._finished:
            self.indexed.discard(serial)
            self._logs[serial] = log

    def stale_indexes(self) -> list[int]:
        """Return the serials of released files that still have an index file."""
        return sorted(self.indexed - self._finished)

    def _log(self, serial: int) -> FileLog:
        log = self._logs.get(serial)
        if log is None:
            log = self._logs[serial] = FileLog()
        return log
