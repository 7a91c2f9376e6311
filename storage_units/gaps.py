"""The search for gaps: what a unit should hold below closed_until and does not."""

from __future__ import annotations

from corfu.types import Offset

from .index import OffsetIndex
from .standing import Seat, Standing
from .suspicion import Suspicion
from .tentative import Tentatives

_NAMED_MAX = 4096
"""The search waits while so many offsets are suspected: each probe and report looks at them all."""

_GAPS_STEP = 2048
_SPAN_STEP = 1 << 18
"""Gaps, and offsets of which most have cells, looked at in one step: 1 or 2 ms of work."""


class GapSearch:
    """Suspects what the unit's seats say that it holds, and its index does not know.

    Damage that cannot name its offsets (a missing file, a bad header) is not repaired by what the
    chain does later: nothing is written below closed_until any more. Named, it is copied from the
    units that hold it, while one does. What is not named yet is answered DAMAGED all the same
    (`Store.state`), so only its repair waits for the search.

    Rule "an order with a number far too high must not stop the unit": a closed_until may be wrong,
    so neither the work of a step nor what is named at a time may depend on it.
    """

    def __init__(
        self,
        standing: Standing,
        index: OffsetIndex,
        suspicion: Suspicion,
        tentative: Tentatives,
    ) -> None:
        self._standing = standing
        self._index = index
        self._suspicion = suspicion
        self._tentative = tentative
        self._searched: dict[Seat, Offset] = {}
        self._until = Offset(0)
        self._ended = True

    @property
    def goes_on(self) -> bool:
        """Something is left to search, and there is room for what it may name."""
        return not self._ended and len(self._suspicion.named) < _NAMED_MAX

    def begin(self) -> None:
        """Search below closed_until as it is now, in the seats as they are; takes the first step.

        Below closed_until nothing is forgotten without a name: no need to search twice.
        """
        self._searched = {
            seat: self._searched.get(seat, seat.start) for seat in self._standing.seats
        }
        self._until = self._standing.closed_until
        self._ended = False
        # What was decided below closed_until this unit knew before it restarted: its head says it
        # again.
        mark = self._standing.trim_mark
        for offset in self._tentative.in_range(mark, self._until):
            seated = self._standing.seat_of(offset) is not None
            if seated and offset not in self._suspicion.named:
                self._suspicion.add(offset, None)
        self.step()

    def step(self) -> None:
        """Search on, up to a bound of work; does nothing unless it `goes_on`."""
        if not self.goes_on:
            return
        standing, named = self._standing, self._suspicion.named
        gaps, span = min(_GAPS_STEP, _NAMED_MAX - len(named)), _SPAN_STEP
        for seat, searched in self._searched.items():
            until = self._until if seat.end is None else min(seat.end, self._until)
            start = max(searched, standing.trim_mark)
            end = Offset(min(until, start + span))
            span -= max(0, end - start)
            while start < end and gaps:
                start, gaps = self._name(seat, start, end, gaps)
            self._searched[seat] = max(start, searched)
            if start < until:
                return
        self._ended = True

    def _name(self, seat: Seat, start: Offset, end: Offset, gaps: int) -> tuple[Offset, int]:
        """Name up to `gaps` gaps, up to a lost range; returns where to go on, and how many more."""
        named = self._suspicion.named
        for offset in self._index.without_cell(seat.offsets(start, end)):
            if not gaps:
                return offset, 0
            gaps -= 1
            # A lost range has no end of offsets either: past all of it at once.
            after = self._standing.lost_until(offset)
            if after > offset:
                return after, gaps
            if offset not in named:
                self._suspicion.add(offset, None)
        return end, gaps
