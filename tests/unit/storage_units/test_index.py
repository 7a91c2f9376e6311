"""The compact index and its files."""

from __future__ import annotations

from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corfu.journal.format import RECORD_HEADER_BYTES, Place
from corfu.storage_units.index import (
    FILE_BYTES_MAX,
    INDEX_BLOCK_OFFSETS,
    SERIAL_MAX,
    STATE_MASK,
    OffsetIndex,
    cell_place,
    length_bound,
    length_code,
    pack_cell,
)
from corfu.storage_units.index_file import (
    FileIndex,
    JunkRun,
    decode_index,
    encode_index,
    index_name,
    index_serial,
)
from corfu.storage_units.names import Name
from corfu.types import Digest, EntryId, Incarnation, Offset, State, UnitId

UNIT = UnitId(7)
WRITER = Incarnation(b"incarnation-0001")


@given(
    state=st.sampled_from([State.DATA, State.JUNK, State.DAMAGED]),
    serial=st.integers(1, SERIAL_MAX),
    position=st.integers(64, FILE_BYTES_MAX // 8 - 1),
    units=st.integers(RECORD_HEADER_BYTES // 8, (1 << 20) // 8 + 16),
)
def test_cell_keeps_state_and_place_and_a_close_bound_of_the_length(
    state: State, serial: int, position: int, units: int
) -> None:
    cell = pack_cell(state, Place(serial, position * 8, units * 8))
    place = cell_place(cell)
    assert cell < 2**64
    assert cell & STATE_MASK == state
    assert (place.serial, place.position) == (serial, position * 8)
    assert units * 8 <= place.length <= units * 10
    assert length_bound(length_code(units * 8)) == place.length


def cell(serial: int, position: int = 512) -> int:
    return pack_cell(State.DATA, Place(serial, position, 64))


def test_index_counts_live_cells_of_each_journal_file() -> None:
    index = OffsetIndex()
    for offset in range(10):
        index.set(offset, cell(1))
    index.set(3, cell(2))
    assert (index.live[1], index.live[2], index.end) == (9, 1, 10)
    index.set(4, 0)
    assert index.live[1] == 8


def test_index_drop_below_forgets_whole_and_partial_blocks_in_steps() -> None:
    index, block = OffsetIndex(), INDEX_BLOCK_OFFSETS
    index.expect_step(16)
    end = 4 * block + 1000
    for offset in range(0, end, 16):
        index.set(offset, cell(1 + offset // block))
    mark = Offset(4 * block + 501)
    assert not index.drop_below(mark, 2)
    assert (index.get(0), index.live[1], index.live[2]) == (0, 0, 0)
    assert index.get(2 * block)
    assert index.drop_below(mark, 2)
    assert index.live[3] == index.live[4] == 0
    assert index.emptied == {1, 2, 3, 4}
    assert not index.get(4 * block + 496)
    assert index.get(4 * block + 512)
    assert index.end == end - 7
    assert index.numbers() == [4]


def cells_of(index: OffsetIndex) -> int:
    blocks = [index.block(number) for number in index.numbers()]
    return sum(len(block[1]) for block in blocks if block is not None)


@pytest.mark.parametrize("chains", [1, 2, 3, 7, 100])
def test_index_of_one_chain_has_cells_for_that_chain_alone(chains: int) -> None:
    index = OffsetIndex()
    index.expect_step(chains)
    held = range(chains - 1, 10 * INDEX_BLOCK_OFFSETS, chains)
    for offset in held:
        index.set(offset, cell(1, 512 + 8 * (offset % 1000)))
    assert len(held) <= cells_of(index) <= len(held) + 10
    assert [offset for offset, _ in index.items(Offset(0))] == list(held)
    assert list(index.without_cell(held)) == []
    assert not any(index.get(offset) for offset in range(20000) if offset % chains != chains - 1)


def test_index_that_gets_another_offset_than_expected_keeps_all() -> None:
    index = OffsetIndex()
    index.expect_step(4)
    for offset in (3, 7, 8, 11):
        index.set(offset, cell(1, 8 * offset))
    assert dict(index.items(Offset(0))) == {o: cell(1, 8 * o) for o in (3, 7, 8, 11)}
    assert list(index.without_cell(range(0, 12, 2))) == [0, 2, 4, 6, 10]
    assert index.set(5, 0) == 0


def test_index_items_begin_at_the_start_that_was_asked_for() -> None:
    index = OffsetIndex()
    for offset in (5, 3 * INDEX_BLOCK_OFFSETS + 1, 3 * INDEX_BLOCK_OFFSETS + 9, 1):
        index.set(offset, cell(1))
    start = 3 * INDEX_BLOCK_OFFSETS + 2
    assert [offset for offset, _ in index.items(Offset(start))] == [start + 7]
    assert index.numbers() == [0, 3]


@pytest.mark.parametrize("spacing", [1, 2, 5])
def test_index_load_of_even_offsets_over_many_blocks_equals_single_sets(spacing: int) -> None:
    """Also into blocks that have cells already, of this spacing or another."""
    one, other = OffsetIndex(), OffsetIndex()
    offsets = array("Q", range(INDEX_BLOCK_OFFSETS - 7, 4 * INDEX_BLOCK_OFFSETS, spacing))
    cells = array("Q", [cell(3, 512 + 8 * at) for at in range(len(offsets))])
    for index in (one, other):
        index.set(offsets[0] + 10 * spacing, cell(2))
        index.set(INDEX_BLOCK_OFFSETS * 2 + 1, cell(2))
        index.set(INDEX_BLOCK_OFFSETS * 3, 0)
    one.load(3, offsets, cells)
    for offset, value in zip(offsets, cells, strict=True):
        other.set(offset, value)
    assert one.live == other.live
    assert list(one.items(Offset(0))) == list(other.items(Offset(0)))
    assert one.end == other.end


def test_index_load_takes_the_spacing_of_the_offsets_for_its_blocks() -> None:
    index = OffsetIndex()
    even = range(0, 2 * INDEX_BLOCK_OFFSETS, 4)
    with_hole = array("Q", [offset for offset in even if offset not in (40, 44)])
    index.load(3, with_hole, array("Q", [cell(3)] * len(with_hole)))
    assert cells_of(index) == len(even)


def test_index_load_equals_single_sets() -> None:
    one, other = OffsetIndex(), OffsetIndex()
    offsets = array("Q", [5, 2000, 7])
    cells = array("Q", [cell(3), cell(3, 1024), cell(3, 2048)])
    for index in (one, other):
        index.set(7, cell(2))
    one.load(3, offsets, cells)
    for offset, value in zip(offsets, cells, strict=True):
        other.set(offset, value)
    assert one.live == other.live
    assert [one.get(offset) for offset in offsets] == [other.get(offset) for offset in offsets]
    assert one.end == other.end == 2001


def sample() -> FileIndex:
    index = FileIndex(3, Offset(40))
    index.offsets = array("Q", [12, 50, 51])
    index.cells = array("Q", [cell(3), cell(3, 1024), cell(3, 4096)])
    index.names = {
        Offset(50): Name(EntryId(b"id" * 8), Digest(2**64 - 1), 100),
        Offset(51): Name(EntryId(b"di" * 8), Digest(5), 0),
    }
    index.runs = [JunkRun(60, 90, 3, cell(3, 8192))]
    return index


def test_index_file_round_trip() -> None:
    assert decode_index(encode_index(sample(), UNIT, WRITER), 3, UNIT, WRITER) == sample()


def test_index_file_of_another_owner_or_serial_is_not_used() -> None:
    data = encode_index(sample(), UNIT, WRITER)
    assert decode_index(data, 4, UNIT, WRITER) is None
    assert decode_index(data, 3, UnitId(8), WRITER) is None
    assert decode_index(data, 3, UNIT, Incarnation(bytes(16))) is None


def test_index_file_with_any_byte_changed_or_cut_off_is_not_used() -> None:
    data = encode_index(sample(), UNIT, WRITER)
    for at in range(len(data)):
        changed = bytearray(data)
        changed[at] ^= 1
        assert decode_index(bytes(changed), 3, UNIT, WRITER) is None
        assert decode_index(data[:at], 3, UNIT, WRITER) is None


def test_index_file_with_a_cell_of_another_journal_file_is_not_used() -> None:
    index = sample()
    index.cells[1] = cell(4)
    assert decode_index(encode_index(index, UNIT, WRITER), 3, UNIT, WRITER) is None


@pytest.mark.parametrize("name", ["index-", "index-12", "journal-0000000000000001", "x"])
def test_index_serial_of_other_names_is_none(name: str) -> None:
    assert index_serial(name) is None
    assert index_serial(index_name(0xAB)) == 0xAB
