"""Commands of the replicated state machine: what the replicas agree on, one slot each.

Every command is absolute or a compare-and-set, so applying one twice is harmless; only its applied
result counts. The numbers in the table are on disk for ever.
"""

from __future__ import annotations

from dataclasses import dataclass

from corfu import schema
from corfu.errors import WireError
from corfu.goals import Goal
from corfu.layout import Leader, Replica, Unit
from corfu.types import Ballot, Epoch, GoalId, Incarnation, Offset, Range, ReplicaId, UnitId


@dataclass(frozen=True, slots=True)
class Noop:
    """Fills a slot that nobody's value may stand in, and opens a leader's term."""


@dataclass(frozen=True, slots=True)
class ReserveOffsets:
    """Let the active epoch's leader grant offsets below `until`."""

    epoch: Epoch
    ballot: Ballot
    until: Offset


@dataclass(frozen=True, slots=True)
class ProposeLayout:
    """State the intent to make a new epoch. Epoch number and T are given by the state machine.

    Attributes:
        based_on: The active epoch that it was computed from.
        last_epoch: The highest epoch number given when it was computed, intents included.
        leader: Who proposes it and will grant tokens in it.
        units: The units of the new layout.
        chains_below: The new chains of each segment of the active layout, in order, for the
            offsets below T. As many chains in each as there are.
        open_chains: The chains from T on; () if appends are to be refused.
        abandoned: Units whose disks are gone, by the operator's word. A chain of nothing but
            such units may become empty: all its offsets are LOST.
        conflicted: Units left out after a Conflict: nothing they hold may ever count.
    """

    based_on: Epoch
    last_epoch: Epoch
    leader: Leader
    units: tuple[Unit, ...]
    chains_below: tuple[tuple[tuple[UnitId, ...], ...], ...]
    open_chains: tuple[tuple[UnitId, ...], ...]
    abandoned: tuple[UnitId, ...]
    conflicted: tuple[UnitId, ...]


@dataclass(frozen=True, slots=True)
class SealedUnit:
    """A unit that answered the seal of an epoch."""

    unit: UnitId
    incarnation: Incarnation


@dataclass(frozen=True, slots=True)
class ActivateLayout:
    """Make the pending intent of `epoch` the active layout, with its first window.

    `window_until` is the end of `[T, ...)`; T itself, so no window, without an open chain.
    """

    epoch: Epoch
    sealed: tuple[SealedUnit, ...]
    window_until: Offset


@dataclass(frozen=True, slots=True)
class CloseUntil:
    """Every offset below `until` is decided on its whole chain of the active epoch `epoch`."""

    epoch: Epoch
    until: Offset


@dataclass(frozen=True, slots=True)
class TrimTo:
    """Raise the trim mark to `mark`, at most to closed_until."""

    mark: Offset


@dataclass(frozen=True, slots=True)
class RegisterUnit:
    """Make a unit known, so that a later layout may use it; or note its new address."""

    unit: Unit


@dataclass(frozen=True, slots=True)
class DeclareLost:
    """No unit of the chain, in the active epoch, has a sound copy of the offsets in `ranges`."""

    epoch: Epoch
    ranges: tuple[Range, ...]


@dataclass(frozen=True, slots=True)
class RecordRebuilt:
    """The unit holds all that a chain has in `[start, end)`, compared with units of the chain.

    The chain is number `chain` of the `chains` of a closed segment. Ranges that touch are joined:
    so this is also how far a rebuild has come, for the next leader.
    """

    epoch: Epoch
    unit: UnitId
    incarnation: Incarnation
    start: Offset
    end: Offset
    chains: int
    chain: int


@dataclass(frozen=True, slots=True)
class AddGoal:
    """State a goal. One whose id is known already changes nothing."""

    goal: Goal


@dataclass(frozen=True, slots=True)
class EndGoal:
    """A goal is `done`, as the state shows; or, not `done`, it is lifted, with what it changed."""

    id: GoalId
    done: bool
    detail: str


@dataclass(frozen=True, slots=True)
class ReplaceReplica:
    """Put `new` in the place of the member (`old`, `incarnation`), from the next slot on."""

    old: ReplicaId
    incarnation: Incarnation
    new: Replica


Command = (
    Noop
    | ReserveOffsets
    | ProposeLayout
    | ActivateLayout
    | CloseUntil
    | TrimTo
    | RegisterUnit
    | DeclareLost
    | RecordRebuilt
    | AddGoal
    | EndGoal
    | ReplaceReplica
)

KINDS: dict[int, type[Command]] = {
    0: Noop,
    1: ReserveOffsets,
    2: ProposeLayout,
    3: ActivateLayout,
    4: CloseUntil,
    5: TrimTo,
    6: RegisterUnit,
    7: DeclareLost,
    8: RecordRebuilt,
    9: AddGoal,
    10: EndGoal,
    11: ReplaceReplica,
}
KIND_OF: dict[type[Command], int] = {command: number for number, command in KINDS.items()}


def encode(command: Command) -> bytes:
    """Return the Paxos value of a command: its kind, a byte, then its canonical CBOR."""
    return bytes((KIND_OF[type(command)],)) + schema.pack(command)


def changes_members(value: bytes) -> bool:
    """Tell whether a Paxos value, once applied, may change who the members are."""
    return bool(value) and value[0] == KIND_OF[ReplaceReplica]


def decode(value: bytes) -> Command:
    """Return the command of a Paxos value.

    Raises:
        WireError: The value is no command that this version knows.
    """
    kind = KINDS.get(value[0]) if value else None
    if kind is None:
        raise WireError(f"no command of kind {value[:1].hex() or 'nothing'}")
    return schema.unpack(kind, value[1:])
