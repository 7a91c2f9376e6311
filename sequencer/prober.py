"""Probes every known unit, from every replica: who is there, who restarted, who is in doubt.

Probes also carry what the sequencer knows, for units to raise their own.
"""

from __future__ import annotations

import asyncio

from corfu.layout import Unit
from corfu.messages import Probe, Probed

from .context import Context
from .views import Key


class Prober:
    """Keeps the views of units fresh as long as the process runs."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._tasks: dict[Key, asyncio.Task[None]] = {}

    async def run(self) -> None:
        """Probe for ever; units that come to be known are probed within `probe_s`."""
        context = self._context
        while True:
            state = context.state
            units = (*state.active.units, *state.registered)
            context.core.views.keep(units, context.now())
            for unit in units:
                key = (unit.id, unit.incarnation)
                task = self._tasks.get(key)
                if task is None or task.done():
                    self._tasks[key] = context.spawn(self._probe(key), f"probe {unit.id}")
            await context.shell.sleep(context.settings.probe_s)

    def _unit(self, key: Key) -> Unit | None:
        state = self._context.state
        for unit in (*state.active.units, *state.registered):
            if (unit.id, unit.incarnation) == key:
                return unit
        return None

    async def _probe(self, key: Key) -> None:
        context, settings = self._context, self._context.settings
        while (unit := self._unit(key)) is not None:
            asked_at = context.now()
            if await probe(context, unit, settings.probe_budget_s) is None:
                context.core.views.missed(unit)
            rest_s = settings.probe_s - (context.now() - asked_at)
            await context.shell.sleep(max(0.0, rest_s) * context.rng.uniform(0.9, 1.1))


async def probe(context: Context, unit: Unit, budget_s: float) -> Probed | None:
    """Probe a unit and note its answer; None if it did not answer as this incarnation."""
    state, asked_at = context.state, context.now()
    message = Probe(
        context.shell.new_request(), unit.id, unit.incarnation,
        state.trim_mark, state.closed_until, context.core.window_end,
    )  # fmt: skip
    reply = await context.ask(unit.address, message, budget_s)
    if not isinstance(reply, Probed):
        return None
    if (reply.unit, reply.incarnation) != (unit.id, unit.incarnation):
        return None
    context.core.views.heard(reply, asked_at, context.now())
    return reply
