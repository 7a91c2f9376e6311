"""An index file: what a finished journal file holds, so that a restart need not read that file.

One whole file with one digest, columns after a header, all little-endian; offsets ascend, so that
whole blocks of the index in memory are set at once. It is only a shortcut:
if it is missing, damaged, or of another format or incarnation, the journal file is read instead.
"""

from __future__ import annotations

import struct
import sys
from array import array
from dataclasses import dataclass, field

from xxhash import xxh3_64_intdigest

from corfu.types import Digest, EntryId, Incarnation, Offset, UnitId

from .index import SERIAL_AT
from .names import Name

_MAGIC = b"CORFUIDX"
_VERSION = 2
_HEADER = struct.Struct("<8sHxxIQ16sQQII")
_DIGEST = struct.Struct("<Q")
_PREFIX = "index-"
_NAME = struct.Struct("<QQQ16s")
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

    `offsets` ascend. `names` has those of the entries at and above `closed_until`, which others
    may ask for, and of every damaged offset (`JUNK_NAME` where it cannot be told).
    """

    serial: int
    closed_until: Offset
    offsets: array[int] = field(default_factory=lambda: array("Q"))
    cells: array[int] = field(default_factory=lambda: array("Q"))
    names: dict[Offset, Name] = field(default_factory=dict)
    runs: list[JunkRun] = field(default_factory=list)


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
        len(index.names),
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
            *(
                _NAME.pack(offset, name.digest, name.length, name.entry_id)
                for offset, name in index.names.items()
            ),
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
    _, _, named, *_, closed, count, runs = _HEADER.unpack_from(data)
    body = memoryview(data)[: -_DIGEST.size]
    names_at = _HEADER.size + 16 * count
    runs_at = names_at + _NAME.size * named
    if len(body) != runs_at + 8 * _RUN_WORDS * runs:
        return None
    index = FileIndex(serial, Offset(closed))
    index.offsets.frombytes(body[_HEADER.size : _HEADER.size + 8 * count])
    index.cells.frombytes(body[_HEADER.size + 8 * count : names_at])
    for offset, digest, length, entry_id in _NAME.iter_unpack(body[names_at:runs_at]):
        index.names[Offset(offset)] = Name(EntryId(entry_id), Digest(digest), length)
    words = array("Q")
    words.frombytes(body[runs_at:])
    starts = range(0, len(words), _RUN_WORDS)
    index.runs = [JunkRun(*words[word : word + _RUN_WORDS]) for word in starts]
    least, most = serial << SERIAL_AT, (serial + 1 << SERIAL_AT) - 1
    columns = (index.cells, [run.cell for run in index.runs])
    if any(column and not least <= min(column) <= max(column) <= most for column in columns):
        return None
    return index
