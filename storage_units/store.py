"""The write-once store of one unit: what it holds at each offset, and where.

Decides nothing about epochs, roles or chains. Memory runs ahead of the disk: what `put_*` notes is
durable only with a later commit of the journal, and the driver holds every reply until then.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from xxhash import xxh3_64_intdigest

from corfu.config import BLOCK_OFFSETS
from corfu.journal.format import (
    DamagedRecordError,
    JournalRecord,
    Place,
    RecordHeader,
    record_bytes,
)
from corfu.journal.planner import Journal
from corfu.messages import Block
from corfu.types import JUNK_ID, Digest, EntryId, Epoch, Offset, Range, State

from .index import SERIAL_AT, STATE_MASK, OffsetIndex, cell_length, cell_place, pack_cell
from .index_file import FileIndex, JunkRun
from .records import closed_record, data_record, junk_record, lost_record, trim_record
from .standing import Standing

_RECLAIM_BLOCKS = 512
"""Index blocks forgotten at once after a trim: some 50 ms of work; the rest waits for ticks."""

_CACHED_OVERHEAD_BYTES = 400
"""What one entry in the cache costs beside its bytes: objects and dictionary slots."""

_CLOSED_EVERY = 4096
"""closed_until is journalled each time it has risen by so much, along with other records."""


class Name(NamedTuple):
    """What an entry is known by: same id and same digest means same entry."""

    entry_id: EntryId
    digest: Digest
    length: int


class HeldEntry(NamedTuple):
    """An entry and its name."""

    name: Name
    entry: bytes


JUNK_NAME = Name(JUNK_ID, Digest(0), 0)

_STATES = (State.EMPTY, State.DATA, State.JUNK, State.TRIMMED, State.DAMAGED, State.LOST)


@dataclass(slots=True)
class FileLog:
    """What was put into one journal file that has no index file yet, in order."""

    offsets: array[int] = field(default_factory=lambda: array("Q"))
    runs: list[JunkRun] = field(default_factory=list)


@dataclass(slots=True)
class Suspicion:
    """What this unit may have held and cannot read: found by recovery or when it is read.

    Attributes:
        named: Damaged or doubtful offsets that can be named.
        doubtful: Those of them that only the journal's doubt names.
        unknown: There may be others, at any offset that seems EMPTY below `bound`.
        bound: T of the first epoch installed since; None until then: no offset is excepted.
        serials: Journal files that must not be freed or indexed while `unknown`.
        missing: Journal files that are not there.
    """

    named: dict[Offset, Name | None] = field(default_factory=dict)
    doubtful: set[Offset] = field(default_factory=set)
    unknown: bool = False
    bound: Offset | None = None
    serials: set[int] = field(default_factory=set)
    missing: tuple[int, ...] = ()


class Store:
    """What a unit holds. Single-threaded; made by recovery."""

    def __init__(
        self,
        journal: Journal,
        standing: Standing,
        index: OffsetIndex,
        suspicion: Suspicion,
        *,
        names: dict[Offset, Name],
        logs: dict[int, FileLog],
        indexed: set[int],
        cache_bytes_max: int,
        names_loaded_max: int,
    ) -> None:
        self.journal = journal
        self.standing = standing
        self.index = index
        self.suspicion = suspicion
        self.indexed = indexed
        """Serials that have an index file."""
        self.appended = False
        """Something was appended since this was last set to False."""
        self.fresh: list[Range] = []
        """What was put since this was last emptied, for those who wait for values."""
        self.uncommitted_bytes = 0
        self._names = names
        self._names_loaded: dict[Offset, Name] = {}
        self._names_loaded_max = names_loaded_max
        self._logs = logs
        self._cache: dict[Offset, HeldEntry] = {}
        self._cache_bytes = 0
        self._cache_bytes_max = cache_bytes_max
        self._pending: set[Offset] = set()
        self._commits: deque[tuple[int, Offset, int]] = deque()
        self._other_commit = -1
        self._closed_recorded = standing.closed_until
        self._reclaiming = False
        self._finished: set[int] = set(journal.live)

    # What is held.

    def state(self, offset: Offset) -> State:
        """Return what the unit says of an offset that it is not the head for."""
        standing = self.standing
        if offset < standing.trim_mark:
            return State.TRIMMED
        if standing.lost and standing.is_lost(offset):
            return State.LOST
        cell = self.index.get(offset)
        if cell:
            return _STATES[cell & STATE_MASK]
        # Rule "below closed_until no unit ever answers EMPTY": every offset there is decided on
        # the whole chain, so a record that is not here was here and is gone.
        if offset < standing.closed_until or offset in self.suspicion.named:
            return State.DAMAGED
        return State.EMPTY

    def state_at_head(self, offset: Offset) -> State:
        """Return what the unit says of an offset that it is the head for.

        Rule "a head in doubt answers DAMAGED, never EMPTY": a head's EMPTY is acted upon (it is
        filled with junk), so where an acknowledged record may have stood it must not say so. If
        its offset cannot be told it may be any, but not one of a newer epoch.
        """
        state = self.state(offset)
        if state is State.EMPTY and self.suspicion.unknown:
            bound = self.suspicion.bound
            if bound is None or offset < bound:
                return State.DAMAGED
        return state

    def name(self, offset: Offset) -> Name | None:
        """Return the name of what is held or was damaged here; None if it must be read first.

        Names of entries at and above closed_until are always known.
        """
        cell = self.index.get(offset)
        if cell & STATE_MASK != State.DATA:
            return JUNK_NAME
        name = self._names.get(offset)
        if name is None and (held := self._cache.get(offset)) is not None:
            return held.name
        return name or self._names_loaded.get(offset)

    def suspect(self, offset: Offset) -> Name | None:
        """Return the name of a damaged or doubtful record; None if it cannot be named."""
        return self.suspicion.named.get(offset)

    def held(self, offset: Offset) -> HeldEntry | None:
        """Return the entry if it is in memory."""
        return self._cache.get(offset)

    def length_bound(self, offset: Offset) -> int:
        """Return at least the length of the entry held at `offset`."""
        held = self._cache.get(offset)
        return len(held.entry) if held is not None else cell_length(self.index.get(offset))

    def durable(self, offset: Offset) -> bool:
        """Tell whether the value here, and all that is not an entry, is durable."""
        return offset not in self._pending and self.others_durable

    @property
    def others_durable(self) -> bool:
        """Junk, seals, marks: nothing of the kind waits for a commit."""
        return self._other_commit < self.journal.commits_done

    @property
    def local_tail(self) -> Offset:
        """1 + the highest offset held, at least the trim mark."""
        return max(self.index.end, self.standing.trim_mark)

    def has_room(self, body_bytes: int, *, reserve: bool) -> bool:
        """Tell whether a record with such a body fits; `reserve`: it may use the last file."""
        journal = self.journal
        needed = record_bytes(body_bytes)
        return needed <= journal.room(reserve=reserve) and needed <= journal.record_bytes_max()

    def has_records_room(self, count: int, *, reserve: bool) -> bool:
        """Tell whether so many records without a body surely fit."""
        # Twice as many: the end of a file may be too short for a record that would fit in all.
        return 2 * count * record_bytes(0) <= self.journal.room(reserve=reserve)

    def fits(self, body_bytes: int) -> bool:
        """Tell whether a record with such a body can ever fit a journal file."""
        return record_bytes(body_bytes) <= self.journal.record_bytes_max()

    # What changes it.

    def put_data(
        self, offset: Offset, epoch: Epoch, entry_id: EntryId, digest: Digest, entry: bytes
    ) -> None:
        """Store an entry; the caller has decided that it belongs here."""
        self._settle_commits()
        place = self._append(data_record(offset, epoch, entry_id, entry))
        self._note(offset, pack_cell(State.DATA, place))
        self._log_of(place.serial).offsets.append(offset)
        name = Name(entry_id, digest, len(entry))
        if offset >= self.standing.closed_until:
            self._names[offset] = name
        self._commits.append((self.journal.commits_begun, offset, len(entry)))
        self._pending.add(offset)
        self.uncommitted_bytes += len(entry)
        self._keep(offset, HeldEntry(name, entry))
        self.fresh.append(Range(offset, Offset(offset + 1)))
        self._record_closed()

    def put_junk(self, run: Range, step: int, epoch: Epoch) -> None:
        """Make every `step`-th offset of `run`, from its start, junk, by one record."""
        place = self._append(junk_record(run, step, epoch))
        self._other_commit = self.journal.commits_begun
        cell = pack_cell(State.JUNK, place)
        for offset in range(run.start, run.end, step):
            self._note(Offset(offset), cell)
        self._log_of(place.serial).runs.append(JunkRun(run.start, run.end, step, cell))
        self.fresh.append(run)
        self._record_closed()

    def put_other(self, record: JournalRecord) -> None:
        """Append a record that is about no single offset."""
        self._append(record)
        self._other_commit = self.journal.commits_begun

    def put_lost(self, lost: Iterable[Range]) -> None:
        """Note ranges that the sequencer declared lost; final, whatever is held there."""
        for each in lost:
            if self.standing.add_lost(each):
                self.put_other(lost_record(each, self.standing.sealed))
                self._unsuspect_range(each)
                self.fresh.append(each)

    def raise_marks(self, trim_mark: Offset, closed_until: Offset) -> bool:
        """Raise the own trim mark and closed_until; tells whether the trim mark rose.

        Rule "TrimTo(m): mark = max(mark, min(m, closed_until))": below closed_until every offset
        is decided, so a trim never hides one that could still get another value.
        """
        standing = self.standing
        if closed_until > standing.closed_until:
            self._forget_names(standing.closed_until, closed_until)
            standing.closed_until = closed_until
            self._end_unknown_if_closed()
        mark = min(trim_mark, standing.closed_until)
        if mark <= standing.trim_mark:
            return False
        standing.trim_mark = mark
        self.put_other(trim_record(mark))
        self._reclaiming = True
        for offset in [known for known in self.suspicion.named if known < mark]:
            self._unsuspect(offset)
        return True

    def mark_damaged(self, offset: Offset, cell: int, header: RecordHeader | None) -> None:
        """Note that the record at `cell` fails its digest, if it still is what counts.

        It becomes DAMAGED, never EMPTY: an EMPTY here could be filled with junk.
        """
        if self.index.get(offset) != cell:
            return
        name = self._names.get(offset) or self._names_loaded.get(offset)
        if name is None and header is not None and header.offset == offset:
            name = Name(EntryId(header.entry_id), Digest(header.body_digest), header.body_bytes)
        self.index.set(offset, cell & ~STATE_MASK | State.DAMAGED)
        self.suspicion.named[offset] = name
        self._names.pop(offset, None)
        self._names_loaded.pop(offset, None)

    def settle_empty(self, offset: Offset) -> None:
        """Forget a damaged or doubtful record: it was never acknowledged."""
        if self.index.get(offset) & STATE_MASK == State.DAMAGED:
            self.index.set(offset, 0)
        self._unsuspect(offset)

    def settle_unknown(self) -> None:
        """End the doubt that could not name its offsets."""
        suspicion = self.suspicion
        if not suspicion.unknown:
            return
        suspicion.unknown = False
        for serial in suspicion.missing:
            self.journal.release(serial)
            self._finished.discard(serial)
            self.appended = True
        suspicion.missing = ()
        suspicion.serials.clear()
        self._end_doubt_if_settled()

    def bound_doubt(self, first_offset: Offset) -> None:
        """Note T of the epoch that is installed now: newer offsets cannot be in doubt."""
        if self.suspicion.unknown and self.suspicion.bound is None:
            self.suspicion.bound = first_offset
            self._end_unknown_if_closed()

    # What is read back.

    def parse(self, cell: int, data: bytes) -> JournalRecord:
        """Return the record at `cell` from bytes that begin there.

        Raises:
            DamagedRecordError: It fails its digest.
        """
        place = cell_place(cell)
        try:
            return self.journal.parse(place, data)
        except DamagedRecordError as error:
            # A cell keeps only a bound of the length; a sound header tells the true one.
            if error.header is None:
                raise
            exact = record_bytes(error.header.body_bytes)
            if exact >= place.length:
                raise
            return self.journal.parse(Place(place.serial, place.position, exact), data[:exact])

    def remember(self, offset: Offset, name: Name) -> None:
        """Keep the name of an old entry for a while; the oldest of them gives way."""
        self._names_loaded[offset] = name
        if len(self._names_loaded) > self._names_loaded_max:
            del self._names_loaded[next(iter(self._names_loaded))]

    # What is reported.

    def blocks(self, blocks_max: int) -> tuple[Block, ...]:
        """Return what is soundly held at and above closed_until, lowest first."""
        start = max(self.standing.closed_until, self.standing.trim_mark)
        held: dict[int, tuple[bytearray, int, list[Offset]]] = {}

        def block_of(number: int) -> tuple[bytearray, int, list[Offset]]:
            return held.setdefault(number, (bytearray(BLOCK_OFFSETS // 8), 0, []))

        for number, cells in self.index.blocks(start):
            base = number * BLOCK_OFFSETS
            for index, cell in enumerate(cells):
                offset = Offset(base + index)
                if not cell or offset < start or cell & STATE_MASK == State.DAMAGED:
                    continue
                lost = self.standing.is_lost(offset)
                name = JUNK_NAME if lost else self.name(offset)
                assert name is not None
                bitmap, digest, named = block_of(number)
                bitmap[index // 8] |= 1 << index % 8
                held[number] = (bitmap, digest ^ held_digest(offset, name.entry_id), named)
        for offset in sorted(self.suspicion.named):
            if offset >= start and self.suspicion.named[offset] is not None:
                block_of(offset // BLOCK_OFFSETS)[2].append(offset)
        return tuple(
            Block(number, bytes(bitmap), digest, tuple(named))
            for number, (bitmap, digest, named) in sorted(held.items())[:blocks_max]
        )

    # Housekeeping.

    def settle(self) -> None:
        """Note what has become durable since the last call."""
        self._settle_commits()

    @property
    def reclaiming(self) -> bool:
        """Cells below the trim mark are still in memory, and their files not yet released."""
        return self._reclaiming

    def reclaim(self) -> int:
        """Forget what was trimmed, up to a bound of work; returns how many files it released."""
        if self._reclaiming:
            self._reclaiming = not self.index.drop_below(self.standing.trim_mark, _RECLAIM_BLOCKS)
        return self.release_dead()

    def release_dead(self) -> int:
        """Release every finished journal file in which no record counts any more.

        The trim mark, or the record that took the place of a damaged one, was appended before;
        the journal frees a file only after both are committed.
        """
        dead = [
            serial
            for serial in self._finished
            if self.index.live[serial] <= 0
            and serial not in self.suspicion.serials
            and serial not in self.suspicion.missing
        ]
        for serial in sorted(dead):
            self._finished.discard(serial)
            self._logs.pop(serial, None)
            self.index.live.pop(serial, None)
            self.journal.release(serial)
            self.appended = True
        return len(dead)

    def drain_finished(self) -> None:
        """Take note of journal files that were finished since the last call."""
        # One that recovery reports may have been released since.
        self._finished |= set(self.journal.live) & set(self.journal.drain_finished())
        self.release_dead()

    def next_to_index(self) -> int | None:
        """Return the serial of a finished journal file that should have an index file.

        Not one that holds damage nobody can name: with an index file a restart would not read
        it, and the doubt would be forgotten before it is settled.
        """
        due = self._finished & self._logs.keys() - self.indexed - self.suspicion.serials
        return min(due - set(self.suspicion.missing), default=None)

    def file_index(self, serial: int) -> FileIndex:
        """Return what of one finished journal file still counts."""
        log = self._logs[serial]
        index = FileIndex(serial, self.standing.closed_until)
        none = Name(JUNK_ID, Digest(0), 0)
        for offset in log.offsets:
            cell = self.index.get(offset)
            if cell >> SERIAL_AT == serial:
                key = Offset(offset)
                name = self._names.get(key) or self.suspicion.named.get(key) or none
                index.add(offset, cell, *name)
        index.runs = [
            run
            for run in log.runs
            if any(self.index.get(o) == run.cell for o in range(run.start, run.end, run.step))
        ]
        return index

    def index_written(self, serial: int) -> None:
        """Note that the index file of `serial` is durable."""
        self.indexed.add(serial)
        self._logs.pop(serial, None)

    def give_up_index(self, serial: int) -> None:
        """Do without an index file of `serial`: a restart reads the journal file itself."""
        self._logs.pop(serial, None)

    def stale_indexes(self) -> list[int]:
        """Return the serials of released files that still have an index file."""
        return sorted(self.indexed - self._finished)

    # Inside.

    def _append(self, record: JournalRecord) -> Place:
        self.appended = True
        return self.journal.append(record)

    def _note(self, offset: Offset, cell: int) -> None:
        self.index.set(offset, cell)
        if self.suspicion.named:
            self._unsuspect(offset)

    def _log_of(self, serial: int) -> FileLog:
        log = self._logs.get(serial)
        if log is None:
            log = self._logs[serial] = FileLog()
        return log

    def _keep(self, offset: Offset, held: HeldEntry) -> None:
        before = self._cache.pop(offset, None)
        self._cache_bytes += _cached_bytes(held) - (0 if before is None else _cached_bytes(before))
        self._cache[offset] = held
        self._evict()

    def _evict(self) -> None:
        while self._cache_bytes > self._cache_bytes_max:
            oldest = next(iter(self._cache))
            # What is not on disk yet can only be read from here.
            if oldest in self._pending:
                break
            self._cache_bytes -= _cached_bytes(self._cache.pop(oldest))

    def _settle_commits(self) -> None:
        done = self.journal.commits_done
        commits = self._commits
        while commits and commits[0][0] < done:
            _, offset, size = commits.popleft()
            self._pending.discard(offset)
            self.uncommitted_bytes -= size
        self._evict()

    def _forget_names(self, start: Offset, end: Offset) -> None:
        if end - start > len(self._names):
            self._names = {known: self._names[known] for known in self._names if known >= end}
        else:
            for offset in range(start, end):
                self._names.pop(Offset(offset), None)

    def _record_closed(self) -> None:
        closed = self.standing.closed_until
        # Lazy: it rides along with records that are appended anyway.
        if closed - self._closed_recorded >= _CLOSED_EVERY and self.has_room(0, reserve=False):
            self._closed_recorded = closed
            self._append(closed_record(closed))

    def _unsuspect(self, offset: Offset) -> None:
        if offset in self.suspicion.named:
            del self.suspicion.named[offset]
            self.suspicion.doubtful.discard(offset)
            self._end_doubt_if_settled()

    def _unsuspect_range(self, settled: Range) -> None:
        for offset in [o for o in self.suspicion.named if settled.start <= o < settled.end]:
            self._unsuspect(offset)

    def _end_unknown_if_closed(self) -> None:
        """End the unnamed doubt once every offset it may be about is decided.

        Below closed_until nothing is answered EMPTY anyway, so it hides nothing more.
        """
        bound = self.suspicion.bound
        if bound is not None and bound <= self.standing.closed_until:
            self.settle_unknown()

    def _end_doubt_if_settled(self) -> None:
        if self.suspicion.unknown or self.suspicion.doubtful or not self.journal.doubt:
            return
        self.journal.doubt_settled()
        self.appended = True


def _cached_bytes(held: HeldEntry) -> int:
    return len(held.entry) + _CACHED_OVERHEAD_BYTES


def entry_digest(entry: bytes) -> Digest:
    """Return what tells an entry's bytes from any other's."""
    return Digest(xxh3_64_intdigest(entry))


def held_digest(offset: Offset, entry_id: EntryId) -> int:
    """Return what one held offset adds (by xor) to the digest of its block."""
    return xxh3_64_intdigest(offset.to_bytes(8, "big") + entry_id)
