"""Damage, doubt and restarts: what a recovery says of files that are not as they were written."""

from __future__ import annotations

import contextlib
import random

import pytest

from corfu.journal.execute import execute
from corfu.journal.format import (
    CutFileError,
    ForeignFileError,
    JournalIdentity,
    JournalLostError,
    JournalSettings,
    journal_name,
)
from corfu.journal.planner import Journal
from corfu.types import ClusterId, Incarnation
from tests.unit.corfu.fake_disk import Crash, FakeDisk
from tests.unit.corfu.journal_folder import DATA, IDENTITY, Back, Folder, data_record


def fill(folder: Folder, journal: Journal, files: int, offset: int = 0) -> int:
    """Commit records from `offset` on until `files` files are finished; returns the end."""
    while len(journal.live) < files:
        folder.spare(journal)
        folder.commit(journal, data_record(offset, 300), data_record(offset + 1, 40))
        offset += 2
    return offset


def named(back: Back) -> set[int]:
    headers = [damage.header for damage in back.recovered.damage if damage.header is not None]
    headers += back.recovered.doubt.named
    return {header.offset for header in headers if header.kind == DATA}


def unnamed(back: Back) -> bool:
    damage = any(damage.header is None for damage in back.recovered.damage)
    return damage or back.recovered.doubt.unknown or bool(back.recovered.missing)


def check_flips(source: FakeDisk, count: int, names: list[str]) -> tuple[int, int]:
    """Flip each byte of the files in turn; returns how often something was noticed, and not."""
    noticed = quiet = 0
    for name in names:
        for position in range(source.size(name)):
            folder = Folder(source.copy())
            folder.disk.flip(name, position, 1 << position % 8)
            back = folder.recover()
            for offset, record in back.records.items():
                assert record == data_record(offset, len(record.body))
            lost = set(range(count)) - set(back.records)
            assert unnamed(back) or lost <= named(back), (name, position)
            assert unnamed(back) or lost or not named(back), (name, position)
            noticed += bool(back.recovered.damage or back.recovered.doubt)
            quiet += not (back.recovered.damage or back.recovered.doubt)
    return noticed, quiet


def test_flip_of_any_byte_is_detected_or_harmless() -> None:
    folder = Folder()
    journal = folder.create()
    count = fill(folder, journal, 1)
    folder.commit(journal, data_record(count, 300))
    names = [name for name in folder.disk.names() if name.startswith("journal-")]
    assert len(names) == 2
    noticed, quiet = check_flips(folder.disk, count + 1, names)
    assert noticed > 1500
    assert quiet > 1000


def test_flip_of_any_byte_after_a_recovery_is_detected_or_harmless() -> None:
    folder = Folder()
    journal = folder.create()
    folder.commit(journal, data_record(0, 300))
    folder.commit(journal, data_record(1, 300), data_record(2))
    back = folder.recover()
    assert len(back.records) == 3
    check_flips(folder.disk, 3, [journal_name(back.journal.serial)])
    folder.commit(back.journal, data_record(3))
    check_flips(folder.disk, 4, [journal_name(back.journal.serial)])


def test_recovery_of_a_clean_journal_finds_all_in_order_and_unhurt() -> None:
    folder = Folder()
    journal = folder.create()
    count = fill(folder, journal, 3)
    folder.mark(journal, clean=True)
    back = folder.recover()
    assert list(back.records) == list(range(count))
    assert back.recovered.clean
    assert not back.recovered.damage
    assert not back.recovered.doubt


def test_recovery_gives_records_of_the_last_batch_a_new_durable_place() -> None:
    folder = Folder()
    journal = folder.create()
    first = folder.commit(journal, data_record(0))
    second = folder.commit(journal, data_record(1))
    back = folder.recover()
    assert back.places[0] == first[0]
    assert back.places[1].serial > second[0].serial
    assert not back.recovered.clean
    again = folder.recover()
    assert again.records == back.records
    assert again.places[0] == first[0]


def test_recovery_again_and_again_does_not_grow() -> None:
    folder = Folder()
    journal = folder.create()
    folder.commit(journal, data_record(0), data_record(1))
    for _ in range(10):
        back = folder.recover()
        assert set(back.records) == {0, 1}
    assert len(folder.disk.names()) <= 7


def test_bad_record_before_a_mark_is_damage_and_its_neighbours_are_kept() -> None:
    folder = Folder()
    journal = folder.create()
    places = folder.commit(journal, data_record(0), data_record(1), data_record(2))
    folder.mark(journal)
    name = journal_name(places[1].serial)
    folder.disk.flip(name, places[1].position + 100, 1)
    for _ in range(2):
        back = folder.recover()
        (damage,) = back.recovered.damage
        assert (damage.file, damage.position) == (name, places[1].position)
        assert damage.header is not None
        assert damage.header.offset == 1
        assert set(back.records) == {0, 2}
        assert not back.recovered.doubt


def test_bad_header_before_a_mark_is_damage_without_a_name() -> None:
    folder = Folder()
    journal = folder.create()
    places = folder.commit(journal, data_record(0), data_record(1), data_record(2))
    folder.mark(journal)
    folder.disk.flip(journal_name(places[1].serial), places[1].position + 9, 1)
    back = folder.recover()
    assert [damage.header for damage in back.recovered.damage] == [None]
    assert set(back.records) == {0, 2}


def test_bad_record_after_the_last_mark_is_doubt_until_it_is_settled() -> None:
    folder = Folder()
    journal = folder.create()
    places = folder.commit(journal, data_record(0), data_record(1))
    folder.disk.flip(journal_name(places[1].serial), places[1].position + 100, 1)
    back = folder.recover()
    for _ in range(3):
        back = folder.recover()
        assert set(back.records) == {0}
        assert [header.offset for header in back.recovered.doubt.named] == [1]
        assert back.recovered.doubt.named[0].entry_id == data_record(1).entry_id
        assert not back.recovered.doubt.unknown
        assert not back.recovered.damage
    fill(folder, back.journal, len(back.journal.live) + 2, 10)
    assert named(folder.recover()) == {1}
    journal = folder.recover().journal
    journal.doubt_settled()
    assert not journal.doubt
    folder.commit(journal)
    assert not folder.recover().recovered.doubt


def test_doubt_pins_its_file_and_is_read_there_although_the_owner_skips_it() -> None:
    folder = Folder()
    journal = folder.create()
    places = folder.commit(journal, data_record(0), data_record(1))
    folder.disk.flip(journal_name(places[1].serial), places[1].position + 100, 1)
    journal = folder.recover().journal
    holder = journal.serial
    fill(folder, journal, 3, 10)
    journal.release(holder)
    assert holder in journal.live
    folder.commit(journal)
    back = folder.recover(skip=lambda serial: True)
    assert named(back) == {1}
    assert back.skip_asked
    journal = back.journal
    journal.release(holder)
    journal.doubt_settled()
    assert holder not in journal.live
    folder.commit(journal)
    assert not folder.recover().recovered.doubt


def test_bad_batch_header_after_the_last_mark_keeps_sound_records_and_doubts_the_rest() -> None:
    folder = Folder()
    journal = folder.create()
    places = folder.commit(journal, data_record(0), data_record(1))
    folder.disk.flip(journal_name(places[0].serial), places[0].position - 8, 1)
    back = folder.recover()
    assert set(back.records) == {0, 1}
    assert back.recovered.doubt.unknown
    assert folder.recover().recovered.doubt.unknown


def test_bad_file_header_is_harmless() -> None:
    folder = Folder()
    journal = folder.create()
    count = fill(folder, journal, 2)
    for serial in (*journal.live, journal.serial):
        folder.disk.flip(journal_name(serial), 30, 1)
    back = folder.recover()
    assert set(back.records) == set(range(count))
    assert not back.recovered.damage
    assert not back.recovered.doubt


def test_missing_file_is_reported_by_serial_until_it_is_released() -> None:
    folder = Folder()
    journal = folder.create()
    fill(folder, journal, 3)
    lost = journal.live[1]
    folder.disk.remove(journal_name(lost))
    assert folder.recover().recovered.missing == (lost,)
    back = folder.recover()
    assert back.recovered.missing == (lost,)
    back.journal.release(lost)
    folder.commit(back.journal)
    folder.mark(back.journal)
    assert folder.recover().recovered.missing == ()


def test_finished_file_cut_short_is_damage() -> None:
    folder = Folder()
    journal = folder.create()
    count = fill(folder, journal, 2)
    folder.disk.truncate(journal_name(journal.live[0]), 2048)
    back = folder.recover()
    assert set(range(count)) - set(back.records)
    assert unnamed(back)


def test_finished_file_of_zeros_is_damage() -> None:
    folder = Folder()
    journal = folder.create()
    fill(folder, journal, 2)
    name = journal_name(journal.live[0])
    folder.disk.write(name, 0, bytes(4096))
    back = folder.recover()
    assert [(damage.file, damage.header) for damage in back.recovered.damage] == [(name, None)]


def test_file_that_replaced_another_is_damage() -> None:
    folder = Folder()
    journal = folder.create()
    fill(folder, journal, 3)
    copied = folder.disk.read(journal_name(journal.live[0]), 0, 4096)
    folder.disk.write(journal_name(journal.live[1]), 0, copied)
    back = folder.recover()
    assert [damage.file for damage in back.recovered.damage] == [journal_name(journal.live[1])]


def test_unreadable_sector_before_a_mark_is_damage_and_after_it_doubt() -> None:
    for marked in (True, False):
        folder = Folder()
        journal = folder.create()
        places = folder.commit(journal, data_record(0, 300))
        if marked:
            # The bad page lies in a finished file.
            while not journal.live:
                folder.commit(journal, data_record(1 + len(places), 600))
                places.append(places[0])
        folder.disk.unreadable = {journal_name(places[0].serial): {places[0].position}}
        if not marked:
            with pytest.raises(JournalLostError):
                folder.recover()
            continue
        back = folder.recover()
        assert unnamed(back)
        assert 0 not in back.records


def test_recycled_file_never_gives_back_what_it_held_before() -> None:
    folder = Folder()
    journal = folder.create()
    offset = 0
    for _ in range(12):
        count = len(journal.live) + 1
        while len(journal.live) < count:
            folder.spare(journal)
            folder.commit(journal, data_record(offset, 200))
            offset += 1
        journal.release(journal.live[0])
        folder.commit(journal, data_record(offset, 200))
        offset += 1
        folder.mark(journal)
        back = folder.copy_and_recover()
        assert list(back.records) == sorted(back.records)
        assert max(back.records) == offset - 1
        assert len(back.records) < 30
        assert not back.recovered.damage
        assert not back.recovered.doubt


def test_skipped_files_are_not_replayed_and_stay_readable() -> None:
    folder = Folder()
    journal = folder.create()
    count = fill(folder, journal, 3)
    live = journal.live
    places = folder.recover().places
    folder.commit(folder.recover().journal, data_record(count))
    back = folder.recover(skip=lambda serial: serial in live[:2])
    assert not {offset for offset, place in places.items() if place.serial in live[:2]} & set(
        back.records
    )
    assert set(back.records) >= {
        offset for offset, place in places.items() if place.serial == live[2]
    }
    for place in (place for place in places.values() if place.serial in live):
        back.journal.parse(place, folder.disk.read(*back.journal.locate(place)))


def test_skip_is_not_asked_when_the_opening_of_the_newest_file_is_damaged() -> None:
    folder = Folder()
    journal = folder.create()
    fill(folder, journal, 2)
    folder.commit(journal, data_record(900))
    folder.disk.flip(journal_name(journal.serial), 700, 255)
    back = folder.recover(skip=lambda serial: True)
    assert back.skip_asked == []
    assert 0 in back.records


def test_earlier_incarnation_counts_below_its_bound_only() -> None:
    folder = Folder()
    journal = folder.create()
    count = fill(folder, journal, 1)
    second = folder.as_incarnation(b"incarnation-0002", {IDENTITY.incarnation: 3})
    back = second.recover()
    assert set(back.records) == {0, 1, 2}
    assert count > 4
    second.commit(back.journal, data_record(700))
    second.mark(back.journal)
    again = second.recover()
    assert set(again.records) == {0, 1, 2, 700}
    earlier = {IDENTITY.incarnation: 2, Incarnation(b"incarnation-0002"): 10}
    third = second.as_incarnation(b"incarnation-0003", earlier)
    assert set(third.recover().records) == {0, 1}


@pytest.mark.parametrize(
    ("identity", "reason"),
    [
        (JournalIdentity(ClusterId(b"cluster2"), 1, 7, IDENTITY.incarnation), "cluster"),
        (JournalIdentity(IDENTITY.cluster, 2, 7, IDENTITY.incarnation), "owner"),
        (JournalIdentity(IDENTITY.cluster, 1, 8, IDENTITY.incarnation), "owner"),
        (JournalIdentity(IDENTITY.cluster, 1, 7, Incarnation(bytes(16))), "unknown incarnation"),
    ],
)
def test_foreign_files_are_refused_by_name(identity: JournalIdentity, reason: str) -> None:
    folder = Folder()
    serial = folder.create().serial
    other = Folder(folder.disk, identity)
    with pytest.raises(ForeignFileError, match=reason) as caught:
        other.recover()
    assert caught.value.file == journal_name(serial)


def test_recovery_of_an_empty_folder_is_refused() -> None:
    with pytest.raises(JournalLostError):
        Folder().recover()


def test_recovery_that_needs_two_files_repeats() -> None:
    folder = Folder(settings=JournalSettings(file_bytes=8192))
    journal = folder.create()
    folder.commit(journal, data_record(0, 2500), data_record(1, 300))
    used = journal.serial
    folder.opening_bytes = 3000
    # The opening does not fit beside the records, and all of it has to stand in one file.
    back = folder.recover()
    assert [serial for serial in back.journal.live if serial > used] == [back.journal.serial - 1]
    for _ in range(3):
        assert set(folder.recover().records) == {0, 1}


def test_flip_in_the_newest_file_never_makes_a_freed_file_missing() -> None:
    folder = Folder()
    journal = folder.create()
    count = fill(folder, journal, 3)
    journal.release(journal.live[1])
    # Only the state at the start of the next file says that it is free.
    full = journal.serial
    while journal.serial == full:
        folder.spare(journal)
        journal.append(data_record(count, 300))
        count += 1
    folder.commit(journal)
    folder.mark(journal)
    assert journal_name(2) not in folder.disk.names()
    name = journal_name(journal.serial)
    for position in range(512, 1536):
        twin = Folder(folder.disk.copy())
        twin.disk.flip(name, position, 1 << position % 8)
        assert twin.recover().recovered.missing == (), position


def test_recycled_file_that_never_got_its_header_is_ignored() -> None:
    folder = Folder()
    journal = folder.create()
    count = fill(folder, journal, 1)
    # What it begins with is of a serial, and an incarnation, that nobody knows any more.
    other = JournalIdentity(IDENTITY.cluster, 1, 7, Incarnation(bytes(16)))
    stale = Folder(FakeDisk(), other)
    sector = stale.disk.read(journal_name(stale.create().serial), 0, 4096)
    folder.disk.write(journal_name(journal.serial + 1), 0, sector)
    back = folder.recover()
    assert set(back.records) == set(range(count))
    assert back.journal.serial == journal.serial + 2
    assert not back.recovered.doubt


def test_release_that_is_in_the_page_cache_only_frees_nothing_before_it_is_written_again() -> None:
    folder = Folder()
    journal = folder.create()
    count = fill(folder, journal, 3)
    folder.mark(journal)
    journal.release(journal.live[1])
    # Killed between the write and the sync of the state record that frees the file. An unused
    # file above makes recovery tidy up before it writes.
    execute(folder.disk, journal.cut()[0])
    for unused in (journal.serial + 1, journal.serial + 2):
        folder.disk.write(journal_name(unused), 0, bytes(4096))
        folder.disk.sync(journal_name(unused))
    for crash_in in range(20):
        for seed in range(4):
            twin = Folder(folder.disk.twin())
            twin.disk.crash_in = crash_in
            with contextlib.suppress(Crash):
                twin.recover()
                break
            twin.disk.crash_in = None
            twin.disk.power_cut(random.Random(seed))
            back = twin.recover()
            assert back.recovered.missing == ()
            assert set(back.records) <= set(range(count))


@pytest.mark.parametrize("length", [0, 208, 512, 1024, 2048, 4095])
def test_newest_file_cut_short_is_refused_and_nothing_changed(length: int) -> None:
    """No crash does that: a file has its length before it gets its name. So it was all there."""
    folder = Folder()
    journal = folder.create()
    end = fill(folder, journal, 2)
    folder.commit(journal, data_record(end, 40))
    name = journal_name(journal.serial)
    folder.disk.truncate(name, length)
    before = folder.disk.changes
    with pytest.raises(CutFileError, match=f"{name}: cut short at byte {length}"):
        folder.recover()
    assert folder.disk.changes == before


def test_spare_that_a_kill_left_in_the_page_cache_has_its_length_before_it_has_a_name() -> None:
    folder = Folder()
    journal = folder.create()
    folder.spare(journal)
    folder.commit(journal, data_record(0, 40))
    # Killed between the allocation of a spare and its sync; the restart takes it for the last one.
    for name in folder.disk.names():
        if name.startswith("spare-"):
            folder.disk.remove(name)
    folder.disk.sync_folder()
    folder.disk.allocate("spare-8000000000000009", 4096)
    for crash_in in range(12):
        for seed in range(6):
            twin = Folder(folder.disk.twin())
            twin.disk.crash_in = crash_in
            with contextlib.suppress(Crash):
                twin.recover()
            twin.disk.crash_in = None
            twin.disk.power_cut(random.Random(seed))
            assert set(twin.recover().records) == {0}


def test_newest_file_of_another_setting_is_not_called_cut_short() -> None:
    folder = Folder()
    journal = folder.create()
    folder.commit(journal, data_record(0, 40))
    longer = Folder(folder.disk, settings=JournalSettings(8192, 2, frozenset({DATA})))
    assert set(longer.recover().records) == {0}
