"""Trims of real processes: what they free on disk, and what they survive."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

import corfu
from corfu.addresses import parse_addresses
from corfu.client.log import LogClient
from corfu.messages import StatusIs
from corfu.tools.asking import ask_replicas
from corfu.tools.cluster import LocalCluster
from corfu.tools.health import leader_of
from corfu.types import UnitId
from tests.integration import running
from tests.integration.appending import Appending
from tests.integration.running import DEADLINE_S, local_cluster, remove_journals

pytestmark = pytest.mark.processes

RECORD = bytes(1_000_000)
FILE_BYTES = 32 << 20
CHANGES_S = 90.0
"""Longest wait for a change of the layout; see `redundancy.WHOLE_S`."""


@asynccontextmanager
async def _cluster(
    folder: Path, *, sequencers: int = 3, replicas: int = 3, spares: int = 0
) -> AsyncIterator[LocalCluster]:
    try:
        async with local_cluster(
            folder, sequencers=sequencers, chains=1, replicas=replicas, spares=spares
        ) as cluster:
            yield cluster
    finally:
        remove_journals(folder)


async def _append(log: LogClient, count: int) -> None:
    """Append large records, some at once, so that journal files fill."""
    for _ in range(count // 10):
        await asyncio.gather(*(log.append(RECORD, timeout=DEADLINE_S) for _ in range(10)))


def _journals(cluster: LocalCluster, unit: int) -> set[str]:
    """Return the journal files of a unit that hold something, whatever its incarnation."""
    return {file.name for file in cluster.process("storage", unit).program.data.glob("journal-*")}


def _used(cluster: LocalCluster, units: tuple[int, ...]) -> int:
    return sum(len(_journals(cluster, unit)) for unit in units)


async def _trim(cluster: LocalCluster, mark: int) -> dict[str, Any]:
    result = await asyncio.to_thread(
        running.corfu, "trim", str(mark), "-o", "json", "--timeout", "30", cluster=cluster.cluster
    )
    assert result.returncode == 0, result.stderr
    told: dict[str, Any] = json.loads(result.stdout)
    return told


async def _status(cluster: LocalCluster, met: Callable[[StatusIs], bool]) -> StatusIs:
    """Wait for a leader whose status is as wanted."""
    give_up = time.monotonic() + CHANGES_S
    while True:
        status = leader_of(await ask_replicas(parse_addresses(cluster.cluster), 1.0))
        if status is not None and met(status):
            return status
        assert time.monotonic() < give_up, status
        await asyncio.sleep(0.2)


async def _all_below_is_trimmed(log: LogClient, mark: int) -> None:
    for offset in {0, mark // 2, mark - 1}:
        with pytest.raises(corfu.TrimmedError):
            await log.read(offset, timeout=DEADLINE_S)


async def test_trim_under_load_frees_journal_files_and_tells_how_many(tmp_path: Path) -> None:
    async with _cluster(tmp_path / "log", sequencers=1, replicas=2) as cluster:
        async with corfu.connect(cluster.cluster) as log, Appending(cluster) as appending:
            await _append(log, 100)
            await appending.more(5)
            mark = await log.tail()
            before = _used(cluster, (1, 2))
            told = await _trim(cluster, mark)
            assert (told["mark_before"], told["mark"], told["units"]) == (0, mark, 2)
            assert told["freed_files"] >= 2 * 2
            assert told["freed_bytes"] == told["freed_files"] * FILE_BYTES
            # What is written meanwhile takes a new file at most.
            assert _used(cluster, (1, 2)) <= before - told["freed_files"] + 2
            await _all_below_is_trimmed(log, mark)
            await appending.more(20)
            await log.read(mark, timeout=DEADLINE_S)
        trimmed_twice = await _trim(cluster, mark)
        assert (trimmed_twice["mark_before"], trimmed_twice["mark"]) == (mark, mark)


async def test_trim_survives_its_leader_and_a_restart_of_everything(tmp_path: Path) -> None:
    async with _cluster(tmp_path / "log", sequencers=3, replicas=2) as cluster:
        async with corfu.connect(cluster.cluster) as log:
            await _append(log, 40)
            mark = await log.tail()
            status = await _status(cluster, lambda status: True)
            trimming = asyncio.create_task(log.trim(mark, timeout=DEADLINE_S))
            # In the middle of it: the leader asks the units, or has just had the mark chosen.
            await asyncio.sleep(0.002)
            leader = cluster.process("sequencer", status.replica)
            await leader.kill()
            assert await trimming == mark
            await _all_below_is_trimmed(log, mark)
        await cluster.restart(leader)
        for process in [
            *(cluster.process("sequencer", id_) for id_ in (1, 2, 3)),
            *(cluster.process("storage", id_) for id_ in (1, 2)),
        ]:
            await process.kill()
            await cluster.restart(process)
        await cluster.serving()
        status = await _status(cluster, lambda status: status.trim_mark == mark)
        assert status.closed_until >= mark
        async with corfu.connect(cluster.cluster) as log:
            await _all_below_is_trimmed(log, mark)
            await log.append(b"goes on", timeout=DEADLINE_S)


# The simulator's rebuilds under trims: `trim-mark-lost-on-rebuild` is planted there, and found.
@pytest.mark.long
async def test_spare_that_is_rebuilt_gets_no_trimmed_entry(tmp_path: Path) -> None:
    async with (
        _cluster(tmp_path / "log", sequencers=1, replicas=2, spares=1) as cluster,
        corfu.connect(cluster.cluster) as log,
    ):
        await _append(log, 80)
        mark = await log.tail()
        await _append(log, 10)
        await _trim(cluster, mark)
        await cluster.process("storage", 2).kill()
        status = await _status(
            cluster,
            lambda status: (
                [s.chains for s in status.layout.segments] == [((UnitId(1), UnitId(3)),)]
            ),
        )
        assert status.trim_mark == mark
        # The spare alone has all that is left, in one file or the next.
        assert len(_journals(cluster, 3)) <= 2
        await cluster.process("storage", 1).kill()
        await _all_below_is_trimmed(log, mark)
        left = [record async for record in log.scan(mark, mark + 5)]
        assert {record.data for record in left} == {RECORD}


async def test_unit_that_returns_as_a_new_incarnation_frees_what_was_trimmed(
    tmp_path: Path,
) -> None:
    async with (
        _cluster(tmp_path / "log", sequencers=1, replicas=2, spares=1) as cluster,
        corfu.connect(cluster.cluster) as log,
    ):
        await _append(log, 80)
        before = (await _status(cluster, lambda status: True)).layout.unit(UnitId(2))
        stopped = cluster.process("storage", 2)
        os.kill(stopped.pid, signal.SIGSTOP)
        try:
            await _status(
                cluster, lambda status: UnitId(2) not in {u.id for u in status.layout.units}
            )
            mark = await log.tail()
            await _trim(cluster, mark)
            # The offsets lie in a closed segment by now: the unit that is left frees them.
            assert len(_journals(cluster, 1)) <= 2
            held = _journals(cluster, 2)
            assert len(held) >= 3
        finally:
            os.kill(stopped.pid, signal.SIGCONT)
        # It comes back as a spare, hears the mark with its probes, and frees its old files.
        await _status(
            cluster,
            lambda status: any(
                u.unit == 2 and u.incarnation != before.incarnation for u in status.units
            ),
        )
        give_up = time.monotonic() + DEADLINE_S
        while len(_journals(cluster, 2)) > 1:
            assert time.monotonic() < give_up, _journals(cluster, 2)
            await asyncio.sleep(0.2)
