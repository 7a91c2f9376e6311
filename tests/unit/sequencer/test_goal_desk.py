"""Goals from the command to their end, with real units, leaders that die and virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from corfu.client.cluster import Cluster
from corfu.errors import UnavailableError
from corfu.goals import Goal, GoalKind, GoalStatus
from corfu.messages import GoalIs
from corfu.tools.admin.goals import set_goal, watch
from corfu.tools.sim.options import Options
from corfu.tools.sim.world import World
from corfu.types import GoalId, Offset, UnitId
from tests.unit.sequencer.test_leader import client, core, epoch, granting, leader, logged, until

Steps = Callable[[World], Coroutine[Any, Any, None]]


def in_world(steps: Steps, *, spares: int = 2, change_gap_s: float = 1.0) -> None:
    """Run two chains of two units and `steps`; everything that fails in it fails the test."""
    options = Options(chains=2, units_per_chain=2, spares=spares, change_gap_s=change_gap_s)
    world = World(1, options)
    try:
        world.start()
        world.loop.run(steps(world))
        world.check()
    finally:
        world.loop.close()


def goal(number: int, kind: GoalKind, *units: int) -> Goal:
    return Goal(GoalId(number.to_bytes(16)), kind, tuple(UnitId(id_) for id_ in units))


class Admin:
    """One that gives commands, on a machine of its own."""

    def __init__(self, world: World) -> None:
        self._cluster, self._group = world.admin()

    async def open(self) -> None:
        await self._run(self._cluster.open(10.0))

    async def ask(self, wish: Goal, *, dry_run: bool = False, undo: bool = False) -> GoalIs:
        reply: GoalIs = await self._run(
            set_goal(self._cluster, wish, 10.0, dry_run=dry_run, undo=undo)
        )
        return reply

    async def end(self, wish: Goal) -> GoalStatus:
        record = await self._run(watch(self._cluster, wish.id, lambda status: None, 30.0))
        return GoalStatus(record.status)

    async def _run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return await self._group.run(asyncio.ensure_future, work)

    @property
    def cluster(self) -> Cluster:
        return self._cluster


async def admin_of(world: World) -> Admin:
    """Return an admin of a cluster whose spares have registered."""
    admin = Admin(world)
    await admin.open()
    host = await leader(world)
    await until(lambda: len(core(host).state.registered) == world.options.spares)
    return admin


async def entries(world: World, count: int) -> Callable[[], Coroutine[Any, Any, set[bytes]]]:
    """Append so many records; return how to read all that is not lost."""
    log, call = await client(world)
    for number in range(count):
        await call(log.append(b"record %d" % number))

    async def read() -> set[bytes]:
        # A client of its own each time: one that has read a value keeps it, though it is lost now.
        reader, call_reader = await client(world)

        async def scan() -> set[bytes]:
            tail = await reader.tail()
            return {r.data async for r in reader.scan(Offset(0), tail, on_lost="skip")}

        found: set[bytes] = await call_reader(scan())
        return found

    return read


def stands(world: World, id_: int) -> bool:
    host = granting(world)
    assert host is not None
    return id_ in {unit.id for unit in core(host).state.active.units}


KINDS = {
    "drain": goal(1, GoalKind.DRAIN_UNIT, 1),
    "replace": goal(1, GoalKind.REPLACE_UNIT, 4, 6),
    "add": goal(1, GoalKind.ADD_CHAIN, 5, 6),
    "abandon": goal(1, GoalKind.ABANDON_CHAIN, 3, 4),
}


@pytest.mark.parametrize("after_s", [0.0, 0.3, 1.2, 2.0, 3.5])
@pytest.mark.parametrize("kind", KINDS)
def test_goal_is_finished_by_the_next_leader(kind: str, after_s: float) -> None:
    wish = KINDS[kind]

    async def steps(world: World) -> None:
        admin = await admin_of(world)
        read = await entries(world, 40)
        before = await read()
        if kind == "abandon":
            for id_ in wish.units:
                world.units[id_ - 1].cut_power()
            await asyncio.sleep(1.5)
        host = await leader(world)
        reply = await admin.ask(wish)
        assert (reply.accepted, reply.reason) == (True, "")
        await asyncio.sleep(after_s)
        host.kill()
        assert await admin.end(wish) is GoalStatus.DONE
        host.start()
        after = await read()
        if kind == "abandon":
            assert after < before
            assert len(after) == 20
        else:
            assert after == before
        state = core(await leader(world)).state
        listed = {unit.id for unit in state.active.units}
        match wish.kind:
            case GoalKind.DRAIN_UNIT:
                assert 1 not in listed
            case GoalKind.REPLACE_UNIT:
                assert 4 not in listed
                assert 6 in listed
            case GoalKind.ADD_CHAIN:
                assert len(state.active.open_segment.chains) == 3
            case _:
                assert listed == {1, 2, 5, 6}

    in_world(steps)


def test_dry_run_tells_the_plan_and_changes_nothing() -> None:
    async def steps(world: World) -> None:
        admin = await admin_of(world)
        reply = await admin.ask(KINDS["drain"], dry_run=True)
        assert reply.accepted
        assert reply.record is None
        assert reply.steps[0] == "new entries go to 2-5 3-4 instead of 1-2 3-4"
        await asyncio.sleep(5.0)
        state = core(await leader(world)).state
        assert (state.goals, state.drained, state.active.epoch) == ((), (), 1)

    in_world(steps)


def test_command_given_again_finds_the_goal_of_the_first() -> None:
    async def steps(world: World) -> None:
        admin = await admin_of(world)
        first = await admin.ask(KINDS["drain"])
        again = await admin.ask(goal(2, GoalKind.DRAIN_UNIT, 1))
        assert (again.accepted, again.record) == (True, first.record)
        assert await admin.end(KINDS["drain"]) is GoalStatus.DONE
        done = await admin.ask(goal(3, GoalKind.DRAIN_UNIT, 1))
        assert done.record is not None
        assert (done.record.goal.id, done.record.status) == (KINDS["drain"].id, GoalStatus.DONE)
        assert len(core(await leader(world)).state.goals) == 1

    in_world(steps)


@pytest.mark.parametrize("kind", ["add", "abandon"])
def test_command_given_again_when_all_is_done_says_so(kind: str) -> None:
    async def steps(world: World) -> None:
        admin = await admin_of(world)
        wish = KINDS[kind]
        if kind == "abandon":
            for id_ in wish.units:
                world.units[id_ - 1].cut_power()
            await asyncio.sleep(1.5)
        assert (await admin.ask(wish)).accepted
        assert await admin.end(wish) is GoalStatus.DONE
        done = await admin.ask(goal(2, wish.kind, *wish.units))
        assert (done.accepted, done.reason) == (True, "")
        assert done.record is not None
        assert (done.record.goal.id, done.record.status) == (wish.id, GoalStatus.DONE)

    in_world(steps)


def test_drained_unit_comes_back_as_a_spare_that_is_not_used_before_the_undo() -> None:
    async def steps(world: World) -> None:
        admin = await admin_of(world)
        await admin.ask(KINDS["drain"])
        assert await admin.end(KINDS["drain"]) is GoalStatus.DONE
        host = await leader(world)
        await until(lambda: 1 in {unit.id for unit in core(host).state.registered})
        world.units[1].kill()
        await asyncio.sleep(8.0)
        # The one spare is used; unit 1 is there, and is not.
        world.units[2].kill()
        await asyncio.sleep(8.0)
        assert not stands(world, 1)
        reply = await admin.ask(goal(2, GoalKind.DRAIN_UNIT, 1), undo=True)
        assert reply.accepted
        assert reply.record is not None
        assert reply.record.status is GoalStatus.CANCELLED
        await until(lambda: stands(world, 1))

    in_world(steps)


def test_drain_lifted_under_way_leaves_the_unit_where_it_is() -> None:
    async def steps(world: World) -> None:
        admin = await admin_of(world)
        reply = await admin.ask(KINDS["drain"])
        assert reply.accepted
        undone = await admin.ask(KINDS["drain"], undo=True)
        assert undone.accepted
        assert await admin.end(KINDS["drain"]) is GoalStatus.CANCELLED
        await asyncio.sleep(5.0)
        assert stands(world, 1)
        assert epoch(world) == 1

    in_world(steps, change_gap_s=10.0)


def test_drain_without_a_spare_is_refused() -> None:
    async def steps(world: World) -> None:
        admin = await admin_of(world)
        reply = await admin.ask(KINDS["drain"])
        assert not reply.accepted
        assert reply.reason == "no spare is there to take the place of unit 1"
        assert core(await leader(world)).state.goals == ()

    in_world(steps, spares=0)


def test_abandon_of_a_chain_that_answers_is_refused() -> None:
    async def steps(world: World) -> None:
        admin = await admin_of(world)
        world.units[2].kill()
        await asyncio.sleep(0.5)
        reply = await admin.ask(KINDS["abandon"])
        assert not reply.accepted
        assert "answers: nothing to abandon" in reply.reason

    in_world(steps)


def test_abandon_is_called_off_when_a_unit_answers_after_all() -> None:
    async def steps(world: World) -> None:
        admin = await admin_of(world)
        read = await entries(world, 20)
        for host in world.units[2:4]:
            world.network.isolate(host.address)
        await asyncio.sleep(1.5)
        lead = await leader(world)
        # Units 1 and 2 are cut off from everybody, too: no layout can be made meanwhile.
        for host in world.units[:2]:
            world.network.isolate(host.address)
        reply = await admin.ask(KINDS["abandon"])
        assert reply.accepted
        await asyncio.sleep(0.5)
        world.network.rejoin(world.units[2].address)
        await asyncio.sleep(1.0)
        for host in world.units:
            world.network.rejoin(host.address)
        assert await admin.end(KINDS["abandon"]) is GoalStatus.CANCELLED
        assert logged(lead, "is called off: unit 3 answers")
        assert len(await read()) == 20

    in_world(steps, spares=0)


def test_abandon_is_called_off_when_a_unit_answers_before_the_layout_is_active() -> None:
    async def steps(world: World) -> None:
        admin = await admin_of(world)
        read = await entries(world, 20)
        for host in world.units[2:4]:
            world.network.isolate(host.address)
        await asyncio.sleep(1.5)
        lead = await leader(world)
        assert (await admin.ask(KINDS["abandon"])).accepted
        # The intent is chosen, and it takes long to seal its units.
        while core(lead).state.intent is None:  # noqa: ASYNC110 - virtual time, and soon
            await asyncio.sleep(0.0001)
        world.network.isolate(world.units[0].address)
        world.network.rejoin(world.units[2].address)
        await asyncio.sleep(0.6)
        for host in world.units:
            world.network.rejoin(host.address)
        assert await admin.end(KINDS["abandon"]) is GoalStatus.CANCELLED
        assert len(await read()) == 20

    in_world(steps, spares=0)


def test_rebuild_that_lacks_its_source_holds_up_no_other() -> None:
    async def steps(world: World) -> None:
        await admin_of(world)
        await entries(world, 40)
        world.units[1].kill()
        await until(lambda: epoch(world) == 2)
        host = await leader(world)
        # Unit 1 alone has the old entries of its chain now; the spare gets none of them.
        world.network.partition([world.units[0].address], [world.units[4].address])
        await until(lambda: core(host).state.closed_until >= core(host).state.active.first_offset)
        world.units[0].kill()
        await until(lambda: epoch(world) == 3)
        world.units[3].kill()

        def second_chain_is_whole() -> bool:
            layout = core(host).state.active
            chains = [c for s in layout.segments for c in s.chains if 3 in c]
            return layout.epoch > 4 and all(len(chain) == 2 for chain in chains)

        await until(second_chain_is_whole, 60.0)
        assert any(chain == (1,) for s in core(host).state.active.segments for chain in s.chains)

    in_world(steps, spares=3)


def test_goal_that_no_leader_hears_of_may_be_stated_or_not() -> None:
    async def steps(world: World) -> None:
        admin = await admin_of(world)
        for host in world.replicas:
            host.kill()
        with pytest.raises(UnavailableError) as failed:
            await admin.ask(KINDS["drain"])
        assert failed.value.outcome == "unknown"
        with pytest.raises(UnavailableError) as failed:
            await admin.ask(KINDS["drain"], dry_run=True)
        assert failed.value.outcome == "not_applied"

    in_world(steps)
