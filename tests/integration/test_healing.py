"""Units that die for good, or come back too late: the cluster is whole again with no human."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path

import pytest

from corfu.addresses import parse_addresses
from corfu.messages import StatusIs
from corfu.tools.asking import ask_replicas
from corfu.tools.cluster import LocalCluster
from corfu.tools.health import leader_of
from corfu.types import UnitId
from tests.integration.appending import Appending, contents
from tests.integration.running import local_cluster

pytestmark = pytest.mark.processes

WHOLE_S = 90.0
"""Longest wait for full redundancy: chains are merged 10 s after the last change at the soonest."""


async def _whole(cluster: LocalCluster) -> StatusIs:
    """Wait until every chain of every segment has its full width, and return the status."""
    async with asyncio.timeout(WHOLE_S):
        while True:
            status = leader_of(await ask_replicas(parse_addresses(cluster.cluster), 1.0))
            if status is not None and _is_whole(cluster, status):
                return status
            await asyncio.sleep(0.2)


def _is_whole(cluster: LocalCluster, status: StatusIs) -> bool:
    layout, shape = status.layout, cluster.shape
    widths = {len(chain) for segment in layout.segments for chain in segment.chains}
    return len(layout.open_segment.chains) == shape.chains and widths == {shape.replicas}


async def test_unit_killed_for_good_is_replaced_by_a_spare(tmp_path: Path) -> None:
    async with local_cluster(tmp_path / "log", chains=1, replicas=3, spares=1) as cluster:
        async with Appending(cluster) as appending:
            await appending.more(200)
            await cluster.process("storage", 1).kill()  # the head
            killed_at = time.monotonic()
            await appending.more(20)
            resumed_s = time.monotonic() - killed_at
            status = await _whole(cluster)
            await appending.more(20)
        assert resumed_s < 10, "about 1.5 s on an idle machine"
        stand_in = {id_ for s in status.layout.segments for chain in s.chains for id_ in chain}
        assert stand_in == {2, 3, 4}
        assert len(status.layout.segments) == 1, "merged: the spare holds the old entries, too"
        assert await contents(cluster) == appending.acknowledged
        # The spare alone is left of those that could show the old entries, but for one.
        await cluster.process("storage", 2).kill()
        assert await contents(cluster) == appending.acknowledged


async def test_unit_stopped_too_long_comes_back_as_a_new_incarnation(tmp_path: Path) -> None:
    async with local_cluster(tmp_path / "log", sequencers=1, chains=1, replicas=3) as cluster:
        before = (await _whole(cluster)).layout.unit(UnitId(2)).incarnation
        async with Appending(cluster) as appending:
            await appending.more(100)
            stopped = cluster.process("storage", 2)
            os.kill(stopped.pid, signal.SIGSTOP)
            try:
                await appending.more(50)
            finally:
                os.kill(stopped.pid, signal.SIGCONT)
            await asyncio.sleep(0.5)
            status = await _whole(cluster)
            await appending.more(20)
        assert status.layout.unit(UnitId(2)).incarnation != before
        assert stopped.status is None, "the process goes on in place"
        assert await contents(cluster) == appending.acknowledged
