"""Which chains the next layout opens, from T on: the old ones as far as they live, and spares.

Pure. Units that are drained count for nothing here: they stay, or come back, only where there is
nobody else. So a drain never makes a chain shorter, and one for which there is no spare waits.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from corfu.goals import GoalKind
from corfu.layout import Layout
from corfu.types import UnitId

from .goals import abandoned_units, active_goals, stand_ins
from .state import State
from .survey import Chain, Survey


class Opening:
    """Forms the chains from T on; `below` are those of each segment, without the dead."""

    def __init__(self, state: State, survey: Survey, below: tuple[tuple[Chain, ...], ...]) -> None:
        self._state = state
        self._survey = survey
        self._below = below
        self._opened = [list(chain) for chain in below[-1]]
        self._abandoned = frozenset(abandoned_units(state, survey.answering))
        kept = {id_ for chains in below for chain in chains for id_ in chain}
        # A unit that is given up may answer as a new incarnation at any time. It must not stand in
        # the layout again before the goal has ended, or the goal would be about that one.
        given_up = {id_ for g in active_goals(state, GoalKind.ABANDON_CHAIN) for id_ in g.units}
        barred = kept | given_up | {*state.drained}
        left = [spare.id for spare in survey.spares if spare.id not in barred]
        self._joined = frozenset(left)
        self._stand_ins = stand_ins(state)
        self._chain_goal = next(iter(active_goals(state, GoalKind.ADD_CHAIN)), None)
        named = {*self._stand_ins.values()}
        if self._chain_goal is not None:
            named.update(self._chain_goal.units)
        # What a goal names goes elsewhere only if nobody else is left.
        self._left = sorted(left, key=lambda id_: id_ in named)
        # Who is to be replaced by a unit that is not there stays until that one is.
        self._staying = {old for old, new in self._stand_ins.items() if new not in left}

    def chains(self) -> tuple[tuple[Chain, ...], frozenset[UnitId]]:
        """Return the chains, and which of their units are spares."""
        state = self._state
        self._gather_old_holders()
        self._fill()
        self._open_new(state.wanted_chains - len(self._opened) - self._waiting())
        formed = [self._without_leaving(chain) for chain in self._opened]
        chosen = tuple(chain for chain in formed if len(chain) >= state.active.min_replicas)
        return chosen, self._joined & {id_ for chain in chosen for id_ in chain}

    def _counts(self, id_: UnitId) -> bool:
        return id_ not in self._state.drained or id_ in self._staying

    def _lacks(self, chain: Iterable[UnitId]) -> int:
        return max(0, self._state.wanted_replicas - sum(map(self._counts, chain)))

    def _gather_old_holders(self) -> None:
        """Bring back who holds old entries of a chain and stands in the open segment no more."""
        state, opened = self._state, self._opened
        used = {id_ for chain in opened for id_ in chain}
        for chains in reversed(self._below[:-1]):
            for index, chain in enumerate(chains):
                rest = [id_ for id_ in chain if id_ not in used and id_ not in self._survey.dead]
                if not rest:
                    continue
                group = groups_of(state, chains, opened)[index]
                if kin_of(state.active, chain).isdisjoint(id_ for c in opened for id_ in c) and (
                    len(opened) < state.wanted_chains
                ):
                    at = index if len(chains) == state.wanted_chains else len(opened)
                    opened.insert(at, rest)
                elif group is not None:
                    rest = self._join(opened[group], rest)
                else:
                    continue
                used.update(rest)

    def _join(self, group: list[UnitId], rest: list[UnitId]) -> list[UnitId]:
        """Put old holders at the end of a chain that lacks some; return those that joined."""
        joining = [id_ for id_ in rest if self._counts(id_)][: self._lacks(group)]
        # Drained ones hold the place of those that will still lack in the end.
        joining += [id_ for id_ in rest if not self._counts(id_)]
        group += joining
        return joining

    def _fill(self) -> None:
        """Give spares to the chains that lack units, the shortest first."""
        wanted = self._state.wanted_replicas
        while self._left and (lacking := [c for c in self._opened if self._lacks(c)]):
            # A chain that is short goes before one whose drained units still serve.
            short = min(lacking, key=lambda chain: (min(len(chain), wanted), -self._lacks(chain)))
            wish = (self._stand_ins.get(id_) for id_ in short)
            spare = next((id_ for id_ in wish if id_ in self._left), self._left[0])
            assert spare is not None
            self._left.remove(spare)
            short.append(spare)

    def _open_new(self, count: int) -> None:
        """Begin chains of which nobody holds an entry, as there is none."""
        goal = self._chain_goal
        if goal is not None and count > 0:
            count -= 1
            registered = {unit.id for unit in self._state.registered}
            # It waits for those that are known and do not answer; one that is no spare any more
            # was needed elsewhere.
            if registered.isdisjoint({*goal.units} - {*self._left}):
                self._begin([id_ for id_ in goal.units if id_ in self._left])
        for _ in range(count):
            self._begin([])

    def _begin(self, first: list[UnitId]) -> None:
        others = [id_ for id_ in self._left if id_ not in first]
        chain = [*first, *others][: self._state.wanted_replicas]
        self._left = [id_ for id_ in self._left if id_ not in chain]
        self._opened.append(chain)

    def _without_leaving(self, chain: list[UnitId]) -> Chain:
        """Return the chain with so many of its drained units as are needed for its width."""
        room = self._lacks(chain)
        formed: list[UnitId] = []
        for id_ in chain:
            if self._counts(id_):
                formed.append(id_)
            elif room > 0:
                formed.append(id_)
                room -= 1
        return tuple(formed)

    def _waiting(self) -> int:
        """Return how many groups have old entries and no chain that is open: all are dead."""
        layout = self._state.active
        members = {id_ for chain in self._opened for id_ in chain}
        chains = {
            chain
            for segment in layout.segments
            for chain in segment.chains
            # What is given up is waited for by nobody.
            if not self._abandoned.issuperset(chain)
        }
        groups = {frozenset(kin_of(layout, chain)) for chain in chains}
        return sum(group.isdisjoint(members) for group in groups)


def groups_of(
    state: State, chains: Sequence[Chain], opened: Sequence[Sequence[UnitId]]
) -> list[int | None]:
    """Return for each chain of a segment the number of the open chain that is of its group."""
    found: list[int | None] = []
    for chain in chains:
        places = (
            number
            for near in (set(chain), kin_of(state.active, chain))
            for number, each in enumerate(opened)
            if not near.isdisjoint(each)
        )
        found.append(next(places, None))
    # All that a chain shared with its newest one may be gone. Then its place tells the group, or
    # else what no other chain of the segment belongs to.
    free = [number for number in range(len(opened)) if number not in found]
    alone = [index for index, number in enumerate(found) if number is None and chains[index]]
    for index in sorted(alone, key=lambda each: each not in free):
        if len(opened) < max(len(chains), state.wanted_chains) or not free:
            # As long as a chain is missing, it may be this one.
            break
        found[index] = free.pop(free.index(index) if index in free else 0)
    return found


def kin_of(layout: Layout, chain: Chain) -> set[UnitId]:
    """Return the units that stand in a chain with these, or with such a unit, and so on."""
    kin, chains = set(chain), [set(c) for segment in layout.segments for c in segment.chains]
    while more := [each for each in chains if not each.isdisjoint(kin) and not each <= kin]:
        kin.update(*more)
    return kin
