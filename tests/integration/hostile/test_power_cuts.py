"""Disks that lose power, and with it what was not synced; with clients at work."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from corfu.tools.cluster import LocalCluster
from corfu.tools.processes import Process
from corfu.types import SyncMode
from tests.integration.bad_cases.clients import Clients, findings, judge
from tests.integration.hostile.figures import Figures
from tests.integration.hostile.power import Power, power
from tests.integration.redundancy import whole
from tests.integration.running import DEADLINE_S, local_cluster

pytestmark = [pytest.mark.processes, pytest.mark.timeout(300)]

CUTS = 20
CUTS_MAX = 10


async def _cut(
    disks: Power, cluster: LocalCluster, processes: Sequence[Process], seed: int | None
) -> None:
    """Cut the power of the machines of these processes at once, and start them again."""
    disks.cut([process.program.data for process in processes], seed)
    await asyncio.gather(*(process.kill() for process in processes))
    disks.restore()
    await asyncio.gather(*(cluster.restart(process) for process in processes))


async def test_power_cut_of_a_whole_small_cluster_loses_nothing_acknowledged(
    tmp_path: Path, figures: Figures
) -> None:
    with power(tmp_path) as disks:
        folder = disks.mount / "log"
        async with local_cluster(folder, sequencers=1, chains=1, replicas=2) as cluster:
            disks.settle()
            async with Clients(cluster) as clients:
                seeds = [None, *range(1, CUTS_MAX)]
                for number, seed in enumerate(seeds):
                    await clients.more(20)
                    await _cut(disks, cluster, cluster.processes[:], seed)
                    if number and disks.met:
                        break
                await clients.more(20)
            await judge(cluster, clients.history)
    assert disks.met, "something was under way at one of the cuts"
    figures.add(clients.history, **disks.lost)


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", [1])
async def test_power_cuts_one_after_the_other_lose_nothing_acknowledged(
    tmp_path: Path, figures: Figures, seed: int
) -> None:
    rng = random.Random(seed)
    with power(tmp_path) as disks:
        async with local_cluster(disks.mount / "log", chains=2, replicas=3) as cluster:
            disks.settle()
            async with Clients(cluster) as clients:
                for number in range(CUTS):
                    await clients.more(30, DEADLINE_S)
                    torn = None if number % 3 == 0 else rng.randrange(1 << 32)
                    await _cut(disks, cluster, _VICTIMS[number % 5](cluster, rng), torn)
                await clients.more(30, DEADLINE_S)
                await whole(cluster)
            await judge(cluster, clients.history)
    assert disks.met >= CUTS // 4, "power cuts that met nothing unsynced prove nothing"
    figures.add(clients.history, cuts=CUTS, met_something=disks.met, **disks.lost)


def _all(cluster: LocalCluster, _: random.Random) -> list[Process]:
    return cluster.processes[:]


def _one(role: str) -> Callable[[LocalCluster, random.Random], list[Process]]:
    def choose(cluster: LocalCluster, rng: random.Random) -> list[Process]:
        return [rng.choice([each for each in cluster.processes if each.program.role == role])]

    return choose


def _one_of_each(cluster: LocalCluster, rng: random.Random) -> list[Process]:
    return [*_one("storage")(cluster, rng), *_one("sequencer")(cluster, rng)]


def _rack(cluster: LocalCluster, rng: random.Random) -> list[Process]:
    """All but one replica, and all but one unit of each chain."""
    kept = {cluster.process("sequencer", rng.randint(1, 3))}
    kept |= {cluster.process("storage", rng.randint(*ends)) for ends in ((1, 3), (4, 6))}
    return [process for process in cluster.processes if process not in kept]


_VICTIMS: tuple[Callable[[LocalCluster, random.Random], list[Process]], ...] = (
    _one("storage"),
    _one("sequencer"),
    _all,
    _one_of_each,
    _rack,
)


@pytest.mark.long
@pytest.mark.parametrize("cause", ["--sync os", "the disk syncs nothing"])
async def test_power_cut_where_nothing_was_synced_is_found_out(tmp_path: Path, cause: str) -> None:
    """The proof that the cuts bite: `--sync os` does not promise to survive them, and a disk that
    lies cannot."""
    sync = SyncMode.OS if cause == "--sync os" else SyncMode.ALWAYS
    with power(tmp_path, lies=cause == "the disk syncs nothing") as disks:
        folder = disks.mount / "log"
        async with local_cluster(folder, sequencers=1, chains=1, replicas=2, sync=sync) as cluster:
            disks.settle()
            async with Clients(cluster, trims=False) as clients:
                await clients.more(20)
                await _cut(disks, cluster, cluster.processes[:], None)
                await clients.more(20)
            _, violations = await findings(cluster, clients.history)
    assert any("vanished" in violation for violation in violations), violations
