"""Frames and bodies: every message survives the trip, and no bytes do harm."""

from __future__ import annotations

import random
import time
from typing import Any

import cbor2
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from corfu import codec
from corfu.codec import (
    BODY_BYTES_MAX,
    HEADER_BYTES,
    Encoded,
    Frame,
    decode_body,
    decode_untrusted,
    encode,
    encode_frame,
    encode_whole,
)
from corfu.codec_data import pack_address, unpack_address
from corfu.config import ENTRY_BYTES_MAX
from corfu.errors import WireError
from corfu.messages import KIND_OF, KINDS, AlreadyWritten, Copy, Filled, Message, Ping, Write
from corfu.types import (
    OFFSET_MAX,
    Address,
    ClusterId,
    EntryId,
    Epoch,
    Incarnation,
    Offset,
    RequestId,
    State,
    UnitId,
)
from tests.unit.corfu.arbitrary import ADDRESSES, MESSAGES, messages_of

CLUSTER = ClusterId(b"testtest")
REQUEST = RequestId(Incarnation(b"c" * 16), 7)
ID = EntryId(b"e" * 16)
MUTATIONS = 200_000


def framed(wire: Encoded, cluster: ClusterId = CLUSTER) -> bytes:
    head = (wire.kind, 0, 0, 1, len(wire.body), cluster)
    frame = encode_frame(Frame(*head, wire.request, wire.epoch, wire.offset, wire.body))
    assert encode_whole(wire, cluster) == frame
    return frame


def decoded(datagram: bytes) -> list[Message]:
    frames, fault = decode_untrusted(datagram)
    assert not fault
    return [decode_body(f.kind, f.request, f.epoch, f.offset, f.payload) for f in frames]


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.__name__)
def test_message_of_every_kind_survives_the_trip(kind: type[Message]) -> None:
    @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
    @given(messages_of(kind))
    def check(message: Message) -> None:
        wire = encode(message)
        assert decoded(framed(wire)) == [message]
        # One message, one encoding: nothing may follow it, nothing may be missing.
        for body in (wire.body + b"\0", wire.body[:-1]):
            if body != wire.body and kind.__name__ not in ("Write", "Forward"):
                with pytest.raises(WireError):
                    decode_body(wire.kind, wire.request, wire.epoch, wire.offset, body)

    check()


def test_kinds_are_numbered_below_the_links_own() -> None:
    assert all(0 < kind < 240 for kind in KINDS)
    assert len(KIND_OF) == len(KINDS)


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(MESSAGES, min_size=1, max_size=4))
def test_several_frames_in_one_datagram_come_out_in_order(messages: list[Message]) -> None:
    assert decoded(b"".join(framed(encode(message)) for message in messages)) == messages


def test_mutated_frames_give_a_message_or_wire_error_only() -> None:
    """Bits flipped, bytes cut, copied and replaced; then the same below a digest that fits."""
    rng = random.Random(1)
    samples = sample_wires(rng)
    datagrams = [framed(wire) for wire in samples]
    slowest = 0.0
    accepted = 0
    for n in range(MUTATIONS):
        started = time.perf_counter()
        if n % 2:
            datagram = mutated(rng.choice(datagrams), rng)
            accepted += len(decode_untrusted(datagram).frames)
        else:
            wire = rng.choice(samples)
            body = mutated(wire.body, rng)
            offset = Offset(rng.choice((wire.offset, 2**64 - 1, 0)))
            kind = rng.choice((wire.kind, wire.kind, rng.randrange(256)))
            try:
                message = decode_body(kind, wire.request, wire.epoch, offset, body)
            except WireError:
                pass
            else:
                again = encode(message)
                assert (*again[:4], again.body) == (kind, wire.request, wire.epoch, offset, body)
        slowest = max(slowest, time.perf_counter() - started)
    # A mutation may happen to change nothing, or to cut at a frame's end.
    assert accepted < MUTATIONS // 10
    assert slowest < 1.0


def sample_wires(rng: random.Random) -> list[Encoded]:
    """Return a few encoded messages of each kind."""
    samples: list[Encoded] = []

    @settings(
        max_examples=150, deadline=None, suppress_health_check=list(HealthCheck), database=None
    )
    @given(MESSAGES)
    def collect(message: Message) -> None:
        wire = encode(message)
        if len(wire.body) < 2000:
            samples.append(wire)

    collect()
    rng.shuffle(samples)
    return samples


def mutated(data: bytes, rng: random.Random) -> bytes:
    result = bytearray(data)
    for _ in range(rng.randint(1, 3)):
        place = rng.randrange(len(result) + 1)
        choice = rng.randrange(5)
        if choice == 0 and result:
            result[place % len(result)] ^= 1 << rng.randrange(8)
        elif choice == 1:
            del result[place:]
        elif choice == 2:
            result[place:place] = rng.randbytes(rng.randint(1, 8))
        elif choice == 3:
            result[place : place + 4] = rng.choice((b"\xff" * 4, b"\0" * 4, b"\x9b\xff\xff\xff"))
        else:
            result += result[: rng.randrange(64)]
    return bytes(result)


@pytest.mark.parametrize("bit", range(8 * (HEADER_BYTES + 3)))
def test_frame_with_one_flipped_bit_is_dropped(bit: int) -> None:
    write = Write(REQUEST, Epoch(1), Offset(2), ID, Offset(9), b"abc")
    datagram = bytearray(framed(encode(write)))
    datagram[-1 - bit // 8] ^= 1 << bit % 8
    frames, fault = decode_untrusted(bytes(datagram))
    assert not frames
    assert fault


def test_bad_frame_drops_all_that_follows_and_nothing_before() -> None:
    wires = [encode(Ping(REQUEST, UnitId(n))) for n in range(3)]
    first, second, third = (framed(wire) for wire in wires)
    broken = second[:-1] + bytes((second[-1] ^ 1,))
    frames, fault = decode_untrusted(first + broken + third)
    assert len(frames) == 1
    assert fault == "digest"


@pytest.mark.parametrize(
    ("datagram", "fault"),
    [
        (b"", ""),
        (b"\0", "short"),
        (bytes(HEADER_BYTES), "foreign"),
        (random.Random(1).randbytes(500), "foreign"),
    ],
)
def test_datagram_that_is_none_of_ours_is_named(datagram: bytes, fault: str) -> None:
    assert decode_untrusted(datagram) == ([], fault)


def test_frame_from_other_version_is_foreign() -> None:
    datagram = bytearray(framed(encode(Ping(REQUEST, UnitId(1)))))
    datagram[2] += 1
    assert decode_untrusted(bytes(datagram)).fault == "foreign"


@pytest.mark.parametrize(
    "change",
    [{"fragments": 0}, {"fragment": 1}, {"total": BODY_BYTES_MAX + 1}, {"total": 1}, {"total": 99}],
)
def test_frame_whose_lengths_contradict_is_malformed(change: dict[str, Any]) -> None:
    wire = encode(Ping(REQUEST, UnitId(1000)))
    head = (wire.kind, 0, 0, 1, len(wire.body), CLUSTER)
    frame = Frame(*head, wire.request, wire.epoch, wire.offset, wire.body)
    assert decode_untrusted(encode_frame(frame._replace(**change))) == ([], "malformed")


def test_largest_entry_fits_a_body() -> None:
    write = Write(REQUEST, Epoch(1), Offset(2), ID, Offset(9), bytes(ENTRY_BYTES_MAX))
    assert len(encode(write).body) <= BODY_BYTES_MAX


def test_larger_body_is_refused_on_both_sides() -> None:
    write = Write(REQUEST, Epoch(1), Offset(2), ID, Offset(9), bytes(BODY_BYTES_MAX))
    with pytest.raises(ValueError, match="a body of"):
        encode(write)
    with pytest.raises(WireError):
        decode_body(1, REQUEST, Epoch(1), Offset(2), bytes(BODY_BYTES_MAX + 1))


@given(ADDRESSES)
@example(Address("::1", 0))
@example(Address("255.255.255.255", 65535))
def test_address_survives_the_trip(address: Address) -> None:
    packed = pack_address(address)
    assert unpack_address(memoryview(b"ab" + packed + b"c"), 2) == (address, 2 + len(packed))


@pytest.mark.parametrize(
    "address", [Address("localhost", 1), Address("1.2.3.4", 65536), Address("fe80::1%eth0", 1)]
)
def test_address_that_is_not_numeric_is_refused(address: Address) -> None:
    with pytest.raises(ValueError, match=r"does not appear|no UDP port|one machine"):
        pack_address(address)


def body_of(message: Message) -> bytes:
    return encode(message).body


def refused(kind: type[Message], body: bytes, offset: int = 2) -> bool:
    try:
        decode_body(KIND_OF[kind], REQUEST, Epoch(1), Offset(offset), body)
    except WireError:
        return True
    return False


def test_state_that_settles_nothing_is_refused_in_already_written() -> None:
    good = AlreadyWritten(REQUEST, Epoch(1), Offset(2), ID, State.JUNK)
    assert not refused(AlreadyWritten, body_of(good))
    for state in (State.EMPTY, State.DAMAGED, 6, 255):
        assert refused(AlreadyWritten, ID + bytes((state,)))


def test_counts_above_the_bound_are_refused() -> None:
    assert refused(Copy, (1025).to_bytes(2) + bytes(8 * 1025))
    assert not refused(Copy, (1024).to_bytes(2) + bytes(8 * 1024))
    assert refused(Filled, bytes(8) + (0).to_bytes(2) + (1025).to_bytes(2) + bytes(33 * 1025))


def test_offset_beyond_the_last_is_refused() -> None:
    assert not refused(Copy, bytes(2), OFFSET_MAX)
    assert refused(Copy, bytes(2), OFFSET_MAX + 1)
    assert refused(Copy, (1).to_bytes(2) + (OFFSET_MAX + 1).to_bytes(8))


def test_header_field_of_message_without_it_must_be_zero() -> None:
    kind, body = KIND_OF[Ping], body_of(Ping(REQUEST, UnitId(1)))
    assert decode_body(kind, REQUEST, Epoch(0), Offset(0), body) == Ping(REQUEST, UnitId(1))
    for epoch, offset in ((1, 0), (0, 1)):
        with pytest.raises(WireError):
            decode_body(kind, REQUEST, Epoch(epoch), Offset(offset), body)


@pytest.mark.parametrize(
    "body",
    [
        cbor2.dumps({0: 1}),
        cbor2.dumps([cbor2.CBORTag(36, "x")]),
        b"\x81\xc2\x41\x01",  # a big number
        b"\x9f\x01\xff",  # indefinite length
        b"\xa2\x00\x01\x00\x01",  # a key twice
        b"\x81\x18\x01",  # 1, not in its shortest form
        b"\x81\x20",  # -1
        b"\x81\xf5",  # true where a number is wanted
        b"\x81" * 5000 + b"\x01",
        b"\x9b\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\x5b\x00\x00\x00\xff\xff\xff\xff\xff",
        b"",
    ],
)
def test_cbor_that_is_not_canonical_is_refused(body: bytes) -> None:
    with pytest.raises(WireError):
        decode_body(KIND_OF[Ping], REQUEST, Epoch(0), Offset(0), body)


def test_megabyte_of_hostile_cbor_is_refused_quickly() -> None:
    for unit in (b"\x81", b"\x01", b"\x80", b"\xa0", b"\x9a\x00\x10\x00\x00" + b"\x00"):
        started = time.perf_counter()
        with pytest.raises(WireError):
            decode_body(KIND_OF[Ping], REQUEST, Epoch(0), Offset(0), (unit * 2**20)[: 2**20])
        assert time.perf_counter() - started < 0.5


def test_all_names_of_the_codec_exist() -> None:
    assert all(hasattr(codec, name) for name in codec.__all__)
