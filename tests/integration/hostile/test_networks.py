"""Networks that lose and double datagrams, and paths that are narrower than the datagrams."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from pathlib import Path

import pytest

from corfu.config import LOOPBACK_DATAGRAM_BYTES_MAX, LinkSettings
from corfu.runtime.udp import bind_udp
from corfu.tools.operations import Append, Outcome
from corfu.tools.processes import Program
from corfu.types import Address
from tests.integration.bad_cases.clients import Clients, judge
from tests.integration.bad_cases.network import OwnNetwork
from tests.integration.hostile.figures import Figures
from tests.integration.redundancy import whole
from tests.integration.running import DEADLINE_S, local_cluster

pytestmark = [pytest.mark.processes, pytest.mark.timeout(240)]

LOSS_PERCENT = 5
DUPLICATES_PERCENT = 2
NARROW_BYTES = 1280
"""The least that IPv6 asks of a path."""

LARGE_BYTES = 100_000
WORKS_S = 15.0


def _lossy(network: OwnNetwork) -> None:
    network.lose(LOSS_PERCENT)
    network.duplicate(DUPLICATES_PERCENT)


async def test_network_that_loses_and_doubles_datagrams_does_no_harm(
    tmp_path: Path, network: OwnNetwork, figures: Figures
) -> None:
    _lossy(network)
    async with local_cluster(tmp_path / "log", sequencers=1, chains=1, replicas=2) as cluster:
        async with Clients(cluster) as clients:
            await clients.more(200)
        await judge(cluster, clients.history)
    lost, doubled = network.hits
    assert lost > 20
    assert doubled > 10
    figures.add(clients.history, datagrams_lost=lost, doubled=doubled)


@pytest.mark.long
async def test_lossy_network_with_three_replicas_and_two_chains_does_no_harm(
    tmp_path: Path, network: OwnNetwork, figures: Figures
) -> None:
    _lossy(network)
    async with local_cluster(tmp_path / "log") as cluster:
        async with Clients(cluster) as clients, asyncio.timeout(DEADLINE_S + WORKS_S):
            until = time.monotonic() + WORKS_S
            while time.monotonic() < until:
                await clients.append(length=LARGE_BYTES)
        await judge(cluster, clients.history)
    lost, doubled = network.hits
    figures.add(clients.history, datagrams_lost=lost, doubled=doubled)


@pytest.mark.long
async def test_datagrams_longer_than_the_mtu_are_fragmented_and_all_goes_on(
    tmp_path: Path, network: OwnNetwork, figures: Figures
) -> None:
    """The kernel cuts what is too long for the link itself: no send fails (EMSGSIZE)."""
    network.set_mtu(NARROW_BYTES)
    async with local_cluster(tmp_path / "log") as cluster:
        async with Clients(cluster) as clients, asyncio.timeout(DEADLINE_S + WORKS_S):
            until = time.monotonic() + WORKS_S
            while time.monotonic() < until:
                assert await clients.append(length=LARGE_BYTES) is not None
        await judge(cluster, clients.history)
    assert network.fragments > 10_000
    figures.add(clients.history, fragments=network.fragments)


async def test_socket_on_a_link_with_low_mtu_sends_long_datagrams_whole(
    network: OwnNetwork,
) -> None:
    network.set_mtu(NARROW_BYTES)
    sender, receiver = await bind_udp("127.0.0.1", 0), await bind_udp("127.0.0.1", 0)
    received: list[bytes] = []
    arrived = asyncio.Event()

    def receive(data: bytes, _: Address) -> None:
        received.append(data)
        if len(received) == 2:
            arrived.set()

    receiver.listen(receive)
    sent = [bytes(LOOPBACK_DATAGRAM_BYTES_MAX), b"the next one"]
    sender.send([(data, receiver.address) for data in sent])
    async with asyncio.timeout(DEADLINE_S):
        await arrived.wait()
    assert sorted(received) == sorted(sent)
    assert sender.counters.errors_out == 0
    for each in (sender, receiver):
        each.close()
        await each.wait_closed()
    assert network.fragments > 20


@pytest.mark.long
async def test_black_hole_for_long_datagrams_does_not_touch_those_of_the_default_length(
    tmp_path: Path, network: OwnNetwork, figures: Figures
) -> None:
    """Off loopback datagrams have 1,200 bytes unless asked otherwise: that passes."""
    network.swallow_longer_than(NARROW_BYTES)

    def alter(program: Program) -> Program:
        return replace(program, argv=(*program.argv, "--datagram-bytes", "1200"))

    async with local_cluster(tmp_path / "log", alter=alter) as cluster:
        async with Clients(cluster, link=LinkSettings()) as clients:
            for _ in range(20):
                assert await clients.append(length=LARGE_BYTES) is not None
            await clients.more(200)
        await judge(cluster, clients.history)
    assert network.hits == [0]
    figures.add(clients.history)


@pytest.mark.long
async def test_black_hole_for_long_datagrams_ends_in_time_and_loses_nothing(
    tmp_path: Path, network: OwnNetwork, figures: Figures
) -> None:
    """Configured too long, datagrams vanish: short entries go, long ones end without a verdict
    that names who does not answer; and when the path is whole again, all goes on."""
    async with local_cluster(tmp_path / "log", chains=1) as cluster:
        async with Clients(cluster, working=False) as clients:
            assert await clients.append(length=LARGE_BYTES) is not None
            network.swallow_longer_than(NARROW_BYTES)
            assert await clients.append(length=100) is not None
            began = time.monotonic()
            assert await clients.append(3.0, length=LARGE_BYTES) is None
            assert time.monotonic() - began < 3.0 + DEADLINE_S
            assert await clients.append(length=100) is not None
            (swallowed,) = network.hits
            assert swallowed
            network.heal()
            assert await clients.append(length=LARGE_BYTES) is not None
            await whole(cluster)
        await judge(cluster, clients.history)
    outcomes = [each.outcome for each in clients.history if isinstance(each, Append)]
    assert outcomes.count(Outcome.APPENDED) == len(outcomes) - 1
    figures.add(clients.history, datagrams_swallowed=swallowed)
