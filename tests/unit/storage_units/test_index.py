"""The compact index and its files."""

from __future__ import annotations

from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corfu.journal.format import RECORD_HEADER_BYTES, Place
from corfu.storage_units.index import (
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
from corfu.types import Incarnation, Offset, State, UnitId

UNIT = UnitId(7)
WRITER = Incarnation(b"incarnation-0001")


@given(
    state=st.sampled_from([State.DATA, State.JUNK, State.DAMAGED]),
    serial=st.integers(1, SERIAL_MAX),
    position=st.integers(64, 2**29 - 1),
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
    index = OffsetIndex()
    for offset in range(0, 5000, 2):
        index.set(offset, cell(1 + offset // 1024))
    assert not index.drop_below(Offset(4500), 2)
    assert (index.get(0), index.live[1], index.live[2]) == (0, 0, 0)
    assert index.get(2048)
    assert index.drop_below(Offset(4500), 2)
    assert index.live[3] == index.live[4] == 0
    assert not index.get(4498)
    assert index.get(4500)
    assert index.end == 4999


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
    index.add(50, cell(3), b"id" * 8, 2**64 - 1, 100)
    index.add(51, cell(3, 4096), b"di" * 8, 5, 0)
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


@pytest.mark.parametrize("name", ["index-", "index-12", "journal-0000000000000001", "x"])
def test_index_serial_of_other_names_is_none(name: str) -> None:
    assert index_serial(name) is None
    assert index_serial(index_name(0xAB)) == 0xAB
