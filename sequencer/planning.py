"""What the next layout should be: without the dead, with spares in their place, and merged.

Pure. A plan is only a proposal; what may follow what is decided by `succession`. Units that stood
in a chain together stay together: the chains that a unit stands in, over all segments, belong to
one group, whose newest chain is in the open segment. So a group's chains grow equal by rebuilding,
and segments with equal chains are merged.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from corfu.layout import Layout, Leader, Segment, Unit
from corfu.types import Offset, UnitId

from .commands import ProposeLayout
from .state import State
from .succession import is_rebuilt

Chain = tuple[UnitId, ...]


@dataclass(frozen=True, slots=True)
class Survey:
    """What the leader found out about the units.

    Attributes:
        dead: Units of the layout that are not there, or have lost what they held.
        drop: Those of them that the next layout may leave out.
        spares: Registered units that answer and could be used, in the order of their use.
    """

    dead: frozenset[UnitId]
    drop: frozenset[UnitId]
    spares: tuple[Unit, ...]


@dataclass(frozen=True, slots=True)
class Rebuilding:
    """`unit` is to get what chain `chain` of `chains`, the units `sources`, has in a segment.

    All of `[start, reached)` is done.
    """

    unit: Unit
    start: Offset
    end: Offset
    reached: Offset
    chains: int
    chain: int
    sources: Chain


def plan(state: State, survey: Survey, leader: Leader) -> ProposeLayout:
    """Return the layout to propose."""
    active = state.active
    below = tuple(
        tuple(_without(chain, survey) for chain in segment.chains) for segment in active.segments
    )
    opened, joined = _open_chains(state, survey, below)
    spares = {unit.id: unit for unit in survey.spares if unit.id in joined}
    listed = {unit.id: unit for unit in active.units}
    below = tuple(
        _grown(state, segment, chains, opened, spares)
        for segment, chains in zip(active.segments, below, strict=True)
    )
    below_ids = {id_ for chains in below for chain in chains for id_ in chain}
    ids = below_ids | {id_ for chain in opened for id_ in chain}
    return ProposeLayout(
        based_on=active.epoch,
        last_epoch=state.last_epoch,
        leader=leader,
        units=tuple(spares.get(id_) or listed[id_] for id_ in sorted(ids)),
        chains_below=below,
        open_chains=opened,
        abandoned=(),
        conflicted=(),
    )


def changes(state: State, proposal: ProposeLayout) -> bool:
    """Tell whether a proposal has other chains, or other units, than the active layout."""
    active = state.active
    before = (tuple(segment.chains for segment in active.segments), active.open_segment.chains)
    if (proposal.chains_below, proposal.open_chains) != before:
        return True
    keys = {(unit.id, unit.incarnation) for unit in active.units}
    return {(unit.id, unit.incarnation) for unit in proposal.units} != keys


def _without(chain: Chain, survey: Survey) -> Chain:
    # Never the last one, nor the last living one for the sake of a dead one: a chain keeps its
    # units until one of those that hold its entries answers.
    if all(id_ in survey.dead for id_ in chain):
        return chain
    return tuple(id_ for id_ in chain if id_ not in survey.drop)


def _open_chains(
    state: State, survey: Survey, below: tuple[tuple[Chain, ...], ...]
) -> tuple[tuple[Chain, ...], frozenset[UnitId]]:
    """Return the chains from T on, and which of their units are spares."""
    active, wanted = state.active, state.wanted_replicas
    opened = [list(chain) for chain in below[-1]]
    used = {id_ for chain in opened for id_ in chain}
    kept = used | {id_ for chains in below for chain in chains for id_ in chain}
    for chains in reversed(below[:-1]):
        for index, chain in enumerate(chains):
            rest = [id_ for id_ in chain if id_ not in used and id_ not in survey.dead]
            if not rest:
                continue
            kin = _kin(active, chain)
            group = next((each for each in opened if not kin.isdisjoint(each)), None)
            if group is not None:
                # It holds old entries of the group, and stands in the open segment no more.
                rest = rest[: max(0, wanted - len(group))]
                group += rest
            elif len(opened) < state.wanted_chains:
                at = index if len(chains) == state.wanted_chains else len(opened)
                opened.insert(at, rest)
            elif len(chains) == len(opened):
                # All that stood in both chains is gone; the place tells the group.
                rest = rest[: max(0, wanted - len(opened[index]))]
                opened[index] += rest
            else:
                continue
            used.update(rest)
    left = [spare.id for spare in survey.spares if spare.id not in kept]
    joined = frozenset(left)
    while left and (short := min(opened, key=len, default=None)) is not None:
        if len(short) >= wanted:
            break
        short.append(left.pop(0))
    for _ in range(state.wanted_chains - len(opened) - _waiting(active, opened)):
        # Nobody is left who held an entry of this chain, and there is none: it begins anew.
        opened.append(left[:wanted])
        left = left[wanted:]
    chosen = tuple(tuple(chain) for chain in opened if len(chain) >= active.min_replicas)
    return chosen, joined & {id_ for chain in chosen for id_ in chain}


def _waiting(layout: Layout, opened: list[list[UnitId]]) -> int:
    """Return how many groups have old entries and no chain that is open, as all are dead."""
    members = {id_ for chain in opened for id_ in chain}
    chains = {chain for segment in layout.segments for chain in segment.chains if chain}
    groups = {frozenset(_kin(layout, chain)) for chain in chains}
    return sum(group.isdisjoint(members) for group in groups)


def _kin(layout: Layout, chain: Chain) -> set[UnitId]:
    """Return the units that stand in a chain with these, or with such a unit, and so on."""
    kin, chains = set(chain), [set(c) for segment in layout.segments for c in segment.chains]
    while more := [each for each in chains if not each.isdisjoint(kin) and not each <= kin]:
        kin.update(*more)
    return kin


def _grown(
    state: State,
    segment: Segment,
    chains: tuple[Chain, ...],
    opened: tuple[Chain, ...],
    spares: Mapping[UnitId, Unit],
) -> tuple[Chain, ...]:
    """Return the chains with those at their ends that now hold all they have."""
    if segment.end is None:
        return chains
    # A spare has rebuilt nothing yet, though an earlier incarnation under its id may have.
    keys = {unit.id: (unit.id, unit.incarnation) for unit in state.active.units}
    lacking = _lacking(state, segment.chains, opened)
    return tuple(
        chain
        + tuple(
            id_
            for id_ in lacking[index]
            if id_ not in spares and id_ in keys and is_rebuilt(state, keys[id_], segment, index)
        )
        for index, chain in enumerate(chains)
    )


def _lacking(
    state: State, chains: tuple[Chain, ...], opened: tuple[Chain, ...]
) -> list[tuple[UnitId, ...]]:
    """Return for each old chain which units of its group's newest chain are to join it."""
    taken = {id_ for chain in chains for id_ in chain}
    found: list[tuple[UnitId, ...]] = []
    for index, chain in enumerate(chains):
        group: Chain = next(
            (
                each
                for near in (set(chain), _kin(state.active, chain))
                for each in opened
                if not near.isdisjoint(each)
            ),
            (),
        )
        if not group and len(chains) == len(opened) == state.wanted_chains:
            # All that it shared with the newest chain are gone; the place tells the group.
            group = opened[index]
        joining = [id_ for id_ in group if id_ not in taken] if chain else []
        joining = joining[: max(0, state.wanted_replicas - len(chain))]
        taken.update(joining)
        found.append(tuple(joining))
    return found


def rebuilds(state: State) -> tuple[Rebuilding, ...]:
    """Return what is to be copied so that the active layout's old chains can grow, in order."""
    layout = state.active
    found: list[Rebuilding] = []
    for segment in layout.segments:
        if segment.end is None:
            continue
        lacking = _lacking(state, segment.chains, layout.open_segment.chains)
        found += [
            Rebuilding(
                layout.unit(id_), segment.start, segment.end,
                _reached(state, layout, id_, segment, index), len(segment.chains), index,
                segment.chains[index],
            )
            for index, joining in enumerate(lacking)
            for id_ in joining
        ]  # fmt: skip
    return tuple(found)


def _reached(state: State, layout: Layout, id_: UnitId, segment: Segment, index: int) -> Offset:
    place = (id_, layout.unit(id_).incarnation, len(segment.chains), index)
    for done in state.rebuilt:
        if (done.unit, done.incarnation, done.chains, done.chain) == place and (
            done.start <= segment.start < done.end
        ):
            assert segment.end is not None
            return min(done.end, segment.end)
    return segment.start
