"""The state that the sequencer's replicas agree on. Values only; `machine` changes them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import xxhash

from corfu import schema
from corfu.goals import GoalRecord
from corfu.layout import Layout, Replica, Unit
from corfu.types import ClusterId, Epoch, Incarnation, Offset, Range, UnitId

HISTORY_MAX = 64
"""Most past layouts that are kept."""

HISTORY_BYTES_MAX = 128 << 10
"""Most bytes that they take, encoded: a state, and an answer with all of them, fit one message."""


@dataclass(frozen=True, slots=True)
class Intent:
    """A layout chosen by Paxos and not yet activated: known to nobody but the replicas."""

    layout: Layout
    abandoned: tuple[UnitId, ...]
    conflicted: tuple[UnitId, ...]


@dataclass(frozen=True, slots=True)
class SealedFor:
    """The epoch for which ActivateLayout last said that this unit was sealed."""

    unit: UnitId
    incarnation: Incarnation
    epoch: Epoch


@dataclass(frozen=True, slots=True)
class LeftUnit:
    """A unit that left the layout; its records below `bound` count. None: none do."""

    unit: UnitId
    incarnation: Incarnation
    bound: Offset | None


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """A unit holds all that chain number `chain`, of `chains`, has in `[start, end)`."""

    unit: UnitId
    incarnation: Incarnation
    start: Offset
    end: Offset
    chains: int
    chain: int


@dataclass(frozen=True, slots=True)
class State:
    """All that the replicas agree on.

    Attributes:
        cluster: Whose it is.
        formatted: Digest of the state at slot 0, with this field 0.
        replicas: The members of the group.
        removed: The last replicas that others have replaced; none comes back.
        registered: Units that announced themselves and never stood in an activated layout.
        active: The active layout. At epoch 0 it is what the cluster was formatted with: the base
            of the first epoch, never served.
        intent: The pending layout, if any.
        last_epoch: Highest epoch number given, intents included.
        reserved_until: No token at or above was ever granted.
        closed_until: Every offset below is decided on its whole chain.
        trim_mark: Lowest offset that no prefix trim has reached; at most closed_until.
        lost: Single offsets declared lost, ascending, apart, at or above the trim mark.
        sealed_for: For each unit of the active layout that was ever sealed.
        left: Units that stood in an activated layout and do no more.
        rebuilt: What was rebuilt for chains that their unit does not yet stand in; also how far
            each rebuild has come.
        wanted_chains: How many chains the open segment is to have.
        wanted_replicas: How many units each chain is to have.
        history: The layouts that were active before, ascending, the newest of them; for people.
        goals: What operators asked for: what is under way, and what ended last.
        drained: Units that are not to be used, whatever their incarnation.
    """

    cluster: ClusterId
    formatted: int
    replicas: tuple[Replica, ...]
    removed: tuple[Replica, ...]
    registered: tuple[Unit, ...]
    active: Layout
    intent: Intent | None
    last_epoch: Epoch
    reserved_until: Offset
    closed_until: Offset
    trim_mark: Offset
    lost: tuple[Range, ...]
    sealed_for: tuple[SealedFor, ...]
    left: tuple[LeftUnit, ...]
    rebuilt: tuple[Rebuilt, ...]
    wanted_chains: int
    wanted_replicas: int
    history: tuple[Layout, ...]
    goals: tuple[GoalRecord, ...]
    drained: tuple[UnitId, ...]

    def digest(self) -> int:
        """Return xxh3_64 of the canonical encoding: equal states, equal digest."""
        return xxhash.xxh3_64_intdigest(schema.pack(self))

    @property
    def activated(self) -> Layout | None:
        """The newest activated layout; None before the first activation.

        Never the intent, and never the layout of epoch 0: no unit was sealed for those.
        """
        return self.active if self.active.epoch else None

    def sealed_epoch(self, unit: UnitId, incarnation: Incarnation) -> Epoch:
        """Return the epoch that a unit of the active layout was last sealed for; 0: none."""
        for sealed in self.sealed_for:
            if (sealed.unit, sealed.incarnation) == (unit, incarnation):
                return sealed.epoch
        return Epoch(0)

    def left_unit(self, unit: UnitId, incarnation: Incarnation) -> LeftUnit | None:
        """Return what is kept of a unit that left; None if this incarnation never did."""
        for gone in self.left:
            if (gone.unit, gone.incarnation) == (unit, incarnation):
                return gone
        return None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What applying a command did. A rejected command changed nothing."""

    accepted: bool
    reason: str = ""


ACCEPTED = Outcome(accepted=True)


def first_state(active: Layout) -> State:
    """Return the state at slot 0: what the group is formatted with, as the layout of epoch 0."""
    state = State(
        cluster=active.cluster,
        formatted=0,
        replicas=active.replicas,
        removed=(),
        registered=(),
        active=active,
        intent=None,
        last_epoch=Epoch(0),
        reserved_until=Offset(0),
        closed_until=Offset(0),
        trim_mark=Offset(0),
        lost=(),
        sealed_for=(),
        left=(),
        rebuilt=(),
        wanted_chains=len(active.open_segment.chains),
        wanted_replicas=max(map(len, active.open_segment.chains), default=0),
        history=(),
        goals=(),
        drained=(),
    )
    return replace(state, formatted=state.digest())


def past_layouts(state: State) -> tuple[Layout, ...]:
    """Return the history once the active layout is past, too; the oldest give way."""
    # The layout of epoch 0 was never activated.
    known = (*state.history, *((state.active,) if state.active.epoch else ()))
    kept: list[Layout] = []
    size = 0
    for layout in reversed(known[-HISTORY_MAX:]):
        size += len(schema.pack(layout))
        if size > HISTORY_BYTES_MAX:
            break
        kept.append(layout)
    return tuple(reversed(kept))


def rejected(state: State, reason: str) -> tuple[State, Outcome]:
    """Return the state unchanged, and why."""
    return state, Outcome(accepted=False, reason=reason)
