"""The link core: what a driver hands datagrams, messages and the time to.

Two promises. A request that is asked is repeated until it is answered, cancelled or expired. A
message that is sent leaves once; only if its body is larger than one burst it is moved fragment by
fragment, resending what is missing, for a bounded time. Everything may arrive twice, late or out
of order; what arrives was checked by digest.
"""

from __future__ import annotations

import random
from typing import NamedTuple

from corfu import codec
from corfu.codec import HEADER_BYTES, NO_CLUSTER, Frame
from corfu.config import LinkSettings
from corfu.errors import WireError
from corfu.link.control import (
    ACK_BYTES_MIN,
    FRAGMENT_ACK,
    FRAGMENT_PROBE,
    LINK_KINDS_MIN,
    decode_ack,
    decode_probe,
    encode_ack,
)
from corfu.link.counters import LinkCounters
from corfu.link.outbox import Outbox
from corfu.link.reassembly import Key, Reassembly, is_transfer
from corfu.link.sending import Sending
from corfu.messages import KINDS, Message
from corfu.types import Address, ClusterId, Incarnation, RequestId

_OPEN_KINDS = codec.OPEN_KINDS | {FRAGMENT_ACK, FRAGMENT_PROBE}


class Delivery(NamedTuple):
    """A received message and where it came from."""

    message: Message
    sender: Address


class Link:
    """Requests and messages to any number of peers.

    After any call, `outgoing()` has what is to leave, and `deadline` says when to call `tick`.

    Attributes:
        counters: Totals.
    """

    def __init__(
        self,
        *,
        cluster: ClusterId | None,
        session: Incarnation,
        settings: LinkSettings,
        rng: random.Random,
    ) -> None:
        """Make a link.

        Args:
            cluster: The cluster id. None: to be learned; until `cluster` is set, frames of any
                cluster are taken, and servers answer only what `codec.OPEN_KINDS` lists.
            session: A fresh incarnation: all request ids of this link start with it.
            settings: Sizes, windows and times.
            rng: For jitter.
        """
        self.counters = LinkCounters()
        self._cluster = cluster
        self._session = session
        self._sequence = 0
        self._outbox = Outbox(cluster, settings.datagram_bytes_max, self.counters)
        self._sending = Sending(settings, rng, self._outbox, self.counters)
        self._reassembly = Reassembly(
            bytes_max=settings.reassembly_bytes_max,
            s_max=settings.reassembly_s_max,
            ack_room=settings.datagram_bytes_max - HEADER_BYTES - ACK_BYTES_MIN,
            counters=self.counters,
        )

    @property
    def cluster(self) -> ClusterId | None:
        """The cluster this link belongs to; None: not known yet."""
        return self._cluster

    @cluster.setter
    def cluster(self, cluster: ClusterId) -> None:
        self._cluster = cluster
        self._outbox.cluster = cluster

    @property
    def asks(self) -> int:
        """How many requests wait for their answer."""
        return self._sending.asks

    @property
    def reassembly_bytes(self) -> int:
        """Bytes held for bodies that are not complete."""
        return self._reassembly.bytes_held

    def flight(self, to: Address, now: float) -> tuple[int, int]:
        """Return (bytes in flight, window in bytes) towards a peer."""
        peer = self._sending.peer(to, now)
        return peer.flight, peer.window

    def round_trip(self, to: Address, now: float) -> float | None:
        """Return the smoothed round trip to a peer in seconds; None if none was measured."""
        return self._sending.peer(to, now).mean

    def new_request(self) -> RequestId:
        """Return a request id never used before."""
        self._sequence += 1
        return RequestId(self._session, self._sequence)

    def send(self, to: Address, message: Message, now: float) -> None:
        """Send once. A body above `BURST_BYTES_MAX` becomes a transfer, given up after a time.

        While the same message (peer, kind, request id, epoch and offset) is being transferred,
        sending it again does nothing.

        Raises:
            ValueError: The message is larger than any may be.
        """
        self._sending.send(to, message, now)

    def ask(self, to: Address, message: Message, now: float, budget_s: float) -> bool:
        """Send a request and repeat it until `complete` or `cancel`, or for `budget_s` seconds.

        It waits its turn if the peer's window is full. Returns False, and does nothing, if too
        many requests wait already.

        Raises:
            ValueError: The message is larger than any may be.
        """
        return self._sending.ask(to, message, now, budget_s)

    def complete(self, request: RequestId, now: float) -> bool:
        """Note that a request was answered; False if it is not waiting (any more)."""
        return self._sending.complete(request, now)

    def cancel(self, request: RequestId, now: float) -> None:
        """Stop repeating a request; nothing happens if it is not waiting."""
        self._sending.cancel(request, now)

    def outgoing(self) -> list[tuple[bytes, Address]]:
        """Return and forget the datagrams to send: per peer in order, frames packed together."""
        return self._outbox.take()

    @property
    def deadline(self) -> float | None:
        """When `tick` has something to do; None: never."""
        repeat, evict = self._sending.deadline, self._reassembly.deadline
        if repeat is None or evict is None:
            return evict if repeat is None else repeat
        return min(repeat, evict)

    def tick(self, now: float) -> list[RequestId]:
        """Do what is due; returns the requests whose time is over. They are forgotten."""
        self._reassembly.expire(now)
        return self._sending.tick(now)

    def receive(self, datagram: bytes, sender: Address, now: float) -> list[Delivery]:
        """Take a datagram; returns the messages that are whole now. Never raises for its bytes."""
        counters = self.counters
        counters.datagrams_in += 1
        counters.bytes_in += len(datagram)
        deliveries: list[Delivery] = []
        frames, fault = codec.decode_untrusted(datagram)
        for frame in frames:
            counters.frames_in += 1
            if not self._is_ours(frame):
                # The rest came in the same datagram, so from the same stranger.
                counters.drops["cluster"] += 1
                return deliveries
            message = self._take(frame, sender, now)
            if message is not None:
                counters.messages_in += 1
                deliveries.append(Delivery(message, sender))
        if fault:
            counters.drops[fault] += 1
        return deliveries

    def _is_ours(self, frame: Frame) -> bool:
        if self._cluster is None or frame.cluster == self._cluster:
            return True
        return frame.cluster == NO_CLUSTER and frame.kind in _OPEN_KINDS

    def _take(self, frame: Frame, sender: Address, now: float) -> Message | None:
        """Return the message that a frame completes, if it does."""
        if frame.kind >= LINK_KINDS_MIN:
            self._take_control(frame, sender, now)
            return None
        if frame.kind not in KINDS or (frame.flags and not is_transfer(frame.flags)):
            self.counters.drops["kind"] += 1
            return None
        body: memoryview | bytes | None = frame.payload
        if frame.fragments > 1:
            whole, ack = self._reassembly.add(frame, sender, now)
            body = None if whole is None else memoryview(whole)
            if ack is not None:
                self._outbox.put_control(sender, FRAGMENT_ACK, frame, encode_ack(ack))
        if body is None:
            return None
        try:
            return codec.decode_body(frame.kind, frame.request, frame.epoch, frame.offset, body)
        except WireError:
            self.counters.drops["body"] += 1
            return None

    def _take_control(self, frame: Frame, sender: Address, now: float) -> None:
        try:
            if frame.fragments > 1 or frame.kind not in (FRAGMENT_ACK, FRAGMENT_PROBE):
                self.counters.drops["kind"] += 1
            elif frame.kind == FRAGMENT_ACK:
                self._sending.acknowledged(decode_ack(frame.payload), frame, sender, now)
            else:
                kind, serial = decode_probe(frame.payload)
                key = Key(sender, kind, frame.flags, frame.request, frame.epoch, frame.offset)
                answer = encode_ack(self._reassembly.answer(key, kind, serial))
                self._outbox.put_control(sender, FRAGMENT_ACK, frame, answer)
        except WireError:
            self.counters.drops["body"] += 1
