"""The receiving side: fragments put together, within bounds of bytes and time."""

from __future__ import annotations

from typing import NamedTuple

from corfu.codec import Frame
from corfu.link.control import (
    ATTEMPT_MASK,
    COMPLETE,
    FLAG_TRANSFER,
    PARTIAL,
    UNKNOWN,
    FragmentAck,
)
from corfu.link.counters import LinkCounters
from corfu.types import Address, Epoch, Offset, RequestId

ACK_FRAGMENTS = 8
ACK_BYTES = 16 << 10
"""A transfer is acknowledged after so many fragments or bytes, whichever comes first."""

COMPLETED_MAX = 1024
"""Completed transfers remembered, so that late fragments deliver nothing a second time."""

PARTIAL_BYTES_MIN = 512
"""What an incomplete body costs beside its bytes, for the bound on all of them."""


class Key(NamedTuple):
    """What a fragment belongs to. Never an entry id: attempts at two offsets must not mix."""

    sender: Address
    kind: int
    flags: int
    request: RequestId
    epoch: Epoch
    offset: Offset


class _Partial:
    """A body of which not all fragments are here."""

    __slots__ = (
        "buffer",
        "chunk",
        "fragments",
        "last",
        "missing",
        "received",
        "touched",
        "unacked",
    )

    def __init__(self, fragments: int, total: int) -> None:
        self.buffer = bytearray(total)
        self.fragments = fragments
        self.missing = fragments
        self.received = 0
        self.chunk = 0
        self.last = 0
        self.touched = 0.0
        self.unacked = [0, 0]

    def take(self, frame: Frame) -> bool | None:
        """Store a fragment; False if it is here already, None if it contradicts the others."""
        length, total, final = len(frame.payload), len(self.buffer), self.fragments - 1
        if frame.fragments != self.fragments or frame.total != total or not length:
            return None
        chunk = self.chunk
        if frame.fragment < final:
            # Every fragment but the last has one length; the last has what is left.
            if (chunk and chunk != length) or not 0 < total - final * length <= length:
                return None
            if self.last and total - final * length != self.last:
                return None
            self.chunk = length
            position = frame.fragment * length
        else:
            if chunk and length != total - final * chunk:
                return None
            self.last = length
            position = total - length
        bit = 1 << frame.fragment
        if self.received & bit:
            return False
        self.received |= bit
        self.missing -= 1
        self.buffer[position : position + length] = frame.payload
        return True


class Reassembly:
    """Bodies under way from all senders."""

    def __init__(
        self, *, bytes_max: int, s_max: float, ack_room: int, counters: LinkCounters
    ) -> None:
        """Start empty.

        Args:
            bytes_max: Bound on the bodies held; the one untouched for longest goes first.
            s_max: How long a body may go without a new fragment.
            ack_room: Bytes of bitmap that fit an ack.
            counters: Where drops are counted.
        """
        self._bytes_max = bytes_max
        self._s_max = s_max
        self._ack_bits = 8 * ack_room
        self._counters = counters
        self._bytes = 0
        # In the order of their last fragment: the first one is the next to go.
        self._partials: dict[Key, _Partial] = {}
        self._completed: dict[Key, None] = {}

    @property
    def bytes_held(self) -> int:
        """Bytes of bodies that are not complete."""
        return self._bytes

    @property
    def deadline(self) -> float | None:
        """When the oldest incomplete body is dropped."""
        for partial in self._partials.values():
            return partial.touched + self._s_max
        return None

    def expire(self, now: float) -> None:
        """Drop what has had no new fragment for too long."""
        while (deadline := self.deadline) is not None and deadline <= now:
            self._evict()

    def add(
        self, frame: Frame, sender: Address, now: float
    ) -> tuple[bytearray | None, FragmentAck | None]:
        """Take a fragment; returns the whole body if it was the last one, and an ack to send."""
        key = Key(sender, frame.kind, frame.flags, frame.request, frame.epoch, frame.offset)
        transfer = bool(frame.flags & FLAG_TRANSFER)
        if transfer and key in self._completed:
            self._counters.drops["late"] += 1
            return None, self._ack_complete(frame.kind, 0)
        partial = self._partials.get(key)
        if partial is None:
            partial = self._begin(key, frame)
        taken = partial.take(frame)
        if taken is None:
            self._counters.drops["fragment"] += 1
            if partial.missing == partial.fragments:
                self._remove(key)
            return None, None
        if taken:
            # Only what is new keeps a body alive.
            del self._partials[key]
            self._partials[key] = partial
            partial.touched = now
        if partial.missing:
            return None, self._ack_now_and_then(partial, frame) if transfer else None
        self._remove(key)
        if not transfer:
            return partial.buffer, None
        self._remember(key)
        return partial.buffer, self._ack_complete(frame.kind, 0)

    def answer(self, key: Key, kind: int, serial: int) -> FragmentAck:
        """Return the answer to a probe about the transfer `key`."""
        if key in self._completed:
            return self._ack_complete(kind, serial)
        partial = self._partials.get(key)
        if partial is None:
            return FragmentAck(kind, UNKNOWN, serial, 0, 0, 0, 0)
        return self._ack_partial(partial, kind, serial, 0)

    def _begin(self, key: Key, frame: Frame) -> _Partial:
        self._bytes += frame.total + PARTIAL_BYTES_MIN
        while self._partials and self._bytes > self._bytes_max:
            self._evict()
        partial = self._partials[key] = _Partial(frame.fragments, frame.total)
        return partial

    def _evict(self) -> None:
        self._remove(next(iter(self._partials)))
        self._counters.drops["evicted"] += 1

    def _remove(self, key: Key) -> None:
        self._bytes -= len(self._partials.pop(key).buffer) + PARTIAL_BYTES_MIN

    def _remember(self, key: Key) -> None:
        self._completed[key] = None
        if len(self._completed) > COMPLETED_MAX:
            del self._completed[next(iter(self._completed))]

    def _ack_now_and_then(self, partial: _Partial, frame: Frame) -> FragmentAck | None:
        unacked = partial.unacked
        unacked[0] += 1
        unacked[1] += len(frame.payload)
        if unacked[0] < ACK_FRAGMENTS and unacked[1] < ACK_BYTES:
            return None
        unacked[0] = unacked[1] = 0
        return self._ack_partial(partial, frame.kind, 0, frame.fragment)

    def _ack_partial(self, partial: _Partial, kind: int, serial: int, trigger: int) -> FragmentAck:
        received = partial.received
        # The lowest clear bit: all fragments below it are here.
        base = ((received + 1) & ~received).bit_length() - 1
        covered = min(partial.fragments - base, self._ack_bits)
        if not serial:
            # Only the answer to a probe speaks of what has not arrived.
            covered = min(covered, (received >> base).bit_length())
        bits = (received >> base) & ((1 << covered) - 1)
        return FragmentAck(kind, PARTIAL, serial, base, covered, trigger, bits)

    @staticmethod
    def _ack_complete(kind: int, serial: int) -> FragmentAck:
        return FragmentAck(kind, COMPLETE, serial, 0xFFFF, 0, 0xFFFF, 0)


def is_transfer(flags: int) -> bool:
    """Tell whether these are flags of a transfer that we know how to acknowledge."""
    return bool(flags & FLAG_TRANSFER) and not flags & ~(FLAG_TRANSFER | ATTEMPT_MASK)
