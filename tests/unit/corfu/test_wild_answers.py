"""Answers with numbers that no leader gives."""

from __future__ import annotations

import pytest

from corfu.client.log import LogClient
from corfu.errors import JunkError, UnavailableError
from corfu.messages import Fill, GetTail, GetToken, Grant, Message, Read, TailIs
from corfu.types import Address, Offset, Position, State
from tests.unit.corfu.client_world import Drop, FakeCluster, run


@pytest.mark.parametrize("count", [0, 2, 2**63])
def test_append_grant_of_another_count_than_asked_is_not_used(count: int) -> None:
    """Every token of it that no entry needs would be filled: one after the other, for ever."""
    lies = 0

    async def lie_once(to: Address, message: Message) -> Message | Drop | None:
        nonlocal lies
        if isinstance(message, GetToken) and not lies:
            lies += 1
            return Grant(message.request, message.epoch, Offset(5), count, Offset(1 << 20), 0, 0)
        return None

    async def append(cluster: FakeCluster, client: LogClient) -> Position:
        cluster.script = lie_once
        return await client.append(b"record")

    cluster = FakeCluster()
    assert run(append, cluster) == Position(Offset(0), 0)
    assert cluster.requests(Fill) == []


def test_read_at_a_hole_when_writers_are_said_to_take_centuries_asks_for_what_fits() -> None:
    """The time that a unit is asked to wait travels in 32 bits of milliseconds."""

    async def lie(to: Address, message: Message) -> Message | Drop | None:
        if isinstance(message, GetTail):
            mark = Offset(0)
            return TailIs(message.request, cluster.layout.epoch, Offset(3), mark, mark, 2**63, 0)
        return None

    async def read(cluster: FakeCluster, client: LogClient) -> State:
        cluster.script = lie
        await client.tail()
        # It waits for them a while; its own time is enough to fill the hole at last.
        with pytest.raises(UnavailableError):
            await client.read(2, timeout=9)
        with pytest.raises(JunkError):
            await client.read(2)
        return await client.fill(2)

    cluster = FakeCluster()
    assert run(read, cluster) is State.JUNK
    assert client_waits(cluster) <= 10_000


def client_waits(cluster: FakeCluster) -> int:
    return max(message.wait_ms for message in cluster.requests(Read))
