"""What links say to each other about the fragments of a transfer.

Both frames carry the request id, epoch, offset and flags of the transfer they speak of in their
headers, so nothing is looked up by anything a sender could choose freely.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from corfu.errors import WireError

FRAGMENT_ACK = 240
FRAGMENT_PROBE = 241
LINK_KINDS_MIN = 240

FLAG_TRANSFER = 0x8000
"""The receiver acknowledges the fragments. The low byte of the flags numbers the attempt."""

ATTEMPT_MASK = 0x00FF

UNKNOWN, PARTIAL, COMPLETE = 0, 1, 2

_PROBE = struct.Struct(">BI")
_ACK = struct.Struct(">BBIHHH")
ACK_BYTES_MIN = _ACK.size


class FragmentProbe(NamedTuple):
    """Sender: which fragments have you? `serial` (from 1) is repeated in the answer."""

    kind: int
    serial: int


class FragmentAck(NamedTuple):
    """Receiver: of the transfer of a `kind`, these fragments are here.

    All below `base` are; of the `covered` from `base` on, those whose bit is set in `bits`
    (bit 0 is `base`); of those above nothing is said. `serial` is that of the probe it
    answers, or 0; then `trigger` is the fragment whose arrival caused it.
    """

    kind: int
    state: int
    serial: int
    base: int
    covered: int
    trigger: int
    bits: int


def encode_probe(probe: FragmentProbe) -> bytes:
    """Encode a probe's payload."""
    return _PROBE.pack(*probe)


def decode_probe(payload: bytes | memoryview) -> FragmentProbe:
    """Decode a probe's payload; raises WireError."""
    if len(payload) != _PROBE.size:
        raise WireError("no probe")
    probe = FragmentProbe(*_PROBE.unpack(payload))
    if not probe.serial:
        raise WireError("a probe without a serial")
    return probe


def encode_ack(ack: FragmentAck) -> bytes:
    """Encode an ack's payload."""
    assert ack.bits >> ack.covered == 0
    head = _ACK.pack(ack.kind, ack.state, ack.serial, ack.base, ack.covered, ack.trigger)
    return head + ack.bits.to_bytes((ack.covered + 7) // 8, "little")


def decode_ack(payload: bytes | memoryview) -> FragmentAck:
    """Decode an ack's payload; raises WireError."""
    if len(payload) < _ACK.size:
        raise WireError("no ack")
    kind, state, serial, base, covered, trigger = _ACK.unpack_from(payload)
    if len(payload) != _ACK.size + (covered + 7) // 8 or state > COMPLETE:
        raise WireError("an ack whose length or state is wrong")
    bits = int.from_bytes(payload[_ACK.size :], "little")
    if bits >> covered:
        raise WireError("an ack with bits beyond its end")
    return FragmentAck(kind, state, serial, base, covered, trigger, bits)
