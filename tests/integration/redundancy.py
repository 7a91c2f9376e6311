"""Who leads a cluster and how whole it is, for tests with real processes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from corfu.addresses import parse_addresses
from corfu.messages import StatusIs
from corfu.tools.asking import ask_replicas
from corfu.tools.cluster import LocalCluster
from corfu.tools.health import leader_of
from corfu.tools.processes import Process

WHOLE_S = 90.0
"""Longest wait for full redundancy: chains are merged 10 s after the last change at the soonest."""


async def status_of(
    cluster: LocalCluster, met: Callable[[StatusIs], bool] = lambda _: True
) -> StatusIs:
    """Wait for a leader whose status is as wanted."""
    async with asyncio.timeout(WHOLE_S):
        while True:
            status = leader_of(await ask_replicas(parse_addresses(cluster.cluster), 0.5))
            if status is not None and met(status):
                return status
            await asyncio.sleep(0.05)


async def leader_process(cluster: LocalCluster) -> Process:
    """Return the process of the replica that grants."""
    return cluster.process("sequencer", (await status_of(cluster)).replica)


async def whole(cluster: LocalCluster) -> StatusIs:
    """Wait until every chain of every segment has its full width, and return the status."""
    return await status_of(cluster, lambda status: _is_whole(cluster, status))


def _is_whole(cluster: LocalCluster, status: StatusIs) -> bool:
    layout, shape = status.layout, cluster.shape
    widths = {len(chain) for segment in layout.segments for chain in segment.chains}
    return len(layout.open_segment.chains) == shape.chains and widths == {shape.replicas}
