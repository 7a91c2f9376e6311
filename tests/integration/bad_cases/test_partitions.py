"""Links that are cut while all else goes on: two leaders, and neighbours that hear no more of each
other."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from corfu.messages import Heartbeat
from corfu.tools.cluster import LocalCluster
from tests.integration.bad_cases.clients import Clients, judge
from tests.integration.bad_cases.network import Cut, OwnNetwork
from tests.integration.bad_cases.shares import every_second, only
from tests.integration.redundancy import status_of, whole
from tests.integration.running import local_cluster

pytestmark = [pytest.mark.processes, pytest.mark.timeout(240)]

CUT_S = 3.0
"""Longer than all timeouts of an election and of a unit that is left out."""


def _leader_cuts(cluster: LocalCluster, network: OwnNetwork, leader: int, case: str) -> list[Cut]:
    shape = cluster.shape
    own = {shape.sequencer_addresses()[leader].port}
    others = {address.port for address in shape.sequencer_addresses().values()} - own
    units = {address.port for address in shape.unit_addresses().values()}
    if case == "it hears no replica":
        return [network.cut(sources=others, targets=own)]
    if case == "no replica hears it":
        return [network.cut(sources=own, targets=others)]
    assert case == "it hears no answer and goes on"
    # Its orders and votes get everywhere, as late ones would; only the others must believe it
    # dead, or they would not elect another.
    return [
        network.cut(sources=others | units, targets=own),
        network.cut(sources=own, targets=others, message=Heartbeat),
    ]


# The simulator's `one_way` cuts are the first two; the last one picks out messages, by nft.
@pytest.mark.parametrize(
    "case",
    only(
        ("it hears no answer and goes on",),
        ("it hears no replica", "no replica hears it", "it hears no answer and goes on"),
    ),
)
async def test_two_leaders_by_a_one_way_partition_do_no_harm(
    tmp_path: Path, network: OwnNetwork, case: str
) -> None:
    async with local_cluster(tmp_path / "log", chains=1, replicas=3) as cluster:
        async with Clients(cluster) as clients:
            before = await status_of(cluster)
            cuts = _leader_cuts(cluster, network, before.replica, case)
            await asyncio.sleep(CUT_S)
            await clients.more()
            after = await status_of(cluster, lambda status: status.replica != before.replica)
            assert after.ballot > before.ballot
            assert after.layout.epoch > before.layout.epoch
            assert all(cut.dropped for cut in cuts)
            for cut in cuts:
                cut.heal()
            await clients.more(50)
        await judge(cluster, clients.history)


@pytest.mark.parametrize(("before", "after"), every_second([(1, 2), (2, 3)]))
async def test_neighbours_cut_from_each_other_lose_one_of_them(
    tmp_path: Path, network: OwnNetwork, before: int, after: int
) -> None:
    async with local_cluster(tmp_path / "log", chains=1, replicas=3) as cluster:
        async with Clients(cluster) as clients:
            addresses = cluster.shape.unit_addresses()
            one, other = {addresses[before].port}, {addresses[after].port}
            cuts = [
                network.cut(sources=one, targets=other),
                network.cut(sources=other, targets=one),
            ]
            # Both answer all replicas: what tells on them is that one does not hear the other.
            await clients.more()
            status = await status_of(cluster)
            (chain,) = status.layout.open_segment.chains
            assert len(chain) == 2
            assert not {before, after} <= set(chain), "one of the two was left out"
            # What does not get there is not answered either.
            assert cuts[0].dropped
            for cut in cuts:
                cut.heal()
            await whole(cluster)
            await clients.more()
        await judge(cluster, clients.history)
