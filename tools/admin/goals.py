"""Stating a goal, and waiting for it: over ports only, so that the simulator runs the very same.

Whoever states a goal need not stay: it is the cluster's from then on. To state it again finds it.
"""

from __future__ import annotations

from collections.abc import Callable

from corfu.client.cluster import Cluster
from corfu.errors import UnavailableError
from corfu.goals import Goal, GoalRecord, GoalStatus
from corfu.messages import GoalIs, SetGoal, StatusIs
from corfu.tools.asking import statuses
from corfu.types import GoalId

_ANSWER_S = 3.0
"""A new leader listens for a second first, so that it does not call living units silent."""

_LOOK_S = 0.25
_STATUS_S = 1.0


async def set_goal(
    cluster: Cluster, goal: Goal, timeout_s: float, *, dry_run: bool = False, undo: bool = False
) -> GoalIs:
    """State a goal, or lift it, or ask what that would do; return the leader's answer.

    Raises:
        UnavailableError: No leader answered in time; unless it is a dry run, it may be stated.
    """
    deadline = cluster.endpoint.now() + timeout_s
    backoff = cluster.backoff()
    while True:
        message = SetGoal(cluster.endpoint.new_request(), goal, dry_run, undo)
        try:
            reply = await cluster.ask_leader(message, deadline, f"{goal}", _ANSWER_S)
        except UnavailableError as error:
            raise UnavailableError(str(error), "not_applied" if dry_run else "unknown") from error
        if isinstance(reply, GoalIs):
            return reply
        # Too many ask at once.
        await cluster.endpoint.sleep(backoff.next_s())


async def newest_status(cluster: Cluster) -> StatusIs | None:
    """Return the status of the replica that has applied most; None if none answers."""
    answers = await statuses(cluster.endpoint, cluster.replicas, _STATUS_S)
    return max(answers, key=lambda answer: (answer.applied, answer.granting), default=None)


async def watch(
    cluster: Cluster, id_: GoalId, tell: Callable[[StatusIs], None], patience_s: float
) -> GoalRecord:
    """Wait until a goal has ended; return how. `tell` is given every status on the way.

    Raises:
        UnavailableError: For so long as `patience_s` no replica that knows the goal answered.
    """
    heard_at = cluster.endpoint.now()
    while True:
        status = await newest_status(cluster)
        known = [] if status is None else [r for r in status.goals if r.goal.id == id_]
        if status is not None and known:
            heard_at = cluster.endpoint.now()
            tell(status)
            if known[0].status is not GoalStatus.ACTIVE:
                return known[0]
        elif cluster.endpoint.now() - heard_at >= patience_s:
            raise UnavailableError("no replica that knows of it answers any more", "unknown")
        await cluster.endpoint.sleep(_LOOK_S)
