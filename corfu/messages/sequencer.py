"""What clients, units and tools ask the sequencer."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from corfu.goals import Goal, GoalRecord
from corfu.layout import Layout, Unit
from corfu.types import (
    Address,
    Ballot,
    ClusterId,
    Epoch,
    Incarnation,
    Offset,
    Range,
    ReplicaId,
    RequestId,
    Slot,
    SyncMode,
    UnitId,
)


@dataclass(frozen=True, slots=True)
class GetToken:
    """Client to leader: `count` tokens of `epoch` for entries that are frozen and could leave now.

    `oldest` is the lowest sequence the client still waits for: older answers may be forgotten.
    Reports what the client saw since its last request: p99 of its write times, how many of its
    tokens ended as junk, of how many.
    """

    request: RequestId
    epoch: Epoch
    count: int
    oldest: int
    write_p99_us: int
    tokens_lost: int
    tokens_used: int


@dataclass(frozen=True, slots=True)
class Grant:
    """Leader to client: offsets `[offset, offset + count)`, granted once, for `epoch` only."""

    request: RequestId
    epoch: Epoch
    offset: Offset
    count: int
    window_end: Offset
    write_p99_us: int
    lost_permille: int


@dataclass(frozen=True, slots=True)
class GetTail:
    """Client to leader: the tail; `linearizable`: confirmed by a majority round begun later."""

    request: RequestId
    linearizable: bool


@dataclass(frozen=True, slots=True)
class TailIs:
    """Leader to client: the first offset not yet granted, in the active epoch."""

    request: RequestId
    epoch: Epoch
    tail: Offset
    trim_mark: Offset
    closed_until: Offset
    write_p99_us: int
    lost_permille: int


@dataclass(frozen=True, slots=True)
class GetLayout:
    """Anybody to any replica: the newest activated layout, if newer than `newer_than` (0: any)."""

    request: RequestId
    newer_than: Epoch


@dataclass(frozen=True, slots=True)
class LayoutIs:
    """Replica's answer: its newest activated layout, None if that is not newer than asked.

    `leader` is the address of the replica it takes for the leader, if any. `lost` are single
    offsets declared lost (an empty chain in the layout says the same of its segment).
    """

    request: RequestId
    epoch: Epoch
    layout: Layout | None
    leader: Address | None
    trim_mark: Offset
    closed_until: Offset
    lost: tuple[Range, ...]


@dataclass(frozen=True, slots=True)
class NotLeader:
    """Replica to client: ask the replica at `leader` (None: unknown, perhaps an election)."""

    request: RequestId
    epoch: Epoch
    leader: Address | None


class Rejection(enum.IntEnum):
    """Why the leader rejects a request; definite, nothing was done."""

    WRONG_EPOCH = 1
    """The request names an epoch that is not the active one: get the layout."""
    TOO_OLD = 2
    """Older than the answers kept for this client: never granted a second time."""
    NO_CHAINS = 3
    """No chain has enough units: appends are refused until units are back or added."""
    BUSY = 4
    """The window is used up and the next one not chosen yet: come back."""
    MALFORMED = 5
    UNKNOWN_UNIT = 6
    FOREIGN = 7
    """Another cluster, or an incarnation that is not expected."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """Leader or replica to the asker: refused for `reason`; nothing was done."""

    request: RequestId
    epoch: Epoch
    reason: Rejection
    detail: str


@dataclass(frozen=True, slots=True)
class Register:
    """A unit, at its start, to any replica: here is my identity and address."""

    request: RequestId
    unit: Unit


@dataclass(frozen=True, slots=True)
class Registered:
    """Answer to `Register`. `member` tells if the active layout lists exactly this unit.

    `address_differs`: the layout has it at another address. `left`: this incarnation stood in a
    layout and does no more; then `bound` is the offset below which its records count, None if
    none do. `replicas`: where the members are, so that a unit finds them though others have taken
    the places of those that it was started with.
    """

    request: RequestId
    epoch: Epoch
    member: bool
    address_differs: bool
    left: bool
    bound: Offset | None
    replicas: tuple[Address, ...]


@dataclass(frozen=True, slots=True)
class Trim:
    """Client to leader: raise the trim mark to `mark`, no further than closed_until can follow.

    `count_freed`: answer only when the units have freed what they can, or after some seconds.
    """

    request: RequestId
    mark: Offset
    count_freed: bool


@dataclass(frozen=True, slots=True)
class TrimReached:
    """Leader to client: every unit of the active layout has durably this mark.

    Attributes:
        mark: The mark reached.
        mark_before: The mark when the leader took the request.
        freed_files: Journal files that the units have freed since then.
        freed_bytes: Their length.
        units: How many units that is about.
        at_least: More may have been freed, or will be; always so if it was not asked for.
    """

    request: RequestId
    epoch: Epoch
    mark: Offset
    mark_before: Offset
    freed_files: int
    freed_bytes: int
    units: int
    at_least: bool


@dataclass(frozen=True, slots=True)
class Transfer:
    """Tool to leader: have the replica `to` lead."""

    request: RequestId
    to: ReplicaId


@dataclass(frozen=True, slots=True)
class Transferring:
    """Leader to tool: `to` was asked to begin an election. Whether it wins, the status tells."""

    request: RequestId
    epoch: Epoch
    to: ReplicaId


@dataclass(frozen=True, slots=True)
class GetState:
    """Tool to any replica: its applied state, for the folder of a replica that is to join."""

    request: RequestId


@dataclass(frozen=True, slots=True)
class StateIs:
    """The state as of `slot`, encoded as in a snapshot, and whose it is."""

    request: RequestId
    cluster: ClusterId
    slot: Slot
    state: bytes


@dataclass(frozen=True, slots=True)
class GetStatus:
    """Tool to any replica: what it knows."""

    request: RequestId


class ReplicaRole(enum.IntEnum):
    """What a replica is doing about leadership."""

    LEADS = 1
    FOLLOWS = 2
    ELECTING = 3
    """It asks for promises, or has them and catches up."""
    IN_DOUBT = 4
    """Its journal may lack votes: it asks the others what they hold, and votes for nobody."""


@dataclass(frozen=True, slots=True)
class UnitStatus:
    """One unit as a replica sees it; `heard_ms` ago it last answered (None: never).

    `sync` is the mode of its folder; None if it never answered.
    """

    unit: UnitId
    incarnation: Incarnation
    address: Address
    heard_ms: int | None
    epoch: Epoch
    restarted: bool
    doubt: bool
    frozen: bool
    local_tail: Offset
    free_bytes: int
    sync: SyncMode | None


@dataclass(frozen=True, slots=True)
class ReplicaStatus:
    """One replica as the answering one sees it."""

    replica: ReplicaId
    incarnation: Incarnation
    address: Address
    heard_ms: int | None


@dataclass(frozen=True, slots=True)
class RebuildStatus:
    """A rebuild of `[start, end)` of one chain at a unit; `reached`: all below is copied."""

    unit: UnitId
    start: Offset
    end: Offset
    reached: Offset


@dataclass(frozen=True, slots=True)
class StatusIs:
    """A replica's answer to `GetStatus`; `granting` tells if it is a leader that grants tokens.

    `wanted_chains` and `wanted_replicas`: what full redundancy would be. `drained` are units that
    are not to be used.

    Attributes:
        incarnation: Of the answering replica's folder.
        role: What it is doing about leadership.
        votes: Its promises and votes count.
        leader: Whom it takes for the leader, itself included; heard `leader_heard_ms` ago.
        chosen_until: Every slot up to it is chosen, as far as it has heard.
        snapshot: What its snapshot on disk covers.
        gone: Units that left the layout and have not come back, at most `GONE_SHOWN_MAX`.
    """

    request: RequestId
    replica: ReplicaId
    incarnation: Incarnation
    role: ReplicaRole
    votes: bool
    granting: bool
    ballot: Ballot
    leader: ReplicaId | None
    leader_heard_ms: int | None
    chosen_until: Slot
    applied: Slot
    snapshot: Slot
    layout: Layout
    pending_epoch: Epoch | None
    tail: Offset | None
    reserved_until: Offset
    closed_until: Offset
    trim_mark: Offset
    lost: tuple[Range, ...]
    units: tuple[UnitStatus, ...]
    gone: tuple[UnitId, ...]
    replicas: tuple[ReplicaStatus, ...]
    wanted_chains: int
    wanted_replicas: int
    rebuilds: tuple[RebuildStatus, ...]
    goals: tuple[GoalRecord, ...]
    drained: tuple[UnitId, ...]


@dataclass(frozen=True, slots=True)
class GetHoles:
    """Tool to leader: which offsets may not be whole, and when they were granted."""

    request: RequestId


@dataclass(frozen=True, slots=True)
class TailSample:
    """`ago_ms` ago the tail was `tail`: what lies below was granted before, the rest after."""

    tail: Offset
    ago_ms: int


@dataclass(frozen=True, slots=True)
class HolesAre:
    """Leader to tool: only offsets in `[closed_until, tail)` can be holes or half-written.

    `samples` ascend in tail and in time. What lies below the first was granted before this
    leader can tell.
    """

    request: RequestId
    epoch: Epoch
    closed_until: Offset
    tail: Offset
    samples: tuple[TailSample, ...]


@dataclass(frozen=True, slots=True)
class GetHistory:
    """Tool to any replica: the layouts that were active before."""

    request: RequestId


@dataclass(frozen=True, slots=True)
class HistoryIs:
    """Replica's answer: activated layouts, ascending, the active one last. Old ones are left out.

    Empty before the first activation.
    """

    request: RequestId
    layouts: tuple[Layout, ...]


@dataclass(frozen=True, slots=True)
class SetGoal:
    """Tool to leader: state a goal; `dry_run`: only tell what would be done; `undo`: lift it."""

    request: RequestId
    goal: Goal
    dry_run: bool
    undo: bool


@dataclass(frozen=True, slots=True)
class GoalIs:
    """Leader's answer to `SetGoal`.

    Not `accepted`: nothing was done, for `reason`. `steps` say, in words, what will be done, or
    would be. `record` is the goal as it stands, perhaps one stated before that wants the same;
    None if it was not stated.
    """

    request: RequestId
    accepted: bool
    reason: str
    steps: tuple[str, ...]
    record: GoalRecord | None
