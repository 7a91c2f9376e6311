"""A replica's folder: its votes in the journal, its applied state in the snapshot file.

The snapshot is one checksummed file, replaced atomically: state and applied slot can never
disagree. Journal files are given back only once a snapshot covers all votes in them.
"""

from __future__ import annotations

import enum
import struct
from dataclasses import dataclass, field

import xxhash

from corfu import schema
from corfu.errors import CorruptionError, WireError
from corfu.journal.execute import execute_all
from corfu.journal.files import replace_file
from corfu.journal.format import (
    JournalError,
    JournalIdentity,
    JournalRecord,
    JournalSettings,
    Place,
    RecordHeader,
    record_bytes,
)
from corfu.journal.planner import Journal
from corfu.journal.recovery import Recovered, create, recover
from corfu.ports import Disk, DiskOperation
from corfu.types import NO_BALLOT, Ballot, ReplicaId, Slot

from .acceptor import AcceptedRecord, Acceptor, Doubt, PromisedRecord
from .identity import IDENTITY_NAME, ReplicaIdentity, encode_identity
from .learner import Learner
from .settings import SequencerSettings
from .state import State

OWNER_REPLICA = 2
"""Owner kind of a replica's journal; storage units have 1."""

SNAPSHOT_NAME = "snapshot"


class _Kind(enum.IntEnum):
    """Record kinds; on disk for ever."""

    PROMISED = 1
    ACCEPTED = 2
    CHOSEN = 3


_FLAG_BLANK = 1
_FLAG_SETTLED = 2

_BALLOT = struct.Struct(">QQ")
_NO_ID = bytes(16)
_NO_SLOT = Slot(0)
_SNAPSHOT_MAGIC = b"CORFUSNP"
_SNAPSHOT_VERSION = 2
_SNAPSHOT = struct.Struct("<8sHQQ")


def _pack_ballot(ballot: Ballot) -> bytes:
    return _BALLOT.pack(ballot.round, ballot.replica)


def _unpack_ballot(data: bytes) -> Ballot:
    round_, replica = _BALLOT.unpack(data)
    return Ballot(round_, ReplicaId(replica))


def encode_snapshot(slot: Slot, state: State) -> bytes:
    """Return the snapshot file: the state as of `slot`, with one digest over both."""
    body = schema.pack(state)
    digest = xxhash.xxh3_64_intdigest(slot.to_bytes(8, "little") + body)
    return _SNAPSHOT.pack(_SNAPSHOT_MAGIC, _SNAPSHOT_VERSION, slot, digest) + body


def read_snapshot(disk: Disk) -> tuple[Slot, State]:
    """Return the snapshot.

    Raises:
        CorruptionError: It is missing, damaged, or of another version.
    """
    if SNAPSHOT_NAME not in disk.names():
        raise CorruptionError(SNAPSHOT_NAME, "missing; this replica must be replaced")
    data = disk.read(SNAPSHOT_NAME, 0, disk.size(SNAPSHOT_NAME))
    if len(data) < _SNAPSHOT.size or not data.startswith(_SNAPSHOT_MAGIC):
        raise CorruptionError(SNAPSHOT_NAME, "not a snapshot; this replica must be replaced")
    _, version, slot, digest = _SNAPSHOT.unpack_from(data)
    if version != _SNAPSHOT_VERSION:
        raise CorruptionError(
            SNAPSHOT_NAME, f"format version {version}; this program knows {_SNAPSHOT_VERSION}"
        )
    body = data[_SNAPSHOT.size :]
    if digest != xxhash.xxh3_64_intdigest(slot.to_bytes(8, "little") + body):
        raise CorruptionError(SNAPSHOT_NAME, "damaged; this replica must be replaced")
    try:
        return Slot(slot), schema.unpack(State, body)
    except WireError as error:
        raise CorruptionError(SNAPSHOT_NAME, str(error)) from error


def journal_identity(identity: ReplicaIdentity) -> JournalIdentity:
    """Return the identity that a replica's journal is bound to."""
    return JournalIdentity(identity.cluster, OWNER_REPLICA, identity.replica, identity.incarnation)


class VoteJournal:
    """Puts votes into the journal and gives files back that a snapshot covers."""

    def __init__(self, journal: Journal, acceptor: Acceptor, slots: dict[int, int]) -> None:
        self.journal = journal
        self._acceptor = acceptor
        self._slots = slots

    def has_room(self, body_bytes: int) -> bool:
        """Tell if a vote of this size fits: without room it is not given, nor answered."""
        needed = record_bytes(body_bytes)
        return needed <= min(self.journal.room(reserve=True), self.journal.record_bytes_max())

    def append(self, record: PromisedRecord | AcceptedRecord, chosen_until: Slot) -> None:
        """Journal a vote. With it goes the hint that all slots up to `chosen_until` are chosen."""
        match record:
            case PromisedRecord(ballot, settled):
                flags = _FLAG_SETTLED if settled else _blank_flag(self._acceptor)
                self._put(_promised(ballot, flags))
                if settled and self.journal.doubt:
                    self.journal.doubt_settled()
            case AcceptedRecord(slot, ballot, value):
                id_ = _pack_ballot(ballot)
                self._put(JournalRecord(_Kind.ACCEPTED, 0, slot, chosen_until, id_, value))

    def append_chosen(self, slot: Slot, value: bytes) -> None:
        """Journal a value known to be chosen that this acceptor may not have accepted."""
        self._put(JournalRecord(_Kind.CHOSEN, 0, slot, slot, _NO_ID, value))

    def release(self, snapshot: Slot) -> None:
        """Give back finished files with nothing above a durable snapshot's slot."""
        for serial in self.journal.live:
            if self._slots.get(serial, 0) <= snapshot:
                self._slots.pop(serial, None)
                self.journal.release(serial)

    def _put(self, record: JournalRecord) -> None:
        place = self.journal.append(record)
        self._slots[place.serial] = max(self._slots.get(place.serial, 0), record.offset)


def _promised(ballot: Ballot, flags: int) -> JournalRecord:
    return JournalRecord(_Kind.PROMISED, flags, 0, 0, _pack_ballot(ballot), b"")


def _blank_flag(acceptor: Acceptor) -> int:
    return _FLAG_BLANK if acceptor.doubt is Doubt.BLANK else 0


@dataclass(slots=True)
class _Replayed:
    """What the journal's records add up to."""

    promised: Ballot = NO_BALLOT
    blank: bool = False
    accepted: dict[Slot, tuple[Ballot, bytes]] = field(default_factory=dict)
    chosen: dict[Slot, bytes] = field(default_factory=dict)
    hint: Slot = _NO_SLOT
    slots: dict[int, int] = field(default_factory=dict)
    acceptor: Acceptor | None = None

    def replay(self, place: Place, header: RecordHeader, body: bytes) -> None:
        if not header.opening:
            self.slots[place.serial] = max(self.slots.get(place.serial, 0), header.offset)
        slot = Slot(header.offset)
        match header.kind:
            case _Kind.PROMISED:
                self.promised = max(self.promised, _unpack_ballot(header.entry_id))
                self.blank = bool(header.flags & _FLAG_BLANK)
                if header.flags & _FLAG_SETTLED:
                    # Hints from before were given by a memory that was not whole: the vote that
                    # held the chosen value may be the one that is missing.
                    self.hint = Slot(0)
            case _Kind.ACCEPTED:
                ballot = _unpack_ballot(header.entry_id)
                self.promised = max(self.promised, ballot)
                held = self.accepted.get(slot)
                if held is None or held[0] <= ballot:
                    self.accepted[slot] = (ballot, body)
                self.hint = max(self.hint, Slot(header.epoch))
            case _Kind.CHOSEN:
                self.chosen[slot] = body
            case _:
                raise CorruptionError("journal", f"a record of unknown kind {header.kind}")

    def opening(self) -> list[JournalRecord]:
        """Return what opens each journal file: the promise, so that no file is kept for it."""
        if self.acceptor is None:
            return [_promised(self.promised, _FLAG_BLANK if self.blank else 0)]
        return [_promised(self.acceptor.promised, _blank_flag(self.acceptor))]

    def chosen_value(self, slot: Slot) -> bytes | None:
        """Return a slot's value if it is known to be chosen."""
        if slot in self.chosen:
            return self.chosen[slot]
        # Up to the hint each slot was chosen and this acceptor held the chosen value: either
        # from a value that was fetched, or as the highest that it accepted.
        if slot <= self.hint and slot in self.accepted:
            return self.accepted[slot][1]
        return None


@dataclass(frozen=True, slots=True)
class Restored:
    """A replica's memory as its folder had it."""

    acceptor: Acceptor
    learner: Learner
    votes: VoteJournal


def format_folder(
    disk: Disk, identity: ReplicaIdentity, state: State, settings: JournalSettings
) -> None:
    """Make an empty folder a replica's: the state at slot 0, an empty journal, the identity.

    Raises:
        CorruptionError: A replica was formatted here before.
        OSError: From the disk.
    """
    if IDENTITY_NAME in disk.names():
        raise CorruptionError(IDENTITY_NAME, "this folder was formatted before")
    execute_all(disk, replace_file(SNAPSHOT_NAME, encode_snapshot(Slot(0), state)))
    replayed = _Replayed(blank=True)
    try:
        create(disk, journal_identity(identity), settings, replayed.opening)
    except JournalError as error:
        raise CorruptionError("journal", str(error)) from error
    # Last: a folder without it was never formatted, whatever a crash left in it.
    execute_all(disk, replace_file(IDENTITY_NAME, encode_identity(identity)))


def restore(disk: Disk, identity: ReplicaIdentity, settings: SequencerSettings) -> Restored:
    """Return the memory of a replica; everything in it is durable when this returns.

    Raises:
        CorruptionError: Damage before the last mark, or a missing file: a vote that was answered
            may be gone, so this replica votes no more and must be replaced as a new member.
        OSError: From the disk.
    """
    snapshot, state = read_snapshot(disk)
    if state.cluster != identity.cluster:
        raise CorruptionError(SNAPSHOT_NAME, f"of another cluster, {state.cluster.hex()}")
    replayed = _Replayed()
    recovered = _recover(disk, identity, settings.journal, replayed)
    doubt = Doubt.NONE
    if recovered.doubt:
        doubt = Doubt.TORN
        # See `replay`: a missing vote makes every hint worthless.
        replayed.hint = Slot(0)
    if replayed.blank:
        doubt = Doubt.BLANK
    accepted = {slot: vote for slot, vote in replayed.accepted.items() if slot > snapshot}
    acceptor = Acceptor(replayed.promised, accepted, snapshot, doubt)
    replayed.acceptor = acceptor
    learner = Learner(state, snapshot, keep_slots=2 * settings.snapshot_slots)
    slot = Slot(snapshot + 1)
    while (value := replayed.chosen_value(slot)) is not None:
        learner.learn(slot, value)
        slot = Slot(slot + 1)
    return Restored(acceptor, learner, VoteJournal(recovered.journal, acceptor, replayed.slots))


def _recover(
    disk: Disk, identity: ReplicaIdentity, settings: JournalSettings, replayed: _Replayed
) -> Recovered:
    try:
        recovered = recover(
            disk,
            journal_identity(identity),
            settings,
            replay=replayed.replay,
            opening=replayed.opening,
        )
    except JournalError as error:
        raise CorruptionError("journal", str(error)) from error
    for damage in recovered.damage:
        raise CorruptionError(
            damage.file,
            f"damaged at byte {damage.position}; this replica votes no more: replace it",
        )
    for serial in recovered.missing:
        raise CorruptionError(
            f"journal-{serial:016x}", "missing; this replica votes no more: replace it"
        )
    return recovered


def snapshot_operations(slot: Slot, state: State) -> tuple[DiskOperation, ...]:
    """Return what replaces the snapshot file; once done the votes up to `slot` may go."""
    return replace_file(SNAPSHOT_NAME, encode_snapshot(slot, state))
