"""What a replica tells tools: its part in the group, and how it sees replicas and units. Pure."""

from __future__ import annotations

from corfu.messages import RebuildStatus, ReplicaStatus, StatusIs
from corfu.types import Offset, ReplicaId, RequestId

from .group import Group
from .planning import rebuilds
from .views import UnitViews

LOST_SHOWN_MAX = 2_000
"""Most ranges of lost offsets in one answer."""


def status_of(
    request: RequestId, group: Group, views: UnitViews, tail: Offset | None, now: float
) -> StatusIs:
    """Return the status; `tail` is None unless this replica grants."""
    state = group.state
    return StatusIs(
        request=request,
        replica=group.id,
        granting=tail is not None,
        ballot=group.ballot,
        chosen_until=group.applied,
        applied=group.applied,
        layout=state.active,
        pending_epoch=state.intent.layout.epoch if state.intent is not None else None,
        tail=tail,
        reserved_until=state.reserved_until,
        closed_until=state.closed_until,
        trim_mark=state.trim_mark,
        lost=state.lost[:LOST_SHOWN_MAX],
        units=tuple(views.status(unit, now) for unit in (*state.active.units, *state.registered)),
        replicas=tuple(
            ReplicaStatus(member.id, member.address, _heard_ms(group, member.id, now))
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


def _heard_ms(group: Group, replica: ReplicaId, now: float) -> int | None:
    if replica == group.id:
        return 0
    heard = group.heard_at.get(replica)
    return None if heard is None else max(0, round((now - heard) * 1000))
