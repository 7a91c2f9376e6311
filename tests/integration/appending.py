"""A client that appends all the time, and what a log holds, for tests with real processes."""

from __future__ import annotations

import asyncio

import corfu
from corfu.tools.cluster import LocalCluster
from tests.integration.running import DEADLINE_S

GAP_S = 0.01
"""Between one append and the next: what is tested is not speed, and other tests run, too."""

GOES_ON_S = 20.0
"""Appends go on within 2 s of a failure on an idle machine; this one may be busy."""


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
                await asyncio.sleep(GAP_S)


async def contents(cluster: LocalCluster) -> dict[corfu.Position, bytes]:
    async with corfu.connect(cluster.cluster) as log, asyncio.timeout(DEADLINE_S):
        tail = await log.tail(timeout=DEADLINE_S)
        return {r.position: r.data async for r in log.scan(corfu.EARLIEST, tail)}
