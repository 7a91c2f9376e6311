"""This log: a local cluster as `corfu dev` starts it, through the client that everybody uses."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from types import TracebackType
from typing import Self

import corfu
from corfu.client.packing import Submitted
from corfu.log import Log
from corfu.tools.cluster import LocalCluster, Shape, free_base_port, open_cluster
from corfu.tools.failure import CommandError

from .base import TIMEOUT_S, Client, Meter, PeerError, Records, Setup

SEQUENCERS = 3
REPLICAS = 3

RECORDS_BEST = 8192
"""Records outstanding; `queue_bytes_max` bounds their bytes, too."""

_DRAIN_EVERY = 64

MANY_CALLS_BEST = 16
"""Calls of `append_many` outstanding."""

MANY_BYTES = 56_000
"""Records of one `append_many`: about what one entry takes that leaves in one burst."""


def missing() -> str | None:
    """Return what this peer lacks: nothing."""
    return None


class CorfuServers:
    """Three replicas and the chains, with an empty log."""

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._cluster: LocalCluster | None = None

    @property
    def durability(self) -> str:
        """What the sync mode means."""
        chains = "1 chain" if self._setup.chains == 1 else f"{self._setup.chains} chains"
        return f"{chains} of {REPLICAS} units, --sync {self._setup.sync}"

    def target(self) -> dict[str, object]:
        """Return the cluster string."""
        assert self._cluster is not None
        return {"cluster": self._cluster.cluster}

    def pids(self) -> list[int]:
        """Return the ids of the replicas and units."""
        assert self._cluster is not None
        return [process.pid for process in self._cluster.processes]

    async def __aenter__(self) -> Self:
        shape = Shape(
            base_port=free_base_port(SEQUENCERS + self._setup.chains * REPLICAS),
            sequencers=SEQUENCERS,
            chains=self._setup.chains,
            replicas=REPLICAS,
            sync=self._setup.sync,
        )
        self._cluster = open_cluster(self._setup.folder, lambda _: shape)
        try:
            await self._cluster.start()
            await self._cluster.serving()
        except BaseException as error:
            await self._stop(self._cluster)
            if isinstance(error, CommandError):
                raise PeerError(str(error)) from error
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._cluster is not None
        await self._stop(self._cluster)

    async def _stop(self, cluster: LocalCluster) -> None:
        try:
            await cluster.stop()
        finally:
            cluster.close()


class CorfuClient:
    """The log, one record to a call."""

    def __init__(self, log: Log, cluster: str, outstanding: int) -> None:
        self._log = log
        self._cluster = cluster
        self._outstanding = outstanding

    async def append(self, record: bytes) -> None:
        """Append one record."""
        await self._log.append(record, timeout=TIMEOUT_S)

    async def produce(self, records: Records, meter: Meter) -> None:
        """Submit one record a call, and await the verdicts in their order."""
        submit, now = self._log.submit, meter.now
        window: deque[tuple[int, Submitted]] = deque()
        while window or not meter.over():
            while len(window) < self._outstanding and not meter.over():
                window.append((now(), submit(records.one(), timeout=TIMEOUT_S)))
            called, submitted = window.popleft()
            await submitted
            meter.saw(1, called)
            if len(window) % _DRAIN_EVERY == 0:
                await self._log.drain()

    async def read(self, meter: Meter) -> None:
        """Scan the log in batches, with a new client each time."""
        while not meter.over():
            async with (
                corfu.connect(self._cluster) as log,
                aclosing(log.scan_batches(corfu.EARLIEST, timeout=TIMEOUT_S)) as batches,
            ):
                async for batch in batches:
                    meter.read(len(batch))
                    if meter.over():
                        break


class CorfuManyClient(CorfuClient):
    """The log, an entry to a call: for programs that have many records at hand."""

    async def produce(self, records: Records, meter: Meter) -> None:
        """Append groups of records, each one entry, from as many tasks as may be outstanding."""
        append, now = self._log.append_many, meter.now
        count = max(1, MANY_BYTES // len(records.one()))

        async def loop() -> None:
            while not meter.over():
                called = now()
                await append(records.many(count), timeout=TIMEOUT_S)
                meter.saw(count, called)

        async with asyncio.TaskGroup() as group:
            for _ in range(self._outstanding):
                group.create_task(loop())


@asynccontextmanager
async def client(target: Mapping[str, object], inflight: int | None) -> AsyncIterator[Client]:
    """Connect as a program does, with default settings."""
    cluster = str(target["cluster"])
    async with corfu.connect(cluster) as log:
        yield CorfuClient(log, cluster, inflight or RECORDS_BEST)


@asynccontextmanager
async def many_client(target: Mapping[str, object], inflight: int | None) -> AsyncIterator[Client]:
    """Connect for `append_many`; `inflight` counts records elsewhere, calls here."""
    cluster = str(target["cluster"])
    async with corfu.connect(cluster) as log:
        yield CorfuManyClient(log, cluster, MANY_CALLS_BEST)
