"""A request that waits for its answer, and the sending side of a body too large for one burst."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from corfu.codec import HEADER_BYTES, Encoded, Frame, encode_frame
from corfu.link.control import (
    FRAGMENT_PROBE,
    UNKNOWN,
    FragmentAck,
    FragmentProbe,
    encode_probe,
)
from corfu.link.timers import Timed
from corfu.types import Address, ClusterId


class Ask(Timed):
    """A request and how often it was sent. `transfer` is set while its body is on the way."""

    __slots__ = (
        "expires",
        "frames",
        "patience",
        "repetitions",
        "sent_at",
        "size",
        "to",
        "transfer",
        "waiting",
        "wire",
    )

    def __init__(
        self, to: Address, wire: Encoded, expires: float, patience: float, frames: list[bytes]
    ) -> None:
        super().__init__()
        self.to = to
        self.wire = wire
        self.expires = expires
        self.patience = patience
        """Seconds for which the peer may rightly be silent (a parked read)."""
        self.frames = frames
        """The whole request; empty if its body goes by transfers."""
        self.size = sum(len(frame) for frame in frames)
        self.sent_at = 0.0
        self.repetitions = 0
        self.waiting = True
        self.transfer: Transfer | None = None


def fragments_of(size: int, datagram_bytes_max: int) -> tuple[int, int]:
    """Return how many fragments a body of `size` bytes is cut into, and their length."""
    chunk = datagram_bytes_max - HEADER_BYTES
    return max(1, -(-size // chunk)), chunk


def fragment_frame(
    wire: Encoded,
    body: memoryview,
    cluster: ClusterId,
    flags: int,
    number: int,
    layout: tuple[int, int],
) -> bytes:
    """Return the frame of one fragment of `body`; `layout` is (fragments, their length)."""
    fragments, chunk = layout
    payload = body[number * chunk : (number + 1) * chunk]
    frame = Frame(
        wire.kind,
        flags,
        number,
        fragments,
        len(body),
        cluster,
        wire.request,
        wire.epoch,
        wire.offset,
        payload,
    )
    return encode_frame(frame)


class Transfer(Timed):
    """Which fragments of a body have been sent, and which the receiver holds."""

    __slots__ = (
        "_body",
        "_flying",
        "_held",
        "_layout",
        "_queued",
        "_sent",
        "_sent_at",
        "_serial",
        "_twice",
        "_unsent",
        "ask",
        "expires",
        "flags",
        "in_flight",
        "probe_sent_at",
        "queued",
        "repetitions",
        "started",
        "to",
        "wire",
    )

    def __init__(
        self, to: Address, wire: Encoded, *, flags: int, datagram_bytes_max: int, ask: Ask | None
    ) -> None:
        super().__init__()
        self.to = to
        self.wire = wire
        self.ask = ask
        self.flags = flags
        """Flags of its frames: that it is a transfer, and which attempt."""
        self.started = 0.0
        self.expires = 0.0
        self.repetitions = 0
        """Probes since anything was heard of the receiver."""
        self.queued = False
        self.in_flight = 0
        """Bytes sent and not acknowledged."""
        self.probe_sent_at: float | None = None
        """When the probe left whose answer is awaited; meanwhile no fragment is sent."""
        self._body = memoryview(wire.body)
        self._layout = fragments_of(len(self._body), datagram_bytes_max)
        fragments = self._layout[0]
        self._sent_at = [0.0] * fragments
        self._serial = 0
        # In the order of sending; those that turn out to have arrived are skipped.
        self._unsent = deque(range(fragments))
        # Sets of fragments, as bits of integers. `queued` is what `unsent` names.
        self._queued = (1 << fragments) - 1
        self._sent = self._twice = self._flying = self._held = 0

    @property
    def next_size(self) -> int:
        """Length of the next frame to send; 0 if all that is known to be missing is under way."""
        unsent = self._unsent
        while unsent and self._held >> unsent[0] & 1:
            self._queued ^= 1 << unsent.popleft()
        return self._size(unsent[0]) if unsent else 0

    def next_frame(self, cluster: ClusterId, now: float) -> tuple[bytes, bool]:
        """Return the next frame to send, and whether it was sent before. `next_size` is not 0."""
        number = self._unsent.popleft()
        bit = 1 << number
        self._queued ^= bit
        again = bool(self._sent & bit)
        self._twice |= self._sent & bit
        self._sent |= bit
        self._flying |= bit
        self._sent_at[number] = now
        self.in_flight += self._size(number)
        frame = fragment_frame(self.wire, self._body, cluster, self.flags, number, self._layout)
        return frame, again

    def probe(self, cluster: ClusterId, now: float) -> bytes:
        """Return a frame that asks what has arrived."""
        self._serial += 1
        self.probe_sent_at = now
        wire = self.wire
        payload = encode_probe(FragmentProbe(wire.kind, self._serial))
        head = (FRAGMENT_PROBE, self.flags, 0, 1, len(payload), cluster)
        return encode_frame(Frame(*head, wire.request, wire.epoch, wire.offset, payload))

    def answers_probe(self, ack: FragmentAck) -> bool:
        """Tell whether `ack` answers the newest probe, for the first time."""
        return self.probe_sent_at is not None and ack.serial == self._serial

    def round_trip(self, ack: FragmentAck, now: float) -> float | None:
        """Return the round trip that `ack` measures; None if it measures none (Karn)."""
        if ack.serial:
            # Serials are never repeated, so a probe's answer is always its own.
            asked_at = self.probe_sent_at
            return now - asked_at if asked_at is not None and self.answers_probe(ack) else None
        if self._sent & ~self._twice & self._flying & (1 << ack.trigger):
            return now - self._sent_at[ack.trigger]
        return None

    def acknowledge(self, ack: FragmentAck) -> int:
        """Take over what the receiver says; returns how many bytes left the flight.

        Any ack proves what arrived. Only the answer to the newest probe proves what is missing:
        nothing was sent after that probe. It also takes back older acks, for the receiver may
        have evicted what it had.
        """
        before = self.in_flight
        everything = (1 << self._layout[0]) - 1
        if ack.state == UNKNOWN:
            arrived, spoken_of = 0, everything
        else:
            arrived = ((1 << ack.base) - 1 | ack.bits << ack.base) & everything
            spoken_of = (1 << ack.base + ack.covered) - 1 & everything
        self._held |= arrived
        if not self.answers_probe(ack):
            self._land(arrived)
            return before - self.in_flight
        self.probe_sent_at = None
        # All was sent a timeout ago or more. What the ack has no room for will be settled by a
        # later one; in flight it is not, and must not keep what is known to be missing out of
        # the window.
        self._land(self._flying)
        missing = spoken_of & ~arrived
        self._held &= ~missing
        again = missing & ~self._queued
        self._queued |= again
        self._unsent.extend(_numbers(again))
        return before - self.in_flight

    def _land(self, numbers: int) -> None:
        landed = self._flying & numbers
        self._flying ^= landed
        for number in _numbers(landed):
            self.in_flight -= self._size(number)

    def _size(self, number: int) -> int:
        fragments, chunk = self._layout
        if number < fragments - 1:
            return HEADER_BYTES + chunk
        return HEADER_BYTES + len(self._body) - (fragments - 1) * chunk


def _numbers(bits: int) -> Iterator[int]:
    """Yield the numbers of the set bits, ascending."""
    while bits:
        low = bits & -bits
        yield low.bit_length() - 1
        bits ^= low
