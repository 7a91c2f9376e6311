"""Rot: bits that flip on a unit's disk, and what must have become of them in the end."""

from __future__ import annotations

import random
from dataclasses import dataclass

from corfu.journal.format import DamagedRecordError, journal_name, record_bytes
from corfu.messages import Scrub, ScrubIs
from corfu.ports import UnansweredError
from corfu.runtime.driver import Driver
from corfu.storage_units.index import STATE_MASK, cell_place
from corfu.storage_units.process import UnitProcess
from corfu.storage_units.store import Store
from corfu.tools.sim.host import Host
from corfu.tools.sim.world import World
from corfu.types import Offset, State

_RECORDS_MAX = 5
_TRIES = 40
_ASK_S = 2.0


@dataclass(frozen=True, slots=True)
class _Flipped:
    """One record with a flipped bit. `cell` is what the index held of it."""

    host: Host
    offset: Offset
    cell: int


class Rotten:
    """What was made to rot in a run; at most one copy of an offset at a time."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._flipped: list[_Flipped] = []
        self._driver: Driver | None = None

    def flip(self, host: Host, rng: random.Random) -> bool:
        """Flip a bit in some records of a unit that its chains hold elsewhere, too; False if none.

        Only in what is synced: the rest a power cut may take anyway.
        """
        store = _store(host)
        if store is None or not store.standing.serving or not store.index.end:
            return False
        chosen: dict[Offset, int] = {}
        for _ in range(_TRIES):
            offset = Offset(rng.randrange(store.index.end))
            cell = store.index.get(offset)
            # Junk has one record for many offsets; a second flip could undo the first.
            if cell in chosen.values() or len(chosen) == _RECORDS_MAX:
                continue
            if self._is_elsewhere(store, offset):
                chosen[offset] = cell
        for offset, cell in chosen.items():
            place = cell_place(cell)
            name = journal_name(place.serial)
            data = host.disk.read(name, place.position, place.length)
            length = record_bytes(store.parse(cell, memoryview(data))[0].body_bytes)
            position = place.position + rng.randrange(length)
            host.disk.flip(name, position, rng.randrange(8))
            self._flipped.append(_Flipped(host, offset, cell))
            self._world.note(host.name, f"rots at offset {offset}, byte {position} of {name}")
        return bool(chosen)

    def left(self) -> list[str]:
        """Return what is bad: records that rot and still count, offsets that a unit suspects."""
        self._flipped = [flipped for flipped in self._flipped if not _is_healed(flipped)]
        found = [
            f"{flipped.host.name} at {flipped.offset}"
            for flipped in self._flipped
            if _matters(flipped)
        ]
        for host in self._world.units:
            store = _store(host)
            if store is not None:
                named = [o for o in store.suspicion.named if store.standing.seat_of(o) is not None]
                found += [f"{host.name} is damaged at {offset}" for offset in sorted(named)]
        return found

    async def scrub(self) -> None:
        """Have every unit look through what it holds; returns when those that answer have."""
        if self._driver is None:
            _log, self._driver, _group = self._world.client()
            self._driver.link.cluster = self._world.cluster
        for host in self._world.units:
            if isinstance(host.process, UnitProcess):
                await _scrub(self._driver, host)

    def _is_elsewhere(self, store: Store, offset: Offset) -> bool:
        """Tell whether an offset is durably here, and at every other unit of its chain."""
        seat = store.standing.seat_of(offset)
        if seat is None or len(seat.chain) < 2 or not _has(store, offset):
            return False
        for unit in seat.chain:
            other = _store(self._world.units[unit.id - 1])
            if other is None or other.standing.incarnation != unit.incarnation:
                return False
            if not other.standing.serving or not _has(other, offset):
                return False
        return True


def _store(host: Host) -> Store | None:
    process = host.process
    if not isinstance(process, UnitProcess) or host.paused:
        return None
    return process.core.store


def _has(store: Store, offset: Offset) -> bool:
    sound = store.state(offset) in (State.DATA, State.JUNK)
    return sound and store.others_durable and not store.memory.pending(offset)


def _matters(flipped: _Flipped) -> bool:
    """Tell whether the unit stands in the offset's chain, or may: it is down.

    One that was left out may join again; then the rebuild has to find it.
    """
    store = _store(flipped.host)
    return store is None or store.standing.seat_of(flipped.offset) is not None


def _is_healed(flipped: _Flipped) -> bool:
    """Tell whether a record is no more what counts at its offset, or a flip in its padding."""
    store = _store(flipped.host)
    if store is None:
        return False
    offset, cell = flipped.offset, flipped.cell
    if store.state(offset) in (State.TRIMMED, State.LOST):
        return True
    held = store.index.get(offset)
    if held & ~STATE_MASK != cell & ~STATE_MASK:
        return store.state(offset) is not State.DAMAGED
    if held != cell:
        return False
    place = cell_place(cell)
    data = flipped.host.disk.read(journal_name(place.serial), place.position, place.length)
    try:
        store.parse(cell, memoryview(data))
    except DamagedRecordError:
        return False
    return True


async def _scrub(driver: Driver, host: Host) -> None:
    begun: ScrubIs | None = None
    while isinstance(process := host.process, UnitProcess):
        own = process.identity
        message = Scrub(driver.new_request(), own.unit, own.incarnation, start=begun is None)
        try:
            told = await driver.ask(host.address, message, _ASK_S)
        except UnansweredError:
            return
        if not isinstance(told, ScrubIs):
            return
        if begun is None:
            begun = told
        if not told.running:
            return
        await driver.sleep(0.02)
