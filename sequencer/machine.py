"""The replicated state machine: what each command does to the state.

Pure: `apply` is a function of (state, command) alone, so replicas that applied the same commands
hold equal states. What makes a proposed layout a valid successor stands in `succession`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import assert_never

from corfu.config import WINDOW_OFFSETS_MAX
from corfu.types import OFFSET_MAX, Offset, Range

from .commands import (
    ActivateLayout,
    AddGoal,
    CloseUntil,
    Command,
    DeclareLost,
    EndGoal,
    Noop,
    ProposeLayout,
    RecordRebuilt,
    RegisterUnit,
    ReplaceReplica,
    ReserveOffsets,
    TrimTo,
)
from .goals import add_goal, end_goal
from .membership import replace_replica
from .state import ACCEPTED, Outcome, Rebuilt, State, rejected
from .succession import activate, propose

LOST_RANGES_MAX = 10_000
"""Most separate ranges of lost offsets; a disk that lost more is better abandoned."""

REGISTERED_MAX = 1_000
"""Most units known besides those of the layout."""


def apply(state: State, command: Command) -> tuple[State, Outcome]:  # noqa: C901 - one case each
    """Return the state after `command`, and whether it was accepted."""
    match command:
        case Noop():
            return state, ACCEPTED
        case ReserveOffsets():
            return _reserve(state, command)
        case ProposeLayout():
            return propose(state, command)
        case ActivateLayout():
            return activate(state, command)
        case CloseUntil():
            return _close(state, command)
        case TrimTo():
            return _trim(state, command)
        case RegisterUnit():
            return _register(state, command)
        case DeclareLost():
            return _declare_lost(state, command)
        case RecordRebuilt():
            return _record_rebuilt(state, command)
        case AddGoal():
            return add_goal(state, command)
        case EndGoal():
            return end_goal(state, command)
        case ReplaceReplica():
            return replace_replica(state, command)
        case _:
            assert_never(command)


def _reserve(state: State, command: ReserveOffsets) -> tuple[State, Outcome]:
    # While an intent is pending reserved_until stands still: it is the T of the coming epoch,
    # and an offset reserved above it would be granted twice, once in each epoch.
    if state.intent is not None:
        return rejected(state, "a new layout is pending")
    # Epoch 0 was never activated: nobody may grant in it.
    if not state.active.epoch or command.epoch != state.active.epoch:
        return rejected(state, f"epoch {command.epoch} is not active")
    # The ballot, not the replica: the same replica in a later term, or restarted, has forgotten
    # what it granted, and must make an epoch of its own first.
    if command.ballot != state.active.leader.ballot:
        return rejected(state, "another ballot leads the active epoch")
    if not state.active.open_segment.chains:
        return rejected(state, "the open segment has no chain")
    if not _window_allowed(state.reserved_until, command.until):
        return rejected(state, "the window is too large")
    until = max(state.reserved_until, command.until)
    return replace(state, reserved_until=until), ACCEPTED


def _window_allowed(reserved_until: Offset, until: Offset) -> bool:
    return until <= min(reserved_until + WINDOW_OFFSETS_MAX, OFFSET_MAX)


def _close(state: State, command: CloseUntil) -> tuple[State, Outcome]:
    # The answers behind it came from the tail units of one activated epoch. That epoch must
    # still be the active one: its chains are those for which the claim was found true.
    if not state.active.epoch or command.epoch != state.active.epoch:
        return rejected(state, f"epoch {command.epoch} is not active")
    if command.until > state.reserved_until:
        return rejected(state, "offsets that were never granted cannot be closed")
    until = max(state.closed_until, command.until)
    return replace(state, closed_until=until), ACCEPTED


def _trim(state: State, command: TrimTo) -> tuple[State, Outcome]:
    # Never above closed_until: an undecided offset that one unit trimmed could still be decided,
    # and shown, by another.
    mark = max(state.trim_mark, min(command.mark, state.closed_until))
    lost = tuple(Range(max(r.start, mark), r.end) for r in state.lost if r.end > mark)
    return replace(state, trim_mark=mark, lost=lost), ACCEPTED


def _register(state: State, command: RegisterUnit) -> tuple[State, Outcome]:
    unit = command.unit
    key = (unit.id, unit.incarnation)
    if key in {(u.id, u.incarnation) for u in state.active.units}:
        return rejected(state, "it is in the active layout")
    # An incarnation that left may hold values that lost: it returns only as a new one.
    if key in {(gone.unit, gone.incarnation) for gone in state.left}:
        return rejected(state, "this incarnation left the layout")
    # A unit has one folder: what registered under its id before is gone.
    others = tuple(u for u in state.registered if u.id != unit.id)
    if len(others) >= REGISTERED_MAX:
        return rejected(state, "too many registered units")
    return replace(state, registered=(*others, unit)), ACCEPTED


def _declare_lost(state: State, command: DeclareLost) -> tuple[State, Outcome]:
    if not state.active.epoch or command.epoch != state.active.epoch:
        return rejected(state, f"epoch {command.epoch} is not active")
    for lost in command.ranges:
        if not lost.start < lost.end <= state.reserved_until:
            return rejected(state, f"[{lost.start}, {lost.end}) was never granted")
    mark = state.trim_mark
    above = [Range(max(r.start, mark), r.end) for r in command.ranges if r.end > mark]
    joined = join_ranges([*state.lost, *above])
    if len(joined) > LOST_RANGES_MAX:
        return rejected(state, "too many separate lost ranges")
    return replace(state, lost=joined), ACCEPTED


def join_ranges(ranges: list[Range]) -> tuple[Range, ...]:
    """Return the union of `ranges`: ascending, and neither overlapping nor touching."""
    joined: list[Range] = []
    for found in sorted(ranges):
        if joined and found.start <= joined[-1].end:
            joined[-1] = Range(joined[-1].start, max(joined[-1].end, found.end))
        else:
            joined.append(found)
    return tuple(joined)


def _record_rebuilt(state: State, command: RecordRebuilt) -> tuple[State, Outcome]:
    if not state.active.epoch or command.epoch != state.active.epoch:
        return rejected(state, f"epoch {command.epoch} is not active")
    key = (command.unit, command.incarnation)
    if key not in {(u.id, u.incarnation) for u in state.active.units}:
        return rejected(state, "this incarnation is not in the active layout")
    # Above closed_until the copied chain still changes: what was copied may miss a value.
    if not command.start < command.end <= state.closed_until:
        return rejected(state, "closed_until has not reached the segment's end")
    if not 0 <= command.chain < command.chains:
        return rejected(state, "there is no such chain")
    place = (*key, command.chains, command.chain)
    done = [r for r in state.rebuilt if (r.unit, r.incarnation, r.chains, r.chain) == place]
    others = tuple(r for r in state.rebuilt if r not in done)
    ranges = [Range(command.start, command.end), *(Range(r.start, r.end) for r in done)]
    joined = tuple(
        Rebuilt(*key, start, end, command.chains, command.chain)
        for start, end in join_ranges(ranges)
    )
    return replace(state, rebuilt=others + joined), ACCEPTED
