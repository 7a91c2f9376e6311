from __future__ import annotations

import random
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corfu.config import ENTRY_BYTES_MAX
from corfu.entry import (
    ENTRY_HEAD_BYTES,
    RECORD_BYTES_MAX,
    decode_entry,
    encode_entry,
    packed_bytes,
)
from corfu.errors import WireError


@given(st.lists(st.binary(max_size=50), min_size=1, max_size=20), st.integers(0, 2**64 - 1))
def test_entry_round_trip_keeps_records_and_time(records: list[bytes], time_us: int) -> None:
    data = encode_entry(records, time_us)
    assert len(data) == ENTRY_HEAD_BYTES + sum(map(packed_bytes, records))
    body = decode_entry(data)
    assert (body.records, body.timestamp_us) == (tuple(records), time_us)


@pytest.mark.parametrize("count", [1, 2, 590, 4096, 4097])
@pytest.mark.parametrize("length", [0, 1, 100])
def test_entry_of_equal_records_round_trip_keeps_each(count: int, length: int) -> None:
    rng = random.Random(count * length)
    records = [rng.randbytes(length) for _ in range(count)]
    assert decode_entry(encode_entry(records, 1)).records == tuple(records)
    # One of another length among them.
    records[count // 2] += b"!"
    assert decode_entry(encode_entry(records, 1)).records == tuple(records)


def test_entry_bytes_are_those_of_the_format() -> None:
    data = encode_entry([b"ab", b""], 7)
    assert data.hex() == "01000000000000000000000200000000000000070000000200000000" + b"ab".hex()


def test_entry_largest_record_fits() -> None:
    assert len(encode_entry([bytes(RECORD_BYTES_MAX)], 0)) == ENTRY_BYTES_MAX


def test_entry_headers_of_later_versions_are_skipped() -> None:
    plain = encode_entry([b"r"], 0)
    with_headers = plain[:4] + struct.pack(">H", 3) + plain[6:20] + b"xyz" + plain[20:]
    assert decode_entry(with_headers).records == (b"r",)


@pytest.mark.parametrize("position", [0, 1, 2, 3, 6, 7, 8, 11, 20, 23])
def test_entry_with_a_wrong_field_is_refused(position: int) -> None:
    data = bytearray(encode_entry([b"record"], 0))
    data[position] ^= 0x41
    with pytest.raises(WireError):
        decode_entry(bytes(data))


def test_entry_cut_or_lengthened_is_refused() -> None:
    data = encode_entry([b"one", b"two"], 0)
    for length in range(len(data)):
        with pytest.raises(WireError):
            decode_entry(data[:length])
    with pytest.raises(WireError):
        decode_entry(data + b"\0")


def test_entry_mutated_is_an_entry_or_a_wire_error() -> None:
    rng = random.Random(5)
    data = encode_entry([b"one", b"two" * 9], 3)
    for _ in range(5000):
        bad = bytearray(data)
        for _ in range(rng.randrange(1, 4)):
            bad[rng.randrange(len(bad))] = rng.randrange(256)
        try:
            decode_entry(bytes(bad))
        except WireError:
            continue
