"""The embedded log's folder under kills, power cuts and damage, without threads or a clock."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from corfu.embedded.folder import IDENTITY_NAME, open_store
from corfu.embedded.store import LocalStore
from corfu.errors import CorruptionError, UsageError
from corfu.journal.execute import execute_all
from corfu.journal.format import DamagedRecordError, JournalSettings
from corfu.ports import WriteAt
from corfu.types import Offset
from tests.unit.corfu.fake_disk import Crash, FakeDisk

SETTINGS = JournalSettings(file_bytes=8192, spares_wanted=1)


def open_(disk: FakeDisk) -> LocalStore:
    return open_store(disk, "folder", SETTINGS, random.Random(1).randbytes)


def commit(disk: FakeDisk, store: LocalStore) -> None:
    execute_all(disk, store.journal.cut())
    store.journal.committed()
    store.committed()


def spares(disk: FakeDisk, store: LocalStore) -> None:
    while (operations := store.journal.spare_wanted()) is not None:
        execute_all(disk, operations)
        store.journal.spare_ready()


def put(disk: FakeDisk, store: LocalStore, entry: bytes) -> Offset:
    spares(disk, store)
    if store.reserve_wanted:
        store.note_state()
        commit(disk, store)
    offset = store.append(entry)
    commit(disk, store)
    return offset


def get(disk: FakeDisk, store: LocalStore, offset: Offset) -> bytes | None:
    """The entry, None if it is lost."""
    place = store.index.place(offset)
    if place is None:
        return None
    try:
        return store.journal.parse(place, disk.read(*store.journal.locate(place))).body
    except DamagedRecordError:
        return None


def test_store_reopened_has_every_entry_and_goes_on_behind_them() -> None:
    disk = FakeDisk()
    store = open_(disk)
    entries = [b"%d" % i * 40 for i in range(300)]
    assert [put(disk, store, entry) for entry in entries] == list(range(300))
    for _ in range(3):
        store = open_(disk)
        assert store.next == 300
        assert [get(disk, store, Offset(i)) for i in range(300)] == entries
    assert put(disk, store, b"next") == 300


def test_store_trimmed_frees_files_and_remembers_the_mark() -> None:
    disk = FakeDisk()
    store = open_(disk)
    for i in range(400):
        put(disk, store, b"%d" % i * 40)
    before = len(disk.names())
    store.trim(Offset(390))
    commit(disk, store)
    store.free()
    for _ in range(before):
        commit_if_dirty(disk, store)
        execute_all(disk, store.journal.mark())
        if store.journal.committing:
            store.journal.committed()
    assert len(disk.names()) < before / 4
    store = open_(disk)
    assert (store.trim_mark, store.index.start, store.next) == (390, 390, 400)
    assert get(disk, store, Offset(395)) == b"395" * 40


def commit_if_dirty(disk: FakeDisk, store: LocalStore) -> None:
    if store.journal.dirty:
        commit(disk, store)


@pytest.mark.parametrize("power", [False, True])
def test_store_cut_short_anywhere_keeps_what_was_acknowledged(power: bool) -> None:
    """Crash at every change, also while formatting and recovering; offsets are never reused."""
    seeds = range(60)
    for seed in seeds:
        rng = random.Random(seed)
        disk = FakeDisk()
        disk.rng = rng
        acknowledged: dict[Offset, bytes] = {}
        shown: dict[Offset, bytes] = {}
        number = 0
        for _ in range(8):
            disk.crash_in = rng.choice((None, rng.randrange(60), rng.randrange(8)))
            try:
                store = open_(disk)
                check(disk, store, acknowledged, shown, seed)
                for _ in range(rng.randrange(30)):
                    number += 1
                    entry = b"%d." % number * rng.randrange(1, 60)
                    acknowledged[put(disk, store, entry)] = entry
            except Crash:
                pass
            disk.crash_in = None
            if power:
                disk.power_cut(rng)
        check(disk, open_(disk), acknowledged, shown, seed)


def check(
    disk: FakeDisk,
    store: LocalStore,
    acknowledged: dict[Offset, bytes],
    shown: dict[Offset, bytes],
    seed: int,
) -> None:
    for offset, entry in acknowledged.items():
        assert offset < store.next, seed
        assert get(disk, store, offset) == entry, (seed, offset)
    for offset in map(Offset, range(store.next)):
        found = get(disk, store, offset)
        if found is not None:
            # What was read once, though never acknowledged, stays.
            assert shown.setdefault(offset, found) == found, seed
        else:
            assert offset not in shown, seed


def test_store_any_flipped_bit_is_lost_or_harmless_never_unwritten() -> None:
    disk = FakeDisk()
    store = open_(disk)
    entries = [b"%d" % i * 20 for i in range(60)]
    for entry in entries:
        put(disk, store, entry)
    rng = random.Random(3)
    names = [name for name in disk.names() if name.startswith("journal-")]
    for _ in range(400):
        twin = disk.twin()
        name = rng.choice(names)
        twin.flip(name, rng.randrange(twin.size(name)), 1 << rng.randrange(8))
        store = open_(twin)
        assert store.next >= 60
        found = [get(twin, store, Offset(i)) for i in range(60)]
        wrong = [i for i in range(60) if found[i] not in (None, entries[i])]
        assert not wrong
        # A flipped byte hits one record, or the header of one batch.
        assert found.count(None) <= 2
        offset = put(twin, store, b"new")
        assert offset == store.next - 1 >= 60
        again = open_(twin)
        assert get(twin, again, offset) == b"new"


def test_store_missing_journal_file_is_lost_once_and_not_an_end() -> None:
    disk = FakeDisk()
    store = open_(disk)
    for i in range(300):
        put(disk, store, b"%d" % i * 40)
    names = [name for name in disk.names() if name.startswith("journal-")]
    disk.remove(names[1])
    disk.sync_folder()
    store = open_(disk)
    lost = [i for i in range(300) if get(disk, store, Offset(i)) is None]
    assert lost
    assert lost == list(range(lost[0], lost[-1] + 1))
    assert store.next == 300
    again = open_(disk)
    assert [i for i in range(300) if get(disk, again, Offset(i)) is None] == lost


def test_store_foreign_folder_is_refused() -> None:
    disk = FakeDisk()
    disk.write("photo.jpg", 0, b"x")
    with pytest.raises(UsageError, match=r"photo\.jpg"):
        open_(disk)


def test_store_damaged_identity_is_corruption_naming_the_file() -> None:
    disk = FakeDisk()
    open_(disk)
    for position in (0, 9, 12, 20, 40):
        twin = disk.twin()
        twin.flip(IDENTITY_NAME, position, 1)
        with pytest.raises(CorruptionError, match="folder/identity"):
            open_(twin)


def test_store_lost_journal_is_corruption_not_a_new_log() -> None:
    disk = FakeDisk()
    open_(disk)
    for name in disk.names():
        if name.startswith("journal-"):
            disk.remove(name)
    with pytest.raises(CorruptionError, match="no journal file"):
        open_(disk)


def test_store_settings_may_change_between_openings() -> None:
    disk = FakeDisk()
    put(disk, open_(disk), b"x")
    wider = replace(SETTINGS, file_bytes=16384)
    store = open_store(disk, "folder", wider, random.Random(2).randbytes)
    assert get(disk, store, Offset(0)) == b"x"


def test_store_whose_restart_takes_the_last_spare_opens_all_the_same() -> None:
    """What is written again may leave no room for the small state, and no spare is left."""
    for size in range(5000, 5600, 8):
        disk = FakeDisk()
        store = open_(disk)
        put(disk, store, b"first")
        offset = put(disk, store, b"x" * size)
        # Killed while a spare was being made: the one that is there is too short to be used.
        for name in disk.names():
            if name.startswith("spare-"):
                disk.remove(name)
        again = open_(disk)
        assert get(disk, again, offset) == b"x" * size
        assert again.next == 2


def test_store_with_a_lost_offset_whose_small_state_rots_never_gives_it_again() -> None:
    disk = FakeDisk()
    store = open_(disk)
    put(disk, store, b"kept")
    spares(disk, store)
    lost = store.append(b"x" * 1500)
    (write, _sync) = store.journal.cut()
    assert isinstance(write, WriteAt)
    # A power cut takes the last sectors of an entry that nobody was told of. It is called lost.
    disk.write(write.name, write.position, write.data[:512])
    store = open_(disk)
    assert store.next == lost + 1
    # Then what was written last rots: the small state, the only record that tells of it.
    newest = max(name for name in disk.names() if name.startswith("journal-"))
    for position in range(disk.size(newest)):
        twin = disk.twin()
        twin.flip(newest, position, 4)
        assert open_(twin).next >= lost + 1, position
