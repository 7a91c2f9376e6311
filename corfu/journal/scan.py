"""Finds in the bytes of one journal file all that verifies there, however damaged the file is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from corfu.journal.format import (
    BATCH_HEADER_BYTES,
    BATCH_MAGIC,
    RECORD_HEADER_BYTES,
    RECORD_MAGIC,
    SECTOR_BYTES,
    RecordHeader,
    align_sector,
    body_of,
    decode_batch_header,
    decode_record_header,
    record_bytes,
)
from corfu.journal.state import KIND_STATE


class FoundRecord(NamedTuple):
    """A record whose header is sound; `sound` says whether its body is, too."""

    position: int
    length: int
    header: RecordHeader
    sound: bool


@dataclass(frozen=True, slots=True)
class Piece:
    """What one batch left in the file.

    Attributes:
        start: Where the batch begins.
        end: Where the next one does, or would.
        framed: The batch header is sound.
        clean: It is the mark of a clean stop.
        records: All that can be named, in order.
        gaps: Positions at which bytes begin that should be records and cannot be named.
    """

    start: int
    end: int
    framed: bool
    clean: bool
    records: tuple[FoundRecord, ...]
    gaps: tuple[int, ...]

    @property
    def whole(self) -> bool:
        """All that the batch held is here and sound."""
        return self.framed and not self.gaps and all(record.sound for record in self.records)

    @property
    def completes_recovery(self) -> bool:
        """It is whole, and says at its end that all before it belongs to a finished recovery."""
        return self.whole and any(record.header.kind == KIND_STATE for record in self.records)


def scan_file(data: bytes, seed: int, end: int | None) -> list[Piece]:
    """Return the pieces of a journal file, in order and without holes between them.

    Args:
        data: The file's bytes from its start.
        seed: The file's seed; nothing else that lies in the file verifies.
        end: Where the file is known to end, so that what lacks before it is a piece full of
            gaps; None for a file that ends where its last batch does.
    """
    view = memoryview(data)
    stop = len(data) if end is None else end
    pieces: list[Piece] = []
    position = SECTOR_BYTES
    while position < stop:
        piece = _framed_piece(view, position, seed)
        if piece is None:
            following = _next_batch(data, view, position + SECTOR_BYTES, stop, seed)
            piece = _unframed_piece(data, position, following or stop, seed)
            if not piece.records and following is None and end is None:
                # Nothing here was ever bound to this file: its batches end here.
                break
        pieces.append(piece)
        position = piece.end
    return pieces


def _framed_piece(view: memoryview, position: int, seed: int) -> Piece | None:
    batch = decode_batch_header(view, position, seed)
    if batch is None:
        return None
    stop = position + batch.length
    records, gaps = _records(view, position + BATCH_HEADER_BYTES, stop, seed)
    return Piece(position, align_sector(stop), True, batch.clean, tuple(records), tuple(gaps))


def _unframed_piece(data: bytes, position: int, stop: int, seed: int) -> Piece:
    """Return what can be named in `[position, stop)`, whose batch header is bad."""
    records, gaps = _records(memoryview(data), position + BATCH_HEADER_BYTES, stop, seed)
    if records and gaps:
        last = records[-1].position + records[-1].length
        # A batch is padded with zeros, so zeros up to the next batch hide no record.
        if gaps == [last] and last + SECTOR_BYTES > stop and not any(data[last:stop]):
            gaps = []
    if not records:
        gaps = [position]
    return Piece(position, stop, False, False, tuple(records), tuple(gaps))


def _records(
    view: memoryview, start: int, stop: int, seed: int
) -> tuple[list[FoundRecord], list[int]]:
    records: list[FoundRecord] = []
    gaps: list[int] = []
    limit = min(stop, len(view))
    position = start
    while position < limit:
        header = decode_record_header(view, position, position, seed)
        if header is None:
            gaps.append(position)
            position = _next_record(view, position + 8, limit, seed)
            continue
        # The header's digest holds, so its length can be believed even if the body is bad.
        length = record_bytes(header.body_bytes)
        sound = position + length <= limit and body_of(view, position, header) is not None
        records.append(FoundRecord(position, length, header, sound))
        position += length
    if limit < stop and position < stop:
        # The file was cut short.
        gaps.append(position)
    return records, gaps


def _next_record(view: memoryview, start: int, stop: int, seed: int) -> int:
    data = view.obj
    assert isinstance(data, bytes)
    for position in _occurrences(data, RECORD_MAGIC, 8, start, stop - RECORD_HEADER_BYTES):
        if decode_record_header(view, position, position, seed) is not None:
            return position
    return stop


def _next_batch(data: bytes, view: memoryview, start: int, stop: int, seed: int) -> int | None:
    for position in _occurrences(data, BATCH_MAGIC, SECTOR_BYTES, start, stop - 1):
        if decode_batch_header(view, position, seed) is not None:
            return position
    return None


def _occurrences(data: bytes, magic: bytes, grain: int, start: int, last: int) -> Iterator[int]:
    position = data.find(magic, start, last + len(magic))
    while position >= 0:
        if position % grain == 0:
            yield position
        position = data.find(magic, position + 1, last + len(magic))
