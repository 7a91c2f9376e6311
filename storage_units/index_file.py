"""An index file: what a finished journal file holds, so that a restart need not read that file.

One whole file with one digest, columns after a header, all little-endian. It is only a shortcut:
if it is missing, damaged, or of another format or incarnation, the journal file is read instead.
"""

from __future__ import annotations

import struct
import sys
from array import array
from dataclasses import dataclass, field

from xxhash import xxh3_64_intdigest

from corfu.types import Incarnation, Offset, UnitId

from .index import SERIAL_AT

_MAGIC = b"CORFUIDX"
_VERSION = 1
_HEADER = struct.Struct("<8sHxxIQ16sQQII")
_DIGEST = struct.Struct("<Q")
_PREFIX = "index-"
_ID_BYTES = 16
_RUN_WORDS = 4

assert sys.byteorder == "little", "index files hold arrays as they lie in memory"


@dataclass(frozen=True, slots=True)
class JunkRun:
    """Every `step`-th offset of `[start, end)`, from `start`, is junk by one record at `cell`."""

    start: int
    end: int
    step: int
    cell: int


@dataclass(slots=True)
class FileIndex:
    """What one journal file holds.

    `ids` (16 bytes an offset), `digests` and `lengths` name the entries; they are zero for
    offsets below `closed_until`, whose names nobody compares any more.
    """

    serial: int
    closed_until: Offset
    offsets: array[int] = field(default_factory=lambda: array("Q"))
    cells: array[int] = field(default_factory=lambda: array("Q"))
    digests: array[int] = field(default_factory=lambda: array("Q"))
    lengths: array[int] = field(default_factory=lambda: array("Q"))
    ids: bytearray = field(default_factory=bytearray)
    runs: list[JunkRun] = field(default_factory=list)

    def add(self, offset: int, cell: int, entry_id: bytes, digest: int, length: int) -> None:
        """Add one offset."""
        self.offsets.append(offset)
        self.cells.append(cell)
        self.ids += entry_id
        self.digests.append(digest)
        self.lengths.append(length)


def index_name(serial: int) -> str:
    """Return the name of the index file of a journal file."""
    return f"{_PREFIX}{serial:016x}"


def index_serial(name: str) -> int | None:
    """Return the serial in an index file's name, None for any other name."""
    digits = name.removeprefix(_PREFIX)
    if digits == name or len(digits) != 16 or set(digits) - set("0123456789abcdef"):
        return None
    return int(digits, 16)


def encode_index(index: FileIndex, unit: UnitId, incarnation: Incarnation) -> bytes:
    """Return the bytes of an index file."""
    header = _HEADER.pack(
        _MAGIC,
        _VERSION,
        0,
        unit,
        incarnation,
        index.serial,
        index.closed_until,
        len(index.offsets),
        len(index.runs),
    )
    runs = array("Q", [w for r in index.runs for w in (r.start, r.end, r.step, r.cell)])
    body = b"".join(
        (
            header,
            index.offsets.tobytes(),
            index.cells.tobytes(),
            index.digests.tobytes(),
            index.lengths.tobytes(),
            index.ids,
            runs.tobytes(),
        )
    )
    return body + _DIGEST.pack(xxh3_64_intdigest(body))


def is_sound(data: bytes, serial: int, unit: UnitId, incarnation: Incarnation) -> bool:
    """Tell whether an index file is whole, and of this journal file and writer."""
    if len(data) < _HEADER.size + _DIGEST.size or not data.startswith(_MAGIC):
        return False
    body = memoryview(data)[: -_DIGEST.size]
    (digest,) = _DIGEST.unpack_from(data, len(body))
    if digest != xxh3_64_intdigest(body):
        return False
    _, version, _, owner, writer, of, _, _, _ = _HEADER.unpack_from(data)
    return bool((version, owner, writer, of) == (_VERSION, unit, incarnation, serial))


def decode_index(
    data: bytes, serial: int, unit: UnitId, incarnation: Incarnation
) -> FileIndex | None:
    """Return what an index file says; None if it cannot be used for any reason."""
    if not is_sound(data, serial, unit, incarnation):
        return None
    *_, closed, count, runs = _HEADER.unpack_from(data)
    body = memoryview(data)[: -_DIGEST.size]
    if len(body) != _HEADER.size + count * (4 * 8 + _ID_BYTES) + runs * 8 * _RUN_WORDS:
        return None
    index = FileIndex(serial, Offset(closed))
    at = _HEADER.size
    for column in (index.offsets, index.cells, index.digests, index.lengths):
        column.frombytes(body[at : at + 8 * count])
        at += 8 * count
    index.ids = bytearray(body[at : at + _ID_BYTES * count])
    words = array("Q")
    words.frombytes(body[at + _ID_BYTES * count :])
    starts = range(0, len(words), _RUN_WORDS)
    index.runs = [JunkRun(*words[word : word + _RUN_WORDS]) for word in starts]
    cells = (*index.cells, *(run.cell for run in index.runs))
    if any(cell >> SERIAL_AT != serial for cell in cells):
        return None
    return index
