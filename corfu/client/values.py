"""What an offset holds, as the reading procedures hand it on."""

from __future__ import annotations

from dataclasses import dataclass

from corfu.compression import EntryCodec, Missing
from corfu.entry import plain_bytes
from corfu.types import Offset, State


@dataclass(frozen=True, slots=True)
class Value:
    """What one offset holds for ever: records for DATA, none for JUNK, TRIMMED and LOST.

    `size` is how many bytes of memory to count for it: those of the entry as it was before it
    was compressed, about. `missing` says what this process lacks to tell the records; the value
    is DATA all the same, and only who wants the records meets an error.
    """

    offset: Offset
    state: State
    records: tuple[bytes, ...] = ()
    size: int = 0
    missing: Missing | None = None


def data_value(offset: Offset, entry: bytes, codec: EntryCodec) -> Value:
    """Return the value that an entry's bytes are.

    Raises:
        WireError: They are no entry.
    """
    body = codec.decode(entry)
    if isinstance(body, Missing):
        return Value(offset, State.DATA, (), len(entry), body)
    # Not the length of `entry`: what is kept in memory is what it expands to.
    return Value(offset, State.DATA, body.records, plain_bytes(entry))
