"""Faults of the network: ways that are cut, slow, or bring what is old."""

from __future__ import annotations

import asyncio
import dataclasses
import random

from corfu.sequencer.process import ReplicaProcess
from corfu.tools.sim.machine_faults import Step, any_host
from corfu.tools.sim.network import NetworkSettings
from corfu.tools.sim.world import World


class NetworkFaults:
    """What goes wrong between machines."""

    def __init__(self, world: World) -> None:
        self._world = world

    def kinds(self) -> dict[str, Step]:
        """Return each fault by its name."""
        steps = (
            self.one_way,
            self.partition,
            self.flapping,
            self.isolate,
            self.swizzle,
            self.least_majority,
            self.stale_side,
            self.weather,
            self.cut_between_units,
            self.late,
        )
        return {step.__name__: step for step in steps}

    async def one_way(self, rng: random.Random) -> None:
        """Nothing arrives from one machine at another, but the other way round."""
        network = self._world.network
        one, other = any_host(self._world, rng), any_host(self._world, rng)
        network.block([one.address], [other.address])
        await asyncio.sleep(rng.uniform(0.1, 3))
        network.unblock([one.address], [other.address])

    async def partition(self, rng: random.Random) -> None:
        """The machines fall apart into two sides."""
        network = self._world.network
        hosts = list(self._world.hosts)
        rng.shuffle(hosts)
        cut = rng.randrange(1, max(2, len(hosts)))
        side = [host.address for host in hosts[:cut]]
        rest = [host.address for host in hosts[cut:]]
        network.partition(side, rest)
        await asyncio.sleep(rng.uniform(0.1, 3))
        network.unblock(side, rest)
        network.unblock(rest, side)

    async def isolate(self, rng: random.Random) -> None:
        """One machine reaches nobody, clients included."""
        host = any_host(self._world, rng)
        self._world.network.isolate(host.address)
        await asyncio.sleep(rng.uniform(0.1, 3))
        self._world.network.rejoin(host.address)

    async def weather(self, rng: random.Random) -> None:
        """All ways are bad for a while."""
        network = self._world.network
        network.settings = dataclasses.replace(
            NetworkSettings(),
            loss=rng.choice((0.0, 0.05, 0.3)),
            duplicate=rng.choice((0.0, 0.2)),
            delay_s_max=rng.choice((1e-3, 50e-3, 300e-3)),
            long_delay=rng.choice((0.0, 0.05)),
            long_delay_s_max=60.0,
            corrupt=rng.choice((0.0, 0.02)),
        )
        await asyncio.sleep(rng.uniform(0.2, 2))
        network.settings = self._world.options.network

    async def cut_between_units(self, rng: random.Random) -> None:
        """Two units cannot reach each other, though both reach everybody else."""
        if len(self._world.units) < 2:
            return
        network = self._world.network
        one, other = rng.sample(self._world.units, 2)
        network.partition([one.address], [other.address])
        await asyncio.sleep(rng.uniform(0.5, 5))
        network.unblock([one.address], [other.address])
        network.unblock([other.address], [one.address])

    async def late(self, rng: random.Random) -> None:
        """Send an old datagram of each kind again, from epochs ago."""
        age = rng.choice((0.0, 1.0, 4.0))
        self._world.network.late(older_than_s=age)

    async def flapping(self, rng: random.Random) -> None:
        """A way between two machines comes and goes, in one direction or in both."""
        network = self._world.network
        one, other = any_host(self._world, rng).address, any_host(self._world, rng).address
        both = rng.random() < 0.5
        for _ in range(rng.randint(2, 8)):
            network.block([one], [other])
            if both:
                network.block([other], [one])
            await asyncio.sleep(rng.expovariate(1 / 0.3))
            network.unblock([one], [other])
            network.unblock([other], [one])
            await asyncio.sleep(rng.expovariate(1 / 0.3))

    async def swizzle(self, rng: random.Random) -> None:
        """Machines are cut off one after the other, and come back in another order."""
        network = self._world.network
        hosts = rng.sample(self._world.hosts, rng.randint(1, len(self._world.hosts)))
        for host in hosts:
            network.isolate(host.address)
            await asyncio.sleep(rng.expovariate(1 / 0.2))
        rng.shuffle(hosts)
        for host in hosts:
            network.rejoin(host.address)
            await asyncio.sleep(rng.expovariate(1 / 0.2))

    async def least_majority(self, rng: random.Random) -> None:
        """Only the least majority of replicas is reached, and it is another one each time."""
        network, replicas = self._world.network, list(self._world.replicas)
        for _ in range(rng.randint(1, 4)):
            deaf = rng.sample(replicas, (len(replicas) - 1) // 2)
            for host in deaf:
                network.isolate(host.address)
            await asyncio.sleep(rng.uniform(0.05, 1.5))
            for host in deaf:
                network.rejoin(host.address)

    async def stale_side(self, rng: random.Random) -> None:
        """The leader and a client reach the units, but no other replica: they hear nothing new.

        Now and then the leader's clock stands still, so that it does not step down either.
        """
        world, network = self._world, self._world.network
        leading = [
            host
            for host in world.replicas
            if isinstance(host.process, ReplicaProcess) and host.process.core.leads
        ]
        if not leading or not world.client_addresses:
            return
        leader = rng.choice(leading)
        side = [leader.address, rng.choice(world.client_addresses)]
        rest = [host.address for host in world.replicas if host is not leader]
        network.partition(side, rest)
        seconds = rng.uniform(0.5, 3)
        frozen = rng.random() < 0.3
        if frozen:
            leader.set_clock(0.0)
        await asyncio.sleep(seconds)
        if frozen:
            leader.set_clock(1.0)
        network.unblock(side, rest)
        network.unblock(rest, side)
