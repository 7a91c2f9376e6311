"""Disks that answer with errors: the process ends, nobody misses it, and it comes back."""

from __future__ import annotations

import asyncio
import errno
from pathlib import Path

import pytest

from corfu.sequencer.arguments import STATUS_DISK_FAILED as REPLICA_STATUS
from corfu.storage_units.server import STATUS_DISK_FAILED as UNIT_STATUS
from corfu.tools.cluster import LocalCluster
from corfu.tools.processes import Process
from tests.integration.bad_cases.clients import Clients, judge
from tests.integration.hostile.failing_calls import FailingCalls, require_failing_calls
from tests.integration.hostile.figures import Figures
from tests.integration.redundancy import leader_process, status_of, whole
from tests.integration.running import DEADLINE_S, local_cluster

pytestmark = [pytest.mark.processes, pytest.mark.timeout(240)]

SYNC = "posix/io/sync/fdatasync"
WRITE = "posix/io/rw/pwrite"
READ = "posix/io/rw/pread"
UNITS = {"head": 1, "tail": 3}


async def _fails(process: Process, calls: FailingCalls, call: str, number: int) -> None:
    """Let a call of the process fail, and see that it ends by itself and says why."""
    calls.fail(process, call, number)
    async with asyncio.timeout(DEADLINE_S):
        status = await process.ended()
    assert status == (UNIT_STATUS if process.program.role == "storage" else REPLICA_STATUS) == 75
    *_, said = process.output().splitlines()
    assert "the disk failed: " in said
    assert f"[Errno {number}]" in said


async def test_unit_whose_sync_fails_ends_and_loses_nothing(
    tmp_path: Path, figures: Figures
) -> None:
    require_failing_calls()
    calls = FailingCalls(tmp_path, "storage")
    async with local_cluster(
        tmp_path / "log", sequencers=1, chains=1, replicas=2, alter=calls.alter
    ) as cluster:
        async with Clients(cluster) as clients:
            unit = cluster.process("storage", 2)
            await _fails(unit, calls, SYNC, errno.EIO)
            await cluster.restart(unit)
            await clients.more(20)
        await judge(cluster, clients.history)
    figures.add(clients.history)


async def _process(cluster: LocalCluster, place: str) -> Process:
    if place in UNITS:
        return cluster.process("storage", UNITS[place])
    leader = await leader_process(cluster)
    if place == "leader":
        return leader
    return cluster.process("sequencer", leader.program.id % 3 + 1)


@pytest.mark.long
@pytest.mark.parametrize(("call", "number"), [(SYNC, errno.EIO), (WRITE, errno.ENOSPC)])
@pytest.mark.parametrize("place", ["head", "tail", "leader", "follower"])
async def test_process_whose_disk_fails_is_not_missed_and_comes_back(
    tmp_path: Path, figures: Figures, place: str, call: str, number: int
) -> None:
    require_failing_calls()
    calls = FailingCalls(tmp_path, "storage", "sequencer")
    async with local_cluster(tmp_path / "log", chains=1, alter=calls.alter) as cluster:
        async with Clients(cluster) as clients:
            process = await _process(cluster, place)
            await _fails(process, calls, call, number)
            await clients.more(20)
            await cluster.restart(process)
            await whole(cluster)
            await clients.more(20)
        await judge(cluster, clients.history)
    figures.add(clients.history)


@pytest.mark.long
async def test_unit_that_cannot_read_goes_on_and_readers_get_the_other_copies(
    tmp_path: Path, figures: Figures
) -> None:
    require_failing_calls()
    calls = FailingCalls(tmp_path, "storage")
    async with local_cluster(tmp_path / "log", chains=1, alter=calls.alter) as cluster:
        async with Clients(cluster) as clients:
            await clients.more(50)
            tail = cluster.process("storage", UNITS["tail"])
            calls.fail(tail, READ, errno.EIO)
            await clients.more(100)
            assert tail.status is None
            await status_of(cluster)
        await judge(cluster, clients.history, units=False)
    figures.add(clients.history)
