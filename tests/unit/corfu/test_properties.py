"""Properties for any input: layouts, the index of a unit, bodies made of fragments."""

from __future__ import annotations

from array import array
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from corfu import schema
from corfu.codec import Frame
from corfu.journal.format import Place
from corfu.layout import Layout, Segment, merged, parts, problems
from corfu.link.control import FLAG_TRANSFER
from corfu.link.counters import LinkCounters
from corfu.link.reassembly import Reassembly
from corfu.storage_units.index import INDEX_BLOCK_OFFSETS, SERIAL_AT, OffsetIndex, pack_cell
from corfu.storage_units.standing import seats_of
from corfu.types import (
    Address,
    ClusterId,
    Epoch,
    Incarnation,
    Offset,
    Range,
    RequestId,
    State,
    UnitId,
)
from tests.unit.corfu.test_layout import UNITS, layout

SETTINGS = settings(max_examples=150, deadline=None, derandomize=True, database=None)
SENDER = Address("10.0.0.1", 1)

_ORDERS = st.permutations([unit.id for unit in UNITS])


@st.composite
def chains(draw: st.DrawFn) -> tuple[tuple[UnitId, ...], ...]:
    """Up to three chains of different units."""
    order, cut = draw(_ORDERS), draw(st.sampled_from([(2, 4), (1, 2), (3, 3), (0, 6), (2, 2)]))
    found = (tuple(order[: cut[0]]), tuple(order[cut[0] : cut[1]]), tuple(order[cut[1] :]))
    return tuple(chain for chain in found if chain)


@st.composite
def layouts(draw: st.DrawFn) -> Layout:
    """Any well-formed layout of up to five segments."""
    borders = sorted(draw(st.sets(st.integers(1, 5000), max_size=4)))
    starts = [0, *borders]
    ends: list[int | None] = [*borders, None]
    return layout(
        *(
            Segment(Offset(start), None if end is None else Offset(end), draw(chains()))
            for start, end in zip(starts, ends, strict=True)
        )
    )


@SETTINGS
@given(layouts(), st.integers(0, 2**63 - 1) | st.integers(0, 6000))
def test_layout_well_formed_gives_each_offset_one_segment_and_one_chain(
    placed: Layout, offset: int
) -> None:
    assert problems(placed) == []
    holding = [segment for segment in placed.segments if segment.holds(Offset(offset))]
    assert holding == [placed.segment_of(Offset(offset))]
    ids = tuple(unit.id for unit in placed.chain_of(Offset(offset)))
    assert ids == holding[0].chains[offset % len(holding[0].chains)]
    # The units see it in the same way: those of the chain, and nobody else, have a seat there.
    seated = {
        unit.id
        for unit in placed.units
        for seat in seats_of(placed, unit.id, unit.incarnation)
        if seat.holds(Offset(offset))
    }
    assert seated == set(ids)


@SETTINGS
@given(layouts())
def test_layout_well_formed_packs_to_one_encoding_and_loses_nothing_when_merged(
    placed: Layout,
) -> None:
    packed = schema.pack(placed)
    assert schema.pack(schema.unpack(Layout, packed)) == packed
    joined = merged(placed.segments)
    assert all(a.end == b.start and a.chains != b.chains for a, b in pairwise(joined))
    for offset in {0, 1, *(o for s in placed.segments for o in (s.start, s.start + 1))}:
        held = next(s for s in joined if s.holds(Offset(offset)))
        assert held.chain_of(Offset(offset)) == placed.segment_of(Offset(offset)).chain_of(
            Offset(offset)
        )


@SETTINGS
@given(layouts(), st.integers(0, 6000), st.integers(0, 6000))
def test_layout_parts_of_a_range_are_disjoint_and_complete(
    placed: Layout, start: int, length: int
) -> None:
    whole = Range(Offset(start), Offset(start + length))
    found = [part for s in placed.segments if (part := parts(s, whole)).start < part.end]
    assert sum(part.end - part.start for part in found) == length
    assert all(a.end == b.start for a, b in pairwise(found))


@SETTINGS
@given(layouts(), st.sampled_from(["start", "open", "gap", "twice", "unknown", "listed"]))
def test_layout_broken_in_one_place_is_never_called_well_formed(placed: Layout, how: str) -> None:
    segments, units = list(placed.segments), placed.units
    last = segments[-1]
    match how:
        case "start":
            segments[0] = Segment(Offset(1), segments[0].end, segments[0].chains)
        case "open":
            segments[-1] = Segment(last.start, Offset(last.start + 5), last.chains)
        case "gap":
            closed = Segment(last.start, Offset(last.start + 5), last.chains)
            segments[-1:] = [closed, Segment(Offset(last.start + 6), None, last.chains)]
        case "twice":
            segments[-1] = Segment(last.start, None, (*last.chains, last.chains[0]))
        case "unknown":
            segments[-1] = Segment(last.start, None, (*last.chains, (UnitId(99),)))
        case _:
            units = (*units, units[0])
    broken = Layout(
        placed.cluster, placed.epoch, placed.first_offset, placed.leader, placed.replicas, units,
        placed.sync, placed.min_replicas, tuple(segments),
    )  # fmt: skip
    assert problems(broken)


_CHANGES = st.lists(
    st.tuples(
        st.sampled_from(["set", "clear", "load", "drop", "step"]),
        st.integers(0, 4 * INDEX_BLOCK_OFFSETS),
        st.integers(1, 5),
    ),
    max_size=60,
)


@SETTINGS
@given(_CHANGES)
def test_index_after_any_changes_is_a_dict_of_cells(
    changes: list[tuple[str, int, int]],
) -> None:
    index, model, end = OffsetIndex(), dict[int, int](), 0
    for what, offset, serial in changes:
        cell = pack_cell(State.DATA, Place(serial, 512 + 8 * offset, 64))
        match what:
            case "set":
                assert index.set(offset, cell) == model.get(offset, 0)
                model[offset], end = cell, max(end, offset + 1)
            case "clear":
                assert index.set(offset, 0) == model.pop(offset, 0)
            case "load":
                index.load(serial, array("Q", [offset, offset + 3]), array("Q", [cell, cell]))
                model |= {offset: cell, offset + 3: cell}
                end = max(end, offset + 4)
            case "step":
                index.expect_step(serial)
            case _:
                while not index.drop_below(Offset(offset), 1):
                    pass
                model = {known: value for known, value in model.items() if known >= offset}
    offsets = range(4 * INDEX_BLOCK_OFFSETS + 8)
    assert {o: index.get(o) for o in offsets if index.get(o)} == model
    assert dict(index.items(Offset(0))) == model
    assert index.end == end
    for serial in range(1, 6):
        assert index.live[serial] == sum(cell >> SERIAL_AT == serial for cell in model.values())
    lacking = list(index.without_cell(range(1, 3000, 3)))
    assert lacking == [o for o in range(1, 3000, 3) if o not in model]


@SETTINGS
@given(st.data())
def test_reassembly_of_fragments_in_any_order_gives_each_body_once_and_stays_in_its_bounds(
    data: st.DataObject,
) -> None:
    """Bodies of several requests, each fragment once or more, shuffled; some bodies evicted."""
    bodies = data.draw(st.lists(st.binary(min_size=30, max_size=200), min_size=1, max_size=5))
    room = data.draw(st.sampled_from([1 << 20, 1500]))
    flags = data.draw(st.sampled_from([0, FLAG_TRANSFER | 3]))
    reassembly = Reassembly(bytes_max=room, s_max=5.0, ack_room=100, counters=LinkCounters())
    frames = [frame for number, body in enumerate(bodies) for frame in cut(body, number, flags)]
    again = data.draw(st.lists(st.sampled_from(frames), max_size=10))
    whole: list[tuple[int, bytes]] = []
    for frame in data.draw(st.permutations(frames + again)):
        body, _ = reassembly.add(frame, SENDER, 1.0)
        if body is not None:
            whole.append((frame.request.sequence, bytes(body)))
        # One body may stand alone above the bound; it goes when another one comes.
        assert reassembly.bytes_held <= max(room, 200 + 512)
    assert set(whole) <= set(enumerate(bodies))
    if room > 1500:
        assert {number for number, _ in whole} == set(range(len(bodies)))
        if flags:
            assert len(whole) == len(bodies)
    reassembly.expire(100.0)
    assert reassembly.bytes_held == 0


def cut(body: bytes, number: int, flags: int, chunk: int = 25) -> list[Frame]:
    """Return a body's fragments."""
    request = RequestId(Incarnation(bytes(16)), number)
    pieces = [body[at : at + chunk] for at in range(0, len(body), chunk)]
    return [
        Frame(
            1, flags, at, len(pieces), len(body), ClusterId(b"testtest"), request, Epoch(1),
            Offset(number), piece,
        )
        for at, piece in enumerate(pieces)
    ]  # fmt: skip
