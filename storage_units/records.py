"""What a unit writes into its journal: the kinds of record, and what their fields mean.

All but DATA, LAYOUT and STANDING stand in the record's header alone, which has a digest of its
own: such a record is either whole or not there, never half readable.

| kind | offset | epoch | entry id | body |
|---|---|---|---|---|
| DATA | of the entry | that stored it | of the entry | the entry; flag 1: tentative |
| JUNK | first | that stored it | end u64, step u64 | |
| LOST | first | sealed | end u64, 0 | |
| SEAL | epoch held before | sealed | 0 | |
| LAYOUT | 0 | of the layout | 0 | the layout |
| TRIM | trim mark | 0 | 0 | |
| CLOSED | closed_until | 0 | 0 | |
| FROZEN | 0 | sealed | 0 | |
| STANDING | trim mark | sealed | 0 | all of the unit's small state |
| CONFIRMED | first | sealed | end u64, step u64 | |
"""

from __future__ import annotations

import enum
import struct

from corfu import schema
from corfu.journal.format import JournalRecord, RecordHeader
from corfu.layout import Layout
from corfu.types import Digest, EntryId, Epoch, Offset, Range

_ZERO_ID = bytes(16)
_RUN = struct.Struct("<QQ")


class RecordKind(enum.IntEnum):
    """Kinds of journal record of a unit; numbers are for ever."""

    DATA = 1
    JUNK = 2
    LOST = 3
    SEAL = 4
    LAYOUT = 5
    TRIM = 6
    CLOSED = 7
    FROZEN = 8
    STANDING = 9
    CONFIRMED = 10


OFFSET_KINDS = frozenset(
    {
        RecordKind.DATA.value,
        RecordKind.JUNK.value,
        RecordKind.LOST.value,
        RecordKind.CONFIRMED.value,
    }
)
"""Kinds whose offset is a place in the log."""

FLAG_TENTATIVE = 1
"""Of a DATA record: the unit did not know the entry to be durable above when it stored it."""


def data_record(
    offset: Offset,
    epoch: Epoch,
    entry_id: EntryId,
    entry: bytes,
    digest: Digest | None = None,
    *,
    tentative: bool = False,
) -> JournalRecord:
    """Return the record of an entry; `digest` is that of its bytes, if it is known."""
    flags = FLAG_TENTATIVE if tentative else 0
    return JournalRecord(RecordKind.DATA, flags, offset, epoch, entry_id, entry, digest)


def confirmed_record(run: Range, step: int, epoch: Epoch) -> JournalRecord:
    """Return the record that ends the tentative time of every `step`-th offset of `run`."""
    fields = _RUN.pack(run.end, step)
    return JournalRecord(RecordKind.CONFIRMED, 0, run.start, epoch, fields, b"")


def junk_record(run: Range, step: int, epoch: Epoch) -> JournalRecord:
    """Return the record that makes every `step`-th offset of `run`, from its start, junk."""
    fields = _RUN.pack(run.end, step)
    return JournalRecord(RecordKind.JUNK, 0, run.start, epoch, fields, b"")


def lost_record(lost: Range, epoch: Epoch) -> JournalRecord:
    """Return the record that says: the sequencer declared this range lost."""
    return JournalRecord(RecordKind.LOST, 0, lost.start, epoch, _RUN.pack(lost.end, 0), b"")


def run_of(header: RecordHeader) -> tuple[Range, int]:
    """Return the range and the step in the header of a JUNK, LOST or CONFIRMED record."""
    end, step = _RUN.unpack(header.entry_id)
    return Range(Offset(header.offset), Offset(end)), step


def seal_record(epoch: Epoch, before: Epoch) -> JournalRecord:
    """Return the record of a seal."""
    return JournalRecord(RecordKind.SEAL, 0, before, epoch, _ZERO_ID, b"")


def clip_run(header: RecordHeader, bound: int) -> RecordHeader:
    """Shorten a run that an earlier incarnation wrote to the offsets below its bound."""
    if header.kind not in (RecordKind.JUNK, RecordKind.CONFIRMED):
        return header
    run, step = run_of(header)
    return header._replace(entry_id=_RUN.pack(min(run.end, bound), step))


def layout_record(layout: Layout) -> JournalRecord:
    """Return the record of an installed layout."""
    return JournalRecord(RecordKind.LAYOUT, 0, 0, layout.epoch, _ZERO_ID, schema.pack(layout))


def trim_record(mark: Offset) -> JournalRecord:
    """Return the record of a trim mark."""
    return JournalRecord(RecordKind.TRIM, 0, mark, 0, _ZERO_ID, b"")


def closed_record(closed_until: Offset) -> JournalRecord:
    """Return the record of closed_until; only spares work at the next restart."""
    return JournalRecord(RecordKind.CLOSED, 0, closed_until, 0, _ZERO_ID, b"")


def frozen_record(epoch: Epoch) -> JournalRecord:
    """Return the record of a Conflict: the unit takes no new values any more."""
    return JournalRecord(RecordKind.FROZEN, 0, 0, epoch, _ZERO_ID, b"")
