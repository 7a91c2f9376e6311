"""Which journal files still count, and which of them have an index file."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from dataclasses import dataclass, field

from corfu.journal.planner import Journal
from corfu.types import Offset, State

from .index import INDEX_BLOCK_OFFSETS, SERIAL_AT, STATE_MASK, OffsetIndex
from .index_file import FileIndex, JunkRun
from .memory import Memory
from .names import JUNK_NAME
from .suspicion import Suspicion
from .tentative import Tentatives


@dataclass(slots=True)
class FileLog:
    """What was put into one journal file that has no index file yet.

    Of entries only the blocks of the index that they lie in: the index has the rest.
    """

    blocks: set[int] = field(default_factory=set)
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
        # Looked at some times a second, so neither is searched for among all files.
        self._empty = set(self._finished)
        self._stale = indexed - self._finished
        self._replaced_commit = -1

    def put(self, serial: int, offset: Offset) -> None:
        """Note that a record of `offset` went to the file `serial`."""
        log = self._logs.get(serial) or self._log(serial)
        log.blocks.add(offset // INDEX_BLOCK_OFFSETS)

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
        self._empty |= self._index.emptied
        self._index.emptied.clear()
        # Those that wait for their end, or for a doubt to be settled, are looked at again.
        self._empty = {serial for serial in self._empty if live[serial] <= 0}
        dead = sorted(
            serial
            for serial in self._empty & self._finished
            if not self._suspicion.holds_back(serial)
        )
        for serial in dead:
            self._logs.pop(serial, None)
            live.pop(serial, None)
            self.release(serial)
        return len(dead)

    def release(self, serial: int) -> None:
        """Release one finished journal file."""
        self._finished.discard(serial)
        self._empty.discard(serial)
        if serial in self.indexed:
            self._stale.add(serial)
        self._journal.release(serial)

    def drain_finished(self) -> None:
        """Take note of journal files that were finished since the last call."""
        finished = self._journal.drain_finished()
        if finished:
            # One that recovery reports may have been released since.
            finished_live = set(finished) & set(self._journal.live)
            self._finished |= finished_live
            self._empty |= finished_live

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
        due = (s for s in self._logs if s in self._finished and s not in self.indexed)
        return min((s for s in due if not self._holds_back(s)), default=None)

    def _holds_back(self, serial: int) -> bool:
        return self._suspicion.holds_back(serial) or self._tentative.lies_in(serial)

    def file_index(self, serial: int, closed_until: Offset) -> FileIndex:
        """Return what of one finished journal file still counts."""
        log = self._logs[serial]
        index = FileIndex(serial, closed_until)
        for number in sorted(log.blocks):
            self._add_block(index, number, junk=bool(log.runs))
        offsets = index.offsets
        for offset in map(Offset, offsets[bisect_left(offsets, closed_until) :]):
            index.names[offset] = self._memory.name(offset) or JUNK_NAME
        for offset, name in self._suspicion.named.items():
            if self._index.get(offset) >> SERIAL_AT == serial:
                index.names[offset] = name or JUNK_NAME
        index.runs = [
            run
            for run in log.runs
            if any(self._index.get(o) == run.cell for o in range(run.start, run.end, run.step))
        ]
        return index

    def _add_block(self, index: FileIndex, number: int, *, junk: bool) -> None:
        """Add the entries of one block that lie in the journal file; `junk`: it has junk, too."""
        offsets, cells = self._index.block(number) or (range(0), array("Q"))
        least, most = index.serial << SERIAL_AT, (index.serial + 1 << SERIAL_AT) - 1
        if cells and not junk and least <= min(cells) and max(cells) <= most:
            # As under load: a file of small entries fills whole blocks.
            index.offsets.extend(offsets)
            index.cells.extend(cells)
            return
        for offset, cell in zip(offsets, cells, strict=True):
            if least <= cell <= most and cell & STATE_MASK != State.JUNK:
                index.offsets.append(offset)
                index.cells.append(cell)

    def index_written(self, serial: int) -> None:
        """Note that the index file of `serial` is durable."""
        self.indexed.add(serial)
        if serial not in self._finished:
            self._stale.add(serial)
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
        self._stale &= self.indexed
        return sorted(self._stale)

    def _log(self, serial: int) -> FileLog:
        log = self._logs.get(serial)
        if log is None:
            log = self._logs[serial] = FileLog()
        return log
