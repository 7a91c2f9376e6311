"""One storage unit's core, with its journal on a disk that can crash.

Real: `StorageUnit` and all that it is made of, its store, the committer, recovery. Left out: time
(no message of these models is answered by it), pings, housekeeping and scrubbing.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import NamedTuple

from corfu.effects import Send
from corfu.journal.planner import Journal
from corfu.journal.recovery import allocate_spares
from corfu.layout import Layout
from corfu.messages import (
    Entries,
    Filled,
    Install,
    Message,
    Seal,
    Written,
)
from corfu.storage_units.context import Context
from corfu.storage_units.control import Control
from corfu.storage_units.identity import UnitIdentity, read_identity
from corfu.storage_units.index import STATE_MASK, OffsetIndex
from corfu.storage_units.mending import Mending
from corfu.storage_units.neighbours import Neighbours
from corfu.storage_units.notices import Notices
from corfu.storage_units.process import format_unit
from corfu.storage_units.rebuild import Rebuilds
from corfu.storage_units.recovery import recover_store
from corfu.storage_units.repair import Repair
from corfu.storage_units.scrub import Scrubbing
from corfu.storage_units.settings import UnitSettings
from corfu.storage_units.store import Store
from corfu.storage_units.unit import StorageUnit
from corfu.types import Epoch, Incarnation, Offset, RequestId, State, SyncMode
from tests.unit.corfu.fake_disk import FakeDisk
from tests.unit.storage_units.unit_bench import (
    CLUSTER,
    LEADER,
    WINDOW_END,
    unit_value,
)

from .canonical import Canonical
from .chain_words import ADDRESSES, NAMES, OFFSETS, TellEmpty, TellValue, Value, values_of
from .disk import DiskSide
from .machine import Envelope, Event, Outcome, Own
from .model import DISK_DONE

SETTINGS = UnitSettings(journal_file_bytes=16 << 10, parallel_persist=False)
PARALLEL = UnitSettings(journal_file_bytes=16 << 10, parallel_persist=True)
UNITS = (1, 2, 3)

CRASH = "crashes and restarts, the batch under way lost"
CRASH_KEPT = "crashes and restarts, the batch under way on disk"


class View(NamedTuple):
    """What a unit holds, what it has beside that, and what it stands for."""

    values: tuple[tuple[Offset, Value], ...]
    tentative: tuple[tuple[Offset, Value], ...]
    sealed: Epoch
    installed: Epoch
    frozen: bool

    def value(self, offset: Offset) -> Value | None:
        return dict(self.values).get(offset)

    def kept(self, offset: Offset) -> Value | None:
        """Return what is held, or tentative: both stand in the journal."""
        return self.value(offset) or dict(self.tentative).get(offset)


class Facts(NamedTuple):
    """What the invariants see of a unit: in memory, which runs ahead, and on disk."""

    memory: View
    durable: View


def _images() -> dict[int, FakeDisk]:
    images = {}
    for number in UNITS:
        disk = images[number] = FakeDisk()
        own = unit_value(number)
        format_unit(
            disk,
            cluster=CLUSTER,
            unit=own.id,
            incarnation=own.incarnation,
            sync=SyncMode.ALWAYS,
            settings=SETTINGS,
        )
    return images


_IMAGES = _images()
_IDENTITIES: dict[int, UnitIdentity] = {
    number: read_identity(disk) for number, disk in _IMAGES.items()
}


class UnitNode:
    """A unit that serves the first epoch when the search begins."""

    def __init__(self, number: int, first: Layout, settings: UnitSettings = SETTINGS) -> None:
        self.number = number
        self._settings = settings
        self.name = f"u{number}"
        self._disk = _IMAGES[number].copy()
        self._life = 0
        self._alarms: list[str] = []
        self._start()
        own = unit_value(number)
        for message in (seal_message(number, first), install_message(number, first)):
            assert message.unit == own.id
            self._side.run(self._unit.handle(message, LEADER, 0.0))
            while self._side.busy:
                self._side.finish()
        self._durable = self._batch = self._view()

    def _start(self) -> None:
        self._life += 1
        store = recover_store(self._disk, _IDENTITIES[self.number], self._settings)
        allocate_spares(self._disk, store.journal)
        session = Incarnation(b"unit-%03d-life-%03d" % (self.number, self._life))
        unit = StorageUnit(store, self._settings, session=session, log=self._alarms.append)
        unit.free_bytes = 1 << 30
        self._unit = unit
        self._side = DiskSide(self._disk, store.journal, self._cut, lambda: unit.durable(0.0))
        # What a recovery leaves to be freed is no part of the state: it is done at once.
        self._side.run(())
        while self._side.busy:
            self._side.finish()

    def _cut(self) -> None:
        self._batch = self._view()

    def _view(self) -> View:
        store = self._unit.store
        standing = store.standing
        held: list[tuple[Offset, Value]] = []
        for offset in OFFSETS:
            state = store.state(offset)
            if state is State.EMPTY:
                continue
            name = store.name(offset)
            assert name is not None
            held.append((offset, Value(state, name.entry_id)))
        tentative = tuple(
            (offset, Value(State.DATA, store.tentative.entries[offset].name.entry_id))
            for offset in OFFSETS
            if offset in store.tentative
        )
        installed = Epoch(0) if standing.layout is None else standing.layout.epoch
        return View(tuple(held), tentative, standing.sealed, installed, standing.frozen)

    # Node.

    def apply(self, event: Event) -> Outcome:
        before = self._view()
        message: Message | None = None
        if isinstance(event, Envelope):
            assert isinstance(event.message, Message)
            message = event.message
            effects = self._unit.handle(message, ADDRESSES[event.source], 0.0)
            left = self._side.run(effects)
        elif event.name == DISK_DONE:
            self._durable = self._batch
            left = self._side.finish()
        else:
            assert event.name in (CRASH, CRASH_KEPT)
            return Outcome(wrong=self._crash(kept=event.name == CRASH_KEPT))
        sends = tuple(Envelope(self.name, NAMES[send.to], send.message) for send in left)
        told = tuple(each for send in left for each in self._tells(send))
        return Outcome(sends, told, self._broken(before, message))

    def _crash(self, *, kept: bool) -> str:
        self._side.crash(kept=kept)
        if kept:
            self._durable = self._batch
        self._start()
        self._batch = self._view()
        if _remembered(self._batch) != _remembered(self._durable):
            return f"{self.name}: a restart finds {self._batch}, durable was {self._durable}"
        for offset, value in self._batch.values:
            if self._durable.value(offset) is None:
                return f"{self.name}: a restart holds {value} at {offset}, which was tentative"
        self._durable = self._batch
        return ""

    def _broken(self, before: View, message: Message | None) -> str:
        if self._alarms:
            return f"{self.name}: {self._alarms[0]}"
        after = self._view()
        if after.sealed < before.sealed:
            return f"{self.name}: the sealed epoch went back"
        for offset in OFFSETS:
            was, now = before.value(offset), after.value(offset)
            if was is not None and now != was and (now is None or now.state is not State.TRIMMED):
                return f"{self.name}: offset {offset} changed from {was} to {now}"
            if before.kept(offset) is not None and after.kept(offset) is None:
                return f"{self.name}: what was kept at {offset} is gone"
            if was is None and now is not None:
                # A layout lets a head hold what was tentative.
                of = message.layout if isinstance(message, Install) else message
                epoch = getattr(of, "epoch", None)
                if epoch != before.sealed:
                    return f"{self.name}: stored {now} for epoch {epoch}, sealed at {before.sealed}"
        return ""

    def _tells(self, send: Send) -> list[Hashable]:
        """Return what a message that leaves says of an offset for ever, to a client."""
        message = send.message
        if send.to in (unit_value(number).address for number in UNITS):
            return []
        told: list[Hashable] = []
        if isinstance(message, Written | Filled | Entries):
            told += [TellValue(self.name, *each) for each in values_of(message)]
        if isinstance(message, Entries):
            listed = {offset for offset, _ in values_of(message)}
            told += [
                TellEmpty(self.name, offset, message.epoch)
                for offset in OFFSETS
                if message.offset <= offset < message.end and offset not in listed
            ]
        return told

    def canonical(self) -> str:
        return _CANONICAL.text(
            (
                self._unit,
                self._durable,
                self._batch if self._side.busy else None,
                self._side.held,
                self._life,
            )
        )

    def own(self) -> tuple[Own, ...]:
        moves = [Own(CRASH, "crash")]
        if self._side.busy:
            moves += [Own(CRASH_KEPT, "crash"), Own(DISK_DONE)]
        return tuple(moves)

    def facts(self) -> Facts:
        return Facts(self._view(), self._durable)

    def calm(self) -> bool:
        return not self._side.busy


def _remembered(view: View) -> tuple[object, ...]:
    """What a restart must bring back: not, of what is tentative, that it was held already."""
    kept = [view.kept(offset) for offset in OFFSETS]
    return (kept, view.sealed, view.installed, view.frozen)


def seal_message(number: int, new: Layout) -> Seal:
    own = unit_value(number)
    return Seal(
        _request(new.epoch),
        new.epoch,
        own.id,
        own.incarnation,
        Epoch(0),
        Offset(0),
        Offset(0),
        (),
    )


def install_message(number: int, new: Layout) -> Install:
    own = unit_value(number)
    return Install(
        _request(new.epoch), own.id, own.incarnation, new, Offset(0), Offset(0), WINDOW_END, ()
    )


def _request(epoch: Epoch) -> RequestId:
    return RequestId(Incarnation(b"leader-procedure"), epoch)


def _store(store: Store) -> tuple[object, ...]:
    """What a store holds, without where it lies on disk."""
    journal, memory = store.journal, store.memory
    done = journal.commits_done
    cells = {offset: cell & STATE_MASK for offset, cell in store.index.items(Offset(0))}
    pending = [(commit - done, offset) for commit, offset, _ in memory._commits if commit >= done]
    return (
        cells,
        memory._names,
        memory._loaded,
        memory._cache,
        pending,
        max(store._other_commit - done, -1),
        {
            offset: (entry.name, entry.epoch, max(entry.commit - done, -1), entry.waiter)
            for offset, entry in store.tentative.entries.items()
        },
        sorted(store.tentative._confirmed),
        store.tentative.flushed_commit == journal.commits_begun,
        store.suspicion,
        store.standing,
        store.fresh,
    )


def _notices(notices: Notices) -> tuple[object, ...]:
    done = notices._context.store.journal.commits_done
    owed = {commit - done: what for commit, what in notices._owed.items()}
    return (owed, notices._announced)


# Left out: what only timers use, and the parts that only operators and rebuilds do.
_CANONICAL = Canonical(
    handlers={
        Store: _store,
        Notices: _notices,
        Layout: lambda layout: (layout.epoch, layout.digest()),
        **{
            kind: (lambda part: None)
            for kind in (
                *(Control, Journal, Mending, Neighbours, OffsetIndex, Rebuilds, Repair),
                *(Scrubbing, UnitSettings),
            )
        },
    },
    left_out={
        Context: frozenset({"log"}),
        StorageUnit: frozenset({"_commits_at_rest", "_step_at", "probed_at"}),
    },
)
