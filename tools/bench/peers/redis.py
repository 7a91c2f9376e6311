"""Redis Streams: one server with an append-only file, no replicas."""

from __future__ import annotations

import asyncio
import importlib.util
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Self

from corfu.types import SyncMode

from .base import EXTRA, Client, Meter, Missing, Records, Setup
from .processes import PeerProcess, program, stop, until

if TYPE_CHECKING:
    from redis.asyncio import Redis

STREAM = "bench"
FIELD = b"r"

READ_COUNT = 1000
"""Records asked for in one XRANGE."""

PIPELINES = 4
"""Connections of the producer, each with a pipeline under way."""

OUTSTANDING_BEST = 1000
"""Records outstanding in all pipelines together."""


def missing() -> str | None:
    """Return what this peer lacks on this machine; None: it can run."""
    if program("redis-server") is None:
        return "no redis-server in PATH"
    if importlib.util.find_spec("redis") is None:
        return f"the package redis is missing: {EXTRA}"
    return None


class RedisServers:
    """One Redis server on a socket in its folder."""

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        # Relative to the folder it runs in: a socket's path has at most 107 bytes.
        self._socket = setup.folder / "redis.sock"
        self._processes: list[PeerProcess] = []

    @property
    def _fsync(self) -> str:
        return "always" if self._setup.sync is SyncMode.ALWAYS else "everysec"

    @property
    def durability(self) -> str:
        """When the append-only file is synced."""
        return f"1 server, no replica, appendonly yes, appendfsync {self._fsync}"

    def target(self) -> dict[str, object]:
        """Return the server's socket."""
        return {"socket": str(self._socket)}

    def pids(self) -> list[int]:
        """Return the ids of the server processes."""
        return [process.pid for process in self._processes]

    async def __aenter__(self) -> Self:
        if (reason := missing()) is not None:
            raise Missing(reason)
        binary = program("redis-server")
        assert binary is not None
        settings = {
            "port": "0",
            "unixsocket": self._socket.name,
            "dir": str(self._setup.folder),
            "appendonly": "yes",
            "appendfsync": self._fsync,
            # No snapshots beside the append-only file: they would only cost.
            "save": "",
        }
        options = [part for name, value in settings.items() for part in (f"--{name}", value)]
        log = self._setup.folder / "redis.log"
        self._processes = [PeerProcess("redis-server", [binary, *options], log)]
        try:
            await until(self._answers, self._processes, "Redis does not answer")
        except BaseException:
            await stop(self._processes)
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await stop(self._processes)

    async def _answers(self) -> bool:
        import redis.exceptions

        async with _connected(str(self._socket)) as connection:
            try:
                return bool(await connection.ping())
            except (redis.exceptions.RedisError, OSError):
                return False


@asynccontextmanager
async def _connected(path: str) -> AsyncIterator[Redis]:
    import redis.asyncio

    connection = redis.asyncio.Redis(unix_socket_path=path)
    try:
        yield connection
    finally:
        await connection.aclose()


class RedisClient:
    """Connections to the server, each with a pipeline of its own."""

    def __init__(self, connection: Redis, outstanding: int) -> None:
        self._connection = connection
        self._pipelines = min(PIPELINES, outstanding)
        self._depth = max(1, outstanding // self._pipelines)

    async def append(self, record: bytes) -> None:
        """Add one record."""
        await self._connection.xadd(STREAM, {FIELD: record})

    async def produce(self, records: Records, meter: Meter) -> None:
        """Send pipelines of XADD; the replies of a pipeline come together."""

        async def loop() -> None:
            while not meter.over():
                pipeline = self._connection.pipeline(transaction=False)
                called = meter.now()
                for _ in range(self._depth):
                    pipeline.xadd(STREAM, {FIELD: records.one()})
                await pipeline.execute()
                meter.saw(self._depth, called)

        async with asyncio.TaskGroup() as group:
            for _ in range(self._pipelines):
                group.create_task(loop())

    async def read(self, meter: Meter) -> None:
        """Ask for ranges, one after the other."""
        start = b"-"
        while not meter.over():
            found = await self._connection.xrange(STREAM, min=start, count=READ_COUNT) or []
            meter.read(len(found))
            last = found[-1][0] if found else None
            # From behind the last one, or from the beginning again.
            start = b"(" + last if isinstance(last, bytes) else b"-"


@asynccontextmanager
async def client(target: Mapping[str, object], inflight: int | None) -> AsyncIterator[Client]:
    """Connect to the server."""
    async with _connected(str(target["socket"])) as connection:
        yield RedisClient(connection, inflight or OUTSTANDING_BEST)
