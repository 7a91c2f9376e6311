"""What goes wrong in a run: each fault by name, drawn from the seed, undone after a while."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine
from dataclasses import dataclass

from corfu.tools.sim.machine_faults import MachineFaults, Step
from corfu.tools.sim.network_faults import NetworkFaults
from corfu.tools.sim.options import CALM
from corfu.tools.sim.rot import Rotten
from corfu.tools.sim.world import World

CAPTURE_EACH_MAX = 8
_KIND_AT = 3
"""Where a frame's kind stands: behind magic and version."""


def kind_of_datagram(datagram: bytes) -> int | None:
    """Return the kind of a datagram's first frame."""
    return datagram[_KIND_AT] if len(datagram) > _KIND_AT else None


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault of a run: the how-manieth it is, when it began, and of which kind."""

    number: int
    at_s: float
    kind: str


class Nemesis:
    """Injects the faults of a run until it is told to heal.

    Every fault draws from a generator of its own, so that one that is left out
    (`Options.only_faults`) takes nothing from those that stay.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._rng = random.Random(f"faults-{world.seed}")  # noqa: S311
        self._tasks: list[asyncio.Task[None]] = []
        self._driver: asyncio.Task[None] | None = None
        self._free = asyncio.Event()
        self._free.set()
        self.injected: list[Fault] = []
        self.rotten = Rotten(world)
        self._kinds: dict[str, Step] = {
            **MachineFaults(world).kinds(),
            **NetworkFaults(world).kinds(),
            "rot": self._rot,
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
            host.heal()
            host.start()

    def _spawn(self, step: Coroutine[object, object, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(step, name="fault")
        self._tasks.append(task)
        return task

    async def _drive(self) -> None:
        options, loop = self._world.options, self._world.loop
        number = 0
        while True:
            await asyncio.sleep(self._rng.expovariate(1 / options.fault_gap_s))
            await self._free.wait()
            kind = self._rng.choice(options.kinds)
            number += 1
            if options.only_faults is not None and number not in options.only_faults:
                continue
            self.injected.append(Fault(number, loop.now, kind))
            self._world.count(kind)
            self._world.note("nemesis", f"fault {number}", kind)
            rng = random.Random(f"fault-{self._world.seed}-{number}")  # noqa: S311
            self._spawn(self._kinds[kind](rng))

    async def _rot(self, rng: random.Random) -> None:
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
            host = rng.choice(self._world.units)
            if not self.rotten.flip(host, rng):
                return
            if rng.random() < 0.5:
                host.kill()
                await asyncio.sleep(rng.uniform(0, 0.3))
                host.start()
            while self.rotten.left():
                await self.rotten.scrub()
                await asyncio.sleep(0.5)
        finally:
            self._free.set()
