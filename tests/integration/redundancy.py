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


async def appended_to(cluster: LocalCluster, units: set[int]) -> StatusIs:
    """Wait until these units, and at least two in all, stand in the one chain that appends go to.

    That is enough for one of them to be killed, and comes at once where full redundancy takes a
    while: on a busy machine a unit that is started again is away for long enough to be left out.
    """
    return await status_of(cluster, lambda status: _has(status, units))


def _has(status: StatusIs, units: set[int]) -> bool:
    chains = status.layout.open_segment.chains
    return len(chains) == 1 and units <= set(chains[0]) and len(chains[0]) >= 2


def _is_whole(cluster: LocalCluster, status: StatusIs) -> bool:
    layout, shape = status.layout, cluster.shape
    widths = {len(chain) for segment in layout.segments for chain in segment.chains}
    return len(layout.open_segment.chains) == shape.chains and widths == {shape.replicas}
