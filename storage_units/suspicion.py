"""What a unit may have held and cannot read."""

from __future__ import annotations

from dataclasses import dataclass, field

from corfu.types import Offset

from .names import Name

_TOLD_MAX = 50
"""Most lines about damage told at once."""


@dataclass(slots=True)
class Suspicion:
    """Damage and doubt, found by recovery or when something is read.

    Attributes:
        named: Offsets that surely had a record, with its name where that is known.
        doubtful: Those of them that only the journal's doubt names.
        unknown: There may be others, at any offset that seems EMPTY below `bound`.
        bound: T of the first epoch installed since; None until then: no offset is excepted.
        serials: Journal files that must not be freed or indexed while `unknown`.
        missing: Journal files that are not there.
        found: How many offsets were suspected so far, by this process.
        repaired: How many of them a record was stored for again.
        told: Lines for an operator that nobody has taken yet: where the damage lies.
    """

    named: dict[Offset, Name | None] = field(default_factory=dict)
    doubtful: set[Offset] = field(default_factory=set)
    unknown: bool = False
    bound: Offset | None = None
    serials: set[int] = field(default_factory=set)
    missing: tuple[int, ...] = ()
    found: int = 0
    repaired: int = 0
    told: list[str] = field(default_factory=list)

    def add(self, offset: Offset, name: Name | None) -> None:
        """Suspect an offset that surely had a record."""
        if offset not in self.named:
            self.found += 1
        self.named[offset] = name

    def tell(self, line: str) -> None:
        """Keep a line for the operator; of very many, the first ones say enough."""
        if len(self.told) < _TOLD_MAX:
            self.told.append(line)
        elif len(self.told) == _TOLD_MAX:
            self.told.append("... and more damage than is listed here")

    def may_be_at(self, offset: Offset) -> bool:
        """Tell whether a record that cannot be named may have stood at an EMPTY offset."""
        return self.unknown and (self.bound is None or offset < self.bound)

    def drop(self, offset: Offset) -> bool:
        """Forget one offset, which is settled; False if it was not suspected."""
        if offset not in self.named:
            return False
        del self.named[offset]
        self.doubtful.discard(offset)
        return True

    def drop_range(self, start: Offset, end: Offset) -> bool:
        """Forget the offsets in `[start, end)`; False if none was suspected."""
        dropped = [offset for offset in self.named if start <= offset < end]
        for offset in dropped:
            self.drop(offset)
        return bool(dropped)

    def closed(self, closed_until: Offset) -> bool:
        """Tell whether the unnamed doubt is moot: every offset it may be about is decided.

        Below closed_until nothing is answered EMPTY anyway, so it hides nothing more.
        """
        return self.unknown and self.bound is not None and self.bound <= closed_until

    def holds_back(self, serial: int) -> bool:
        """Tell whether a journal file is needed as it is until the doubt is settled."""
        return serial in self.serials or serial in self.missing
