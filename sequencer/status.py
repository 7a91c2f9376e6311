"""What a replica tells tools: its part in the group, and how it sees replicas and units. Pure."""

from __future__ import annotations

from corfu.messages import HistoryIs, RebuildStatus, ReplicaRole, ReplicaStatus, StatusIs
from corfu.types import Offset, ReplicaId, RequestId, UnitId

from .group import Group
from .member import Phase
from .planning import rebuilds
from .state import State
from .views import UnitViews

LOST_SHOWN_MAX = 2_000
"""Most ranges of lost offsets in one answer."""

GONE_SHOWN_MAX = 100
"""Most units that left, in one answer."""

_ROLES = {
    Phase.FOLLOWING: ReplicaRole.FOLLOWS,
    Phase.SETTLING: ReplicaRole.IN_DOUBT,
    Phase.LEADING: ReplicaRole.LEADS,
}


def status_of(
    request: RequestId, group: Group, views: UnitViews, tail: Offset | None, now: float
) -> StatusIs:
    """Return the status; `tail` is None unless this replica grants."""
    state = group.state
    return StatusIs(
        request=request,
        replica=group.id,
        incarnation=group.incarnation,
        role=_ROLES.get(group.phase, ReplicaRole.ELECTING),
        votes=group.votes,
        granting=tail is not None,
        ballot=group.ballot,
        leader=group.leader,
        leader_heard_ms=None if group.leader is None else _leader_heard_ms(group, now),
        chosen_until=group.chosen_until,
        applied=group.applied,
        snapshot=group.snapshot,
        layout=state.active,
        pending_epoch=state.intent.layout.epoch if state.intent is not None else None,
        tail=tail,
        reserved_until=state.reserved_until,
        closed_until=state.closed_until,
        trim_mark=state.trim_mark,
        lost=state.lost[:LOST_SHOWN_MAX],
        units=tuple(views.status(unit, now) for unit in (*state.active.units, *state.registered)),
        gone=_gone(state),
        replicas=tuple(
            ReplicaStatus(
                member.id, member.incarnation, member.address, _heard_ms(group, member.id, now)
            )
            for member in state.replicas
        ),
        wanted_chains=state.wanted_chains,
        wanted_replicas=state.wanted_replicas,
        rebuilds=tuple(
            RebuildStatus(each.unit.id, each.start, each.end, each.reached)
            for each in rebuilds(state)
        ),
        goals=state.goals,
        drained=state.drained,
    )


def history_of(request: RequestId, state: State) -> HistoryIs:
    """Return the activated layouts that are kept."""
    active = () if state.activated is None else (state.activated,)
    return HistoryIs(request, (*state.history, *active))


def _gone(state: State) -> tuple[UnitId, ...]:
    """Return the units that left and are neither in the layout nor known as spares."""
    known = {unit.id for unit in (*state.active.units, *state.registered)}
    return tuple(sorted({gone.unit for gone in state.left} - known)[:GONE_SHOWN_MAX])


def _leader_heard_ms(group: Group, now: float) -> int:
    if group.leader == group.id:
        return 0
    return max(0, round((now - group.leader_heard_at) * 1000))


def _heard_ms(group: Group, replica: ReplicaId, now: float) -> int | None:
    if replica == group.id:
        return 0
    heard = group.heard_at.get(replica)
    return None if heard is None else max(0, round((now - heard) * 1000))
