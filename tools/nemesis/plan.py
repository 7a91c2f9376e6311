"""Which faults a run makes, drawn from its seed before anything starts. Pure."""

from __future__ import annotations

import enum
import random
from collections.abc import Sequence
from dataclasses import dataclass


class Kind(enum.StrEnum):
    """A kind of fault. Kills are SIGKILL, stops are SIGSTOP and SIGCONT."""

    KILL_LEADER = "kill-leader"
    KILL_REPLICA = "kill-replica"
    KILL_HEAD = "kill-head"
    KILL_MIDDLE = "kill-middle"
    KILL_TAIL = "kill-tail"
    KILL_SPARE = "kill-spare"
    KILL_CLUSTER = "kill-cluster"
    KILL_TWO = "kill-two"
    """Two units of one chain at once; the second one is missed only after 5 s."""

    STOP_LEADER = "stop-leader"
    STOP_REPLICA = "stop-replica"
    STOP_HEAD = "stop-head"
    STOP_MIDDLE = "stop-middle"
    STOP_TAIL = "stop-tail"
    WIPE = "wipe"
    WIPE_TWICE = "wipe-twice"
    """Wiped, and wiped again while the next leader is being elected."""

    LEADER_AND_UNIT = "kill-leader-and-unit"
    LONG_ABSENCE = "long-absence"
    """A unit comes back long after it has left the layout."""

    RESTART_REPLICA = "restart-replica"
    RESTART_UNIT = "restart-unit"
    """SIGTERM, and a start."""

    REPLACE = "replace"
    """`corfu unit replace`: the operator gives a living unit's place to a spare."""


LEADER_KINDS = frozenset({Kind.KILL_LEADER, Kind.STOP_LEADER})
UNIT_KINDS = frozenset(
    {
        Kind.KILL_HEAD,
        Kind.KILL_MIDDLE,
        Kind.KILL_TAIL,
        Kind.STOP_HEAD,
        Kind.STOP_MIDDLE,
        Kind.STOP_TAIL,
        Kind.WIPE,
        Kind.LONG_ABSENCE,
    }
)
"""Faults of one unit that stands in a chain, and nothing beside it."""

_MIDDLE = frozenset({Kind.KILL_MIDDLE, Kind.STOP_MIDDLE, Kind.KILL_TWO})
_SPARE = frozenset({Kind.KILL_SPARE, Kind.REPLACE})
_FOLLOWER = frozenset(
    {Kind.KILL_REPLICA, Kind.STOP_REPLICA, Kind.STOP_LEADER, Kind.LEADER_AND_UNIT}
)

OVERLAP_SHARE = 0.3
"""Of so many cycles nobody waits for full redundancy before the next fault."""

STOP_S = (2.0, 10.0)
ABSENCE_S = (8.0, 15.0)
DOWN_S = (0.0, 4.0)


@dataclass(frozen=True, slots=True)
class Cycle:
    """One fault to make.

    Attributes:
        number: From 1.
        kind: What to do.
        seconds: How long whatever is hit stays down or stopped.
        draw: Chooses among the victims that are possible then; in [0, 1).
        overlap: Go on to the next cycle as soon as appends go on.
    """

    number: int
    kind: Kind
    seconds: float
    draw: float
    overlap: bool


def possible(
    kinds: Sequence[Kind], *, sequencers: int, replicas: int, spares: int
) -> tuple[Kind, ...]:
    """Return those of `kinds` that a cluster of this shape can be asked to survive."""
    excluded: set[Kind] = set()
    if sequencers < 3:
        excluded |= _FOLLOWER
    if replicas < 3:
        excluded |= _MIDDLE
    if replicas < 2:
        excluded |= UNIT_KINDS | {Kind.WIPE_TWICE, Kind.LEADER_AND_UNIT}
    if spares < 1:
        excluded |= _SPARE
    return tuple(kind for kind in kinds if kind not in excluded)


def draw_cycles(seed: int, count: int, kinds: Sequence[Kind]) -> tuple[Cycle, ...]:
    """Return the cycles of a seed; every kind comes once before any comes again."""
    assert kinds
    # Two generators: fewer cycles of a seed are the beginning of more.
    rng = random.Random(f"nemesis-{seed}")  # noqa: S311 - a repeatable run is the point
    kinds_rng = random.Random(f"nemesis-kinds-{seed}")  # noqa: S311
    order: list[Kind] = []
    while len(order) < count:
        order += kinds_rng.sample(kinds, len(kinds))
    return tuple(
        Cycle(
            number,
            kind,
            round(rng.uniform(*_range(kind)), 1),
            rng.random(),
            rng.random() < OVERLAP_SHARE,
        )
        for number, kind in enumerate(order[:count], 1)
    )


def _range(kind: Kind) -> tuple[float, float]:
    if kind is Kind.LONG_ABSENCE:
        return ABSENCE_S
    if kind.startswith("stop-"):
        return STOP_S
    return DOWN_S
