"""What the leader does about goals: answers who states one, and notes when one is reached.

Async over ports only. That a goal goes on is not done here: every plan of a layout looks at the
goals in the state, whoever leads.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from corfu.goals import Goal, GoalKind, GoalRecord, GoalStatus
from corfu.layout import Leader
from corfu.messages import GoalIs, Rejected, Rejection, SetGoal
from corfu.types import Address, RequestId

from .commands import AddGoal, EndGoal
from .context import Context
from .foresight import Foreseen, foresee, steps_left
from .goals import active_goals, cannot_be_lifted, goal_record, reached, still_holds
from .member_change import MemberChange
from .survey import Survey

_LOOK_S = 0.05
_DRAINS = (GoalKind.DRAIN_UNIT, GoalKind.REPLACE_UNIT)


class GoalDesk:
    """Takes goals for one leading term."""

    def __init__(self, context: Context, survey: Callable[[], Survey]) -> None:
        self._context = context
        self._survey = survey
        self._begun_at = context.now()
        self._members = MemberChange(context)
        self._asked: dict[RequestId, asyncio.Task[None]] = {}

    def close(self) -> None:
        """Answer nobody any more: the next leader does."""
        for task in self._asked.values():
            task.cancel()

    def ask(self, request: SetGoal, sender: Address) -> None:
        """Answer in the background; a request that comes again while it is looked at is one."""
        context = self._context
        if request.request in self._asked:
            return
        if len(self._asked) >= context.settings.waiting_max:
            epoch = context.state.active.epoch
            busy = Rejected(request.request, epoch, Rejection.BUSY, "too many wait")
            context.shell.send(sender, busy)
            return
        task = context.spawn(self._answer(request, sender), "goal")
        self._asked[request.request] = task

    async def settle(self) -> None:
        """End what is reached, and what must not go on."""
        context = self._context
        for goal in active_goals(context.state, *GoalKind):
            state = context.state
            if reached(state, goal):
                if goal.replica is not None and not self._members.is_voting(goal.replica):
                    continue
                detail = f"reached in epoch {state.active.epoch}"
                outcome = await context.decide(EndGoal(goal.id, done=True, detail=detail))
                if outcome.accepted:
                    context.log(f"the {goal} is done")
            elif goal.kind is GoalKind.REPLACE_REPLICA:
                await self._members.advance(goal)
            elif goal.kind is GoalKind.ABANDON_CHAIN and state.intent is None:
                # The operator was wrong: what this unit holds is not gone.
                back = sorted({*goal.units} & self._survey().answering)
                if back:
                    detail = f"unit {back[0]} answers"
                    await context.decide(EndGoal(goal.id, done=False, detail=detail))
                    context.log(f"ALARM: the {goal} is called off: {detail}")

    async def _answer(self, request: SetGoal, sender: Address) -> None:
        try:
            await self._wait_for_views()
            reply = await (self._lift(request) if request.undo else self._state(request))
            self._context.shell.send(sender, reply)
        finally:
            del self._asked[request.request]

    async def _wait_for_views(self) -> None:
        """Wait until this leader has heard the units, or they had time enough to be heard."""
        context = self._context
        until = self._begun_at + context.settings.unit_dead_s
        while context.now() < until:
            state = context.state
            if all(context.core.views.seen(u) for u in (*state.active.units, *state.registered)):
                return
            await context.shell.sleep(_LOOK_S)

    def _leader(self) -> Leader:
        core = self._context.core
        return Leader(core.identity.replica, core.ballot)

    async def _state(self, request: SetGoal) -> GoalIs:
        """State a goal, or find the one that was stated before."""
        context, goal = self._context, request.goal
        known = self._known(goal)
        if known is not None:
            left = (
                self._members.steps_left(goal)
                if goal.kind is GoalKind.REPLACE_REPLICA
                else steps_left(context.state, self._survey(), self._leader())
            )
            return GoalIs(request.request, True, "", left, known)
        if goal.kind is GoalKind.REPLACE_REPLICA:
            foreseen = await self._members.foresee(goal)
        else:
            foreseen = foresee(context.state, self._survey(), goal, self._leader())
        if foreseen.refusal is not None or request.dry_run:
            return self._told(request, foreseen)
        outcome = await context.decide(AddGoal(goal))
        if not outcome.accepted:
            return GoalIs(request.request, False, outcome.reason, (), None)
        context.log(f"an operator asks for the {goal}")
        record = goal_record(context.state, goal.id)
        return GoalIs(request.request, True, "", foreseen.steps, record)

    def _told(self, request: SetGoal, foreseen: Foreseen) -> GoalIs:
        accepted = foreseen.refusal is None
        return GoalIs(request.request, accepted, foreseen.refusal or "", foreseen.steps, None)

    def _known(self, goal: Goal) -> GoalRecord | None:
        """Return the goal of this id, or one that wants the same and still holds."""
        state = self._context.state
        known = goal_record(state, goal.id)
        if known is not None:
            return known
        for record in reversed(state.goals):
            holds = record.status is GoalStatus.ACTIVE or (
                record.status is GoalStatus.DONE and still_holds(state, record.goal)
            )
            if holds and record.goal.same_wish(goal):
                return record
        return None

    async def _lift(self, request: SetGoal) -> GoalIs:
        """Lift the goal that wants this, and what it changed."""
        context, state = self._context, self._context.state
        record = self._to_lift(request.goal)
        if record is None:
            return GoalIs(request.request, False, f"there is no {request.goal}", (), None)
        reason = cannot_be_lifted(state, record)
        steps: tuple[str, ...] = (f"the {record.goal} is lifted",)
        if record.goal.kind in _DRAINS:
            steps += (f"unit {record.goal.units[0]} may be used again",)
        if reason is not None or request.dry_run:
            return GoalIs(request.request, reason is None, reason or "", steps, record)
        end = EndGoal(record.goal.id, done=False, detail="lifted by an operator")
        outcome = await context.decide(end)
        if outcome.accepted:
            context.log(f"an operator lifts the {record.goal}")
        return GoalIs(
            request.request, outcome.accepted, outcome.reason, steps,
            goal_record(context.state, record.goal.id),
        )  # fmt: skip

    def _to_lift(self, goal: Goal) -> GoalRecord | None:
        state = self._context.state
        for record in reversed(state.goals):
            other = record.goal
            if record.status is GoalStatus.CANCELLED:
                continue
            # It is enough to say who was to go, whoever was to come.
            both_drain = goal.kind in _DRAINS and other.kind in _DRAINS
            if other.same_wish(goal) or (both_drain and goal.units[:1] == other.units[:1]):
                return record
        return None
