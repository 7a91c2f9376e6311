"""Who a unit is: the identity file of its data folder."""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace

from xxhash import xxh3_64_intdigest

from corfu import schema
from corfu.errors import CorfuError, CorruptionError, WireError
from corfu.journal.execute import execute_all
from corfu.journal.files import replace_file
from corfu.journal.format import JournalIdentity
from corfu.ports import Disk, DiskOperation
from corfu.types import ClusterId, Incarnation, Offset, SyncMode, UnitId

IDENTITY_NAME = "identity"
FORMAT_VERSION = 1
OWNER_KIND = 1
"""Tells a unit's journal files from a replica's."""

_MAGIC = b"CORFUUNI"
_HEADER = struct.Struct("<8sHQ")


class FolderError(CorfuError):
    """The data folder cannot be used as it is; nothing was changed."""


class LeftError(FolderError):
    """The unit left the cluster, and nothing that the folder holds counts any more."""


@dataclass(frozen=True, slots=True)
class EarlierIncarnation:
    """An incarnation that left; of what it wrote, offsets below `bound` count."""

    incarnation: Incarnation
    bound: Offset


@dataclass(frozen=True, slots=True)
class UnitIdentity:
    """Whose folder it is.

    `boot_id` and `clean` matter with `SyncMode.OS` alone: under which boot of the machine the
    folder was last used, and whether it was stopped cleanly (then all of it was synced).
    """

    cluster: ClusterId
    unit: UnitId
    incarnation: Incarnation
    earlier: tuple[EarlierIncarnation, ...]
    sync: SyncMode
    boot_id: str
    clean: bool

    def may_have_lost(self, boot_id: str) -> bool:
        """Tell whether a stop of the machine may have taken what the unit acknowledged.

        In sync mode `os` that was in the page cache, which survives a kill of the process alone.
        """
        return self.sync is SyncMode.OS and not self.clean and self.boot_id != boot_id

    def reborn(self, incarnation: Incarnation, bound: Offset) -> UnitIdentity:
        """Return the same folder under a new incarnation; below `bound` the old one counts.

        What the old one took over from still earlier ones counts below their bounds alone.
        """
        earlier = (*self.earlier, EarlierIncarnation(self.incarnation, bound))
        return replace(self, incarnation=incarnation, earlier=earlier)

    def journal_identity(self) -> JournalIdentity:
        """Return what the journal binds its files to."""
        bounds = {each.incarnation: int(each.bound) for each in self.earlier}
        return JournalIdentity(self.cluster, OWNER_KIND, self.unit, self.incarnation, bounds)


def identity_operations(identity: UnitIdentity) -> tuple[DiskOperation, ...]:
    """Return what replaces the identity file, durably and in one step."""
    body = schema.pack(identity)
    data = _HEADER.pack(_MAGIC, FORMAT_VERSION, xxh3_64_intdigest(body)) + body
    return tuple(replace_file(IDENTITY_NAME, data))


def write_identity(disk: Disk, identity: UnitIdentity) -> None:
    """Replace the identity file, durably."""
    execute_all(disk, identity_operations(identity))


def read_identity(disk: Disk) -> UnitIdentity:
    """Return whose folder it is.

    Raises:
        FolderError: No unit was formatted here, or by a newer program.
        CorruptionError: The file is damaged.
    """
    if IDENTITY_NAME not in disk.names():
        # Never made anew: a unit that forgot its data would answer EMPTY for what it held.
        raise FolderError("no storage unit was formatted in this folder")
    data = disk.read(IDENTITY_NAME, 0, disk.size(IDENTITY_NAME))
    if len(data) < _HEADER.size or not data.startswith(_MAGIC):
        raise CorruptionError(IDENTITY_NAME, "byte 0 on: not the identity of a storage unit")
    _, version, digest = _HEADER.unpack_from(data)
    if version != FORMAT_VERSION:
        raise FolderError(
            f"{IDENTITY_NAME}: byte 8 on: format version {version}; this program knows "
            f"{FORMAT_VERSION}"
        )
    body = data[_HEADER.size :]
    if digest != xxh3_64_intdigest(body):
        raise CorruptionError(
            IDENTITY_NAME, f"damaged: bytes {_HEADER.size} to {len(data)} fail their digest"
        )
    try:
        return schema.unpack(UnitIdentity, body)
    except WireError as error:
        raise CorruptionError(IDENTITY_NAME, str(error)) from error
