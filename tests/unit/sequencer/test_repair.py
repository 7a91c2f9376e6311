"""Damage in old entries of a head, repaired by the leader of a cluster in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from corfu.errors import AppendUnknownError, UnavailableError
from corfu.journal.format import journal_name
from corfu.storage_units.index import SERIAL_AT, cell_place
from corfu.storage_units.process import UnitProcess
from corfu.storage_units.store import Store
from corfu.tools.sim.host import Host
from corfu.tools.sim.options import Options
from corfu.tools.sim.world import World
from corfu.types import Offset, State
from tests.unit.sequencer.test_leader import client, core, epoch, leader, until

ENTRIES = 60
AT = Offset(20)


def store(host: Host) -> Store:
    process = host.process
    assert isinstance(process, UnitProcess)
    return process.core.store


def in_world(steps: Callable[[World], Coroutine[Any, Any, None]], units_per_chain: int) -> None:
    """Run `steps` in a cluster that has written and closed some journal files full of entries."""

    async def all_steps(world: World) -> None:
        host = await leader(world)
        log, call = await client(world)
        for number in range(ENTRIES):
            await call(log.append(b"%04d" % number * 200))
        await until(lambda: core(host).state.closed_until >= ENTRIES)
        # Until the units have heard it, too.
        await asyncio.sleep(1.0)
        await steps(world)

    options = Options(chains=1, units_per_chain=units_per_chain, unit_journal_bytes=16384)
    world = World(1, options)
    try:
        world.start()
        world.loop.run(all_steps(world))
        world.check()
    finally:
        world.loop.close()


def states(host: Host) -> set[State]:
    held = store(host)
    return {held.state_at_head(Offset(offset)) for offset in range(ENTRIES)}


def test_head_that_lost_a_whole_old_file_gets_its_entries_back() -> None:
    async def steps(world: World) -> None:
        head = world.units[0]
        serial = store(head).index.get(AT) >> SERIAL_AT
        assert serial in store(head).journal.live
        before = epoch(world)
        head.kill()
        head.disk.remove(journal_name(serial))
        head.start()
        await until(lambda: epoch(world) > before)
        await until(lambda: states(head) == {State.DATA})

    in_world(steps, 2)


def test_head_is_repaired_from_another_unit_if_the_first_ones_copy_is_bad() -> None:
    async def steps(world: World) -> None:
        for unit in world.units[:2]:
            held = store(unit)
            place = cell_place(held.index.get(AT))
            unit.disk.flip(journal_name(place.serial), place.position + 100, 1)
            # The name is known and the entry is not in memory: only a read shows the damage.
            entry = held.memory._cache.pop(AT)
            held.memory.remember(AT, entry.name)
        head = store(world.units[0])
        head.mark_damaged(AT, head.index.get(AT), None)
        await until(lambda: states(world.units[0]) == {State.DATA}, 30.0)

    in_world(steps, 3)


def test_trim_that_cannot_be_closed_first_frees_what_is_closed() -> None:
    async def steps(world: World) -> None:
        host = await leader(world)
        log, call = await client(world)
        world.network.partition([world.units[0].address], [world.units[1].address])
        # All within the time before the broken link costs the chain a unit.
        with pytest.raises(AppendUnknownError):
            await call(log.append(b"half-written", timeout=0.3))
        tail = core(host).tail
        assert tail is not None
        with pytest.raises(UnavailableError):
            await call(log.trim(tail, timeout=0.4))
        closed = core(host).state.closed_until
        assert ENTRIES <= closed < tail
        assert core(host).state.trim_mark == closed
        await until(lambda: all(store(u).standing.trim_mark == closed for u in world.units))

    in_world(steps, 2)
