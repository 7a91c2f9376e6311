"""The next layout: without the dead, with spares, merged; and always one that the rules accept."""

from __future__ import annotations

import random

from corfu.layout import Layout
from corfu.sequencer.commands import CloseUntil, RecordRebuilt, RegisterUnit
from corfu.sequencer.planning import changes, plan, rebuilds
from corfu.sequencer.state import State
from corfu.sequencer.survey import Survey
from corfu.types import Offset, UnitId
from tests.unit.sequencer.test_machine import (
    LEADER,
    activated,
    chains,
    fresh,
    good,
    unit,
)


def survey(
    dead: tuple[int, ...] = (), spares: tuple[int, ...] = (), keep: tuple[int, ...] = ()
) -> Survey:
    gone = frozenset(UnitId(id_) for id_ in dead)
    drop = gone - {UnitId(id_) for id_ in keep}
    return Survey(gone, drop, tuple(unit(id_) for id_ in spares))


def registered(state: State, *numbers: int) -> State:
    for number in numbers:
        state = good(state, RegisterUnit(unit(number)))
    return state


def step(state: State, found: Survey, window: int = 100) -> State:
    return activated(state, plan(state, found, LEADER), window)


def chains_of(layout: Layout) -> list[tuple[tuple[UnitId, ...], ...]]:
    return [segment.chains for segment in layout.segments]


def rebuild_all(state: State) -> State:
    state = good(state, CloseUntil(state.active.epoch, state.active.first_offset))
    for goal in rebuilds(state):
        place = (goal.unit.id, goal.unit.incarnation, goal.reached, goal.end)
        done = RecordRebuilt(state.active.epoch, *place, goal.chains, goal.chain)
        if goal.reached < goal.end:
            state = good(state, done)
    return state


def test_plan_with_all_alive_changes_nothing() -> None:
    state = activated(fresh())
    assert not changes(state, plan(state, survey(), LEADER))


def test_dead_unit_leaves_every_chain_and_the_others_keep_their_order() -> None:
    state = step(activated(fresh()), survey(dead=(1, 5)))
    assert chains_of(state.active) == [chains((2, 3), (4, 6))]
    assert [u.id for u in state.active.units] == [2, 3, 4, 6]


def test_unit_dead_but_not_to_be_dropped_yet_stays() -> None:
    state = activated(fresh())
    proposal = plan(state, survey(dead=(1,), keep=(1,)), LEADER)
    assert not changes(state, proposal)


def test_chain_of_dead_units_keeps_them_all() -> None:
    state = activated(fresh(((1, 2), (3, 4))))
    assert not changes(state, plan(state, survey(dead=(1, 2)), LEADER))


def test_chain_below_min_replicas_is_left_out_and_comes_back_with_a_spare() -> None:
    state = step(activated(fresh(((1, 2), (3, 4)))), survey(dead=(1,)))
    assert chains_of(state.active) == [chains((2,), (3, 4)), chains((3, 4))]
    state = step(registered(state, 7), survey(spares=(7,)))
    assert state.active.open_segment.chains == chains((2, 7), (3, 4))


def test_last_chain_below_min_replicas_leaves_no_chain() -> None:
    state = step(activated(fresh(((1, 2),))), survey(dead=(2,)))
    assert state.active.open_segment.chains == ()


def test_spare_takes_a_dead_units_place_at_the_end_of_a_new_segment() -> None:
    state = registered(activated(fresh()), 7)
    state = step(state, survey(dead=(2,), spares=(7,)))
    assert chains_of(state.active) == [chains((1, 3), (4, 5, 6)), chains((1, 3, 7), (4, 5, 6))]


def test_spare_without_a_short_chain_stays_a_spare() -> None:
    state = registered(activated(fresh()), 7)
    assert not changes(state, plan(state, survey(spares=(7,)), LEADER))


def test_spare_under_the_id_of_a_unit_that_is_still_listed_is_not_used() -> None:
    state = activated(fresh(((1, 2), (3, 4))))
    wiped = unit(1)
    found = Survey(frozenset({UnitId(1)}), frozenset(), (wiped,))
    assert not changes(state, plan(state, found, LEADER))


def test_rebuilt_unit_joins_the_old_chains_and_segments_are_merged() -> None:
    state = registered(activated(fresh()), 7)
    state = step(state, survey(dead=(2,), spares=(7,)))
    (goal,) = rebuilds(state)
    assert (goal.unit.id, goal.start, goal.end, goal.reached) == (7, 0, 100, 0)
    assert (goal.chains, goal.chain, goal.sources) == (2, 0, (1, 3))
    state = rebuild_all(state)
    assert rebuilds(state)[0].reached == 100
    state = step(state, survey())
    assert chains_of(state.active) == [chains((1, 3, 7), (4, 5, 6))]
    assert (rebuilds(state), state.rebuilt) == ((), ())


def test_progress_of_a_rebuild_survives_another_epoch() -> None:
    state = registered(activated(fresh()), 7)
    state = step(state, survey(dead=(2,), spares=(7,)))
    state = good(state, CloseUntil(state.active.epoch, Offset(100)))
    place = (UnitId(7), unit(7).incarnation)
    state = good(state, RecordRebuilt(state.active.epoch, *place, Offset(0), Offset(60), 2, 0))
    assert rebuilds(state)[0].reached == 60
    state = step(state, survey())
    assert rebuilds(state)[0].reached == 60
    state = good(state, RecordRebuilt(state.active.epoch, *place, Offset(60), Offset(100), 2, 0))
    assert len(state.rebuilt) == 1
    assert rebuilds(state)[0].reached == 100


def test_rebuild_of_another_chain_does_not_count() -> None:
    state = registered(activated(fresh()), 7)
    state = step(state, survey(dead=(2,), spares=(7,)))
    state = good(state, CloseUntil(state.active.epoch, Offset(100)))
    place = (UnitId(7), unit(7).incarnation)
    state = good(state, RecordRebuilt(state.active.epoch, *place, Offset(0), Offset(100), 2, 1))
    assert not changes(state, plan(state, survey(), LEADER))


def test_sole_holder_of_old_entries_that_dies_stays_there_and_comes_back() -> None:
    state = registered(activated(fresh(((1, 2),))), 7)
    state = step(state, survey(dead=(2,), spares=(7,)))
    state = registered(good(state, CloseUntil(state.active.epoch, Offset(100))), 8)
    state = step(state, survey(dead=(1,), spares=(8,)))
    # Unit 1 alone has [0, 100): it keeps its place there, and the log goes on without it.
    assert chains_of(state.active) == [chains((1,)), chains((7,)), chains((7, 8))]
    state = step(state, survey())
    assert {unit_.id for unit_ in state.active.units} == {1, 7, 8}


def test_holders_of_one_chains_entries_that_share_no_chain_find_each_other() -> None:
    state = registered(activated(fresh(((1, 2), (3, 4)))), 7)
    state = step(state, survey(dead=(4,), spares=(7,)))
    state = good(state, CloseUntil(state.active.epoch, state.active.first_offset))
    state = step(state, survey(dead=(3,)))
    # Unit 3 alone has the oldest entries, unit 7 alone those after them.
    assert state.active.open_segment.chains == chains((1, 2))
    state = step(state, survey())
    assert state.active.open_segment.chains == chains((1, 2), (7, 3))


def test_chain_that_never_held_an_entry_begins_anew_from_spares() -> None:
    state = step(fresh(((1, 2),)), survey(dead=(1,)))
    state = step(registered(state, 7, 8, 9), survey(spares=(7, 8, 9)))
    assert state.active.open_segment.chains == chains((7, 8))


def test_chain_whose_old_entries_are_out_of_reach_is_not_begun_anew() -> None:
    state = step(activated(fresh(((1, 2),))), survey(dead=(1,)))
    state = registered(good(state, CloseUntil(state.active.epoch, Offset(100))), 7, 8)
    proposal = plan(state, survey(dead=(2,), spares=(7, 8)), LEADER)
    assert proposal.open_chains == ()


def test_random_deaths_and_returns_end_with_full_width_and_break_no_rule() -> None:
    for seed in range(150):
        rng = random.Random(seed)
        width, count = rng.choice(((2, 1), (2, 2), (3, 1), (3, 2)))
        members = [tuple(range(c * width + 1, c * width + width + 1)) for c in range(count)]
        state = activated(fresh(tuple(members)))
        fresh_id = 50
        for _ in range(8):
            ids = [int(u.id) for u in state.active.units]
            dead = tuple(rng.sample(ids, rng.randint(0, 1)))
            joined = tuple(range(fresh_id, fresh_id + rng.randint(0, 2)))
            fresh_id += len(joined)
            state = registered(state, *joined)
            spares = tuple(int(u.id) for u in state.registered)
            state = step(state, survey(dead=dead, spares=spares), window=rng.randint(1, 50))
            if rng.random() < 0.5:
                state = rebuild_all(state)
        for _ in range(6):
            spares = tuple(range(fresh_id, fresh_id + 6))
            fresh_id += 6
            state = registered(state, *spares)
            state = rebuild_all(step(state, survey(spares=spares)))
        assert {len(c) for s in state.active.segments for c in s.chains} == {width}, seed
        assert len(state.active.open_segment.chains) == count, seed
