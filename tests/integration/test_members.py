"""Replicas that hand over or are replaced, as real processes: appends go on, nothing is lost."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from corfu.tools.cluster import HOST, LocalCluster, free_base_port
from corfu.tools.processes import Process, Program
from corfu.types import Address
from tests.integration.appending import Appending, contents
from tests.integration.running import DEADLINE_S, complaint, corfu, local_cluster

pytestmark = pytest.mark.processes


def _run(cluster: LocalCluster, *arguments: str) -> dict[str, object]:
    result = corfu(*arguments, "-o", "json", cluster=cluster.cluster)
    assert result.returncode == 0, result
    told: dict[str, object] = json.loads(result.stdout)
    return told


def _leader(cluster: LocalCluster) -> int:
    leader = _run(cluster, "sequencer", "status")["leader"]
    assert isinstance(leader, int)
    return leader


@contextlib.asynccontextmanager
async def _joined(cluster: LocalCluster, id_: int, folder: Path) -> AsyncIterator[Process]:
    """Format a replica with --join, as an operator does, and start it."""
    address = Address(HOST, free_base_port(1))
    server = (sys.executable, "-m", "corfu.sequencer")
    made = await asyncio.create_subprocess_exec(
        *server, "format", str(folder), "--id", str(id_), "--join", cluster.cluster
    )
    assert await made.wait() == 0
    argv = (*server, "start", str(folder), "--listen", str(address))
    process = Process(Program("sequencer", id_, address, folder, argv), Path(f"{folder}.log"))
    try:
        await process.ready()
        yield process
    finally:
        await process.kill()


async def test_replica_replaced_under_appends_counts_for_a_majority(tmp_path: Path) -> None:
    async with (
        local_cluster(tmp_path / "log", chains=1, replicas=2) as cluster,
        _joined(cluster, 4, tmp_path / "replica-4") as new,
        Appending(cluster) as appending,
    ):
        await appending.more(20)
        old = await asyncio.to_thread(_leader, cluster)
        at = str(new.program.address)
        planned = await asyncio.to_thread(
            _run, cluster, "sequencer", "replace", str(old), at, "--dry-run"
        )
        assert planned["accepted"]
        assert planned["goal"] is None
        done = await asyncio.to_thread(_run, cluster, "sequencer", "replace", str(old), at)
        goal = done["goal"]
        assert isinstance(goal, dict)
        assert goal["status"] == "done"
        # The one that was replaced ends by itself, and says why.
        replaced = cluster.process("sequencer", old)
        async with asyncio.timeout(DEADLINE_S):
            assert await replaced.ended() == 4
        await appending.more(20)
        status = await asyncio.to_thread(_run, cluster, "sequencer", "status")
        assert status["members"] == sorted({1, 2, 3, 4} - {old})
        # Of three members two are needed: the new one and one of the others.
        other = next(n for n in (1, 2, 3) if n != old)
        await cluster.process("sequencer", other).kill()
        await appending.more(20)
        # The same command again finds what was done.
        again = await asyncio.to_thread(_run, cluster, "sequencer", "replace", str(old), at)
        assert again["accepted"]
    # Its id was used; another one is needed.
    refused = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "corfu.sequencer", "format", str(tmp_path / "again")),
        *("--id", "4", "--join", cluster.cluster),
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert await refused.wait() == 1


# The same goal as above, of a dead replica; the simulator's members do it amid faults.
@pytest.mark.long
async def test_replica_killed_for_good_is_replaced(tmp_path: Path) -> None:
    async with local_cluster(tmp_path / "log", chains=1, replicas=2) as cluster:
        async with Appending(cluster) as appending:
            await appending.more(20)
            await cluster.process("sequencer", 2).kill()
            async with _joined(cluster, 7, tmp_path / "replica-7") as new:
                at = str(new.program.address)
                await asyncio.to_thread(_run, cluster, "sequencer", "replace", "2", at)
                await appending.more(20)
                # It is killed like any other, and comes back as a member.
                await new.kill()
                again = Process(new.program, new.log_path)
                try:
                    await again.ready()
                    await appending.more(20)
                    status = await asyncio.to_thread(_run, cluster, "sequencer", "status")
                    assert status["members"] == [1, 3, 7]
                    assert await contents(cluster)
                finally:
                    await again.kill()
        assert await contents(cluster) == appending.acknowledged


async def test_transfer_and_sigterm_hand_over(tmp_path: Path) -> None:
    async with local_cluster(tmp_path / "log", chains=1, replicas=2) as cluster:
        async with Appending(cluster) as appending:
            await appending.more(20)
            before = await asyncio.to_thread(_leader, cluster)
            heir = next(n for n in (1, 2, 3) if n != before)
            told = await asyncio.to_thread(_run, cluster, "sequencer", "transfer", str(heir))
            assert (told["leader_before"], told["leader"]) == (before, heir)
            assert await asyncio.to_thread(_leader, cluster) == heir
            await appending.more(20)
            leader = cluster.process("sequencer", heir)
            leader.signal(signal.SIGTERM)
            async with asyncio.timeout(DEADLINE_S):
                assert await leader.ended() == 0
            # Before it ended another one had won: nobody waited for a timeout.
            assert "leads no more" in leader.output()
            await appending.more(20)
        assert await contents(cluster) == appending.acknowledged


async def test_replacements_that_make_no_sense_are_refused(tmp_path: Path) -> None:
    async with local_cluster(tmp_path / "log", chains=1, replicas=2) as cluster:
        where = cluster.cluster
        nobody = corfu("sequencer", "replace", "1", f"{HOST}:{free_base_port(1)}", cluster=where)
        assert nobody.returncode == 3
        assert "no replica answers" in complaint(nobody)
        own = str(cluster.process("sequencer", 2).program.address)
        member = corfu("sequencer", "replace", "1", own, cluster=where)
        assert member.returncode == 1
        assert "used before" in complaint(member)
        stranger = corfu("sequencer", "transfer", "9", cluster=where)
        assert stranger.returncode == 1
        assert "no member" in complaint(stranger)
        async with _joined(cluster, 4, tmp_path / "replica-4") as new:
            at = str(new.program.address)
            unknown = corfu("sequencer", "replace", "9", at, cluster=where)
            assert unknown.returncode == 1
            assert "replica 9 is no member" in complaint(unknown)
