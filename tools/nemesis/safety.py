"""Which process a fault may hit now, so that the promises still hold. Pure.

A fault is made only where the log promises to survive it: a majority of replicas stays, and every
chain of every segment keeps another unit that serves and holds all of it. What the cluster said a
moment ago about a process that was touched since does not count.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from corfu.layout import Layout
from corfu.messages import StatusIs, UnitStatus
from corfu.tools.health import Health
from corfu.types import ReplicaId, UnitId

from .plan import Kind

HEARD_MS_MAX = 800
"""A unit that a probe (every 250 ms) has not found for longer is not counted on."""

_PLACES = {
    Kind.KILL_HEAD: "head",
    Kind.STOP_HEAD: "head",
    Kind.KILL_MIDDLE: "middle",
    Kind.STOP_MIDDLE: "middle",
    Kind.KILL_TAIL: "tail",
    Kind.STOP_TAIL: "tail",
}

_UNIT_WANTED = frozenset(
    {
        *_PLACES,
        Kind.WIPE,
        Kind.WIPE_TWICE,
        Kind.LEADER_AND_UNIT,
        Kind.LONG_ABSENCE,
        Kind.RESTART_UNIT,
        Kind.REPLACE,
    }
)


@dataclass(frozen=True, slots=True)
class Victims:
    """What a fault hits: a replica, units of chains, or spares."""

    replica: ReplicaId | None = None
    units: tuple[UnitId, ...] = ()
    place: str = ""
    """For people: where the first of the units stands."""

    spare: UnitId | None = None


@dataclass(frozen=True, slots=True)
class Situation:
    """What is known of the cluster at one moment.

    Attributes:
        health: One look at the replicas.
        unsure: Units that were touched so lately that `health` may not show it.
        whole: Whether redundancy is full (see `lacking`).
    """

    health: Health
    unsure: frozenset[UnitId]
    whole: bool

    @property
    def layout(self) -> Layout:
        """The layout of the best answer."""
        return self.health.best.layout


def victims(kind: Kind, now: Situation) -> tuple[Victims, ...]:
    """Return all that a fault of this kind may hit now, in a fixed order; () if nothing."""
    health = now.health
    if health.leader is None or health.best.pending_epoch is not None:
        return ()
    leader = health.leader.replica
    match kind:
        case Kind.KILL_LEADER | Kind.STOP_LEADER:
            return (Victims(leader),) if _replica_may_go(health) else ()
        case Kind.KILL_REPLICA | Kind.STOP_REPLICA | Kind.RESTART_REPLICA:
            if not _replica_may_go(health):
                return ()
            ids = [each.id for each in health.replicas if each.id is not None]
            others = [id_ for id_ in ids if id_ != leader]
            # The leader too is stopped in order now and then.
            chosen = ids if kind is Kind.RESTART_REPLICA else others
            return tuple(Victims(id_) for id_ in chosen)
        case Kind.KILL_CLUSTER:
            # Nothing is wiped meanwhile, and all disks stay: but a chain that is short would be
            # in doubt with nobody left to settle it.
            return (Victims(leader),) if now.whole else ()
        case Kind.KILL_SPARE:
            return tuple(Victims(spare=id_) for id_ in _spares(now))
        case Kind.KILL_TWO:
            return tuple(_two(now))
        case Kind.LEADER_AND_UNIT | Kind.WIPE_TWICE:
            if not _replica_may_go(health):
                return ()
            return tuple(Victims(leader, each.units, each.place) for each in _units(kind, now))
        case Kind.REPLACE:
            spare = next(iter(_spares(now)), None)
            if spare is None:
                return ()
            return tuple(Victims(None, each.units, each.place, spare) for each in _units(kind, now))
        case _:
            assert kind in _UNIT_WANTED
            return tuple(_units(kind, now))


def may_go(units: frozenset[UnitId], now: Situation) -> bool:
    """Tell whether all of `units` may fail at once, disks and all, and nothing is lost.

    Every chain that one of them stands in, also of old entries, must keep a unit that serves. And
    all the rest of those chains must be sound: a unit in doubt needs the others to settle it.
    """
    sound = sound_units(now)
    return all(
        sound.issuperset(set(chain) - units) and bool(set(chain) - units)
        for segment in now.layout.segments
        for chain in segment.chains
        if units & set(chain)
    )


def sound_units(now: Situation) -> frozenset[UnitId]:
    """Return the units of the layout that serve its epoch and have nothing to settle."""
    best = now.health.best
    return frozenset(
        unit.unit
        for unit in best.units
        if _is_listed(best, unit)
        and unit.unit not in now.unsure
        and unit.heard_ms is not None
        and unit.heard_ms <= HEARD_MS_MAX
        and unit.epoch == best.layout.epoch
        and not (unit.restarted or unit.doubt or unit.frozen)
    )


def lacking(health: Health, *, units: int, chains: int, replicas: int) -> str | None:
    """Return what a cluster of this shape lacks of full redundancy; None if nothing.

    Every chain of every segment has its full width, nothing is wrong or under way, and all other
    units stand ready as spares.
    """
    if health.problems:
        return health.problems[0]
    best = health.best
    if len(best.layout.open_segment.chains) < chains:
        return f"only {len(best.layout.open_segment.chains)} chains take appends"
    for segment in best.layout.segments:
        for number, chain in enumerate(segment.chains):
            if len(chain) < replicas:
                return f"chain {number} of the entries from {segment.start} has {len(chain)} units"
    known = [unit.unit for unit in best.units]
    if len(set(known)) < units:
        gone = sorted(set(range(1, units + 1)) - set(known))
        return f"units {', '.join(map(str, gone))} have not come back"
    return f"unit {max(known, key=known.count)} is known twice" if len(known) > units else None


def conflicts(health: Health) -> list[str]:
    """Return what only a broken rule can bring about."""
    found = [f"unit {unit.unit} saw a conflict" for unit in health.best.units if unit.frozen]
    return found + [f"lost: [{lost.start}, {lost.end})" for lost in health.best.lost]


def _is_listed(best: StatusIs, unit: UnitStatus) -> bool:
    """Tell whether it is this incarnation of the unit that the layout lists."""
    return any(
        (each.id, each.incarnation) == (unit.unit, unit.incarnation) for each in best.layout.units
    )


def _replica_may_go(health: Health) -> bool:
    answering = sum(replica.answer is not None for replica in health.replicas)
    majority = len(health.replicas) // 2 + 1
    # A single replica is started again at once: the service waits for it.
    return len(health.replicas) == 1 or answering - 1 >= majority


def _units(kind: Kind, now: Situation) -> Iterator[Victims]:
    wanted = _PLACES.get(kind)
    for chain in now.layout.open_segment.chains:
        for index, id_ in enumerate(chain):
            place = _place(index, len(chain))
            if wanted in (None, place) and may_go(frozenset({id_}), now):
                yield Victims(None, (id_,), place)


def _two(now: Situation) -> Iterator[Victims]:
    for chain in now.layout.open_segment.chains:
        for index, id_ in enumerate(chain):
            other = chain[(index + 1) % len(chain)]
            if other != id_ and may_go(frozenset({id_, other}), now):
                yield Victims(None, (id_, other), _place(index, len(chain)))


def _place(index: int, length: int) -> str:
    if index == 0:
        return "head"
    return "tail" if index == length - 1 else "middle"


def _spares(now: Situation) -> tuple[UnitId, ...]:
    best = now.health.best
    listed = {unit.id for unit in best.layout.units}
    return tuple(
        unit.unit
        for unit in best.units
        if unit.unit not in listed
        and unit.unit not in now.unsure
        and unit.heard_ms is not None
        and unit.heard_ms <= HEARD_MS_MAX
    )
