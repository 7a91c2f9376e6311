"""What single units hold at a moment, asked with Inspect."""

from __future__ import annotations

import asyncio

from corfu.addresses import parse_addresses
from corfu.messages import Inspect, Inspected, InspectedOffset
from corfu.tools.asking import asking
from corfu.tools.cluster import LocalCluster
from corfu.types import Offset, State

INSPECT_S = 0.5
INSPECTED_OFFSETS = 1024


async def held(
    cluster: LocalCluster, unit: int, start: int, end: int | None = None
) -> dict[int, InspectedOffset]:
    """Return what a unit holds at the offsets from `start` on, at most 1,024 of them.

    A unit that does not answer, say because it is stopped, is waited for.
    """
    address = cluster.process("storage", unit).program.address
    stop = Offset(start + INSPECTED_OFFSETS if end is None else end)
    replicas = parse_addresses(cluster.cluster)
    async with asking(replicas) as asker:
        while True:
            if await asker.statuses(replicas, INSPECT_S):
                request = Inspect(asker.new_request(), Offset(start), stop)
                reply = await asker.ask(address, request, INSPECT_S)
                if isinstance(reply, Inspected):
                    return {each.offset: each for each in reply.offsets if not each.tentative}


async def top(cluster: LocalCluster, unit: int, start: int) -> int:
    """Return the offset above the highest value that a unit holds, at least `start`."""
    found = await held(cluster, unit, start)
    values = [offset for offset, each in found.items() if each.state in (State.DATA, State.JUNK)]
    return max(values, default=start - 1) + 1


async def above(cluster: LocalCluster, unit: int, start: int, budget_s: float) -> int:
    """Wait until a unit holds a value at `start` or above; return the offset above it."""
    async with asyncio.timeout(budget_s):
        while (found := await top(cluster, unit, start)) <= start:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
    return found
