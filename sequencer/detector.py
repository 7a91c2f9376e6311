"""Who is dead, and who of them may be left out of the next layout.

The rules are pure; `Detector` applies them to what this leader and the other replicas see. It
decides how soon something is done, never what is true: a living unit that is dropped by mistake
costs a rebuild, and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from corfu.layout import Layout, Unit
from corfu.types import SyncMode, UnitId

from .context import Context
from .survey import Survey
from .views import Key


@dataclass(frozen=True, slots=True)
class Condition:
    """How a unit is.

    Attributes:
        dead: A majority of replicas miss it, or it has lost what it held.
        silent_s: For how long the leader has not heard it.
        doubt: It is a head with damage or doubt that is not settled.
        frozen: It saw a Conflict.
        unreachable: Next units of its chains that it cannot reach, though the leader can.
    """

    dead: bool
    silent_s: float
    doubt: bool
    frozen: bool
    unreachable: tuple[UnitId, ...] = ()


def droppable(
    layout: Layout,
    conditions: Mapping[UnitId, Condition],
    *,
    second_s: float,
    boot_grace_s: float,
) -> frozenset[UnitId]:
    """Return which of the dead units the next layout may leave out.

    Args:
        layout: The active layout.
        conditions: Of each of its units.
        second_s: So long must a unit be silent that goes together with another of its chain.
        boot_grace_s: So long must one be silent that is needed to settle another's doubt.
    """
    dead = {id_ for id_, condition in conditions.items() if condition.dead}
    chosen: set[UnitId] = set()
    # The one that is gone for longest first.
    for id_ in sorted(dead, key=lambda each: (-conditions[each].silent_s, each)):
        condition = conditions[id_]
        mates = {mate for chain in _chains_of(layout, id_) for mate in chain} - {id_}
        # What a Conflict has left behind only an operator may judge.
        if condition.frozen:
            continue
        # The doubt of a head is settled by what the others of its chain hold: this one, too.
        if any(conditions[mate].doubt for mate in mates) and condition.silent_s < boot_grace_s:
            continue
        # One at a time: several that are missed at once are more likely a broken network.
        if mates & chosen and condition.silent_s < second_s:
            continue
        # With no living unit beside it, it goes from no chain.
        if any(not dead.issuperset(chain) for chain in _chains_of(layout, id_)):
            chosen.add(id_)
    return frozenset(chosen)


def broken_links(
    layout: Layout, conditions: Mapping[UnitId, Condition], accused: Mapping[UnitId, UnitId]
) -> dict[UnitId, UnitId]:
    """Return who is to go because two living units cannot reach each other, and by whose word.

    Args:
        layout: The active layout.
        conditions: Of each of its units.
        accused: Whom a unit's word has cost its place before.
    """
    found: dict[UnitId, UnitId] = {}
    for id_, condition in conditions.items():
        for other in condition.unreachable:
            seen = conditions.get(other)
            if condition.dead or seen is None or seen.dead or not _follows(layout, id_, other):
                continue
            # The later one goes: what it holds, the other one holds as well. But a unit that
            # reaches two different ones in a row no more has lost its own link.
            before = accused.get(id_)
            found[id_ if before is not None and before != other else other] = id_
    return found


def _follows(layout: Layout, id_: UnitId, other: UnitId) -> bool:
    return any(
        other in chain[chain.index(id_) + 1 :]
        for segment in layout.segments
        for chain in segment.chains
        if id_ in chain
    )


def _chains_of(layout: Layout, id_: UnitId) -> Iterator[tuple[UnitId, ...]]:
    for segment in layout.segments:
        for chain in segment.chains:
            if id_ in chain:
                yield chain


class Detector:
    """What one leading term finds out about the units."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._lost: set[Key] = set()
        self._accused: dict[UnitId, UnitId] = {}

    def has_lost(self, unit: UnitId) -> None:
        """Note that a unit's answer to a seal shows that it has lost what it held."""
        found = self._context.state.active.unit(unit)
        self._lost.add((found.id, found.incarnation))

    def activated(self, survey: Survey) -> None:
        """Note by whose word units were left out of the layout that is active now."""
        listed = {unit.id for unit in self._context.state.active.units}
        for gone, word in self._links().items():
            if gone in survey.drop:
                self._accused[word] = gone
        self._accused = {word: gone for word, gone in self._accused.items() if word in listed}

    def survey(self) -> Survey:
        """Return how the units are now."""
        layout, settings = self._context.state.active, self._context.settings
        conditions = {unit.id: self._condition(unit) for unit in layout.units}
        links = broken_links(layout, conditions, self._accused)
        for id_ in links:
            known = conditions[id_]
            conditions[id_] = Condition(True, known.silent_s, known.doubt, known.frozen)
        drop = droppable(
            layout,
            conditions,
            second_s=settings.second_dead_s,
            boot_grace_s=settings.boot_grace_s,
        )
        dead = frozenset(id_ for id_, condition in conditions.items() if condition.dead)
        return Survey(
            dead,
            drop,
            self._spares(),
            answering=frozenset(unit.id for unit in layout.units if self._answers(unit)),
            doubtful=frozenset(id_ for id_, condition in conditions.items() if condition.doubt),
            frozen=frozenset(id_ for id_, condition in conditions.items() if condition.frozen),
        )

    def _answers(self, unit: Unit) -> bool:
        context = self._context
        seen = context.core.views.seen(unit)
        return seen is not None and context.now() - seen.heard_at <= context.settings.unit_dead_s

    def _links(self) -> dict[UnitId, UnitId]:
        layout = self._context.state.active
        conditions = {unit.id: self._condition(unit) for unit in layout.units}
        return broken_links(layout, conditions, self._accused)

    def _condition(self, unit: Unit) -> Condition:
        context = self._context
        now, views, settings = context.now(), context.core.views, context.settings
        lost = (unit.id, unit.incarnation) in self._lost
        silent_s = views.silent_s(unit, now)
        seen = views.seen(unit)
        dead = lost or views.dead(unit, now, context.state.replicas, context.core.identity.replica)
        if seen is None:
            return Condition(dead, silent_s, doubt=False, frozen=False)
        unreachable = tuple(
            each.unit
            for each in seen.probed.silent
            if each.silent_ms >= settings.unit_dead_s * 1000 and silent_s < settings.unit_dead_s
        )
        return Condition(
            dead, silent_s, seen.probed.doubt, seen.probed.frozen, unreachable
        )  # fmt: skip

    def _spares(self) -> tuple[Unit, ...]:
        """Return the registered units that answer this leader and may hold the cluster's data."""
        context = self._context
        now, views, state = context.now(), context.core.views, context.state
        usable: list[Unit] = []
        for unit in state.registered:
            seen = views.seen(unit)
            if seen is None or views.silent_s(unit, now) > context.settings.unit_dead_s:
                continue
            weaker = (
                state.active.sync is SyncMode.ALWAYS and seen.probed.sync is not SyncMode.ALWAYS
            )
            if not weaker and not seen.probed.frozen:
                usable.append(unit)
        # Who has more of the old entries has less to copy.
        return tuple(sorted(usable, key=lambda unit: (-self._tail(unit), unit.id)))

    def _tail(self, unit: Unit) -> int:
        seen = self._context.core.views.seen(unit)
        return 0 if seen is None else int(seen.probed.local_tail)
