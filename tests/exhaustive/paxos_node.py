"""One sequencer replica's Paxos core, with its journal on a disk that can crash.

Real: `Group` and all that it is made of, the vote journal, the committer, `restore`. Left out:
time. Nothing happens by a timer; what a timer would begin (a ballot, a heartbeat) is a move of its
own, possible at any moment, and no core branch that these moves reach compares times.
"""

from __future__ import annotations

import random
from collections.abc import Hashable
from typing import NamedTuple

from corfu.effects import Effect, Send
from corfu.journal.format import JournalRecord, JournalSettings
from corfu.messages import Heartbeat, HeartbeatAck, OpenSlot, PaxosMessage, Promise, UnitView
from corfu.sequencer.acceptor import Acceptor, Doubt
from corfu.sequencer.commands import ReserveOffsets
from corfu.sequencer.election import Election
from corfu.sequencer.group import Group
from corfu.sequencer.identity import ReplicaIdentity
from corfu.sequencer.learner import Learner
from corfu.sequencer.learning import Learning
from corfu.sequencer.member import WITH_BALLOT, Member
from corfu.sequencer.outbox import Outbox
from corfu.sequencer.proposer import Attempt, Proposal
from corfu.sequencer.settings import SequencerSettings
from corfu.sequencer.state import Outcome as Applied
from corfu.sequencer.state import State, first_state
from corfu.sequencer.storage import VoteJournal, format_folder, restore
from corfu.sequencer.term import Term
from corfu.types import Ballot, Epoch, Incarnation, Offset, ReplicaId, Slot
from tests.unit.corfu.fake_disk import FakeDisk
from tests.unit.sequencer.group_bench import CLUSTER, bootstrap, incarnation, replica_address

from .canonical import Canonical
from .disk import DiskSide
from .machine import Envelope, Event, Outcome, Own
from .model import DISK_DONE

SETTINGS = SequencerSettings(journal=JournalSettings(file_bytes=32 << 10))
REPLICAS = (1, 2, 3)

BALLOT = "starts a ballot"
PROPOSE = "proposes a value"
BEAT = "sends a heartbeat"
CRASH = "crashes and restarts, the batch under way lost"
CRASH_KEPT = "crashes and restarts, the batch under way on disk"

Vote = tuple[Slot, Ballot, bytes]

_REQUESTS_PER_ROUND = 64


class Durable(NamedTuple):
    """What the journal's records add up to: all that a restart finds."""

    promised: Ballot
    accepted: tuple[Vote, ...]
    chosen: tuple[tuple[Slot, bytes], ...]
    hint: Slot


class TellVote(NamedTuple):
    """A vote that is durable now."""

    number: int
    slot: Slot
    ballot: Ballot
    value: bytes


class TellPromise(NamedTuple):
    """A promise that leaves, with the votes that it tells."""

    number: int
    ballot: Ballot
    accepted: tuple[OpenSlot, ...]


class Facts(NamedTuple):
    """What the invariants see of a replica."""

    number: int
    durable: Durable
    applied: tuple[tuple[Slot, bytes], ...]


def name_of(number: int) -> str:
    return f"r{number}"


def _blank_images() -> dict[int, FakeDisk]:
    """Folders of a group that has settled: nobody is in doubt, nobody has voted."""
    images = {}
    for number in REPLICAS:
        disk = images[number] = FakeDisk()
        identity = ReplicaIdentity(CLUSTER, ReplicaId(number), incarnation(number))
        state = first_state(bootstrap(len(REPLICAS)).layout())
        format_folder(disk, identity, Slot(0), state, SETTINGS.journal, Doubt.NONE)
    return images


_IMAGES = _blank_images()
_ADDRESSES = {replica_address(number): name_of(number) for number in REPLICAS}
_NUMBERS = {name_of(number): replica_address(number) for number in REPLICAS}


def _ignore(outcome: Applied | None) -> None:
    pass


class ReplicaNode:
    """A replica; it is also the `Watcher` of its group."""

    def __init__(self, number: int, *, ballots: int, proposals: int) -> None:
        """Make a replica that may start so many ballots and propose so many values."""
        self.number = number
        self._disk = _IMAGES[number].copy()
        self._ballots = ballots
        self._proposals = proposals
        self._proposed = 0
        self._beaten = Slot(0)
        self._clock = 0.0
        self._life = 0
        self._alarms: list[str] = []
        self._durable = self._batch = self._memory = Durable(
            Ballot(0, ReplicaId(0)), (), (), Slot(0)
        )
        # All votes, as one batch may hold two for a slot: both are answered.
        self._votes: list[Vote] = []
        self._batch_votes: list[Vote] = []
        self._start()

    def _start(self) -> None:
        self._life += 1
        identity = ReplicaIdentity(CLUSTER, ReplicaId(self.number), incarnation(self.number))
        restored = restore(self._disk, identity, SETTINGS)
        self._acceptor = restored.acceptor
        self._learner = restored.learner
        self._side = DiskSide(self._disk, restored.votes.journal, self._cut)
        self._outbox = Outbox()
        self._watch(restored.votes)
        self._group = Group(
            identity=identity,
            session=Incarnation(b"%08d%08d" % (self.number, self._life)),
            settings=SETTINGS,
            restored=restored,
            rng=random.Random(0),
            outbox=self._outbox,
            watcher=self,
            now=self._clock,
        )

    def _watch(self, votes: VoteJournal) -> None:
        """Book each record that is journalled: what a restart makes of it."""
        put = votes._put

        def booked(record: JournalRecord) -> None:
            put(record)
            self._memory = _with(self._memory, record)
            if record.kind == _ACCEPTED:
                self._votes.append(_vote(record))

        votes._put = booked  # type: ignore[method-assign]

    def _cut(self) -> None:
        self._batch, self._batch_votes, self._votes = self._memory, self._votes, []

    # Node.

    def apply(self, event: Event) -> Outcome:
        self._clock += 1.0
        before = self._durable
        told: list[Hashable] = []
        votes: list[Vote] = []
        member = self._group._member
        # Request ids of one ballot round begin at the same number, so that they tell states apart
        # only where the core does.
        member._sequence = member.round_seen * _REQUESTS_PER_ROUND
        if isinstance(event, Envelope):
            assert isinstance(event.message, PaxosMessage)
            self._group.handle(event.message, _NUMBERS[event.source], self._clock)
            left = self._side.run(self._outbox.drain())
        elif event.name in (CRASH, CRASH_KEPT):
            left = []
            wrong = self._crash(kept=event.name == CRASH_KEPT)
            if wrong:
                return Outcome(wrong=wrong)
            # One that a later vote of its batch replaced was never answered, and is gone.
            votes = [vote for vote in self._durable.accepted if vote not in before.accepted]
        else:
            if event.name == DISK_DONE:
                votes = self._batch_votes
            left = self._do(event.name)
        if self._group.phase not in WITH_BALLOT:
            self._beaten = Slot(0)
        wrong = self._broken(before)
        told += [TellVote(self.number, *vote) for vote in votes]
        sends = self._sends(left, beat=isinstance(event, Own) and event.name == BEAT)
        told += [
            TellPromise(self.number, send.message.ballot, send.message.accepted)
            for send in sends
            if isinstance(send.message, Promise)
        ]
        return Outcome(tuple(sends), tuple(told), wrong)

    def _do(self, name: str) -> list[Send]:
        if name == DISK_DONE:
            self._durable = self._batch
            return self._side.finish()
        if name == BALLOT:
            self._ballots -= 1
            self._group._election.take_over(self._clock)
        elif name == PROPOSE:
            self._proposed += 1
            # Distinct values, so that two of them in one slot show.
            until = Offset(1000 * self.number + self._proposed)
            command = ReserveOffsets(Epoch(0), self._group.ballot, until)
            self._group.propose(command, _ignore, self._clock)
        else:
            assert name == BEAT
            self._beaten = self._group.applied
            self._group.begin_round(self._clock)
        effects: list[Effect] = self._outbox.drain()
        return self._side.run(effects)

    def _crash(self, *, kept: bool) -> str:
        self._side.crash(kept=kept)
        if kept:
            self._durable = self._batch
        self._batch = self._memory = self._durable
        self._batch_votes, self._votes = [], []
        self._start()
        found = self._acceptor
        accepted = tuple((slot, *found.accepted[slot]) for slot in sorted(found.accepted))
        # Everything that was restored must be durable before the first answer: so it is here.
        if (found.promised, accepted, found.doubt) != (
            self._durable.promised,
            self._durable.accepted,
            Doubt.NONE,
        ):
            return (
                f"r{self.number}: a restart finds {found.promised} {accepted}, not {self._durable}"
            )
        return ""

    def _broken(self, before: Durable) -> str:
        if self._alarms:
            return f"r{self.number}: alarm: {self._alarms[0]}"
        if self._durable.promised < before.promised:
            return f"r{self.number}: the durable promise went back from {before.promised}"
        if self._acceptor.promised < self._durable.promised:
            return f"r{self.number}: the promise went back to {self._acceptor.promised}"
        return ""

    def _sends(self, left: list[Send], *, beat: bool) -> list[Envelope]:
        """Return what goes to the network.

        Lost here, as a network may: answers to heartbeats, which only confirm rounds, and the
        heartbeats that begin a term, which tell nothing that is chosen.
        """
        sends = []
        for send in left:
            if isinstance(send.message, HeartbeatAck):
                continue
            if isinstance(send.message, Heartbeat) and not beat:
                continue
            sends.append(Envelope(name_of(self.number), _ADDRESSES[send.to], send.message))
        return sends

    def canonical(self) -> str:
        return _CANONICAL.text(
            (
                self._group,
                self._durable,
                (self._batch, self._batch_votes) if self._side.busy else None,
                (self._memory, self._votes),
                self._side.held,
                self._ballots,
                self._proposed,
                self._beaten,
                self._life,
            )
        )

    def own(self) -> tuple[Own, ...]:
        moves = [Own(CRASH, "crash")]
        if self._side.busy:
            moves += [Own(CRASH_KEPT, "crash"), Own(DISK_DONE)]
        if self._ballots and self._group.phase not in WITH_BALLOT:
            moves.append(Own(BALLOT, "ballot"))
        if self._group.leads:
            if self._proposed < self._proposals:
                moves.append(Own(PROPOSE, "value"))
            if self._beaten < self._group.applied:
                moves.append(Own(BEAT, "beat"))
        return tuple(moves)

    def facts(self) -> Facts:
        kept = self._learner._kept
        return Facts(self.number, self._durable, tuple((slot, kept[slot]) for slot in sorted(kept)))

    def calm(self) -> bool:
        return not self._side.busy

    # Watcher.

    def leading(self, ballot: Ballot, now: float) -> None:
        pass

    def deposed(self) -> None:
        pass

    def applied(self, now: float) -> None:
        pass

    def confirmed(self, now: float) -> None:
        pass

    def told(self, replica: ReplicaId, views: tuple[UnitView, ...], now: float) -> None:
        pass

    def own_views(self, now: float) -> tuple[UnitView, ...]:
        return ()

    def expelled(self) -> None:
        self.alarm("expelled")

    def alarm(self, text: str) -> None:
        self._alarms.append(text)


_PROMISED, _ACCEPTED, _CHOSEN = 1, 2, 3


def _vote(record: JournalRecord) -> Vote:
    ballot = Ballot(
        int.from_bytes(record.entry_id[:8], "big"),
        ReplicaId(int.from_bytes(record.entry_id[8:], "big")),
    )
    return Slot(record.offset), ballot, record.body


def _with(durable: Durable, record: JournalRecord) -> Durable:
    """Return what the journal adds up to with one more record; as docs/formats.md has it."""
    slot, ballot, _ = _vote(record)
    if record.kind == _PROMISED:
        return durable._replace(promised=max(durable.promised, ballot))
    if record.kind == _CHOSEN:
        chosen = {**dict(durable.chosen), slot: record.body}
        return durable._replace(chosen=tuple(sorted(chosen.items())))
    assert record.kind == _ACCEPTED
    accepted = {vote[0]: vote for vote in durable.accepted}
    held = accepted.get(slot)
    if held is None or held[1] <= ballot:
        accepted[slot] = (slot, ballot, record.body)
    return durable._replace(
        promised=max(durable.promised, ballot),
        accepted=tuple(accepted[at] for at in sorted(accepted)),
        hint=max(durable.hint, Slot(record.epoch)),
    )


# Left out: times, as nothing that is explored compares them; the journal's positions, as the files
# are far larger than what is written; counters of requests, which begin anew in each round.
_CANONICAL = Canonical(
    handlers={
        State: lambda state: state.digest(),
        SequencerSettings: lambda settings: None,
        VoteJournal: lambda votes: None,
        ReplicaNode: lambda node: node.number,
        random.Random: lambda rng: None,
        Outbox: lambda outbox: len(outbox._effects),
        Promise: lambda promise: (
            promise.ballot,
            promise.doubt,
            promise.accepted,
            promise.chosen_until,
            promise.snapshot,
        ),
    },
    left_out={
        Group: frozenset({"_handlers", "heard_at"}),
        Member: frozenset({"timeout_at", "leader_heard_at", "_sequence", "_alarmed", "leader"}),
        Election: frozenset({"repeat_at"}),
        Attempt: frozenset({"asked_at"}),
        Proposal: frozenset({"sent_at"}),
        Learning: frozenset({"_asked_at", "_asked"}),
        Learner: frozenset({"digest", "digest_slot"}),
        Term: frozenset(
            {
                "round",
                "confirmed_round",
                "heartbeat_at",
                "_acked_round",
                "_acked_at",
                "_acked_applied",
            }
        ),
        Acceptor: frozenset(),
    },
)
