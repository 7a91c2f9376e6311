"""Valid datagrams of every message in every form that a link sends; mutants are made of these."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from xxhash import xxh3_64_intdigest

from corfu.codec import (
    HEADER_BYTES,
    NO_CLUSTER,
    OPEN_KINDS,
    Encoded,
    Frame,
    encode,
    encode_frame,
    encode_whole,
)
from corfu.codec_data import DATA_CODECS
from corfu.link.control import (
    COMPLETE,
    FLAG_TRANSFER,
    FRAGMENT_ACK,
    FRAGMENT_PROBE,
    PARTIAL,
    UNKNOWN,
    FragmentAck,
    FragmentProbe,
    encode_ack,
    encode_probe,
)
from corfu.link.transfer import fragment_frame, fragments_of
from corfu.messages import KINDS, Message
from corfu.types import ClusterId, Epoch, Offset, RequestId

from .values import Maker, Names

DIGEST_AT = HEADER_BYTES - 8
SMALL_DATAGRAM = 160
"""Datagrams of fragments in the corpus: small, so that most messages make several."""

_DIGEST = struct.Struct(">Q")


class Sample(NamedTuple):
    """One valid datagram of one frame, and where the whole integers of its CBOR body are."""

    datagram: bytes
    kind: int
    form: str
    integers: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Corpus:
    """Samples by what they are good for. `sets` are fragments that make one message together."""

    singles: list[Sample]
    control: list[Sample]
    sets: list[list[Sample]]

    @property
    def forms(self) -> dict[int, set[str]]:
        """Return which forms there are of each kind."""
        found: dict[int, set[str]] = {}
        for sample in (*self.singles, *self.control, *(s for each in self.sets for s in each)):
            found.setdefault(sample.kind, set()).add(sample.form)
        return found


def rehashed(datagram: bytearray) -> bytearray:
    """Make the digest of a datagram of one frame fit what it says now."""
    view = memoryview(datagram)
    seed = xxh3_64_intdigest(view[:DIGEST_AT])
    _DIGEST.pack_into(datagram, DIGEST_AT, xxh3_64_intdigest(view[HEADER_BYTES:], seed))
    return datagram


def build(
    names: Names, seed: int, *, each: int = 24, often: Iterable[type[Message]] = ()
) -> Corpus:
    """Build the corpus of all kinds: `each` messages of every kind, four times as many of some."""
    favoured = frozenset(often)
    rng = random.Random(seed)
    maker = Maker(names, rng)
    corpus = Corpus([], [], [])
    for kind in sorted(KINDS):
        for number in range(4 * each if KINDS[kind] in favoured else each):
            wire = encode(maker.message(KINDS[kind]))
            if len(wire.body) > 8000:
                continue
            corpus.singles.append(_single(wire, names.cluster, "single"))
            if number == 0 and kind in OPEN_KINDS:
                corpus.singles.append(_single(wire, NO_CLUSTER, "no cluster"))
            if number < 2:
                corpus.sets.append(_fragments(_longer(wire), names.cluster, 0))
                flags = FLAG_TRANSFER | rng.randrange(256)
                corpus.sets.append(_fragments(_longer(wire), names.cluster, flags))
                corpus.control.extend(control_samples(wire, names.cluster, flags))
    return corpus


def _longer(wire: Encoded) -> Encoded:
    """Return the message, or one of its kind with a body of more than one fragment.

    A short body is stretched with zeros: of the messages with fixed bodies no longer one exists,
    and how their fragments are put together does not depend on what is in them.
    """
    wanted = 2 * (SMALL_DATAGRAM - HEADER_BYTES) + 9
    return wire._replace(parts=(wire.body.ljust(wanted, b"\0"),))


def _single(wire: Encoded, cluster: ClusterId, form: str) -> Sample:
    datagram = encode_whole(wire, cluster)
    is_cbor = KINDS[wire.kind] not in DATA_CODECS
    integers = tuple(cbor_integers(datagram, HEADER_BYTES)) if is_cbor else ()
    return Sample(datagram, wire.kind, form, integers)


def _fragments(wire: Encoded, cluster: ClusterId, flags: int) -> list[Sample]:
    layout, body = fragments_of(wire.size, SMALL_DATAGRAM), memoryview(wire.body)
    form = "transfer" if flags else "burst"
    return [
        Sample(fragment_frame(wire, body, cluster, flags, number, layout), wire.kind, form, ())
        for number in range(layout[0])
    ]


def control_samples(wire: Encoded, cluster: ClusterId, flags: int) -> list[Sample]:
    """Return acks and a probe about a transfer of a message."""
    about = (wire.request, wire.epoch, wire.offset)
    acks = (
        FragmentAck(wire.kind, UNKNOWN, 1, 0, 0, 0, 0),
        FragmentAck(wire.kind, PARTIAL, 0, 1, 9, 3, 0x155),
        FragmentAck(wire.kind, COMPLETE, 2, 0xFFFF, 0, 0xFFFF, 0),
    )
    samples = [
        _control_sample(FRAGMENT_ACK, flags, cluster, about, encode_ack(ack)) for ack in acks
    ]
    probe = encode_probe(FragmentProbe(wire.kind, 1))
    samples.append(_control_sample(FRAGMENT_PROBE, flags, cluster, about, probe))
    return samples


def _control_sample(
    kind: int,
    flags: int,
    cluster: ClusterId,
    about: tuple[RequestId, Epoch, Offset],
    payload: bytes,
) -> Sample:
    frame = Frame(kind, flags, 0, 1, len(payload), cluster, *about, payload)
    return Sample(encode_frame(frame), kind, "control", ())


def cbor_integers(data: bytes, start: int) -> list[tuple[int, int]]:
    """Return (start, end) of every unsigned integer of the CBOR values from `start` on."""
    found: list[tuple[int, int]] = []
    at = start
    while at < len(data):
        major, argument = data[at] >> 5, data[at] & 31
        extra = 1 << argument - 24 if 24 <= argument <= 27 else 0
        length = int.from_bytes(data[at + 1 : at + 1 + extra]) if extra else argument
        if major == 0:
            found.append((at, at + 1 + extra))
        at += 1 + extra + (length if major in (2, 3) else 0)
    return found


def encode_integer(value: int) -> bytes:
    """Return the one canonical CBOR form of an unsigned integer."""
    if value < 24:
        return bytes((value,))
    for argument, size in ((24, 1), (25, 2), (26, 4)):
        if value < 1 << 8 * size:
            return bytes((argument,)) + value.to_bytes(size)
    return b"\x1b" + value.to_bytes(8)


def every_datagram(corpus: Corpus) -> Sequence[Sample]:
    """Return all samples: what was cut into fragments as its fragments."""
    return [*corpus.singles, *corpus.control, *(s for each in corpus.sets for s in each)]
