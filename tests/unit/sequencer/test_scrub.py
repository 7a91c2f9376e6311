"""Rot on any unit's disk, found by a scrub and healed without a reader, in virtual time."""

from __future__ import annotations

import pytest

from corfu.effects import Effect
from corfu.errors import LostError
from corfu.journal.format import journal_name
from corfu.messages import Inspect, Scrub, ScrubIs
from corfu.storage_units.index import SERIAL_AT, cell_place
from corfu.storage_units.process import UnitProcess
from corfu.storage_units.repair import Repair
from corfu.tools.sim.host import Host
from corfu.tools.sim.world import World
from corfu.types import Address, Offset, State
from tests.unit.sequencer.test_leader import client, core, epoch, leader, until
from tests.unit.sequencer.test_repair import AT, ENTRIES, in_world, states, store


def rot(host: Host, offset: Offset, at: int = 100) -> None:
    """Flip a bit in the record of an offset; nothing of it stays in memory."""
    held = store(host)
    place = cell_place(held.index.get(offset))
    host.disk.flip(journal_name(place.serial), place.position + at, 1)
    held.memory._cache.pop(offset, None)


async def scrub(world: World, host: Host) -> ScrubIs:
    """Have a unit look at all that it holds; returns its word when the pass has ended."""
    _log, driver, _group = world.client()
    driver.link.cluster = world.cluster
    process = host.process
    assert isinstance(process, UnitProcess)
    own = process.identity

    async def ask(*, start: bool) -> ScrubIs:
        message = Scrub(driver.new_request(), own.unit, own.incarnation, start)
        answer = await driver.ask(host.address, message, 5.0)
        assert isinstance(answer, ScrubIs)
        return answer

    first = await ask(start=True)
    told = first
    while told.running or told.passes == first.passes:
        told = await ask(start=False)
    return told


@pytest.mark.parametrize("place", [0, 1, 2])
def test_rotten_record_at_each_place_of_the_chain_is_healed_in_the_same_epoch(place: int) -> None:
    async def steps(world: World) -> None:
        host = world.units[place]
        before = epoch(world)
        for offset in (AT, Offset(AT + 5), Offset(ENTRIES - 1)):
            # The body, whose header still names it; the other two places need no flip.
            rot(host, offset)
        # Names below closed_until are not kept: the head copies by the header's word.
        told = await scrub(world, host)
        assert told.damaged == 3
        await until(lambda: store(host).suspicion.repaired == 3)
        assert states(host) == {State.DATA}
        assert epoch(world) == before
        again = await scrub(world, host)
        assert (again.damaged, again.left, again.doubt) == (3, 0, False)
        assert again.bytes_done == again.bytes_total > 0

    in_world(steps, 3)


@pytest.mark.parametrize("place", [0, 1, 2])
def test_record_whose_header_is_rotten_is_healed_at_each_place(place: int) -> None:
    async def steps(world: World) -> None:
        host = world.units[place]
        rot(host, AT, at=20)
        told = await scrub(world, host)
        assert told.damaged == 1
        await until(lambda: states(host) == {State.DATA}, 30.0)
        assert store(host).suspicion.repaired == 1
        assert any("is damaged at byte" in line for line in host.log)

    in_world(steps, 3)


def test_old_damage_of_a_head_is_settled_without_looking_at_all_that_is_old(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def steps(world: World) -> None:
        looked_at: set[int] = set()
        inspect = Repair.inspect

        def counted(self: Repair, message: Inspect, sender: Address) -> list[Effect]:
            looked_at.update(range(message.start, message.end))
            return inspect(self, message, sender)

        head = world.units[0]
        for offset in (AT, AT + 1, AT + 20):
            rot(head, Offset(offset), at=20)
        monkeypatch.setattr(Repair, "inspect", counted)
        told = await scrub(world, head)
        assert told.damaged == 3
        await until(lambda: states(head) == {State.DATA}, 30.0)
        old = {offset for offset in looked_at if offset < ENTRIES}
        assert old == {AT, AT + 1, AT + 20}

    in_world(steps, 2)


@pytest.mark.parametrize("place", [0, 1, 2])
def test_deleted_journal_file_is_found_by_the_scrub_and_its_entries_come_back(place: int) -> None:
    async def steps(world: World) -> None:
        host = world.units[place]
        serial = store(host).index.get(AT) >> SERIAL_AT
        host.disk.remove(journal_name(serial))
        store(host).memory._cache.clear()
        told = await scrub(world, host)
        assert told.damaged > 3
        await until(lambda: states(host) == {State.DATA}, 30.0)

    in_world(steps, 3)


@pytest.mark.parametrize("place", [0, 1, 2])
def test_journal_file_deleted_while_the_unit_is_down_comes_back_without_a_reader(
    place: int,
) -> None:
    async def steps(world: World) -> None:
        host = world.units[place]
        serial = store(host).index.get(AT) >> SERIAL_AT
        host.kill()
        host.disk.remove(journal_name(serial))
        host.start()
        await until(lambda: states(host) == {State.DATA}, 30.0)
        assert any(f"{journal_name(serial)} is missing" in line for line in host.log)

    in_world(steps, 3)


def test_entry_rotten_at_every_unit_is_lost_and_readers_step_over_it() -> None:
    async def steps(world: World) -> None:
        chain = world.units[:2]
        for unit in chain:
            rot(unit, AT)
        for unit in chain:
            await scrub(world, unit)
        await until(lambda: all(store(unit).standing.is_lost(AT) for unit in chain), 30.0)
        log, call = await client(world)
        with pytest.raises(LostError):
            await call(log.read(AT))
        for unit in chain:
            assert states(unit) == {State.DATA, State.LOST}
        # It is settled: neither a scrub nor a restart brings it up again.
        told = await scrub(world, world.units[0])
        assert told.left == 0
        before = epoch(world)
        world.units[0].kill()
        world.units[0].start()
        await until(lambda: epoch(world) > before)
        await until(lambda: store(world.units[0]).standing.serving)
        assert not store(world.units[0]).suspicion.named

    in_world(steps, 2)


def test_entry_rotten_in_a_chain_of_one_is_lost_unless_it_is_still_in_memory() -> None:
    async def steps(world: World) -> None:
        host = world.units[0]
        held = store(host)
        recent = Offset(ENTRIES - 1)
        entry = held.memory.held(recent)
        assert entry is not None
        rot(host, recent)
        held.memory._cache[recent] = entry
        rot(host, AT)
        told = await scrub(world, host)
        assert (told.damaged, told.repaired) == (2, 1)
        await until(lambda: store(host).standing.is_lost(AT), 30.0)
        state = core(await leader(world)).state
        assert [tuple(lost) for lost in state.lost] == [(AT, AT + 1)]

    in_world(steps, 1)


def test_damage_is_found_by_the_background_pass_without_anybody_asking() -> None:
    async def steps(world: World) -> None:
        host = world.units[1]
        rot(host, AT)
        await until(lambda: store(host).suspicion.repaired == 1, 120.0)

    in_world(steps, 2)
