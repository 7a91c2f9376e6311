"""Goals in the replicated state: which may be stated, when one is reached, what lifting it undoes.

Pure. A goal never changes a layout by itself: `planning` looks at what is wanted here, and proposes
layouts that the rules in `succession` accept, goal or no goal.
"""

from __future__ import annotations

from dataclasses import replace

from corfu.goals import Goal, GoalKind, GoalRecord, GoalStatus
from corfu.types import GoalId, UnitId

from .commands import AddGoal, EndGoal
from .membership import is_published, unfit_replica
from .state import ACCEPTED, Outcome, State, rejected

ENDED_KEPT = 32
"""So many goals that have ended are kept, for commands that are given again."""

GOALS_MAX = 256
"""Most goals under way at once."""

_DRAINS = (GoalKind.DRAIN_UNIT, GoalKind.REPLACE_UNIT)
_COUNTS: dict[GoalKind, tuple[int, int]] = {
    GoalKind.DRAIN_UNIT: (1, 1),
    GoalKind.REPLACE_UNIT: (2, 2),
    GoalKind.ADD_CHAIN: (1, 64),
    GoalKind.ABANDON_CHAIN: (1, 64),
}
"""Least and most units that a goal of each kind names."""


def goal_record(state: State, id_: GoalId) -> GoalRecord | None:
    """Return what is known of a goal."""
    return next((record for record in state.goals if record.goal.id == id_), None)


def active_goals(state: State, *kinds: GoalKind) -> tuple[Goal, ...]:
    """Return the goals under way, of these kinds, in the order in which they were stated."""
    return tuple(
        record.goal
        for record in state.goals
        if record.status is GoalStatus.ACTIVE and record.goal.kind in kinds
    )


def add_goal(state: State, command: AddGoal) -> tuple[State, Outcome]:
    """Apply AddGoal."""
    goal = command.goal
    if goal_record(state, goal.id) is not None:
        return state, ACCEPTED
    reason = _conflict(state, goal) or _unfit(state, goal)
    if reason is not None:
        return rejected(state, reason)
    record = GoalRecord(goal, GoalStatus.ACTIVE, "")
    drained = state.drained
    if goal.kind in _DRAINS:
        drained = tuple(sorted({*drained, goal.units[0]}))
    wanted = state.wanted_chains + (goal.kind is GoalKind.ADD_CHAIN)
    return (
        replace(state, goals=(*state.goals, record), drained=drained, wanted_chains=wanted),
        ACCEPTED,
    )


def _conflict(state: State, goal: Goal) -> str | None:
    """Return why the goal does not go together with those under way."""
    active = [record.goal for record in state.goals if record.status is GoalStatus.ACTIVE]
    if len(active) >= GOALS_MAX:
        return "too many goals are under way"
    for other in active:
        shared = sorted({*goal.units} & {*other.units})
        if shared:
            return f"unit {shared[0]} stands in a goal under way: {other}"
        single = goal.kind not in _DRAINS
        if single and other.kind is goal.kind:
            return f"one at a time: the {other} is under way"
    return None


def _unfit(state: State, goal: Goal) -> str | None:
    """Return why the goal is none that the state allows."""
    if goal.kind is GoalKind.REPLACE_REPLICA:
        if goal.units or goal.replica is None:
            return "it names units, or no replica"
        return unfit_replica(state, goal.replaced, goal.replica)
    least, most = _COUNTS[goal.kind]
    if not least <= len(goal.units) <= most or len({*goal.units}) != len(goal.units):
        return "it names too few units, too many, or one twice"
    listed = {unit.id for unit in state.active.units}
    registered = {unit.id for unit in state.registered}
    unknown = [id_ for id_ in goal.units if id_ not in listed | registered]
    if unknown:
        return f"unit {unknown[0]} is not known"
    match goal.kind:
        case GoalKind.REPLACE_UNIT:
            return _unfit_spares(state, goal.units[1:])
        case GoalKind.ADD_CHAIN:
            least, most = state.active.min_replicas, state.wanted_replicas
            if not least <= len(goal.units) <= most:
                return f"a chain has at least {least} units here, and at most {most}"
            return _unfit_spares(state, goal.units)
        case GoalKind.ABANDON_CHAIN:
            return _unfit_to_abandon(state, goal.units)
        case _:
            return None


def _unfit_spares(state: State, comers: tuple[UnitId, ...]) -> str | None:
    listed = {unit.id for unit in state.active.units}
    for id_ in comers:
        if id_ in listed:
            return f"unit {id_} is no spare: it stands in the layout"
        if id_ in state.drained:
            return f"unit {id_} is drained: undo that first"
    return None


def _unfit_to_abandon(state: State, gone: tuple[UnitId, ...]) -> str | None:
    listed = {unit.id for unit in state.active.units}
    for id_ in gone:
        if id_ not in listed:
            return f"unit {id_} stands in no chain"
    chains = (chain for segment in state.active.segments for chain in segment.chains)
    # A unit that is merely dead is left out by itself, and nothing is lost.
    if not any(chain and {*chain} <= {*gone} for chain in chains):
        return "no chain is made of nothing but these units"
    return None


def end_goal(state: State, command: EndGoal) -> tuple[State, Outcome]:
    """Apply EndGoal: note that a goal is reached, or lift it."""
    record = goal_record(state, command.id)
    if record is None:
        return rejected(state, "there is no such goal")
    if command.done:
        if record.status is GoalStatus.DONE:
            return state, ACCEPTED
        if record.status is not GoalStatus.ACTIVE or not reached(state, record.goal):
            return rejected(state, "the goal is not reached")
        return _ended(state, record, GoalStatus.DONE, command.detail), ACCEPTED
    if record.status is GoalStatus.CANCELLED:
        return state, ACCEPTED
    reason = cannot_be_lifted(state, record)
    if reason is not None:
        return rejected(state, reason)
    if record.goal.kind in _DRAINS:
        gone = record.goal.units[0]
        state = replace(state, drained=tuple(id_ for id_ in state.drained if id_ != gone))
    elif record.goal.kind is GoalKind.ADD_CHAIN:
        state = replace(state, wanted_chains=state.wanted_chains - 1)
    return _ended(state, record, GoalStatus.CANCELLED, command.detail), ACCEPTED


def cannot_be_lifted(state: State, record: GoalRecord) -> str | None:
    """Return why a goal cannot be lifted; None if it can."""
    goal, intent = record.goal, state.intent
    if goal.kind in _DRAINS:
        # Also when it is done: that is how a drained unit may be used again.
        return None if goal.units[0] in state.drained else f"unit {goal.units[0]} is not drained"
    if record.status is not GoalStatus.ACTIVE:
        return "it is done"
    # An intent is never withdrawn: the layout that the goal led to may still be activated.
    pending = [state.active] if intent is None else [state.active, intent.layout]
    if goal.kind is GoalKind.ADD_CHAIN:
        if any(len(each.open_segment.chains) >= state.wanted_chains for each in pending):
            return "the chain is there, or about to be"
    elif goal.kind is GoalKind.REPLACE_REPLICA:
        if goal.replica in state.replicas:
            return "the new replica is a member already"
    elif intent is not None and not {*intent.abandoned}.isdisjoint(goal.units):
        return "the layout without these units is about to be active"
    return None


def reached(state: State, goal: Goal) -> bool:
    """Tell whether a goal is reached in the active layout."""
    listed = {unit.id for unit in state.active.units}
    match goal.kind:
        case GoalKind.DRAIN_UNIT | GoalKind.REPLACE_UNIT:
            return goal.units[0] not in listed
        case GoalKind.ADD_CHAIN:
            return len(state.active.open_segment.chains) >= state.wanted_chains
        case GoalKind.ABANDON_CHAIN:
            return not _still_listed(state, goal)
        case GoalKind.REPLACE_REPLICA:
            return goal.replica is not None and is_published(state, goal.replica)


def still_holds(state: State, goal: Goal) -> bool:
    """Tell whether what a goal brought about, which is done, is still so.

    Then the same command again has nothing to do: it may be the first one's, which was interrupted.
    """
    listed = {unit.id for unit in state.active.units}
    registered = {unit.id for unit in state.registered}
    match goal.kind:
        case GoalKind.DRAIN_UNIT | GoalKind.REPLACE_UNIT:
            return goal.units[0] in state.drained
        case GoalKind.ADD_CHAIN:
            return any({*goal.units} <= {*chain} for chain in state.active.open_segment.chains)
        case GoalKind.ABANDON_CHAIN:
            return (listed | registered).isdisjoint(goal.units)
        case GoalKind.REPLACE_REPLICA:
            return goal.replica in state.replicas


def _ended(state: State, record: GoalRecord, status: GoalStatus, detail: str) -> State:
    """Return the state with the goal ended, and without the oldest of many that have ended."""
    goals = [each for each in state.goals if each is not record]
    goals.append(GoalRecord(record.goal, status, detail))
    ended = [
        each
        for each in goals
        # What drains a unit stays as long as it does, or nobody could undo it.
        if each.status is not GoalStatus.ACTIVE and not _is_needed(state, each)
    ]
    dropped = ended[: max(0, len(ended) - ENDED_KEPT)]
    return replace(state, goals=tuple(each for each in goals if each not in dropped))


def _is_needed(state: State, record: GoalRecord) -> bool:
    goal = record.goal
    return (
        goal.kind in _DRAINS and record.status is GoalStatus.DONE and goal.units[0] in state.drained
    )


# What planning asks.


def abandoned_units(state: State, answering: frozenset[UnitId]) -> tuple[UnitId, ...]:
    """Return the units of the active layout that are given up by an operator's word.

    One that answers after all is not gone, whatever the operator said.
    """
    return tuple(
        sorted(
            {
                id_
                for goal in active_goals(state, GoalKind.ABANDON_CHAIN)
                for id_ in _still_listed(state, goal)
                if id_ not in answering
            }
        )
    )


def _still_listed(state: State, goal: Goal) -> set[UnitId]:
    return {unit.id for unit in state.active.units} & {*goal.units}


def stand_ins(state: State) -> dict[UnitId, UnitId]:
    """Return for each unit that is being replaced the spare that is to take its place.

    One that stands in the layout has that place by now, or another one by need; and one that has
    left again is waited for no more: then any spare will do.
    """
    registered = {unit.id for unit in state.registered}
    listed = {unit.id for unit in state.active.units}
    return {
        goal.units[0]: goal.units[1]
        for goal in active_goals(state, GoalKind.REPLACE_UNIT)
        if goal.units[1] in registered - listed
    }
