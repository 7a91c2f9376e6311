"""The UDP socket: `Datagrams` through asyncio-dgram, on asyncio's own loop or uvloop.

The only importer of asyncio_dgram. What it does not do by itself is done here: the socket is ours
(bound, never connected, with large buffers), one task reads everything at once, and nothing that
happens to a datagram is an error: it is counted, and the link repeats what matters.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import os
import select
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import asyncio_dgram
from asyncio_dgram.aio import DatagramServer

from corfu.runtime.segments import cut_sent, join_received, runs
from corfu.types import Address

BUFFER_BYTES = 4 << 20
"""Asked of the kernel for each direction. The default holds 92 datagrams of 1,200 bytes."""

DATAGRAM_BYTES_MAX = 65507
"""Largest UDP payload over IPv4."""

_READ_BYTES = 65536
_FAIR_EVERY = 64
_TARGETS_MAX = 65536
_PENDING_ERRORS_MAX = 8
_CANNOT_SEGMENT = frozenset({errno.EINVAL, errno.EIO, errno.EMSGSIZE})


@dataclass(slots=True)
class UdpCounters:
    """What happened to datagrams at the socket. Attributes count since it was bound.

    Attributes:
        sent: Datagrams handed to the kernel.
        calls: System calls that took.
        received: Buffers received; the kernel may have joined several datagrams in one.
        errors_in: Errors the socket reported while receiving (an ICMP refusal, mostly).
        errors_out: Errors it reported while sending; perhaps about an earlier datagram.
        oversize: Not sent: longer than a UDP payload may be.
        no_address: Not sent: to a host that is not numeric, or of the other address family.
        blocked: Not sent: the kernel took no more.
    """

    sent: int = 0
    calls: int = 0
    received: int = 0
    errors_in: int = 0
    errors_out: int = 0
    oversize: int = 0
    no_address: int = 0
    blocked: int = 0


class UdpDatagrams:
    """A bound UDP socket. Made by `bind_udp`; used on the event loop it was made on.

    `send` is synchronous: it steps the coroutine of asyncio-dgram's `send` by hand, which hands
    the datagram to the transport before its first wait. Measured, 64 bytes to loopback, asyncio
    or uvloop: 4.1 us a datagram, nearly all of it the system call, against 4.4 us through a
    bounded queue and a task that awaits `send`, which would also come one loop turn later.
    """

    def __init__(
        self,
        stream: DatagramServer,
        address: Address,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        """Use `bind_udp`."""
        self._loop = loop
        self.counters = UdpCounters()
        self._stream = stream
        self._address = address
        self._version = 6 if ":" in address.host else 4
        self._socket = stream.socket
        self._receive: Callable[[bytes, Address], None] | None = None
        self._reader: asyncio.Task[None] | None = None
        self._targets: dict[Address, tuple[str, int] | None] = {}
        self._closed = False
        self._choked = False
        self._inode = os.fstat(self._socket.fileno()).st_ino
        self._segments = cut_sent(self._socket, 0)
        self._segment = 0

    @property
    def address(self) -> Address:
        """The address the socket is bound to."""
        return self._address

    @property
    def segments(self) -> bool:
        """Whether many datagrams leave in one system call."""
        return self._segments

    @property
    def recv_buffer_bytes(self) -> int:
        """What the kernel gave as receive buffer; Linux says twice what was asked for."""
        return int(self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF))

    def drops(self) -> int:
        """Return how many datagrams the kernel dropped for want of buffer; -1 if unknown."""
        table = Path("/proc/net/udp6" if self._version == 6 else "/proc/net/udp")
        try:
            lines = table.read_text().splitlines()[1:]
        except OSError:
            return -1
        for line in lines:
            columns = line.split()
            if columns[9] == str(self._inode):
                return int(columns[-1])
        return -1

    def send(self, datagrams: Sequence[tuple[bytes, Address]]) -> None:
        """Send each datagram, best effort: errors are counted, never raised."""
        if self._closed:
            return
        if len(datagrams) > 1 and self._segments:
            for run in runs(datagrams):
                self._send_run(*run)
        else:
            for data, to in datagrams:
                self._send_run(data, to, 0, 1)

    def _send_run(self, data: bytes, to: Address, segment: int, count: int) -> None:
        counters = self.counters
        target = self._target(to)
        if target is None:
            counters.no_address += count
        elif len(data) > DATAGRAM_BYTES_MAX:
            # The transport would report it with the next datagram, which is innocent.
            counters.oversize += count
        elif self._choked and self._is_blocked():
            counters.blocked += count
        else:
            if segment != self._segment:
                if not cut_sent(self._socket, segment):
                    counters.errors_out += 1
                    return
                self._segment = segment
            self._send_one(data, target, count)

    def listen(self, receive: Callable[[bytes, Address], None]) -> None:
        """Hand every received datagram to `receive`, from now on."""
        assert self._reader is None
        self._receive = receive
        self._shortcut()
        self._reader = self._loop.create_task(self._read(), name="udp reader")
        self._reader.add_done_callback(_report)

    def close(self) -> None:
        """Stop receiving and free the address. May be called twice."""
        self._receive = None
        if not self._closed:
            self._closed = True
            # The reader task ends by itself, when the transport reports the end.
            self._stream.close()

    async def wait_closed(self) -> None:
        """Wait until the socket is closed, after `close`."""
        if self._reader is not None:
            await asyncio.wait({self._reader})
        # Both loops close the descriptor in the turn after `close`, or the one after that.
        for _ in range(3):
            await asyncio.sleep(0)

    def _target(self, to: Address) -> tuple[str, int] | None:
        """Return the address for the kernel; None if it is not one that we may send to.

        A name would be looked up by the system call, which blocks the loop; and an address may
        come from a peer's message.
        """
        if to in self._targets:
            return self._targets[to]
        if len(self._targets) >= _TARGETS_MAX:
            self._targets.clear()
        try:
            good = ipaddress.ip_address(to.host).version == self._version and 0 < to.port < 65536
        except ValueError:
            good = False
        target = self._targets[to] = (to.host, to.port) if good else None
        return target

    def _send_one(self, data: bytes, target: tuple[str, int], count: int) -> None:
        counters = self.counters
        for _ in range(_PENDING_ERRORS_MAX):
            sending = self._stream.send(data, target)
            try:
                sending.send(None)
            except StopIteration:
                self._choked = False
                counters.sent += count
                counters.calls += 1
                return
            except asyncio_dgram.TransportClosed:
                return
            except OSError as error:
                # An error of an earlier datagram, raised instead of sending this one.
                counters.errors_out += 1
                if error.errno in _CANNOT_SEGMENT:
                    # Perhaps a path whose MTU is below the datagrams' length, which the kernel
                    # fragments when they are sent one by one. The link repeats what was lost.
                    self._segments = False
                continue
            # It wants to wait: the datagram is in the transport's queue, which has no bound.
            sending.close()
            counters.sent += count
            counters.calls += 1
            self._choked = True
            return

    def _is_blocked(self) -> bool:
        """Ask the kernel whether it takes no more.

        What asyncio-dgram would wait for may never come: CPython 3.13.0 counts 8 bytes too many
        for each datagram that was queued once (gh-135444).
        """
        _, writable, _ = select.select((), (self._socket.fileno(),), (), 0)
        return not writable

    def _shortcut(self) -> None:
        """Let the transport hand over what it has read in the same step, not through the queue.

        The queue has no bound, and to pass through it, a future and a task costs each datagram a
        turn of the loop. asyncio-dgram shows its queue to nobody, hence the private name; without
        it nothing is lost but that.
        """
        queue = getattr(self._stream, "_recvq", None)
        put = getattr(queue, "put_nowait", None)
        if put is None:
            return
        origins: dict[tuple[str, int], Address] = {}

        def arrived(item: tuple[bytes | None, tuple[str, int]]) -> None:
            data, sender = item
            receive = self._receive
            if data is None or receive is None:
                put(item)
                return
            self.counters.received += 1
            origin = origins.get(sender)
            if origin is None:
                if len(origins) >= _TARGETS_MAX:
                    origins.clear()
                origin = origins[sender] = Address(*sender[:2])
            receive(data, origin)

        setattr(queue, "put_nowait", arrived)  # noqa: B010 - in no stub

    async def _read(self) -> None:
        """Take every datagram out of asyncio-dgram's unbounded queue as soon as it is there."""
        counters = self.counters
        taken = 0
        while (receive := self._receive) is not None:
            try:
                data, sender = await self._stream.recv()
            except asyncio_dgram.TransportClosed:
                return
            except OSError:
                counters.errors_in += 1
                continue
            counters.received += 1
            assert isinstance(sender, tuple)
            receive(data, Address(*sender[:2]))
            taken += 1
            if taken % _FAIR_EVERY == 0:
                # `recv` with a full queue never yields; timers and commits must have their turn.
                await asyncio.sleep(0)


def _report(reader: asyncio.Task[None]) -> None:
    """Hand what the receiver raised to the loop: nobody awaits the reader."""
    if not reader.cancelled() and (failure := reader.exception()) is not None:
        reader.get_loop().call_exception_handler(
            {"message": "the UDP reader ended", "exception": failure, "task": reader}
        )


async def bind_udp(
    host: str, port: int, *, warn: Callable[[str], None] | None = None
) -> UdpDatagrams:
    """Bind a UDP socket.

    Args:
        host: Numeric address, or a name that the system resolves.
        port: UDP port; 0 takes any free one.
        warn: Called with a text if the kernel gave less than half of the buffer asked for.

    Raises:
        OSError: The address cannot be had; the text names it and says why.
    """
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
    family, _, _, _, target = found[0]
    own = socket.socket(family, socket.SOCK_DGRAM)
    try:
        own.setblocking(False)
        if family == socket.AF_INET6:
            # Else IPv4 peers would have two spellings.
            own.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            own.setsockopt(socket.SOL_SOCKET, option, BUFFER_BYTES)
        join_received(own)
        try:
            own.bind(target)
        except OSError as error:
            raise OSError(error.errno, _reason(error, Address(host, port))) from error
        bound = own.getsockname()
        stream = await asyncio_dgram.from_socket(own)
        assert isinstance(stream, DatagramServer)
    except BaseException:
        own.close()
        raise
    _limit_reads(stream)
    datagrams = UdpDatagrams(stream, Address(bound[0], bound[1]), loop)
    # The kernel reports twice what it gives, the half for its own book-keeping.
    if warn is not None and datagrams.recv_buffer_bytes < BUFFER_BYTES:
        warn(
            f"the receive buffer has {datagrams.recv_buffer_bytes // 2} bytes where {BUFFER_BYTES} "
            "were asked for: bursts will be lost; raise net.core.rmem_max"
        )
    return datagrams


def _reason(error: OSError, address: Address) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"UDP port {address.port} of {address.host} is in use by another process"
    return f"cannot bind UDP {address}: {error.strerror}"


def _limit_reads(stream: DatagramServer) -> None:
    """Let asyncio's own transport read into 64 KiB, not 256 KiB: three times as fast.

    asyncio-dgram shows its transport to nobody, hence the private name; without it, or on
    uvloop, whose transport has no such limit, nothing is lost but speed.
    """
    transport = getattr(stream, "_transport", None)
    if hasattr(transport, "max_size"):
        setattr(transport, "max_size", _READ_BYTES)  # noqa: B010 - in no stub
