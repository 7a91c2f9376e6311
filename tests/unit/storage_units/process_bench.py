"""One unit's process over simulated ports, and a fake replica: for the tests of processes."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from corfu.effects import Effect
from corfu.layout import Layout, Unit
from corfu.link import Link
from corfu.messages import (
    Message,
    Register,
    Registered,
    Sealed,
)
from corfu.runtime.driver import Driver
from corfu.storage_units.identity import (
    UnitIdentity,
    read_identity,
)
from corfu.storage_units.process import UnitProcess, format_unit
from corfu.storage_units.settings import UnitSettings
from corfu.tools.sim.disk import SimDisk
from corfu.tools.sim.disk_worker import DiskLatency, SimDiskWorker
from corfu.tools.sim.loop import VirtualLoop
from corfu.tools.sim.network import NetworkSettings, SimNetwork
from corfu.types import Address, Epoch, Incarnation, Offset, RequestId, SyncMode
from tests.unit.storage_units.unit_bench import (
    CLUSTER,
    LEADER,
    Bench,
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
    replicas: tuple[Address, ...] = (LEADER,)
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
                replicas=self.replicas,
            )
            self.driver.send(sender, reply)
        return []

    def tick(self, now: float) -> list[Effect]:
        return []


LOOPS: list[VirtualLoop] = []


def close_loops() -> Iterator[None]:
    """Close what the test's machines ran on; each test module makes a fixture of it."""
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
