"""Which offset stands where in the journal of an embedded log. No I/O.

One process writes, so offsets are given in the order of the journal and without gap. Therefore
an offset below the next one that is neither trimmed nor found again is lost: it is reported as
lost, and its place never given to another entry.
"""

from __future__ import annotations

import struct
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence

from corfu.journal.format import JournalFullError, JournalRecord, Place, RecordHeader, record_bytes
from corfu.journal.planner import Journal
from corfu.journal.recovery import Recovered
from corfu.types import JUNK_ID, Offset

KIND_ENTRY = 1
KIND_STATE = 2

_STATE = struct.Struct(">QQQ")
_RESERVE = 256
"""Offsets reserved ahead. After damage that nobody can name, so many may be called lost."""


class EntryIndex:
    """Places of the entries from the trim mark on, 16 bytes each."""

    def __init__(self) -> None:
        self.start = Offset(0)
        self._serials = array("Q")
        self._positions = array("I")
        self._lengths = array("I")
        self._live: Counter[int] = Counter()

    @property
    def end(self) -> Offset:
        """One above the last offset."""
        return Offset(self.start + len(self._serials))

    def put(self, offset: Offset, place: Place) -> None:
        """Note where `offset` stands; what is left out between is lost."""
        self.extend(offset)
        at = offset - self.start
        if at < 0:
            return
        if at == len(self._serials):
            self._append(place.serial, place.position, place.length)
        else:
            self._forget(at)
            self._serials[at] = place.serial
            self._positions[at] = place.position
            self._lengths[at] = place.length
        self._live[place.serial] += 1

    def extend(self, end: Offset) -> None:
        """Call all from the last offset to `end` lost."""
        while self.end < end:
            self._append(0, 0, 0)

    def lose(self, offset: Offset) -> None:
        """Call one offset lost."""
        self.extend(Offset(offset + 1))
        at = offset - self.start
        if at >= 0:
            self._forget(at)
            self._serials[at] = self._positions[at] = self._lengths[at] = 0

    def place(self, offset: Offset) -> Place | None:
        """Return where an offset in `[start, end)` stands, None if it is lost."""
        at = offset - self.start
        if not self._lengths[at]:
            return None
        return Place(self._serials[at], self._positions[at], self._lengths[at])

    def trim(self, mark: Offset) -> None:
        """Forget all below `mark`."""
        self.extend(mark)
        count = mark - self.start
        if count <= 0:
            return
        for at in range(count):
            self._forget(at)
        del self._serials[:count], self._positions[:count], self._lengths[:count]
        self.start = mark

    def is_live(self, serial: int) -> bool:
        """Tell whether any entry stands in the journal file of that serial."""
        return self._live[serial] > 0

    def _append(self, serial: int, position: int, length: int) -> None:
        self._serials.append(serial)
        self._positions.append(position)
        self._lengths.append(length)

    def _forget(self, at: int) -> None:
        if self._lengths[at]:
            self._live[self._serials[at]] -= 1


class Replayer:
    """Takes what recovery finds, oldest first."""

    def __init__(self) -> None:
        self.index = EntryIndex()
        self.trim_mark = Offset(0)
        self.next = Offset(0)
        self.reserved = Offset(0)
        self._bounded_at = (0, 0)

    def replay(self, place: Place, header: RecordHeader, body: bytes) -> None:
        """Take one record."""
        if header.kind == KIND_ENTRY:
            self.index.put(Offset(header.offset), place)
            self.next = max(self.next, Offset(header.offset + 1))
        elif header.kind == KIND_STATE:
            trim_mark, next_, reserved = map(Offset, _STATE.unpack(body))
            self.trim_mark = max(self.trim_mark, trim_mark)
            self.next = max(self.next, next_)
            self.reserved = max(self.reserved, reserved)
        self._bounded_at = max(self._bounded_at, (place.serial, place.position))

    def take_damage(
        self, named: Sequence[RecordHeader], unnamed: Sequence[tuple[int, int]], *, unknown: bool
    ) -> None:
        """Call lost what is damaged.

        Args:
            named: Headers of records that are bad, but can be named.
            unnamed: (serial, position) of damage that cannot.
            unknown: What followed the last mark may have held records nobody can name.
        """
        for header in named:
            if header.kind == KIND_ENTRY:
                self.index.lose(Offset(header.offset))
                self.next = max(self.next, Offset(header.offset + 1))
        # Offsets rise along the journal. So what cannot be named, but lies before a sound record,
        # is below that one's offset: a gap, hence lost. What lies behind the last sound record
        # may have been acknowledged at any offset reserved; none of them is given again.
        if unknown or any(at > self._bounded_at for at in unnamed):
            self.next = max(Offset(self.reserved + _RESERVE), self.next)
        self.index.extend(self.next)
        self.index.trim(self.trim_mark)

    def opening(self) -> list[JournalRecord]:
        """Return the small state for a journal file that is begun while recovering."""
        return [_state_record(self.trim_mark, self.next, self.reserved)]


class LocalStore:
    """Gives offsets and plans journal records. What is appended counts when it is committed."""

    def __init__(self) -> None:
        self.index = EntryIndex()
        self.trim_mark = Offset(0)
        self.next = Offset(0)
        self._reserved = Offset(_RESERVE)
        self._reserved_durable = Offset(_RESERVE)
        self._journal: Journal | None = None

    @property
    def journal(self) -> Journal:
        """The journal this store appends to."""
        assert self._journal is not None
        return self._journal

    def begin(self, journal: Journal) -> None:
        """Start from a new journal, whose opening was `opening()`."""
        self._journal = journal

    def resume(self, recovered: Recovered, replayer: Replayer) -> None:
        """Start from what was recovered, all its damage taken."""
        self._journal = recovered.journal
        self.index = replayer.index
        self.trim_mark = replayer.trim_mark
        self.next = replayer.next
        self._reserved = self._reserved_durable = max(replayer.reserved, replayer.next)
        for serial in recovered.missing:
            # What stood there is called lost now, and need not be missed again.
            self.journal.release(serial)
        self.note_state()
        if recovered.doubt:
            self.journal.doubt_settled()

    @staticmethod
    def has_state_room(journal: Journal) -> bool:
        """Tell whether the small state can be appended to a journal as it is."""
        return journal.room(reserve=True) >= record_bytes(_STATE.size)

    def opening(self) -> list[JournalRecord]:
        """Return the small state that every journal file begins with."""
        return [_state_record(self.trim_mark, self.next, self._reserved)]

    def note_state(self) -> None:
        """Append the small state, with offsets reserved ahead."""
        self._reserved = Offset(max(self._reserved, self.next + _RESERVE))
        self.journal.append(_state_record(self.trim_mark, self.next, self._reserved))

    def committed(self) -> None:
        """Note that all that was appended is durable."""
        self._reserved_durable = self._reserved

    def entry_room(self) -> int:
        """Return how large an entry may be appended now; one journal file is kept for trims."""
        if self.next >= self._reserved_durable:
            return 0
        room = min(self.journal.room(reserve=False), self.journal.record_bytes_max())
        return max(0, room - record_bytes(0) - 8)

    def append(self, entry: bytes) -> Offset:
        """Give an entry its offset and append it to the journal.

        Raises:
            JournalFullError: There is no room; nothing was appended.
        """
        offset = self.next
        if offset >= self._reserved_durable:
            raise JournalFullError("no offset is reserved")
        place = self.journal.append(JournalRecord(KIND_ENTRY, 0, offset, 0, JUNK_ID, entry))
        self.next = Offset(offset + 1)
        self.index.put(offset, place)
        return offset

    @property
    def reserve_wanted(self) -> bool:
        """The offsets reserved run out: append the state with the next entries."""
        return self._reserved_durable - self.next < _RESERVE // 2 and (
            self._reserved - self.next < _RESERVE // 2
        )

    def trim(self, mark: Offset) -> None:
        """Raise the trim mark; the caller commits, and then calls `free`."""
        self.trim_mark = max(self.trim_mark, mark)
        self.note_state()

    def free(self) -> None:
        """Release every journal file in which no entry is left above the durable trim mark."""
        self.index.trim(self.trim_mark)
        for serial in self.journal.live:
            if not self.index.is_live(serial):
                self.journal.release(serial)

    def runs(self, start: Offset, end: Offset, bytes_max: int) -> Iterator[list[Offset]]:
        """Cut `[start, end)` into runs that one read of the disk covers; lost offsets alone."""
        run: list[Offset] = []
        first: Place | None = None
        for offset in map(Offset, range(start, end)):
            place = self.index.place(offset)
            joins = (
                place is not None
                and first is not None
                and place.serial == first.serial
                and 0 <= place.position - first.position < bytes_max
            )
            if run and not joins:
                yield run
                run = []
            if not run:
                first = place
            run.append(offset)
        if run:
            yield run


def _state_record(trim_mark: Offset, next_: Offset, reserved: Offset) -> JournalRecord:
    body = _STATE.pack(trim_mark, next_, reserved)
    return JournalRecord(KIND_STATE, 0, 0, 0, JUNK_ID, body)
