"""What goes wrong in a run: each fault by name, drawn from the seed, undone after a while."""

from __future__ import annotations

import asyncio
import dataclasses
import random
from collections.abc import Callable, Coroutine

from corfu.layout import Layout
from corfu.sequencer.process import ReplicaProcess
from corfu.storage_units.process import UnitProcess
from corfu.tools.sim.disk import Crashed
from corfu.tools.sim.network import NetworkSettings
from corfu.tools.sim.options import CALM
from corfu.tools.sim.rot import Rotten
from corfu.tools.sim.world import Host, World
from corfu.types import SyncMode, UnitId

CAPTURE_EACH_MAX = 8
_KIND_AT = 3
"""Where a frame's kind stands: behind magic and version."""


def kind_of_datagram(datagram: bytes) -> int | None:
    """Return the kind of a datagram's first frame."""
    return datagram[_KIND_AT] if len(datagram) > _KIND_AT else None


class Nemesis:
    """Injects the faults of a run until it is told to heal."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._rng = random.Random(f"faults-{world.seed}")  # noqa: S311
        self._tasks: list[asyncio.Task[None]] = []
        self._driver: asyncio.Task[None] | None = None
        self._free = asyncio.Event()
        self._free.set()
        self.rotten = Rotten(world)
        self._kinds: dict[str, Callable[[], Coroutine[object, object, None]]] = {
            "kill": self._kill,
            "crash_in_disk_operation": self._crash_in_disk_operation,
            "power_cut": self._power_cut,
            "power_cut_all": self._power_cut_all,
            "kill_then_power_cut": self._kill_then_power_cut,
            "pause": self._pause,
            "one_way": self._one_way,
            "partition": self._partition,
            "isolate": self._isolate,
            "weather": self._weather,
            "disk_full": self._disk_full,
            "late": self._late,
            "leader_blink": self._leader_blink,
            "failed_sync": self._failed_sync,
            "long_absence": self._long_absence,
            "wipe": self._wipe,
            "cut_between_units": self._cut_between_units,
            "rot": self._rot,
            "stale_side": self._stale_side,
        }

    def begin(self) -> None:
        """Start injecting."""
        self._world.network.settings = self._world.options.network
        self._world.network.capture(kind_of_datagram, CAPTURE_EACH_MAX)
        self._driver = self._spawn(self._drive())

    async def heal(self) -> None:
        """End every fault and start what is down. The disks stay as the faults left them."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
        world = self._world
        world.note("nemesis", "heals")
        world.network.heal()
        world.network.settings = CALM
        for host in world.hosts:
            host.resume()
            host.disk.before_operation = None
            host.disk.capacity_bytes = None
            host.disk.mend()
            host.excused = False
            host.start()

    def _spawn(self, step: Coroutine[object, object, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(step, name="fault")
        self._tasks.append(task)
        return task

    async def _drive(self) -> None:
        options = self._world.options
        while True:
            await asyncio.sleep(self._rng.expovariate(1 / options.fault_gap_s))
            await self._free.wait()
            kind = self._rng.choice(options.kinds)
            self._world.count(kind)
            self._spawn(self._kinds[kind]())

    def _any(self) -> Host:
        return self._rng.choice(self._world.hosts)

    def _downtime(self) -> float:
        """Return how long something stays down: often too short for anybody to notice."""
        return self._rng.choice((0.0, 0.01, self._rng.uniform(0, 0.5), self._rng.uniform(0, 3)))

    async def _restart(self, host: Host) -> None:
        await asyncio.sleep(self._downtime())
        host.start()
        # A crash in its recovery leaves it down once more.
        while not host.running:
            await asyncio.sleep(self._rng.uniform(0, 1))
            host.start()

    async def _kill(self) -> None:
        host = self._any()
        host.kill()
        await self._restart(host)

    async def _leader_blink(self) -> None:
        """Restart a replica faster than any election."""
        host = self._rng.choice(self._world.replicas)
        host.kill()
        host.start()
        await self._restart(host)

    async def _crash_in_disk_operation(self) -> None:
        """Kill at one of the next disk operations, perhaps again in the recovery after it."""
        host = self._any()
        for _ in range(self._rng.randint(1, 3)):
            self._arm(host)
            await asyncio.sleep(self._rng.uniform(0, 0.5))
            if self._rng.random() < 0.5 and not host.running:
                self._cut_power(host)
            host.start()
        await self._restart(host)

    def _arm(self, host: Host) -> None:
        left = self._rng.randint(1, 30)

        def before(_operation: str, _name: str) -> None:
            nonlocal left
            left -= 1
            if left == 0:
                raise Crashed

        host.excused = True
        host.disk.before_operation = before

    def _cut_power(self, host: Host) -> None:
        """Cut the power of a machine, or only kill its process where a cut may lose entries.

        In sync mode OS an acknowledged entry is in page caches alone. It is promised only while a
        unit of its chain keeps that, so one that serves must be left beside the machine.
        """
        world = self._world
        promised = world.options.sync is SyncMode.ALWAYS or host in world.replicas
        if promised or self._replaceable(host):
            host.cut_power()
        else:
            host.kill()

    async def _power_cut(self) -> None:
        host = self._any()
        self._cut_power(host)
        await self._restart(host)

    async def _power_cut_all(self) -> None:
        for host in self._world.hosts:
            self._cut_power(host)
        for host in self._world.hosts:
            self._spawn(self._restart(host))

    async def _kill_then_power_cut(self) -> None:
        """A process that was killed comes back, and then its machine loses power."""
        host = self._any()
        host.kill()
        await self._restart(host)
        await asyncio.sleep(self._rng.uniform(0, 0.2))
        self._cut_power(host)
        await self._restart(host)

    async def _pause(self) -> None:
        host = self._any()
        host.pause()
        await asyncio.sleep(self._rng.choice((0.05, 0.5, 2.0, 5.0)))
        host.resume()

    async def _one_way(self) -> None:
        network = self._world.network
        one, other = self._any(), self._any()
        network.block([one.address], [other.address])
        await asyncio.sleep(self._rng.uniform(0.1, 3))
        network.unblock([one.address], [other.address])

    async def _partition(self) -> None:
        network = self._world.network
        hosts = list(self._world.hosts)
        self._rng.shuffle(hosts)
        cut = self._rng.randrange(1, max(2, len(hosts)))
        side = [host.address for host in hosts[:cut]]
        rest = [host.address for host in hosts[cut:]]
        network.partition(side, rest)
        await asyncio.sleep(self._rng.uniform(0.1, 3))
        network.unblock(side, rest)
        network.unblock(rest, side)

    async def _isolate(self) -> None:
        host = self._any()
        self._world.network.isolate(host.address)
        await asyncio.sleep(self._rng.uniform(0.1, 3))
        self._world.network.rejoin(host.address)

    async def _weather(self) -> None:
        network = self._world.network
        rng = self._rng
        network.settings = dataclasses.replace(
            NetworkSettings(),
            loss=rng.choice((0.0, 0.05, 0.3)),
            duplicate=rng.choice((0.0, 0.2)),
            delay_s_max=rng.choice((1e-3, 50e-3, 300e-3)),
            long_delay=rng.choice((0.0, 0.05)),
            corrupt=rng.choice((0.0, 0.02)),
        )
        await asyncio.sleep(rng.uniform(0.2, 2))
        network.settings = self._world.options.network

    async def _disk_full(self) -> None:
        host = self._any()
        host.excused = True
        host.disk.capacity_bytes = host.disk.used_bytes
        await asyncio.sleep(self._rng.uniform(0.2, 3))
        host.disk.capacity_bytes = None

    async def _failed_sync(self) -> None:
        """A sync fails: the process has to end, and what it wrote may be gone."""
        host = self._any()
        host.excused = True
        host.disk.fail_next_sync()
        await asyncio.sleep(self._rng.uniform(0, 1))
        host.disk.mend()
        await self._restart(host)

    async def _long_absence(self) -> None:
        """A unit is away for longer than it takes to be left out of the layout."""
        host = self._rng.choice(self._world.units)
        host.kill()
        await asyncio.sleep(self._rng.uniform(1, 6))
        await self._restart(host)

    async def _wipe(self) -> None:
        """An operator replaces a unit's disk, while all that it holds is elsewhere, too."""
        host = self._rng.choice(self._world.units)
        if not self._replaceable(host):
            return
        self._world.wipe(host)
        await self._restart(host)

    def _replaceable(self, host: Host) -> bool:
        """Tell whether every chain of a unit has another one that is there, and stays."""
        world = self._world
        states = world.states()
        if len(states) < len(world.replicas) or any(state.intent for state in states):
            return False
        if len({state.active.epoch for state in states}) > 1:
            return False
        layout = states[0].active
        number = world.units.index(host) + 1
        return all(
            any(self._holds(layout, id_) for id_ in chain if id_ != number)
            for segment in layout.segments
            for chain in segment.chains
            if number in chain
        )

    def _holds(self, layout: Layout, id_: UnitId) -> bool:
        host = self._world.units[id_ - 1]
        process = host.process
        if not isinstance(process, UnitProcess) or not process.serves or host.paused:
            return False
        standing = process.core.store.standing
        return standing.served and standing.incarnation == layout.unit(id_).incarnation

    async def _cut_between_units(self) -> None:
        """Two units cannot reach each other, though both reach everybody else."""
        if len(self._world.units) < 2:
            return
        network = self._world.network
        one, other = self._rng.sample(self._world.units, 2)
        network.partition([one.address], [other.address])
        await asyncio.sleep(self._rng.uniform(0.5, 5))
        network.unblock([one.address], [other.address])
        network.unblock([other.address], [one.address])

    async def _stale_side(self) -> None:
        """The leader and one client reach the units, and no other replica: they hear nothing new.

        Not among the kinds of `Options` by default: it is asked for by name.
        """
        world, network = self._world, self._world.network
        leading = [
            host
            for host in world.replicas
            if isinstance(host.process, ReplicaProcess) and host.process.core.leads
        ]
        if not leading or not world.client_addresses:
            return
        leader = self._rng.choice(leading)
        side = [leader.address, self._rng.choice(world.client_addresses)]
        rest = [host.address for host in world.replicas if host is not leader]
        network.partition(side, rest)
        await asyncio.sleep(self._rng.uniform(0.5, 3))
        network.unblock(side, rest)
        network.unblock(rest, side)

    async def _rot(self) -> None:
        """Bits flip on one unit's disk, in records that the others of their chains hold soundly.

        Nothing else goes wrong until that is healed: with the other copies gone as well there
        would be a real loss, and rightly so.
        """
        if not self._free.is_set():
            return
        self._free.clear()
        try:
            me = asyncio.current_task()
            others = [task for task in self._tasks if task not in (me, self._driver)]
            await asyncio.gather(*others, return_exceptions=True)
            host = self._rng.choice(self._world.units)
            if not self.rotten.flip(host, self._rng):
                return
            if self._rng.random() < 0.5:
                host.kill()
                await asyncio.sleep(self._rng.uniform(0, 0.3))
                host.start()
            while self.rotten.left():
                await self.rotten.scrub()
                await asyncio.sleep(0.5)
        finally:
            self._free.set()

    async def _late(self) -> None:
        """Send an old datagram of each kind again, from epochs ago."""
        age = self._rng.choice((0.0, 1.0, 4.0))
        self._world.network.late(older_than_s=age)
