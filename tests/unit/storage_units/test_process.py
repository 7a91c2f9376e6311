"""The identity file, formatting, and the process over simulated ports."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import pytest

from corfu.effects import Effect
from corfu.errors import CorfuError, CorruptionError
from corfu.layout import Layout, Unit
from corfu.link import Link
from corfu.messages import (
    Message,
    Probe,
    Probed,
    Register,
    Registered,
    Sealed,
    Write,
    Written,
)
from corfu.ports import UnansweredError
from corfu.runtime.driver import Driver
from corfu.storage_units.identity import (
    FolderError,
    LeftError,
    UnitIdentity,
    read_identity,
    write_identity,
)
from corfu.storage_units.process import UnitProcess, format_unit
from corfu.storage_units.registration import unclaimed
from corfu.storage_units.settings import UnitSettings
from corfu.tools.sim.disk import SimDisk
from corfu.tools.sim.disk_worker import DiskLatency, SimDiskWorker
from corfu.tools.sim.loop import VirtualLoop
from corfu.tools.sim.network import NetworkSettings, SimNetwork
from corfu.types import Address, ClusterId, Epoch, Incarnation, Offset, RequestId, State, SyncMode
from tests.unit.storage_units.unit_bench import (
    CLUSTER,
    LEADER,
    Bench,
    entry_id,
    layout,
    unit_value,
)

SETTINGS = UnitSettings(journal_file_bytes=16384, sequencers=(LEADER,))
OWN = unit_value(1)
ONE = layout(1, [1])


def formatted(sync: SyncMode = SyncMode.ALWAYS) -> SimDisk:
    disk = SimDisk()
    format_unit(
        disk,
        cluster=CLUSTER,
        unit=OWN.id,
        incarnation=OWN.incarnation,
        sync=sync,
        settings=SETTINGS,
    )
    return disk


@dataclass(slots=True)
class Fake:
    """A replica that acknowledges registrations, and whoever else a test needs."""

    registered: list[Unit] = field(default_factory=list)
    differs: bool = False
    left: bool = False
    member: bool = True
    bound: Offset | None = None
    driver: Driver | None = None
    journal: None = None
    deadline: None = None

    def handle(self, message: Message, sender: Address, now: float) -> list[Effect]:
        if isinstance(message, Register):
            assert self.driver is not None
            self.registered.append(message.unit)
            left = self.left and message.unit == OWN
            reply = Registered(
                message.request,
                Epoch(1),
                self.member and not left,
                self.differs,
                left=left,
                bound=self.bound,
            )
            self.driver.send(sender, reply)
        return []

    def tick(self, now: float) -> list[Effect]:
        return []


LOOPS: list[VirtualLoop] = []


@pytest.fixture(autouse=True)
def _close_loops() -> Iterator[None]:
    yield
    while LOOPS:
        LOOPS.pop().close()


class Machine:
    """One unit's process, a fake replica, and a virtual loop."""

    def __init__(
        self, disk: SimDisk, boot_id: str = "boot-1", settings: UnitSettings = SETTINGS
    ) -> None:
        self.loop = VirtualLoop()
        LOOPS.append(self.loop)
        self.rng = random.Random(1)
        self.network = SimNetwork(self.loop, self.rng, NetworkSettings())
        self.disk = disk
        self.lines: list[str] = []
        self.failures: list[Exception] = []
        self.reborn: list[UnitIdentity] = []
        self.worker = SimDiskWorker(disk, self.loop, self.rng, DiskLatency(), self._fatal)
        self.process = UnitProcess(
            disk=disk,
            worker=self.worker,
            datagrams=self.network.endpoint(OWN.address),
            loop=self.loop,
            rng=self.rng,
            entropy=self.rng.randbytes,
            settings=settings,
            boot_id=boot_id,
            log=self.lines.append,
            on_fatal=self.failures.append,
            on_reborn=lambda: self.reborn.append(read_identity(disk)),
        )
        self.fake = Fake()
        link = Link(
            cluster=CLUSTER,
            session=Incarnation(b"replica-session0"),
            settings=SETTINGS.link,
            rng=self.rng,
        )
        self.replica = self.fake.driver = Driver(
            core=self.fake,
            link=link,
            datagrams=self.network.endpoint(LEADER),
            worker=None,
            loop=self.loop,
        )
        self.replica.start()

    def _fatal(self, error: BaseException) -> None:
        raise error

    async def ask(self, message: Message) -> Message:
        return await self.replica.ask(OWN.address, message, 1.0)

    async def epoch(self, new: Layout = ONE) -> None:
        bench = Bench(1)
        sealed = await self.ask(replace(bench.seal_message(1), request=self.new_request()))
        assert isinstance(sealed, Sealed)
        install = replace(bench.install_message(new), request=self.new_request())
        await self.ask(install)

    def new_request(self) -> RequestId:
        return self.replica.new_request()


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
