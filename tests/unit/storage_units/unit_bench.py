"""Storage units on fake disks, wired by hand: each effect is carried out when a test says so."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from corfu.effects import Effect, Fetch, Persist, Send
from corfu.journal.execute import execute_all
from corfu.journal.recovery import allocate_spares
from corfu.layout import Layout, Leader, Replica, Segment, Unit
from corfu.messages import (
    Fill,
    Install,
    Message,
    Probe,
    Read,
    Seal,
    TrimTo,
    Write,
)
from corfu.storage_units.identity import UnitIdentity, read_identity
from corfu.storage_units.process import format_unit
from corfu.storage_units.recovery import recover_store
from corfu.storage_units.settings import UnitSettings
from corfu.storage_units.unit import StorageUnit
from corfu.types import (
    Address,
    Ballot,
    ClusterId,
    EntryId,
    Epoch,
    Incarnation,
    Offset,
    ReplicaId,
    RequestId,
    SyncMode,
    UnitId,
)
from tests.unit.corfu.fake_disk import FakeDisk

CLUSTER = ClusterId(b"cluster!")
LEADER = Address("10.0.0.1", 9700)
CLIENT = Address("10.0.9.1", 5000)
SETTINGS = UnitSettings(journal_file_bytes=16384, parallel_persist=False)
WINDOW_END = Offset(5000)

_sequence = itertools.count(1)


def request() -> RequestId:
    return RequestId(Incarnation(b"client-incarnati"), next(_sequence))


def entry_id(number: int) -> EntryId:
    return EntryId(number.to_bytes(16, "big"))


def unit_value(id_: int, incarnation: bytes | None = None) -> Unit:
    own = incarnation or b"unit-%011d" % id_
    return Unit(UnitId(id_), Incarnation(own), Address(f"10.0.1.{id_}", 9710))


def layout(
    epoch: int,
    *chains: Sequence[int],
    first_offset: int = 0,
    segments: tuple[Segment, ...] | None = None,
    sync: SyncMode = SyncMode.ALWAYS,
) -> Layout:
    named = tuple(tuple(UnitId(id_) for id_ in chain) for chain in chains)
    found = segments or (Segment(Offset(0), None, named),)
    ids = sorted({id_ for segment in found for chain in segment.chains for id_ in chain})
    return Layout(
        CLUSTER,
        Epoch(epoch),
        Offset(first_offset),
        Leader(ReplicaId(1), Ballot(epoch, ReplicaId(1))),
        (Replica(ReplicaId(1), Incarnation(b"replica-00000001"), LEADER),),
        tuple(unit_value(id_) for id_ in ids),
        sync,
        1,
        found,
    )


def write(offset: int, number: int, epoch: int = 1, entry: bytes | None = None) -> Write:
    return Write(
        request(),
        Epoch(epoch),
        Offset(offset),
        entry_id(number),
        WINDOW_END,
        b"entry %d" % number if entry is None else entry,
    )


def fill(start: int, end: int | None = None, epoch: int = 1, *, only: bool = False) -> Fill:
    stop = start + 1 if end is None else end
    return Fill(request(), Epoch(epoch), Offset(start), Offset(stop), only)


def read(start: int, end: int | None = None, epoch: int = 1, wait_ms: int = 0) -> Read:
    stop = start + 1 if end is None else end
    return Read(request(), Epoch(epoch), Offset(start), Offset(stop), 1 << 20, wait_ms)


@dataclass(slots=True)
class Bench:
    """One unit: its folder, its process, and what it wants sent."""

    id: int
    disk: FakeDisk = field(default_factory=FakeDisk)
    settings: UnitSettings = SETTINGS
    sync: SyncMode = SyncMode.ALWAYS
    alarms: list[str] = field(default_factory=list)
    now: float = 0.0
    starts: int = 0
    held: list[Send] = field(default_factory=list)
    _unit: StorageUnit | None = None

    @classmethod
    def fresh(cls, id_: int, settings: UnitSettings = SETTINGS) -> Bench:
        bench = cls(id_, settings=settings)
        own = unit_value(id_)
        format_unit(
            bench.disk,
            cluster=CLUSTER,
            unit=own.id,
            incarnation=own.incarnation,
            sync=bench.sync,
            settings=settings,
        )
        bench.start()
        return bench

    @property
    def unit(self) -> StorageUnit:
        assert self._unit is not None
        return self._unit

    @property
    def identity(self) -> UnitIdentity:
        return read_identity(self.disk)

    @property
    def address(self) -> Address:
        return unit_value(self.id).address

    def start(self) -> None:
        """Start a process on the folder, as after a crash."""
        self.starts += 1
        self.held = []
        store = recover_store(self.disk, self.identity, self.settings)
        allocate_spares(self.disk, store.journal)
        session = Incarnation(b"session-%04d-%03d" % (self.id, self.starts))
        self._unit = StorageUnit(store, self.settings, session=session, log=self.alarms.append)
        self.unit.free_bytes = self.disk.free_bytes()

    def effects(self, message: Message, sender: Address = CLIENT) -> list[Effect]:
        """Hand a message in; returns the effects, none of them carried out."""
        return self.unit.handle(message, sender, self.now)

    def give(self, message: Message, sender: Address = CLIENT) -> list[Send]:
        """Hand a message in, carry out fetches and commits; returns all that is then sent."""
        return self.run(self.effects(message, sender))

    def run(self, effects: Sequence[Effect]) -> list[Send]:
        sends: list[Send] = []
        queue = list(effects)
        while queue:
            effect = queue.pop(0)
            match effect:
                case Send():
                    sends.append(effect)
                case Fetch():
                    data = self._read(effect)
                    queue += self.unit.fetched(effect.ticket, data, self.now)
                case Persist():
                    pass
        self.commit()
        later = self.unit.durable(self.now)
        return sends + self.run(later) if later else sends

    def reply(self, message: Message, sender: Address = CLIENT) -> Message:
        """Hand a message in; returns the one message that is sent."""
        (send,) = self.give(message, sender)
        return send.message

    def commit(self) -> None:
        journal = self.unit.journal
        operations = journal.cut()
        if operations:
            execute_all(self.disk, operations)
            journal.committed()
        allocate_spares(self.disk, journal)

    def mark(self) -> None:
        """Write a mark, as an idle process does."""
        operations = self.unit.journal.mark()
        if operations:
            execute_all(self.disk, operations)
            self.unit.journal.committed()

    def maintain(self) -> None:
        """Look after finished files and their index files, until nothing is left to do."""
        self.run(self.unit.maintain(self.now))
        while (work := self.unit.next_index()) is not None:
            serial, operations = work
            execute_all(self.disk, operations)
            self.unit.index_done(serial, None)

    def epoch(self, new: Layout, **marks: int) -> None:
        """Seal and install."""
        self.seal(new.epoch, **marks)
        self.install(new, **marks)

    def seal(self, epoch: int, trim_mark: int = 0, closed_until: int = 0) -> Message:
        return self.reply(self.seal_message(epoch, trim_mark, closed_until), LEADER)

    def seal_message(
        self, epoch: int, trim_mark: int = 0, closed_until: int = 0, sealed_for: int = 0
    ) -> Seal:
        own = unit_value(self.id)
        return Seal(
            request(),
            Epoch(epoch),
            own.id,
            own.incarnation,
            Epoch(sealed_for),
            Offset(trim_mark),
            Offset(closed_until),
            (),
        )

    def install(self, new: Layout, trim_mark: int = 0, closed_until: int = 0) -> Message:
        return self.reply(self.install_message(new, trim_mark, closed_until), LEADER)

    def install_message(self, new: Layout, trim_mark: int = 0, closed_until: int = 0) -> Install:
        own = unit_value(self.id)
        return Install(
            request(),
            own.id,
            own.incarnation,
            new,
            Offset(trim_mark),
            Offset(closed_until),
            WINDOW_END,
            (),
        )

    def probe_message(self, closed_until: int = 0) -> Probe:
        own = unit_value(self.id)
        return Probe(
            request(), own.id, own.incarnation, Offset(0), Offset(closed_until), WINDOW_END
        )

    def trim_message(self, mark: int, closed_until: int) -> TrimTo:
        own = unit_value(self.id)
        return TrimTo(request(), own.id, own.incarnation, Offset(mark), Offset(closed_until))

    def _read(self, fetch: Fetch) -> bytes | None:
        try:
            return self.disk.read(fetch.name, fetch.position, fetch.length)
        except OSError:
            return None


@dataclass(slots=True)
class Chain:
    """Units that hand each other's messages on at once; what goes elsewhere is collected."""

    benches: dict[int, Bench]
    dropped: set[tuple[int, int]] = field(default_factory=set)
    """(from, to) pairs between which nothing passes."""

    @classmethod
    def fresh(cls, new: Layout) -> Chain:
        chain = cls({unit.id: Bench.fresh(unit.id) for unit in new.units})
        chain.epoch(new)
        return chain

    def __getitem__(self, id_: int) -> Bench:
        return self.benches[id_]

    def epoch(self, new: Layout, **marks: int) -> None:
        for unit in new.units:
            self.benches[unit.id].epoch(new, **marks)

    def give(self, id_: int, message: Message, sender: Address = CLIENT) -> list[Message]:
        """Hand a message to one unit; returns what clients and the leader get in the end."""
        out: list[Message] = []
        by_address = {bench.address: bench for bench in self.benches.values()}
        queue = [(id_, send) for send in self.benches[id_].give(message, sender)]
        while queue:
            origin, send = queue.pop(0)
            bench = by_address.get(send.to)
            if bench is None:
                out.append(send.message)
            elif (origin, bench.id) not in self.dropped:
                source = self.benches[origin].address
                queue += [(bench.id, each) for each in bench.give(send.message, source)]
        return out

    def reply(self, id_: int, message: Message, sender: Address = CLIENT) -> Message:
        (only,) = self.give(id_, message, sender)
        return only


def with_incarnation(message: Seal, incarnation: bytes) -> Seal:
    return replace(message, incarnation=Incarnation(incarnation))
