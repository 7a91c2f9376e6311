"""Which layout may follow which: the rules behind ProposeLayout and ActivateLayout.

Pure. The rules keep three things true. An epoch number never has two layouts. Every offset below T
stays with units that hold all that was acknowledged at it. And no unit that left comes back with
what it held. Source: Vertical Paxos and CORFU's auxiliary (NSDI 2012, section 2.2) reconfigure in
the same way, by sealing the old configuration before the next one is used.
"""

from __future__ import annotations

from dataclasses import replace

from corfu.config import WINDOW_OFFSETS_MAX
from corfu.layout import Layout, Segment, Unit, merged, problems
from corfu.types import OFFSET_MAX, Epoch, Incarnation, Offset, UnitId

from .commands import ActivateLayout, ProposeLayout
from .state import (
    ACCEPTED,
    Intent,
    LeftUnit,
    Outcome,
    Rebuilt,
    SealedFor,
    State,
    past_layouts,
    rejected,
)

Key = tuple[UnitId, Incarnation]


def propose(state: State, command: ProposeLayout) -> tuple[State, Outcome]:
    """Apply ProposeLayout: the new intent, or why it is none. Replaces a pending intent."""
    # A layout computed from a stale state must not pass because a number happens to fit.
    if command.based_on != state.active.epoch:
        return rejected(state, f"epoch {command.based_on} is not active")
    if command.last_epoch != state.last_epoch:
        return rejected(state, f"the last epoch is {state.last_epoch}")
    leader = command.leader
    if leader.ballot.replica != leader.replica:
        return rejected(state, "the leader's ballot is another replica's")
    if leader.replica not in {replica.id for replica in state.replicas}:
        return rejected(state, "the leader is no member")
    layout = successor(state, command)
    reason = _first(
        _below_problems(state, command),
        problems(layout),
        _unit_problems(state, command),
        _open_problems(state, command),
    )
    if reason is not None:
        return rejected(state, reason)
    intent = Intent(layout, command.abandoned, command.conflicted)
    return replace(state, intent=intent, last_epoch=layout.epoch), ACCEPTED


def successor(state: State, command: ProposeLayout) -> Layout:
    """Return the layout that the command asks for, valid or not."""
    # T: no token at or above it was granted, and none will be before the activation, because
    # ReserveOffsets is rejected while an intent is pending. So a replaced intent keeps its T.
    first = state.reserved_until
    assert state.intent is None or state.intent.layout.first_offset == first
    segments: list[Segment] = []
    for old, chains in zip(state.active.segments, command.chains_below, strict=False):
        # The old bounds: an offset's chain is found by its segment, so moving a bound would move
        # data. The open segment closes at T, not at the tail: tokens up to T may be out.
        segments.append(Segment(old.start, first if old.end is None else old.end, chains))
    segments.append(Segment(first, None, command.open_chains))
    return Layout(
        cluster=state.cluster,
        # Numbered here and not by the proposer, intents included: no epoch has two layouts.
        epoch=Epoch(state.last_epoch + 1),
        first_offset=first,
        leader=command.leader,
        replicas=state.replicas,
        units=command.units,
        sync=state.active.sync,
        min_replicas=state.active.min_replicas,
        segments=merged(tuple(segments)),
    )


def _first(*lists: list[str]) -> str | None:
    for found in lists:
        if found:
            return found[0]
    return None


def _unit_problems(state: State, command: ProposeLayout) -> list[str]:
    """Return which units may not stand in the new layout."""
    found: list[str] = []
    old = {(u.id, u.incarnation) for u in state.active.units}
    registered = {(u.id, u.incarnation) for u in state.registered}
    left = {(gone.unit, gone.incarnation) for gone in state.left}
    gone_ids = {*command.abandoned, *command.conflicted}
    for unit in command.units:
        key = (unit.id, unit.incarnation)
        # A unit that left may hold a value that lost: with its data it never returns.
        if key in left:
            found.append(f"unit {unit.id}: this incarnation left the layout")
        elif key not in old and key not in registered:
            found.append(f"unit {unit.id}: this incarnation is not registered")
        elif unit.id in gone_ids and key in old:
            found.append(f"unit {unit.id} is given up and listed at once")
    return found


def _below_problems(state: State, command: ProposeLayout) -> list[str]:
    """Return what is wrong with the chains of the offsets below T."""
    found: list[str] = []
    if len(command.chains_below) != len(state.active.segments):
        return ["the segments below T are not those of the active layout"]
    for old, chains in zip(state.active.segments, command.chains_below, strict=True):
        end = state.reserved_until if old.end is None else old.end
        # As many chains as before: an offset's chain is its remainder by their number.
        if len(chains) != len(old.chains):
            found.append(f"the segment at {old.start} changes its number of chains")
            continue
        for index, after in enumerate(chains):
            bounds = Segment(old.start, end, old.chains)
            reason = _chain_problem(state, command, bounds, index, after)
            if reason is not None:
                found.append(f"the segment at {old.start}: {reason}")
    return found


def _chain_problem(
    state: State,
    command: ProposeLayout,
    bounds: Segment,
    index: int,
    after: tuple[UnitId, ...],
) -> str | None:
    """Return why `after` may not follow chain `index` of the segment, closed now, `bounds`."""
    before = bounds.chains[index]
    if not after:
        # What a chain of abandoned units held is LOST; else some unit must keep it. An empty
        # chain stays empty.
        given_up = all(id_ in command.abandoned for id_ in before)
        return None if given_up else f"the chain {before} would lose all its units"
    old_keys = _keys(before, state.active.units)
    new_keys = _keys(after, command.units)
    if new_keys is None or old_keys is None:
        return f"the chain {after} names a unit that is not listed"
    # Survivors first and in the old order: what a unit holds, every unit before it in the chain
    # holds durably. So the first survivor holds all that was acknowledged, and reading at the
    # last one of them never shows what the others lack.
    kept = [key for key in new_keys if key in old_keys]
    if not kept or new_keys[: len(kept)] != kept:
        return f"the chain {after} keeps no leading part of {before}"
    if [key for key in old_keys if key in kept] != kept:
        return f"the chain {after} changes the order of {before}"
    # New ones at the end only, and only with everything there: the last unit answers readers.
    for unit, incarnation in new_keys[len(kept) :]:
        if not is_rebuilt(state, (unit, incarnation), bounds, index):
            return f"unit {unit} is not rebuilt"
    return None


def _keys(chain: tuple[UnitId, ...], units: tuple[Unit, ...]) -> list[Key] | None:
    incarnations = {unit.id: unit.incarnation for unit in units}
    if any(id_ not in incarnations for id_ in chain):
        return None
    return [(id_, incarnations[id_]) for id_ in chain]


def is_rebuilt(state: State, key: Key, bounds: Segment, index: int) -> bool:
    """Tell whether a unit holds all that chain `index` has in the closed segment `bounds`."""
    assert bounds.end is not None
    place = (*key, len(bounds.chains), index)
    return any(
        (done.unit, done.incarnation, done.chains, done.chain) == place
        and done.start <= bounds.start
        and bounds.end <= done.end
        for done in state.rebuilt
    )


def _open_problems(state: State, command: ProposeLayout) -> list[str]:
    """Return what is wrong with the chains from T on."""
    shortest = state.active.min_replicas
    # Nothing is acknowledged by fewer units than were asked for.
    return [
        f"the open chain {chain} has fewer than {shortest} units"
        for chain in command.open_chains
        if len(chain) < shortest
    ]


def activate(state: State, command: ActivateLayout) -> tuple[State, Outcome]:
    """Apply ActivateLayout: the pending intent becomes the active layout."""
    intent = state.intent
    if intent is None or intent.layout.epoch != command.epoch:
        return rejected(state, f"the intent of epoch {command.epoch} is not pending")
    layout = intent.layout
    sealed = {(unit.unit, unit.incarnation) for unit in command.sealed}
    # Every write must pass all units of its chain, so no write of an older epoch can complete on
    # a chain of the new layout of which one unit is sealed; all are, so that each also serves.
    # Below closed_until nothing can change any more, and no seal is needed.
    for unit in layout.chain_units(state.closed_until):
        if (unit.id, unit.incarnation) not in sealed:
            return rejected(state, f"unit {unit.id} is not sealed")
    if not _first_window_allowed(layout, command.window_until):
        return rejected(state, "the first window does not fit the layout")
    return _activated(state, intent, sealed, command.window_until), ACCEPTED


def _first_window_allowed(layout: Layout, until: Offset) -> bool:
    # Offsets without a chain could never be filled, and closed_until would stand at them.
    if not layout.open_segment.chains:
        return until == layout.first_offset
    first = layout.first_offset
    return first <= until <= min(first + WINDOW_OFFSETS_MAX, OFFSET_MAX)


def _activated(state: State, intent: Intent, sealed: set[Key], until: Offset) -> State:
    layout = intent.layout
    listed = {(unit.id, unit.incarnation) for unit in layout.units}
    before = {(old.unit, old.incarnation): old.epoch for old in state.sealed_for}
    sealed_for: list[SealedFor] = []
    for unit in layout.units:
        key = (unit.id, unit.incarnation)
        epoch = layout.epoch if key in sealed else before.get(key)
        if epoch is not None:
            sealed_for.append(SealedFor(unit.id, unit.incarnation, epoch))
    no_bound = {*intent.abandoned, *intent.conflicted}
    left = tuple(
        # Below closed_until every unit of the chain holds the same, this one too; above, it may
        # hold values that lose. What a Conflict or an abandon left behind counts nowhere.
        LeftUnit(u.id, u.incarnation, None if u.id in no_bound else state.closed_until)
        for u in state.active.units
        if (u.id, u.incarnation) not in listed
    )
    return replace(
        state,
        active=layout,
        intent=None,
        reserved_until=max(state.reserved_until, until),
        registered=tuple(u for u in state.registered if (u.id, u.incarnation) not in listed),
        sealed_for=tuple(sealed_for),
        left=state.left + left,
        rebuilt=_still_needed(state, layout),
        history=past_layouts(state),
    )


def _still_needed(state: State, layout: Layout) -> tuple[Rebuilt, ...]:
    """Return the rebuilds whose unit is in the layout and not yet in the rebuilt chains."""
    listed = {(unit.id, unit.incarnation) for unit in layout.units}
    return tuple(
        done
        for done in state.rebuilt
        if (done.unit, done.incarnation) in listed
        and any(
            done.start < segment.end
            and segment.start < done.end
            and len(segment.chains) == done.chains
            and done.unit not in segment.chains[done.chain]
            for segment in layout.segments
            if segment.end is not None
        )
    )
