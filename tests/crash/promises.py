"""Reads promises out of messages: what each says is durable at the machine that sends it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from corfu.messages import (
    Accept,
    Accepted,
    AlreadyWritten,
    Chosen,
    Durable,
    Entries,
    Fill,
    Filled,
    FillList,
    Forward,
    Heartbeat,
    HeartbeatAck,
    HeldOffset,
    Installed,
    Message,
    Prepare,
    Probed,
    Promise,
    Rebuild,
    RebuildDone,
    Sealed,
    Trimmed,
    Write,
    Written,
)
from corfu.storage_units.names import entry_digest
from corfu.types import Ballot, EntryId, Range, RequestId, Slot, State
from tests.crash.subject import TRIMMED, Ever, Mark, Promised, Value
from tests.crash.trace import RecordingDisk

JUNK: Value = ("junk",)
CHOSEN_FROM = 1 << 40
"""In a replica's values, learnt slots stand from here on, beside the slots that it voted in."""

STATE_FROM = 1 << 41
"""And from here on the states of its snapshots."""

_FILL_MAX = 4096


def data(entry_id: bytes, digest: int) -> Value:
    """Return the value of an entry."""
    return ("data", entry_id, digest)


@dataclass(slots=True)
class Knowledge:
    """What all messages of one cluster together say, whoever sent them."""

    units: Ever = field(default_factory=Ever)
    replicas: Ever = field(default_factory=Ever)
    digests: dict[bytes, int] = field(default_factory=dict)
    proposed: dict[tuple[Slot, Ballot], bytes] = field(default_factory=dict)
    voted: dict[tuple[Slot, Ballot], set[int]] = field(default_factory=dict)
    rebuilds: dict[RequestId, Rebuild] = field(default_factory=dict)

    def hear(self, message: Message) -> None:
        """Take note of a message under way."""
        match message:
            case Write() | Forward():
                digest = entry_digest(message.entry)
                self.digests[message.entry_id] = digest
                self.units.note(message.offset, data(message.entry_id, digest))
            case Fill() | FillList():
                for offset in range(message.offset, min(message.end, message.offset + _FILL_MAX)):
                    self.units.note(offset, JUNK)
            case Rebuild():
                self.rebuilds[message.request] = message
            case Prepare() | Heartbeat():
                self.replicas.note_mark("promised", tuple(message.ballot))
            case Accept():
                self.replicas.note_mark("promised", tuple(message.ballot))
                ballot, slot = message.ballot, message.slot
                self.proposed[slot, ballot] = message.value
                self.replicas.note(slot, (*ballot, message.value))
            case Accepted():
                self.voted.setdefault((message.slot, message.ballot), set()).add(message.replica)
            case Chosen():
                for each in message.values:
                    self.replicas.note(CHOSEN_FROM + each.slot, (each.value,))
            case _:
                pass

    def hear_snapshot(self, data: bytes) -> None:
        """Take note of a snapshot file on its way to a disk: its slot, and the digest of it all."""
        self.replicas.note(STATE_FROM + int.from_bytes(data[10:18], "little"), (data[10:26],))

    def conclude(self, majority: int) -> None:
        """Note what was chosen: it alone may be learnt."""
        self.replicas.note_mark("promised", (0, 0))
        self.replicas.note_mark(TRIMMED, (0,))
        for (slot, ballot), voters in self.voted.items():
            if len(voters) >= majority:
                self.replicas.note(CHOSEN_FROM + slot, (self.proposed[slot, ballot],))
                self.replicas.note_mark(TRIMMED, (int(slot),))


@dataclass(slots=True)
class _Notes:
    """What one machine has promised so far."""

    disk: RecordingDisk
    known: Knowledge
    promised: Promised = field(default_factory=Promised)

    def promise(
        self, values: Iterable[tuple[int, Value]] = (), marks: dict[str, Mark] | None = None
    ) -> None:
        """Add to what is promised, if it is news."""
        before = self.promised
        held = {**before.values, **dict(values)}
        raised = dict(before.marks)
        for name, mark in (marks or {}).items():
            raised[name] = max(raised.get(name, mark), mark)
        after = replace(before, formatted=True, values=held, marks=raised)
        if after != before:
            self.promised = after
            self.disk.promise(after)


class UnitNotes(_Notes):
    """Of a storage unit."""

    lives = 0
    """How many incarnations left before the current one."""

    def leaves(self) -> None:
        """The identity is about to change: what the old incarnation held is a hint from now on."""
        if self.promised.formatted:
            self.known.units.note_mark("lives", (self.lives + 1,))
            self.promised = replace(self.promised, values={})
            self.disk.promise(self.promised)

    def sent(self, message: Message) -> None:
        """Take a message that leaves the unit."""
        match message:
            case Written() | AlreadyWritten(state=State.DATA):
                self.promise([(message.offset, self._data(message.entry_id))])
            case AlreadyWritten(state=State.JUNK):
                self.promise([(message.offset, JUNK)])
            case Forward(durable_above=True):
                self.promise([(message.offset, self._data(message.entry_id))])
            case Durable():
                self.promise((offset, self._data(id_)) for offset, id_ in message.entries)
            case FillList() | Filled():
                self.promise(self._list(message.junk, message.held))
            case Entries():
                self.promise(
                    (each.offset, _value(each.state, each.entry_id, each.digest))
                    for each in message.entries
                    if each.state in (State.DATA, State.JUNK)
                )
            case Sealed():
                mark, epoch = message.trim_mark - 1, message.epoch
                self._marks(sealed=(epoch,), trimmed=(mark,))
            case Installed():
                self._marks(sealed=(message.epoch,), layout=(message.epoch,))
            case Probed():
                self._marks(sealed=(message.epoch,), trimmed=(message.trim_mark - 1,))
            case Trimmed():
                self._marks(trimmed=(message.mark - 1,))
            case RebuildDone():
                items = self.known.rebuilds[message.request].items
                self.promise(
                    (each.offset, _value(each.state, each.entry_id, each.digest))
                    for each in items
                    if each.state in (State.DATA, State.JUNK)
                )
            case _:
                pass

    def _data(self, entry_id: EntryId) -> Value:
        return data(entry_id, self.known.digests[entry_id])

    def _list(
        self, junk: tuple[Range, ...], held: tuple[HeldOffset, ...]
    ) -> list[tuple[int, Value]]:
        values: list[tuple[int, Value]] = [(o, JUNK) for run in junk for o in range(*_ends(run))]
        values += [
            (each.offset, _value(each.state, each.entry_id, each.digest))
            for each in held
            if each.state in (State.DATA, State.JUNK)
        ]
        return values

    def _marks(self, **marks: Mark) -> None:
        for name, mark in marks.items():
            self.known.units.note_mark(name, mark)
        # To have answered at all as this incarnation is a promise, too.
        self.known.units.note_mark("lives", (self.lives,))
        self.promise((), {**marks, "lives": (self.lives,)})


class ReplicaNotes(_Notes):
    """Of a sequencer replica."""

    def sent(self, message: Message) -> None:
        """Take a message that leaves the replica."""
        match message:
            case Promise(doubt=False):
                votes = ((each.slot, (*each.ballot, each.value)) for each in message.accepted)
                marks = {"promised": tuple(message.ballot), TRIMMED: (int(message.snapshot),)}
                self.promise(votes, marks)
            case HeartbeatAck():
                self.promise((), {"promised": tuple(message.ballot)})
            case Accepted():
                value = self.known.proposed[message.slot, message.ballot]
                self.promise(
                    [(message.slot, (*message.ballot, value))],
                    {"promised": tuple(message.ballot)},
                )
            case _:
                self.promise()


def _value(state: State, entry_id: EntryId, digest: int) -> Value:
    return JUNK if state is State.JUNK else data(entry_id, digest)


def _ends(run: Range) -> tuple[int, int]:
    return run.start, run.end
