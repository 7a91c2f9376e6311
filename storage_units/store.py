"""The write-once store of one unit: what it holds at each offset, and where.

Decides nothing about epochs, roles or chains. Memory runs ahead of the disk: what `put_*` notes is
durable only with a later commit of the journal, and the driver holds every reply until then.
"""

from __future__ import annotations

from collections.abc import Iterable

from corfu.config import BLOCK_OFFSETS
from corfu.journal.format import (
    JournalRecord,
    Place,
    RecordHeader,
    journal_name,
    record_bytes,
)
from corfu.journal.planner import Journal
from corfu.messages import Block
from corfu.types import Digest, EntryId, Epoch, Offset, Range, State

from .file_book import FileBook, FileLog
from .gaps import GapSearch
from .index import STATE_MASK, TENTATIVE, OffsetIndex, cell_length, cell_place, pack_cell
from .index_file import JunkRun
from .memory import Memory
from .names import JUNK_NAME, HeldEntry, Name, held_digest
from .records import (
    closed_record,
    confirmed_record,
    data_record,
    junk_record,
    lost_record,
    trim_record,
)
from .standing import Standing
from .suspicion import Suspicion
from .tentative import TentativeEntry, Tentatives, Waiter

_RECLAIM_BLOCKS = 64
"""Index blocks forgotten at once after a trim: some 50 ms of work; the rest waits for ticks."""

_CLOSED_EVERY = 4096
"""closed_until is journalled each time it has risen by so much, along with other records."""

_CONFIRMED_RUNS_MAX = 32
"""Most records of confirmations that go with one commit; one is usual."""

_STATES = (State.EMPTY, State.DATA, State.JUNK, State.TRIMMED, State.DAMAGED, State.LOST)


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
        tentative: dict[Offset, TentativeEntry],
        cache_bytes_max: int,
        names_loaded_max: int,
    ) -> None:
        self.journal = journal
        self.standing = standing
        self.index = index
        self.suspicion = suspicion
        self.memory = Memory(
            names, cache_bytes_max=cache_bytes_max, names_loaded_max=names_loaded_max
        )
        self.tentative = Tentatives(tentative)
        self.gaps = GapSearch(standing, index, suspicion, self.tentative)
        self.files = FileBook(
            journal, index, suspicion, self.memory, self.tentative, logs=logs, indexed=indexed
        )
        self.appended = False
        """Something was appended since this was last set to False."""
        self.fresh: list[Range] = []
        """What was put since this was last emptied, for those who wait for values."""
        self._other_commit = -1
        self._closed_recorded = standing.closed_until
        self._reclaiming = False

    # What is held.

    def state(self, offset: Offset) -> State:
        """Return what the unit says of an offset that it is not the head for."""
        standing = self.standing
        if offset < standing.trim_mark:
            return State.TRIMMED
        if standing.lost and standing.is_lost(offset):
            return State.LOST
        cell = self.index.get(offset)
        # Rule "tentative entries are never shown": the offset is as EMPTY as without them.
        if cell and cell & STATE_MASK != TENTATIVE:
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
        if state is State.EMPTY and self.suspicion.may_be_at(offset):
            return State.DAMAGED
        return state

    def name(self, offset: Offset) -> Name | None:
        """Return the name of what is held or was damaged here; None if it must be read first.

        Names of entries at and above closed_until are always known.
        """
        if self.index.get(offset) & STATE_MASK != State.DATA:
            return JUNK_NAME
        return self.memory.name(offset)

    def suspect(self, offset: Offset) -> Name | None:
        """Return the name of a damaged or doubtful record; None if it cannot be named."""
        return self.suspicion.named.get(offset)

    def length_bound(self, offset: Offset) -> int:
        """Return at least the length of the entry held at `offset`."""
        held = self.memory.held(offset)
        return len(held.entry) if held is not None else cell_length(self.index.get(offset))

    def durable(self, offset: Offset) -> bool:
        """Tell whether the value here, and all that is not an entry, is durable."""
        return self.others_durable and not self.memory.pending(offset)

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
        return self.journal.fits(record_bytes(body_bytes), reserve=reserve)

    def has_completion_room(self, body_bytes: int) -> bool:
        """Tell whether a value fits that the head holds already; it may use some of the reserve.

        Heads stop taking entries one file early; if later units stopped at the same mark, what a
        head took last would stay half written, and every reader would stop there.
        """
        needed = record_bytes(body_bytes)
        leave = 3 * self.journal.record_bytes_max() // 4
        return needed + leave <= self.journal.room(reserve=True)

    def has_junk_room(self, count: int) -> bool:
        """Tell whether so many records of junk fit, and much of the last file stays.

        On a full disk each refused append ends as junk, so clients that try again would use up
        whatever junk may use, and then no trim could make the unit less full.
        """
        return self._has_records_room(count, leave=self.journal.record_bytes_max() // 2)

    def has_order_room(self, count: int) -> bool:
        """Tell whether so many records of a seal, layout or verdict fit, and a trim still does."""
        return self._has_records_room(count, leave=self.journal.record_bytes_max() // 8)

    def has_mark_room(self) -> bool:
        """Tell whether a trim mark fits: it alone may use all, for it makes room."""
        return self._has_records_room(1, leave=0)

    def _has_records_room(self, count: int, *, leave: int) -> bool:
        # Twice as many: the end of a file may be too short for a record that would fit in all.
        return 2 * count * record_bytes(0) + leave <= self.journal.room(reserve=True)

    def fits(self, body_bytes: int) -> bool:
        """Tell whether a record with such a body can ever fit a journal file."""
        return record_bytes(body_bytes) <= self.journal.record_bytes_max()

    # What changes it.

    def put_data(
        self, offset: Offset, epoch: Epoch, entry_id: EntryId, digest: Digest, entry: bytes
    ) -> None:
        """Store an entry; the caller has decided that it belongs here."""
        place = self._append(data_record(offset, epoch, entry_id, entry, digest))
        self._note(offset, pack_cell(State.DATA, place))
        self.files.put(place.serial, offset)
        self.memory.put(
            offset,
            HeldEntry(Name(entry_id, digest, len(entry)), entry),
            self.journal.commits_begun,
            closed=offset < self.standing.closed_until,
        )
        self.fresh.append(Range(offset, Offset(offset + 1)))
        self._record_lazily()

    def put_tentative(
        self,
        offset: Offset,
        epoch: Epoch,
        name: Name,
        entry: bytes,
        waiter: Waiter,
    ) -> None:
        """Store an entry that is not known to be durable above; the offset stays EMPTY."""
        record = data_record(offset, epoch, name.entry_id, entry, name.digest, tentative=True)
        place = self._append(record)
        self._note(offset, pack_cell(TENTATIVE, place))
        self.files.put(place.serial, offset)
        commit = self.journal.commits_begun
        closed = offset < self.standing.closed_until
        self.memory.put(offset, HeldEntry(name, entry), commit, closed=closed)
        self.tentative.add(offset, TentativeEntry(name, epoch, place.serial, commit, waiter))
        self._record_lazily()

    def confirm(self, offset: Offset) -> TentativeEntry:
        """Hold what was tentative: it is durable at every unit above.

        Which of them are held goes into the journal with the next commit, not with one of its
        own: after a crash before that they are tentative again, which takes nothing back that
        was said, and the unit above says it again.
        """
        entry = self.tentative.confirm(offset)
        self.index.set(offset, self.index.get(offset) & ~STATE_MASK | State.DATA)
        if self.suspicion.named:
            self._settled(dropped=self.suspicion.drop(offset))
        self.fresh.append(Range(offset, Offset(offset + 1)))
        return entry

    def record_confirmed(self) -> None:
        """Append what the journal does not say yet of entries that are tentative no more."""
        book = self.tentative
        if not book.unjournalled or not self.has_room(0, reserve=False):
            return
        book.flushed_commit = self.journal.commits_begun
        for run, step in book.take_confirmed(_CONFIRMED_RUNS_MAX):
            if not self.has_room(0, reserve=False):
                break
            self._append(confirmed_record(run, step, self.standing.sealed))

    def put_junk(self, run: Range, step: int, epoch: Epoch) -> None:
        """Make every `step`-th offset of `run`, from its start, junk, by one record."""
        place = self._append(junk_record(run, step, epoch))
        self._other_commit = self.journal.commits_begun
        cell = pack_cell(State.JUNK, place)
        for offset in range(run.start, run.end, step):
            self._note(Offset(offset), cell)
        self.files.put_run(place.serial, JunkRun(run.start, run.end, step, cell))
        self.fresh.append(run)
        self._record_lazily()

    def put_other(self, record: JournalRecord) -> None:
        """Append a record that is about no single offset."""
        self._append(record)
        self._other_commit = self.journal.commits_begun

    def put_lost(self, lost: Iterable[Range]) -> None:
        """Note ranges that the sequencer declared lost; final, whatever is held there."""
        for each in lost:
            if self.standing.add_lost(each):
                self.put_other(lost_record(each, self.standing.sealed))
                self._forget_tentative(each.start, each.end)
                self._settled(dropped=self.suspicion.drop_range(each.start, each.end))
                self.fresh.append(each)

    def raise_marks(self, trim_mark: Offset, closed_until: Offset) -> bool:
        """Raise the own trim mark and closed_until; tells whether the trim mark rose.

        Rule "TrimTo(m): mark = max(mark, min(m, closed_until))": below closed_until every offset
        is decided, so a trim never hides one that could still get another value.
        """
        standing = self.standing
        if closed_until > standing.closed_until:
            self.memory.closed(standing.closed_until, closed_until)
            standing.closed_until = closed_until
            self._end_unknown_if_closed()
        mark = min(trim_mark, standing.closed_until)
        if mark <= standing.trim_mark:
            return False
        standing.trim_mark = mark
        self.put_other(trim_record(mark))
        self._forget_tentative(Offset(0), mark)
        # An index file written before the mark is durable would leave out what is trimmed; after a
        # crash that took the mark, neither would be found.
        self.files.replaced()
        self._reclaiming = True
        self._settled(dropped=self.suspicion.drop_range(Offset(0), mark))
        return True

    def mark_damaged(self, offset: Offset, cell: int, header: RecordHeader | None) -> None:
        """Note that the record at `cell` fails its digest, if it still is what counts.

        It becomes DAMAGED, never EMPTY: an EMPTY here could be filled with junk.
        """
        if self.index.get(offset) != cell:
            return
        place = cell_place(cell)
        self.suspicion.tell(
            f"{journal_name(place.serial)} is damaged at byte {place.position}: "
            f"the entry at offset {offset} fails its digest"
        )
        name = None
        if self.tentative.drop(offset) is not None:
            # Nameless: with a name a reader would take another unit's copy for a held value.
            header = None
        else:
            name = self.memory.name(offset)
        if name is None and header is not None and header.offset == offset:
            name = Name(EntryId(header.entry_id), Digest(header.body_digest), header.body_bytes)
        self.index.set(offset, cell & ~STATE_MASK | State.DAMAGED)
        self.suspicion.add(offset, name)
        self.memory.forget_name(offset)

    def settle_empty(self, offset: Offset) -> None:
        """Forget a damaged or doubtful record: it was never acknowledged."""
        if self.index.get(offset) & STATE_MASK == State.DAMAGED:
            self.index.set(offset, 0)
        self._settled(dropped=self.suspicion.drop(offset))

    def settle_unknown(self) -> None:
        """End the doubt that could not name its offsets."""
        suspicion = self.suspicion
        if not suspicion.unknown:
            return
        suspicion.unknown = False
        for serial in suspicion.missing:
            self.files.release(serial)
            self.appended = True
        suspicion.missing = ()
        suspicion.serials.clear()
        self._settled(dropped=True)

    def bound_doubt(self, first_offset: Offset) -> None:
        """Note T of the epoch that is installed now: newer offsets cannot be in doubt."""
        if self.suspicion.unknown and self.suspicion.bound is None:
            self.suspicion.bound = first_offset
            self._end_unknown_if_closed()

    # What is read back.

    def parse(self, cell: int, data: memoryview) -> tuple[RecordHeader, memoryview]:
        """Return header and body of the record at `cell` from bytes that begin there.

        A cell keeps only a bound of the length, so there may be bytes of other records behind.
        The body's digest is checked; it is the one in the header.

        Raises:
            DamagedRecordError: It fails its digest.
        """
        place = cell_place(cell)
        return self.journal.parse_prefix(place.serial, place.position, data[: place.length])

    # What is reported.

    def blocks(self, blocks_max: int) -> tuple[Block, ...]:
        """Return what is soundly held at and above closed_until, lowest first."""
        start = max(self.standing.closed_until, self.standing.trim_mark)
        held: dict[int, tuple[bytearray, int, list[Offset]]] = {}

        def block_of(number: int) -> tuple[bytearray, int, list[Offset]]:
            return held.setdefault(number, (bytearray(BLOCK_OFFSETS // 8), 0, []))

        for offset, cell in self.index.items(start):
            if cell & STATE_MASK in (State.DAMAGED, TENTATIVE):
                continue
            lost = self.standing.is_lost(offset)
            name = JUNK_NAME if lost else self.name(offset)
            assert name is not None
            number, index = divmod(offset, BLOCK_OFFSETS)
            bitmap, digest, named = block_of(number)
            bitmap[index // 8] |= 1 << index % 8
            held[number] = (bitmap, digest ^ held_digest(offset, name.entry_id), named)
        # A tentative entry may have been held before a restart, so it is neither held nor lacking.
        for offset in sorted(self.suspicion.named.keys() | self.tentative.entries.keys()):
            if offset >= start:
                block_of(offset // BLOCK_OFFSETS)[2].append(offset)
        return tuple(
            Block(number, bytes(bitmap), digest, tuple(named))
            for number, (bitmap, digest, named) in sorted(held.items())[:blocks_max]
        )

    # Housekeeping.

    def settle(self) -> None:
        """Note what has become durable since the last call."""
        self.memory.committed(self.journal.commits_done)

    @property
    def reclaiming(self) -> bool:
        """Cells below the trim mark are still in memory, and their files not yet released."""
        return self._reclaiming

    @property
    def freeing(self) -> bool:
        """Journal files will be freed for what was trimmed so far."""
        return self._reclaiming or self.journal.freeing

    def reclaim(self) -> int:
        """Forget what was trimmed, up to a bound of work; returns how many files it released."""
        if self._reclaiming:
            self._reclaiming = not self.index.drop_below(self.standing.trim_mark, _RECLAIM_BLOCKS)
        return self.release_dead()

    def release_dead(self) -> int:
        """Release every finished journal file in which no record counts; returns how many."""
        released = self.files.release_dead()
        self.appended = self.appended or released > 0
        return released

    # Inside.

    def _append(self, record: JournalRecord) -> Place:
        self.appended = True
        return self.journal.append(record)

    def _note(self, offset: Offset, cell: int) -> None:
        if self.index.set(offset, cell):
            self.files.replaced()
            self.tentative.drop(offset)
        if self.suspicion.named:
            dropped = self.suspicion.drop(offset)
            self.suspicion.repaired += dropped
            self._settled(dropped=dropped)

    def _forget_tentative(self, start: Offset, end: Offset) -> None:
        for offset in self.tentative.in_range(start, end):
            self.tentative.drop(offset)
            self.index.set(offset, 0)

    def _record_lazily(self) -> None:
        """Let what spares work at the next restart ride along with what is appended anyway."""
        if self.tentative.flushed_commit != self.journal.commits_begun:
            self.record_confirmed()
        closed = self.standing.closed_until
        if closed - self._closed_recorded >= _CLOSED_EVERY and self.has_room(0, reserve=False):
            self._closed_recorded = closed
            self._append(closed_record(closed))

    def _end_unknown_if_closed(self) -> None:
        if self.suspicion.closed(self.standing.closed_until):
            self.settle_unknown()

    def _settled(self, *, dropped: bool) -> None:
        """Tell the journal when nothing of its doubt is left."""
        suspicion = self.suspicion
        if dropped and self.journal.doubt and not (suspicion.unknown or suspicion.doubtful):
            self.journal.doubt_settled()
            self.appended = True
