"""A sound disk gone bad in one place: a flipped bit, a zeroed or a misdirected sector, a cut file.

Apart from crashes: all that is damaged here was synced.
"""

from __future__ import annotations

import enum
import random
from collections.abc import Iterator
from dataclasses import dataclass

from tests.crash.platter import SECTOR
from tests.crash.trace import Image, kind_of


class Rot(enum.Enum):
    """What happened to a file."""

    FLIP = "flip"
    ZEROED = "zeroed"
    MISDIRECTED = "misdirected"
    CUT = "cut"


@dataclass(frozen=True, slots=True)
class Rotten:
    """One bad place."""

    rot: Rot
    file: str
    start: int
    """The first bad byte."""
    image: Image

    def __str__(self) -> str:
        return f"{self.rot.value} at byte {self.start} of {self.file}"


def flips(image: Image, before: Image, rng: random.Random, limit: int) -> Iterator[Rotten]:
    """Yield images with one flipped bit each: all bits that `before` has not yet, then by luck.

    Spares are left out: nothing in them is ever read.
    """
    fresh: dict[str, list[tuple[str, int]]] = {}
    used: dict[str, list[tuple[str, int]]] = {}
    for name, data in sorted(image.items()):
        kind = kind_of(name)
        if kind == "spare":
            continue
        old = before.get(name, b"").ljust(len(data), b"\0")
        for at in range(0, len(data), SECTOR):
            part = data[at : at + SECTOR]
            if not any(part):
                continue
            place = fresh if part != old[at : at + SECTOR] else used
            place.setdefault(kind, []).extend((name, byte) for byte in range(at, at + len(part)))
    # The small files have their share, however long the journal is.
    journal = [(*place, bit) for place in fresh.pop("journal", []) for bit in range(8)]
    others = [(*place, bit) for places in fresh.values() for place in places for bit in range(8)]
    bits = _some(rng, others, limit // 2)
    bits += _some(rng, journal, limit - len(bits))
    for _ in range((limit - len(bits)) // 4 if used else 0):
        bits.append((*rng.choice(used[rng.choice(sorted(used))]), rng.randrange(8)))
    for name, byte, bit in bits:
        data = image[name]
        bad = data[:byte] + bytes((data[byte] ^ 1 << bit,)) + data[byte + 1 :]
        yield Rotten(Rot.FLIP, name, byte, {**image, name: bad})


def _some(
    rng: random.Random, bits: list[tuple[str, int, int]], limit: int
) -> list[tuple[str, int, int]]:
    return list(bits) if len(bits) <= limit else rng.sample(bits, limit)


def sectors(image: Image, rng: random.Random, limit: int) -> Iterator[Rotten]:
    """Yield images with one zeroed sector, or one that holds what belongs to another place."""
    places = [
        (name, at)
        for name, data in sorted(image.items())
        if kind_of(name) != "spare"
        for at in range(0, len(data), SECTOR)
    ]
    sources = [
        (name, at) for name, data in sorted(image.items()) for at in range(0, len(data), SECTOR)
    ]
    written = [(name, at) for name, at in places if any(image[name][at : at + SECTOR])]
    for name, at in written if len(written) <= limit else rng.sample(written, limit):
        yield _overwritten(Rot.ZEROED, image, name, at, bytes(SECTOR))
    pairs = [(to, source) for to in places for source in sources if to != source]
    if len(pairs) > limit:
        pairs = rng.sample(pairs, limit)
    for (name, at), (other, source) in pairs:
        data = image[other][source : source + SECTOR].ljust(SECTOR, b"\0")
        if data[: len(image[name]) - at] != image[name][at : at + SECTOR]:
            yield _overwritten(Rot.MISDIRECTED, image, name, at, data)


def cuts(image: Image, rng: random.Random) -> Iterator[Rotten]:
    """Yield images with one file cut short, as a bad repair of a file system leaves it."""
    for name, data in sorted(image.items()):
        if kind_of(name) == "spare" or not data:
            continue
        lengths = {0, len(data) - 1, *range(0, len(data), SECTOR)}
        lengths |= {rng.randrange(len(data)) for _ in range(8)}
        for length in sorted(lengths):
            yield Rotten(Rot.CUT, name, length, {**image, name: data[:length]})


def _overwritten(rot: Rot, image: Image, name: str, at: int, sector: bytes) -> Rotten:
    data = image[name]
    bad = data[:at] + sector[: len(data) - at] + data[at + SECTOR :]
    return Rotten(rot, name, at, {**image, name: bad})
