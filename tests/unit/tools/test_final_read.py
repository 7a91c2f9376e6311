"""The log read whole, and compared with what every unit holds."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import replace
from pathlib import Path

import pytest

import corfu
from corfu.client.log import LogClient
from corfu.runtime.driver import Driver
from corfu.tools.final_read import FinalLogError, compare_units, read_whole
from corfu.tools.records import make_record
from corfu.tools.sim.options import Options
from corfu.tools.sim.world import World
from corfu.types import Offset


async def test_read_whole_finds_entries_junk_and_the_trim_mark(tmp_path: Path) -> None:
    records = [make_record("c1", number, 30)[1] for number in range(5)]
    async with corfu.local(tmp_path / "log") as log:
        for record in records[:3]:
            await log.append(record)
        await log.append_many(records[3:])
        await log.trim(1)
        final = await read_whole(log)
    assert final.tail == 4
    assert final.trimmed_below == 1
    assert final.entries == {1: ("c1-1",), 2: ("c1-2",), 3: ("c1-3", "c1-4")}
    assert final.junk == frozenset()
    assert final.lost == ()


def _in_world(steps: Callable[[World, LogClient, Driver], Coroutine[object, object, None]]) -> None:
    world = World(1, Options(chains=1, units_per_chain=2, spares=0))

    async def run() -> None:
        log, driver, _group = world.client()
        await log.open()
        for number in range(4):
            await log.append(make_record("c1", number, 30)[1])
        await steps(world, log, driver)
        await log.close()

    try:
        world.start()
        world.loop.run(run())
    finally:
        world.loop.close()


def test_compare_units_that_hold_what_the_log_showed_says_nothing() -> None:
    async def steps(world: World, log: LogClient, driver: Driver) -> None:
        await compare_units(driver, world.states()[0].active, await read_whole(log))

    _in_world(steps)


def test_compare_units_finds_one_that_holds_something_else() -> None:
    async def steps(world: World, log: LogClient, driver: Driver) -> None:
        final = await read_whole(log)
        some = next(iter(final.entries))
        entries = {offset: keys for offset, keys in final.entries.items() if offset != some}
        other = replace(final, entries=entries, junk=final.junk | {some})
        with pytest.raises(FinalLogError, match=f"unit 1 has DATA at {some}, not JUNK"):
            await compare_units(driver, world.states()[0].active, other)
        more = replace(final, tail=Offset(final.tail + 1), junk=final.junk | {final.tail})
        with pytest.raises(FinalLogError, match=f"has EMPTY at {final.tail}, not JUNK"):
            await compare_units(driver, world.states()[0].active, more)

    _in_world(steps)


def test_compare_units_finds_one_that_does_not_answer() -> None:
    async def steps(world: World, log: LogClient, driver: Driver) -> None:
        final = await read_whole(log)
        world.units[1].kill()
        with pytest.raises(FinalLogError, match="does not say what it holds"):
            await compare_units(driver, world.states()[0].active, final)

    _in_world(steps)
