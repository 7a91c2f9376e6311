"""The offsets of one chain in one segment of one layout. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from corfu.layout import Layout, Segment, Unit
from corfu.types import Offset


@dataclass(frozen=True, slots=True)
class Span:
    """A chain, as one layout gives it, and which offsets are its: every `stride`-th one."""

    layout: Layout
    segment: Segment
    index: int
    units: tuple[Unit, ...]

    @property
    def stride(self) -> int:
        """Distance of neighbouring offsets of this chain."""
        return len(self.segment.chains)

    @property
    def head(self) -> Unit:
        """The unit that decides."""
        return self.units[0]

    @property
    def tail_unit(self) -> Unit:
        """The unit that answers reads."""
        return self.units[-1]

    def first_from(self, offset: Offset) -> Offset:
        """Return the chain's first offset at or above `offset`."""
        return Offset(offset + (self.index - offset) % self.stride)

    def offsets(self, start: Offset, end: Offset) -> range:
        """Return the chain's offsets in `[start, end)`."""
        return range(self.first_from(start), end, self.stride)

    def runs(self, offsets: Iterable[Offset]) -> list[tuple[Offset, Offset]]:
        """Join ascending offsets of the chain into ranges `(start, end)` without others of it."""
        result: list[tuple[Offset, Offset]] = []
        for offset in offsets:
            end = Offset(offset + 1)
            if result and offset - (result[-1][1] - 1) == self.stride:
                result[-1] = (result[-1][0], end)
            else:
                result.append((offset, end))
        return result


def spans_of(layout: Layout, segment: Segment) -> list[Span]:
    """Return a span for each chain of a segment; an abandoned chain's has no units."""
    return [
        Span(layout, segment, index, tuple(layout.unit(id_) for id_ in chain))
        for index, chain in enumerate(segment.chains)
    ]
