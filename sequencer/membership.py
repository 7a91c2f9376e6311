"""Who the replicas are: one takes the place of another, by a command that Paxos chooses.

Pure. What the change means for votes, terms and slots stands with those: `term`, `election`.
Source: Lamport, Malkhi, Zhou, Reconfiguring a State Machine (2010), section 2: the members are part
of the state, and those as of a slot choose the next one.
"""

from __future__ import annotations

from dataclasses import replace

from corfu.goals import GoalStatus
from corfu.layout import Replica
from corfu.types import ReplicaId

from .commands import ReplaceReplica
from .state import ACCEPTED, Outcome, State, rejected

REMOVED_MAX = 64
"""Most replaced replicas that are remembered; they are told that they are members no more."""


def replace_replica(state: State, command: ReplaceReplica) -> tuple[State, Outcome]:
    """Apply ReplaceReplica."""
    old = member_of(state, command.old)
    if old is None or old.incarnation != command.incarnation:
        return rejected(state, f"replica {command.old} is no member, or another incarnation")
    reason = unfit_replica(state, command.old, command.new) or _lifted(state, command.new)
    if reason is not None:
        return rejected(state, reason)
    others = [member for member in state.replicas if member != old]
    members = tuple(sorted((*others, command.new), key=lambda member: member.id))
    removed = (*state.removed, old)[-REMOVED_MAX:]
    return replace(state, replicas=members, removed=removed), ACCEPTED


def member_of(state: State, id_: ReplicaId) -> Replica | None:
    """Return the member of this id; None if there is none."""
    return next((member for member in state.replicas if member.id == id_), None)


def unfit_replica(state: State, old: ReplicaId, new: Replica) -> str | None:
    """Return why `new` cannot take the place of the member `old`; None if it can."""
    if member_of(state, old) is None:
        return f"replica {old} is no member"
    if len(state.replicas) == 1:
        # When it steps down nobody is left who could tell the new one what was chosen.
        return "the only replica cannot be replaced"
    # A new id and a new incarnation: no vote, ballot or message of one that left, or was formatted
    # anew, is ever taken for one of the new member's.
    known = (*state.replicas, *state.removed)
    if any(new.id == member.id or new.incarnation == member.incarnation for member in known):
        return f"replica id {new.id}, or its incarnation, was used before: format it anew"
    if any(new.address == member.address and member.id != old for member in state.replicas):
        return f"another member is at {new.address}"
    return None


def _lifted(state: State, new: Replica) -> str | None:
    """Return why the change is wanted no more: its goal was lifted while it was under way."""
    stated = [record.status for record in state.goals if record.goal.replica == new]
    if stated and all(status is GoalStatus.CANCELLED for status in stated):
        return f"replica {new.id} is not to become a member any more"
    return None


def is_published(state: State, new: Replica) -> bool:
    """Tell if a replica is a member, and the active layout tells clients and units so."""
    return new in state.replicas and new in state.active.replicas
