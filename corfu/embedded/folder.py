"""The data folder of an embedded log: its identity, its formatting, its recovery.

Works the `Disk` port, before the log serves; may be cut short at any call and started again.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

import xxhash

from corfu.embedded.store import KIND_STATE, LocalStore, Replayer
from corfu.errors import CorruptionError, UsageError
from corfu.journal.execute import execute_all
from corfu.journal.files import replace_file
from corfu.journal.format import (
    JournalError,
    JournalIdentity,
    JournalSettings,
    journal_serial,
    spare_number,
)
from corfu.journal.recovery import allocate_spares, create, recover
from corfu.ports import Disk
from corfu.types import ClusterId, Incarnation

LOCK_NAME = "lock"
IDENTITY_NAME = "identity"

OWNER_KIND = 3
"""In the journal's identity: 1 is a storage unit, 2 a replica, 3 an embedded log."""

_IDENTITY = struct.Struct(">8sHB5x8s16sQ")
_MAGIC = b"CORFULOG"
_VERSION = 1
_FORMATTING, _FORMATTED = 0, 1


def open_store(
    disk: Disk, path: str, settings: JournalSettings, entropy: Callable[[int], bytes]
) -> LocalStore:
    """Return the store in a folder, formatted if the folder is empty; all of it durable.

    Args:
        disk: The folder.
        path: Its name, for errors.
        settings: Sizes of the journal.
        entropy: Random bytes, for the identity of a new folder.

    Raises:
        UsageError: The folder holds other files.
        CorruptionError: The identity fails its digest, or the journal cannot be used.
        OSError: From the disk.
    """
    names = [name for name in disk.names() if name != LOCK_NAME]
    if IDENTITY_NAME not in names:
        strange = [name for name in names if not name.endswith(".tmp")]
        if strange:
            raise UsageError(f"{path} is no log's folder: it holds {strange[0]!r}")
        identity = _new_identity(entropy)
        _write_identity(disk, identity, _FORMATTING)
        return _format(disk, path, settings, identity)
    identity, state = _read_identity(disk, path)
    if state == _FORMATTING:
        # It was cut short, so nothing in it was ever acknowledged: again from the start.
        for name in names:
            if journal_serial(name) is not None or spare_number(name) is not None:
                disk.remove(name)
        return _format(disk, path, settings, identity)
    try:
        return _recover(disk, settings, identity)
    except JournalError as error:
        raise CorruptionError(path, str(error)) from error


def _format(
    disk: Disk, path: str, settings: JournalSettings, identity: JournalIdentity
) -> LocalStore:
    store = LocalStore()
    try:
        store.begin(create(disk, identity, settings, store.opening))
    except JournalError as error:
        raise CorruptionError(path, str(error)) from error
    # Only now: a folder that says it is formatted and has no journal has lost it.
    _write_identity(disk, identity, _FORMATTED)
    return store


def _recover(disk: Disk, settings: JournalSettings, identity: JournalIdentity) -> LocalStore:
    store = LocalStore()
    replayer = Replayer()
    used = replayer.opening
    recovered = recover(disk, identity, settings, replay=replayer.replay, opening=lambda: used())
    named = [damage.header for damage in recovered.damage if damage.header is not None]
    # A bad state record is as one that cannot be named: it may have been the only one to tell of
    # offsets that were called lost, and those are never given again.
    unnamed = [
        (journal_serial(damage.file) or 0, damage.position)
        for damage in recovered.damage
        if damage.header is None or damage.header.kind == KIND_STATE
    ]
    doubt = recovered.doubt
    unknown = doubt.unknown or any(header.kind == KIND_STATE for header in doubt.named)
    # A chain of one: nobody else can tell whether what is in doubt was acknowledged. So it is
    # called lost, never unwritten.
    replayer.take_damage([*named, *doubt.named], unnamed, unknown=unknown)
    # Later journal files begin with the store's state, no longer with the replayer's.
    used = store.opening
    if not store.has_state_room(recovered.journal):
        # What was written again took the last spare, and a crash the others.
        allocate_spares(disk, recovered.journal)
    store.resume(recovered, replayer)
    execute_all(disk, store.journal.cut())
    store.journal.committed()
    store.committed()
    store.free()
    return store


def _new_identity(entropy: Callable[[int], bytes]) -> JournalIdentity:
    return JournalIdentity(ClusterId(entropy(8)), OWNER_KIND, 0, Incarnation(entropy(16)))


def _write_identity(disk: Disk, identity: JournalIdentity, state: int) -> None:
    fields = _IDENTITY.pack(_MAGIC, _VERSION, state, identity.cluster, identity.incarnation, 0)[:-8]
    digest = struct.pack(">Q", xxhash.xxh3_64_intdigest(fields))
    execute_all(disk, replace_file(IDENTITY_NAME, fields + digest))


def _read_identity(disk: Disk, path: str) -> tuple[JournalIdentity, int]:
    name = f"{path}/{IDENTITY_NAME}"
    data = disk.read(IDENTITY_NAME, 0, _IDENTITY.size + 1)
    if len(data) != _IDENTITY.size:
        raise CorruptionError(name, f"{len(data)} bytes where {_IDENTITY.size} are wanted")
    magic, version, state, cluster, incarnation, digest = _IDENTITY.unpack(data)
    if magic != _MAGIC or digest != xxhash.xxh3_64_intdigest(data[:-8]):
        raise CorruptionError(name, "its digest is wrong")
    if version != _VERSION:
        raise CorruptionError(name, f"format version {version}; this program knows {_VERSION}")
    return JournalIdentity(ClusterId(cluster), OWNER_KIND, 0, Incarnation(incarnation)), state
