"""The whole cluster is killed at once, with clients at work, trims under way, and phases open."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.integration.bad_cases.clients import Clients, judge
from tests.integration.redundancy import whole
from tests.integration.running import local_cluster

pytestmark = pytest.mark.processes


async def test_whole_cluster_killed_at_once_under_load_and_trims(tmp_path: Path) -> None:
    async with local_cluster(tmp_path / "log", chains=1, replicas=3) as cluster:
        async with Clients(cluster) as clients:
            for stopped in (None, 2, 3):
                # What only the head, or all but the tail unit have is settled after the start.
                if stopped is not None:
                    cluster.process("storage", stopped).pause()
                    await asyncio.sleep(0.1)
                killed = list(cluster.processes)
                await asyncio.gather(*(process.kill() for process in killed))
                await asyncio.gather(*(cluster.restart(process) for process in killed))
                await clients.more()
            await whole(cluster)
        await judge(cluster, clients.history)
