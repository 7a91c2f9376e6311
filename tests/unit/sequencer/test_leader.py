"""The procedures of a leading term, with real storage units in the simulator's virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from corfu.client.log import LogClient
from corfu.messages import Trim, TrimReached
from corfu.ports import UnansweredError
from corfu.sequencer.process import ReplicaProcess
from corfu.sequencer.replica import Replica
from corfu.storage_units.process import UnitProcess, format_unit
from corfu.storage_units.unit import StorageUnit
from corfu.tools.sim.host import Host
from corfu.tools.sim.options import Options
from corfu.tools.sim.world import World
from corfu.types import Address, Epoch, Incarnation, Offset, Position, State, SyncMode, UnitId


def in_world(
    steps: Callable[[World], Coroutine[Any, Any, None]],
    *,
    chains: int = 1,
    units_per_chain: int = 2,
    seed: int = 1,
    window_offsets_min: int = 32,
) -> None:
    """Run a cluster and `steps`; everything that fails in it fails the test."""
    options = Options(
        chains=chains, units_per_chain=units_per_chain, window_offsets_min=window_offsets_min
    )
    world = World(seed, options)
    try:
        world.start()
        world.loop.run(steps(world))
        world.check()
    finally:
        world.loop.close()


def core(host: Host) -> Replica:
    process = host.process
    assert isinstance(process, ReplicaProcess)
    return process.core


async def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - virtual time: a poll costs nothing
            await asyncio.sleep(0.01)


def granting(world: World) -> Host | None:
    found = [h for h in world.replicas if h.running and core(h).tail is not None]
    return max(found, key=lambda host: core(host).ballot) if found else None


async def leader(world: World) -> Host:
    await until(lambda: granting(world) is not None)
    host = granting(world)
    assert host is not None
    return host


def epoch(world: World) -> Epoch:
    return max(core(host).state.active.epoch for host in world.replicas if host.running)


def last_epoch(world: World) -> Epoch:
    return max(core(host).state.last_epoch for host in world.replicas if host.running)


def full_width(world: World) -> bool:
    """Tell whether every chain of every segment has two units again."""
    host = granting(world)
    if host is None or core(host).state.intent is not None:
        return False
    segments = core(host).state.active.segments
    chains = [chain for segment in segments for chain in segment.chains]
    return bool(segments[-1].chains) and all(len(chain) == 2 for chain in chains)


async def client(world: World) -> tuple[LogClient, Callable[..., asyncio.Task[Any]]]:
    """Return a client, and how its calls are run: inside its own simulated process."""
    log, _, group = world.client()

    def call(coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        return group.run(asyncio.ensure_future, coroutine)

    await call(log.open())
    return log, call


def logged(host: Host, text: str) -> bool:
    return any(text in line for line in host.log)


def test_term_makes_one_epoch_and_closes_what_the_last_window_left() -> None:
    async def steps(world: World) -> None:
        first = await leader(world)
        reserved = core(first).state.reserved_until
        assert reserved > 0
        first.kill()
        second = await leader(world)
        assert core(second).state.active.first_offset == reserved
        await until(lambda: core(second).state.closed_until == reserved)
        assert (epoch(world), last_epoch(world)) == (2, 2)

    in_world(steps, chains=2)


def unit(host: Host) -> StorageUnit:
    process = host.process
    assert isinstance(process, UnitProcess)
    return process.core


def test_window_left_unused_becomes_one_record_of_junk_on_each_unit() -> None:
    """A failover costs as many records as chains, however many offsets were reserved."""

    async def steps(world: World) -> None:
        first = await leader(world)
        log, call = await client(world)
        await call(log.append(b"x"))
        tail = core(first).tail
        assert tail is not None
        first.kill()
        second = await leader(world)
        reserved = core(second).state.active.first_offset
        assert reserved - tail > 7000
        await until(lambda: core(second).state.closed_until >= reserved)
        for host in world.units[:4]:
            index = unit(host).store.index
            cells = {index.get(offset) for offset in range(tail, reserved)} - {0}
            assert len(cells) == 1

    in_world(steps, chains=2, window_offsets_min=8000)


def test_offset_that_only_the_head_holds_is_read_with_no_wait_when_its_writer_is_dead() -> None:
    async def steps(world: World) -> None:
        host = await leader(world)
        head, second = world.units[0], world.units[1]
        log, call = await client(world)
        position = await call(log.append(b"whole"))
        await until(lambda: core(host).state.closed_until > position.offset)
        writer, _, group = world.client()
        await group.run(asyncio.ensure_future, writer.open())
        # The writer dies between head and second unit: nobody will ever repeat its Write.
        world.network.block([head.address], [second.address])
        offset = core(host).tail
        assert offset is not None
        group.run(asyncio.ensure_future, writer.append(b"half"))
        await until(lambda: unit(head).store.state(offset) is State.DATA, 0.2)
        group.kill()
        assert unit(second).store.state(offset) is State.EMPTY
        world.network.unblock([head.address], [second.address])
        began = world.loop.time()
        record = await call(log.read(Position(offset, 0)))
        assert record.data == b"half"
        # No hole_timeout (0.25 s), and sooner than the leader's sweep (1 s).
        assert world.loop.time() - began < 0.1

    in_world(steps, units_per_chain=3)


def test_unit_out_of_reach_is_replaced_and_comes_back_as_a_new_incarnation() -> None:
    async def steps(world: World) -> None:
        first = await leader(world)
        before = core(first).state.active.units[1]
        await asyncio.sleep(1.0)
        world.units[1].kill()
        first.kill()
        await until(lambda: epoch(world) >= 2)
        host = await leader(world)
        assert before not in core(host).state.active.units
        # A spare takes its place, and it is a spare itself when it is back.
        await until(lambda: full_width(world), 60.0)
        world.units[1].start()

        def back() -> bool:
            state = core(host).state
            known = (*state.active.units, *state.registered)
            return any(u.id == before.id and u.incarnation != before.incarnation for u in known)

        await until(back, 30.0)

    in_world(steps)


def test_unit_restarted_gets_a_new_epoch_of_the_same_chains_at_once() -> None:
    async def steps(world: World) -> None:
        host = await leader(world)
        chains = core(host).state.active.open_segment.chains
        await asyncio.sleep(1.0)
        world.units[0].kill()
        world.units[0].start()
        await until(lambda: epoch(world) == 2, 1.5)
        await asyncio.sleep(5.0)
        assert last_epoch(world) == 2
        assert core(host).state.active.open_segment.chains == chains
        assert core(host).tail is not None

    in_world(steps)


def test_unit_whose_folder_is_put_back_as_it_was_before_its_first_epoch_is_left_out() -> None:
    """To itself it is new, and tells of no restart; but it serves nothing of its epoch."""

    async def steps(world: World) -> None:
        victim = world.units[0]
        fresh = victim.disk.copy()
        await leader(world)
        incarnation = unit(victim).store.standing.incarnation
        await asyncio.sleep(1.0)
        victim.kill()
        victim.disk.restore(fresh)
        world.count("restore")
        victim.start()

        # It comes back as a new incarnation, which knows what it may still hold.
        def reborn() -> bool:
            return victim.running and unit(victim).store.standing.incarnation != incarnation

        await until(reborn, 5.0)

    in_world(steps, units_per_chain=3)


def test_units_restarted_one_after_the_other_each_get_their_epoch_at_once() -> None:
    async def steps(world: World) -> None:
        await leader(world)
        for unit in world.units[:6]:
            await asyncio.sleep(0.5)
            before = epoch(world)
            unit.kill()
            unit.start()
            async with asyncio.timeout(1.0):
                while epoch(world) == before:  # noqa: ASYNC110 - virtual time
                    await asyncio.sleep(0.01)

    in_world(steps, chains=2, units_per_chain=3)


def test_unit_in_a_crash_loop_does_not_make_an_epoch_each_time() -> None:
    async def steps(world: World) -> None:
        await leader(world)
        for _ in range(30):
            world.units[0].kill()
            world.units[0].start()
            await asyncio.sleep(0.5)
        assert last_epoch(world) < 14

    in_world(steps)


def test_unit_wiped_is_never_sealed_as_it_was_and_is_rebuilt() -> None:
    async def steps(world: World) -> None:
        host = await leader(world)
        unit = core(host).state.active.units[0]
        log, call = await client(world)
        position = await call(log.append(b"acknowledged"))
        victim = world.units[0]
        victim.kill()
        victim.disk.wipe()
        format_unit(
            victim.disk,
            cluster=world.cluster,
            unit=unit.id,
            incarnation=unit.incarnation,
            sync=SyncMode.ALWAYS,
            settings=world._unit_settings(),
        )
        victim.start()
        host.kill()
        await until(lambda: any(logged(h, "LOST_STATE") for h in world.replicas))
        await until(lambda: full_width(world), 60.0)
        again = await leader(world)
        assert unit not in core(again).state.active.units
        assert (await call(log.read(position))).data == b"acknowledged"

    in_world(steps)


def test_unit_formatted_anew_is_not_sealed_in_place_of_the_old_one() -> None:
    async def steps(world: World) -> None:
        host = await leader(world)
        old = core(host).state.active.units[0]
        await asyncio.sleep(1.0)
        victim = world.units[0]
        victim.kill()
        victim.disk.wipe()
        format_unit(
            victim.disk,
            cluster=world.cluster,
            unit=UnitId(1),
            incarnation=Incarnation(world.entropy(16)),
            sync=SyncMode.ALWAYS,
            settings=world._unit_settings(),
        )
        victim.start()
        host.kill()
        await until(lambda: full_width(world), 60.0)
        assert old not in core(await leader(world)).state.active.units

    in_world(steps)


def test_leader_that_cannot_reach_units_which_others_reach_hands_over() -> None:
    async def steps(world: World) -> None:
        first = await leader(world)
        await asyncio.sleep(0.5)
        addresses = [unit.address for unit in world.units]
        world.network.partition([first.address], addresses)
        first.kill()
        first.start()
        await asyncio.sleep(10.0)
        host = await leader(world)
        assert host is not first

    in_world(steps)


def test_trim_closes_trims_every_unit_and_says_where_it_ended() -> None:
    async def steps(world: World) -> None:
        host = await leader(world)
        log, call = await client(world)
        for number in range(20):
            await call(log.append(b"%d" % number))
        assert await call(log.trim(Offset(12))) == 12
        assert core(host).state.trim_mark == 12
        assert core(host).state.closed_until >= 12
        # No further than the tail.
        tail = core(host).tail
        assert await call(log.trim(Offset(10**6))) == tail

    in_world(steps, chains=2)


def test_trim_that_counts_tells_what_the_units_have_freed() -> None:
    async def steps(world: World) -> None:
        await leader(world)
        log, call = await client(world)
        for _ in range(4):
            await asyncio.gather(*(call(log.append(bytes(100_000))) for _ in range(5)))
        tail = await call(log.tail())
        told = await call(log.trim_counting(tail))
        assert (told.mark_before, told.mark, told.units) == (0, tail, 2)
        # Two units held 2 MB each, in files of 512 KiB, of which they keep the last.
        assert told.freed_files >= 2 * 3
        assert told.freed_bytes == told.freed_files * world.options.unit_journal_bytes
        assert not told.at_least
        again = await call(log.trim_counting(tail))
        assert (again.mark_before, again.mark, again.freed_files) == (tail, tail, 0)

    in_world(steps)


def test_trim_whose_answer_was_lost_is_told_the_same_again() -> None:
    async def steps(world: World) -> None:
        host = await leader(world)
        log, call = await client(world)
        for _ in range(4):
            await asyncio.gather(*(call(log.append(bytes(100_000))) for _ in range(5)))
        tail = await call(log.tail())
        other, driver, group = world.client()
        await group.run(asyncio.ensure_future, other.open())
        # Nothing comes back, and the client gives up and asks once more, as the same request.
        address = Address("10.0.3.2", 7000)
        request = Trim(driver.new_request(), tail, count_freed=True)
        world.network.block([host.address], [address])
        with pytest.raises(UnansweredError):
            await group.run(asyncio.ensure_future, driver.ask(host.address, request, 5.0))
        world.network.heal()
        assert core(host).state.trim_mark == tail
        told = await group.run(asyncio.ensure_future, driver.ask(host.address, request, 5.0))
        assert isinstance(told, TrimReached)
        assert (told.mark_before, told.mark, told.at_least) == (0, tail, False)
        assert told.freed_files >= 2 * 3

    in_world(steps)


def test_trim_that_counts_waits_for_no_unit_that_is_dropped() -> None:
    async def steps(world: World) -> None:
        host = await leader(world)
        log, call = await client(world)
        for _ in range(4):
            await asyncio.gather(*(call(log.append(bytes(100_000))) for _ in range(5)))
        tail = await call(log.tail())
        world.units[1].kill()
        told = await call(log.trim_counting(tail, timeout=20.0))
        assert told.mark == tail
        # The spare took its place, and what that had freed by then nobody asked.
        assert (told.units, told.freed_files >= 2 * 3, told.at_least) == (3, True, True)
        assert UnitId(2) not in {unit.id for unit in core(host).state.active.units}
        world.units[1].start()

    in_world(steps, units_per_chain=3)


def test_holes_are_swept_without_a_reader() -> None:
    async def steps(world: World) -> None:
        host = await leader(world)
        log, call = await client(world)
        position = await call(log.append(b"x"))
        assert isinstance(position, Position)
        await until(lambda: core(host).state.closed_until > position.offset, 5.0)
        assert core(host).state.closed_until == core(host).tail

    in_world(steps)


@pytest.mark.parametrize("units_per_chain", [1, 2, 3])
def test_power_cut_everywhere_leaves_no_doubt_and_loses_nothing(units_per_chain: int) -> None:
    async def steps(world: World) -> None:
        await leader(world)
        log, call = await client(world)
        acknowledged: list[Position] = []
        for _ in range(4):
            writes = [call(log.append(b"r%d" % n)) for n in range(8)]
            acknowledged += [await write for write in writes[:4]]
            for host in world.hosts:
                host.cut_power()
            for host in world.hosts:
                host.start()
            await leader(world)
            await asyncio.gather(*writes[4:])
        await asyncio.sleep(3.0)
        for position in acknowledged:
            assert await call(log.read(position))
        for host in world.replicas:
            assert core(host).state.lost == ()
            for unit in core(host).state.active.units:
                seen = core(host).views.seen(unit)
                assert seen is not None
                assert not seen.probed.doubt

    in_world(steps, units_per_chain=units_per_chain)


def test_process_drained_and_started_again_is_in_no_doubt() -> None:
    async def steps(world: World) -> None:
        await leader(world)
        host = world.replicas[0]
        process = host.process
        assert process is not None
        assert host.group is not None
        await host.group.run(asyncio.ensure_future, process.drain())
        host.kill()
        host.start()
        assert core(host).group.doubt.name == "NONE"

    in_world(steps)
