"""How a replica sees the storage units: what their probes answered, and when.

Pure. Each replica probes all units; followers tell the leader what they saw.
"""

from __future__ import annotations

from dataclasses import dataclass

from corfu.layout import Replica, Unit
from corfu.messages import Probed, UnitStatus, UnitView
from corfu.types import Epoch, Incarnation, Offset, ReplicaId, UnitId

Key = tuple[UnitId, Incarnation]

_MISSED_MIN = 2
"""Fewest probes in a row without an answer before a unit may count as dead."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A unit's last answer to a probe that was sent at `asked_at`."""

    probed: Probed
    asked_at: float
    heard_at: float


class UnitViews:
    """The last answers of all units, here and as the other replicas tell.

    A unit is dead for one replica when it has missed `_MISSED_MIN` probes in a row and was not
    heard for `dead_s`; one that was never heard here, only after `grace_s`: after a power cut
    many are merely slow to come back.
    """

    def __init__(self, *, dead_s: float, grace_s: float) -> None:
        self._dead_s = dead_s
        self._grace_s = grace_s
        self._known: dict[Key, float] = {}
        self._missed: dict[Key, int] = {}
        self._seen: dict[Key, Seen] = {}
        self._told: dict[ReplicaId, tuple[float, tuple[UnitView, ...]]] = {}

    def heard(self, probed: Probed, asked_at: float, now: float) -> None:
        """Note a unit's answer to this replica's own probe."""
        key = (probed.unit, probed.incarnation)
        last = self._seen.get(key)
        if last is None or last.asked_at <= asked_at:
            self._seen[key] = Seen(probed, asked_at, now)
        self._missed.pop(key, None)

    def missed(self, unit: Unit) -> None:
        """Note that a probe of this replica was not answered."""
        key = (unit.id, unit.incarnation)
        # Counted, because time alone passes for a replica that was itself stopped, too.
        self._missed[key] = self._missed.get(key, 0) + 1

    def told(self, replica: ReplicaId, views: tuple[UnitView, ...], now: float) -> None:
        """Note how another replica sees the units."""
        self._told[replica] = (now, views)

    def seen(self, unit: Unit) -> Seen | None:
        """Return a unit's last answer to this replica."""
        return self._seen.get((unit.id, unit.incarnation))

    def reached_by_others(self, unit: Unit, now: float, within_s: float) -> bool:
        """Tell if another replica has heard the unit in the last `within_s` seconds."""
        for told_at, views in self._told.values():
            for view in views:
                if (view.unit, view.incarnation) != (unit.id, unit.incarnation):
                    continue
                if view.heard_ms is not None and now - told_at + view.heard_ms / 1e3 < within_s:
                    return True
        return False

    def silent_s(self, unit: Unit, now: float) -> float:
        """Return for how long this replica has not heard a unit."""
        key = (unit.id, unit.incarnation)
        seen = self._seen.get(key)
        return now - (self._known.get(key, now) if seen is None else seen.heard_at)

    def dead(self, unit: Unit, now: float, replicas: tuple[Replica, ...], own: ReplicaId) -> bool:
        """Tell whether a majority of replicas, by what they lately told, hold a unit for dead."""
        key = (unit.id, unit.incarnation)
        if not self._dead(key, now):
            return False
        votes = 1
        for replica in replicas:
            told_at, views = self._told.get(replica.id, (0.0, ()))
            if replica.id == own or now - told_at > self._dead_s:
                continue
            votes += any((v.unit, v.incarnation) == key and v.dead for v in views)
        return votes > len(replicas) // 2

    def _dead(self, key: Key, now: float) -> bool:
        if self._missed.get(key, 0) < _MISSED_MIN:
            return False
        seen = self._seen.get(key)
        if seen is None:
            return now - self._known.get(key, now) >= self._grace_s
        return now - seen.heard_at >= self._dead_s

    def own(self, now: float) -> tuple[UnitView, ...]:
        """Return how this replica sees the units, to tell the leader."""
        return tuple(
            UnitView(id_, incarnation, _ms(now - seen.heard_at), seen.probed.restarted,
                     seen.probed.doubt, self._dead((id_, incarnation), now))
            if (seen := self._seen.get((id_, incarnation))) is not None
            else UnitView(id_, incarnation, None, restarted=False, doubt=False,
                          dead=self._dead((id_, incarnation), now))
            for id_, incarnation in self._known
        )  # fmt: skip

    def keep(self, units: tuple[Unit, ...], now: float) -> None:
        """Know these units, and forget all others."""
        keys = [(unit.id, unit.incarnation) for unit in units]
        self._known = {key: self._known.get(key, now) for key in keys}
        self._seen = {key: seen for key, seen in self._seen.items() if key in self._known}
        self._missed = {key: n for key, n in self._missed.items() if key in self._known}

    def status(self, unit: Unit, now: float) -> UnitStatus:
        """Return a unit's line of the status."""
        seen = self.seen(unit)
        if seen is None:
            return UnitStatus(
                unit.id, unit.incarnation, unit.address, None, Epoch(0),
                restarted=False, doubt=False, frozen=False, local_tail=Offset(0), free_bytes=0,
                sync=None,
            )  # fmt: skip
        probed = seen.probed
        return UnitStatus(
            unit.id, unit.incarnation, unit.address, _ms(now - seen.heard_at), probed.epoch,
            restarted=probed.restarted, doubt=probed.doubt, frozen=probed.frozen,
            local_tail=probed.local_tail, free_bytes=probed.free_bytes, sync=probed.sync,
        )  # fmt: skip


def _ms(seconds: float) -> int:
    return max(0, round(seconds * 1000))
