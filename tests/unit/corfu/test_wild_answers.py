"""Answers with numbers that no leader gives."""

from __future__ import annotations

import pytest

from corfu.client.log import LogClient
from corfu.messages import Fill, GetToken, Grant, Message
from corfu.types import Address, Offset, Position
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
