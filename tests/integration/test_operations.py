"""What an operator does every week: processes are stopped and started, and nobody notices."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest

from corfu.addresses import parse_addresses
from corfu.runtime.disk import FileDisk
from corfu.storage_units.identity import read_identity, write_identity
from corfu.tools.asking import ask_replicas
from corfu.tools.cluster import LocalCluster, free_base_port
from corfu.tools.health import Health, assess
from corfu.tools.processes import Process
from corfu.types import SyncMode, UnitId
from tests.integration.appending import Appending, contents
from tests.integration.running import (
    DEADLINE_S,
    SMALL,
    command,
    complaint,
    corfu,
    dev,
    environment,
    local_cluster,
    shape_options,
    wait_until_gone,
)

pytestmark = pytest.mark.processes

HEALTHY_S = 120.0
"""Longest wait for a healthy cluster: a unit that was left out comes back as a spare, is given the
old entries, and joins 10 s after the last change at the soonest."""


async def _healthy(cluster: LocalCluster) -> Health:
    """Wait until `corfu status` would exit with 0, as an operator does before the next step."""
    asked = parse_addresses(cluster.cluster)
    async with asyncio.timeout(HEALTHY_S):
        while True:
            answers = await ask_replicas(asked, 1.0)
            if len(answers) == len(asked) and not (health := assess(asked, answers)).problems:
                return health
            await asyncio.sleep(0.1)


async def _stop(process: Process) -> None:
    """Stop a server with SIGTERM: it has to end in order, and to have nothing to complain of."""
    process.signal(signal.SIGTERM)
    async with asyncio.timeout(DEADLINE_S):
        assert await process.ended() == 0, process.output()
    assert "Traceback" not in process.output()
    assert "ALARM" not in process.output()


@pytest.mark.timeout(400)
async def test_rolling_restart_of_every_process_under_appends_loses_nothing(
    tmp_path: Path,
) -> None:
    async with local_cluster(tmp_path / "log", chains=2, replicas=2) as cluster:
        async with Appending(cluster) as appending:
            await appending.more(50)
            for process in list(cluster.processes):
                health = await _healthy(cluster)
                await _stop(process)
                await cluster.restart(process)
                await appending.more(20)
            health = await _healthy(cluster)
            await appending.more(20)
        chains = {chain for segment in health.best.layout.segments for chain in segment.chains}
        assert {len(chain) for chain in chains} == {2}
        assert len(health.best.layout.open_segment.chains) == 2
        found = await contents(cluster)
        assert found == appending.acknowledged
        assert len(set(found.values())) == len(found), "every record is there once"


async def test_unit_stopped_in_order_under_load_has_made_durable_what_it_took(
    tmp_path: Path,
) -> None:
    async with local_cluster(tmp_path / "log", sequencers=1, chains=1, replicas=1) as cluster:
        async with Appending(cluster) as appending:
            await appending.more(200)
            unit = cluster.process("storage", 1)
            await _stop(unit)
            await cluster.restart(unit)
            await appending.more(20)
        assert await contents(cluster) == appending.acknowledged


async def test_unit_whose_machine_lost_power_under_sync_os_comes_back_by_itself(
    tmp_path: Path,
) -> None:
    """The machine's boot id stands in the identity file: another one there is another boot."""
    async with local_cluster(
        tmp_path / "log", sequencers=1, chains=1, replicas=3, sync=SyncMode.OS
    ) as cluster:
        async with Appending(cluster) as appending:
            await appending.more(50)
            unit = cluster.process("storage", 2)
            await unit.kill()
            disk = FileDisk(unit.program.data)
            before = read_identity(disk)
            assert before.boot_id
            assert not before.clean
            write_identity(disk, replace(before, boot_id="an earlier boot"))
            disk.close()
            unit = await cluster.restart(unit)
            assert "serves nothing until the cluster has dropped it" in unit.output()
            async with asyncio.timeout(HEALTHY_S):
                while "ready" not in unit.output().partition("becomes a spare")[2]:  # noqa: ASYNC110
                    await asyncio.sleep(0.1)
            health = await _healthy(cluster)
            await appending.more(20)
        assert health.best.layout.unit(UnitId(2)).incarnation != before.incarnation
        assert {len(chain) for s in health.best.layout.segments for chain in s.chains} == {3}
        assert unit.status is None, "it goes on in place"
        assert await contents(cluster) == appending.acknowledged


def test_dev_on_a_folder_that_no_unit_may_serve_any_more_says_so(tmp_path: Path) -> None:
    folder = tmp_path / "log"
    options = shape_options(free_base_port(2), *SMALL, "--sync", "os")
    with dev(folder, *options) as running:
        wait_until_gone([_killed(pid) for pid in running.pids])
    disk = FileDisk(folder / "storage-1")
    write_identity(disk, replace(read_identity(disk), boot_id="an earlier boot"))
    disk.close()
    result = corfu("dev", "--data", str(folder))
    assert result.returncode == 5
    assert "--sync os" in complaint(result)


def _killed(pid: int) -> int:
    os.kill(pid, signal.SIGKILL)
    return pid


def test_dev_and_a_client_told_to_stop_under_load_end_in_order(tmp_path: Path) -> None:
    folder = tmp_path / "log"
    with dev(folder, *shape_options(free_base_port(2))) as running:
        with subprocess.Popen(
            command("append"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment(running.cluster),
        ) as client:
            assert client.stdin is not None
            assert client.stderr is not None
            for number in range(5000):
                client.stdin.write(b"%d\n" % number)
            client.stdin.flush()
            _wait_for_entries(running.cluster)
            client.send_signal(signal.SIGTERM)
            assert client.wait(DEADLINE_S) == 143
            (line,) = client.stderr.read().decode().splitlines()
        certain = re.match(r"interrupted; ([0-9,]+) records are certainly in the log", line)
        assert certain is not None, line
        assert running.stop(signal.SIGTERM) == 0
    for name in ("sequencer-1.log", "storage-1.log"):
        assert "Traceback" not in (folder / name).read_text()
    with dev(folder) as again:
        found = corfu("read", cluster=again.cluster).stdout.split()
    assert len(found) >= int(certain[1].replace(",", ""))
    assert found == [b"%d" % number for number in range(len(found))]


def _wait_for_entries(cluster: str) -> None:
    give_up = time.monotonic() + DEADLINE_S
    while corfu("tail", cluster=cluster).stdout.strip() == b"0":
        assert time.monotonic() < give_up
