"""The layout: which chain an offset belongs to, and what a well-formed layout is."""

from hypothesis import given
from hypothesis import strategies as st

from corfu import schema
from corfu.layout import Layout, Leader, Segment, Unit, merged, parts, problems
from corfu.types import (
    NO_BALLOT,
    Address,
    ClusterId,
    Epoch,
    Incarnation,
    Offset,
    Range,
    ReplicaId,
    SyncMode,
    UnitId,
)

UNITS = tuple(
    Unit(UnitId(n), Incarnation(bytes([n]) * 16), Address("127.0.0.1", 9000 + n))
    for n in range(1, 7)
)
TWO_CHAINS = ((UnitId(1), UnitId(2), UnitId(3)), (UnitId(4), UnitId(5), UnitId(6)))


def layout(*segments: Segment) -> Layout:
    return Layout(
        cluster=ClusterId(b"testtest"),
        epoch=Epoch(1),
        first_offset=Offset(0),
        leader=Leader(ReplicaId(1), NO_BALLOT),
        replicas=(),
        units=UNITS,
        sync=SyncMode.ALWAYS,
        min_replicas=2,
        segments=segments,
    )


def segment(start: int, end: int | None, chains: tuple[tuple[UnitId, ...], ...]) -> Segment:
    return Segment(Offset(start), None if end is None else Offset(end), chains)


@given(st.integers(0, 10**6), st.integers(0, 10**6))
def test_merged_segments_with_equal_chains_keeps_every_chain(boundary: int, offset: int) -> None:
    """The index is absolute, so an odd boundary moves nothing."""
    split = (segment(0, boundary, TWO_CHAINS), segment(boundary, None, TWO_CHAINS))
    before = layout(*(s for s in split if s.start != s.end))
    after = layout(*merged(split))
    assert len(after.segments) == 1
    assert before.chain_of(Offset(offset)) == after.chain_of(Offset(offset))


def test_merged_empty_segment_is_left_out() -> None:
    assert merged(
        (segment(0, 5, TWO_CHAINS), segment(5, 5, ()), segment(5, None, TWO_CHAINS[:1]))
    ) == (segment(0, 5, TWO_CHAINS), segment(5, None, TWO_CHAINS[:1]))


def test_chain_of_offset_in_segment_without_chains_is_empty() -> None:
    assert layout(segment(0, 7, TWO_CHAINS), segment(7, None, ())).chain_of(Offset(7)) == ()


def test_chain_units_above_offset_leaves_out_units_of_lower_segments() -> None:
    placed = layout(segment(0, 7, TWO_CHAINS[:1]), segment(7, None, TWO_CHAINS[1:]))
    assert [u.id for u in placed.chain_units(Offset(7))] == [4, 5, 6]
    assert [u.id for u in placed.chain_units(Offset(6))] == [1, 2, 3, 4, 5, 6]


def test_parts_of_range_across_segments_are_disjoint_and_complete() -> None:
    whole = Range(Offset(3), Offset(12))
    closed, open_ = segment(0, 7, TWO_CHAINS), segment(7, None, TWO_CHAINS)
    assert parts(closed, whole) == (3, 7)
    assert parts(open_, whole) == (7, 12)
    assert parts(closed, Range(Offset(9), Offset(12))) == (9, 9)


def test_problems_of_malformed_layouts_are_named() -> None:
    assert problems(layout(segment(0, None, TWO_CHAINS))) == []
    assert problems(layout(segment(1, None, TWO_CHAINS)))
    assert problems(layout(segment(0, 5, TWO_CHAINS)))
    assert problems(layout(segment(0, 5, TWO_CHAINS), segment(6, None, TWO_CHAINS)))
    assert problems(layout(segment(0, None, (TWO_CHAINS[0], TWO_CHAINS[0]))))
    assert problems(layout(segment(0, None, ((UnitId(9),),))))


def test_layout_packed_and_unpacked_is_equal_with_equal_digest() -> None:
    placed = layout(segment(0, 7, TWO_CHAINS), segment(7, None, ()))
    again = schema.unpack(Layout, schema.pack(placed))
    assert again == placed
    assert again.digest() == placed.digest()
