"""What entries are known by."""

from __future__ import annotations

from typing import NamedTuple

from xxhash import xxh3_64_intdigest

from corfu.types import JUNK_ID, Digest, EntryId, Offset


class Name(NamedTuple):
    """What an entry is known by: same id and same digest means same entry."""

    entry_id: EntryId
    digest: Digest
    length: int


class HeldEntry(NamedTuple):
    """An entry and its name."""

    name: Name
    entry: bytes


JUNK_NAME = Name(JUNK_ID, Digest(0), 0)
"""The name of junk; also stands where there is none."""


def entry_digest(entry: bytes) -> Digest:
    """Return what tells an entry's bytes from any other's."""
    return Digest(xxh3_64_intdigest(entry))


def held_digest(offset: Offset, entry_id: EntryId) -> int:
    """Return what one held offset adds (by xor) to the digest of its block."""
    return xxh3_64_intdigest(offset.to_bytes(8, "big") + entry_id)
