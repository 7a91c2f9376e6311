"""Books of a journal's files: live ones, spares, and those on their way back to being spares.

Pure books; `planner` asks them and lays out what they want done.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from corfu.journal.format import (
    BATCH_HEADER_BYTES,
    BatchHeader,
    JournalSettings,
    align_sector,
    encode_batch_header,
    journal_name,
    spare_name,
)
from corfu.journal.state import Doubt
from corfu.ports import Allocate, DiskOperation, Remove, Rename, Sync, SyncFolder, WriteAt

_FREED_PER_CUT_MAX = 4
"""Removing a file takes long on some file systems, and commits wait behind it."""

_SPARES_EXTRA = 1
"""Freed files are kept as spares up to this many above the number wanted."""


@dataclass(frozen=True, slots=True)
class LiveFile:
    """A finished journal file: what is needed to check its records and to free it.

    `file_bytes` is 0 for a file that is missing: then there is nothing to free.
    """

    end: int | None
    seed: int
    file_bytes: int


@dataclass(frozen=True, slots=True)
class JournalStart:
    """What a journal starts from; made by recovery only."""

    next_serial: int = 1
    live: Mapping[int, LiveFile] = field(default_factory=dict)
    spares: Sequence[str] = ()
    next_spare: int = 2**63
    doubt: Doubt = field(default_factory=Doubt)
    doubt_serials: tuple[int, int] | None = None


@dataclass(slots=True)
class Part:
    """The part of the next cut that goes to one file; `spare` if that file is begun with it."""

    serial: int
    seed: int
    start: int
    spare: str | None
    header: bytes
    chunks: list[bytes] = field(default_factory=list)
    """Headers, bodies and paddings, put together once, when all of the cut is there."""
    count: int = 0
    """How many records they are."""
    length: int = BATCH_HEADER_BYTES

    @property
    def end(self) -> int:
        """Where the next record's header lies."""
        return self.start + self.length

    def operations(self) -> list[DiskOperation]:
        """Return what makes the part durable, beginning its file if that is new."""
        name = journal_name(self.serial)
        batch = BatchHeader(self.start, self.length, self.count)
        padding = bytes(align_sector(self.length) - self.length)
        head = encode_batch_header(batch, self.serial, self.seed)
        data = b"".join((self.header, head, *self.chunks, padding))
        position = self.start - len(self.header)
        if self.spare is None:
            return [WriteAt(name, position, data), Sync(name)]
        # The name is durable before the first byte bound to this serial is written. So the
        # highest name in the folder tells which serials may have been used, also after a power
        # cut, and no serial is ever used twice.
        return [Rename(self.spare, name), SyncFolder(), WriteAt(name, position, data), Sync(name)]


class Spares:
    """Empty files, ready to become journal files."""

    def __init__(self, settings: JournalSettings, names: Sequence[str], next_number: int) -> None:
        self._settings = settings
        self._names = list(names)
        self._next_number = next_number
        self._allocating = False
        self.refused = False
        """The last try to make one failed: there is no space for another."""

    def __len__(self) -> int:
        return len(self._names)

    def take(self) -> str:
        """Return the name of a spare, which then is none any more."""
        return self._names.pop(0)

    def add(self, name: str) -> None:
        """Take a file of the right length."""
        self._names.append(name)
        self.refused = False

    @property
    def enough(self) -> bool:
        """A freed file need not be kept."""
        return len(self._names) >= self._settings.spares_wanted + _SPARES_EXTRA

    def wanted(self) -> tuple[DiskOperation, ...] | None:
        """Return the operations that allocate one, None if none is wanted; see `Journal`."""
        if self._allocating or len(self._names) >= self._settings.spares_wanted:
            return None
        self._allocating = True
        name = spare_name(self._next_number)
        return Allocate(name, self._settings.file_bytes), Sync(name), SyncFolder()

    def ready(self) -> None:
        """Note that the one last wanted is durable."""
        assert self._allocating
        self._allocating = False
        self.refused = False
        self._names.append(spare_name(self._next_number))
        self._next_number += 1

    def failed(self) -> None:
        """Note that the one last wanted could not be made."""
        assert self._allocating
        self._allocating = False
        self.refused = True


class Releases:
    """Files that were released, on their way: stated, committed, then freed.

    A file may be freed only after a commit of a state record without it; and after the next mark,
    so that the state record stands before one.
    """

    def __init__(self) -> None:
        self.stale = False
        """The last state laid out does not say what is released or settled by now."""
        self.freed_files = 0
        self.freed_bytes = 0
        """What the operations handed out by `free` have freed."""
        self._sizes: dict[int, int] = {}
        self._released: list[int] = []
        self._stated: list[int] = []
        self._in_commit: list[int] = []
        self._freed: list[int] = []

    def __bool__(self) -> bool:
        """There are files that the next cut or mark can free."""
        return bool(self._freed)

    @property
    def pending(self) -> bool:
        """There are released files that no operation handed out has freed."""
        return bool(self._sizes)

    def add(self, serial: int, file_bytes: int) -> None:
        """Take a file that is no longer live; `file_bytes` 0 if it is not there."""
        self._sizes[serial] = file_bytes
        self._released.append(serial)
        self.stale = True

    def stated(self) -> None:
        """Note that a state record was laid out."""
        self.stale = False
        self._stated += self._released
        self._released = []

    def committing(self) -> None:
        """Note that all that was laid out is on its way to the disk."""
        self._in_commit, self._stated = self._stated, []

    def committed(self) -> None:
        """Note that it is durable."""
        self._freed += self._in_commit
        self._in_commit = []

    def free(self, settings: JournalSettings, spares: Spares) -> list[DiskOperation]:
        """Return what frees some of the files whose release is committed.

        To be carried out after the sync of a batch, or mark, laid out after that commit.
        """
        operations: list[DiskOperation] = []
        freed, self._freed = self._freed[:_FREED_PER_CUT_MAX], self._freed[_FREED_PER_CUT_MAX:]
        for serial in freed:
            size = self._sizes.pop(serial)
            if not size:
                continue
            self.freed_files += 1
            self.freed_bytes += size
            if size == settings.file_bytes and not spares.enough:
                operations.append(Rename(journal_name(serial), spare_name(serial)))
                spares.add(spare_name(serial))
            else:
                operations.append(Remove(journal_name(serial)))
        return operations


def replace_file(name: str, data: bytes) -> tuple[DiskOperation, ...]:
    """Return the operations that replace a whole file, durably when all are done.

    After a crash between them the file is either as before or holds exactly `data`.
    """
    temporary = f"{name}.tmp"
    return (
        Allocate(temporary, 0),
        WriteAt(temporary, 0, data),
        Sync(temporary),
        Rename(temporary, name),
        SyncFolder(),
    )
