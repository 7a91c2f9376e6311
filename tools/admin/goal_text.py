"""How goals are shown. Pure."""

from __future__ import annotations

from corfu.goals import Goal, GoalRecord
from corfu.messages import StatusIs


def progress(status: StatusIs) -> str:
    """Return in a few words what the cluster is at."""
    if status.pending_epoch is not None:
        return f"epoch {status.pending_epoch} is being made"
    for each in status.rebuilds:
        if each.reached < each.end:
            percent = 100 * (each.reached - each.start) // (each.end - each.start)
            return f"unit {each.unit} gets old entries: {percent} %"
    return f"epoch {status.layout.epoch}: waits for the next change of the layout"


def goal_as_json(record: GoalRecord) -> dict[str, object]:
    """Return what `-o json` prints of a goal."""
    return {
        "id": record.goal.id.hex(),
        "kind": record.goal.kind.name.lower(),
        "units": list(record.goal.units),
        **_replica_json(record.goal),
        "status": record.status.name.lower(),
        "detail": record.detail or None,
    }


def _replica_json(goal: Goal) -> dict[str, object]:
    if goal.replica is None:
        return {}
    return {"replica": goal.replica.id, "replaced": goal.replaced}
