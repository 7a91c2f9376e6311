"""Training a zstd dictionary on records, and saying honestly what it gains. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from corfu.compression import Compression, EntryCodec, dictionary_id
from corfu.entry import encode_entry, packed_bytes
from corfu.errors import UsageError

from .failure import CommandError, Status

HELD_OUT = 5
"""One record in so many is not trained on but tried: the last ones, as a dictionary is only ever
used for what comes after it was trained."""

RECORDS_MIN = 50
"""With fewer records there is nothing to be said about others."""

ENTRY_BYTES = (0, 4_000, 60_000)
"""Sizes of the entries that are tried; 0: a record each. 60,000 is what a busy client packs."""


@dataclass(frozen=True, slots=True)
class Gain:
    """What records take in entries of one size: all figures are bytes per record, head included."""

    entry_bytes: int
    plain: float
    compressed: float
    with_dictionary: float


@dataclass(frozen=True, slots=True)
class Trained:
    """A dictionary, and what it does for records that it has not seen."""

    dictionary: bytes
    records: int
    record_bytes: int
    held_out: int
    gains: tuple[Gain, ...]

    @property
    def id(self) -> int:
        """The id by which entries name it."""
        return dictionary_id(self.dictionary)


def train(records: Sequence[bytes], dictionary_bytes: int, level: int) -> Trained:
    """Train on the first records and try the dictionary on the others.

    Args:
        records: In the order in which they were appended.
        dictionary_bytes: Most bytes that the dictionary may have.
        level: Of zstd, for training and trying.

    Raises:
        CommandError: There are too few records, or they have too little in common.
        UsageError: zstandard is not installed.
    """
    if len(records) < RECORDS_MIN:
        raise CommandError(
            f"{len(records):,} records are too few to train on: at least {RECORDS_MIN}", Status.NO
        )
    zstandard = _zstandard()
    cut = len(records) - len(records) // HELD_OUT
    seen, others = list(records[:cut]), records[cut:]
    try:
        dictionary = zstandard.train_dictionary(dictionary_bytes, seen, level=level).as_bytes()
    except zstandard.ZstdError as error:
        raise CommandError(
            f"no dictionary comes of {len(seen):,} records of {sum(map(len, seen)):,} bytes: they "
            f"are too few, too short or have too little in common ({error})",
            Status.NO,
        ) from error
    without = EntryCodec(Compression("zstd", level=level, bytes_min=0))
    with_it = EntryCodec(Compression("zstd", level=level, bytes_min=0, dictionaries=(dictionary,)))
    gains = tuple(_gain(others, size, without, with_it) for size in ENTRY_BYTES)
    return Trained(dictionary, len(seen), sum(map(len, seen)), len(others), gains)


def _zstandard() -> Any:
    try:
        import zstandard
    except ImportError as error:
        raise UsageError(
            "training needs the package zstandard: pip install 'corfu-log[compression]'"
        ) from error
    return zstandard


def _gain(
    records: Sequence[bytes], entry_bytes: int, without: EntryCodec, with_it: EntryCodec
) -> Gain:
    plain = compressed = with_dictionary = 0
    for entry in entries_of(records, entry_bytes):
        plain += len(encode_entry(entry, 0))
        compressed += len(without.encode(entry, 0))
        with_dictionary += len(with_it.encode(entry, 0))
    count = len(records)
    return Gain(entry_bytes, plain / count, compressed / count, with_dictionary / count)


def entries_of(records: Sequence[bytes], entry_bytes: int) -> list[list[bytes]]:
    """Cut records into entries of about `entry_bytes`, at least one record each."""
    entries: list[list[bytes]] = []
    size = 0
    for record in records:
        if not entries or size + packed_bytes(record) > entry_bytes:
            entries.append([])
            size = 0
        entries[-1].append(record)
        size += packed_bytes(record)
    return entries
