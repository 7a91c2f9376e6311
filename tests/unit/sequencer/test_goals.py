"""Goals in the state: which may be stated, when they are reached, what lifting them undoes."""

from __future__ import annotations

import pytest

from corfu.goals import Goal, GoalKind, GoalStatus
from corfu.sequencer.commands import AddGoal, EndGoal
from corfu.sequencer.goals import ENDED_KEPT, goal_record
from corfu.sequencer.machine import apply
from corfu.sequencer.planning import plan
from corfu.sequencer.state import State
from corfu.types import GoalId, UnitId
from tests.unit.sequencer.test_machine import LEADER, activated, bad, fresh, good
from tests.unit.sequencer.test_planning import registered, survey


def goal(number: int, kind: GoalKind, *units: int) -> Goal:
    return Goal(GoalId(number.to_bytes(16)), kind, tuple(UnitId(id_) for id_ in units))


def stated(state: State, number: int, kind: GoalKind, *units: int) -> State:
    return good(state, AddGoal(goal(number, kind, *units)))


def ended(number: int, *, done: bool) -> EndGoal:
    return EndGoal(GoalId(number.to_bytes(16)), done, "why")


def status(state: State, number: int) -> GoalStatus:
    record = goal_record(state, GoalId(number.to_bytes(16)))
    assert record is not None
    return record.status


def spare_cluster() -> State:
    return registered(activated(fresh(((1, 2), (3, 4)))), 7, 8, 9)


def test_goal_stated_twice_is_one() -> None:
    once = stated(spare_cluster(), 1, GoalKind.ADD_CHAIN, 7, 8)
    assert (once.wanted_chains, len(once.goals)) == (3, 1)
    assert stated(once, 1, GoalKind.ADD_CHAIN, 7, 8) == once


@pytest.mark.parametrize(
    ("kind", "units", "reason"),
    [
        (GoalKind.DRAIN_UNIT, (5,), "unit 5 is not known"),
        (GoalKind.DRAIN_UNIT, (), "too few"),
        (GoalKind.DRAIN_UNIT, (1, 2), "too many"),
        (GoalKind.REPLACE_UNIT, (1, 1), "one twice"),
        (GoalKind.REPLACE_UNIT, (1, 2), "unit 2 is no spare"),
        (GoalKind.REPLACE_UNIT, (1, 5), "unit 5 is not known"),
        (GoalKind.ADD_CHAIN, (7, 1), "unit 1 is no spare"),
        (GoalKind.ADD_CHAIN, (7,), "at least 2 units"),
        (GoalKind.ADD_CHAIN, (7, 8, 9), "at most 2"),
        (GoalKind.ABANDON_CHAIN, (1, 7), "unit 7 stands in no chain"),
        (GoalKind.ABANDON_CHAIN, (1, 3), "no chain is made of nothing but these"),
        (GoalKind.REPLACE_REPLICA, (), "no replica"),
    ],
)
def test_goal_that_the_state_does_not_allow_is_rejected(
    kind: GoalKind, units: tuple[int, ...], reason: str
) -> None:
    bad(spare_cluster(), AddGoal(goal(1, kind, *units)), reason)


def test_unit_stands_in_one_goal_under_way_at_most() -> None:
    state = stated(spare_cluster(), 1, GoalKind.REPLACE_UNIT, 1, 7)
    bad(state, AddGoal(goal(2, GoalKind.DRAIN_UNIT, 1)), "unit 1 stands in a goal")
    bad(state, AddGoal(goal(2, GoalKind.ADD_CHAIN, 7, 8)), "unit 7 stands in a goal")
    state = stated(state, 2, GoalKind.DRAIN_UNIT, 3)
    assert state.drained == (1, 3)


def test_one_chain_is_added_or_abandoned_at_a_time() -> None:
    state = registered(spare_cluster(), 10)
    state = stated(state, 1, GoalKind.ADD_CHAIN, 7, 8)
    bad(state, AddGoal(goal(2, GoalKind.ADD_CHAIN, 9, 10)), "one at a time")
    state = stated(state, 3, GoalKind.ABANDON_CHAIN, 1, 2)
    bad(state, AddGoal(goal(4, GoalKind.ABANDON_CHAIN, 3, 4)), "one at a time")


def test_drained_unit_is_no_spare_for_other_goals() -> None:
    state = stated(spare_cluster(), 1, GoalKind.DRAIN_UNIT, 7)
    state = good(state, ended(1, done=True))
    bad(state, AddGoal(goal(2, GoalKind.ADD_CHAIN, 7, 8)), "unit 7 is drained")


def test_goal_that_is_not_reached_cannot_be_ended_as_done() -> None:
    state = stated(spare_cluster(), 1, GoalKind.DRAIN_UNIT, 1)
    bad(state, ended(1, done=True), "not reached")
    bad(state, ended(9, done=True), "no such goal")
    state = stated(state, 2, GoalKind.DRAIN_UNIT, 7)
    state = good(state, ended(2, done=True))
    assert (status(state, 1), status(state, 2)) == (GoalStatus.ACTIVE, GoalStatus.DONE)
    assert good(state, ended(2, done=True)) == state
    assert state.drained == (1, 7)


def test_drain_that_is_lifted_under_way_or_when_done_gives_the_unit_free() -> None:
    state = stated(spare_cluster(), 1, GoalKind.DRAIN_UNIT, 1)
    state = stated(state, 2, GoalKind.DRAIN_UNIT, 7)
    state = good(state, ended(2, done=True))
    state = good(good(state, ended(1, done=False)), ended(2, done=False))
    assert state.drained == ()
    assert {status(state, number) for number in (1, 2)} == {GoalStatus.CANCELLED}
    assert good(state, ended(1, done=False)) == state
    bad(state, ended(1, done=True), "not reached")


def test_drain_of_a_unit_that_is_drained_anew_is_not_lifted_by_the_old_goal() -> None:
    state = stated(spare_cluster(), 1, GoalKind.DRAIN_UNIT, 7)
    state = good(good(state, ended(1, done=True)), ended(1, done=False))
    state = stated(state, 2, GoalKind.DRAIN_UNIT, 7)
    assert good(state, ended(1, done=False)).drained == (7,)


def test_new_chain_that_is_lifted_is_wanted_no_more_unless_it_is_there() -> None:
    state = stated(spare_cluster(), 1, GoalKind.ADD_CHAIN, 7, 8)
    assert good(state, ended(1, done=False)).wanted_chains == 2
    proposal = plan(state, survey(spares=(7, 8)), LEADER)
    pending = good(state, proposal)
    bad(pending, ended(1, done=False), "about to be")
    opened = activated(state, proposal)
    assert len(opened.active.open_segment.chains) == 3
    bad(opened, ended(1, done=False), "is there")
    opened = good(opened, ended(1, done=True))
    bad(opened, ended(1, done=False), "it is done")


def test_abandon_is_not_lifted_once_an_intent_without_the_units_is_pending() -> None:
    state = stated(spare_cluster(), 1, GoalKind.ABANDON_CHAIN, 1, 2)
    pending = good(state, plan(state, survey(dead=(1, 2), keep=(1, 2)), LEADER))
    bad(pending, ended(1, done=False), "about to be active")
    assert status(good(state, ended(1, done=False)), 1) is GoalStatus.CANCELLED


def test_goals_that_ended_are_forgotten_but_for_the_last_and_those_that_still_drain() -> None:
    state = stated(spare_cluster(), 1, GoalKind.DRAIN_UNIT, 7)
    state = good(state, ended(1, done=True))
    for number in range(2, ENDED_KEPT + 10):
        state = stated(state, number, GoalKind.DRAIN_UNIT, 8)
        state = good(state, ended(number, done=False))
    assert len(state.goals) == ENDED_KEPT + 1
    assert status(state, 1) is GoalStatus.DONE
    assert goal_record(state, GoalId((2).to_bytes(16))) is None
    assert goal_record(state, GoalId((ENDED_KEPT + 9).to_bytes(16))) is not None


def test_rejected_goal_changes_nothing() -> None:
    state = spare_cluster()
    after, outcome = apply(state, AddGoal(goal(1, GoalKind.DRAIN_UNIT, 99)))
    assert not outcome.accepted
    assert after is state
