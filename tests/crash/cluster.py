"""A whole simulated cluster whose disks write down what is done to them.

The processes, the driver and the protocol are the real ones. A promise is what leaves a machine:
every datagram is read as it is sent, and what it says is durable is noted in the sender's trace.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace

from corfu import codec
from corfu.client.log import LogClient
from corfu.errors import CorfuError
from corfu.goals import Goal, GoalKind
from corfu.messages import KINDS, Message
from corfu.ports import WriteAt
from corfu.sequencer.settings import SequencerSettings
from corfu.storage_units.identity import IDENTITY_NAME
from corfu.storage_units.process import UnitProcess
from corfu.storage_units.settings import UnitSettings
from corfu.tools.admin.goals import set_goal
from corfu.tools.sim.host import Host
from corfu.tools.sim.network import SimNetwork
from corfu.tools.sim.operator import newest_core
from corfu.tools.sim.options import CALM, Options
from corfu.tools.sim.world import World
from corfu.types import Address, GoalId
from tests.crash.promises import Knowledge, ReplicaNotes, UnitNotes
from tests.crash.trace import RecordingDisk, Trace

OPTIONS = Options(
    replicas=3,
    chains=1,
    units_per_chain=2,
    spares=1,
    change_gap_s=0.3,
    boot_grace_s=1.0,
    unit_journal_bytes=16 << 10,
    replica_journal_bytes=8 << 10,
    datagram_bytes_max=32 << 10,
    window_offsets_min=4,
    snapshot_slots=6,
)
_RECORD_BYTES = (1, 20, 300, 900, 2000)


class RecordedWorld(World):
    """The world of the simulator, on disks that write down."""

    def __init__(self, seed: int) -> None:
        self.known = Knowledge()
        self.notes: dict[Address, UnitNotes | ReplicaNotes] = {}
        self.machines: list[Host] = []
        """All of them, also the one of a replica that was replaced."""
        # Every other cluster persists in parallel.
        super().__init__(seed, replace(OPTIONS, parallel_persist=bool(seed % 2)))
        self.network = _Network(self)
        for notes in self.notes.values():
            notes.promise()

    @property
    def unit_settings(self) -> UnitSettings:
        """The settings of the units."""
        return self._unit_settings()

    @property
    def replica_settings(self) -> SequencerSettings:
        """The settings of the replicas."""
        return self._sequencer_settings()

    def _unit_host(self, number: int) -> Host:
        host = super()._unit_host(number)
        self.machines.append(host)
        disk = host.disk = _UnitDisk()
        notes = self.notes[host.address] = UnitNotes(disk, self.known)
        disk.before_identity = notes.leaves
        return host

    def _replica_host(self, number: int) -> Host:
        host = super()._replica_host(number)
        self.machines.append(host)
        disk = host.disk = RecordingDisk()
        self.notes[host.address] = ReplicaNotes(disk, self.known)
        return host

    def heard(self, source: Address, message: Message) -> None:
        """A message leaves a machine."""
        self.known.hear(message)
        notes = self.notes.get(source)
        if isinstance(notes, UnitNotes):
            self._count_lives(source, notes)
        if notes is not None:
            notes.sent(message)

    def _count_lives(self, source: Address, notes: UnitNotes) -> None:
        process = next(host.process for host in self.units if host.address == source)
        if isinstance(process, UnitProcess):
            lives = len(process.identity.earlier)
            notes.lives = lives


class _UnitDisk(RecordingDisk):
    """Says when the identity is about to be replaced."""

    before_identity: Callable[[], None] | None = None

    def allocate(self, name: str, length: int) -> None:
        if name == f"{IDENTITY_NAME}.tmp" and self.before_identity is not None:
            self.before_identity()
        super().allocate(name, length)


class _Network(SimNetwork):
    """Tells the world what is sent."""

    def __init__(self, world: RecordedWorld) -> None:
        super().__init__(world.loop, random.Random(f"network-{world.seed}"), CALM)
        self._world = world

    def _send(self, source: Address, target: Address, data: bytes) -> None:
        for frame in codec.decode_untrusted(data).frames:
            if frame.kind in KINDS and frame.fragments == 1:
                message = codec.decode_body(
                    frame.kind, frame.request, frame.epoch, frame.offset, frame.payload
                )
                self._world.heard(source, message)
        super()._send(source, target, data)


@dataclass(slots=True)
class Recording:
    """What the machines of one cluster did."""

    units: list[Trace] = field(default_factory=list)
    replicas: list[Trace] = field(default_factory=list)
    unit_settings: UnitSettings = field(default_factory=UnitSettings)
    replica_settings: SequencerSettings = field(default_factory=SequencerSettings)


@functools.lru_cache(maxsize=2)
def recording(seed: int) -> Recording:
    """Run a cluster through its troubles, and return what its machines wrote down."""
    world = RecordedWorld(seed)
    failure: str | None = None
    try:
        world.loop.run(_troubles(world))
    except Exception as error:  # noqa: BLE001 - a finding: no fault explains it
        failure = f"{type(error).__name__}: {error}"
    world.known.conclude(2)
    done = Recording(unit_settings=world.unit_settings, replica_settings=world.replica_settings)
    for host in world.machines:
        assert isinstance(host.disk, RecordingDisk)
        is_unit = host in world.units
        trace = host.disk.trace
        trace.failure = failure
        trace.ever = world.known.units if is_unit else world.known.replicas
        for step in trace.steps:
            if isinstance(step, WriteAt) and step.name == "snapshot.tmp":
                world.known.hear_snapshot(step.data)
        (done.units if is_unit else done.replicas).append(trace)
    world.loop.close()
    return done


async def _troubles(world: RecordedWorld) -> None:
    rng = random.Random(f"troubles-{world.seed}")
    world.start()
    log, _driver, group = world.client()
    done = asyncio.get_running_loop().create_future()

    async def work() -> None:
        try:
            await _workload(world, log, rng)
        finally:
            done.set_result(None)

    group.run(asyncio.get_running_loop().create_task, work())
    await done
    world.check()


async def _workload(world: RecordedWorld, log: LogClient, rng: random.Random) -> None:
    await log.open(timeout=20)
    await _append(log, rng, 5)
    for _ in range(3):
        await _crashes(world, log, rng)
        if rng.random() < 0.5:
            await _tolerant(log.trim(rng.randrange(12), timeout=5))
    # One unit is away for so long that the spare takes its place: it comes back as a new one.
    away = rng.choice(world.units[:2])
    away.kill()
    await _append(log, rng, 3)
    await asyncio.sleep(2.5)
    away.start()
    await _append(log, rng, 3)
    await _replace_replica(world, rng)
    await _crashes(world, log, rng)


async def _crashes(world: RecordedWorld, log: LogClient, rng: random.Random) -> None:
    for host in rng.sample(world.hosts, 2):
        host.cut_power() if rng.random() < 0.6 else host.kill()
        await asyncio.sleep(rng.uniform(0, 0.2))
        host.start()
    await _append(log, rng, 3)


async def _append(log: LogClient, rng: random.Random, count: int) -> None:
    for _ in range(count):
        records = [rng.randbytes(rng.choice(_RECORD_BYTES)) for _ in range(rng.randint(1, 3))]
        await _tolerant(log.append_many(records, timeout=6))


async def _tolerant(work: Awaitable[object]) -> None:
    with contextlib.suppress(CorfuError):
        await work


async def _replace_replica(world: RecordedWorld, rng: random.Random) -> None:
    source = newest_core(world)
    if source is None:
        return
    old = rng.choice(source.state.replicas).id
    new = world.join_replica(source)
    cluster, group = world.admin()
    goal = Goal(GoalId(world.entropy(16)), GoalKind.REPLACE_REPLICA, (), new, old)

    async def ask() -> None:
        await cluster.open(5.0)
        await set_goal(cluster, goal, 8.0)

    await group.run(asyncio.get_running_loop().create_task, _tolerant(ask()))
    await asyncio.sleep(1.5)
    world.promote()
