"""What the next layout should be: without the dead, with spares in their place, and merged.

Pure. A plan is only a proposal; what may follow what is decided by `succession`. Units that stood
in a chain together stay together: the chains that a unit stands in, over all segments, belong to
one group, whose newest chain is in the open segment. So a group's chains grow equal by rebuilding,
and segments with equal chains are merged. A unit that is drained, or that the newest chain has no
place for, leaves a closed segment only when others hold all that it holds, and as many as are
wanted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from corfu.layout import Layout, Leader, Segment, Unit
from corfu.types import Offset, UnitId

from .commands import ProposeLayout
from .goals import abandoned_units
from .opening import Opening, groups_of
from .state import State
from .succession import is_rebuilt
from .survey import Chain, Survey


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
    abandoned = abandoned_units(state, survey.answering)
    below = tuple(
        tuple(_without(chain, survey, abandoned) for chain in segment.chains)
        for segment in active.segments
    )
    opened, joined = Opening(state, survey, below).chains()
    spares = {unit.id: unit for unit in survey.spares if unit.id in joined}
    listed = {unit.id: unit for unit in active.units}
    below = tuple(
        _grown(state, survey, segment, chains, opened, spares)
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
        abandoned=abandoned,
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


def _without(chain: Chain, survey: Survey, abandoned: Chain) -> Chain:
    # What is given up goes by an operator's word, also the last one.
    chain = tuple(id_ for id_ in chain if id_ not in abandoned)
    # Never the last one, nor the last living one for the sake of a dead one: a chain keeps its
    # units until one of those that hold its entries answers.
    if all(id_ in survey.dead for id_ in chain):
        return chain
    return tuple(id_ for id_ in chain if id_ not in survey.drop)


def _grown(
    state: State,
    survey: Survey,
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
    changing = _changing(state, segment.chains, opened)
    grown: list[Chain] = []
    for index, chain in enumerate(chains):
        joining = tuple(
            id_
            for id_ in changing[index].joining
            if id_ not in spares and id_ in keys and is_rebuilt(state, keys[id_], segment, index)
        )
        # What is given up stays given up: nobody joins a chain of which nothing is left.
        leaving = changing[index].leaving
        grown.append(_relieved(state, survey, chain, joining, leaving) if chain else ())
    return tuple(grown)


def _relieved(
    state: State, survey: Survey, chain: Chain, joining: Chain, leaving: frozenset[UnitId]
) -> Chain:
    """Return a closed chain with those that join it, and without those that can leave now.

    None goes before as many others as are wanted hold all that the chain holds, and answer, and
    no head is in doubt that it might help to settle.
    """
    if any(id_ in survey.doubtful for id_ in chain):
        return chain + joining
    sound = [id_ for id_ in chain + joining if id_ not in leaving | survey.dead]
    room = max(0, state.wanted_replicas - len(sound))
    serving = [id_ for id_ in chain if id_ in leaving][:room]
    kept = tuple(id_ for id_ in chain if id_ not in leaving or id_ in serving)
    # A chain always keeps a unit of those before: the last of them goes an epoch later, when the
    # others stand in the chain.
    return (kept or chain[:1]) + joining


class _Changing(NamedTuple):
    """Who is to join an old chain, having copied what it holds, and who is to leave it then."""

    joining: Chain
    leaving: frozenset[UnitId]


def _changing(
    state: State, chains: tuple[Chain, ...], opened: tuple[Chain, ...]
) -> list[_Changing]:
    """Return for each old chain how it is to become its group's newest chain."""
    taken = {id_ for chain in chains for id_ in chain}
    drained = frozenset(state.drained)
    found: list[_Changing] = []
    for chain, number in zip(chains, groups_of(state, chains, opened), strict=True):
        group: Chain = () if number is None else opened[number]
        leaving = drained
        if len({*group} - drained) >= state.wanted_replicas:
            # Who is not needed in the newest chain is needed as a spare, perhaps.
            leaving |= frozenset(chain) - frozenset(group)
        joining = [id_ for id_ in group if id_ not in taken | drained] if chain else []
        joining = joining[: max(0, state.wanted_replicas - len({*chain} - leaving))]
        taken.update(joining)
        found.append(_Changing(tuple(joining), leaving))
    return found


def rebuilds(state: State) -> tuple[Rebuilding, ...]:
    """Return what is to be copied so that the active layout's old chains can grow, in order."""
    layout = state.active
    found: list[Rebuilding] = []
    for segment in layout.segments:
        if segment.end is None:
            continue
        changing = _changing(state, segment.chains, layout.open_segment.chains)
        found += [
            Rebuilding(
                layout.unit(id_), segment.start, segment.end,
                _reached(state, layout, id_, segment, index), len(segment.chains), index,
                segment.chains[index],
            )
            for index, change in enumerate(changing)
            for id_ in change.joining
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
