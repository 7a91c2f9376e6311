"""The files of a journal's folder: which there are, who wrote them, which is the newest.

Works a `Disk` directly, for recovery.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

from corfu.journal.files import LiveFile
from corfu.journal.format import (
    FILE_BYTES_MIN,
    RECORD_HEADER_BYTES,
    SECTOR_BYTES,
    CutFileError,
    ForeignFileError,
    JournalIdentity,
    JournalSettings,
    Origin,
    decode_file_header,
    file_seed,
    journal_serial,
    spare_name,
    spare_number,
)
from corfu.journal.scan import FoundRecord, Piece, scan_file
from corfu.ports import Disk
from corfu.types import Incarnation

READ_BYTES = 4096
"""Unit in which a file is read that cannot be read whole: what disks report as unreadable."""

_SPARE_ALLOCATED = 2**63
"""Spares made anew are numbered from here; freed files keep their serial as number."""


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A journal file that verifies, with its bytes and the positions that cannot be read."""

    serial: int
    incarnation: Incarnation
    origin: Origin
    seed: int
    data: bytes
    unreadable: tuple[int, ...] = ()


def body_in(file: StoredFile, record: FoundRecord) -> bytes:
    """Return the body of a record found in the file."""
    start = record.position + RECORD_HEADER_BYTES
    return file.data[start : start + record.header.body_bytes]


class JournalFolder:
    """The files of a folder, and which of them counts as the newest."""

    def __init__(self, disk: Disk, identity: JournalIdentity, settings: JournalSettings) -> None:
        self.disk = disk
        self.identity = identity
        self.settings = settings
        self.files: dict[int, str] = {}
        self.spares: list[str] = []
        self.next_spare = _SPARE_ALLOCATED
        for name in disk.names():
            serial = journal_serial(name)
            number = spare_number(name)
            if serial is not None:
                self.files[serial] = name
            elif number is not None:
                self.next_spare = max(self.next_spare, number + 1)
                self._take_spare(name)
            elif name.endswith(".tmp"):
                disk.remove(name)

    def _take_spare(self, name: str) -> None:
        # One that was being allocated when the process died, or of an older setting.
        if self.disk.size(name) == self.settings.file_bytes:
            self.spares.append(name)
        else:
            self.disk.remove(name)

    def free(self, serials: list[int]) -> list[str]:
        """Make spares of journal files that do not count, or remove them; returns the spares."""
        made: list[str] = []
        for serial in serials:
            name = self.files.pop(serial)
            if (
                len(self.spares) + len(made) <= self.settings.spares_wanted
                and self.disk.size(name) == self.settings.file_bytes
            ):
                self.disk.rename(name, spare_name(serial))
                made.append(spare_name(serial))
            else:
                self.disk.remove(name)
        return made

    def find_newest(self) -> tuple[StoredFile, list[Piece]] | None:
        """Return the newest file that counts and its pieces, None if there is none.

        A newer file in which nothing verifies was being begun: no sync of it ever ended, so
        nothing in it was acknowledged. A file of a recovery counts only if that recovery wrote
        its last record: it holds nothing but copies, and what it copied is still there.

        Raises:
            CutFileError: That file, or a newer one, lacks its end.
        """
        for serial in sorted(self.files, reverse=True):
            self._refuse_cut(serial)
            file = self.open(serial)
            if file is None:
                continue
            pieces = scan_file(file.data, file.seed, None)
            if pieces and not abandoned(file, pieces):
                return file, pieces
        return None

    def open(self, serial: int) -> StoredFile | None:
        """Read and identify a journal file; None if nothing in it is bound to that serial.

        Raises:
            ForeignFileError: It was written by somebody else.
        """
        name = self.files[serial]
        data, unreadable = self._read(name)
        writer = self._writer(name, serial, data[:SECTOR_BYTES])
        if writer is not None:
            incarnation, origin = writer
            seed = file_seed(incarnation, serial, origin)
            return StoredFile(serial, incarnation, origin, seed, data, unreadable)
        # The header is bad, or the file was recycled and never got one: anything bound to the
        # serial tells who wrote it.
        for incarnation in self.identity.bounds():
            for origin in Origin:
                seed = file_seed(incarnation, serial, origin)
                if scan_file(data, seed, None):
                    return StoredFile(serial, incarnation, origin, seed, data, unreadable)
        return None

    def header_of(self, serial: int) -> LiveFile | None:
        """Return what the header alone tells of a file (its end unknown), None if it is bad."""
        name = self.files[serial]
        try:
            sector = self.disk.read(name, 0, SECTOR_BYTES)
        except OSError:
            # The caller then reads all of the file, and reports what it finds there.
            return None
        writer = self._writer(name, serial, sector)
        if writer is None:
            return None
        return LiveFile(None, file_seed(writer[0], serial, writer[1]), self.disk.size(name))

    def _refuse_cut(self, serial: int) -> None:
        """Refuse one of the newest files that is shorter than it was made.

        A file has all its length, synced, before it gets its name, and keeps it: no crash takes
        the end away. What stood there may have been acknowledged, and without it the rest looks
        whole: its batches seem to end earlier. The end of an older file is known; it is damage.
        """
        name = self.files[serial]
        length = self.disk.size(name)
        made = FILE_BYTES_MIN
        with contextlib.suppress(OSError):
            # The header that a recycled file still has tells its length as well.
            header = decode_file_header(name, self.disk.read(name, 0, SECTOR_BYTES))
            made = FILE_BYTES_MIN if header is None else header.file_bytes
        if length < made:
            raise CutFileError(name, length, made)

    def _writer(self, name: str, serial: int, sector: bytes) -> tuple[Incarnation, Origin] | None:
        header = decode_file_header(name, sector)
        # A sound header of another serial is what a recycled file begins with.
        if header is None or header.serial != serial:
            return None
        identity = self.identity
        if header.cluster != identity.cluster:
            raise ForeignFileError(name, f"cluster {header.cluster.hex()}")
        if (header.owner_kind, header.owner_id) != (identity.owner_kind, identity.owner_id):
            raise ForeignFileError(name, f"owner {header.owner_kind}/{header.owner_id}")
        if header.incarnation not in identity.bounds():
            raise ForeignFileError(name, f"unknown incarnation {header.incarnation.hex()}")
        return header.incarnation, header.origin

    def _read(self, name: str) -> tuple[bytes, tuple[int, ...]]:
        """Return a file's bytes, zeros for what cannot be read, and where that is."""
        size = self.disk.size(name)
        try:
            return self.disk.read(name, 0, size), ()
        except OSError:
            chunks: list[bytes] = []
            unreadable: list[int] = []
            for position in range(0, size, READ_BYTES):
                length = min(READ_BYTES, size - position)
                try:
                    chunks.append(self.disk.read(name, position, length))
                except OSError:
                    # Reported as damage or doubt by whoever misses what stood here.
                    unreadable.append(position)
                    chunks.append(bytes(length))
            return b"".join(chunks), tuple(unreadable)


def abandoned(file: StoredFile, pieces: list[Piece]) -> bool:
    """Return whether the file is of a recovery that was not completed.

    A second batch is only written after the recovery has returned, so with it the file counts
    whatever is bad in it. With one batch that is not whole it does not matter whether the
    recovery returned: nothing was acknowledged since, and the files that it copied from are
    freed only after a second batch. So they still hold all.
    """
    if file.origin is not Origin.RECOVERED or len(pieces) > 1:
        return False
    return not pieces[0].completes_recovery
