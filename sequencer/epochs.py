"""Making an epoch: reach the units, state the intent, seal, activate, install.

Sources: CORFU, NSDI 2012, section 3.3 (sealing a projection); Vertical Paxos (2009) for a
configuration that is chosen before and made active after the old one is stopped.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial

from corfu.config import WINDOW_OFFSETS_MAX
from corfu.layout import Layout, Leader, Unit
from corfu.messages import Install, Installed, Reason, Refused, Seal, Sealed
from corfu.types import Epoch, Offset, UnitId

from .commands import ActivateLayout, ProposeLayout, SealedUnit
from .context import Backoff, Context
from .detector import Detector
from .planning import plan
from .prober import probe
from .seals import seal_problems
from .succession import successor
from .survey import Survey

_HAND_OVER_AFTER = 3
"""Failed attempts before a leader that others could replace with success makes room."""

_Attempt = Callable[[Unit], Awaitable[bool]]


class EpochMaker:
    """Makes one epoch after another, for one leading term."""

    def __init__(self, context: Context, detector: Detector) -> None:
        self._context = context
        self._detector = detector
        self._said = ""

    def plan(self) -> tuple[Survey, ProposeLayout]:
        """Return how the units are now, and the layout to propose for that."""
        state, core = self._context.state, self._context.core
        survey = self.survey()
        return survey, plan(state, survey, Leader(core.identity.replica, core.ballot))

    def survey(self) -> Survey:
        """Return how the units are now."""
        return self._detector.survey()

    def drops(self) -> bool:
        """Tell whether a unit is to be left out now."""
        return bool(self.survey().drop)

    async def make(self, reason: str) -> dict[UnitId, Sealed]:
        """Make a new epoch active; returns what its units answered to the seal.

        Goes on until it succeeds: a unit that cannot be sealed is left out as soon as the rules
        allow it, and waited for until then.
        """
        context = self._context
        context.log(f"a new epoch is needed: {reason}")
        backoff = Backoff(context)
        while True:
            survey, proposal = self.plan()
            units = successor(context.state, proposal).chain_units(context.state.closed_until)
            # No intent before all answer, or epochs storm.
            if not await self._for_all(units, self._probe, "reached"):
                continue
            # That took its time. What is given up cannot be taken back, so it is looked at last:
            # a unit that answers by now is not gone.
            if self.plan()[1].abandoned != proposal.abandoned:
                continue
            outcome = await context.decide(proposal)
            intent = context.state.intent
            if not outcome.accepted or intent is None:
                context.log(f"the new layout was rejected: {outcome.reason}")
                await backoff.wait()
                continue
            sealed = await self._seal(intent.layout)
            if sealed is not None and await self._activate(intent.layout, sealed):
                self._said = ""
                self._detector.activated(survey)
                self._tell(intent.layout, survey)
                return sealed
            await backoff.wait()

    def _tell(self, layout: Layout, survey: Survey) -> None:
        context = self._context
        chains = " ".join(
            "-".join(str(id_) for id_ in chain) for chain in layout.open_segment.chains
        )
        gone = sorted(survey.drop - {unit.id for unit in layout.units})
        without = f", without the units {gone}" if gone else ""
        context.log(f"epoch {layout.epoch} is active, chains {chains or 'none'}{without}")

    async def _probe(self, unit: Unit) -> bool:
        return await probe(self._context, unit, self._context.settings.seal_s) is not None

    async def _for_all(self, units: tuple[Unit, ...], attempt: _Attempt, what: str) -> bool:
        """Repeat `attempt` for each unit until it has succeeded once for all.

        Returns False as soon as a unit that lacks is no more part of the plan.
        """
        context = self._context
        backoff = Backoff(context)
        missing = units
        failures = 0
        while missing:
            done = await asyncio.gather(*(attempt(unit) for unit in missing))
            missing = tuple(u for u, good in zip(missing, done, strict=True) if not good)
            if not missing:
                return True
            failures += 1
            names = ", ".join(f"{unit.id} at {unit.address}" for unit in missing)
            self._say(f"waiting: these units cannot be {what}, and nothing is granted: {names}")
            if failures >= _HAND_OVER_AFTER:
                self._hand_over(missing)
            if await backoff.wait(until=partial(self._unwanted, missing)):
                return False
        return True

    def _unwanted(self, units: tuple[Unit, ...]) -> bool:
        """Tell whether one of these units would be no part of a layout planned now."""
        layout = successor(self._context.state, self.plan()[1])
        wanted = layout.chain_units(self._context.state.closed_until)
        return any(unit not in wanted for unit in units)

    def _hand_over(self, missing: tuple[Unit, ...]) -> None:
        """Stop leading if another replica reaches what this one cannot."""
        context, settings = self._context, self._context.settings
        within_s = settings.unit_silent_s
        now = context.now()
        unseen = [u for u in missing if not self._heard(u, now - within_s)]
        if any(context.core.views.reached_by_others(u, now, within_s) for u in unseen):
            context.log("other replicas reach units that this one does not: it hands over")
            rest_s = 4 * settings.election_s_max
            context.shell.run(context.core.step_down(now, rest_s))

    def _heard(self, unit: Unit, since: float) -> bool:
        seen = self._context.core.views.seen(unit)
        return seen is not None and seen.heard_at >= since

    async def _seal(self, layout: Layout) -> dict[UnitId, Sealed] | None:
        """Seal every unit of the chains that can still change; None: begin with a new intent."""
        sealed: dict[UnitId, Sealed] = {}
        stale: list[UnitId] = []

        async def attempt(unit: Unit) -> bool:
            reply = await seal(self._context, unit, layout.epoch)
            if isinstance(reply, Sealed):
                sealed[unit.id] = reply
            elif isinstance(reply, Refused) and reply.reason is Reason.STALE_EPOCH:
                # It was sealed higher, for an intent that replaced this one, or is to.
                stale.append(unit.id)
                return True
            elif isinstance(reply, Refused):
                if reply.reason is Reason.LOST_STATE:
                    # It counts as dead, and is left out of the plan.
                    self._detector.has_lost(unit.id)
                    self._say(f"ALARM: unit {unit.id} refuses to be sealed: LOST_STATE")
                else:
                    self._say(f"unit {unit.id} refuses to be sealed: {reply.reason.name}")
            return isinstance(reply, Sealed)

        units = layout.chain_units(self._context.state.closed_until)
        if not await self._for_all(units, attempt, "sealed"):
            return None
        if stale:
            self._context.log(f"units {stale} are sealed for a later epoch")
            return None
        return sealed

    async def _activate(self, layout: Layout, sealed: dict[UnitId, Sealed]) -> bool:
        context = self._context
        before = {unit.id for unit in context.state.active.units}
        intent = context.state.intent
        back = self.survey().answering & {*(intent.abandoned if intent else ())}
        if back:
            # Sealing may have taken long. An intent can still be replaced by one that keeps what
            # this unit holds; once it is active that is LOST.
            self._say(f"units {sorted(back)} were to be abandoned, and answer: not without them")
            return False
        problems = seal_problems(context.state, layout, sealed)
        if problems:
            # To activate would let a unit that has lost values decide about them.
            self._say("ALARM: " + "; ".join(problem.text for problem in problems))
            for problem in problems:
                if problem.lost is not None and problem.lost in before:
                    self._detector.has_lost(problem.lost)
            return False
        first = layout.first_offset
        window = min(2 * context.settings.window_offsets_min, WINDOW_OFFSETS_MAX)
        until = Offset(first + window) if layout.open_segment.chains else first
        units = tuple(SealedUnit(a.unit, a.incarnation) for a in sealed.values())
        outcome = await context.decide(ActivateLayout(layout.epoch, units, until))
        if not outcome.accepted:
            context.log(f"the activation was rejected: {outcome.reason}")
        return outcome.accepted

    def _say(self, text: str) -> None:
        """Log a text once, not at each retry."""
        if text != self._said:
            self._said = text
            self._context.log(text)


async def seal(context: Context, unit: Unit, epoch: Epoch) -> Sealed | Refused | None:
    """Seal a unit; None if it did not answer, or another incarnation did."""
    state = context.state
    message = Seal(
        context.shell.new_request(), epoch, unit.id, unit.incarnation,
        state.sealed_epoch(unit.id, unit.incarnation),
        state.trim_mark, state.closed_until, state.lost,
    )  # fmt: skip
    reply = await context.ask(unit.address, message, context.settings.seal_s)
    if isinstance(reply, Refused):
        return reply
    if not isinstance(reply, Sealed) or reply.epoch != epoch:
        return None
    if (reply.unit, reply.incarnation) != (unit.id, unit.incarnation):
        return None
    return reply


async def install(context: Context, unit: Unit, layout: Layout) -> bool:
    """Install the active layout at a unit; returns if it said that it did."""
    state = context.state
    # Activated layouts only: a unit must never serve an epoch that could still be replaced.
    assert layout == state.active
    message = Install(
        context.shell.new_request(), unit.id, unit.incarnation, layout,
        state.trim_mark, state.closed_until, context.core.window_end, state.lost,
    )  # fmt: skip
    reply = await context.ask(unit.address, message, context.settings.seal_s)
    if isinstance(reply, Refused) and reply.reason in (Reason.OTHER_LAYOUT, Reason.SYNC_MODE):
        context.log(f"ALARM: unit {unit.id} refuses the layout: {reply.reason.name}")
    return (
        isinstance(reply, Installed)
        and reply.epoch == layout.epoch
        and (reply.unit, reply.incarnation) == (unit.id, unit.incarnation)
    )
