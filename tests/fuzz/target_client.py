"""A real client on its real driver and link, at work; mutants answer what it asked."""

from __future__ import annotations

import asyncio
import contextlib
import random
import struct
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence

from corfu.client.log import LogClient
from corfu.client.settings import ClientSettings
from corfu.codec import HEADER_BYTES
from corfu.config import LinkSettings
from corfu.errors import CorfuError
from corfu.link import Link
from corfu.messages import REPLIES, Message
from corfu.runtime.driver import Driver
from corfu.tools.sim.loop import VirtualLoop
from corfu.types import Address, Incarnation, RequestId
from tests.unit.corfu.client_world import REPLICAS, FakeCluster, filled_cluster

from .bounds import BrokenRuleError, check_link
from .corpus import Corpus, build, rehashed
from .stages import Stages
from .world import client_names

OWN = Address("10.3.0.1", 5000)
SESSION = Incarnation(b"fuzzed-session--")
LINK = LinkSettings(reassembly_bytes_max=1 << 20)
TASKS_MAX = 4000
"""Most tasks of the client and its fake cluster: a read may look after 64 holes a window."""

_RENEWED_EVERY = 4000
_STEP_S = 0.0005
_CALL_S = 0.4
_SEQUENCE_AT = 44
_SEQUENCE = struct.Struct(">Q")
_CLIENT = slice(28, 44)


class _Datagrams:
    """The client's socket: what it sends reaches an honest cluster, which answers a while later."""

    def __init__(self, loop: VirtualLoop, cluster: FakeCluster) -> None:
        self.address = OWN
        self._loop = loop
        self._cluster = cluster
        self._link = Link(
            cluster=cluster.layout.cluster,
            session=Incarnation(b"honest-servers--"),
            settings=LINK,
            rng=random.Random(1),
        )
        self.receive: Callable[[bytes, Address], None] | None = None

    def listen(self, receive: Callable[[bytes, Address], None]) -> None:
        self.receive = receive

    def close(self) -> None:
        self.receive = None

    def send(self, datagrams: Sequence[tuple[bytes, Address]]) -> None:
        for datagram, to in datagrams:
            for message, _ in self._link.receive(datagram, OWN, self._loop.time()):
                self._loop.create_task(self._answer(to, message))

    async def _answer(self, to: Address, message: Message) -> None:
        await asyncio.sleep(0.002)
        # The fake knows only what an honest client asks; this one was lied to.
        with contextlib.suppress(Exception):
            async with asyncio.timeout(_CALL_S):
                reply = await self._cluster.answer(to, message)
            self._link.send(OWN, reply, self._loop.time())
            for datagram, _ in self._link.outgoing():
                if self.receive is not None:
                    self.receive(datagram, to)


class ClientTarget:
    """A client that appends, reads, fills, trims and follows all the time."""

    name = "client"
    dispatched_min = 0.02

    def __init__(self, seed: int) -> None:
        self.stages = Stages()
        self.corpus: Corpus = build(client_names(), seed, each=40, often=REPLIES)
        self._draw = random.Random(seed).random
        self._left = 0
        self._loop: VirtualLoop | None = None
        self._failure: BaseException | None = None
        self.completed = 0
        """Calls of the client that returned a value."""
        self._renew()

    def _renew(self) -> None:
        self._left = _RENEWED_EVERY
        loop = self._loop = VirtualLoop()
        self.datagrams = _Datagrams(loop, filled_cluster(40))
        rng = random.Random(1)
        self.link = Link(cluster=None, session=SESSION, settings=LINK, rng=rng)
        self.driver = Driver(
            core=None, link=self.link, datagrams=self.datagrams, worker=None, loop=loop
        )
        self.driver.start()
        self.client = LogClient(
            self.driver,
            ClientSettings(timeout_s=_CALL_S),
            rng=rng,
            entropy=rng.randbytes,
            sequencers=REPLICAS,
            on_cluster=lambda cluster: setattr(self.link, "cluster", cluster),
        )
        loop.run(self.client.open(timeout=5.0))
        for number in range(3):
            loop.create_task(self._work(random.Random(number)))

    async def _work(self, rng: random.Random) -> None:
        client = self.client
        while True:
            offset = rng.randrange(60)
            calls: list[Callable[[], Coroutine[object, object, object]]] = [
                lambda: client.append(b"record"),
                lambda: client.append(b"record"),
                lambda offset=offset: client.fill(offset),  # type: ignore[misc]
                lambda: client.tail(),
                lambda offset=offset: client.read(offset),  # type: ignore[misc]
                lambda offset=offset: self._scan(offset),  # type: ignore[misc]
                lambda offset=offset: self._follow(offset),  # type: ignore[misc]
                lambda: client.trim(rng.randrange(4)),
            ]
            try:
                await rng.choice(calls)()
                self.completed += 1
            except CorfuError:
                pass
            except Exception as error:  # noqa: BLE001 - what the run is there to find
                self._failure = error
            await asyncio.sleep(0.001)

    async def _scan(self, start: int) -> None:
        async with contextlib.aclosing(self.client.scan(start)) as records:
            await _take_some(records)

    async def _follow(self, start: int) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CALL_S):
                async with contextlib.aclosing(self.client.follow(start)) as records:
                    await _take_some(records)

    def take(self, datagram: bytes, kind: int) -> None:
        """Hand a datagram to the client's driver, as an answer to something that it waits for."""
        if not self._left:
            self.finish()
            self._renew()
        self._left -= 1
        assert self._loop is not None
        stages, drops = self.stages, self.link.counters.drops
        waiting = self.driver._asks
        if waiting and self._draw() < 0.8:
            datagram = self._addressed(datagram, list(waiting))
        asks, whole, refused = len(waiting), self.link.counters.messages_in, drops["body"]
        assert self.datagrams.receive is not None
        self.datagrams.receive(datagram, REPLICAS[int(self._draw() * len(REPLICAS))])
        stages.refused(kind, drops["body"] - refused)
        stages.datagrams += 1
        stages.decoded += self.link.counters.messages_in - whole
        stages.dispatched += asks - len(waiting)
        if not waiting:
            self._pass(self._until_it_asks())
        elif not self._left & 3:
            self._pass(asyncio.sleep(_STEP_S))
        if self._failure is not None:
            raise self._failure
        if not self._left & 255:
            check_link(self.link)
            if len(self._loop.pending()) > TASKS_MAX:
                raise BrokenRuleError(f"{len(self._loop.pending())} tasks")

    def _pass(self, wait: Coroutine[object, object, None]) -> None:
        # Not `run`: it would at once raise what a task raised that another is about to take.
        assert self._loop is not None
        self._loop.run_until_complete(self._loop.create_task(wait))

    async def _until_it_asks(self) -> None:
        """Let time pass, for a client that was lied to backs off, and takes no answers then."""
        for _ in range(40):
            await asyncio.sleep(4 * _STEP_S)
            if self.driver._asks:
                return

    def _addressed(self, datagram: bytes, waiting: list[RequestId]) -> bytes:
        if len(datagram) < HEADER_BYTES or datagram[_CLIENT] != SESSION:
            return datagram
        (length,) = struct.unpack_from(">I", datagram, 12)
        if length != len(datagram) - HEADER_BYTES:
            return datagram
        answered = bytearray(datagram)
        request = waiting[int(self._draw() * len(waiting))]
        _SEQUENCE.pack_into(answered, _SEQUENCE_AT, request.sequence)
        return bytes(rehashed(answered))

    def finish(self) -> None:
        """Count what the link dropped, and end the client."""
        check_link(self.link)
        self.stages.take_drops(self.link)
        self.close()

    def close(self) -> None:
        """End the client and its loop, at whatever point they are."""
        self.driver.stop()
        assert self._loop is not None
        if not self._loop.is_closed():
            self._loop.finish()


async def _take_some(records: AsyncGenerator[object, None]) -> None:
    count = 0
    async for _ in records:
        count += 1
        if count > 20:
            return
