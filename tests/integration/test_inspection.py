"""The commands that look into a cluster, against real processes that fail."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from corfu.tools.cluster import LocalCluster
from tests.integration.appending import Appending
from tests.integration.running import DEADLINE_S, corfu, local_cluster

pytestmark = pytest.mark.processes

CHANGES_S = 90.0
"""Longest wait for a change of the layout; see `redundancy.WHOLE_S`."""


async def _ask(cluster: LocalCluster, *arguments: str) -> Any:
    """Run a command with `-o json`, and return what it printed."""
    result = await asyncio.to_thread(corfu, *arguments, "-o", "json", cluster=cluster.cluster)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


async def _text(cluster: LocalCluster, *arguments: str) -> str:
    result = await asyncio.to_thread(corfu, *arguments, cluster=cluster.cluster)
    assert result.returncode == 0, result.stderr
    return result.stdout.decode()


async def _until(
    cluster: LocalCluster, arguments: tuple[str, ...], met: Callable[[Any], bool]
) -> Any:
    give_up = time.monotonic() + CHANGES_S
    while not met(told := await _ask(cluster, *arguments)):
        assert time.monotonic() < give_up, told
        await asyncio.sleep(0.2)
    return told


def _three_up(rows: Any) -> bool:
    return len(rows) == 3 and all(row["state"] != "down" for row in rows)


def _merged(told: Any) -> bool:
    return [segment["chains"] for segment in told["segments"]] == [[[1, 3]]]


def _caught_up(told: Any) -> bool:
    return [
        each["role"] in ("leads", "follows") and each["behind"] == 0 for each in told["replicas"]
    ] == [True] * 3


async def test_unit_replaced_by_a_spare_shows_in_units_and_layouts(tmp_path: Path) -> None:
    async with local_cluster(tmp_path / "log", chains=1, replicas=2, spares=1) as cluster:
        rows = await _until(cluster, ("unit", "ls"), _three_up)
        assert [row["state"] for row in rows] == ["up", "up", "spare"]
        assert [row["sync"] for row in rows] == ["always"] * 3
        assert [len(row["places"]) for row in rows] == [1, 1, 0]
        before = await _ask(cluster, "layout", "show")
        assert before["segments"][-1]["chains"] == [[1, 2]]
        assert before["wanted"] == {"chains": 1, "replicas": 2}
        async with Appending(cluster) as appending:
            await appending.more(50)
            await cluster.process("storage", 2).kill()
            await appending.more(20)
        after = await _until(cluster, ("layout", "show"), _merged)
        rows = await _ask(cluster, "unit", "ls")
        assert {row["id"]: row["state"] for row in rows} == {1: "up", 3: "up", 2: "left"}

        past = await _ask(cluster, "layout", "history")
        assert past[0]["epoch"] == 1
        assert past[-1]["epoch"] == after["epoch"]
        said = [change for each in past for change in each["changes"]]
        assert "unit 2 left" in said
        assert any(change.startswith("unit 3 joined") for change in said)
        assert any(change.startswith("merged at ") for change in said)
        old = await _ask(cluster, "layout", "show", "--epoch", str(before["epoch"]))
        assert old["segments"] == before["segments"]
        assert "pending_epoch" not in old
        gone = corfu("layout", "show", "--epoch", "9999", cluster=cluster.cluster)
        assert gone.returncode == 1
        assert b"no layout of epoch 9999 is kept" in gone.stderr

        # The same for people.
        assert "left" in await _text(cluster, "unit", "ls")
        assert "1-3" in await _text(cluster, "layout", "show")
        assert "unit 2 left" in " ".join((await _text(cluster, "layout", "history")).split())


async def test_history_survives_a_restart_of_all_replicas(tmp_path: Path) -> None:
    async with local_cluster(tmp_path / "log", sequencers=1, chains=1, replicas=1) as cluster:
        for _ in range(2):
            process = cluster.process("sequencer", 1)
            await process.kill()
            await cluster.restart(process)
            # Each life makes an epoch of its own.
            await cluster.serving()
        past = await _until(cluster, ("layout", "history"), lambda past: len(past) == 3)
        assert [each["epoch"] for each in past] == [1, 2, 3]
        assert past[-1]["changes"] == ["leader 1 again"]


async def test_replica_that_is_down_shows_in_the_sequencers_status(tmp_path: Path) -> None:
    async with local_cluster(tmp_path / "log", chains=1, replicas=1) as cluster:
        told = await _until(cluster, ("sequencer", "status"), _caught_up)
        roles = sorted(each["role"] for each in told["replicas"])
        assert roles == ["follows", "follows", "leads"]
        assert all(each["votes"] for each in told["replicas"])
        follower = next(each["id"] for each in told["replicas"] if each["role"] == "follows")
        await cluster.process("sequencer", follower).kill()
        told = await _ask(cluster, "sequencer", "status")
        assert {each["id"]: each["role"] for each in told["replicas"]}[follower] == "down"
        assert "2 of 3 members answer" in await _text(cluster, "sequencer", "status")


async def test_holes_of_a_unit_that_hangs_are_listed_with_their_age(tmp_path: Path) -> None:
    """The only unit of its chain: nobody takes its place, so its offsets stay open."""
    async with local_cluster(tmp_path / "log", sequencers=1, chains=1, replicas=1) as cluster:
        await _until(cluster, ("holes",), lambda told: told["holes"] == [])
        assert (await _text(cluster, "holes")).startswith("no holes: closed below ")
        unit = cluster.process("storage", 1)
        os.kill(unit.pid, signal.SIGSTOP)
        try:
            stuck = await asyncio.to_thread(
                corfu, "append", "--timeout", "0.5", cluster=cluster.cluster, stdin=b"x\n"
            )
            assert stuck.returncode in (3, 4)
            told = await _ask(cluster, "holes")
            assert told["silent_units"] == [1]
            (found,) = told["holes"]
            assert (found["state"], found["waits_for"], found["count"]) == ("unknown", 1, 1)
            assert 200 <= found["age_ms"] <= DEADLINE_S * 1000
            assert not found["age_is_at_least"]
            assert (found["start"], found["end"]) == (told["closed_until"], told["tail"])
            young = await _ask(cluster, "holes", "--older-than", "3600")
            assert young["holes"] == []
            assert "unit 1 does not answer" in await _text(cluster, "holes")
        finally:
            os.kill(unit.pid, signal.SIGCONT)
        # Whole is not yet closed: the leader's next sweep sees to that.
        told = await _until(cluster, ("holes",), lambda told: told["closed_until"] == told["tail"])
        assert told["holes"] == []
        assert told["tail"] > 0
