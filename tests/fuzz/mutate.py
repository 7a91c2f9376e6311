"""Mutants: valid datagrams with something changed, most of them under a digest that fits again.

One in ten keeps a digest that fails; all others are to get past it, into reassembly, decoders and
cores. Everything follows from the seed.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable

from corfu.codec import HEADER_BYTES, VERSION
from corfu.messages import KINDS
from corfu.types import ClusterId

from .corpus import Corpus, Sample, encode_integer, rehashed
from .values import EDGES

_LENGTHS = struct.Struct(">II")
_LENGTHS_AT = 12
_CLUSTER_AT = 20
_U16 = struct.Struct(">H")
_U64 = struct.Struct(">Q")
_KINDS = tuple(KINDS)
_EDGE_BYTES = tuple(
    (edge % 2 ** (8 * width)).to_bytes(width) for width in (1, 2, 4, 8) for edge in EDGES
)
_EDGE_CBOR = tuple(encode_integer(edge) for edge in EDGES)

FOREIGN = ClusterId(b"another!")

# Flags, fragment, fragments: 16 bits each; then sequence, epoch and offset: 64 bits each.
_SMALL_FIELDS = (4, 6, 8)
_LARGE_FIELDS = (44, 52, 60)


class Mutator:
    """An endless row of mutants. `kind` is the kind that the last one claimed to be at first."""

    def __init__(self, corpus: Corpus, seed: int, *, foreign: float = 0.02) -> None:
        """Start a row.

        Args:
            corpus: What is mutated.
            seed: What all follows from.
            foreign: Which share is sent in another cluster's name.
        """
        self._corpus = corpus
        self._random = random.Random(seed).random
        self._foreign = foreign
        self.kind = 0
        table: list[tuple[int, Callable[[Sample], bytes]]] = [
            (14, self._header_field),
            (12, self._flipped),
            (16, self._edge_bytes),
            (16, self._edge_integer),
            (6, self._cut),
            (6, self._longer),
            (8, self._spliced),
            (4, self._lying_lengths),
            (5, self._several),
            (6, self._fragment),
            (3, self._control),
            (7, self._broken),
            (3, self._short),
        ]
        self._ways = [way for weight, way in table for _ in range(weight)]

    def next(self) -> bytes:
        """Return the next mutant."""
        draw = self._random
        sample = self._sample()
        self.kind = sample.kind
        datagram = self._ways[int(draw() * len(self._ways))](sample)
        if draw() < self._foreign and len(datagram) >= HEADER_BYTES:
            stranger = bytearray(datagram)
            stranger[_CLUSTER_AT : _CLUSTER_AT + 8] = FOREIGN
            return bytes(rehashed(stranger))
        return datagram

    def _sample(self) -> Sample:
        singles = self._corpus.singles
        return singles[int(self._random() * len(singles))]

    def _below(self, end: int) -> int:
        return int(self._random() * end)

    # One way each.

    def _header_field(self, sample: Sample) -> bytes:
        changed = bytearray(sample.datagram)
        draw = self._random()
        edge = EDGES[self._below(len(EDGES))]
        if draw < 0.2:
            changed[3] = _KINDS[self._below(len(_KINDS))]
        elif draw < 0.3:
            _U16.pack_into(changed, _SMALL_FIELDS[self._below(3)], edge & 0xFFFF)
        elif draw < 0.6:
            _U64.pack_into(changed, _LARGE_FIELDS[self._below(3)], edge)
        elif draw < 0.9:
            # Close by: the epochs and offsets that mean something.
            at = _LARGE_FIELDS[self._below(3)] + 7
            changed[at] = changed[at] + 1 + self._below(5) - 3 & 0xFF
        else:
            at = 28 + self._below(16)
            changed[at] ^= 1 << self._below(8)
        return bytes(rehashed(changed))

    def _flipped(self, sample: Sample) -> bytes:
        changed = bytearray(sample.datagram)
        body = len(changed) - HEADER_BYTES
        if not body:
            return self._header_field(sample)
        for _ in range(1 + self._below(2)):
            changed[HEADER_BYTES + self._below(body)] ^= 1 << self._below(8)
        return bytes(rehashed(changed))

    def _edge_bytes(self, sample: Sample) -> bytes:
        changed = bytearray(sample.datagram)
        body = len(changed) - HEADER_BYTES
        if not body:
            return self._header_field(sample)
        edge = _EDGE_BYTES[self._below(len(_EDGE_BYTES))]
        at = HEADER_BYTES + self._below(body)
        changed[at : at + len(edge)] = edge[: len(changed) - at]
        return bytes(rehashed(changed))

    def _edge_integer(self, sample: Sample) -> bytes:
        """Put an edge where the CBOR body has an integer: still one canonical encoding."""
        if not sample.integers:
            return self._edge_bytes(sample)
        datagram = sample.datagram
        start, end = sample.integers[self._below(len(sample.integers))]
        edge = _EDGE_CBOR[self._below(len(_EDGE_CBOR))]
        return _sized(bytearray(datagram[:start] + edge + datagram[end:]))

    def _cut(self, sample: Sample) -> bytes:
        return _sized(bytearray(sample.datagram[: self._place(sample)]))

    def _longer(self, sample: Sample) -> bytes:
        datagram, at = sample.datagram, self._place(sample)
        more = bytes((self._below(256),)) * (1 + self._below(16))
        return _sized(bytearray(datagram[:at] + more + datagram[at:]))

    def _spliced(self, sample: Sample) -> bytes:
        """Join the front of one message and the rest of another, of its own kind or not."""
        other = self._sample()
        front, back = self._place(sample), self._place(other)
        return _sized(bytearray(sample.datagram[:front] + other.datagram[back:]))

    def _lying_lengths(self, sample: Sample) -> bytes:
        changed = bytearray(sample.datagram)
        length, total = _LENGTHS.unpack_from(changed, _LENGTHS_AT)
        edge = EDGES[self._below(len(EDGES))] & 0xFFFFFFFF
        length, total = ((edge, total), (length, edge), (edge, edge))[self._below(3)]
        _LENGTHS.pack_into(changed, _LENGTHS_AT, length, total)
        return bytes(rehashed(changed))

    def _several(self, sample: Sample) -> bytes:
        return self._edge_integer(sample) + self._header_field(self._sample())

    def _fragment(self, sample: Sample) -> bytes:
        """Take one fragment of a message, now and then with numbers that lie.

        Those of a set come in any order, again and again, mixed with other sets'.
        """
        sets = self._corpus.sets
        draw = self._random()
        # Few sets at a time, or none would ever be complete.
        chosen = sets[int(draw * draw * len(sets))]
        fragment = chosen[self._below(len(chosen))]
        self.kind = fragment.kind
        if self._random() < 0.7:
            return fragment.datagram
        changed = bytearray(fragment.datagram)
        which = self._below(5)
        if which < 3:
            at = _SMALL_FIELDS[which]
            _U16.pack_into(changed, at, EDGES[self._below(len(EDGES))] & 0xFFFF)
        elif which == 3:
            length, total = _LENGTHS.unpack_from(changed, _LENGTHS_AT)
            total = EDGES[self._below(len(EDGES))] & 0x1FFFFF
            _LENGTHS.pack_into(changed, _LENGTHS_AT, length, total)
        else:
            changed[51] = self._below(256)
        return bytes(rehashed(changed))

    def _control(self, sample: Sample) -> bytes:
        control = self._corpus.control
        chosen = control[self._below(len(control))]
        self.kind = chosen.kind
        return self._flipped(chosen) if self._random() < 0.5 else self._header_field(chosen)

    def _broken(self, sample: Sample) -> bytes:
        """Change a byte anywhere, and leave the digest as it is."""
        changed = bytearray(sample.datagram)
        changed[self._below(len(changed))] ^= 1 + self._below(255)
        return bytes(changed)

    def _short(self, sample: Sample) -> bytes:
        if self._random() < 0.5:
            return sample.datagram[: self._below(len(sample.datagram))]
        changed = bytearray(sample.datagram)
        changed[2] = (VERSION + 1 + self._below(254)) & 0xFF
        return bytes(rehashed(changed))

    def _place(self, sample: Sample) -> int:
        return HEADER_BYTES + self._below(len(sample.datagram) - HEADER_BYTES + 1)


def _sized(changed: bytearray) -> bytes:
    """Return a single fragment whose lengths and digest fit its body again."""
    length = len(changed) - HEADER_BYTES
    _LENGTHS.pack_into(changed, _LENGTHS_AT, length, length)
    return bytes(rehashed(changed))
