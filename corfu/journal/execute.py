"""Carries out one disk operation on a `Disk`; the one place that knows what each means."""

from __future__ import annotations

from collections.abc import Iterable
from typing import assert_never

from corfu.ports import (
    Allocate,
    Disk,
    DiskOperation,
    Remove,
    Rename,
    Sync,
    SyncFolder,
    WriteAt,
)


def execute(disk: Disk, operation: DiskOperation) -> None:
    """Carry out `operation`; returns when the disk's own call has returned.

    Raises:
        OSError: From the disk; whether the operation took effect is then unknown.
    """
    match operation:
        case WriteAt(name, position, data):
            disk.write(name, position, data)
        case Sync(name):
            disk.sync(name)
        case SyncFolder():
            disk.sync_folder()
        case Rename(old, new):
            disk.rename(old, new)
        case Remove(name):
            disk.remove(name)
        case Allocate(name, length):
            disk.allocate(name, length)
        case _:
            assert_never(operation)


def execute_all(disk: Disk, operations: Iterable[DiskOperation]) -> None:
    """Carry out `operations` in order; the first error ends it and is raised."""
    for operation in operations:
        execute(disk, operation)
