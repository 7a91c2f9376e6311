"""The leader's part in a change of the members: what forbids it, and doing it.

Async over ports only. The goal is state; whoever leads goes on with it.
"""

from __future__ import annotations

from corfu.goals import Goal
from corfu.layout import Replica
from corfu.messages import GetStatus, StatusIs

from .commands import AddGoal, ReplaceReplica
from .context import Context
from .foresight import Foreseen
from .machine import apply
from .membership import member_of
from .proposer import majority

_HEARD_S = 1.0
"""A replica that was heard within this time is there."""


class MemberChange:
    """Replaces a replica, for one leading term."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._said = ""

    async def foresee(self, goal: Goal) -> Foreseen:
        """Return what would be done for a goal that is stated now, or why it is refused."""
        state = self._context.state
        _, outcome = apply(state, AddGoal(goal))
        if not outcome.accepted:
            return Foreseen(outcome.reason, ())
        refusal = self._majority_refusal(goal) or await self._newcomer_refusal(goal)
        return Foreseen(refusal, self.steps_left(goal))

    def steps_left(self, goal: Goal) -> tuple[str, ...]:
        """Return what is still to happen for a goal, in words."""
        assert goal.replica is not None
        state, old, new = self._context.state, goal.replaced, goal.replica
        steps: list[str] = []
        if new not in state.replicas:
            if old == self._context.core.identity.replica:
                steps.append(f"replica {old}, which leads, hands over to another")
            steps.append(f"replica {new.id} at {new.address} takes the place of replica {old}")
            steps.append(f"replica {old} ends when it hears of it")
        if new not in state.active.replicas:
            steps.append("a new epoch tells clients and units; appends wait for it, well below 1 s")
        return (*steps, f"replica {new.id} gets the state, and votes")

    async def advance(self, goal: Goal) -> None:
        """Do what is next for a goal that is not reached."""
        context, new = self._context, goal.replica
        assert new is not None
        state = context.state
        old = member_of(state, goal.replaced)
        if old is None or new in state.replicas:
            return  # the epoch of the next leading term publishes it
        if old.id == context.core.identity.replica:
            # Its own term would end with the change, and it could go on with nothing.
            context.shell.run(context.core.hand_over(context.now()))
            return
        reason = self._majority_refusal(goal) or await self._newcomer_refusal(goal)
        if reason is not None:
            self._say(f"the {goal} waits: {reason}")
            return
        await context.decide(ReplaceReplica(old.id, old.incarnation, new))

    def is_voting(self, new: Replica) -> bool:
        """Tell whether a member votes: it leads, or has lately followed this leader."""
        core, now = self._context.core, self._context.now()
        own = new.id == core.identity.replica
        return own or core.group.is_followed_by(new.id, now, _HEARD_S)

    def _majority_refusal(self, goal: Goal) -> str | None:
        """Return why the group could be without a majority after the change."""
        state = self._context.state
        own = self._context.core.identity.replica
        others = [member for member in state.replicas if member.id != goal.replaced]
        there = [member for member in others if member.id == own or self._hears(member)]
        # The new one counts: it answers, and needs nobody's vote to get the state.
        if len(there) + 1 < majority(len(state.replicas)):
            silent = [member.id for member in others if member not in there]
            return f"replicas {silent} do not answer: no majority would be sure to be left"
        return None

    def _hears(self, member: Replica) -> bool:
        context = self._context
        heard = context.core.group.heard_at.get(member.id)
        return heard is not None and context.now() - heard < _HEARD_S

    async def _newcomer_refusal(self, goal: Goal) -> str | None:
        """Return what is wrong with the replica that is to come."""
        context, new = self._context, goal.replica
        assert new is not None
        answer = await context.ask(
            new.address, GetStatus(context.shell.new_request()), context.settings.seal_s
        )
        if not isinstance(answer, StatusIs):
            return f"replica {new.id} does not answer at {new.address}"
        if (answer.replica, answer.incarnation) != (new.id, new.incarnation):
            return f"another replica answers at {new.address}"
        return None

    def _say(self, text: str) -> None:
        if text != self._said:
            self._said = text
            self._context.log(text)
