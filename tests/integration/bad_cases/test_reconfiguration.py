"""The leader is killed while it makes an epoch without a unit that died."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from corfu.messages import StatusIs
from corfu.tools.processes import Process
from tests.integration.bad_cases.clients import Clients, judge
from tests.integration.bad_cases.shares import only
from tests.integration.redundancy import leader_process, status_of
from tests.integration.running import DEADLINE_S, local_cluster

pytestmark = pytest.mark.processes


BEGINS = "a new epoch is needed"
ACTIVE = "is active"
REBUILDS = "is rebuilt"

# An epoch is active about 20 ms after it was begun, on an idle machine.
MOMENTS = [
    (1, BEGINS, 0),
    (3, BEGINS, 4),
    (1, BEGINS, 10),
    (3, BEGINS, 20),
    (1, ACTIVE, 0),
    (3, ACTIVE, 10),
    (1, REBUILDS, 0),
]
"""Who died, what the leader says, and the milliseconds after which it is killed."""


async def _says(leader: Process, text: str, said_before: int) -> None:
    """Wait until a leader says something."""
    async with asyncio.timeout(DEADLINE_S):
        while text not in leader.output()[said_before:]:  # noqa: ASYNC110
            await asyncio.sleep(0.001)


# The simulator kills leaders at any moment of a change; here are one before and one after it is
# active.
@pytest.mark.parametrize(
    ("died", "text", "delay_ms"), only(((1, BEGINS, 10), (1, REBUILDS, 0)), MOMENTS)
)
async def test_leader_killed_while_it_leaves_out_a_dead_unit(
    tmp_path: Path, died: int, text: str, delay_ms: int
) -> None:
    async with local_cluster(tmp_path / "log", chains=1, replicas=3, spares=1) as cluster:
        async with Clients(cluster) as clients:
            leader = await leader_process(cluster)
            said = len(leader.output())
            await cluster.process("storage", died).kill()
            await _says(leader, text, said)
            await asyncio.sleep(delay_ms / 1000)
            await leader.kill()
            await clients.more()
            await cluster.restart(leader)
            status = await status_of(cluster, lambda status: not _appends_to(status, died))
            assert len(status.layout.open_segment.chains[0]) >= 2
            await clients.more()
        await judge(cluster, clients.history, units=False)


def _appends_to(status: StatusIs, unit: int) -> bool:
    return any(unit in chain for chain in status.layout.open_segment.chains)
