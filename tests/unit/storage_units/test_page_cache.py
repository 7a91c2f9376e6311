"""Sync mode `os`: what a folder is worth after a stop of the process, or of its machine."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from corfu.messages import (
    Probe,
    Write,
    Written,
)
from corfu.ports import UnansweredError
from corfu.storage_units.identity import (
    FolderError,
    LeftError,
    read_identity,
    write_identity,
)
from corfu.storage_units.registration import unclaimed
from corfu.tools.sim.disk import SimDisk
from corfu.types import Address, Epoch, Offset, State, SyncMode
from tests.unit.storage_units.process_bench import (
    ONE,
    OWN,
    SETTINGS,
    Machine,
    close_loops,
    formatted,
)
from tests.unit.storage_units.unit_bench import (
    Bench,
    entry_id,
)

_close_loops = pytest.fixture(autouse=True)(close_loops)


def stopped_uncleanly() -> SimDisk:
    """Return the folder of a unit that held an entry when its machine lost power."""
    disk = formatted(SyncMode.OS)
    machine = Machine(disk, "boot-1")

    async def serve() -> None:
        machine.process.start()
        await machine.epoch(replace(ONE, sync=SyncMode.OS))
        message = Write(
            machine.new_request(), Epoch(1), Offset(0), entry_id(1), Offset(9), b"hello"
        )
        assert isinstance(await machine.ask(message), Written)
        machine.process.kill()

    machine.loop.run(serve())
    machine.worker.stop()
    disk.kill()
    return disk


def run_waiting(machine: Machine, seconds: float) -> None:
    """Run a process that may not serve, and ask it what it must not answer."""

    async def wait() -> None:
        machine.process.start()
        assert not machine.process.serves
        seal = replace(Bench(1).seal_message(2), request=machine.new_request())
        probe = Probe(
            machine.new_request(), OWN.id, OWN.incarnation, Offset(0), Offset(0), Offset(0)
        )
        for message in (seal, probe):
            with pytest.raises(UnansweredError):
                await machine.ask(message)
        await machine.replica.sleep(seconds)

    machine.loop.run(wait())


def test_os_mode_after_kill_under_the_same_boot_serves() -> None:
    machine = Machine(stopped_uncleanly(), "boot-1")

    async def look() -> None:
        machine.process.start()
        machine.process.kill()

    machine.loop.run(look())
    assert machine.process.core.store.local_tail == 1


def test_os_mode_after_unclean_stop_under_another_boot_serves_nothing_and_keeps_asking() -> None:
    disk = stopped_uncleanly()
    before = disk.copy()
    for boot in ("boot-2", "boot-2", "boot-3"):
        machine = Machine(disk, boot)
        run_waiting(machine, 20.0)
        assert set(machine.fake.registered) == {OWN}
        assert len(machine.fake.registered) > 5
        (line,) = machine.lines
        assert "--sync os" in line
        machine.loop.run(machine.process.drain())
        machine.worker.stop()
        # Nothing, not even a clean stop, makes it the incarnation that it was.
        assert disk.copy() == before
        assert (machine.failures, machine.reborn) == ([], [])


def test_os_mode_waiting_unit_comes_back_as_a_new_incarnation_once_dropped() -> None:
    disk = stopped_uncleanly()
    machine = Machine(disk, "boot-2")
    machine.fake.left, machine.fake.bound = True, Offset(1)
    run_waiting(machine, 0.0)
    machine.worker.stop()
    assert machine.failures == []
    (reborn,) = machine.reborn
    assert [(e.incarnation, e.bound) for e in reborn.earlier] == [(OWN.incarnation, 1)]
    again = Machine(disk, "boot-2")

    async def look() -> None:
        again.process.start()
        assert again.process.core.store.state(Offset(0)) is State.DATA
        assert again.process.core.store.standing.incarnation == reborn.incarnation
        again.process.kill()

    again.loop.run(look())


def test_os_mode_waiting_spare_comes_back_with_nothing_once_a_majority_does_not_know_it() -> None:
    disk = formatted(SyncMode.OS)
    write_identity(disk, replace(read_identity(disk), boot_id="boot-1", clean=False))
    machine = Machine(disk, "boot-2")
    machine.fake.member = False
    run_waiting(machine, 0.0)
    (reborn,) = machine.reborn
    assert [(e.incarnation, e.bound) for e in reborn.earlier] == [(OWN.incarnation, 0)]


def test_os_mode_waiting_unit_that_left_without_a_bound_ends() -> None:
    machine = Machine(stopped_uncleanly(), "boot-2")
    machine.fake.left = True
    run_waiting(machine, 0.0)
    (error,) = machine.failures
    assert isinstance(error, LeftError)
    assert machine.reborn == []


def test_os_mode_waiting_unit_that_is_never_dropped_alarms_once() -> None:
    machine = Machine(stopped_uncleanly(), "boot-2")
    run_waiting(machine, 300.0)
    assert [line for line in machine.lines if "ALARM" in line] == [machine.lines[-1]]
    assert "corfu chain abandon" in machine.lines[-1]
    assert machine.reborn == []


def test_os_mode_without_sequencers_to_ask_is_refused() -> None:
    machine = Machine(stopped_uncleanly(), "boot-2", settings=replace(SETTINGS, sequencers=()))
    with pytest.raises(FolderError, match="--sequencers"):
        machine.process.start()


def test_unclaimed_takes_a_majority_and_nobody_who_lists_the_unit() -> None:
    one, two, three = (Address("10.0.0.1", port) for port in (1, 2, 3))
    assert not unclaimed({}, 3)
    assert not unclaimed({one: False}, 3)
    assert unclaimed({one: False, two: False}, 3)
    assert not unclaimed({one: False, two: False, three: True}, 3)
    assert unclaimed({one: False}, 1)


def test_os_mode_after_clean_stop_starts_under_another_boot_with_everything() -> None:
    disk = formatted(SyncMode.OS)
    machine = Machine(disk, "boot-1")

    async def serve() -> None:
        machine.process.start()
        await machine.epoch(replace(ONE, sync=SyncMode.OS))
        message = Write(
            machine.new_request(), Epoch(1), Offset(0), entry_id(1), Offset(9), b"hello"
        )
        assert isinstance(await machine.ask(message), Written)
        await machine.process.drain()

    machine.loop.run(serve())
    disk.power_cut(random.Random(5))
    again = Machine(disk, "boot-2")

    async def look() -> None:
        again.process.start()
        again.process.kill()

    again.loop.run(look())
    assert again.process.core.store.local_tail == 1
