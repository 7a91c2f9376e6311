"""A removed unit that comes back with a value that lost, and a disk that is wiped twice."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

import corfu
from corfu.messages import StatusIs
from corfu.tools.formatting import format_unit_anew
from corfu.types import State, UnitId
from tests.integration.bad_cases.clients import Clients, judge
from tests.integration.bad_cases.holdings import above, held
from tests.integration.redundancy import leader_process, status_of, whole
from tests.integration.running import DEADLINE_S, local_cluster

pytestmark = [pytest.mark.processes, pytest.mark.timeout(240)]

HEAD, MIDDLE, TAIL = 1, 2, 3


def _lists(status: StatusIs, unit: int) -> bool:
    return any(each.id == unit for each in status.layout.units)


async def test_unit_that_comes_back_with_a_value_that_lost_shows_it_to_nobody(
    tmp_path: Path,
) -> None:
    async with local_cluster(tmp_path / "log", chains=1, replicas=3) as cluster:
        before = (await status_of(cluster)).layout.unit(UnitId(HEAD)).incarnation
        async with (
            corfu.connect(cluster.cluster) as log,
            Clients(cluster, working=False) as quiet,
        ):
            for _ in range(20):
                await quiet.append()
            head, middle = (cluster.process("storage", id_) for id_ in (HEAD, MIDDLE))
            middle.pause()
            at = await log.tail(timeout=DEADLINE_S)
            losing = asyncio.create_task(quiet.append(0.3))
            assert await above(cluster, HEAD, at, DEADLINE_S) == at + 1
            lost = (await held(cluster, HEAD, at, at + 1))[at]
            assert lost.state is State.DATA
            await head.kill()
            # Also what waits in its socket is gone with it: nobody else has seen the value.
            await middle.kill()
            await cluster.restart(middle)
            assert await losing is None, "it was not acknowledged"
            # No trims: what the units hold at the offset is to be seen in the end.
            async with Clients(cluster, trims=False) as clients:
                await status_of(cluster, lambda status: not _lists(status, HEAD))
                # What only the old head held is decided without it.
                assert await log.fill(at, timeout=DEADLINE_S) is State.JUNK
                await clients.more(50)
                await cluster.restart(head)
                status = await whole(cluster)
                await clients.more(50)
            assert status.layout.unit(UnitId(HEAD)).incarnation != before
            for unit in (HEAD, MIDDLE, TAIL):
                assert (await held(cluster, unit, at, at + 1))[at].state is State.JUNK
            with pytest.raises(corfu.JunkError):
                await log.read(at, timeout=DEADLINE_S)
        await judge(cluster, quiet.history + clients.history)


async def test_disk_wiped_and_wiped_again_on_the_same_address_during_a_failover(
    tmp_path: Path,
) -> None:
    async with local_cluster(tmp_path / "log", chains=1, replicas=3) as cluster:
        before = (await status_of(cluster)).layout.unit(UnitId(MIDDLE)).incarnation
        async with Clients(cluster) as clients:
            leader = await leader_process(cluster)
            unit = cluster.process("storage", MIDDLE)
            for _ in range(2):
                await unit.kill()
                await asyncio.to_thread(format_unit_anew, unit.program.data)
                unit = await cluster.restart(unit)
                # The first of the two is just about to be met by this leader.
                await leader.kill()
            await clients.more()
            await cluster.restart(leader)
            status = await whole(cluster)
            await clients.more(50)
        assert status.layout.unit(UnitId(MIDDLE)).incarnation != before
        assert unit.status is None
        await judge(cluster, clients.history)
