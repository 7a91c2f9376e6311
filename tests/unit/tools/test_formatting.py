"""Data folders that the tools make."""

from __future__ import annotations

from pathlib import Path

from corfu.runtime.disk import FileDisk
from corfu.storage_units.identity import UnitIdentity, read_identity
from corfu.tools.formatting import format_folders, format_unit_anew
from corfu.types import Address, SyncMode


def _identity(folder: Path) -> UnitIdentity:
    disk = FileDisk(folder)
    try:
        return read_identity(disk)
    finally:
        disk.close()


def test_format_unit_anew_keeps_who_it_is_and_nothing_else(tmp_path: Path) -> None:
    host = "127.0.0.1"
    format_folders(
        tmp_path,
        sequencers={1: Address(host, 9001)},
        units={1: Address(host, 9101)},
        chains=[[1]],
        sync=SyncMode.OS,
    )
    folder = tmp_path / "storage-1"
    (folder / "left-behind").write_text("of the old disk")
    before = _identity(folder)
    format_unit_anew(folder)
    after = _identity(folder)
    assert (after.cluster, after.unit, after.sync) == (before.cluster, before.unit, SyncMode.OS)
    assert after.incarnation != before.incarnation
    assert after.earlier == ()
    assert not (folder / "left-behind").exists()
    assert {path.name for path in tmp_path.iterdir()} == {"sequencer-1", "storage-1"}
