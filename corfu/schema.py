"""Frozen values to CBOR and back, exactly: what is decoded is the shape asked for, or WireError.

A value is encoded as the array of its fields in order. Only integers, booleans, floats, text,
byte strings, null and arrays appear; tags, maps, indefinite lengths, trailing bytes and
non-shortest forms are refused (the decoded value is encoded again and compared), so equal
values have equal bytes and a digest of them is a digest of the value.
"""

from __future__ import annotations

import enum
import types
import typing
from collections.abc import Callable, Iterable
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any, TypeVar, cast, get_args, get_origin, get_type_hints

import cbor2

from corfu.errors import WireError
from corfu.types import OFFSET_MAX, ClusterId, EntryId, GoalId, Incarnation, Offset

T = TypeVar("T")

DEPTH_MAX = 16
"""Deepest nesting accepted; our deepest value (a layout inside a command) has 8."""

INTEGER_MAX = 2**64 - 1

_Convert = Callable[[Any], Any]

_LENGTHS: dict[object, int] = {
    ClusterId: 8,
    Incarnation: 16,
    EntryId: 16,
    GoalId: 16,
}
"""Byte strings that have one length only."""


def _refuse_tag(*_: object) -> object:
    raise WireError("a CBOR tag")


# The decoder builds dates, regular expressions, big numbers ... from tags by itself; each tag
# it knows is overridden here, and all others come to the tag hook.
_TAGS_KNOWN_TO_CBOR2 = (
    *(0, 1, 2, 3, 4, 5, 25, 28, 29, 30, 35, 36, 37, 52, 54),
    *(100, 256, 258, 260, 261, 1004, 43000, 55799),
)
_REFUSED_TAGS = dict.fromkeys(_TAGS_KNOWN_TO_CBOR2, _refuse_tag)


def pack(value: object) -> bytes:
    """Encode a frozen dataclass (or a tuple type's value) as canonical CBOR."""
    return cbor2.dumps(_encoder(cast("Any", type(value)))(value))


def pack_as(kind: type[T], value: T) -> bytes:
    """Encode `value` by the declared type `kind` (for unions and plain tuples)."""
    return cbor2.dumps(_encoder(cast("Any", kind))(value))


def unpack(kind: type[T], data: bytes) -> T:
    """Decode exactly one `kind` from `data`.

    Raises:
        WireError: anything else than the one canonical encoding of a `kind`.
    """
    try:
        plain = cbor2.loads(
            data,
            max_depth=DEPTH_MAX,
            allow_indefinite=False,
            allow_duplicate_keys=False,
            tag_hook=_refuse_tag,
            semantic_decoders=_REFUSED_TAGS,
        )
        value = _decoder(cast("Any", kind))(plain)
        # Also catches trailing bytes, which the decoder ignores.
        if cbor2.dumps(plain) != data:
            raise WireError("not in canonical form")
    except (cbor2.CBORError, ValueError, TypeError, OverflowError, RecursionError) as error:
        raise WireError(f"not a {kind.__name__}: {error}") from error
    return cast("T", value)


def _strip(kind: Any) -> Any:
    while isinstance(kind, typing.NewType):
        kind = kind.__supertype__
    return kind


def _is_named_tuple(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, tuple) and hasattr(kind, "_fields")


def _members(kind: Any) -> list[Any]:
    """Return the types of a dataclass's or named tuple's fields, in order."""
    hints = get_type_hints(kind)
    if is_dataclass(kind):
        return [hints[field.name] for field in fields(kind)]
    return [hints[name] for name in kind._fields]


@cache
def _names(kind: Any) -> tuple[str, ...]:
    return tuple(field.name for field in fields(kind))


@cache
def _encoder(kind: Any) -> _Convert:
    kind = _strip(kind)
    if kind in (int, str, bytes, float, bool, types.NoneType):
        return lambda value: value
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return lambda value: value.value
    if is_dataclass(kind):
        parts = [
            (n, _encoder(k)) for n, k in zip(_names(cast("Any", kind)), _members(kind), strict=True)
        ]
        return lambda value: [encode(getattr(value, name)) for name, encode in parts]
    if _is_named_tuple(kind):
        encoders = [_encoder(k) for k in _members(kind)]
        return lambda value: [e(v) for e, v in zip(encoders, value, strict=True)]
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is tuple and len(arguments) == 2 and arguments[1] is Ellipsis:
        element = _encoder(arguments[0])
        return lambda value: [element(v) for v in value]
    if origin is tuple:
        encoders = [_encoder(k) for k in arguments]
        return lambda value: [e(v) for e, v in zip(encoders, value, strict=True)]
    if origin in (typing.Union, types.UnionType) and types.NoneType in arguments:
        (some,) = (a for a in arguments if a is not types.NoneType)
        inner = _encoder(some)
        return lambda value: None if value is None else inner(value)
    raise AssertionError(f"no schema for {kind}")


@cache
def _decoder(kind: Any) -> _Convert:
    if kind in _LENGTHS:
        return lambda plain: _expect_length(_LENGTHS[kind], plain)
    if kind is Offset:
        return _decode_offset
    kind = _strip(kind)
    if kind is int:
        return _decode_int
    if kind in (str, bytes, float, bool):
        return lambda plain: _expect(kind, plain)
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return lambda plain: kind(_expect(str if issubclass(kind, str) else int, plain))
    if is_dataclass(kind) or _is_named_tuple(kind):
        decoders = [_decoder(k) for k in _members(kind)]
        return lambda plain: kind(*_decode_each(decoders, plain))
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is tuple and len(arguments) == 2 and arguments[1] is Ellipsis:
        element = _decoder(arguments[0])
        return lambda plain: tuple(element(v) for v in _expect(list, plain))
    if origin is tuple:
        decoders = [_decoder(k) for k in arguments]
        return lambda plain: tuple(_decode_each(decoders, plain))
    if origin in (typing.Union, types.UnionType) and types.NoneType in arguments:
        (some,) = (a for a in arguments if a is not types.NoneType)
        inner = _decoder(some)
        return lambda plain: None if plain is None else inner(plain)
    raise AssertionError(f"no schema for {kind}")


def _expect(kind: type, plain: Any) -> Any:
    # `type is`, not isinstance: True is no integer here.
    if type(plain) is not kind:
        raise WireError(f"{type(plain).__name__} where {kind.__name__} is wanted")
    return plain


def _expect_length(length: int, plain: Any) -> Any:
    if len(_expect(bytes, plain)) != length:
        raise WireError(f"{len(plain)} bytes where {length} are wanted")
    return plain


def _decode_offset(plain: Any) -> int:
    value = _decode_int(plain)
    if value > OFFSET_MAX:
        raise WireError(f"{value} is no offset")
    return value


def _decode_int(plain: Any) -> int:
    value: int = _expect(int, plain)
    if not 0 <= value <= INTEGER_MAX:
        raise WireError(f"{value} is no u64")
    return value


def _decode_each(decoders: list[_Convert], plain: Any) -> Iterable[Any]:
    values = _expect(list, plain)
    if len(values) != len(decoders):
        raise WireError(f"{len(values)} fields where {len(decoders)} are wanted")
    return [decode(value) for decode, value in zip(decoders, values, strict=True)]
