"""How a journal lies on disk: values, their bytes, and the digests that bind them to their place.

A journal file is one file header sector, then batches. A batch starts at a sector and is a batch
header followed by records, each a record header and a body padded to 8 bytes. No sector that an
earlier batch touched is ever written again, so a torn write can only hurt the batch being written.

All integers are little-endian. Every header digest is an xxh3_64 seeded with the file's seed (of
incarnation, serial and origin) plus the position in the file. So a block that is stale (the file
was recycled), misplaced or foreign fails, even if it was sound where it belongs. The digest of a
body is plain, so that it can be compared with other copies; the header that holds it is bound.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from xxhash import xxh3_64_intdigest

from corfu.types import ClusterId, Incarnation

SECTOR_BYTES = 512
"""What a disk writes atomically, at the least; batches start at a multiple of it."""

FILE_BYTES_MIN = 4096
"""No journal file is shorter."""

FORMAT_VERSION = 1

KIND_OWN_MIN = 0xF0
"""Record kinds from here on are the journal's own; owners use the kinds below."""

_U64 = 2**64 - 1
_ZEROS = bytes(8)
_FILE_MAGIC = b"CORFUJNL"
_FILE = struct.Struct("<8sHBBIQ8s16sQQ")
_DIGEST = struct.Struct("<Q")
_FILE_DIGEST_AT = SECTOR_BYTES - _DIGEST.size

BATCH_MAGIC = b"\xb7CJB"
_BATCH = struct.Struct("<4sHHIIQQQ")
BATCH_HEADER_BYTES = _BATCH.size
_FLAG_CLEAN = 1

RECORD_MAGIC = b"\xe5CJR"
_RECORD = struct.Struct("<4sBBHIIQQ16sQQ")
_RECORD_FIELDS = struct.Struct("<4sBBHIIQQ16sQ")
RECORD_HEADER_BYTES = _RECORD.size
_FLAG_OPENING = 1

_JOURNAL_PREFIX = "journal-"
_SPARE_PREFIX = "spare-"


class Origin(enum.IntEnum):
    """Why a journal file was begun; part of the seed, so any sound header in the file tells it."""

    ROTATED = 1
    """The file before it was full, and synced before this one was begun."""
    RECOVERED = 2
    """By a recovery (or at formatting): counts only once that recovery is complete."""


class JournalError(Exception):
    """The journal cannot be used as it is; the operator is needed."""


class ForeignFileError(JournalError):
    """A journal file was written by somebody else: another cluster, owner or incarnation."""

    def __init__(self, file: str, reason: str) -> None:
        super().__init__(f"{file}: {reason}")
        self.file = file


class JournalLostError(JournalError):
    """No journal file counts although the folder was formatted."""


class CutFileError(JournalError):
    """The newest journal file is shorter than it was made: what it held last is gone."""

    def __init__(self, file: str, length: int, made: int) -> None:
        super().__init__(f"{file}: cut short at byte {length}, it was made with at least {made}")
        self.file = file


class JournalFullError(JournalError):
    """A record needs a new journal file and there is no spare; nothing was appended."""


@dataclass(frozen=True, slots=True)
class JournalIdentity:
    """Whose journal it is.

    Attributes:
        cluster: 8 bytes.
        owner_kind: Which kind of process owns the folder, u8.
        owner_id: The unit id or replica id.
        incarnation: The current one; it writes all new files.
        incarnations: Every incarnation whose files may stand in the folder, with its bound: of
            the records with an offset (`JournalSettings.offset_kinds`) that it wrote, those below
            the bound count. None: all count. The current incarnation need not be listed.
    """

    cluster: ClusterId
    owner_kind: int
    owner_id: int
    incarnation: Incarnation
    incarnations: Mapping[Incarnation, int | None] = field(default_factory=dict)

    def bounds(self) -> dict[Incarnation, int | None]:
        """Return the bound of every known incarnation, the current one first."""
        return {self.incarnation: None, **self.incarnations}


@dataclass(frozen=True, slots=True)
class JournalSettings:
    """Sizes of the journal.

    Attributes:
        file_bytes: Length of a new journal file; a multiple of 512, at least 4,096.
        spares_wanted: How many empty files are kept ready, at least 1.
        offset_kinds: Record kinds whose offset is a place in the log (see `JournalIdentity`).
    """

    file_bytes: int = 32 * 1024 * 1024
    spares_wanted: int = 2
    offset_kinds: frozenset[int] = frozenset()

    def __post_init__(self) -> None:
        if self.file_bytes % SECTOR_BYTES or not FILE_BYTES_MIN <= self.file_bytes < 2**32:
            raise ValueError(f"file_bytes must be whole sectors in [4096, 2**32): {self}")
        if self.spares_wanted < 1:
            raise ValueError(f"spares_wanted must be at least 1: {self}")


class JournalRecord(NamedTuple):
    """What an owner appends; `kind` and `flags` are u8 and the owner's to define.

    `body_digest` is the plain xxh3_64 of the body if the owner has it already. (A tuple, as are
    the next two: one is made for each record, and they are made in a third of the time.)
    """

    kind: int
    flags: int
    offset: int
    epoch: int
    entry_id: bytes
    body: bytes
    body_digest: int | None = None


class RecordHeader(NamedTuple):
    """A record without its body: enough to name it when the body is bad.

    `body_digest` is the plain xxh3_64 of the body. `opening` says that the record repeats the
    owner's small state at the start of a journal file.
    """

    kind: int
    flags: int
    offset: int
    epoch: int
    entry_id: bytes
    body_bytes: int
    body_digest: int
    opening: bool = False


class Place(NamedTuple):
    """Where a record lies: `length` bytes, its header included, in the file of that serial."""

    serial: int
    position: int
    length: int


@dataclass(frozen=True, slots=True)
class FileHeader:
    """The first sector of a journal file."""

    owner_kind: int
    owner_id: int
    cluster: bytes
    incarnation: Incarnation
    serial: int
    origin: Origin
    file_bytes: int


@dataclass(frozen=True, slots=True)
class BatchHeader:
    """Opens a batch, and is the mark: all that lies before it was synced.

    `length` is that of the batch with this header, without the padding to the next sector.
    """

    position: int
    length: int
    count: int
    clean: bool = False


class DamagedRecordError(Exception):
    """A stored record fails its digest; `header` names it if the header is still sound."""

    def __init__(self, file: str, position: int, header: RecordHeader | None) -> None:
        super().__init__(f"{file} at {position}: damaged record, header {header or 'bad too'}")
        self.file = file
        self.position = position
        self.header = header


def journal_name(serial: int) -> str:
    """Return the name of the journal file with that serial."""
    return f"{_JOURNAL_PREFIX}{serial:016x}"


def spare_name(number: int) -> str:
    """Return the name of a spare."""
    return f"{_SPARE_PREFIX}{number:016x}"


def journal_serial(name: str) -> int | None:
    """Return the serial in a journal file's name, None for any other name."""
    return _number(name, _JOURNAL_PREFIX)


def spare_number(name: str) -> int | None:
    """Return the number in a spare's name, None for any other name."""
    return _number(name, _SPARE_PREFIX)


def _number(name: str, prefix: str) -> int | None:
    digits = name.removeprefix(prefix)
    if digits == name or len(digits) != 16 or set(digits) - set("0123456789abcdef"):
        return None
    return int(digits, 16)


def align_sector(position: int) -> int:
    """Return the first sector boundary at or after `position`."""
    return -(-position // SECTOR_BYTES) * SECTOR_BYTES


def record_bytes(body_bytes: int) -> int:
    """Return what a record with that body takes on disk."""
    return RECORD_HEADER_BYTES + (body_bytes + 7 & ~7)


def file_seed(incarnation: bytes, serial: int, origin: Origin) -> int:
    """Return the number that binds digests to one journal file and to who wrote it."""
    return xxh3_64_intdigest(struct.pack("<16sQB", incarnation, serial, origin))


def encode_file_header(header: FileHeader) -> bytes:
    """Return the first sector of a journal file."""
    fields = _FILE.pack(
        _FILE_MAGIC,
        FORMAT_VERSION,
        header.owner_kind,
        header.origin,
        0,
        header.owner_id,
        header.cluster,
        header.incarnation,
        header.serial,
        header.file_bytes,
    )
    sector = fields.ljust(_FILE_DIGEST_AT, b"\0")
    return sector + _DIGEST.pack(xxh3_64_intdigest(sector))


def decode_file_header(name: str, sector: bytes) -> FileHeader | None:
    """Return what the first sector says, None if its digest fails.

    Raises:
        ForeignFileError: The sector is sound and of a format that this code does not know.
    """
    if len(sector) < SECTOR_BYTES or not sector.startswith(_FILE_MAGIC):
        return None
    (digest,) = _DIGEST.unpack_from(sector, _FILE_DIGEST_AT)
    if digest != xxh3_64_intdigest(sector[:_FILE_DIGEST_AT]):
        return None
    _, version, kind, origin, _, owner, cluster, incarnation, serial, size = _FILE.unpack_from(
        sector
    )
    if version != FORMAT_VERSION:
        raise ForeignFileError(name, f"format version {version}, known is {FORMAT_VERSION}")
    return FileHeader(kind, owner, cluster, Incarnation(incarnation), serial, Origin(origin), size)


def encode_batch_header(header: BatchHeader, serial: int, seed: int) -> bytes:
    """Return the bytes of a batch header, bound to its file and position."""
    fields = _BATCH.pack(
        BATCH_MAGIC,
        _FLAG_CLEAN if header.clean else 0,
        0,
        header.count,
        header.length,
        serial,
        header.position,
        0,
    )[: -_DIGEST.size]
    return fields + _DIGEST.pack(xxh3_64_intdigest(fields, seed + header.position & _U64))


def decode_batch_header(data: memoryview, position: int, seed: int) -> BatchHeader | None:
    """Return the batch header at `position` of a file, None if there is no sound one."""
    end = position + BATCH_HEADER_BYTES
    if end > len(data) or data[position : position + 4] != BATCH_MAGIC:
        return None
    _, flags, _, count, length, _, at, digest = _BATCH.unpack_from(data, position)
    fields = data[position : end - _DIGEST.size]
    if digest != xxh3_64_intdigest(fields, seed + position & _U64) or at != position:
        return None
    return BatchHeader(position, length, count, bool(flags & _FLAG_CLEAN))


def encode_record_header(
    record: JournalRecord, position: int, seed: int, *, opening: bool
) -> bytes:
    """Return the header of a record, bound to its file and position."""
    body, body_digest = record.body, record.body_digest
    fields = _RECORD_FIELDS.pack(
        RECORD_MAGIC,
        record.kind,
        record.flags,
        _FLAG_OPENING if opening else 0,
        len(body),
        0,
        record.offset,
        record.epoch,
        record.entry_id,
        xxh3_64_intdigest(body) if body_digest is None else body_digest,
    )
    return fields + _DIGEST.pack(xxh3_64_intdigest(fields, seed + position & _U64))


def encode_record(record: JournalRecord, position: int, seed: int, *, opening: bool) -> bytes:
    """Return the bytes of a record, padded, bound to its file and position."""
    header = encode_record_header(record, position, seed, opening=opening)
    return b"".join((header, record.body, body_padding(len(record.body))))


def body_padding(body_bytes: int) -> bytes:
    """Return what follows a body of that length, up to the next record."""
    return _ZEROS[: -body_bytes % 8]


def decode_record_header(
    data: memoryview, at: int, position: int, seed: int
) -> RecordHeader | None:
    """Return the record header at index `at` of `data`, None if there is no sound one.

    Args:
        data: Bytes of a journal file.
        at: Index into `data`.
        position: The same place as a position in the file.
        seed: The file's seed.
    """
    end = at + RECORD_HEADER_BYTES
    if end > len(data) or data[at : at + 4] != RECORD_MAGIC:
        return None
    _, kind, flags, own, body_bytes, _, offset, epoch, entry_id, body_digest, digest = (
        _RECORD.unpack_from(data, at)
    )
    if digest != xxh3_64_intdigest(data[at : end - _DIGEST.size], seed + position & _U64):
        return None
    opening = bool(own & _FLAG_OPENING)
    return RecordHeader(kind, flags, offset, epoch, entry_id, body_bytes, body_digest, opening)


def body_of(data: memoryview, at: int, header: RecordHeader) -> memoryview | None:
    """Return the body that follows the header at index `at`, None if it fails its digest."""
    start = at + RECORD_HEADER_BYTES
    body = data[start : start + header.body_bytes]
    if len(body) < header.body_bytes or xxh3_64_intdigest(body) != header.body_digest:
        return None
    return body
