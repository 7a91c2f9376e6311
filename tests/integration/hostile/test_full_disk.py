"""A disk that is really full: entries are refused, all else goes on, and a trim makes room."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import corfu
from corfu.errors import AppendUnknownError, NotAppendedError
from corfu.tools.check_options import CheckOptions
from tests.integration.bad_cases.clients import Clients, judge
from tests.integration.hostile.figures import Figures
from tests.integration.running import DEADLINE_S, local_cluster

pytestmark = [pytest.mark.processes, pytest.mark.long, pytest.mark.timeout(240)]

DISK_MIB = 320
"""Room for the first files of two units and a replica, and a few more."""

ENTRY_BYTES = 500_000
APPEND_S_MAX = 2.0

NOT_ALL_RECORDED = CheckOptions(appends_complete=False, trims_complete=False)
"""The test itself appends and trims beside its clients."""


@contextlib.contextmanager
def _small_disk(folder: Path) -> Iterator[Path]:
    """Mount a small file system in memory; skips the test where that is not possible."""
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("needs root on Linux, to mount a small file system")
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m", "tmpfs", str(folder)]
    mounted = subprocess.run(mount, capture_output=True, text=True, check=False)
    if mounted.returncode != 0:
        pytest.skip(f"no file system in memory: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


async def _is_full(log: corfu.Log) -> bool:
    """Append; tell whether that was refused for want of space.

    The head refuses and the offset becomes junk: not appended, for certain. It takes the entry and
    the unit after it has no room: nobody knows what becomes of it.
    """
    said = ""
    try:
        await log.append(bytes(ENTRY_BYTES), timeout=APPEND_S_MAX)
    except (NotAppendedError, AppendUnknownError) as error:
        said = str(error)
    return re.search("the disk of unit [12] is full", said) is not None


async def test_full_disk_refuses_entries_serves_reads_and_takes_more_after_a_trim(
    tmp_path: Path, figures: Figures
) -> None:
    with _small_disk(tmp_path / "disk") as disk:
        async with local_cluster(disk / "log", sequencers=1, chains=1, replicas=2) as cluster:
            async with Clients(cluster, working=False) as clients:
                first = await clients.append(length=ENTRY_BYTES)
                assert first is not None
                async with corfu.connect(cluster.cluster) as log, asyncio.timeout(DEADLINE_S):
                    while not await _is_full(log):
                        await clients.append(APPEND_S_MAX, length=ENTRY_BYTES)
                async with corfu.connect(cluster.cluster) as log:
                    assert len((await log.read(first)).data) == ENTRY_BYTES
                    await log.trim(await log.tail(), timeout=DEADLINE_S)
                # Space comes back a journal file at a time.
                for _ in range(10):
                    assert await clients.append(DEADLINE_S, length=ENTRY_BYTES) is not None
            await judge(cluster, clients.history, options=NOT_ALL_RECORDED)
            for process in cluster.processes:
                assert process.status is None
    figures.add(clients.history)
