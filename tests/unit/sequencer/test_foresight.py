"""What is told and refused before a goal is stated."""

from __future__ import annotations

import pytest

from corfu.goals import GoalKind
from corfu.sequencer.commands import CloseUntil, RecordRebuilt, RegisterUnit
from corfu.sequencer.foresight import foresee, steps_left
from corfu.sequencer.state import State
from corfu.sequencer.survey import Survey
from corfu.types import Offset, UnitId
from tests.unit.sequencer.test_goal_plans import begun, reborn
from tests.unit.sequencer.test_goals import goal, stated
from tests.unit.sequencer.test_machine import LEADER, good, unit
from tests.unit.sequencer.test_planning import step, survey


def ids(*numbers: int) -> frozenset[UnitId]:
    return frozenset(UnitId(number) for number in numbers)


def refusal(state: State, found: Survey, kind: GoalKind, *units: int) -> str | None:
    return foresee(state, found, goal(9, kind, *units), LEADER).refusal


def steps(state: State, found: Survey, kind: GoalKind, *units: int) -> tuple[str, ...]:
    foreseen = foresee(state, found, goal(9, kind, *units), LEADER)
    assert foreseen.refusal is None
    return foreseen.steps


def test_drain_tells_every_epoch_that_it_takes() -> None:
    state = begun(((1, 2), (3, 4)), 7)
    assert steps(state, survey(spares=(7,)), GoalKind.DRAIN_UNIT, 1) == (
        "new entries go to 2-7 3-4 instead of 1-2 3-4",
        "unit 7 gets what chain 1-2 holds in offsets 0 to 99",
        "unit 1 leaves",
        "old segments with equal chains are merged",
        "unit 1 is not used any more, and can be switched off",
    )


def test_replacement_by_the_unit_named_is_told() -> None:
    state = begun(((1, 2),), 7, 8)
    found = steps(state, survey(spares=(7, 8)), GoalKind.REPLACE_UNIT, 2, 8)
    assert found[0] == "new entries go to 1-8 instead of 1-2"


def test_drain_of_a_spare_takes_no_epoch() -> None:
    found = steps(begun(((1, 2),), 7), survey(spares=(7,)), GoalKind.DRAIN_UNIT, 7)
    assert found == ("unit 7 is a spare: it is not used any more",)


def test_new_chain_is_told() -> None:
    state = begun(((1, 2),), 7, 8)
    found = steps(state, survey(spares=(7, 8)), GoalKind.ADD_CHAIN, 7, 8)
    assert found == ("new entries go to 1-2 7-8 instead of 1-2",)


def test_abandon_tells_what_is_lost_from_the_trim_mark_to_the_end() -> None:
    state = begun(((1, 2), (3, 4)), 7, 8)
    gone = survey(dead=(1, 2), keep=(1, 2), spares=(7, 8))
    assert steps(state, gone, GoalKind.ABANDON_CHAIN, 1, 2) == (
        "new entries go to 7-8 3-4 instead of 1-2 3-4",
        "LOST: all that chain 1-2 held in offsets 0 to 99",
        "unit 1 leaves",
        "unit 2 leaves",
        "the units abandoned return only when they are formatted anew",
    )


def test_abandon_whose_units_are_back_formatted_anew_is_foreseen_to_end() -> None:
    state = begun(((1, 2), (3, 4)))
    state = good(good(state, RegisterUnit(reborn(1))), RegisterUnit(reborn(2)))
    gone = Survey(ids(1, 2), ids(), (reborn(1), reborn(2)))
    found = steps(state, gone, GoalKind.ABANDON_CHAIN, 1, 2)
    assert found[0] == "new entries go to 3-4 instead of 1-2 3-4"
    assert "new entries go to 3-4 1-2 instead of 3-4" in found


@pytest.mark.parametrize(
    ("found", "kind", "units", "reason"),
    [
        (survey(), GoalKind.DRAIN_UNIT, (1,), "no spare is there to take the place of unit 1"),
        (survey(), GoalKind.DRAIN_UNIT, (5,), "unit 5 is not known"),
        (survey(), GoalKind.REPLACE_UNIT, (1, 7), "unit 7 does not answer"),
        (survey(spares=(7,)), GoalKind.ADD_CHAIN, (7, 8), "unit 8 does not answer"),
        (survey(spares=(7, 8)), GoalKind.ADD_CHAIN, (1, 7), "unit 1 is no spare"),
        (
            survey(dead=(4,), spares=(7, 8)),
            GoalKind.ADD_CHAIN,
            (7, 8),
            "only 2 of 3 chains would take appends",
        ),
        (
            survey(dead=(1, 2), keep=(1, 2), spares=(7, 8)),
            GoalKind.DRAIN_UNIT,
            (1,),
            "unit 1 does not answer, nor does another that holds what chain 1-2 holds",
        ),
        (
            Survey(ids(), ids(), (unit(7),), doubtful=ids(2)),
            GoalKind.DRAIN_UNIT,
            (1,),
            "unit 2 is in doubt",
        ),
        (
            Survey(ids(), ids(), (unit(7),), frozen=ids(1)),
            GoalKind.DRAIN_UNIT,
            (1,),
            "unit 1 saw a conflict",
        ),
        (
            Survey(ids(1), ids(), (), answering=ids(2, 3, 4)),
            GoalKind.ABANDON_CHAIN,
            (1, 2),
            "unit 2 answers: nothing to abandon",
        ),
        (survey(dead=(1,)), GoalKind.ABANDON_CHAIN, (1,), "no chain is made of nothing but"),
    ],
)
def test_goal_that_cannot_be_reached_or_would_do_harm_is_refused(
    found: Survey, kind: GoalKind, units: tuple[int, ...], reason: str
) -> None:
    said = refusal(begun(((1, 2), (3, 4)), 7, 8), found, kind, *units)
    assert said is not None
    assert reason in said


def test_abandon_of_a_chain_that_another_unit_holds_whole_by_now_is_refused() -> None:
    state = step(begun(((1, 2),), 7), survey(dead=(2,), spares=(7,)))
    state = good(state, CloseUntil(state.active.epoch, Offset(100)))
    place = (UnitId(7), unit(7).incarnation, Offset(0), Offset(100))
    dead = survey(dead=(1,), keep=(1,))
    assert refusal(state, dead, GoalKind.ABANDON_CHAIN, 1) is None
    state = good(state, RecordRebuilt(state.active.epoch, *place, 1, 0))
    said = refusal(state, dead, GoalKind.ABANDON_CHAIN, 1)
    assert said == "unit 7 holds all that chain 1 held, and joins it"


def test_steps_left_shrink_as_a_goal_goes_on() -> None:
    state = stated(begun(((1, 2),), 7), 1, GoalKind.DRAIN_UNIT, 1)
    found = survey(spares=(7,))
    before = steps_left(state, found, LEADER)
    state = step(state, found)
    assert steps_left(state, found, LEADER) == before[1:]


def test_foresight_changes_nothing() -> None:
    state = begun(((1, 2),), 7)
    digest = state.digest()
    steps(state, survey(spares=(7,)), GoalKind.DRAIN_UNIT, 1)
    assert state.digest() == digest
