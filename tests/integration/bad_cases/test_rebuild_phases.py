"""kill -9 of each role in a rebuild, while values are copied and when all is copied.

The rebuild is held there by dropping the one message that it waits for.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

import corfu
from corfu.messages import Entries, Message, RebuildDone, StatusIs
from corfu.tools.check import CheckOptions
from corfu.tools.cluster import LocalCluster
from corfu.tools.processes import Process
from tests.integration.bad_cases.clients import ClientProcess, Clients, judge
from tests.integration.bad_cases.network import Cut, OwnNetwork
from tests.integration.redundancy import appended_to, leader_process, status_of, whole
from tests.integration.running import DEADLINE_S, local_cluster

pytestmark = [pytest.mark.processes, pytest.mark.timeout(400)]

DIES, SOURCE, OTHER, NEW = 1, 2, 3, 4
RECORDS = 30
RECORD = bytes(1_000_000)


def _cut(cluster: LocalCluster, network: OwnNetwork, message: type[Message]) -> Cut:
    ports = {id_: address.port for id_, address in cluster.shape.unit_addresses().items()}
    if message is Entries:
        return network.cut(sources={ports[SOURCE], ports[OTHER]}, targets={ports[NEW]},
                           message=message)  # fmt: skip
    return network.cut(sources={ports[NEW]}, message=message)


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


@pytest.mark.parametrize("message", [Entries, RebuildDone], ids=["copying", "copied"])
async def test_every_role_killed_in_a_rebuild_that_goes_on_and_ends(
    tmp_path: Path, network: OwnNetwork, message: type[Message]
) -> None:
    async with local_cluster(tmp_path / "log", chains=1, replicas=3, spares=1) as cluster:
        async with corfu.connect(cluster.cluster) as log:
            for _ in range(RECORDS // 10):
                await asyncio.gather(*(log.append(RECORD, timeout=DEADLINE_S) for _ in range(10)))
        client = ClientProcess(cluster, "killed", tmp_path)
        async with Clients(cluster, trims=False) as clients:
            await client.start()
            cut = _cut(cluster, network, message)
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
            clients.history + client.history(),
            # What was appended first, and what the killed client did last, stands in no history.
            options=CheckOptions(appends_complete=False, trims_complete=False),
        )
