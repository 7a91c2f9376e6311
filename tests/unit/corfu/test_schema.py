"""Strict CBOR: one value, one encoding; what is decoded is the shape asked for, or WireError."""

from __future__ import annotations

import enum
from dataclasses import dataclass

import cbor2
import pytest

from corfu import schema
from corfu.errors import WireError
from corfu.types import OFFSET_MAX, Address, ClusterId, Incarnation, Offset, Range


class Colour(enum.IntEnum):
    RED = 1
    BLUE = 2


@dataclass(frozen=True, slots=True)
class Inner:
    name: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Outer:
    number: int
    flag: bool
    colour: Colour
    inner: Inner | None
    many: tuple[Inner, ...]
    pair: tuple[int, str]
    offsets: Range


VALUE = Outer(
    7, True, Colour.BLUE, None, (Inner("a", b"b"),), (1, "x"), Range(Offset(1), Offset(2))
)
PLAIN = [7, True, 2, None, [["a", b"b"]], [1, "x"], [1, 2]]


def test_value_is_encoded_as_the_array_of_its_fields() -> None:
    assert schema.pack(VALUE) == cbor2.dumps(PLAIN)
    assert schema.unpack(Outer, cbor2.dumps(PLAIN)) == VALUE


@pytest.mark.parametrize(
    ("place", "wrong"),
    [
        *((0, wrong) for wrong in (True, -1, 2**64, 1.0, "7", None)),
        *((1, wrong) for wrong in (1, None)),
        *((2, wrong) for wrong in (3, True, "BLUE")),
        *((3, wrong) for wrong in ([], ["a"], ["a", b"b", 1], ["a", "b"])),
        *((4, wrong) for wrong in (None, [None], {"a": b"b"})),
        *((5, wrong) for wrong in ([1], [1, "x", 2], ["x", 1])),
        *((6, wrong) for wrong in ([1], [1, OFFSET_MAX + 1])),
    ],
)
def test_wrong_value_in_a_field_is_refused(place: int, wrong: object) -> None:
    plain = list(PLAIN)
    plain[place] = wrong  # type: ignore[call-overload]
    with pytest.raises(WireError):
        schema.unpack(Outer, cbor2.dumps(plain))


@pytest.mark.parametrize("count", [0, 6, 8])
def test_wrong_number_of_fields_is_refused(count: int) -> None:
    with pytest.raises(WireError):
        schema.unpack(Outer, cbor2.dumps((PLAIN + PLAIN)[:count]))


@pytest.mark.parametrize(
    "data",
    [
        schema.pack(VALUE) + b"\0",
        schema.pack(VALUE)[:-1],
        b"\xd9\xd9\xf7" + schema.pack(VALUE),  # the tag that says: this is CBOR
        b"\x87\x18\x07" + schema.pack(VALUE)[2:],  # 7, but longer than needed
        b"\x9f" + schema.pack(VALUE)[1:] + b"\xff",  # indefinite length
        b"",
    ],
)
def test_bytes_that_are_not_the_one_encoding_are_refused(data: bytes) -> None:
    with pytest.raises(WireError):
        schema.unpack(Outer, data)


@pytest.mark.parametrize("tag", [0, 2, 4, 28, 29, 35, 36, 37, 256, 258, 99999])
def test_tag_is_refused_wherever_it_stands(tag: int) -> None:
    encoded = cbor2.dumps([cbor2.CBORTag(tag, "1")])
    with pytest.raises(WireError):
        schema.unpack(Inner, encoded)
    with pytest.raises(WireError):
        schema.unpack(Inner, cbor2.dumps(["a", b"b"])[:-2] + encoded[1:])


@dataclass(frozen=True, slots=True)
class Named:
    cluster: ClusterId
    incarnation: Incarnation
    address: Address


def test_identities_have_one_length_only() -> None:
    good = Named(ClusterId(bytes(8)), Incarnation(bytes(16)), Address("127.0.0.1", 1))
    assert schema.unpack(Named, schema.pack(good)) == good
    for cluster, incarnation in ((7, 16), (9, 16), (8, 15), (8, 17)):
        data = cbor2.dumps([bytes(cluster), bytes(incarnation), ["127.0.0.1", 1]])
        with pytest.raises(WireError):
            schema.unpack(Named, data)
