"""The real socket on loopback, on asyncio's own loop and on uvloop."""

from __future__ import annotations

import asyncio
import errno
import random
import socket
from collections.abc import Callable, Coroutine

import pytest
import uvloop

from corfu.config import LOOPBACK_DATAGRAM_BYTES_MAX, LinkSettings
from corfu.effects import Effect, Send
from corfu.link import Link
from corfu.messages import Message, Ping, Pong, Write, Written
from corfu.runtime.driver import Driver
from corfu.runtime.udp import DATAGRAM_BYTES_MAX, UdpDatagrams, bind_udp
from corfu.types import Address, ClusterId, EntryId, Epoch, Incarnation, Offset, UnitId

HOST = "127.0.0.1"
Run = Callable[[Coroutine[object, object, None]], None]


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    factory = uvloop.new_event_loop if request.param == "uvloop" else asyncio.new_event_loop

    def run_in(main: Coroutine[object, object, None]) -> None:
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(asyncio.wait_for(main, 20))

    return run_in


class Inbox:
    def __init__(self, datagrams: UdpDatagrams) -> None:
        self.received: list[tuple[bytes, Address]] = []
        self._event = asyncio.Event()
        datagrams.listen(self._take)

    def _take(self, data: bytes, sender: Address) -> None:
        self.received.append((data, sender))
        self._event.set()

    async def wait_for(self, count: int) -> None:
        while len(self.received) < count:
            self._event.clear()
            await self._event.wait()

    async def wait_for_bytes(self, count: int) -> None:
        while sum(len(data) for data, _ in self.received) < count:
            self._event.clear()
            await self._event.wait()


async def closed(*sockets: UdpDatagrams) -> None:
    for datagrams in sockets:
        datagrams.close()
        datagrams.close()
        await datagrams.wait_closed()


def test_datagrams_on_loopback_arrive_with_their_sender(run: Run) -> None:
    async def main() -> None:
        a, b = await bind_udp(HOST, 0), await bind_udp(HOST, 0)
        inbox = Inbox(b)
        sent = [(bytes([n]) * size, b.address) for n, size in enumerate((1, 9, 1200, 65507))]
        a.send(sent)
        await inbox.wait_for(4)
        assert sorted(inbox.received) == sorted((data, a.address) for data, _ in sent)
        assert a.counters.sent == b.counters.received == 4
        await closed(a, b)

    run(main())


def test_many_datagrams_in_one_turn_all_arrive(run: Run) -> None:
    async def main() -> None:
        a, b = await bind_udp(HOST, 0), await bind_udp(HOST, 0)
        inbox = Inbox(b)
        sent = [n.to_bytes(4) * 300 for n in range(1000)]
        a.send([(data, b.address) for data in sent])
        await inbox.wait_for_bytes(1000 * 1200)
        # The kernel may have joined neighbours; frames tell their own length.
        assert b"".join(data for data, _ in inbox.received) == b"".join(sent)
        assert b.drops() == 0
        assert a.counters.sent == 1000
        assert a.counters.calls < 50 if a.segments else a.counters.calls == 1000
        await closed(a, b)

    run(main())


def test_what_cannot_be_sent_is_counted_and_harms_nothing_else(run: Run) -> None:
    async def main() -> None:
        a, b = await bind_udp(HOST, 0), await bind_udp(HOST, 0)
        inbox = Inbox(b)
        bad = [
            (bytes(DATAGRAM_BYTES_MAX + 1), b.address),
            (b"x", Address("localhost", b.address.port)),
            (b"x", Address("::1", b.address.port)),
            (b"x", Address(HOST, 0)),
            (b"x", Address(HOST, 70_000)),
        ]
        for datagram in bad:
            a.send([datagram, (b"good", b.address)])
        await inbox.wait_for(len(bad))
        assert [data for data, _ in inbox.received] == [b"good"] * len(bad)
        assert (a.counters.oversize, a.counters.no_address) == (1, 4)
        await closed(a, b)

    run(main())


def test_refusal_by_a_closed_port_is_no_error(run: Run) -> None:
    async def main() -> None:
        a, b, gone = await bind_udp(HOST, 0), await bind_udp(HOST, 0), await bind_udp(HOST, 0)
        address = gone.address
        await closed(gone)
        Inbox(a)
        inbox = Inbox(b)
        for _ in range(5):
            a.send([(b"x", address), (b"y", b.address)])
            await asyncio.sleep(0)
        await inbox.wait_for(5)
        await closed(a, b)

    run(main())


def test_port_in_use_is_named_in_the_error(run: Run) -> None:
    async def main() -> None:
        a = await bind_udp(HOST, 0)
        with pytest.raises(OSError, match=f"UDP port {a.address.port} .* in use") as caught:
            await bind_udp(HOST, a.address.port)
        assert caught.value.errno == errno.EADDRINUSE
        await closed(a)
        again = await bind_udp(HOST, a.address.port)
        await closed(again)

    run(main())


def test_small_receive_buffer_is_warned_about(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        warnings: list[str] = []
        a = await bind_udp(HOST, 0, warn=warnings.append)
        assert bool(warnings) == (a.recv_buffer_bytes < 4 << 20)
        await closed(a)
        monkeypatch.setattr("corfu.runtime.udp.BUFFER_BYTES", 1 << 30)
        b = await bind_udp(HOST, 0, warn=warnings.append)
        assert "net.core.rmem_max" in warnings[-1]
        await closed(b)

    run(main())


def test_kernel_drops_are_read_for_this_socket(run: Run) -> None:
    async def main() -> None:
        a, b = await bind_udp(HOST, 0), await bind_udp(HOST, 0)
        # Nobody listens: the reader is not started, but the transport takes what it can each
        # turn, so the buffer is overrun within one.
        size = 60_000
        a.send([(bytes(size), b.address)] * (2 * b.recv_buffer_bytes // size))
        assert b.drops() > 0
        assert a.drops() == 0
        await closed(a, b)

    run(main())


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6 here")
def test_ipv6_loopback_works(run: Run) -> None:
    async def main() -> None:
        try:
            a, b = await bind_udp("::1", 0), await bind_udp("::1", 0)
        except OSError:
            pytest.skip("no IPv6 address on loopback")
        inbox = Inbox(b)
        a.send([(b"x", b.address)])
        await inbox.wait_for(1)
        assert inbox.received == [(b"x", a.address)]
        assert b.drops() == 0
        await closed(a, b)

    run(main())


class Echo:
    """A core without a disk."""

    journal = None
    deadline = None

    def handle(self, message: Message, sender: Address, now: float) -> list[Effect]:
        match message:
            case Ping():
                return [Send(sender, Pong(message.request, message.unit))]
            case Write():
                place = (message.epoch, message.offset, message.entry_id)
                return [Send(sender, Written(message.request, *place))]
            case _:
                return []

    def tick(self, now: float) -> list[Effect]:
        raise AssertionError(now)


def test_drivers_over_real_sockets_ask_and_answer(run: Run) -> None:
    async def driver(core: Echo | None, seed: int) -> Driver:
        link = Link(
            cluster=ClusterId(b"testtest"),
            session=Incarnation(bytes([seed]) * 16),
            settings=LinkSettings(datagram_bytes_max=LOOPBACK_DATAGRAM_BYTES_MAX),
            rng=random.Random(seed),
        )
        loop = asyncio.get_running_loop()
        made = Driver(
            core=core, link=link, datagrams=await bind_udp(HOST, 0), worker=None, loop=loop
        )
        made.start()
        return made

    async def main() -> None:
        server, client = await driver(Echo(), 1), await driver(None, 2)

        async def ask(n: int) -> None:
            ping = Ping(client.new_request(), UnitId(n))
            assert await client.ask(server.address, ping, 10) == Pong(ping.request, UnitId(n))

        await asyncio.gather(*(ask(n) for n in range(500)))
        entry_id = EntryId(b"e" * 16)
        for size in (1000, 60_000, 1 << 20):
            request = client.new_request()
            write = Write(request, Epoch(1), Offset(0), entry_id, Offset(1), bytes(size))
            reply = await client.ask(server.address, write, 10)
            assert reply == Written(request, Epoch(1), Offset(0), entry_id)
        await client.drain()
        await server.drain()

    run(main())
