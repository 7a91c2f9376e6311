"""Killed processes and foreign folders: nothing acknowledged is lost, everything goes on."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

import corfu
from corfu.addresses import parse_addresses
from corfu.errors import AppendError
from corfu.tools.asking import ask_replicas
from corfu.tools.cluster import LocalCluster, free_base_port, open_cluster
from corfu.tools.health import leader_of
from corfu.tools.processes import Process
from tests.integration.running import DEADLINE_S, local_cluster

pytestmark = pytest.mark.processes

GOES_ON_S = 20.0
"""Appends go on within 2 s of a failure on an idle machine; this one may be busy."""


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[LocalCluster]:
    async with local_cluster(tmp_path / "log", chains=2, replicas=2) as running:
        yield running


async def _leader(cluster: LocalCluster) -> Process:
    async with asyncio.timeout(DEADLINE_S):
        while True:
            leader = leader_of(await ask_replicas(parse_addresses(cluster.cluster), 1.0))
            if leader is not None:
                return cluster.process("sequencer", leader.replica)


class Appending:
    """Appends numbered records one after the other, for as long as the block lasts."""

    def __init__(self, cluster: LocalCluster) -> None:
        self.acknowledged: dict[corfu.Position, bytes] = {}
        self._cluster = cluster
        self._stop = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Appending:
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None
        self._stop.set()
        await self._task

    async def more(self, count: int, budget_s: float = GOES_ON_S) -> None:
        """Wait until `count` more appends were acknowledged."""
        assert self._task is not None
        enough = len(self.acknowledged) + count
        async with asyncio.timeout(budget_s):
            while len(self.acknowledged) < enough:
                if self._task.done():
                    self._task.result()
                await asyncio.sleep(0.01)

    async def _run(self) -> None:
        async with corfu.connect(self._cluster.cluster) as log:
            while not self._stop.is_set():
                record = b"%d" % len(self.acknowledged)
                position = await log.append(record, timeout=DEADLINE_S)
                assert position not in self.acknowledged
                self.acknowledged[position] = record


async def _contents(cluster: LocalCluster) -> dict[corfu.Position, bytes]:
    async with corfu.connect(cluster.cluster) as log, asyncio.timeout(DEADLINE_S):
        tail = await log.tail(timeout=DEADLINE_S)
        return {r.position: r.data async for r in log.scan(corfu.EARLIEST, tail)}


async def test_leader_killed_during_appends_loses_nothing(cluster: LocalCluster) -> None:
    async with Appending(cluster) as appending:
        await appending.more(50)
        killed = await _leader(cluster)
        await killed.kill()
        await appending.more(50)
        await cluster.restart(killed)
        await appending.more(50)
    assert await _contents(cluster) == appending.acknowledged


async def test_storage_units_killed_and_restarted_lose_nothing(cluster: LocalCluster) -> None:
    async with Appending(cluster) as appending:
        for id_ in (1, 4):  # a head, a tail unit
            await appending.more(20)
            unit = cluster.process("storage", id_)
            await unit.kill()
            await cluster.restart(unit)
            await appending.more(20)
    assert await _contents(cluster) == appending.acknowledged


async def test_whole_cluster_killed_and_restarted_finds_every_record(cluster: LocalCluster) -> None:
    async with Appending(cluster) as appending:
        await appending.more(200)
    for process in cluster.processes:
        await process.kill()
    for process in list(cluster.processes):
        await cluster.restart(process)
    assert await _contents(cluster) == appending.acknowledged
    async with Appending(cluster) as again:
        await again.more(10)
    assert await _contents(cluster) == appending.acknowledged | again.acknowledged


async def test_cluster_stopped_in_order_continues(tmp_path: Path) -> None:
    folder = tmp_path / "log"
    async with local_cluster(folder, sequencers=1, chains=1, replicas=2) as cluster:
        async with Appending(cluster) as appending:
            await appending.more(20)
        killed = await cluster.stop()
        assert killed == []
        await cluster.start()
        await cluster.serving()
        assert await _contents(cluster) == appending.acknowledged


def _complaint(arguments: list[str]) -> tuple[int, str]:
    """Run a server that must refuse to start; return its status and the one line it said."""
    result = subprocess.run(arguments, capture_output=True, timeout=DEADLINE_S, check=False)
    lines = result.stderr.decode().splitlines()
    assert len(lines) == 1, result
    assert result.stdout == b""
    return result.returncode, lines[0]


def _replaced(arguments: tuple[str, ...], changes: dict[str, str]) -> list[str]:
    return [changes.get(argument, argument) for argument in arguments]


@pytest.mark.parametrize("role", ["storage", "sequencer"])
async def test_servers_on_wrong_folders_refuse_to_start(tmp_path: Path, role: str) -> None:
    async with local_cluster(tmp_path / "log", sequencers=1, chains=1, replicas=1) as cluster:
        process = next(p for p in cluster.processes if p.program.role == role)
        argv, data = process.program.argv, str(process.program.data)

        status, line = _complaint(list(argv))  # it runs already
        assert status == 3, line
        assert "in use" in line

        status, line = _complaint(_replaced(argv, {data: str(tmp_path / "nowhere")}))
        assert status == 3, line

        (tmp_path / "empty").mkdir()
        status, line = _complaint(_replaced(argv, {data: str(tmp_path / "empty")}))
        assert status == 3, line

        (tmp_path / "file").write_text("")
        status, line = _complaint(_replaced(argv, {data: str(tmp_path / "file")}))
        assert status == 3, line

        await process.kill()
        copy = tmp_path / "copy"
        shutil.copytree(data, copy)
        identity = copy / "identity"
        identity.write_bytes(b"\xff" * len(identity.read_bytes()))
        status, line = _complaint(_replaced(argv, {data: str(copy)}))
        assert status == 3, line


async def test_unit_on_an_address_in_use_says_so(tmp_path: Path) -> None:
    async with local_cluster(tmp_path / "log", sequencers=1, chains=1, replicas=2) as cluster:
        one, two = (cluster.process("storage", id_).program for id_ in (1, 2))
        await cluster.process("storage", 2).kill()
        status, line = _complaint(_replaced(two.argv, {str(two.address): str(one.address)}))
        assert status != 0
        assert str(one.address) in line


async def test_unit_of_another_cluster_at_a_units_address_is_not_taken_for_it(
    tmp_path: Path,
) -> None:
    async with local_cluster(tmp_path / "log", sequencers=1, chains=1, replicas=2) as cluster:
        other = replace(cluster.shape, base_port=free_base_port(3))
        open_cluster(tmp_path / "other", lambda _: other).close()
        async with Appending(cluster) as appending:
            await appending.more(10)
        rightful = cluster.process("storage", 2)
        await rightful.kill()
        argv = _replaced(
            rightful.program.argv,
            {str(rightful.program.data): str(tmp_path / "other" / "storage-2")},
        )
        stranger = Process(replace(rightful.program, argv=tuple(argv)), tmp_path / "stranger.log")
        try:
            await stranger.ready()
            async with corfu.connect(cluster.cluster) as log:
                with pytest.raises(AppendError):
                    await log.append(b"must not be acknowledged", timeout=1.5)
        finally:
            await stranger.kill()
        await cluster.restart(rightful)
        async with Appending(cluster) as again:
            await again.more(10)
        found = await _contents(cluster)
        # The unanswered append may have got its place since, as its error said.
        late = {position for position, data in found.items() if data.startswith(b"must not")}
        assert len(late) <= 1
        expected = appending.acknowledged | again.acknowledged
        assert {p: data for p, data in found.items() if p not in late} == expected
