"""The commands that change units and chains, on real processes that are appended to meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import subprocess
import time
from pathlib import Path

import pytest

import corfu
from corfu.addresses import parse_addresses
from corfu.errors import LostError
from corfu.messages import StatusIs
from corfu.tools.asking import ask_replicas
from corfu.tools.cluster import LocalCluster
from corfu.tools.health import leader_of
from tests.integration.appending import Appending, contents
from tests.integration.running import command, complaint, environment, local_cluster
from tests.integration.running import corfu as run_corfu

pytestmark = pytest.mark.processes

GOAL_S = 120.0
"""Longest wait for a goal: the layout changes at most every 10 s, and two or three times."""


async def _admin(
    cluster: LocalCluster, *arguments: str, stdin: bytes = b""
) -> subprocess.CompletedProcess[bytes]:
    """Run a command to its end, which may take longer than others."""
    return await asyncio.to_thread(
        subprocess.run,
        command(*arguments),
        input=stdin,
        capture_output=True,
        env=environment(cluster.cluster),
        timeout=GOAL_S,
        check=False,
    )


async def _done(cluster: LocalCluster, *arguments: str) -> str:
    result = await _admin(cluster, *arguments)
    assert result.returncode == 0, result.stderr.decode()
    return result.stdout.decode()


async def _refused(cluster: LocalCluster, *arguments: str) -> str:
    result = await _admin(cluster, *arguments)
    assert result.returncode == 1, result
    return complaint(result)


async def _status(cluster: LocalCluster) -> StatusIs:
    async with asyncio.timeout(GOAL_S):
        while True:
            status = leader_of(await ask_replicas(parse_addresses(cluster.cluster), 1.0))
            if status is not None:
                return status
            await asyncio.sleep(0.1)


async def _spares(cluster: LocalCluster, count: int) -> None:
    """Wait until so many spares have registered and answer."""
    async with asyncio.timeout(GOAL_S):
        while True:
            status = await _status(cluster)
            listed = {unit.id for unit in status.layout.units}
            heard = [u for u in status.units if u.unit not in listed and u.heard_ms is not None]
            if len(heard) >= count:
                return
            await asyncio.sleep(0.1)


async def test_unit_drained_and_one_replaced_under_appends_lose_nothing(tmp_path: Path) -> None:
    async with local_cluster(tmp_path / "log", chains=1, replicas=2, spares=2) as cluster:
        await _spares(cluster, 2)
        async with Appending(cluster) as appending:
            await appending.more(100)
            plan = await _done(cluster, "unit", "drain", "1", "--dry-run")
            assert "new entries go to 2-3 instead of 1-2" in plan
            assert (await _status(cluster)).goals == ()
            said = await _done(cluster, "unit", "drain", "1")
            assert "done: the drain of unit 1" in said
            drained = await _status(cluster)
            # It says so again, and does nothing.
            again = await _done(cluster, "unit", "drain", "1")
            assert again.startswith("done: the drain of unit 1")
            # With nothing on it that is needed, it may go for good.
            await cluster.process("storage", 1).kill()
            await appending.more(50)
            said = await _done(cluster, "unit", "replace", "2", "4")
            assert "done: the replacement of unit 2 by 4" in said
            await appending.more(20)
        assert drained.drained == (1,)
        assert {unit.id for unit in drained.layout.units} == {2, 3}
        assert {unit.id for unit in (await _status(cluster)).layout.units} == {3, 4}
        await cluster.process("storage", 2).kill()
        assert await contents(cluster) == appending.acknowledged
        assert "unit 2 may be used again" in await _done(
            cluster, "unit", "replace", "2", "4", "--undo"
        )
        shown = json.loads(await _done_status(cluster))
        assert (shown["goals"], shown["drained"]) == ([], [1])


async def _done_status(cluster: LocalCluster) -> str:
    result = await _admin(cluster, "status", "-o", "json")
    return result.stdout.decode()


async def test_chain_added_takes_a_third_of_the_appends(tmp_path: Path) -> None:
    async with local_cluster(tmp_path / "log", chains=2, replicas=1, spares=1) as cluster:
        await _spares(cluster, 1)
        async with Appending(cluster) as appending:
            await appending.more(50)
            result = json.loads(await _done(cluster, "chain", "add", "3", "-o", "json"))
            assert result["goal"]["status"] == "done"
            await appending.more(60)
        layout = (await _status(cluster)).layout
        assert [list(chain) for chain in layout.open_segment.chains] == [[1], [2], [3]]
        newer = [p for p in appending.acknowledged if p.offset >= layout.open_segment.start]
        assert {layout.chain_of(position.offset)[0].id for position in newer} == {1, 2, 3}
        assert await contents(cluster) == appending.acknowledged


async def test_chain_whose_disks_are_gone_is_abandoned_and_appends_go_on(tmp_path: Path) -> None:
    async with local_cluster(tmp_path / "log", chains=2, replicas=2) as cluster:
        async with Appending(cluster) as appending:
            await appending.more(100)
        assert "nothing to abandon" in await _refused(
            cluster, "chain", "abandon", "1", "2", "--yes"
        )
        for id_ in (1, 2):
            await cluster.process("storage", id_).kill()
        await asyncio.sleep(1.5)
        unconfirmed = await _admin(cluster, "chain", "abandon", "1", "2", stdin=b"1\n")
        assert unconfirmed.returncode == 1
        assert b"not confirmed" in unconfirmed.stderr
        before = await _status(cluster)
        assert before.goals == ()
        said = await _admin(cluster, "chain", "abandon", "1", "2", stdin=b"1 2\n")
        assert said.returncode == 0, said.stderr.decode()
        assert b"LOST: all that chain 1-2 held" in said.stdout
        async with Appending(cluster) as more:
            await more.more(20)
        acknowledged = appending.acknowledged | more.acknowledged
        first = (await _status(cluster)).layout.open_segment.start
        async with corfu.connect(cluster.cluster) as log:
            kept = {}
            tail = await log.tail()
            async for record in log.scan(corfu.EARLIEST, tail, on_lost="skip"):
                kept[record.position] = record.data
            lost = acknowledged.keys() - kept.keys()
            assert lost == {p for p in acknowledged if p.offset < first and p.offset % 2 == 0}
            assert kept == {p: d for p, d in acknowledged.items() if p not in lost}
            with pytest.raises(LostError):
                await log.read(min(lost))
        status = run_corfu("status", cluster=cluster.cluster)
        assert b"abandoned" in status.stdout


async def test_command_interrupted_and_given_again_with_the_leader_killed_meanwhile(
    tmp_path: Path,
) -> None:
    async with local_cluster(tmp_path / "log", chains=1, replicas=2, spares=1) as cluster:
        await _spares(cluster, 1)
        async with Appending(cluster) as appending:
            await appending.more(50)
            process = await asyncio.create_subprocess_exec(
                *command("unit", "drain", "2"),
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env=environment(cluster.cluster),
            )
            try:
                await _goal_is_stated(cluster)
                process.send_signal(signal.SIGINT)
                async with asyncio.timeout(GOAL_S):
                    _, said = await process.communicate()
            finally:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
            assert process.returncode == 130, said
            # The answer to its request may still have been on its way.
            known = b"the cluster goes on with the drain of unit 2" in said
            assert known or b"the drain of unit 2 may have been asked for" in said, said
            goals = (await _status(cluster)).goals
            leader = (await _status(cluster)).replica
            await cluster.process("sequencer", leader).kill()
            text = await _done(cluster, "unit", "drain", "2")
            assert "done: the drain of unit 2" in text
            await cluster.restart(cluster.process("sequencer", leader))
            await appending.more(20)
        status = await _status(cluster)
        assert [record.goal for record in status.goals] == [record.goal for record in goals]
        assert {unit.id for unit in status.layout.units} == {1, 3}
        await cluster.process("storage", 2).kill()
        assert await contents(cluster) == appending.acknowledged


async def _goal_is_stated(cluster: LocalCluster) -> None:
    give_up = time.monotonic() + GOAL_S
    while not (await _status(cluster)).goals:
        assert time.monotonic() < give_up
        await asyncio.sleep(0.05)


async def test_what_cannot_be_done_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    async with local_cluster(tmp_path / "log", sequencers=1, chains=1, replicas=2) as cluster:
        async with Appending(cluster) as appending:
            await appending.more(10)
        before = await _status(cluster)
        refusals = {
            ("unit", "drain", "1"): "no spare is there to take the place of unit 1",
            ("unit", "drain", "1", "--dry-run"): "no spare is there",
            ("unit", "drain", "9"): "unit 9 is not known",
            ("unit", "replace", "1", "2"): "unit 2 is no spare",
            ("unit", "drain", "1", "--undo"): "there is no drain of unit 1",
            ("chain", "add", "1"): "a chain has 2 units here",
            ("chain", "add", "1", "--force"): "a chain has at least 2 units",
            ("chain", "add", "8", "9"): "unit 8 is not known",
            ("chain", "abandon", "1", "2", "--yes"): "answers: nothing to abandon",
            ("chain", "abandon", "1", "--yes"): "no chain is made of nothing but these",
        }
        for arguments, reason in refusals.items():
            assert reason in await _refused(cluster, *arguments)
        after = await _status(cluster)
        assert (after.goals, after.drained, after.layout) == ((), (), before.layout)
        await cluster.process("sequencer", 1).kill()
        nobody = await _admin(cluster, "unit", "drain", "1", "--timeout", "2")
        assert nobody.returncode == 3
        assert b"no sequencer replica" in nobody.stderr
