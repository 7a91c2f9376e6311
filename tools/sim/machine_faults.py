"""Faults of machines: processes that die or stop, disks that fail, clocks that go wrong."""

from __future__ import annotations

import asyncio
import dataclasses
import random
from collections.abc import Callable, Coroutine

from corfu.layout import Layout
from corfu.storage_units.process import UnitProcess
from corfu.tools.sim.disk import Crashed
from corfu.tools.sim.host import Host
from corfu.tools.sim.world import World
from corfu.types import SyncMode, UnitId

Step = Callable[[random.Random], Coroutine[object, object, None]]
"""One fault from its beginning to its end, as its own generator draws it."""


def any_host(world: World, rng: random.Random) -> Host:
    """Return any machine of the cluster."""
    return rng.choice(world.hosts)


class MachineFaults:
    """What goes wrong with one machine, or with all of them."""

    def __init__(self, world: World) -> None:
        self._world = world

    def kinds(self) -> dict[str, Step]:
        """Return each fault by its name."""
        steps = (
            self.kill,
            self.leader_blink,
            self.crash_in_disk_operation,
            self.crash_in_send,
            self.power_cut,
            self.power_cut_all,
            self.kill_then_power_cut,
            self.pause,
            self.disk_full,
            self.slow_disk,
            self.failed_sync,
            self.long_absence,
            self.wipe,
            self.skewed_clock,
            self.frozen_clock,
            self.restore,
        )
        return {step.__name__: step for step in steps}

    async def kill(self, rng: random.Random) -> None:
        """Kill a process; it comes back."""
        host = any_host(self._world, rng)
        host.kill()
        await self._restart(host, rng)

    async def leader_blink(self, rng: random.Random) -> None:
        """Restart a replica faster than any election."""
        host = rng.choice(self._world.replicas)
        host.kill()
        host.start()
        await self._restart(host, rng)

    async def crash_in_disk_operation(self, rng: random.Random) -> None:
        """Kill at one of the next disk operations, perhaps again in the recovery after it."""
        host = any_host(self._world, rng)
        for _ in range(rng.randint(1, 3)):
            _arm(host, rng)
            await asyncio.sleep(rng.uniform(0, 0.5))
            if rng.random() < 0.5 and not host.running:
                self._cut_power(host)
            host.start()
        await self._restart(host, rng)

    async def power_cut(self, rng: random.Random) -> None:
        """A machine loses power."""
        host = any_host(self._world, rng)
        self._cut_power(host)
        await self._restart(host, rng)

    async def power_cut_all(self, rng: random.Random) -> None:
        """The power of every machine is cut at once."""
        for host in self._world.hosts:
            self._cut_power(host)
        await asyncio.gather(*(self._restart(host, rng) for host in self._world.hosts))

    async def kill_then_power_cut(self, rng: random.Random) -> None:
        """A process that was killed comes back, and then its machine loses power."""
        host = any_host(self._world, rng)
        host.kill()
        await self._restart(host, rng)
        await asyncio.sleep(rng.uniform(0, 0.2))
        self._cut_power(host)
        await self._restart(host, rng)

    async def pause(self, rng: random.Random) -> None:
        """Stop a process for a while, as by SIGSTOP."""
        host = any_host(self._world, rng)
        host.pause()
        await asyncio.sleep(rng.choice((0.05, 0.5, 2.0, 5.0)))
        host.resume()

    async def disk_full(self, rng: random.Random) -> None:
        """A disk takes no more bytes for a while."""
        host = any_host(self._world, rng)
        host.excused = True
        host.disk.capacity_bytes = host.disk.used_bytes
        await asyncio.sleep(rng.uniform(0.2, 3))
        host.disk.capacity_bytes = None

    async def failed_sync(self, rng: random.Random) -> None:
        """A sync fails: the process has to end, and what it wrote may be gone."""
        host = any_host(self._world, rng)
        host.excused = True
        host.disk.fail_next_sync()
        await asyncio.sleep(rng.uniform(0, 1))
        host.disk.mend()
        await self._restart(host, rng)

    async def long_absence(self, rng: random.Random) -> None:
        """A unit is away for longer than it takes to be left out of the layout."""
        host = rng.choice(self._world.units)
        host.kill()
        await asyncio.sleep(rng.uniform(1, 6))
        await self._restart(host, rng)

    async def wipe(self, rng: random.Random) -> None:
        """An operator replaces a unit's disk, while all that it holds is elsewhere, too."""
        host = rng.choice(self._world.units)
        if not replaceable(self._world, host):
            return
        self._world.wipe(host)
        await self._restart(host, rng)

    async def restore(self, rng: random.Random) -> None:
        """An old copy of a unit's folder is put back, while all that it held is elsewhere, too.

        Always of the same unit: if two of a chain forget, what both forgot is rightly lost.
        """
        world = self._world
        host = world.units[world.seed % len(world.units)]
        copy = host.disk.copy()
        await asyncio.sleep(rng.uniform(0.05, 1))
        if not replaceable(world, host):
            return
        host.kill()
        world.note(host.name, "gets an old copy of its folder back")
        host.disk.restore(copy)
        await self._restart(host, rng)

    async def crash_in_send(self, rng: random.Random) -> None:
        """Kill a process between two of the datagrams that it sends."""
        host = any_host(self._world, rng)
        host.crash_after_sends(rng.randint(0, 15))
        await asyncio.sleep(rng.uniform(0.1, 1.5))
        host.crash_after_sends(None)
        await self._restart(host, rng)

    async def slow_disk(self, rng: random.Random) -> None:
        """Every sync of one machine takes long: it is neither dead nor well."""
        host = any_host(self._world, rng)
        slowest = rng.choice((0.05, 0.3, 1.5))
        host.slow_down(dataclasses.replace(self._world.options.latency, sync_s_max=slowest))
        await asyncio.sleep(rng.uniform(0.5, 4))
        host.slow_down(self._world.options.latency)

    async def skewed_clock(self, rng: random.Random) -> None:
        """The clock of one process goes wrong, for as long as it lives."""
        any_host(self._world, rng).set_clock(rng.choice((0.5, 0.8, 0.95, 1.05, 1.3, 2.0)))

    async def frozen_clock(self, rng: random.Random) -> None:
        """The clock of one process stands still, while it goes on with what it is sent."""
        host = any_host(self._world, rng)
        host.set_clock(0.0)
        await asyncio.sleep(rng.uniform(0.1, 5))
        host.set_clock(1.0)

    async def _restart(self, host: Host, rng: random.Random) -> None:
        await asyncio.sleep(_downtime(rng))
        host.start()
        # A crash in its recovery leaves it down once more.
        while not host.running:
            await asyncio.sleep(rng.uniform(0, 1))
            host.start()

    def _cut_power(self, host: Host) -> None:
        """Cut the power of a machine, or only kill its process where a cut may lose entries.

        In sync mode OS an acknowledged entry is in page caches alone. It is promised only while a
        unit of its chain keeps that, so one that serves must be left beside the machine.
        """
        world = self._world
        promised = world.options.sync is SyncMode.ALWAYS or host in world.replicas
        if promised or replaceable(world, host):
            host.cut_power()
        else:
            host.kill()


def _downtime(rng: random.Random) -> float:
    """Return how long something stays down: often too short for anybody to notice."""
    return rng.choice((0.0, 0.01, rng.uniform(0, 0.5), rng.uniform(0, 3)))


def _arm(host: Host, rng: random.Random) -> None:
    left = rng.randint(1, 30)

    def before(_operation: str, _name: str) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            raise Crashed

    host.excused = True
    host.disk.before_operation = before


def replaceable(world: World, host: Host) -> bool:
    """Tell whether every chain of a unit has another one that is there, and stays."""
    states = world.states()
    if len(states) < len(world.replicas) or any(state.intent for state in states):
        return False
    if len({state.active.epoch for state in states}) > 1:
        return False
    layout = states[0].active
    number = world.units.index(host) + 1
    return all(
        any(_holds(world, layout, id_) for id_ in chain if id_ != number)
        for segment in layout.segments
        for chain in segment.chains
        if number in chain
    )


def _holds(world: World, layout: Layout, id_: UnitId) -> bool:
    host = world.units[id_ - 1]
    process = host.process
    if not isinstance(process, UnitProcess) or not process.serves or host.paused:
        return False
    standing = process.core.store.standing
    return standing.served and standing.incarnation == layout.unit(id_).incarnation
