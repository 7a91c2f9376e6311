"""How a replica sees the storage units: what their probes answered, and when.

Pure. Each replica probes all units; followers tell the leader what they saw.
"""

from __future__ import annotations

from dataclasses import dataclass

from corfu.layout import Unit
from corfu.messages import Probed, UnitStatus, UnitView
from corfu.types import Epoch, Incarnation, Offset, ReplicaId, UnitId

Key = tuple[UnitId, Incarnation]


@dataclass(frozen=True, slots=True)
class Seen:
    """A unit's last answer to a probe that was sent at `asked_at`."""

    probed: Probed
    asked_at: float
    heard_at: float


class UnitViews:
    """The last answers of all units, here and as the other replicas tell."""

    def __init__(self) -> None:
        self._seen: dict[Key, Seen] = {}
        self._told: dict[ReplicaId, tuple[float, tuple[UnitView, ...]]] = {}

    def heard(self, probed: Probed, asked_at: float, now: float) -> None:
        """Note a unit's answer to this replica's own probe."""
        key = (probed.unit, probed.incarnation)
        last = self._seen.get(key)
        if last is None or last.asked_at <= asked_at:
            self._seen[key] = Seen(probed, asked_at, now)

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

    def own(self, now: float) -> tuple[UnitView, ...]:
        """Return how this replica sees the units, to tell the leader."""
        return tuple(
            UnitView(id_, incarnation, _ms(now - seen.heard_at), seen.probed.restarted,
                     seen.probed.doubt)
            for (id_, incarnation), seen in self._seen.items()
        )  # fmt: skip

    def keep(self, units: tuple[Unit, ...]) -> None:
        """Forget all others."""
        keys = {(unit.id, unit.incarnation) for unit in units}
        self._seen = {key: seen for key, seen in self._seen.items() if key in keys}

    def status(self, unit: Unit, now: float) -> UnitStatus:
        """Return a unit's line of the status."""
        seen = self.seen(unit)
        if seen is None:
            return UnitStatus(
                unit.id, unit.incarnation, unit.address, None, Epoch(0),
                restarted=False, doubt=False, frozen=False, local_tail=Offset(0), free_bytes=0,
            )  # fmt: skip
        probed = seen.probed
        return UnitStatus(
            unit.id, unit.incarnation, unit.address, _ms(now - seen.heard_at), probed.epoch,
            restarted=probed.restarted, doubt=probed.doubt, frozen=probed.frozen,
            local_tail=probed.local_tail, free_bytes=probed.free_bytes,
        )  # fmt: skip


def _ms(seconds: float) -> int:
    return max(0, round(seconds * 1000))
