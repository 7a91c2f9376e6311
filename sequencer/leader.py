"""A leading term: makes its epoch, grants, and keeps the epoch's units together.

Async over ports only. The process starts `LeaderTerm.run` when this replica's ballot has won and
cancels it when the ballot is lost.
"""

from __future__ import annotations

import asyncio
import math
from collections import OrderedDict
from collections.abc import Coroutine, Mapping
from typing import Any

from corfu.layout import Layout, Unit
from corfu.messages import Sealed, SetGoal, Trim, TrimReached
from corfu.types import Address, Offset, RequestId, UnitId

from .closing import Closer, heads_of
from .context import Backoff, Context
from .detector import Detector
from .doubts import DoubtSettler
from .epochs import EpochMaker, install, seal
from .goal_desk import GoalDesk
from .planning import changes
from .rebuild import Rebuilder
from .trimming import Trimming
from .views import Key, Seen

INSTALL_S = 0.3
"""How long a new epoch waits for its installs before it grants tokens all the same."""

_INSTALL_GRACE_S = 1.0
_WATCHES_PER_PROBE = 2
_TRIMMED_MAX = 256
"""Answers to trims that are kept, for requests that are repeated."""


class ServedEpoch:
    """One active epoch of this term: installs, closes, settles doubt, rebuilds, watches."""

    def __init__(
        self,
        context: Context,
        layout: Layout,
        sealed: Mapping[UnitId, Sealed],
        maker: EpochMaker,
        goals: GoalDesk,
    ) -> None:
        self._context = context
        self._maker = maker
        self._goals = goals
        self.layout = layout
        self._sealed = sealed
        self.closer = Closer(context, layout)
        self._begun_at = context.now()
        self._installed_at: dict[Key, float] = {}
        self._settled_at: dict[UnitId, float] = {}
        self._doubted_at: dict[UnitId, float] = {}
        self._tasks: list[asyncio.Task[None]] = []

    async def run(self) -> str:
        """Serve the epoch; returns why another one is needed."""
        context = self._context
        try:
            installs = [
                self._start(self._install(unit), f"install {unit.id}") for unit in self.layout.units
            ]
            await self._wait_for_installs(installs)
            context.shell.run(context.core.begin_granting(context.now()))
            self._start(self.closer.run(), "close")
            self._start(Rebuilder(context, self.layout).run(), "rebuild")
            heads = heads_of(self.layout)
            for unit in self.layout.units:
                if unit.id in heads:
                    self._start(self._settle(unit), f"settle {unit.id}")
            return await self._watch()
        finally:
            for task in self._tasks:
                task.cancel()

    def _start(self, coroutine: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = self._context.spawn(coroutine, name)
        self._tasks.append(task)
        return task

    async def _wait_for_installs(self, installs: list[asyncio.Task[None]]) -> None:
        needed = {u.id for u in self.layout.chain_units(self._context.state.closed_until)}
        chosen = [
            task for unit, task in zip(self.layout.units, installs, strict=True)
            if unit.id in needed
        ]  # fmt: skip
        if chosen:
            await asyncio.wait(chosen, timeout=INSTALL_S)

    async def _install(self, unit: Unit) -> None:
        """Install the layout at a unit, for ever until it has it; stragglers are sealed first."""
        context = self._context
        backoff = Backoff(context)
        sealed = unit.id in self._sealed
        while True:
            if not sealed:
                await seal(context, unit, self.layout.epoch)
            if await install(context, unit, self.layout):
                self._installed_at[(unit.id, unit.incarnation)] = context.now()
                return
            sealed = False
            await backoff.wait()

    async def _settle(self, unit: Unit) -> None:
        """Settle a head's doubt, if it has any."""
        answer = self._sealed.get(unit.id)
        doubtful = answer is not None and (
            answer.doubt or any(block.named for block in answer.blocks)
        )
        seen = self._context.core.views.seen(unit)
        if doubtful or (seen is not None and seen.probed.doubt):
            settler = DoubtSettler(self._context, self.layout, unit, self._sealed)
            if not await settler.run():
                # No later epoch could tell more: wait for an operator, not for another seal.
                self._context.log(f"ALARM: unit {unit.id} keeps damage that nobody can repair")
                return
        self._settled_at[unit.id] = self._context.now()

    async def _watch(self) -> str:
        """Return why a new epoch is needed, once one is."""
        context = self._context
        units = self.layout.chain_units(Offset(0))
        while True:
            await self._goals.settle()
            for unit in units:
                reason = self._needs_epoch(unit)
                if reason is not None:
                    return reason
            reason = self._needs_other_chains()
            if reason is not None:
                return reason
            await context.shell.sleep(context.settings.probe_s / _WATCHES_PER_PROBE)

    def _needs_other_chains(self) -> str | None:
        """Return why the chains should change, None if they should not, or not yet."""
        context = self._context
        survey, proposal = self._maker.plan()
        if not changes(context.state, proposal):
            return None
        stood = {id_ for s in self.layout.segments for chain in s.chains for id_ in chain}
        left = {id_ for s in proposal.chains_below for chain in s for id_ in chain}
        opened = {id_ for chain in self.layout.open_segment.chains for id_ in chain}
        gone = sorted(survey.drop & (stood - left | opened))
        if gone:
            return f"units {gone} are dead"
        if proposal.abandoned:
            return f"units {list(proposal.abandoned)} are abandoned"
        # While appends are refused nothing is gained by waiting.
        refused = not self.layout.open_segment.chains and proposal.open_chains
        if refused or context.now() - self._begun_at >= context.settings.change_gap_s:
            return "units can join, or chains be merged"
        return None

    def _needs_epoch(self, unit: Unit) -> str | None:
        seen = self._context.core.views.seen(unit)
        if seen is None:
            return None
        # A probe from before the install tells of the restart that this epoch was made for.
        installed_at = self._installed_at.get((unit.id, unit.incarnation))
        since = self._begun_at + _INSTALL_GRACE_S if installed_at is None else installed_at
        if seen.probed.restarted and seen.asked_at >= since:
            return f"unit {unit.id} has restarted"
        # A folder as old as to know of no epoch at all tells of no restart: it is new to itself.
        probed_since = installed_at is not None and seen.asked_at >= installed_at
        if probed_since and seen.probed.epoch < self.layout.epoch:
            return f"unit {unit.id} has lost epoch {self.layout.epoch}"
        return self._keeps_doubt(unit, seen)

    def _keeps_doubt(self, unit: Unit, seen: Seen) -> str | None:
        """Return why a head's new damage needs an epoch, None if there is none, or not yet."""
        settled_at = self._settled_at.get(unit.id)
        if settled_at is None or not seen.probed.doubt or seen.asked_at < settled_at:
            self._doubted_at.pop(unit.id, None)
            return None
        # A head that can name what it lost copies it without stopping anybody.
        since = self._doubted_at.setdefault(unit.id, seen.asked_at)
        if seen.asked_at - since < self._context.settings.mend_s:
            return None
        return f"unit {unit.id} is in doubt"


class LeaderTerm:
    """What a replica does while its ballot leads."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._served: ServedEpoch | None = None
        self._trims: dict[RequestId, asyncio.Task[None]] = {}
        self._trimmed: OrderedDict[RequestId, TrimReached] = OrderedDict()
        self._maker = EpochMaker(context, Detector(context))
        self._goals = GoalDesk(context, self._maker.survey)

    async def run(self) -> None:
        """Make an epoch and serve it, again and again, until cancelled."""
        context = self._context
        maker = self._maker
        backoffs: dict[str, tuple[Backoff, float]] = {}
        reason = "a new leader"
        try:
            while True:
                sealed = await maker.make(reason)
                self._served = ServedEpoch(
                    context, context.state.active, sealed, maker, self._goals
                )
                reason = await self._served.run()
                if context.state.active.epoch and maker.drops():
                    # What is dead stops appends anyway, and can leave only once.
                    continue
                # At once the first time; a unit that restarts all the time must not stop all
                # clients all the time. Units that restart one after the other are no such case.
                backoff, last = backoffs.get(reason, (Backoff(context, eager=True), -math.inf))
                if context.now() - last >= context.settings.stable_s:
                    backoff.reset()
                backoffs[reason] = (backoff, context.now())
                await backoff.wait()
        finally:
            for task in self._trims.values():
                task.cancel()
            self._goals.close()

    def set_goal(self, request: SetGoal, sender: Address) -> None:
        """Take a goal for an operator, in the background; a repeated request changes nothing."""
        self._goals.ask(request, sender)

    def trim(self, request: Trim, sender: Address) -> None:
        """Trim for a client, in the background; a repeated request changes nothing."""
        if request.request in self._trims:
            return
        if request.request in self._trimmed:
            # The answer was lost. Done again, it would count nothing: all is freed by now.
            self._context.shell.send(sender, self._trimmed[request.request])
            return
        if len(self._trims) >= self._context.settings.waiting_max:
            return
        task = self._context.spawn(self._trim(request, sender), "trim")
        self._trims[request.request] = task

    async def _trim(self, request: Trim, sender: Address) -> None:
        try:
            reached = await Trimming(self._context, self._closer).run(request)
            self._trimmed[request.request] = reached
            if len(self._trimmed) > _TRIMMED_MAX:
                self._trimmed.popitem(last=False)
            self._context.shell.send(sender, reached)
        finally:
            del self._trims[request.request]

    def _closer(self) -> Closer | None:
        return None if self._served is None else self._served.closer
