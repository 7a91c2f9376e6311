"""Links over a network that loses, repeats, delays and damages: pure, in virtual time, seeded."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from corfu.config import LinkSettings
from corfu.link import Link
from corfu.messages import Message
from corfu.types import Address, ClusterId, Incarnation, RequestId

CLUSTER = ClusterId(b"testtest")
A = Address("10.0.0.1", 1)
B = Address("10.0.0.2", 2)
C = Address("10.0.0.3", 3)

Handler = Callable[["Host", Message, Address], None]


@dataclass(slots=True)
class Faults:
    loss: float = 0.0
    duplicate: float = 0.0
    corrupt: float = 0.0
    delay_s: tuple[float, float] = (0.0002, 0.001)
    long_delay: float = 0.0
    bytes_per_turn: int | None = None


@dataclass(slots=True)
class Host:
    """A link, what it received, and what it does with that."""

    address: Address
    link: Link
    world: World
    handler: Handler | None = None
    received: list[Message] = field(default_factory=list)
    answered: dict[RequestId, Message] = field(default_factory=dict)
    expired: list[RequestId] = field(default_factory=list)

    def ask(self, to: Address, message: Message, budget_s: float = 30.0) -> bool:
        taken = self.link.ask(to, message, self.world.now, budget_s)
        self.world.flush(self)
        return taken

    def send(self, to: Address, message: Message) -> None:
        self.link.send(to, message, self.world.now)
        self.world.flush(self)


class World:
    def __init__(self, seed: int, faults: Faults | None = None) -> None:
        self.rng = random.Random(seed)
        self.faults = faults or Faults()
        self.now = 0.0
        self.hosts: dict[Address, Host] = {}
        self.bytes_sent = 0
        self.datagrams = 0
        self.longest = 0
        self.tap: Callable[[bytes, Address, Address], None] | None = None
        self._queue: list[tuple[float, int, Address, Address, bytes]] = []
        self._count = 0

    def host(
        self,
        address: Address,
        settings: LinkSettings | None = None,
        handler: Handler | None = None,
        cluster: ClusterId | None = CLUSTER,
    ) -> Host:
        link = Link(
            cluster=cluster,
            session=Incarnation(self.rng.randbytes(16)),
            settings=settings or LinkSettings(),
            rng=random.Random(self.rng.random()),
        )
        host = self.hosts[address] = Host(address, link, self, handler)
        return host

    def flush(self, host: Host) -> None:
        for datagram, to in host.link.outgoing():
            self.bytes_sent += len(datagram)
            self.datagrams += 1
            self.longest = max(self.longest, len(datagram))
            if self.tap is not None:
                self.tap(datagram, host.address, to)
            self.transmit(datagram, host.address, to)

    def transmit(self, datagram: bytes, sender: Address, to: Address) -> None:
        faults, rng = self.faults, self.rng
        copies = 1 + (rng.random() < faults.duplicate)
        for _ in range(copies):
            if rng.random() < faults.loss:
                continue
            if rng.random() < faults.corrupt:
                damaged = bytearray(datagram)
                damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
                datagram = bytes(damaged)
            delay = rng.uniform(*faults.delay_s)
            if rng.random() < faults.long_delay:
                delay = rng.uniform(0.5, 5.0)
            self._count += 1
            heapq.heappush(self._queue, (self.now + delay, self._count, sender, to, datagram))

    def run(self, until: Callable[[], bool], limit_s: float = 600.0) -> None:
        """Run until the condition holds; nothing left to happen, or the limit, is a failure."""
        while not until():
            assert self.step(limit_s), "nothing can happen any more"

    def run_for(self, seconds: float) -> None:
        end = self.now + seconds
        while self.step(end):
            pass
        self.now = end

    def step(self, limit_s: float) -> bool:
        due = [
            (deadline, address)
            for address, host in self.hosts.items()
            if (deadline := host.link.deadline) is not None
        ]
        timer = min(due, default=None)
        if self._queue and (timer is None or self._queue[0][0] <= timer[0]):
            if self._queue[0][0] > limit_s:
                return False
            when, _, sender, to, datagram = heapq.heappop(self._queue)
            self.now = max(self.now, when)
            if to in self.hosts:
                self._receive(self.hosts[to], datagram, sender)
            return True
        if timer is None or timer[0] > limit_s:
            return False
        self.now = max(self.now, timer[0])
        host = self.hosts[timer[1]]
        host.expired.extend(host.link.tick(self.now))
        self.flush(host)
        return True

    def _receive(self, host: Host, datagram: bytes, sender: Address) -> None:
        for message, origin in host.link.receive(datagram, sender, self.now):
            if host.link.complete(message.request, self.now):
                host.answered[message.request] = message
            else:
                host.received.append(message)
                if host.handler is not None:
                    host.handler(host, message, origin)
        self.flush(host)
