"""What planning makes of goals: drained units leave when others hold all, chains come and go."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from corfu.goals import GoalKind
from corfu.layout import Unit
from corfu.sequencer.commands import CloseUntil, RegisterUnit
from corfu.sequencer.goals import active_goals, reached
from corfu.sequencer.planning import changes, plan, rebuilds
from corfu.sequencer.state import State
from corfu.sequencer.survey import Survey
from corfu.types import UnitId
from tests.unit.sequencer.group_bench import incarnation
from tests.unit.sequencer.test_goals import ended, stated
from tests.unit.sequencer.test_machine import LEADER, activated, bad, chains, fresh, good, unit
from tests.unit.sequencer.test_planning import (
    chains_of,
    rebuild_all,
    registered,
    step,
    survey,
)


def begun(members: tuple[tuple[int, ...], ...], *spares: int) -> State:
    state = fresh(members)
    shortest = min(2, *(len(chain) for chain in members))
    state = replace(state, active=replace(state.active, min_replicas=shortest))
    return registered(activated(state), *spares)


def reborn(number: int) -> Unit:
    """Return the unit of this id after its folder was formatted anew."""
    return replace(unit(number), incarnation=incarnation(200 + number))


def settled(state: State, found: Survey) -> tuple[State, int]:
    """Make epochs and rebuild until nothing changes; returns also how many epochs it took."""
    for epochs in range(12):
        if not changes(state, plan(state, found, LEADER)):
            return state, epochs
        state = rebuild_all(step(state, found))
    raise AssertionError("it goes round in circles")


@pytest.mark.parametrize("leaving", [1, 2, 3])
def test_drained_unit_is_exchanged_at_once_and_keeps_old_entries_until_they_are_copied(
    leaving: int,
) -> None:
    state = stated(begun(((1, 2, 3),), 7), 1, GoalKind.DRAIN_UNIT, leaving)
    rest = tuple(id_ for id_ in (1, 2, 3) if id_ != leaving)
    state = step(state, survey(spares=(7,)))
    assert chains_of(state.active) == [chains((1, 2, 3)), chains((*rest, 7))]
    assert not changes(state, plan(state, survey(), LEADER))
    state = step(rebuild_all(state), survey())
    assert chains_of(state.active) == [chains((*rest, 7))]
    assert [each.id for each in state.active.units] == [*rest, 7]
    assert reached(state, active_goals(state, GoalKind.DRAIN_UNIT)[0])


def test_drained_unit_without_a_spare_stays_where_it_is() -> None:
    state = stated(begun(((1, 2),)), 1, GoalKind.DRAIN_UNIT, 1)
    assert not changes(state, plan(state, survey(), LEADER))


def test_drained_spare_takes_no_place() -> None:
    state = stated(begun(((1, 2),), 7), 1, GoalKind.DRAIN_UNIT, 7)
    state = step(state, survey(dead=(2,), spares=(7,)))
    assert state.active.open_segment.chains == ()
    state = good(good(state, ended(1, done=True)), ended(1, done=False))
    state = step(state, survey(spares=(7,)))
    assert state.active.open_segment.chains == chains((1, 7))


def test_spare_goes_to_a_chain_that_is_short_before_one_that_is_drained() -> None:
    state = stated(begun(((1, 2), (3, 4)), 7), 1, GoalKind.DRAIN_UNIT, 1)
    state = step(state, survey(dead=(4,), spares=(7,)))
    assert state.active.open_segment.chains == chains((1, 2), (3, 7))


def test_all_units_of_a_chain_are_drained_with_one_of_the_old_always_there() -> None:
    state = begun(((1, 2),), 7, 8)
    state = stated(stated(state, 1, GoalKind.DRAIN_UNIT, 1), 2, GoalKind.DRAIN_UNIT, 2)
    found = survey(spares=(7, 8))
    state = rebuild_all(step(state, found))
    assert chains_of(state.active) == [chains((1, 2)), chains((7, 8))]
    state = rebuild_all(step(state, found))
    assert chains_of(state.active) == [chains((1, 7, 8)), chains((7, 8))]
    state = step(state, found)
    assert chains_of(state.active) == [chains((7, 8))]


def test_chain_of_one_unit_is_drained_over_a_chain_of_two() -> None:
    state = stated(begun(((1,),), 7), 1, GoalKind.DRAIN_UNIT, 1)
    state, epochs = settled(state, survey(spares=(7,)))
    assert (chains_of(state.active), epochs) == ([chains((7,))], 3)


def test_drained_unit_that_alone_answers_keeps_appends_going() -> None:
    state = stated(begun(((1, 2),), 7), 1, GoalKind.DRAIN_UNIT, 1)
    state = step(state, survey(spares=(7,)))
    state = step(state, survey(dead=(7,)))
    # The one that had taken its place died: better a drained unit than no chain.
    assert state.active.open_segment.chains == chains((2, 1))
    state, _ = settled(registered(state, 8), survey(spares=(8,)))
    assert chains_of(state.active) == [chains((2, 8))]


def test_drained_unit_stays_in_old_chains_while_another_is_in_doubt_or_dead() -> None:
    state = stated(begun(((1, 2),), 7), 1, GoalKind.DRAIN_UNIT, 1)
    state = rebuild_all(step(state, survey(spares=(7,))))
    doubt = Survey(frozenset(), frozenset(), (), doubtful=frozenset({UnitId(2)}))
    assert plan(state, doubt, LEADER).chains_below[0] == chains((1, 2, 7))
    dead = survey(dead=(2,), keep=(2,))
    assert plan(state, dead, LEADER).chains_below[0] == chains((1, 2, 7))
    assert plan(state, survey(), LEADER).chains_below[0] == chains((2, 7))


def test_unit_that_is_drained_no_more_but_has_lost_its_place_becomes_a_spare() -> None:
    state = stated(begun(((1, 2), (3, 4)), 7), 1, GoalKind.DRAIN_UNIT, 1)
    state = step(state, survey(spares=(7,)))
    state = good(state, ended(1, done=False))
    state = stated(state, 2, GoalKind.DRAIN_UNIT, 3)
    state = step(rebuild_all(state), survey())
    assert chains_of(state.active) == [chains((2, 7), (3, 4))]
    # Else it would hold what others hold as well, and unit 3 would wait for a spare for ever.
    state, _ = settled(good(state, RegisterUnit(reborn(1))), _only(reborn(1)))
    assert chains_of(state.active) == [chains((2, 7), (4, 1))]


def _only(*spares: Unit) -> Survey:
    return Survey(frozenset(), frozenset(), spares)


def test_drained_unit_that_dies_is_dropped_and_the_goal_goes_on() -> None:
    state = stated(begun(((1, 2, 3),), 7), 1, GoalKind.DRAIN_UNIT, 2)
    state = step(state, survey(dead=(2,), spares=(7,)))
    assert reached(state, active_goals(state, GoalKind.DRAIN_UNIT)[0])
    assert state.active.open_segment.chains == chains((1, 3, 7))


def test_replaced_unit_waits_for_the_one_that_was_named() -> None:
    state = stated(begun(((1, 2),), 7, 8), 1, GoalKind.REPLACE_UNIT, 1, 8)
    assert not changes(state, plan(state, survey(spares=(7,)), LEADER))
    state = step(state, survey(spares=(7, 8)))
    assert state.active.open_segment.chains == chains((2, 8))


def test_spare_that_is_named_goes_elsewhere_only_if_no_other_is_left() -> None:
    state = stated(begun(((1, 2), (3, 4)), 7, 8), 1, GoalKind.REPLACE_UNIT, 1, 7)
    proposal = plan(state, survey(dead=(4,), spares=(7, 8)), LEADER)
    assert proposal.open_chains == chains((2, 7), (3, 8))
    proposal = plan(state, survey(dead=(4,), spares=(7,)), LEADER)
    assert proposal.open_chains == chains((1, 2), (3, 7))
    # Then any spare will do.
    state = step(state, survey(dead=(4,), spares=(7,)))
    assert step(state, survey(spares=(8,))).active.open_segment.chains == chains((2, 8), (3, 7))


def test_chain_is_added_from_the_units_named_once_all_answer() -> None:
    state = stated(begun(((1, 2),), 7, 8, 9), 1, GoalKind.ADD_CHAIN, 8, 9)
    assert not changes(state, plan(state, survey(spares=(7, 8)), LEADER))
    state = step(state, survey(spares=(7, 8, 9)))
    assert chains_of(state.active) == [chains((1, 2)), chains((1, 2), (8, 9))]
    assert reached(state, active_goals(state, GoalKind.ADD_CHAIN)[0])
    state, epochs = settled(rebuild_all(state), survey(spares=(7,)))
    assert epochs == 0, "old entries stay where they are"


def test_added_chain_whose_unit_was_needed_elsewhere_takes_another_spare() -> None:
    state = stated(begun(((1, 2),), 7, 8), 1, GoalKind.ADD_CHAIN, 7, 8)
    state = step(state, survey(dead=(2,), spares=(7,)))
    assert state.active.open_segment.chains == chains((1, 7))
    state = step(registered(state, 9), survey(spares=(8, 9)))
    assert state.active.open_segment.chains == chains((1, 7), (8, 9))


def test_chain_wider_than_its_named_units_is_filled_with_spares() -> None:
    state = stated(begun(((1, 2, 3),), 7, 8, 9), 1, GoalKind.ADD_CHAIN, 8, 9)
    state = step(state, survey(spares=(7, 8, 9)))
    assert state.active.open_segment.chains == chains((1, 2, 3), (8, 9, 7))


def test_abandoned_chain_is_empty_below_and_begins_anew_from_spares() -> None:
    state = stated(begun(((1, 2), (3, 4)), 7, 8), 1, GoalKind.ABANDON_CHAIN, 1, 2)
    gone = survey(dead=(1, 2), keep=(1, 2), spares=(7, 8))
    state = step(state, gone)
    assert chains_of(state.active) == [chains((), (3, 4)), chains((7, 8), (3, 4))]
    assert reached(state, active_goals(state, GoalKind.ABANDON_CHAIN)[0])
    # Nothing that they still hold may ever count.
    assert {(each.unit, each.bound) for each in state.left} == {(1, None), (2, None)}
    state = good(state, CloseUntil(state.active.epoch, state.active.first_offset))
    assert (rebuilds(state), state.closed_until) == ((), 100)


def test_abandoned_chain_without_spares_leaves_the_others_to_take_appends() -> None:
    state = stated(begun(((1, 2), (3, 4))), 1, GoalKind.ABANDON_CHAIN, 1, 2)
    state = step(state, survey(dead=(1, 2), keep=(1, 2)))
    assert chains_of(state.active) == [chains((), (3, 4)), chains((3, 4))]
    state = good(state, ended(1, done=True))
    state = good(good(state, RegisterUnit(reborn(1))), RegisterUnit(reborn(2)))
    state = step(state, Survey(frozenset(), frozenset(), (reborn(1), reborn(2))))
    # The same ids, formatted anew: new incarnations, which are spares as any other.
    assert state.active.open_segment.chains == chains((3, 4), (1, 2))
    assert chains_of(state.active)[0] == chains((), (3, 4))


def test_abandoned_units_leave_mixed_chains_to_those_that_are_left() -> None:
    state = step(begun(((1, 2), (3, 4)), 7), survey(dead=(2,), spares=(7,)))
    # [0, 100) is on 1 and 3-4, all after on 1-7 and 3-4; 7 has copied nothing yet.
    state = stated(state, 1, GoalKind.ABANDON_CHAIN, 1)
    state = step(registered(state, 8), survey(dead=(1,), keep=(1,), spares=(8,)))
    assert chains_of(state.active) == [
        chains((), (3, 4)),
        chains((7,), (3, 4)),
        chains((7, 8), (3, 4)),
    ]


def test_abandoned_unit_that_answers_as_a_new_incarnation_is_no_spare_before_it_has_left() -> None:
    state = stated(begun(((1, 2), (3, 4))), 1, GoalKind.ABANDON_CHAIN, 1, 2)
    state = good(good(state, RegisterUnit(reborn(1))), RegisterUnit(reborn(2)))
    gone = frozenset({UnitId(1), UnitId(2)})
    state = step(state, Survey(gone, frozenset(), (reborn(1), reborn(2))))
    assert chains_of(state.active) == [chains((), (3, 4)), chains((3, 4))]


def test_abandoned_unit_under_a_new_incarnation_is_used_only_when_the_goal_has_ended() -> None:
    state = stated(begun(((1, 2), (3, 4))), 1, GoalKind.ABANDON_CHAIN, 1, 2)
    state = step(state, survey(dead=(1, 2), keep=(1, 2)))
    state = good(good(state, RegisterUnit(reborn(1))), RegisterUnit(reborn(2)))
    back = Survey(frozenset(), frozenset(), (reborn(1), reborn(2)))
    # Else the next plan would give them up, too.
    assert not changes(state, plan(state, back, LEADER))
    state = step(good(state, ended(1, done=True)), back)
    assert state.active.open_segment.chains == chains((3, 4), (1, 2))


def test_layout_that_empties_a_chain_without_an_abandon_is_rejected() -> None:
    state = begun(((1, 2), (3, 4)), 7, 8)
    wished = stated(state, 1, GoalKind.ABANDON_CHAIN, 1, 2)
    proposal = plan(wished, survey(dead=(1, 2), keep=(1, 2), spares=(7, 8)), LEADER)
    assert proposal.abandoned == (1, 2)
    bad(state, replace(proposal, abandoned=()), "would lose all its units")


def test_random_goals_and_deaths_break_no_rule_and_all_end() -> None:
    for seed in range(150):
        rng = random.Random(seed)
        width, count = rng.choice(((1, 2), (2, 1), (2, 2), (3, 1), (3, 2)))
        members = [tuple(range(c * width + 1, c * width + width + 1)) for c in range(count)]
        state = begun(tuple(members))
        fresh_id = 50
        for number in range(1, 11):
            joined = tuple(range(fresh_id, fresh_id + rng.randint(0, 2)))
            fresh_id += len(joined)
            state = registered(state, *joined)
            state = _random_goal(rng, state, number)
            dead = _one_dead(rng, state)
            spares = tuple(int(u.id) for u in state.registered)
            state = step(state, survey(dead=dead, spares=spares), window=rng.randint(1, 50))
            if rng.random() < 0.6:
                state = rebuild_all(state)
            state = _note_reached(state)
        state = _calm(state, fresh_id)
        assert active_goals(state, *GoalKind) == (), seed
        widths = {len(c) for s in state.active.segments for c in s.chains}
        assert widths - {0} == {width}, seed
        assert len(state.active.open_segment.chains) == state.wanted_chains, seed
        assert not {u.id for u in state.active.units} & {*state.drained}, seed


def _random_goal(rng: random.Random, state: State, number: int) -> State:
    listed = [int(each.id) for each in state.active.units]
    spares = [int(each.id) for each in state.registered if each.id not in state.drained]
    kind = rng.choice((GoalKind.DRAIN_UNIT, GoalKind.REPLACE_UNIT, GoalKind.ADD_CHAIN, None))
    named = {id_ for goal in active_goals(state, *GoalKind) for id_ in goal.units}
    listed = [id_ for id_ in listed if id_ not in named]
    spares = [id_ for id_ in spares if id_ not in named]
    if kind is GoalKind.DRAIN_UNIT and listed:
        return stated(state, number, kind, rng.choice(listed))
    if kind is GoalKind.REPLACE_UNIT and listed and spares:
        return stated(state, number, kind, rng.choice(listed), rng.choice(spares))
    width = state.wanted_replicas
    adding = active_goals(state, GoalKind.ADD_CHAIN)
    if kind is GoalKind.ADD_CHAIN and len(spares) >= width and not adding:
        return stated(state, number, kind, *rng.sample(spares, width))
    return state


def _one_dead(rng: random.Random, state: State) -> tuple[int, ...]:
    ids = [int(u.id) for u in state.active.units]
    alone = {c[0] for s in state.active.segments for c in s.chains if len(c) == 1}
    mortal = [id_ for id_ in ids if id_ not in alone]
    return tuple(rng.sample(mortal, min(len(mortal), rng.randint(0, 1))))


def _note_reached(state: State) -> State:
    for goal in active_goals(state, *GoalKind):
        if reached(state, goal):
            state = good(state, ended(int.from_bytes(goal.id), done=True))
    return state


def _calm(state: State, fresh_id: int) -> State:
    for _ in range(14):
        spares = tuple(range(fresh_id, fresh_id + 8))
        fresh_id += 8
        state = registered(state, *spares)
        found = survey(spares=tuple(int(u.id) for u in state.registered))
        state = _note_reached(rebuild_all(step(state, found)))
    return state
