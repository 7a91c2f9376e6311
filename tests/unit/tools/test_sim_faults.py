"""Each kind of fault does to a cluster what its name says."""

from __future__ import annotations

import asyncio
import random

import pytest

from corfu.tools.sim.faults import Nemesis
from corfu.tools.sim.machine_faults import MachineFaults
from corfu.tools.sim.network_faults import NetworkFaults
from corfu.tools.sim.options import FIRST_KINDS, LATER_KINDS, RESTORE_KINDS, Options
from corfu.tools.sim.world import World

SMALL = Options(chains=1, units_per_chain=2, spares=0, clients=1)


def test_every_kind_of_fault_has_its_step() -> None:
    world = World(1, SMALL)
    steps = {*MachineFaults(world).kinds(), *NetworkFaults(world).kinds(), "rot"}
    assert steps == {*FIRST_KINDS, *LATER_KINDS, *RESTORE_KINDS, "rot"}
    assert set(Options().kinds) == steps - {"restore"}
    world.loop.close()


def _seen(kind: str, tries: int = 3, during_s: float = 0.05) -> tuple[World, list[str]]:
    """Let a fault happen a few times; return the world and what was seen in its midst."""
    world = World(3, SMALL)
    seen: list[str] = []

    async def main() -> None:
        world.start()
        await asyncio.sleep(1)
        step = {**MachineFaults(world).kinds(), **NetworkFaults(world).kinds()}[kind]
        for number in range(tries):
            task = asyncio.get_running_loop().create_task(step(random.Random(number)))
            for _ in range(20):
                await asyncio.sleep(during_s)
                seen.extend(_wrong(world))
            await task
        world.check()

    world.loop.run(main())
    return world, seen


def _wrong(world: World) -> list[str]:
    found = []
    for host in world.hosts:
        if host.group is not None and host.group.clock is not None:
            found.append(f"clock {host.group.clock.rate}")
        if host.worker is not None and host.worker.latency != world.options.latency:
            found.append("slow disk")
    network = world.network
    if network._isolated:
        found.append(f"isolated {len(network._isolated)}")
    if network._blocked:
        found.append(f"blocked {len(network._blocked)}")
    return found


@pytest.mark.parametrize(
    ("kind", "signs"),
    [
        ("slow_disk", {"slow disk"}),
        ("frozen_clock", {"clock 0.0", "clock 1.0"}),
        ("least_majority", {"isolated 1"}),
        ("swizzle", {"isolated 1", "isolated 2"}),
        ("flapping", {"blocked 1"}),
    ],
)
def test_fault_shows_in_its_midst_and_is_undone(kind: str, signs: set[str]) -> None:
    world, seen = _seen(kind)
    assert signs <= set(seen)
    if "clock" not in kind:
        assert _wrong(world) == []
    world.loop.close()


def test_skewed_clock_stays_until_all_is_healed() -> None:
    world, seen = _seen("skewed_clock", tries=1)
    assert [sign for sign in seen if sign.startswith("clock")]
    world.loop.run(Nemesis(world).heal())
    clocks = [host.group.clock for host in world.hosts if host.group is not None]
    assert {clock.rate for clock in clocks if clock is not None} == {1.0}
    world.loop.close()


def test_crash_in_send_kills_between_datagrams_and_the_process_comes_back() -> None:
    world, _ = _seen("crash_in_send", tries=6)
    assert [line for line in world.events if "crashes while it sends" in line]
    assert all(host.running for host in world.hosts)
    world.loop.close()


def test_fault_left_out_takes_nothing_from_the_others() -> None:
    """The nemesis draws each fault from a generator of its own."""

    def injected(only: frozenset[int] | None) -> list[tuple[int, str]]:
        world = World(
            9,
            Options(chains=1, spares=0, fault_gap_s=0.2, only_faults=only, kinds=("kill", "pause")),
        )

        async def main() -> list[tuple[int, str]]:
            nemesis = Nemesis(world)
            world.start()
            nemesis.begin()
            await asyncio.sleep(2)
            await nemesis.heal()
            return [(fault.number, fault.kind) for fault in nemesis.injected]

        found = world.loop.run(main())
        world.loop.close()
        return found

    every = injected(None)
    assert len(every) > 4
    assert injected(frozenset({2, 4})) == [fault for fault in every if fault[0] in (2, 4)]
