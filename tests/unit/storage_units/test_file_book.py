"""The account of finished journal files: what it costs, and what their index files hold."""

from __future__ import annotations

from collections import Counter

import pytest

from corfu.storage_units.index_file import FileIndex, decode_index, index_name
from corfu.storage_units.settings import UnitSettings
from corfu.types import Offset, State
from tests.unit.storage_units.unit_bench import LEADER, Bench, fill, layout, unit_value, write

SMALL = UnitSettings(journal_file_bytes=16384)


def serving(*chains: list[int]) -> Bench:
    bench = Bench.fresh(1, SMALL)
    bench.epoch(layout(1, *(chains or ([1],))))
    return bench


def index_of(bench: Bench, serial: int) -> FileIndex:
    data = bench.disk.read(index_name(serial), 0, 1 << 20)
    own = unit_value(bench.id)
    index = decode_index(data, serial, own.id, own.incarnation)
    assert index is not None
    return index


def test_housekeeping_looks_at_no_file_in_which_nothing_was_emptied() -> None:
    """Some times a second: with thousands of files it took a good part of a processor."""

    class Live(Counter[int]):
        looked = 0

        def __getitem__(self, serial: int) -> int:
            self.looked += 1
            return super().__getitem__(serial)

    bench = serving()
    for offset in range(200):
        bench.give(write(offset, offset, entry=bytes(1000)))
    bench.maintain()
    index = bench.unit.store.index
    assert len(bench.unit.journal.live) > 12
    live = index.live = Live(index.live)
    bench.maintain()
    assert live.looked == 0
    bench.give(bench.trim_message(100, 100), LEADER)
    bench.maintain()
    assert len(bench.unit.journal.live) < 15


def test_file_emptied_while_it_is_written_is_released_once_it_is_finished() -> None:
    bench = serving()
    serial, offset = bench.unit.journal.serial, 0
    while bench.unit.journal.serial == serial:
        bench.give(write(offset, offset + 1, entry=bytes(1000)))
        bench.give(bench.trim_message(offset, offset), LEADER)
        offset += 1
        bench.unit.maintain(bench.now)
    bench.give(bench.trim_message(offset - 1, offset - 1), LEADER)
    bench.maintain()
    assert serial not in bench.unit.journal.live


def test_index_file_names_open_entries_alone_and_ascends() -> None:
    bench = serving()
    order = [3, 1, 2, 0, *range(4, 40)]
    for offset in order:
        bench.give(write(offset, offset + 1, entry=bytes(1000)))
    bench.give(bench.probe_message(closed_until=4), LEADER)
    bench.maintain()
    index = index_of(bench, min(bench.unit.store.files.indexed))
    assert list(index.offsets) == sorted(index.offsets)
    assert set(range(8)) <= set(index.offsets)
    assert set(index.names) == {offset for offset in index.offsets if offset >= 4}
    for offset, name in index.names.items():
        assert name == bench.unit.store.name(offset)


def test_index_file_of_whole_blocks_has_the_cells_of_each_offset() -> None:
    """Entries of one byte: so many that one file holds all of a block of the index."""
    bench = Bench.fresh(1, UnitSettings(journal_file_bytes=1 << 20))
    bench.epoch(layout(1, [1], [2]))
    window = 30_000
    bench.give(bench.probe_message(), LEADER)
    bench.unit.store.standing.window_end = Offset(window)
    for offset in range(0, window, 2):
        bench.effects(write(offset, offset + 1, entry=b"x"))
        if offset % 512 == 0:
            bench.commit()
    bench.commit()
    bench.give(bench.probe_message(closed_until=window), LEADER)
    bench.maintain()
    (serial,) = bench.unit.store.files.indexed
    index = index_of(bench, serial)
    own = bench.unit.store.index
    assert len(index.offsets) > 8192
    assert list(index.offsets) == list(range(0, 2 * len(index.offsets), 2))
    assert [own.get(offset) for offset in index.offsets] == list(index.cells)
    assert not index.names


def test_index_file_with_junk_and_entries_comes_back_as_it_was() -> None:
    bench = serving()
    for offset in (*range(6), *range(20, 40)):
        bench.give(write(offset, offset + 1, entry=bytes(1000)))
    bench.give(fill(6, 20))
    for offset in range(40, 60):
        bench.give(write(offset, offset + 1, entry=bytes(1000)))
    bench.maintain()
    before = dict(bench.unit.store.index.items(Offset(0)))
    bench.start()
    after = bench.unit.store
    assert len(after.files.indexed) > 2
    kept = {offset: cell for offset, cell in before.items() if after.index.get(offset) == cell}
    assert len(kept) > 40
    assert {after.state(Offset(offset)) for offset in range(6, 20)} == {State.JUNK}
    assert all(after.name(offset) for offset in before)


@pytest.mark.parametrize("restart", [False, True])
def test_unit_of_one_chain_has_cells_for_its_own_offsets_alone(restart: bool) -> None:
    bench = serving([1], [2], [3], [4])
    for offset in range(0, 400, 4):
        bench.give(write(offset, offset + 1, entry=bytes(1000)))
    bench.maintain()
    if restart:
        bench.start()
    block = bench.unit.store.index.block(0)
    assert block is not None
    assert block[0] == range(0, 8192, 4)
