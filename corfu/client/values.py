"""What an offset holds, as the reading procedures hand it on."""

from __future__ import annotations

from typing import NamedTuple

from corfu.compression import EntryCodec, Missing
from corfu.entry import plain_bytes, timestamp_us_of
from corfu.types import Offset, State


class Value(NamedTuple):
    """What one offset holds for ever: records for DATA, none for JUNK, TRIMMED and LOST.

    `size` is how many bytes of memory to count for it: those of the entry as it was before it
    was compressed, about. `timestamp_us` is what its client's clock said when it was packed.
    `missing` says what this process lacks to tell the records; the value is DATA all the same, and
    only who wants the records meets an error. A tuple: one is made for every offset read.
    """

    offset: Offset
    state: State
    records: tuple[bytes, ...] = ()
    size: int = 0
    timestamp_us: int = 0
    missing: Missing | None = None


def data_value(offset: Offset, entry: bytes, codec: EntryCodec) -> Value:
    """Return the value that an entry's bytes are.

    Raises:
        WireError: They are no entry.
    """
    body = codec.decode(entry)
    if isinstance(body, Missing):
        return Value(offset, State.DATA, (), len(entry), timestamp_us_of(entry), body)
    # Not the length of `entry`: what is kept in memory is what it expands to.
    size = plain_bytes(entry)
    return Value(offset, State.DATA, body.records, size, body.timestamp_us)
