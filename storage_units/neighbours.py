"""The next units of the own chains: pings tell whether they can be reached from here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from corfu.effects import Effect, Send
from corfu.messages import Ping, Pong, SilentUnit
from corfu.types import Address, RequestId, UnitId

from .standing import Standing

_SILENT_AFTER = 2
"""Intervals without an answer before a unit is called silent: one ping may always be lost."""


@dataclass(slots=True)
class _Neighbour:
    address: Address
    heard: float
    unanswered: int = 0


class Neighbours:
    """Pings each next unit, and says since when one is silent.

    A broken link between two units is seen by nobody else: both answer the replicas.
    """

    def __init__(
        self, standing: Standing, interval_s: float, new_request: Callable[[], RequestId]
    ) -> None:
        self._standing = standing
        self._interval_s = interval_s
        self._new_request = new_request
        self._next: dict[UnitId, _Neighbour] = {}
        self._due: float | None = None

    @property
    def deadline(self) -> float | None:
        """When to ping next."""
        return self._due

    def installed(self, now: float) -> None:
        """Take the next units from a layout just installed; known ones keep their silence."""
        before = self._next
        self._next = {}
        for seat in self._standing.seats:
            if seat.end is not None and seat.end <= self._standing.closed_until:
                continue
            if seat.next is None:
                continue
            unit = seat.chain[seat.index + 1]
            known = before.get(unit.id)
            if known is None or known.address != unit.address:
                known = _Neighbour(unit.address, now)
            self._next[unit.id] = known
        self._due = now if self._next else None

    def tick(self, now: float) -> list[Effect]:
        """Ping if it is time."""
        if self._due is None or now < self._due:
            return []
        self._due = now + self._interval_s
        for each in self._next.values():
            each.unanswered += 1
        own = self._standing.unit
        return [
            Send(each.address, Ping(self._new_request(), own), ordered=False)
            for each in self._next.values()
        ]

    def pong(self, message: Pong, sender: Address, now: float) -> None:
        """Note an answer."""
        known = self._next.get(message.unit)
        if known is not None and known.address == sender:
            known.heard = now
            known.unanswered = 0

    def silent(self, now: float) -> tuple[SilentUnit, ...]:
        """Return the next units that do not answer."""
        limit = _SILENT_AFTER * self._interval_s
        return tuple(
            SilentUnit(unit, int((now - known.heard) * 1000))
            for unit, known in self._next.items()
            # Counted as well: a process that was stopped has asked nobody meanwhile.
            if now - known.heard > limit and known.unanswered > _SILENT_AFTER
        )
