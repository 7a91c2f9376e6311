"""What a unit stands for: its identity, epoch, layout and marks, and the roles they give it.

No rule about single offsets lives here; that is the store's and the handlers'.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field

from corfu import schema
from corfu.journal.format import JournalRecord
from corfu.layout import Layout, Segment, Unit
from corfu.types import (
    Address,
    ClusterId,
    Epoch,
    Incarnation,
    Offset,
    Range,
    SyncMode,
    UnitId,
)

from .records import RecordKind


@dataclass(frozen=True, slots=True)
class Seat:
    """The unit's place in one chain of one segment of one layout.

    A request keeps the seat that admitted it to its end: forwards and replies follow it,
    whatever is sealed or installed meanwhile.
    """

    start: Offset
    end: Offset | None
    step: int
    residue: int
    chain: tuple[Unit, ...]
    index: int
    previous: Address | None
    """Address of the unit before; None at the head."""
    next: Address | None
    """Address of the unit after; None at the tail unit."""

    def holds(self, offset: Offset) -> bool:
        """Tell whether `offset` belongs to this chain in this segment."""
        return (
            self.start <= offset
            and (self.end is None or offset < self.end)
            and offset % self.step == self.residue
        )

    def first(self, offset: Offset) -> Offset:
        """Return the first offset of the chain at or above `offset`."""
        return Offset(offset + (self.residue - offset) % self.step)

    def offsets(self, start: Offset, end: Offset) -> range:
        """Return the offsets of the chain in `[start, end)`."""
        return range(self.first(start), end, self.step)


def seats_of(layout: Layout, id_: UnitId, incarnation: Incarnation) -> tuple[Seat, ...]:
    """Return the unit's seats, ascending; () if the layout knows another incarnation of it."""
    units = {unit.id: unit for unit in layout.units}
    own = units.get(id_)
    if own is None or own.incarnation != incarnation:
        return ()
    return tuple(
        _seat(segment, residue, chain, units, id_)
        for segment in layout.segments
        for residue, chain in enumerate(segment.chains)
        if id_ in chain
    )


def _seat(
    segment: Segment,
    residue: int,
    chain: tuple[UnitId, ...],
    units: dict[UnitId, Unit],
    own: UnitId,
) -> Seat:
    members = tuple(units[id_] for id_ in chain)
    index = chain.index(own)
    return Seat(
        segment.start,
        segment.end,
        len(segment.chains),
        residue,
        members,
        index,
        members[index - 1].address if index else None,
        members[index + 1].address if index + 1 < len(members) else None,
    )


@dataclass(frozen=True, slots=True)
class _Written:
    """The small state as it opens each journal file."""

    sealed: Epoch
    epoch_before: Epoch
    layout: Layout | None
    trim_mark: Offset
    closed_until: Offset
    window_end: Offset
    lost: tuple[Range, ...]
    frozen: bool


_NO_EPOCH = Epoch(0)
_START = Offset(0)


@dataclass(slots=True)
class Standing:
    """The unit's small state: all that is not about a single offset. Owned by one unit.

    `layout` may be of an epoch below `sealed`: then nothing is served, and it only tells whom
    the unit knew.
    """

    cluster: ClusterId
    unit: UnitId
    incarnation: Incarnation
    sync: SyncMode
    sealed: Epoch = _NO_EPOCH
    epoch_before: Epoch = _NO_EPOCH
    layout: Layout | None = None
    trim_mark: Offset = _START
    closed_until: Offset = _START
    window_end: Offset = _START
    lost: list[Range] = field(default_factory=list)
    frozen: bool = False
    recovered_epoch: Epoch = _NO_EPOCH
    """The epoch this process was sealed for when it started; 0 in a fresh folder."""
    served: bool = False
    """An epoch newer than `recovered_epoch` was sealed and installed since the start."""
    seats: tuple[Seat, ...] = ()

    @property
    def serving(self) -> bool:
        """Data requests of exactly the sealed epoch are served.

        Rule "a restarted unit serves no data before it has been sealed at a newer epoch and has
        that layout": what it answered before it stopped may have been more than it now holds (a
        restored old folder, a lost tail of the journal). In a newer epoch the leader has
        compared what the chain's units hold, and no message of the old epoch is obeyed.
        """
        return (
            self.layout is not None
            and self.layout.epoch == self.sealed
            and self.sealed > self.recovered_epoch
        )

    @property
    def installed(self) -> bool:
        """The sealed epoch's layout is here."""
        return self.layout is not None and self.layout.epoch == self.sealed

    @property
    def restarted(self) -> bool:
        """It was sealed before this process began, and serves nothing before a newer epoch."""
        return self.recovered_epoch > 0 and not self.served

    def take_layout(self, layout: Layout) -> None:
        """Take the layout of the sealed epoch, and the seats that it gives."""
        self.layout = layout
        self.seats = seats_of(layout, self.unit, self.incarnation)
        self.window_end = max(self.window_end, layout.first_offset)
        if self.serving:
            self.served = True

    @property
    def step(self) -> int:
        """How far apart the offsets lie that the unit gets now, as far as it knows."""
        open_segment = None if self.layout is None else self.layout.segments[-1]
        return max(1, len(open_segment.chains)) if open_segment is not None else 1

    def seat_of(self, offset: Offset) -> Seat | None:
        """Return the seat for one offset in the installed layout, None if it has none."""
        for seat in reversed(self.seats):
            if seat.start <= offset:
                return seat if seat.holds(offset) else None
        return None

    def seat_of_range(self, start: Offset, end: Offset) -> Seat | None:
        """Return the seat in the one segment that holds `[start, end)`, None if it has none.

        A unit stands in at most one chain of a segment, so the asked unit tells which chain's
        offsets are meant.
        """
        for seat in reversed(self.seats):
            if seat.start <= start:
                return seat if seat.end is None or end <= seat.end else None
        return None

    def is_lost(self, offset: Offset) -> bool:
        """Tell whether the sequencer declared this offset lost."""
        return self.lost_until(offset) > offset

    def lost_until(self, offset: Offset) -> Offset:
        """Return the end of the lost range that holds `offset`; `offset` itself if none does."""
        if not self.lost:
            return offset
        index = bisect_right(self.lost, Range(offset, Offset(2**64))) - 1
        return max(offset, self.lost[index].end) if index >= 0 else offset

    def add_lost(self, lost: Range) -> bool:
        """Note a lost range; False if it was known."""
        lost = Range(max(lost.start, self.trim_mark), lost.end)
        if lost.start >= lost.end:
            return False
        index = bisect_right(self.lost, Range(lost.start, Offset(2**64))) - 1
        if index >= 0 and lost.end <= self.lost[index].end:
            return False
        merged: list[Range] = []
        for known in sorted([*self.lost, lost]):
            if merged and known.start <= merged[-1].end:
                merged[-1] = Range(merged[-1].start, max(merged[-1].end, known.end))
            else:
                merged.append(known)
        self.lost = merged
        return True

    def opening(self) -> JournalRecord:
        """Return the record that opens each journal file."""
        self.lost = [known for known in self.lost if known.end > self.trim_mark]
        written = _Written(
            self.sealed,
            self.epoch_before,
            self.layout,
            self.trim_mark,
            self.closed_until,
            self.window_end,
            tuple(self.lost),
            self.frozen,
        )
        return JournalRecord(
            RecordKind.STANDING, 0, self.trim_mark, self.sealed, bytes(16), schema.pack(written)
        )

    def take_opening(self, body: bytes) -> None:
        """Take over what an opening record says, where it is newer.

        Raises:
            WireError: The body is none of ours.
        """
        written = schema.unpack(_Written, body)
        if written.sealed > self.sealed:
            self.sealed, self.epoch_before = written.sealed, written.epoch_before
        if written.layout is not None and (
            self.layout is None or written.layout.epoch > self.layout.epoch
        ):
            self.layout = written.layout
        self.trim_mark = max(self.trim_mark, written.trim_mark)
        self.closed_until = max(self.closed_until, written.closed_until)
        self.window_end = max(self.window_end, written.window_end)
        self.frozen = self.frozen or written.frozen
        for lost in written.lost:
            self.add_lost(lost)

    def restart(self) -> None:
        """Note that a process begins with this standing: it serves nothing of this epoch."""
        self.recovered_epoch = self.sealed
        self.served = False
        if self.layout is not None:
            self.seats = seats_of(self.layout, self.unit, self.incarnation)
