"""kill -9 of each role in a rebuild, which is held up by dropping the values that are copied."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from corfu.messages import Entries, StatusIs
from corfu.tools.check_options import CheckOptions
from corfu.tools.cluster import LocalCluster
from corfu.tools.processes import Process
from tests.integration.bad_cases.clients import ClientProcess, Clients, judge
from tests.integration.bad_cases.network import Cut, OwnNetwork
from tests.integration.redundancy import appended_to, leader_process, status_of, whole
from tests.integration.running import DEADLINE_S, local_cluster

pytestmark = [pytest.mark.processes, pytest.mark.timeout(400)]

DIES, SOURCE, OTHER, NEW = 1, 2, 3, 4
RECORDS = 30
RECORD_BYTES = 1_000_000


def _cut(cluster: LocalCluster, network: OwnNetwork) -> Cut:
    ports = {id_: address.port for id_, address in cluster.shape.unit_addresses().items()}
    return network.cut(sources={ports[SOURCE], ports[OTHER]}, targets={ports[NEW]}, message=Entries)


async def _open(cluster: LocalCluster, cut: Cut) -> StatusIs:
    """Wait until the rebuild is held up anew."""
    before = cut.dropped
    async with asyncio.timeout(DEADLINE_S):
        while cut.dropped == before:  # noqa: ASYNC110 - nft sets no event
            await asyncio.sleep(0.02)
    return await status_of(cluster, lambda status: _is_rebuilt(status))


def _is_rebuilt(status: StatusIs) -> bool:
    return any(each.unit == NEW and each.reached < each.end for each in status.rebuilds)


async def _victim(cluster: LocalCluster, role: str) -> Process:
    if role == "leader":
        return await leader_process(cluster)
    return cluster.process("storage", {"source": SOURCE, "new unit": NEW}[role])


async def test_every_role_killed_in_a_rebuild_that_goes_on_and_ends(
    tmp_path: Path, network: OwnNetwork
) -> None:
    async with local_cluster(tmp_path / "log", chains=1, replicas=3, spares=1) as cluster:
        async with Clients(cluster, working=False) as first:
            for _ in range(RECORDS // 10):
                await asyncio.gather(*(first.append(length=RECORD_BYTES) for _ in range(10)))
        client = ClientProcess(cluster, "killed", tmp_path)
        # Only the one that is killed trims, and little: there must be enough left to be copied.
        async with Clients(cluster, trims=False) as clients:
            await client.start()
            cut = _cut(cluster, network)
            await cluster.process("storage", DIES).kill()
            await appended_to(cluster, {SOURCE, OTHER, NEW})
            await _open(cluster, cut)
            await client.kill()
            for role in ("leader", "source", "new unit"):
                await _open(cluster, cut)
                victim = await _victim(cluster, role)
                await victim.kill()
                await cluster.restart(victim)
                await clients.more()
                await appended_to(cluster, {SOURCE, NEW})
            await _open(cluster, cut)
            cut.heal()
            status = await whole(cluster)
            assert {len(segment.chains) for segment in status.layout.segments} == {1}
            await clients.more()
        await judge(
            cluster,
            first.history + clients.history + client.history(),
            # What the killed client did last stands in no history.
            options=CheckOptions(appends_complete=False, trims_complete=False),
        )
