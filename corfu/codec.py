"""Bytes to messages and back: the frame every datagram is made of, and the bodies inside.

A frame is a fixed header and a payload, which is a message's body or one fragment of it. A datagram
holds one or more frames, each telling its own length. `decode_untrusted` checks each frame's
digest; `decode_body` is total: a message or WireError, nothing else. xxh3 finds accidents, it
authenticates nobody: the header has room for a tag that would.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import fields
from typing import Any, NamedTuple, get_type_hints

from xxhash import xxh3_64, xxh3_64_intdigest

from corfu import schema
from corfu.codec_data import DATA_CODECS, Encode, Parts
from corfu.config import ENTRY_BYTES_MAX, HELD_MAX
from corfu.errors import WireError
from corfu.messages import (
    KIND_OF,
    KINDS,
    GetLayout,
    GetState,
    GetStatus,
    Inspect,
    Inspected,
    Message,
    Sealed,
)
from corfu.types import (
    OFFSET_MAX,
    ClusterId,
    Epoch,
    Offset,
    RequestId,
)

MAGIC = 0xC0F0
VERSION = 1

# magic, version, kind, flags, fragment index, fragment count, reserved, payload length,
# total length, cluster, request client, request sequence, epoch, offset; then the digest.
_HEAD = struct.Struct(">HBBHHHHII8s16sQQQ")
_DIGEST = struct.Struct(">Q")
HEADER_BYTES = _HEAD.size + _DIGEST.size

BODY_BYTES_MAX = ENTRY_BYTES_MAX + (64 << 10)
"""Largest body of any message: an entry, and what stands beside it."""

FRAGMENTS_MAX = 0xFFFF

NO_CLUSTER = ClusterId(bytes(8))
"""Cluster id of a sender that has yet to learn it."""

OPEN_KINDS = frozenset({KIND_OF[GetLayout], KIND_OF[GetStatus], KIND_OF[GetState]})
"""What may be asked without knowing the cluster id: the answers tell it."""

BLOCK_BITMAP_BYTES = 128

U64_MAX = 2**64 - 1


class Frame(NamedTuple):
    """One frame. A tuple, not a dataclass: it is made for every datagram, and costs half.

    `total` is the length of the whole body, of which `payload` is number `fragment` of `fragments`.
    All fragments but the last have the same length.
    """

    kind: int
    flags: int
    fragment: int
    fragments: int
    total: int
    cluster: ClusterId
    request: RequestId
    epoch: Epoch
    offset: Offset
    payload: bytes | memoryview


class Encoded(NamedTuple):
    """A message as bytes, before it is cut into frames; `parts` together are its body."""

    kind: int
    request: RequestId
    epoch: Epoch
    offset: Offset
    parts: Parts

    @property
    def size(self) -> int:
        """Bytes of the body."""
        return sum(map(len, self.parts))

    @property
    def body(self) -> bytes:
        """The body in one piece: a copy, if it has several."""
        return self.parts[0] if len(self.parts) == 1 else b"".join(self.parts)


class Decoded(NamedTuple):
    """The sound frames of a datagram; `fault` says why the rest of it was dropped, "" if none."""

    frames: list[Frame]
    fault: str


def encode_frame(frame: Frame) -> bytes:
    """Return header and payload. The digest is xxh3_64(payload, seed=xxh3_64(header before it))."""
    payload = frame.payload
    head = _head(frame, len(payload))
    # Seeding with the header's digest binds both without copying the payload once more.
    digest = xxh3_64_intdigest(payload, xxh3_64_intdigest(head))
    return b"".join((head, _DIGEST.pack(digest), payload))


def encode_whole(wire: Encoded, cluster: ClusterId) -> bytes:
    """Return the one frame that holds a whole body: like `encode_frame`, with one copy less."""
    kind, request, epoch, offset, parts = wire
    if len(parts) == 1:
        size = len(parts[0])
        frame = Frame(kind, 0, 0, 1, size, cluster, request, epoch, offset, parts[0])
        return encode_frame(frame)
    size = wire.size
    head = _head(Frame(kind, 0, 0, 1, size, cluster, request, epoch, offset, b""), size)
    digest = xxh3_64(seed=xxh3_64_intdigest(head))
    for part in parts:
        digest.update(part)
    return b"".join((head, digest.digest(), *parts))


def _head(frame: Frame, payload_bytes: int) -> bytes:
    kind, flags, index, count, total, cluster, request, epoch, offset, _ = frame
    client, sequence = request
    return _HEAD.pack(
        MAGIC,
        VERSION,
        kind,
        flags,
        index,
        count,
        0,
        payload_bytes,
        total,
        cluster,
        client,
        sequence,
        epoch,
        offset,
    )


def decode_untrusted(datagram: bytes) -> Decoded:
    """Take a datagram apart. The first bad frame drops all that follows: its length is not known.

    Payloads are views into `datagram`. The cluster id is not judged here.
    """
    view = memoryview(datagram)
    frames: list[Frame] = []
    position, size = 0, len(datagram)
    while position < size:
        if size - position < HEADER_BYTES:
            return Decoded(frames, "short")
        head = _HEAD.unpack_from(view, position)
        magic, version, kind, flags, index, count, reserved, length, total = head[:9]
        cluster, client, sequence, epoch, offset = head[9:]
        if magic != MAGIC or version != VERSION or reserved:
            return Decoded(frames, "foreign")
        start = position + HEADER_BYTES
        end = start + length
        if end > size or index >= count or total > BODY_BYTES_MAX or length > total:
            return Decoded(frames, "malformed")
        if count == 1 and length != total:
            return Decoded(frames, "malformed")
        payload = view[start:end]
        seed = xxh3_64_intdigest(view[position : position + _HEAD.size])
        (digest,) = _DIGEST.unpack_from(view, start - _DIGEST.size)
        if xxh3_64_intdigest(payload, seed) != digest:
            return Decoded(frames, "digest")
        request = RequestId(client, sequence)
        frames.append(
            Frame(kind, flags, index, count, total, cluster, request, epoch, offset, payload)
        )
        position = end
    return Decoded(frames, "")


def encode(message: Message) -> Encoded:
    """Encode a message.

    Raises:
        ValueError: Its body would be larger than any message may be.
    """
    shape = _SHAPES[type(message)]
    wire = Encoded(
        shape.kind,
        message.request,
        getattr(message, "epoch") if shape.has_epoch else Epoch(0),  # noqa: B009 - not all have it
        getattr(message, "offset") if shape.has_offset else Offset(0),  # noqa: B009
        shape.encode(message),
    )
    if wire.size > BODY_BYTES_MAX:
        raise ValueError(f"{type(message).__name__}: a body of {wire.size} bytes")
    assert len(message.request.client) == 16
    return wire


def decode_body(
    kind: int, request: RequestId, epoch: Epoch, offset: Offset, body: bytes | memoryview
) -> Message:
    """Decode a whole body, with the fields that its frames' headers carried.

    Raises:
        WireError: Anything else than the one encoding of a message of this kind.
    """
    message = KINDS.get(kind)
    if message is None:
        raise WireError(f"kind {kind}")
    if len(body) > BODY_BYTES_MAX:
        raise WireError(f"a body of {len(body)} bytes")
    shape = _SHAPES[message]
    # One message, one encoding: fields that it has not got are zero.
    if not shape.has_epoch and epoch:
        raise WireError("an epoch where none is wanted")
    if offset > (OFFSET_MAX if shape.has_offset else 0):
        raise WireError(f"offset {offset}")
    return shape.decode(request, epoch, offset, memoryview(body))


class _Shape(NamedTuple):
    """How messages of one kind are written and read."""

    kind: int
    has_epoch: bool
    has_offset: bool
    encode: Encode
    decode: Callable[[RequestId, Epoch, Offset, memoryview], Message]


def _check(message: Message) -> Message:
    """Refuse what the fields' types cannot: the bounds that messages state in words."""
    match message:
        case Inspect() if message.end - message.start > HELD_MAX:
            raise WireError("a range of more than 1,024 offsets")
        case Inspected() if len(message.offsets) > HELD_MAX:
            raise WireError(f"{len(message.offsets)} inspected offsets")
        case Sealed() if any(len(b.bitmap) != BLOCK_BITMAP_BYTES for b in message.blocks):
            raise WireError("a block whose bitmap is not 128 bytes")
        case _:
            return message


def _control_shape(kind: int, message: type[Any]) -> _Shape:
    """Build the shape of a control message: the fields that no header carries, as strict CBOR."""
    hints = get_type_hints(message)
    names = [field.name for field in fields(message)]
    inner = [name for name in names if name not in ("request", "epoch", "offset")]
    has_epoch, has_offset = "epoch" in names, "offset" in names
    body_type: Any = tuple[tuple(hints[name] for name in inner)]  # type: ignore[misc]

    def encode(value: Any) -> Parts:
        return (schema.pack_as(body_type, tuple(getattr(value, name) for name in inner)),)

    def decode(request: RequestId, epoch: Epoch, offset: Offset, body: memoryview) -> Message:
        values = dict(zip(inner, schema.unpack(body_type, bytes(body)), strict=True))
        if has_epoch:
            values["epoch"] = epoch
        if has_offset:
            values["offset"] = offset
        return _check(message(request=request, **values))

    return _Shape(kind, has_epoch, has_offset, encode, decode)


def _shape(kind: int, message: type[Any]) -> _Shape:
    if message in DATA_CODECS:
        names = {field.name for field in fields(message)}
        return _Shape(kind, "epoch" in names, "offset" in names, *DATA_CODECS[message])
    return _control_shape(kind, message)


_SHAPES: dict[type[Message], _Shape] = {
    message: _shape(kind, message) for kind, message in KINDS.items()
}

__all__ = [
    "BODY_BYTES_MAX",
    "HEADER_BYTES",
    "NO_CLUSTER",
    "OPEN_KINDS",
    "Decoded",
    "Encoded",
    "Frame",
    "decode_body",
    "decode_untrusted",
    "encode",
    "encode_frame",
    "encode_whole",
]
