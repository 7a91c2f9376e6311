"""Goals: what an operator wants of the units and chains, and how far the sequencer has come.

Values only. A goal takes several epochs, so it is state of the sequencer: a new leader goes on
with it, and a command that is given again finds it.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from corfu.layout import Replica
from corfu.types import GoalId, ReplicaId, UnitId

NO_REPLICA = ReplicaId(0)


class GoalKind(enum.IntEnum):
    """What is wanted; the numbers are on the wire and on disk for ever."""

    DRAIN_UNIT = 1
    """`units[0]` is to stand in no chain any more, and not to be used again."""
    REPLACE_UNIT = 2
    """The same for `units[0]`, and `units[1]` takes its place."""
    ADD_CHAIN = 3
    """The open segment gets one more chain, of `units`."""
    ABANDON_CHAIN = 4
    """The disks of `units` are gone: what they alone held is LOST."""
    REPLACE_REPLICA = 5
    """`replica` takes the place of the member `replaced`."""


class GoalStatus(enum.IntEnum):
    """How far a goal has come."""

    ACTIVE = 1
    DONE = 2
    CANCELLED = 3


@dataclass(frozen=True, slots=True)
class Goal:
    """What one command asked for. `replica` and `replaced` are for REPLACE_REPLICA alone."""

    id: GoalId
    kind: GoalKind
    units: tuple[UnitId, ...]
    replica: Replica | None = None
    replaced: ReplicaId = NO_REPLICA

    def same_wish(self, other: Goal) -> bool:
        """Tell whether another command asked for the same."""
        if self.kind is GoalKind.REPLACE_UNIT:
            # Who goes and who comes is told by the place.
            units_agree = self.units == other.units
        else:
            units_agree = set(self.units) == set(other.units)
        return (
            self.kind is other.kind
            and units_agree
            and (self.replica, self.replaced) == (other.replica, other.replaced)
        )

    def __str__(self) -> str:
        units = " ".join(str(id_) for id_ in self.units)
        match self.kind:
            case GoalKind.DRAIN_UNIT:
                return f"drain of unit {units}"
            case GoalKind.REPLACE_UNIT:
                return f"replacement of unit {self.units[0]} by {self.units[-1]}"
            case GoalKind.ADD_CHAIN:
                return f"new chain of the units {units}"
            case GoalKind.ABANDON_CHAIN:
                return f"abandon of the units {units}"
            case GoalKind.REPLACE_REPLICA:
                new = None if self.replica is None else self.replica.id
                return f"replacement of replica {self.replaced} by {new}"


@dataclass(frozen=True, slots=True)
class GoalRecord:
    """A goal, and what has become of it; `detail` says why it ended as it did."""

    goal: Goal
    status: GoalStatus
    detail: str
