"""SIGSTOP of leader, head, middle and tail unit for some seconds, and back."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from corfu.tools.cluster import LocalCluster
from corfu.tools.processes import Process
from tests.integration.bad_cases.clients import Clients, judge
from tests.integration.bad_cases.shares import only
from tests.integration.redundancy import leader_process, status_of
from tests.integration.running import local_cluster

pytestmark = pytest.mark.processes

UNITS = {"head": 1, "middle": 2, "tail": 3}


async def _process(cluster: LocalCluster, role: str) -> Process:
    if role == "leader":
        return await leader_process(cluster)
    return cluster.process("storage", UNITS[role])


# The simulator's `pause` stops any of them, and for long; here are a replica and a unit.
@pytest.mark.parametrize(
    ("role", "stopped_s"),
    only(
        (("leader", 4.0), ("head", 2.0)),
        (("leader", 4.0), ("head", 2.0), ("tail", 10.0), ("middle", 3.0)),
    ),
)
async def test_process_stopped_and_back_loses_nothing(
    tmp_path: Path, role: str, stopped_s: float
) -> None:
    async with local_cluster(tmp_path / "log", chains=1, replicas=3) as cluster:
        async with Clients(cluster) as clients:
            before = await status_of(cluster)
            process = await _process(cluster, role)
            until = asyncio.get_running_loop().time() + stopped_s
            process.pause()
            try:
                # Appends go on meanwhile, however long it lasts.
                await clients.more()
                await asyncio.sleep(max(0.0, until - asyncio.get_running_loop().time()))
                await clients.more()
            finally:
                process.resume()
            # It has old requests in its socket, and its own old ones to repeat: none does harm.
            await asyncio.sleep(0.5)
            await clients.more(50)
            assert process.status is None, "it goes on in place"
            if role == "leader":
                assert (await status_of(cluster)).ballot > before.ballot, "another was elected"
        await judge(cluster, clients.history)


async def test_unit_stopped_for_less_than_it_takes_to_leave_it_out_stays(tmp_path: Path) -> None:
    async with local_cluster(tmp_path / "log", chains=1, replicas=3) as cluster:
        async with Clients(cluster) as clients:
            for unit in (1, 2, 3):
                process = cluster.process("storage", unit)
                process.pause()
                await asyncio.sleep(0.4)
                process.resume()
                await clients.more()
        await judge(cluster, clients.history)
