"""What sequencer replicas tell each other. Source: Lamport, Paxos Made Simple (2001).

Members are (id, incarnation); both ends are named in every message and checked. Values are
opaque bytes here: encoded commands of the state machine.
"""

from __future__ import annotations

from dataclasses import dataclass

from corfu.types import Ballot, Incarnation, ReplicaId, RequestId, Slot, UnitId


@dataclass(frozen=True, slots=True)
class PreVote:
    """Would you promise `ballot`? Changes nothing anywhere.

    `formatted`, here and below, is the digest of the state that the group was formatted with.
    """

    request: RequestId
    replica: ReplicaId
    incarnation: Incarnation
    formatted: int
    ballot: Ballot


@dataclass(frozen=True, slots=True)
class PreVoted:
    """`granted`: yes, I have heard no leader for an election timeout either."""

    request: RequestId
    replica: ReplicaId
    incarnation: Incarnation
    ballot: Ballot
    granted: bool
    promised: Ballot


@dataclass(frozen=True, slots=True)
class Prepare:
    """Phase 1a, for every slot from `from_slot` on."""

    request: RequestId
    replica: ReplicaId
    incarnation: Incarnation
    formatted: int
    ballot: Ballot
    from_slot: Slot


@dataclass(frozen=True, slots=True)
class OpenSlot:
    """The highest accepted ballot and its value in one slot: never the promised ballot."""

    slot: Slot
    ballot: Ballot
    value: bytes


@dataclass(frozen=True, slots=True)
class Promise:
    """Phase 1b, durable before it leaves.

    `snapshot` is the acceptor's snapshot slot: what is at or below it is chosen and its votes
    are forgotten, so the proposer must install that snapshot first. `chosen_until`: every
    slot up to it is known chosen by the sender. With `doubt` it is no promise and no vote: the
    sender does not know all that it once answered, and only tells what it still holds.
    """

    request: RequestId
    replica: ReplicaId
    incarnation: Incarnation
    ballot: Ballot
    snapshot: Slot
    chosen_until: Slot
    doubt: bool
    accepted: tuple[OpenSlot, ...]


@dataclass(frozen=True, slots=True)
class Accept:
    """Phase 2a, for one slot."""

    request: RequestId
    replica: ReplicaId
    incarnation: Incarnation
    ballot: Ballot
    slot: Slot
    value: bytes


@dataclass(frozen=True, slots=True)
class Accepted:
    """Phase 2b, durable before it leaves."""

    request: RequestId
    replica: ReplicaId
    incarnation: Incarnation
    ballot: Ballot
    slot: Slot


@dataclass(frozen=True, slots=True)
class Nack:
    """A ballot lower than the promised one was refused."""

    request: RequestId
    replica: ReplicaId
    incarnation: Incarnation
    ballot: Ballot
    promised: Ballot


@dataclass(frozen=True, slots=True)
class UnitView:
    """How long ago a replica last heard a unit, for the leader's decision; None: not yet.

    `dead`: it has missed the unit for so long that, for its part, the unit may be dropped.
    """

    unit: UnitId
    incarnation: Incarnation
    heard_ms: int | None
    restarted: bool
    doubt: bool
    dead: bool


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """Leader to replicas: I lead with `ballot`; all slots up to `chosen_until` are chosen.

    A notice counts for a slot only where the receiver accepted it at exactly `ballot`; other
    values are fetched. `round` is echoed: a majority of acks confirms that no higher ballot was
    promised by it when the round began.
    """

    request: RequestId
    replica: ReplicaId
    incarnation: Incarnation
    formatted: int
    ballot: Ballot
    round: int
    chosen_until: Slot


@dataclass(frozen=True, slots=True)
class HeartbeatAck:
    """Replica to leader: my promised ballot is exactly `ballot`; and how I see the units.

    `digest` is that of its state as of `digest_slot`, for comparison between replicas.
    """

    request: RequestId
    replica: ReplicaId
    incarnation: Incarnation
    ballot: Ballot
    round: int
    applied: Slot
    digest_slot: Slot
    digest: int
    units: tuple[UnitView, ...]


@dataclass(frozen=True, slots=True)
class TakeOver:
    """Leader to a follower: begin phase 1 now, with a ballot above `ballot`, the leader's own.

    Others would not grant a pre-vote while they hear the leader; it is the leader that asks.
    """

    request: RequestId
    replica: ReplicaId
    incarnation: Incarnation
    ballot: Ballot


@dataclass(frozen=True, slots=True)
class Expelled:
    """Member to a replica that another one has replaced: you are no member any more."""

    request: RequestId
    replica: ReplicaId
    incarnation: Incarnation
    expelled: Incarnation


@dataclass(frozen=True, slots=True)
class Catchup:
    """Replica to replica: send me what is chosen from `from_slot` on."""

    request: RequestId
    replica: ReplicaId
    incarnation: Incarnation
    from_slot: Slot


@dataclass(frozen=True, slots=True)
class ChosenValue:
    """The chosen value of one slot."""

    slot: Slot
    value: bytes


@dataclass(frozen=True, slots=True)
class Chosen:
    """Answer to `Catchup`: chosen values in slot order, after a snapshot if older ones are gone.

    `snapshot` is the encoded state as of `snapshot_slot` (b"" if none is needed).
    """

    request: RequestId
    replica: ReplicaId
    incarnation: Incarnation
    snapshot_slot: Slot
    snapshot: bytes
    values: tuple[ChosenValue, ...]
    chosen_until: Slot
