"""The journal's own records: which files count, how far, and what is in doubt.

They are ordinary records of kinds that only the journal uses, so they are made durable and found
again like any other. A state record replaces every earlier one.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from corfu.journal.format import (
    SECTOR_BYTES,
    JournalRecord,
    RecordHeader,
)

KIND_STATE = 0xFF
"""Holds a `JournalState`; in a file begun by a recovery the first one completes the recovery."""

KIND_STATE_COPY = 0xFE
"""The same, written apart from it, so that one bad sector does not take both."""

KIND_DOUBT = 0xFD
"""Names one record in doubt: offset, epoch and entry id are those of that record."""

_NO_ID = bytes(16)
_HEAD = struct.Struct("<B7xQQI")
_RUN = struct.Struct("<QI")
_END = struct.Struct("<I")
_END_UNKNOWN = 2**32 - 1
_DOUBT = struct.Struct("<BBIQ")


@dataclass(frozen=True, slots=True)
class Doubt:
    """What followed the last mark of a crash and was not whole, until it is settled.

    Attributes:
        named: Records whose header is sound and whose body is not.
        unknown: There may be records that nothing is known of, not even the offset.
    """

    named: tuple[RecordHeader, ...] = ()
    unknown: bool = False

    def __bool__(self) -> bool:
        return self.unknown or bool(self.named)


@dataclass(frozen=True, slots=True)
class JournalState:
    """Which journal files count, beside the one that this is written in.

    Attributes:
        live: Serial -> end: in that file `[512, end)` counts and must be whole; None if the end
            is not known, the file then ends where its batches do. Other files were freed.
        doubt_unknown: See `Doubt.unknown`.
        doubt_serials: (first, last) serial of the files that hold the unsettled doubt records.
    """

    live: dict[int, int | None] = field(default_factory=dict)
    doubt_unknown: bool = False
    doubt_serials: tuple[int, int] | None = None


def encode_state(state: JournalState, kind: int) -> JournalRecord:
    """Return the state as a record of `kind`; about 4 bytes a live file."""
    runs: list[list[int]] = []
    for serial in sorted(state.live):
        if runs and runs[-1][-1] + 1 == serial:
            runs[-1].append(serial)
        else:
            runs.append([serial])
    first, last = state.doubt_serials or (0, 0)
    parts = [_HEAD.pack(state.doubt_unknown, first, last, len(runs))]
    for run in runs:
        parts.append(_RUN.pack(run[0], len(run)))
        for serial in run:
            end = state.live[serial]
            parts.append(_END.pack(_END_UNKNOWN if end is None else end // SECTOR_BYTES))
    return JournalRecord(kind, 0, 0, 0, _NO_ID, b"".join(parts))


def state_bytes_max(live: int) -> int:
    """Return the most body bytes that a state with so many live files takes."""
    return _HEAD.size + live * (_RUN.size + _END.size)


def decode_state(body: bytes) -> JournalState:
    """Return the state in a record's body, which has passed its digest."""
    unknown, first, last, runs = _HEAD.unpack_from(body)
    at = _HEAD.size
    live: dict[int, int | None] = {}
    for _ in range(runs):
        start, count = _RUN.unpack_from(body, at)
        at += _RUN.size
        for serial in range(start, start + count):
            (end,) = _END.unpack_from(body, at)
            at += _END.size
            live[serial] = None if end == _END_UNKNOWN else end * SECTOR_BYTES
    return JournalState(live, bool(unknown), (first, last) if first else None)


def encode_doubt(header: RecordHeader) -> JournalRecord:
    """Return the record that keeps `header` in doubt."""
    body = _DOUBT.pack(header.kind, header.flags, header.body_bytes, header.body_digest)
    return JournalRecord(KIND_DOUBT, 0, header.offset, header.epoch, header.entry_id, body)


def decode_doubt(header: RecordHeader, body: bytes) -> RecordHeader:
    """Return the header that a doubt record, which has passed its digests, keeps in doubt."""
    kind, flags, body_bytes, digest = _DOUBT.unpack(body)
    return RecordHeader(
        kind, flags, header.offset, header.epoch, header.entry_id, body_bytes, digest
    )
