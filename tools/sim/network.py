"""A datagram network in virtual time that loses, delays, repeats, reorders and damages.

Every fault is data: the settings in force, the pairs of addresses that are cut, the endpoints
that are paused. All of it may change while the cluster runs. What is random comes from one
generator, so a seed repeats the whole run.
"""

from __future__ import annotations

import contextvars
import errno
import random
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import asdict, dataclass

from corfu.tools.sim.loop import VirtualLoop
from corfu.types import Address

Receive = Callable[[bytes, Address], None]


@dataclass(frozen=True, slots=True)
class NetworkSettings:
    """How the network behaves towards every datagram.

    Probabilities are of [0, 1] and independent of each other. Delays are one-way and random
    within [min, max], which also reorders.

    Attributes:
        loss: Probability that a datagram is dropped.
        duplicate: Probability that a second copy arrives, with a delay of its own.
        long_delay: Probability that the delay is taken from the long range instead, so that a
            datagram may arrive epochs after it was sent.
        corrupt: Probability that a copy with one flipped bit arrives besides.
        truncate: Probability that a copy cut short arrives besides.
        datagram_bytes_max: Longer ones are dropped, as with EMSGSIZE.
        buffer_datagrams_max: What an endpoint's receive buffer holds; more are dropped.
        receive_s: Time an endpoint needs for one datagram; it empties the receive buffer.
    """

    loss: float = 0.0
    duplicate: float = 0.0
    delay_s_min: float = 50e-6
    delay_s_max: float = 200e-6
    long_delay: float = 0.0
    long_delay_s_min: float = 1.0
    long_delay_s_max: float = 30.0
    corrupt: float = 0.0
    truncate: float = 0.0
    datagram_bytes_max: int = 65_507
    buffer_datagrams_max: int = 4_096
    receive_s: float = 2e-6


@dataclass(slots=True)
class NetworkCounters:
    """How many datagrams met which fate."""

    sent: int = 0
    bytes_sent: int = 0
    delivered: int = 0
    lost: int = 0
    duplicated: int = 0
    long_delayed: int = 0
    corrupted: int = 0
    truncated: int = 0
    blocked: int = 0
    oversize: int = 0
    overflowed: int = 0
    unheard: int = 0
    late: int = 0

    def as_dict(self) -> dict[str, int]:
        """Return the counts by name."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Captured:
    """A datagram that was sent once and is kept to come again."""

    sent_at: float
    source: Address
    target: Address
    data: bytes


class SimDatagrams:
    """A `corfu.ports.Datagrams` on the simulated network; made by `SimNetwork.endpoint`."""

    __slots__ = (
        "_address",
        "_backlog",
        "_backlog_at",
        "_buffer",
        "_context",
        "_emptying",
        "_network",
        "_receive",
        "_sends_left",
        "_spent",
        "closed",
        "paused",
    )

    def __init__(self, network: SimNetwork, address: Address) -> None:
        self._network = network
        self._address = address
        self._receive: Receive | None = None
        self._buffer: deque[tuple[bytes, Address]] = deque()
        self._emptying = False
        self._backlog = 0.0
        self._backlog_at = 0.0
        self._context = contextvars.Context()
        self._sends_left: int | None = None
        self._spent: Callable[[], None] | None = None
        self.closed = False
        self.paused = False

    @property
    def address(self) -> Address:
        """The own address, as peers reach it."""
        return self._address

    def send(self, datagrams: Sequence[tuple[bytes, Address]]) -> None:
        """Send each datagram, best effort; a closed endpoint sends nothing."""
        if self.closed:
            return
        if self._sends_left is not None:
            datagrams = self._spend_on(datagrams, self._sends_left)
        for data, target in datagrams:
            self._network._send(self._address, target, data)

    def spend(self, count: int | None, spent: Callable[[], None] | None = None) -> None:
        """Send so many datagrams more, and none after them, but call `spent`; None: no bound."""
        self._sends_left, self._spent = count, spent

    def _spend_on(
        self, datagrams: Sequence[tuple[bytes, Address]], left: int
    ) -> Sequence[tuple[bytes, Address]]:
        if len(datagrams) > left and self._spent is not None:
            spent, self._spent = self._spent, None
            spent()
        self._sends_left = max(0, left - len(datagrams))
        return datagrams[:left]

    def listen(self, receive: Receive) -> None:
        """Hand every received datagram to `receive`; first those that wait in the buffer."""
        self._receive = receive
        # Deliveries run as a part of the listening process, not of the sending one.
        self._context = contextvars.copy_context()
        self._empty_buffer()

    def close(self) -> None:
        """Stop receiving and free the address."""
        if not self.closed:
            self.closed = True
            self._buffer.clear()
            self._network._forget(self._address)

    def _resume(self) -> None:
        self.paused = False
        self._empty_buffer()

    def _empty_buffer(self) -> None:
        """Begin to deliver what piled up, each in a turn of its own, in the order of arrival."""
        if self._buffer and not self._emptying:
            self._emptying = True
            self._network.loop.call_soon(self._deliver_oldest, context=self._network.context)

    def _deliver_oldest(self) -> None:
        self._emptying = False
        # Paused or closed again meanwhile: the rest stays, or is gone.
        if not self._buffer or self.paused or self._receive is None:
            return
        data, source = self._buffer.popleft()
        self._network.counters.delivered += 1
        # Before the receiver runs: what it raises must not leave the rest lying here.
        self._empty_buffer()
        self._context.run(self._receive, data, source)

    def _arrive(self, data: bytes, source: Address) -> None:
        network = self._network
        settings = network.settings
        receive = self._receive
        if receive is None or self.paused or self._buffer:
            if len(self._buffer) >= settings.buffer_datagrams_max:
                network.counters.overflowed += 1
            else:
                self._buffer.append((data, source))
            return
        # A leaky bucket stands for the receive buffer: each datagram takes receive_s to drain.
        now = network.loop.now
        drained = (now - self._backlog_at) / settings.receive_s if settings.receive_s else 0.0
        backlog = max(0.0, self._backlog - drained) if settings.receive_s else 0.0
        self._backlog_at = now
        if backlog >= settings.buffer_datagrams_max:
            self._backlog = backlog
            network.counters.overflowed += 1
            return
        self._backlog = backlog + 1.0
        network.counters.delivered += 1
        self._context.run(receive, data, source)


class SimNetwork:
    """The network of one simulated cluster.

    Attributes:
        settings: In force for what is sent from now on; assign to change them.
        counters: Faults and deliveries so far.
    """

    def __init__(self, loop: VirtualLoop, rng: random.Random, settings: NetworkSettings) -> None:
        self.loop = loop
        self.settings = settings
        self.counters = NetworkCounters()
        self.context = contextvars.Context()
        self._rng = rng
        self._endpoints: dict[Address, SimDatagrams] = {}
        # Sets are only asked for members here, never walked through: they have no fixed order.
        self._blocked: set[tuple[Address, Address]] = set()
        self._isolated: set[Address] = set()
        self._classify: Callable[[bytes], Hashable] | None = None
        self._capture_max = 0
        self._captured: dict[Hashable, list[Captured]] = {}
        self._seen: dict[Hashable, int] = {}

    def endpoint(self, address: Address) -> SimDatagrams:
        """Open a socket at `address`; datagrams sent to an earlier one there reach it too.

        Raises:
            OSError: EADDRINUSE, the address has an open endpoint.
        """
        if address in self._endpoints:
            raise OSError(errno.EADDRINUSE, f"{address} is in use")
        endpoint = SimDatagrams(self, address)
        self._endpoints[address] = endpoint
        return endpoint

    # Faults.

    def block(self, sources: Iterable[Address], targets: Iterable[Address]) -> None:
        """Cut every way from one of `sources` to one of `targets`; the ways back stay open.

        From now on nothing arrives that way, datagrams under way included.
        """
        targets = list(targets)
        self._blocked.update((source, target) for source in sources for target in targets)

    def unblock(self, sources: Iterable[Address], targets: Iterable[Address]) -> None:
        """Open every way from one of `sources` to one of `targets`."""
        targets = list(targets)
        self._blocked.difference_update(
            (source, target) for source in sources for target in targets
        )

    def partition(self, side: Iterable[Address], other: Iterable[Address]) -> None:
        """Cut all ways between two sides, both directions."""
        side, other = list(side), list(other)
        self.block(side, other)
        self.block(other, side)

    def isolate(self, address: Address) -> None:
        """Cut `address` off from everybody, known or to come, both directions."""
        self._isolated.add(address)

    def rejoin(self, address: Address) -> None:
        """End an `isolate`."""
        self._isolated.discard(address)

    def heal(self) -> None:
        """End every block and isolation."""
        self._blocked.clear()
        self._isolated.clear()

    def pause(self, address: Address) -> None:
        """Stop deliveries to a stopped process: they pile up until its buffer is full."""
        endpoint = self._endpoints.get(address)
        if endpoint is not None:
            endpoint.paused = True

    def resume(self, address: Address) -> None:
        """Go on after `pause`: what piled up is delivered now."""
        endpoint = self._endpoints.get(address)
        if endpoint is not None and endpoint.paused:
            endpoint._resume()

    def capture(self, classify: Callable[[bytes], Hashable], each_max: int) -> None:
        """From now on keep a random sample of sent datagrams, up to `each_max` of every kind.

        Args:
            classify: Tells a datagram's kind; None as a kind means: do not keep it.
            each_max: Bound of the sample of one kind, at least 1.
        """
        self._classify = classify
        self._capture_max = each_max

    def late(
        self, *, older_than_s: float = 0.0, to: Callable[[Captured], bool] | None = None
    ) -> list[Captured]:
        """Send one captured datagram of each kind again; returns them, kinds in first-seen order.

        Args:
            older_than_s: Only those sent at least so long ago.
            to: Only those for which this is true; None: all.
        """
        before = self.loop.now - older_than_s
        again: list[Captured] = []
        for sample in self._captured.values():
            old = [each for each in sample if each.sent_at <= before and (to is None or to(each))]
            if old:
                again.append(self._rng.choice(old))
        for each in again:
            self.counters.late += 1
            self._schedule(each.source, each.target, each.data)
        return again

    # The way of a datagram.

    def _send(self, source: Address, target: Address, data: bytes) -> None:
        settings = self.settings
        counters = self.counters
        random_of = self._rng.random
        counters.sent += 1
        counters.bytes_sent += len(data)
        if len(data) > settings.datagram_bytes_max:
            counters.oversize += 1
            return
        if self._classify is not None:
            self._keep(self._classify(data), source, target, data)
        if settings.loss and random_of() < settings.loss:
            counters.lost += 1
        else:
            self._schedule(source, target, data)
        if settings.duplicate and random_of() < settings.duplicate:
            counters.duplicated += 1
            self._schedule(source, target, data)
        if settings.corrupt and data and random_of() < settings.corrupt:
            counters.corrupted += 1
            self._schedule(source, target, self._with_flipped_bit(data))
        if settings.truncate and data and random_of() < settings.truncate:
            counters.truncated += 1
            self._schedule(source, target, data[: self._rng.randrange(len(data))])

    def _schedule(self, source: Address, target: Address, data: bytes) -> None:
        settings = self.settings
        low, high = settings.delay_s_min, settings.delay_s_max
        if settings.long_delay and self._rng.random() < settings.long_delay:
            self.counters.long_delayed += 1
            low, high = settings.long_delay_s_min, settings.long_delay_s_max
        delay = low + (high - low) * self._rng.random()
        # In a context of the network's own: the sender's death does not recall a datagram.
        due = self.loop.now + delay
        self.loop.call_at(due, self._deliver, source, target, data, context=self.context)

    def _deliver(self, source: Address, target: Address, data: bytes) -> None:
        if self._is_cut(source, target):
            self.counters.blocked += 1
            return
        endpoint = self._endpoints.get(target)
        if endpoint is None:
            self.counters.unheard += 1
            return
        loop = self.loop
        loop.note(source.port, target.port, data)
        if loop.trace is not None:
            loop.trace(loop.now, "datagram", f"{source} -> {target}: {len(data)} bytes")
        endpoint._arrive(data, source)

    def _is_cut(self, source: Address, target: Address) -> bool:
        isolated = self._isolated
        if isolated and source != target and (source in isolated or target in isolated):
            return True
        return (source, target) in self._blocked

    def _with_flipped_bit(self, data: bytes) -> bytes:
        damaged = bytearray(data)
        damaged[self._rng.randrange(len(data))] ^= 1 << self._rng.randrange(8)
        return bytes(damaged)

    def _keep(self, kind: Hashable, source: Address, target: Address, data: bytes) -> None:
        """Reservoir sampling per kind: every datagram so far is kept with equal probability."""
        if kind is None:
            return
        seen = self._seen.get(kind, 0) + 1
        self._seen[kind] = seen
        sample = self._captured.setdefault(kind, [])
        if len(sample) < self._capture_max:
            sample.append(Captured(self.loop.now, source, target, data))
            return
        place = self._rng.randrange(seen)
        if place < self._capture_max:
            sample[place] = Captured(self.loop.now, source, target, data)

    def _forget(self, address: Address) -> None:
        del self._endpoints[address]
