"""One storage unit without a cluster: on a real folder, in this process, obeying this module.

The unit's own code does all the work; only what the sequencer, the client and the driver would do
is done here, so that a log of millions of entries is made in minutes, and so that what one unit
costs can be seen alone.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from corfu.effects import Effect, Send
from corfu.journal.execute import execute_all
from corfu.journal.recovery import allocate_spares
from corfu.layout import Layout, Leader, Replica, Segment, Unit
from corfu.messages import Install, Message, Probe, Refused, Seal, TrimTo, Write, WrongEpoch
from corfu.ports import DiskOperation, Sync
from corfu.runtime.disk import FileDisk
from corfu.storage_units.identity import UnitIdentity, read_identity
from corfu.storage_units.process import format_unit
from corfu.storage_units.recovery import recover_store
from corfu.storage_units.settings import UnitSettings
from corfu.storage_units.unit import StorageUnit
from corfu.tools.failure import CommandError, Status
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

_NOBODY = Address("127.0.0.1", 1)
_UNIT = UnitId(1)
_REPLICA = ReplicaId(1)
_START = Offset(0)
_EPOCH = Epoch(1)
_WINDOW_OFFSETS = 1 << 16
_ENTRY_ID_BYTES = 16


@dataclass(slots=True)
class LoneUnit:
    """A unit that is head and tail unit of the first of `chains` chains.

    Attributes:
        disk: Its folder.
        unit: Its logic.
        chains: How many chains the layout has; the unit holds every `chains`-th offset.
        next_offset: Where the next entry goes.
        synced: Whether commits reach the disk; False fills a folder faster.
    """

    disk: FileDisk
    unit: StorageUnit
    identity: UnitIdentity
    chains: int
    next_offset: Offset = _START
    synced: bool = True
    epoch: Epoch = _EPOCH
    alarms: list[str] = field(default_factory=list)
    _requests: int = 0
    _session: Incarnation = field(default_factory=lambda: Incarnation(os.urandom(16)))

    @classmethod
    def make(
        cls, folder: Path, *, chains: int = 1, settings: UnitSettings | None = None
    ) -> LoneUnit:
        """Format `folder`, which must be empty, and start a unit on it, ready for entries.

        Raises:
            FolderError: The folder holds a unit already.
            OSError: From the disk.
        """
        own = settings or UnitSettings()
        disk = FileDisk(folder)
        format_unit(
            disk,
            cluster=ClusterId(os.urandom(8)),
            unit=_UNIT,
            incarnation=Incarnation(os.urandom(16)),
            sync=SyncMode.ALWAYS,
            settings=own,
        )
        identity = read_identity(disk)
        alarms: list[str] = []
        unit = StorageUnit(
            recover_store(disk, identity, own),
            own,
            session=Incarnation(os.urandom(16)),
            log=alarms.append,
        )
        unit.free_bytes = disk.free_bytes()
        lone = cls(disk, unit, identity, chains, alarms=alarms)
        lone._begin_epoch()
        return lone

    def write(self, entry: bytes) -> list[Effect]:
        """Store one entry at the next offset of the chain; durable with the next commit."""
        offset = self.next_offset
        self.next_offset = Offset(offset + self.chains)
        entry_id = EntryId((offset + 1).to_bytes(_ENTRY_ID_BYTES, "little"))
        window_end = Offset(offset + _WINDOW_OFFSETS)
        return self.give(Write(self._request(), self.epoch, offset, entry_id, window_end, entry))

    def write_many(self, entry: bytes, count: int, per_commit: int) -> None:
        """Store the same bytes `count` times, `per_commit` entries to a commit, and index them."""
        for first in range(0, count, per_commit):
            for _ in range(min(per_commit, count - first)):
                self.write(entry)
            self.commit()
            self.close_until(self.next_offset)
            self.maintain()

    def commit(self) -> None:
        """Make all that was written durable, and keep spare files ready."""
        journal = self.unit.journal
        self._carry_out(journal.cut())
        allocate_spares(self.disk, journal)

    def maintain(self) -> None:
        """Look after finished journal files, as the process does beside its other work."""
        self.unit.maintain(0.0)
        while (work := self.unit.next_index()) is not None:
            serial, operations = work
            execute_all(self.disk, operations)
            self.unit.index_done(serial, None)

    def close_until(self, offset: Offset) -> None:
        """Let the unit know that every offset below `offset` is decided, as probes do."""
        trim_mark = self.unit.store.standing.trim_mark
        self.give(Probe(*self._order(), trim_mark, offset, Offset(offset + _WINDOW_OFFSETS)))

    def trim_to(self, mark: Offset) -> None:
        """Trim below `mark`."""
        self.give(TrimTo(*self._order(), mark, mark))

    def mark(self) -> None:
        """Write a mark, as an idle process does."""
        self._carry_out(self.unit.journal.mark())

    def close(self) -> None:
        """Commit, and let the folder go as a clean stop does."""
        self.commit()
        self._carry_out(self.unit.journal.mark(clean=True))
        self.disk.close()

    def give(self, message: Message) -> list[Effect]:
        """Hand a message in; returns what the unit wants done.

        Raises:
            CommandError: The unit refuses.
        """
        effects = self.unit.handle(message, _NOBODY, 0.0)
        for effect in effects:
            if isinstance(effect, Send) and isinstance(effect.message, Refused | WrongEpoch):
                raise CommandError(f"the unit refused: {effect.message}", Status.LOCAL)
        return effects

    def _carry_out(self, operations: tuple[DiskOperation, ...]) -> None:
        if not self.synced:
            operations = tuple(each for each in operations if not isinstance(each, Sync))
        if operations:
            execute_all(self.disk, operations)
            self.unit.journal.committed()

    def _request(self) -> RequestId:
        self._requests += 1
        return RequestId(self._session, self._requests)

    def _order(self) -> tuple[RequestId, UnitId, Incarnation]:
        return self._request(), self.identity.unit, self.identity.incarnation

    def _begin_epoch(self) -> None:
        start = _START
        request, unit, incarnation = self._order()
        self.give(Seal(request, self.epoch, unit, incarnation, Epoch(0), start, start, ()))
        layout, window_end = self._layout(), Offset(_WINDOW_OFFSETS)
        self.give(Install(*self._order(), layout, start, start, window_end, ()))
        self.commit()

    def _layout(self) -> Layout:
        ids = [UnitId(number) for number in range(1, self.chains + 1)]
        own = self.identity.incarnation
        units = [
            Unit(id_, own if id_ == _UNIT else Incarnation(os.urandom(16)), _NOBODY) for id_ in ids
        ]
        segment = Segment(Offset(0), None, tuple((id_,) for id_ in ids))
        return Layout(
            self.identity.cluster,
            self.epoch,
            Offset(0),
            Leader(_REPLICA, Ballot(1, _REPLICA)),
            (Replica(_REPLICA, Incarnation(os.urandom(16)), _NOBODY),),
            tuple(units),
            SyncMode.ALWAYS,
            1,
            (segment,),
        )
