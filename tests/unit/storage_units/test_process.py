"""The identity file, formatting, and the process over simulated ports."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace

import pytest

from corfu.errors import CorfuError, CorruptionError
from corfu.messages import (
    Probe,
    Probed,
    Write,
    Written,
)
from corfu.storage_units.identity import (
    FolderError,
    LeftError,
    read_identity,
    write_identity,
)
from corfu.storage_units.process import format_unit
from corfu.tools.sim.disk import SimDisk
from corfu.types import Address, ClusterId, Epoch, Offset, State, SyncMode
from tests.unit.storage_units.process_bench import (
    OWN,
    SETTINGS,
    Machine,
    close_loops,
    formatted,
)
from tests.unit.storage_units.unit_bench import (
    CLUSTER,
    LEADER,
    entry_id,
)

_close_loops = pytest.fixture(autouse=True)(close_loops)


def test_process_serves_registers_and_keeps_what_it_acknowledged() -> None:
    disk = formatted()
    machine = Machine(disk)

    async def serve() -> None:
        machine.process.start()
        await machine.epoch()
        message = Write(
            machine.new_request(), Epoch(1), Offset(0), entry_id(1), Offset(9), b"hello"
        )
        assert isinstance(await machine.ask(message), Written)
        await machine.replica.sleep(1.0)
        machine.process.kill()
        machine.worker.stop()

    machine.loop.run(serve())
    assert machine.fake.registered == [OWN]
    disk.power_cut(random.Random(3))
    again = Machine(disk)

    async def look() -> None:
        again.process.start()
        probe = Probe(again.new_request(), OWN.id, OWN.incarnation, Offset(0), Offset(0), Offset(0))
        probed = await again.ask(probe)
        assert isinstance(probed, Probed)
        assert (probed.local_tail, probed.restarted) == (1, True)
        await again.process.drain()

    again.loop.run(look())


def test_process_at_another_address_than_the_layout_says_tells_the_operator() -> None:
    machine = Machine(formatted())
    machine.fake.differs = True

    async def serve() -> None:
        machine.process.start()
        await machine.replica.sleep(1.0)
        machine.process.kill()

    machine.loop.run(serve())
    assert len(machine.lines) == 1
    assert "elsewhere" in machine.lines[0]


def test_process_left_out_while_it_was_stopped_becomes_a_new_incarnation() -> None:
    disk = formatted()
    machine = Machine(disk)

    async def serve() -> None:
        machine.process.start()
        await machine.epoch()
        for number in range(3):
            token = (machine.new_request(), Epoch(1), Offset(number))
            written = await machine.ask(Write(*token, entry_id(1 + number), Offset(9), b"hello"))
            assert isinstance(written, Written)
        # No replica probes it any more: that makes it ask.
        machine.fake.left, machine.fake.bound = True, Offset(2)
        await machine.replica.sleep(5.0)

    machine.loop.run(serve())
    machine.worker.stop()
    assert machine.failures == []
    (reborn,) = machine.reborn
    assert reborn.incarnation != OWN.incarnation
    assert [(e.incarnation, e.bound) for e in reborn.earlier] == [(OWN.incarnation, 2)]
    again = Machine(disk)

    async def look() -> None:
        again.process.start()
        store = again.process.core.store
        held = [store.state(Offset(number)) for number in range(3)]
        assert held == [State.DATA, State.DATA, State.EMPTY]
        await again.process.drain()

    again.loop.run(look())


def test_process_registers_with_the_members_that_a_replica_tells_it_of() -> None:
    """All that it was started with but one may have been replaced."""
    machine = Machine(formatted())
    asked: list[Address] = []
    other = Address("10.0.0.99", 9700)
    machine.fake.member = False
    machine.fake.replicas = (other, LEADER)

    async def main() -> None:
        machine.network.endpoint(other).listen(lambda data, sender: asked.append(sender))
        machine.process.start()
        await asyncio.sleep(3)

    machine.loop.run(main())
    assert machine.fake.registered
    assert OWN.address in asked


def test_process_that_left_without_a_bound_ends_and_says_what_to_do() -> None:
    machine = Machine(formatted())
    machine.fake.left = True

    async def serve() -> None:
        machine.process.start()
        await machine.replica.sleep(2.0)

    machine.loop.run(serve())
    (error,) = machine.failures
    assert isinstance(error, LeftError)
    assert "format it anew" in str(error)
    assert machine.reborn == []


def test_identity_round_trip_and_errors() -> None:
    disk = formatted()
    identity = read_identity(disk)
    assert (identity.cluster, identity.unit) == (CLUSTER, OWN.id)
    assert identity.incarnation == OWN.incarnation
    write_identity(disk, replace(identity, boot_id="b", clean=False))
    assert read_identity(disk).boot_id == "b"
    for at in range(disk.size("identity")):
        disk.flip("identity", at, 0)
        with pytest.raises(CorfuError):
            read_identity(disk)
        disk.flip("identity", at, 0)


def test_folder_never_formatted_is_refused() -> None:
    with pytest.raises(FolderError, match="formatted"):
        read_identity(SimDisk())


def test_formatted_folder_is_not_formatted_again() -> None:
    disk = formatted()
    with pytest.raises(FolderError):
        format_unit(
            disk,
            cluster=CLUSTER,
            unit=OWN.id,
            incarnation=OWN.incarnation,
            sync=SyncMode.ALWAYS,
            settings=SETTINGS,
        )


def test_journal_of_another_cluster_is_refused() -> None:
    disk = formatted()
    write_identity(disk, replace(read_identity(disk), cluster=ClusterId(b"stranger")))
    with pytest.raises(CorruptionError, match="cluster"):
        Machine(disk).process.start()
