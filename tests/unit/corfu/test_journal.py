"""The planner: places, operations, files, spares."""

from __future__ import annotations

import pytest

from corfu.journal.execute import execute_all
from corfu.journal.files import replace_file
from corfu.journal.format import (
    SECTOR_BYTES,
    DamagedRecordError,
    JournalError,
    JournalFullError,
    JournalSettings,
    Place,
    journal_name,
    journal_serial,
    record_bytes,
    spare_name,
    spare_number,
)
from corfu.ports import Allocate, DiskOperation, Remove, Rename, Sync, SyncFolder, WriteAt
from tests.unit.corfu.fake_disk import FakeDisk
from tests.unit.corfu.journal_folder import Folder, data_record


def kinds(operations: tuple[DiskOperation, ...]) -> list[str]:
    return [type(operation).__name__ for operation in operations]


def test_cut_of_one_file_is_one_write_and_one_sync() -> None:
    folder = Folder()
    journal = folder.create()
    places = [journal.append(data_record(offset)) for offset in range(3)]
    operations = journal.cut()
    assert kinds(operations) == ["WriteAt", "Sync"]
    write = operations[0]
    assert isinstance(write, WriteAt)
    assert write.position % SECTOR_BYTES == len(write.data) % SECTOR_BYTES == 0
    assert [place.length for place in places] == [record_bytes(100)] * 3


def test_cut_with_nothing_appended_is_empty() -> None:
    folder = Folder()
    journal = folder.create()
    assert not journal.dirty
    assert journal.cut() == ()
    assert not journal.committing


def test_batches_never_share_a_sector() -> None:
    folder = Folder(settings=JournalSettings(file_bytes=16384))
    journal = folder.create()
    ends: list[int] = []
    for offset in range(3):
        journal.append(data_record(offset, 30))
        write = journal.cut()[0]
        journal.committed()
        assert isinstance(write, WriteAt)
        assert not ends or write.position >= ends[-1]
        ends.append(write.position + len(write.data))


def test_new_file_is_named_durably_before_it_is_written() -> None:
    folder = Folder()
    journal = folder.create()
    first = journal.serial
    while journal.serial == first:
        journal.append(data_record(1, 700))
    operations = journal.cut()
    assert kinds(operations) == ["WriteAt", "Sync", "Rename", "SyncFolder", "WriteAt", "Sync"]
    assert operations[1] == Sync(journal_name(first))
    rename = operations[2]
    assert isinstance(rename, Rename)
    assert rename.new == journal_name(first + 1)
    execute_all(folder.disk, operations)
    assert journal.drain_finished() == []
    journal.committed()
    assert journal.drain_finished() == [first]
    assert journal.drain_finished() == []
    assert journal.live == (first,)


def test_append_while_committing_goes_to_the_next_cut() -> None:
    folder = Folder()
    journal = folder.create()
    journal.append(data_record(0))
    operations = journal.cut()
    place = journal.append(data_record(1))
    assert journal.dirty
    assert journal.committing
    execute_all(folder.disk, operations)
    journal.committed()
    execute_all(folder.disk, journal.cut())
    journal.committed()
    assert journal.parse(place, folder.disk.read(*journal.locate(place))) == data_record(1)


def test_append_of_the_largest_record_fits_and_one_more_byte_never_does() -> None:
    folder = Folder()
    journal = folder.create()
    largest = journal.record_bytes_max() - record_bytes(0)
    largest -= largest % 8
    journal.append(data_record(0, largest - 64))
    with pytest.raises(ValueError, match="do not fit"):
        journal.append(data_record(1, 4096))


def test_append_without_a_spare_is_refused_and_changes_nothing() -> None:
    folder = Folder()
    journal = folder.create()
    offset = 0
    while journal.room(reserve=True) >= record_bytes(500):
        journal.append(data_record(offset, 500))
        offset += 1
    room = journal.room(reserve=True)
    with pytest.raises(JournalFullError):
        journal.append(data_record(offset, 500))
    assert journal.room(reserve=True) == room
    execute_all(folder.disk, journal.cut())
    journal.committed()
    assert len(folder.recover().records) == offset


def test_room_without_the_reserve_leaves_one_file() -> None:
    folder = Folder()
    journal = folder.create()
    offset = 0
    while journal.room(reserve=False) >= record_bytes(500):
        folder.commit(journal, data_record(offset, 500))
        offset += 1
    assert journal.spares == 1
    assert journal.room(reserve=True) >= journal.record_bytes_max()


def test_release_is_journalled_before_the_file_is_recycled() -> None:
    folder = Folder()
    journal = folder.create()
    first = journal.serial
    while journal.serial == first:
        folder.commit(journal, data_record(1, 700))
    journal.release(first)
    assert journal.dirty
    operations = journal.cut()
    assert kinds(operations) == ["WriteAt", "Sync"]
    execute_all(folder.disk, operations)
    journal.committed()
    assert journal.mark_wanted
    operations = journal.mark()
    assert kinds(operations) == ["WriteAt", "Sync", "Rename"]
    assert operations[2] == Rename(journal_name(first), spare_name(first))
    execute_all(folder.disk, operations)
    journal.committed()
    assert folder.recover().recovered.missing == ()


def test_release_with_spares_enough_removes_the_file() -> None:
    folder = Folder(settings=JournalSettings(file_bytes=4096, spares_wanted=1))
    journal = folder.create()
    offset = 0
    while len(journal.live) < 4:
        folder.spare(journal)
        folder.commit(journal, data_record(offset, 700))
        offset += 1
    folder.spare(journal)
    for serial in journal.live:
        journal.release(serial)
    folder.commit(journal)
    operations = journal.mark()
    assert kinds(operations).count("Remove") == 3
    assert kinds(operations).count("Rename") == 1
    assert isinstance(operations[-1], Remove)


def test_release_of_the_current_or_an_unknown_file_is_refused() -> None:
    journal = Folder().create()
    for serial in (journal.serial, 77):
        with pytest.raises(ValueError, match="not a finished live file"):
            journal.release(serial)


def test_release_is_journalled_also_when_the_journal_is_full() -> None:
    folder = Folder()
    journal = folder.create()
    offset = 0
    while journal.room(reserve=True) >= record_bytes(0):
        size = min(500, journal.room(reserve=True) - record_bytes(0) & ~7)
        folder.commit(journal, data_record(offset, size))
        offset += 1
    assert journal.spares == 0
    journal.release(journal.live[0])
    assert journal.dirty
    folder.commit(journal)
    folder.mark(journal)
    assert journal.spares == 1
    folder.commit(journal, data_record(offset, 500))


def test_mark_is_wanted_once_after_a_commit() -> None:
    folder = Folder()
    journal = folder.create()
    assert not journal.mark_wanted
    journal.append(data_record(0))
    assert not journal.mark_wanted
    execute_all(folder.disk, journal.cut())
    assert not journal.mark_wanted
    journal.committed()
    assert journal.mark_wanted
    folder.mark(journal)
    assert not journal.mark_wanted
    assert journal.mark() == ()


def test_spare_is_wanted_until_there_are_enough() -> None:
    folder = Folder()
    journal = folder.create()
    assert journal.spare_wanted() is None
    first = journal.serial
    while journal.serial == first:
        folder.commit(journal, data_record(1, 700))
    operations = journal.spare_wanted()
    assert operations is not None
    assert kinds(operations) == ["Allocate", "Sync", "SyncFolder"]
    assert journal.spare_wanted() is None
    journal.spare_failed()
    assert journal.spare_wanted() == operations
    execute_all(folder.disk, operations)
    journal.spare_ready()
    assert journal.spare_wanted() is None
    assert journal.spares == 2


def test_parse_of_a_bad_body_names_the_record() -> None:
    folder = Folder()
    journal = folder.create()
    (place,) = folder.commit(journal, data_record(9))
    name, position, length = journal.locate(place)
    folder.disk.flip(name, position + length - 20, 1)
    with pytest.raises(DamagedRecordError) as caught:
        journal.parse(place, folder.disk.read(name, position, length))
    assert (caught.value.file, caught.value.position) == (name, position)
    assert caught.value.header is not None
    assert caught.value.header.offset == 9
    assert caught.value.header.entry_id == data_record(9).entry_id


def test_parse_of_bytes_from_another_place_fails() -> None:
    folder = Folder()
    journal = folder.create()
    first, second = folder.commit(journal, data_record(1), data_record(2))
    moved = folder.disk.read(*journal.locate(first))
    for place in (second, Place(first.serial + 50, first.position, first.length)):
        with pytest.raises(DamagedRecordError) as caught:
            journal.parse(place, moved)
        assert caught.value.header is None


def test_create_in_a_folder_with_a_journal_is_refused() -> None:
    folder = Folder()
    folder.create()
    with pytest.raises(JournalError, match="holds a journal already"):
        folder.create()


def test_replace_file_is_atomic_and_ends_durable() -> None:
    disk = FakeDisk()
    execute_all(disk, replace_file("index", b"old and long"))
    operations = replace_file("index", b"new")
    assert operations[0] == Allocate("index.tmp", 0)
    assert operations[-1] == SyncFolder()
    for operation in operations:
        assert disk.read("index", 0, 99) in (b"old and long", b"new")
        execute_all(disk, [operation])
    assert disk.read("index", 0, 99) == b"new"
    assert disk.names() == ["index"]


def test_names_of_files_are_told_apart() -> None:
    assert journal_serial(journal_name(300)) == 300
    assert spare_number(spare_name(2**63)) == 2**63
    for name in ("journal-", "journal-12", "journal-00000000000000zz", "identity", spare_name(1)):
        assert journal_serial(name) is None


@pytest.mark.parametrize("file_bytes", [0, 1000, 4097, 2**32])
def test_settings_with_odd_file_sizes_are_refused(file_bytes: int) -> None:
    with pytest.raises(ValueError, match="file_bytes"):
        JournalSettings(file_bytes=file_bytes)
