"""What a goal will do, before anything is done: the epochs that it takes, and why it cannot be.

Pure. The steps are not described by hand: the state machine and the planning themselves are run
ahead, from the state and the units as they are now, until nothing changes any more. So what is told
is what will happen, if nothing else does.
"""

from __future__ import annotations

from dataclasses import dataclass

from corfu.goals import Goal, GoalKind, GoalStatus
from corfu.layout import Layout, Leader, Segment
from corfu.types import Offset, UnitId

from .commands import ActivateLayout, AddGoal, CloseUntil, EndGoal, RecordRebuilt, SealedUnit
from .goals import active_goals, goal_record, reached
from .machine import apply
from .planning import changes, plan, rebuilds
from .state import State
from .succession import is_rebuilt
from .survey import Chain, Survey

_EPOCHS_MAX = 24
"""Epochs looked ahead; a goal takes two or three, many at once a few more."""


@dataclass(frozen=True, slots=True)
class Foreseen:
    """What stating a goal would lead to: why it is refused, or what will happen, in words."""

    refusal: str | None
    steps: tuple[str, ...]


def foresee(state: State, survey: Survey, goal: Goal, leader: Leader) -> Foreseen:
    """Return what becomes of a goal that is stated now, or was stated before."""
    wished, outcome = apply(state, AddGoal(goal))
    if not outcome.accepted:
        return Foreseen(outcome.reason, ())
    refusal = _units_refusal(state, survey, goal)
    if refusal is not None:
        return Foreseen(refusal, ())
    end, steps = _run_ahead(wished, survey, leader)
    record = goal_record(end, goal.id)
    if record is None or record.status is not GoalStatus.DONE:
        return Foreseen(_why_stuck(state, survey, end, goal), steps)
    return Foreseen(None, (*steps, *_afterwards(state, goal)))


def steps_left(state: State, survey: Survey, leader: Leader) -> tuple[str, ...]:
    """Return what is still to happen, as things stand, in words."""
    return _run_ahead(state, survey, leader)[1]


def _units_refusal(state: State, survey: Survey, goal: Goal) -> str | None:
    """Return what forbids the goal in the units that it names, or stand beside them."""
    match goal.kind:
        case GoalKind.DRAIN_UNIT | GoalKind.REPLACE_UNIT:
            return _mates_refusal(state, survey, goal.units[0]) or _spares_refusal(
                survey, goal.units[1:]
            )
        case GoalKind.ADD_CHAIN:
            return _spares_refusal(survey, goal.units)
        case GoalKind.ABANDON_CHAIN:
            return _abandon_refusal(state, survey, goal)
        case GoalKind.REPLACE_REPLICA:
            raise AssertionError("what becomes of it is not told by running ahead")


def _mates_refusal(state: State, survey: Survey, goer: UnitId) -> str | None:
    mates = {id_ for _, chain in _chains_of(state.active, goer) for id_ in chain}
    for id_ in sorted(mates & survey.frozen):
        return f"unit {id_} saw a conflict: find out first which of its chain is right"
    for id_ in sorted(mates & survey.doubtful):
        return f"unit {id_} is in doubt about what it holds: wait until that is settled"
    return None


def _spares_refusal(survey: Survey, comers: tuple[UnitId, ...]) -> str | None:
    spares = {unit.id for unit in survey.spares}
    for id_ in comers:
        if id_ not in spares:
            return f"unit {id_} does not answer, or cannot serve this cluster"
    return None


def _abandon_refusal(state: State, survey: Survey, goal: Goal) -> str | None:
    for id_ in goal.units:
        if id_ in survey.answering:
            return f"unit {id_} answers: nothing to abandon"
    for segment in state.active.segments:
        for index, chain in enumerate(segment.chains):
            if segment.end is None or not chain or not {*chain} <= {*goal.units}:
                continue
            for unit in state.active.units:
                key = (unit.id, unit.incarnation)
                if unit.id not in goal.units and is_rebuilt(state, key, segment, index):
                    return f"unit {unit.id} holds all that chain {_name(chain)} held, and joins it"
    return None


def _run_ahead(state: State, survey: Survey, leader: Leader) -> tuple[State, tuple[str, ...]]:
    """Make epochs and rebuild until nothing changes; returns the last state, and what happened."""
    steps: list[str] = []
    state = _end_reached(state)
    for _ in range(_EPOCHS_MAX):
        state, copied = _rebuild_all(state, survey)
        steps += copied
        proposal = plan(state, survey, leader)
        if not changes(state, proposal):
            break
        before = state
        state, outcome = apply(state, proposal)
        if not outcome.accepted or state.intent is None:
            break
        layout = state.intent.layout
        sealed = tuple(SealedUnit(unit.id, unit.incarnation) for unit in layout.units)
        # Room for a write, or the next epoch would begin where this one does.
        until = Offset(layout.first_offset + (1 if layout.open_segment.chains else 0))
        state, outcome = apply(state, ActivateLayout(layout.epoch, sealed, until))
        if not outcome.accepted:
            break
        steps += _told(before, state)
        state = _end_reached(state)
    return state, tuple(steps)


def _end_reached(state: State) -> State:
    """Return the state with every goal ended that is reached, as a leader does at once."""
    for goal in active_goals(state, *GoalKind):
        if reached(state, goal):
            state, _ = apply(state, EndGoal(goal.id, done=True, detail=""))
    return state


def _rebuild_all(state: State, survey: Survey) -> tuple[State, list[str]]:
    """Close what is old, and copy what can be copied."""
    told: list[str] = []
    state, _ = apply(state, CloseUntil(state.active.epoch, state.active.first_offset))
    for each in rebuilds(state):
        # Nobody is left to copy from, or the one to copy to is not there.
        if survey.dead.issuperset(each.sources) or each.unit.id in survey.dead:
            continue
        place = (each.unit.id, each.unit.incarnation, each.reached, each.end)
        done = RecordRebuilt(state.active.epoch, *place, each.chains, each.chain)
        if each.reached < each.end:
            state, outcome = apply(state, done)
            if outcome.accepted:
                told.append(
                    f"unit {each.unit.id} gets what chain {_name(each.sources)} holds in "
                    f"{_range(each.start, each.end)}"
                )
    return state, told


def _told(before: State, after: State) -> list[str]:
    """Return what one new epoch changes, in words."""
    told: list[str] = []
    old, new = before.active, after.active
    if old.open_segment.chains != new.open_segment.chains:
        chains = " ".join(map(_name, new.open_segment.chains)) or "no chain"
        told.append(f"new entries go to {chains} instead of {_open(old)}")
    for segment in old.segments:
        end = new.first_offset if segment.end is None else segment.end
        for chain in _gone_chains(segment, new):
            mark = max(segment.start, after.trim_mark)
            if mark < end:
                told.append(f"LOST: all that chain {_name(chain)} held in {_range(mark, end)}")
    listed = {unit.id for unit in new.units}
    told += [f"unit {unit.id} leaves" for unit in old.units if unit.id not in listed]
    if len(new.segments) < len(old.segments):
        told.append("old segments with equal chains are merged")
    return told


def _gone_chains(segment: Segment, new: Layout) -> list[Chain]:
    """Return the chains of a segment that have no unit in the new layout."""
    there = new.segment_of(segment.start)
    if len(there.chains) != len(segment.chains) or there.end is None:
        return []
    return [old for old, now in zip(segment.chains, there.chains, strict=True) if old and not now]


def _why_stuck(state: State, survey: Survey, end: State, goal: Goal) -> str:
    """Return why a goal is not reached though all that can be done was."""
    count = len(survey.spares)
    match goal.kind:
        case GoalKind.ADD_CHAIN:
            return (
                f"only {len(end.active.open_segment.chains)} of {end.wanted_chains} chains would "
                f"take appends, with {count} spares"
            )
        case GoalKind.DRAIN_UNIT | GoalKind.REPLACE_UNIT:
            goer = goal.units[0]
            if any(goer in chain for chain in end.active.open_segment.chains):
                return f"no spare is there to take the place of unit {goer}"
            for segment, chain in _chains_of(state.active, goer):
                if survey.dead.issuperset(chain):
                    return (
                        f"unit {goer} does not answer, nor does another that holds what chain "
                        f"{_name(chain)} holds from offset {segment.start} on"
                    )
            return f"too few units are left for the old entries of unit {goer}"
        case _:
            return f"the {goal} would not come to an end"


def _afterwards(state: State, goal: Goal) -> tuple[str, ...]:
    match goal.kind:
        case GoalKind.DRAIN_UNIT | GoalKind.REPLACE_UNIT:
            goer = goal.units[0]
            said = f"unit {goer} is not used any more, and can be switched off"
            if goer not in {unit.id for unit in state.active.units}:
                return (f"unit {goer} is a spare: it is not used any more",)
            return (said,)
        case GoalKind.ABANDON_CHAIN:
            return ("the units abandoned return only when they are formatted anew",)
        case _:
            return ()


def _chains_of(layout: Layout, id_: UnitId) -> list[tuple[Segment, Chain]]:
    return [
        (segment, chain) for segment in layout.segments for chain in segment.chains if id_ in chain
    ]


def _name(chain: Chain) -> str:
    return "-".join(str(id_) for id_ in chain)


def _open(layout: Layout) -> str:
    return " ".join(map(_name, layout.open_segment.chains)) or "no chain"


def _range(start: Offset, end: Offset) -> str:
    return f"offsets {start} to {end - 1}"
