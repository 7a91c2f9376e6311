"""Killed processes and foreign folders: nothing acknowledged is lost, everything goes on."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

import corfu
from corfu.errors import AppendError
from corfu.tools.cluster import LocalCluster, free_base_port, open_cluster
from corfu.tools.processes import Process
from tests.integration.appending import Appending, contents
from tests.integration.redundancy import leader_process
from tests.integration.running import DEADLINE_S, local_cluster

pytestmark = pytest.mark.processes


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[LocalCluster]:
    async with local_cluster(tmp_path / "log", chains=2, replicas=2) as running:
        yield running


async def test_leader_killed_during_appends_loses_nothing(cluster: LocalCluster) -> None:
    async with Appending(cluster) as appending:
        await appending.more(50)
        killed = await leader_process(cluster)
        await killed.kill()
        await appending.more(50)
        await cluster.restart(killed)
        await appending.more(50)
    assert await contents(cluster) == appending.acknowledged


# The short session of test_nemesis kills units, too, under more load.
@pytest.mark.long
async def test_storage_units_killed_and_restarted_lose_nothing(cluster: LocalCluster) -> None:
    async with Appending(cluster) as appending:
        for id_ in (1, 4):  # a head, a tail unit
            await appending.more(20)
            unit = cluster.process("storage", id_)
            await unit.kill()
            await cluster.restart(unit)
            await appending.more(20)
    assert await contents(cluster) == appending.acknowledged


# bad_cases/test_killed_at_once does it three times, with trims under way.
@pytest.mark.long
async def test_whole_cluster_killed_and_restarted_finds_every_record(cluster: LocalCluster) -> None:
    async with Appending(cluster) as appending:
        await appending.more(200)
    for process in cluster.processes:
        await process.kill()
    for process in list(cluster.processes):
        await cluster.restart(process)
    assert await contents(cluster) == appending.acknowledged
    async with Appending(cluster) as again:
        await again.more(10)
    assert await contents(cluster) == appending.acknowledged | again.acknowledged


async def test_cluster_stopped_in_order_continues(tmp_path: Path) -> None:
    folder = tmp_path / "log"
    async with local_cluster(folder, sequencers=1, chains=1, replicas=2) as cluster:
        async with Appending(cluster) as appending:
            await appending.more(20)
        killed = await cluster.stop()
        assert killed == []
        await cluster.start()
        await cluster.serving()
        assert await contents(cluster) == appending.acknowledged


async def test_cluster_with_a_paused_process_is_stopped_in_order(tmp_path: Path) -> None:
    async with local_cluster(tmp_path / "log", sequencers=1, chains=1, replicas=2) as cluster:
        cluster.process("storage", 1).pause()
        assert await cluster.stop() == []


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
                # It fails, or is settled by the survivor, which goes on without unit 2.
                with contextlib.suppress(AppendError):
                    await log.append(b"must not be on the stranger", timeout=1.5)
                with pytest.raises(AppendError):
                    await log.append(b"must not be on the stranger", timeout=1.5)
        finally:
            await stranger.kill()
        await cluster.restart(rightful)
        async with Appending(cluster) as again:
            await again.more(10)
        found = await contents(cluster)
        # The unanswered append may have got its place since, as its error said.
        late = {position for position, data in found.items() if data.startswith(b"must not")}
        assert len(late) <= 1
        expected = appending.acknowledged | again.acknowledged
        assert {p: data for p, data in found.items() if p not in late} == expected
