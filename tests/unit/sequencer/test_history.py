"""The past layouts that the sequencer keeps for people."""

from __future__ import annotations

from dataclasses import replace

from corfu import schema
from corfu.codec import BODY_BYTES_MAX
from corfu.layout import Layout, Segment
from corfu.messages import HistoryIs
from corfu.sequencer.commands import ProposeLayout
from corfu.sequencer.state import HISTORY_BYTES_MAX, HISTORY_MAX, State, past_layouts
from corfu.sequencer.status import history_of
from corfu.types import Epoch, Incarnation, Offset, RequestId, UnitId
from tests.unit.sequencer.test_machine import activated, fresh, good, proposal, unit

REQUEST = RequestId(Incarnation(bytes(16)), 1)


def test_history_has_each_layout_that_was_active_and_no_intent() -> None:
    state = fresh()
    assert history_of(REQUEST, state) == HistoryIs(REQUEST, ())
    first = activated(state)
    assert first.history == ()
    # An intent that another one replaces was never active.
    replaced = good(first, proposal(first))
    second = activated(replaced, proposal(replaced))
    assert second.history == (first.active,)
    assert [each.epoch for each in history_of(REQUEST, second).layouts] == [1, 3]


def test_history_keeps_the_newest_when_there_are_too_many() -> None:
    state = fresh()
    for _ in range(HISTORY_MAX + 5):
        state = activated(state)
    epochs = [each.epoch for each in state.history]
    assert epochs == list(range(5, HISTORY_MAX + 5))


def test_history_of_a_large_cluster_fits_a_message() -> None:
    """Ten chains of four units, and as many segments as a long repair leaves."""
    state = _large(fresh(tuple(tuple(range(c, c + 4)) for c in range(1, 41, 4))))
    for number in range(HISTORY_MAX + 5):
        state = replace(
            state,
            history=past_layouts(state),
            active=replace(state.active, epoch=Epoch(number + 2)),
        )
    assert 20 < len(state.history) < HISTORY_MAX
    assert len(schema.pack(state)) < 2 * HISTORY_BYTES_MAX
    assert len(schema.pack(history_of(REQUEST, state))) < BODY_BYTES_MAX
    assert state.history[-1].epoch == state.active.epoch - 1


def _large(state: State) -> State:
    open_segment = state.active.open_segment
    edges = [Offset(10**9 * n) for n in range(20)]
    segments = tuple(
        Segment(start, end, open_segment.chains)
        for start, end in zip(edges, (*edges[1:], None), strict=True)
    )
    layout: Layout = replace(state.active, epoch=Epoch(1), segments=segments)
    return replace(state, active=layout)


def test_state_of_forty_units_stays_small_with_a_full_history() -> None:
    state = fresh(tuple(tuple(range(c, c + 4)) for c in range(1, 41, 4)))
    for _ in range(HISTORY_MAX + 5):
        state = activated(state)
    assert len(state.history) >= HISTORY_MAX // 2
    assert len(schema.pack(state)) < HISTORY_BYTES_MAX + (64 << 10)


def test_layout_that_replaces_a_unit_is_told_from_the_one_before() -> None:
    state = activated(fresh(((1, 2, 3),)))
    shorter: ProposeLayout = proposal(
        state,
        units=(unit(1), unit(3)),
        chains_below=(((UnitId(1), UnitId(3)),),),
        open_chains=((UnitId(1), UnitId(3)),),
    )
    after = activated(state, shorter)
    assert [len(each.units) for each in history_of(REQUEST, after).layouts] == [3, 2]
