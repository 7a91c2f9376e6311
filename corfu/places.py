"""Places in the log as users name them, and what may be appended. Pure."""

from __future__ import annotations

import enum
from typing import Literal

from corfu.entry import RECORD_BYTES_MAX
from corfu.errors import UsageError
from corfu.types import OFFSET_MAX, Offset, Position

Place = Position | int
"""A record's position, or an offset: then its entry's first record."""

OnLost = Literal["raise", "skip"]


class Edge(enum.Enum):
    """A moving end of the log."""

    EARLIEST = "earliest"
    LATEST = "latest"


EARLIEST = Edge.EARLIEST
"""The first record that is not trimmed."""

LATEST = Edge.LATEST
"""Behind the last record: only what is appended from now on."""


def begin_of(start: Place | Edge, trim_mark: Offset, tail: Offset) -> Offset:
    """Return the offset that `start` means now."""
    match start:
        case Edge.EARLIEST:
            return trim_mark
        case Edge.LATEST:
            return tail
        case _:
            return offset_of(start)


def checked_record(data: bytes) -> bytes:
    """Return a record as bytes; raises UsageError if it is none, or too large."""
    if not isinstance(data, bytes):
        # Lists of numbers and the like would be taken by bytes(), and be nobody's intention.
        if not isinstance(data, bytearray | memoryview):
            raise UsageError(f"a record must be bytes, not {type(data).__name__}")
        data = bytes(data)
    if len(data) > RECORD_BYTES_MAX:
        raise UsageError(f"a record of {len(data)} bytes; the most is {RECORD_BYTES_MAX}")
    return data


def check_start(start: Place | Edge) -> None:
    """Raise UsageError if `start` is no place and no edge."""
    if not isinstance(start, Edge):
        offset_of(start)


def offset_of(place: Place) -> Offset:
    """Return the offset of a place; raises UsageError if it cannot be one."""
    offset = checked_offset(place.offset if isinstance(place, Position) else place)
    if isinstance(place, Position) and place.index < 0:
        raise UsageError(f"a position's index is negative: {place}")
    return offset


def checked_offset(offset: int) -> Offset:
    """Return `offset` if it can be one.

    Raises:
        UsageError: It is no integer, or out of range.
    """
    if not isinstance(offset, int) or isinstance(offset, bool):
        raise UsageError(f"an offset is an integer, not {type(offset).__name__}")
    if not 0 <= offset <= OFFSET_MAX:
        raise UsageError(f"offset {offset} is not in [0, {OFFSET_MAX}]")
    return Offset(offset)
