"""An operator of the simulated cluster: states goals through the code of the commands, amid faults.

Now and then a command is interrupted, given again, or undone. What an operator must know before a
chain is abandoned (that its disks are gone, and nobody else's) is made true here first.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable, Coroutine
from dataclasses import replace

from corfu.errors import UnavailableError
from corfu.goals import Goal, GoalKind, GoalStatus
from corfu.layout import Layout
from corfu.messages import GoalIs, Transfer, Transferring
from corfu.sequencer.process import ReplicaProcess
from corfu.sequencer.replica import Replica
from corfu.sequencer.state import State
from corfu.storage_units.process import UnitProcess
from corfu.tools.admin.goals import set_goal, watch
from corfu.tools.check_options import LostChain
from corfu.tools.sim.host import RuleBroken
from corfu.tools.sim.world import World
from corfu.types import GoalId, Offset, UnitId

_COMMAND_S = 4.0
_PATIENCE_S = 20.0
_ABANDONS_MAX = 2
_JOINING_MAX = 2


def newest_core(world: World) -> Replica | None:
    """Return the replica that has applied most; None if none runs."""
    processes = [host.process for host in world.replicas]
    cores = [process.core for process in processes if isinstance(process, ReplicaProcess)]
    return max(cores, key=lambda core: core.group.applied, default=None)


def newest_state(world: World) -> State | None:
    """Return the applied state of that replica."""
    best = newest_core(world)
    return None if best is None else best.state


class Operator:
    """Gives commands until it is told to finish; then all that it asked for must come true."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._rng = random.Random(f"operator-{world.seed}")  # noqa: S311
        self._cluster, self._group = world.admin()
        self._kinds: dict[str, Callable[[], Coroutine[object, object, None]]] = {
            "drain": self._drain,
            "replace": self._replace,
            "add_chain": self._add_chain,
            "abandon": self._abandon,
            "replace_replica": self._replace_replica,
            "transfer": self._transfer,
        }
        self._task: asyncio.Task[None] | None = None
        self._ending = False
        self._abandons = 0
        self._gone: list[tuple[float, frozenset[UnitId], Layout]] = []
        self._seen: State | None = None

    def begin(self) -> None:
        """Start giving commands."""
        self._task = self._group.run(self._start, self._run())

    async def finish(self) -> None:
        """Give no more commands, and wait until what was asked for is there, or lifted."""
        assert self._task is not None
        self._ending = True
        await self._task
        await self._group.run(self._start, self._make_possible())
        await self._end_joining()
        while any(record.status is GoalStatus.ACTIVE for record in self._state().goals):
            await asyncio.sleep(0.25)
            self._world.check()

    async def _end_joining(self) -> None:
        """Switch off who was formatted to join and is not wanted by any goal."""
        for host in list(self._world.joining):
            await asyncio.sleep(1.0)
            wanted = {
                record.goal.replica.address
                for record in self._state().goals
                if record.goal.replica is not None and record.status is not GoalStatus.CANCELLED
            }
            if host in self._world.joining and host.address not in wanted:
                host.kill()
                self._world.joining.remove(host)

    def lost_chains(self) -> tuple[LostChain, ...]:
        """Return what may be lost, by the layout; all of it was given up in this run."""
        return tuple(
            lost
            for segment in self._state().active.segments
            for index, chain in enumerate(segment.chains)
            if not chain and segment.end is not None
            for lost in self._given_up(segment.start, segment.end, len(segment.chains), index)
        )

    def _given_up(self, start: Offset, end: Offset, chains: int, index: int) -> list[LostChain]:
        """Return what was given up of a chain that is empty now, in the pieces of those days."""
        found: list[LostChain] = []
        while start < end:
            given_up = [
                (since, layout.segment_of(start).end)
                for since, units, layout in self._gone
                if len(layout.segment_of(start).chains) == chains
                and {*layout.segment_of(start).chains[index]} <= units
                and layout.segment_of(start).chains[index]
            ]
            if not given_up:
                raise RuleBroken(f"chain {index} of [{start}, {end}) is lost, given up by nobody")
            since, until = given_up[0]
            until = end if until is None else min(until, end)
            found.append(LostChain(start, until, chains, index, since))
            start = until
        return found

    # The commands.

    def _start(self, work: Coroutine[object, object, None]) -> asyncio.Task[None]:
        return asyncio.get_running_loop().create_task(work, name="operator")

    async def _run(self) -> None:
        world = self._world
        while not self._ending:
            with contextlib.suppress(UnavailableError):
                await self._cluster.open(_COMMAND_S)
                break
        while not self._ending:
            await asyncio.sleep(self._rng.expovariate(1 / world.options.goal_gap_s))
            self._seen = newest_state(world) or self._seen
            # While no replica has run yet there is nothing to ask for.
            if not self._ending and self._seen is not None:
                await self._kinds[self._rng.choice(world.options.goals)]()

    async def _drain(self) -> None:
        state = self._state()
        units = state.active.units if self._rng.random() < 0.9 else state.registered
        if units:
            await self._ask(self._goal(GoalKind.DRAIN_UNIT, self._rng.choice(units).id))

    async def _replace(self) -> None:
        state = self._state()
        if state.registered:
            old = self._rng.choice(state.active.units).id
            new = self._rng.choice(state.registered).id
            if old != new:
                await self._ask(self._goal(GoalKind.REPLACE_UNIT, old, new))

    async def _add_chain(self) -> None:
        state, width = self._state(), self._world.options.units_per_chain
        spares = [unit.id for unit in state.registered if unit.id not in state.drained]
        # As an operator who has counted: enough units for all chains, also when all is over.
        units = len(self._world.units) - len(state.drained)
        if len(spares) >= width and units >= (state.wanted_chains + 1) * width:
            chosen = self._rng.sample(spares, width)
            await self._ask(self._goal(GoalKind.ADD_CHAIN, *chosen))

    async def _abandon(self) -> None:
        world = self._world
        if self._abandons >= _ABANDONS_MAX:
            return
        layout = self._agreed_layout()
        if layout is None or not layout.open_segment.chains:
            return
        units = self._rng.choice(layout.open_segment.chains)
        if not self._only_whole_chains_go(layout, frozenset(units)):
            return
        self._abandons += 1
        self._gone.append((world.loop.now, frozenset(units), layout))
        world.count("lost chain")
        for id_ in units:
            host = world.units[id_ - 1]
            # The disks are replaced: what comes back is formatted, and another incarnation.
            world.wipe(host)
            if self._rng.random() < 0.5:
                host.start()
        goal = self._goal(GoalKind.ABANDON_CHAIN, *units)
        while True:
            await self._lift_goals_of(frozenset(units))
            reply = await self._answer(goal)
            if reply is not None and reply.accepted and reply.record is not None:
                record = await self._end_of(reply.record.goal.id)
                if record is GoalStatus.DONE:
                    return
            elif reply is not None and "stands in no chain" in reply.reason:
                # The answer to a command before was lost, and it is done.
                return
            await asyncio.sleep(0.5)

    async def _replace_replica(self) -> None:
        world, state = self._world, self._state()
        source = newest_core(world)
        if source is None or len(world.joining) >= _JOINING_MAX:
            return
        old = self._rng.choice(state.replicas).id
        new = world.join_replica(source)
        goal = Goal(GoalId(world.entropy(16)), GoalKind.REPLACE_REPLICA, (), new, old)
        await self._ask(goal)

    async def _transfer(self) -> None:
        to = self._rng.choice(self._state().replicas).id
        message = Transfer(self._cluster.endpoint.new_request(), to)
        deadline = self._cluster.endpoint.now() + _COMMAND_S
        with contextlib.suppress(UnavailableError):
            reply = await self._cluster.ask_leader(message, deadline, "transfer", _COMMAND_S)
            if isinstance(reply, Transferring):
                self._world.count("transfer")

    async def _lift_goals_of(self, units: frozenset[UnitId]) -> None:
        """Lift what a unit is to do that is gone."""
        for record in self._state().goals:
            goal = record.goal
            if record.status is not GoalStatus.ACTIVE or goal.kind is GoalKind.ABANDON_CHAIN:
                continue
            if not units.isdisjoint(goal.units):
                await self._answer(goal, undo=True)

    async def _ask(self, goal: Goal) -> None:
        """Give one command, as people do: perhaps only a dry run, interrupted, again, undone."""
        rng, world = self._rng, self._world
        if rng.random() < 0.2:
            await self._answer(goal, dry_run=True)
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(rng.choice((0.01, 0.5, _COMMAND_S))):
                reply = await self._answer(goal)
                if reply is not None and reply.accepted:
                    world.count(f"goal {goal.kind.name.lower()}")
                if reply is not None and reply.record is not None and rng.random() < 0.5:
                    await self._end_of(reply.record.goal.id)
        if rng.random() < 0.3:
            # The same command once more is another goal id; the leader finds the first one.
            again = replace(goal, id=GoalId(world.entropy(16)))
            await self._answer(again)
        if rng.random() < 0.25:
            await asyncio.sleep(rng.uniform(0, 2))
            reply = await self._answer(goal, undo=True)
            if reply is not None and reply.accepted:
                world.count("goal undone")

    async def _answer(
        self, goal: Goal, *, dry_run: bool = False, undo: bool = False
    ) -> GoalIs | None:
        try:
            reply = await set_goal(self._cluster, goal, _COMMAND_S, dry_run=dry_run, undo=undo)
        except UnavailableError:
            return None
        what = "undo " if undo else "dry run of " if dry_run else ""
        said = "accepted" if reply.accepted else f"refused: {reply.reason}"
        self._world.note("operator", f"{what}{goal}", said)
        return reply

    async def _end_of(self, id_: GoalId) -> GoalStatus | None:
        try:
            record = await watch(self._cluster, id_, lambda status: None, _PATIENCE_S)
        except UnavailableError:
            return None
        return record.status

    async def _make_possible(self) -> None:
        """Lift drains until there are units enough for all chains, now that all have come back."""
        world = self._world
        while True:
            state = self._state()
            units = len(world.units) - len(state.drained)
            if not state.drained or units >= state.wanted_chains * state.wanted_replicas:
                return
            gone = self._rng.choice(state.drained)
            await self._answer(self._goal(GoalKind.DRAIN_UNIT, gone), undo=True)
            await asyncio.sleep(0.25)

    def _goal(self, kind: GoalKind, *units: UnitId) -> Goal:
        return Goal(GoalId(self._world.entropy(16)), kind, units)

    # What it sees.

    def _state(self) -> State:
        self._world.promote()
        self._seen = newest_state(self._world) or self._seen
        assert self._seen is not None
        return self._seen

    def _agreed_layout(self) -> Layout | None:
        """Return the active layout if every replica has it, and none is about to follow."""
        states = self._world.states()
        if len(states) < len(self._world.replicas) or any(state.intent for state in states):
            return None
        if len({state.active.epoch for state in states}) > 1 or not states[0].active.epoch:
            return None
        return states[0].active

    def _only_whole_chains_go(self, layout: Layout, gone: frozenset[UnitId]) -> bool:
        """Tell whether every chain loses all of its units, or keeps one that serves."""
        return all(
            {*chain} <= gone or any(self._serves(layout, id_) for id_ in chain if id_ not in gone)
            for segment in layout.segments
            for chain in segment.chains
        )

    def _serves(self, layout: Layout, id_: UnitId) -> bool:
        host = self._world.units[id_ - 1]
        process = host.process
        if not isinstance(process, UnitProcess) or host.paused or not process.serves:
            return False
        standing = process.core.store.standing
        return standing.served and standing.incarnation == layout.unit(id_).incarnation
