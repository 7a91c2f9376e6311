"""Storage units and sequencer replicas, recovered whole from the folders of a recorded cluster."""

from __future__ import annotations

from corfu.errors import CorruptionError
from corfu.journal.format import DamagedRecordError
from corfu.ports import Disk
from corfu.sequencer import identity as replica_identity
from corfu.sequencer.settings import SequencerSettings
from corfu.sequencer.storage import SNAPSHOT_NAME, Restored, restore
from corfu.storage_units import identity as unit_identity
from corfu.storage_units.identity import FolderError
from corfu.storage_units.index import cell_place
from corfu.storage_units.names import entry_digest
from corfu.storage_units.recovery import recover_store
from corfu.storage_units.settings import UnitSettings
from corfu.storage_units.store import Store
from corfu.types import Offset, Slot, State
from tests.crash.cluster import recording
from tests.crash.promises import CHOSEN_FROM, JUNK, STATE_FROM, data
from tests.crash.subject import TRIMMED, Ever, Subject, Value, View
from tests.crash.trace import Trace


class UnitSubject(Subject):
    """A storage unit: its identity, journal and index files."""

    name = "unit"
    refusals = (CorruptionError, FolderError)

    def __init__(self) -> None:
        self._settings = UnitSettings()
        self._end = 0

    def record(self, seed: int) -> Trace:
        """See `Subject`; each seed is a machine of some cluster."""
        done = recording(seed // 3)
        self._settings = done.unit_settings
        trace = done.units[seed % 3]
        assert isinstance(trace.ever, Ever)
        self._end = max(trace.ever.values, default=0) + 1
        return trace

    def recover(self, disk: Disk) -> View:
        """See `Subject`."""
        identity = unit_identity.read_identity(disk)
        store = recover_store(disk, identity, self._settings)
        standing, suspicion = store.standing, store.suspicion
        values: dict[int, Value] = {}
        suspected = {int(offset) for offset in suspicion.named}
        unreadable: list[str] = []
        for number in range(standing.trim_mark, self._end):
            offset = Offset(number)
            if offset in store.tentative:
                # It counts as EMPTY until the unit above says again that it is durable there.
                values[number] = _entry(disk, store, offset)
                continue
            match store.state(offset):
                case State.DATA:
                    try:
                        values[number] = _entry(disk, store, offset)
                    except (DamagedRecordError, OSError) as error:
                        # In a file that an index file stands for: it is not read at the start,
                        # and whoever asks is answered DAMAGED, as a scrub would find out, too.
                        suspected.add(number)
                        unreadable.append(f"read: {error}")
                case State.JUNK:
                    values[number] = JUNK
                case State.DAMAGED | State.LOST:
                    suspected.add(number)
                case State.EMPTY | State.TRIMMED:
                    pass
        installed = -1 if standing.layout is None else standing.layout.epoch
        marks = {
            TRIMMED: (standing.trim_mark - 1,),
            "sealed": (int(standing.sealed),),
            "layout": (int(installed),),
            "lives": (len(identity.earlier),),
        }
        damaged, torn = list(unreadable), list[str]()
        for line in suspicion.told:
            # A new incarnation cannot use the index files of an earlier one: nothing is damaged.
            foreign = line.startswith("index-") and bool(identity.earlier)
            (torn if foreign or " is torn at " in line else damaged).append(line)
        return View(
            values,
            marks,
            frozenset(suspected),
            suspicion.unknown,
            tuple(damaged),
            tuple(torn),
        )


def _entry(disk: Disk, store: Store, offset: Offset) -> Value:
    """Read an entry by its cell, as a reader is given it."""
    cell = store.index.get(offset)
    name, position, length = store.journal.locate(cell_place(cell))
    record, body = store.parse(cell, memoryview(disk.read(name, position, length)))
    held = store.memory.name(offset)
    value = data(record.entry_id, entry_digest(bytes(body)))
    if record.offset != offset or (held is not None and (*held[:2],) != value[1:]):
        raise AssertionError(f"offset {offset} is {held}, and its record is of {record.offset}")
    return value


class ReplicaSubject(Subject):
    """A sequencer replica: its identity, journal and snapshot."""

    name = "replica"
    refusals = (CorruptionError,)

    def __init__(self) -> None:
        self._settings = SequencerSettings()

    def record(self, seed: int) -> Trace:
        """See `Subject`; the fourth machine of a cluster is the replica that joins it."""
        done = recording(seed // 4)
        self._settings = done.replica_settings
        return done.replicas[seed % 4 % len(done.replicas)]

    def recover(self, disk: Disk) -> View:
        """See `Subject`."""
        identity = replica_identity.read_identity(disk)
        restored = restore(disk, identity, self._settings)
        acceptor = restored.acceptor
        values: dict[int, Value] = {
            slot: (*ballot, value) for slot, (ballot, value) in acceptor.accepted.items()
        }
        values |= _learnt(restored)
        # What `restore` has unpacked, by the slot and the digest that it has checked.
        values[STATE_FROM + acceptor.snapshot] = (disk.read(SNAPSHOT_NAME, 10, 16),)
        marks = {
            "promised": (acceptor.promised.round, int(acceptor.promised.replica)),
            TRIMMED: (int(acceptor.snapshot),),
        }
        return View(values, marks, frozenset(), not acceptor.votes)

    def covers(self, found: Value, wanted: Value) -> bool:
        """A vote under a higher ballot takes the place of an older one."""
        return found == wanted or found[:2] > wanted[:2]

    def excused(self, found: View) -> bool:
        """In doubt it does not vote."""
        return found.unknown


def _learnt(restored: Restored) -> dict[int, Value]:
    learner, snapshot = restored.learner, restored.acceptor.snapshot
    values: dict[int, Value] = {}
    for number in range(snapshot + 1, learner.applied + 1):
        value = learner.value(Slot(number))
        assert value is not None
        values[CHOSEN_FROM + number] = (value,)
    return values
