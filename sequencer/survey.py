"""How the units are, as the leader sees them: what a plan goes by. Values only."""

from __future__ import annotations

from dataclasses import dataclass

from corfu.layout import Unit
from corfu.types import UnitId

Chain = tuple[UnitId, ...]


@dataclass(frozen=True, slots=True)
class Survey:
    """What the leader found out about the units.

    Attributes:
        dead: Units of the layout that are not there, or have lost what they held.
        drop: Those of them that the next layout may leave out.
        spares: Registered units that answer and could be used, in the order of their use.
        answering: Units of the layout that have answered this leader just now.
        doubtful: Units of the layout with damage or doubt that is not settled.
        frozen: Units of the layout that saw a Conflict.
    """

    dead: frozenset[UnitId]
    drop: frozenset[UnitId]
    spares: tuple[Unit, ...]
    answering: frozenset[UnitId] = frozenset()
    doubtful: frozenset[UnitId] = frozenset()
    frozen: frozenset[UnitId] = frozenset()
