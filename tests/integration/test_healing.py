"""Units that die for good, or come back too late: the cluster is whole again with no human."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path

import pytest

from corfu.types import UnitId
from tests.integration.appending import Appending, contents
from tests.integration.redundancy import whole
from tests.integration.running import local_cluster

pytestmark = pytest.mark.processes


async def test_unit_killed_for_good_is_replaced_by_a_spare(tmp_path: Path) -> None:
    async with local_cluster(tmp_path / "log", chains=1, replicas=3, spares=1) as cluster:
        async with Appending(cluster) as appending:
            await appending.more(200)
            await cluster.process("storage", 1).kill()  # the head
            killed_at = time.monotonic()
            await appending.more(20)
            resumed_s = time.monotonic() - killed_at
            status = await whole(cluster)
            await appending.more(20)
        assert resumed_s < 10, "about 1.5 s on an idle machine"
        stand_in = {id_ for s in status.layout.segments for chain in s.chains for id_ in chain}
        assert stand_in == {2, 3, 4}
        assert len(status.layout.segments) == 1, "merged: the spare holds the old entries, too"
        assert await contents(cluster) == appending.acknowledged
        # The spare alone is left of those that could show the old entries, but for one.
        await cluster.process("storage", 2).kill()
        assert await contents(cluster) == appending.acknowledged


# The simulator's `long_absence`; with real processes test_trim has one that returns, too.
@pytest.mark.long
async def test_unit_stopped_too_long_comes_back_as_a_new_incarnation(tmp_path: Path) -> None:
    async with local_cluster(tmp_path / "log", sequencers=1, chains=1, replicas=3) as cluster:
        before = (await whole(cluster)).layout.unit(UnitId(2)).incarnation
        async with Appending(cluster) as appending:
            await appending.more(100)
            stopped = cluster.process("storage", 2)
            os.kill(stopped.pid, signal.SIGSTOP)
            try:
                await appending.more(50)
            finally:
                os.kill(stopped.pid, signal.SIGCONT)
            await asyncio.sleep(0.5)
            status = await whole(cluster)
            await appending.more(20)
        assert status.layout.unit(UnitId(2)).incarnation != before
        assert stopped.status is None, "the process goes on in place"
        assert await contents(cluster) == appending.acknowledged
