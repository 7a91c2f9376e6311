"""This replica's part in the Paxos group: elections, votes, the leader's proposals, catching up.

Pure and synchronous. Composes acceptor, proposer and learner, and answers every Paxos message.
A vote of its own counts like any other: only once it is durable, because it is sent to the own
address behind the journal.
"""

from __future__ import annotations

import enum
import random
from typing import Protocol, assert_never

from corfu import schema
from corfu.errors import WireError
from corfu.layout import Replica
from corfu.messages import (
    Accept,
    Accepted,
    Catchup,
    Chosen,
    Heartbeat,
    HeartbeatAck,
    Nack,
    PaxosMessage,
    Prepare,
    PreVote,
    PreVoted,
    Promise,
    UnitView,
)
from corfu.types import NO_BALLOT, Ballot, Incarnation, ReplicaId, RequestId, Slot

from .acceptor import AcceptedRecord, Doubt, PromisedRecord
from .commands import Command, Noop, encode
from .identity import ReplicaIdentity
from .outbox import Outbox
from .proposer import Attempt, Done, Proposals, majority, votes_again
from .settings import SequencerSettings
from .state import State
from .storage import Restored

ROUNDS_IN_DOUBT = 1 << 16
"""Rounds left out after a doubtful restart: the batch that is in doubt may have held promises of
own ballots, but never so many."""

PROPOSALS_MAX = 64
"""Most values proposed and not yet applied."""


class Phase(enum.Enum):
    """What this replica is doing about leadership."""

    FOLLOWING = 1
    SETTLING = 2
    """Its acceptor is in doubt: it asks the others what they hold, and votes for nobody."""
    ASKING = 3
    """Pre-vote: would a majority promise?"""
    PREPARING = 4
    CATCHING_UP = 5
    """Has its majority; fetches what is chosen."""
    RECOVERING = 6
    """Proposes what was voted for, and a no-op of its own."""
    LEADING = 7


_WITH_BALLOT = frozenset({Phase.CATCHING_UP, Phase.RECOVERING, Phase.LEADING})


class Watcher(Protocol):
    """Who is told what becomes of the group."""

    def leading(self, ballot: Ballot, now: float) -> None:
        """This replica's no-op is applied under `ballot`: it leads."""
        ...

    def deposed(self) -> None:
        """It leads no more."""
        ...

    def applied(self, now: float) -> None:
        """The state changed."""
        ...

    def confirmed(self, now: float) -> None:
        """A later heartbeat round was confirmed by a majority."""
        ...

    def told(self, replica: ReplicaId, views: tuple[UnitView, ...], now: float) -> None:
        """Another replica tells how it sees the units."""
        ...

    def own_views(self, now: float) -> tuple[UnitView, ...]:
        """Return how this replica sees the units."""
        ...

    def alarm(self, text: str) -> None:
        """Something happened that an operator must know."""
        ...


class Group:
    """Paxos for one replica. Every handler puts its effects into the outbox."""

    def __init__(
        self,
        *,
        identity: ReplicaIdentity,
        session: Incarnation,
        settings: SequencerSettings,
        restored: Restored,
        rng: random.Random,
        outbox: Outbox,
        watcher: Watcher,
        now: float,
    ) -> None:
        self.id = identity.replica
        self._incarnation = identity.incarnation
        self._session = session
        self._settings = settings
        self._acceptor = restored.acceptor
        self._learner = restored.learner
        self._votes = restored.votes
        self._rng = rng
        self._out = outbox
        self._watcher = watcher

        self.phase = Phase.FOLLOWING
        self.leader: ReplicaId | None = None
        self.foreign = 0
        self._alarmed: set[str] = set()
        self._sequence = 0
        self._round_seen = self._acceptor.promised.round
        self._leader_heard = now
        self._attempt: Attempt | None = None
        self._proposals = Proposals()
        self._opening_slot = Slot(0)
        self._catchup_at = -1e9
        self._installed = self._acceptor.snapshot

        self.round = 0
        self.confirmed_round = 0
        self._heartbeat_at = now
        self._acked_round: dict[ReplicaId, int] = {}
        self._acked_at: dict[ReplicaId, float] = {}
        self.heard_at: dict[ReplicaId, float] = {}
        self._timeout_at = now + self._random_timeout()
        if not self._acceptor.votes:
            self._round_seen += ROUNDS_IN_DOUBT
            self.phase = Phase.SETTLING
            self._timeout_at = now + self._rng.uniform(0, self._settings.heartbeat_s)

    # What others ask of it.

    @property
    def state(self) -> State:
        """The applied state."""
        return self._learner.state

    @property
    def applied(self) -> Slot:
        """Every slot up to it is chosen and applied."""
        return self._learner.applied

    @property
    def ballot(self) -> Ballot:
        """The ballot it leads with, else the one it promised."""
        return self._proposals.ballot if self.phase in _WITH_BALLOT else self._acceptor.promised

    @property
    def leads(self) -> bool:
        """Tell if its no-op was applied under its ballot, and no higher ballot was met since."""
        return self.phase is Phase.LEADING

    @property
    def doubt(self) -> Doubt:
        """Whether its acceptor votes."""
        return self._acceptor.doubt

    @property
    def deadline(self) -> float:
        """When `tick` is wanted."""
        if self.phase in _WITH_BALLOT:
            return self._heartbeat_at
        if self.phase in (Phase.PREPARING, Phase.ASKING):
            return min(self._timeout_at, self._heartbeat_at)
        return self._timeout_at

    def propose(self, command: Command, done: Done, now: float) -> None:
        """Propose a command; `done` hears its applied outcome, or None if the term ends first."""
        if not self.leads or len(self._proposals) >= PROPOSALS_MAX:
            done(None)
            return
        self._propose_value(encode(command), done, now)

    def snapshot_wanted(self) -> tuple[Slot, State] | None:
        """Return what should be written to the snapshot file now, if anything."""
        behind = self.applied - self._acceptor.snapshot
        # What was installed, or learnt in doubt, stands in no journal as this replica's votes:
        # only a snapshot makes it lasting.
        if behind >= self._settings.snapshot_slots or (
            behind and (self._installed > self._acceptor.snapshot or not self._acceptor.votes)
        ):
            return self.applied, self.state
        return None

    def snapshot_saved(self, slot: Slot, now: float) -> None:
        """Note that the state as of `slot` is durably on disk: the votes below may go."""
        self._acceptor.forget(slot)
        self._votes.release(slot)
        if self._votes.journal.dirty:
            self._out.persist()
        self._try_settle(now)

    def begin_round(self, now: float) -> None:
        """Send a heartbeat now; `confirmed` is called once a majority has answered it."""
        assert self.phase in _WITH_BALLOT
        self.round += 1
        self._heartbeat_at = now + self._settings.heartbeat_s
        ballot = self._proposals.ballot
        beat = Heartbeat(
            self._request(), self.id, self._incarnation, self.state.formatted,
            ballot, self.round, self.applied,
        )  # fmt: skip
        for member in self._others():
            # Says only what is chosen: a crash takes none of it back.
            self._out.send(member.address, beat, ordered=False)
        if self._acceptor.promised == ballot:
            self._acked_round[self.id] = self.round
            self._acked_at[self.id] = now
        self._count_rounds(now)

    def step_down(self, now: float, *, rest_s: float = 0.0) -> None:
        """Stop leading, or trying to; start no election for `rest_s` more than usual."""
        led = self.leads
        self.phase = Phase.FOLLOWING if self._acceptor.votes else Phase.SETTLING
        self._attempt = None
        self._timeout_at = now + self._random_timeout() + rest_s
        if self.leader == self.id:
            self.leader = None
        dropped = self._proposals.abandon()
        if led:
            self._watcher.deposed()
        for done in dropped:
            done(None)

    def handle(self, message: PaxosMessage, now: float) -> None:
        """Handle a message of another member, or of its own from behind the journal."""
        # Who is not a member (id and incarnation) neither votes nor is told anything: a replica
        # formatted anew has forgotten its votes.
        if not self._is_member(message.replica, message.incarnation):
            self.foreign += 1
            return
        if (
            isinstance(message, PreVote | Prepare | Heartbeat)
            and message.formatted != self.state.formatted
        ):
            self._alarm(f"replica {message.replica} was formatted with another bootstrap")
            return
        self.heard_at[message.replica] = now
        match message:
            case PreVote():
                self._on_pre_vote(message, now)
            case PreVoted():
                self._on_pre_voted(message, now)
            case Prepare():
                self._on_prepare(message, now)
            case Promise():
                self._on_promise(message, now)
            case Accept():
                self._on_accept(message, now)
            case Accepted():
                self._on_accepted(message, now)
            case Nack():
                self._on_nack(message, now)
            case Heartbeat():
                self._on_heartbeat(message, now)
            case HeartbeatAck():
                self._on_heartbeat_ack(message, now)
            case Catchup():
                self._on_catchup(message)
            case Chosen():
                self._on_chosen(message, now)
            case _:
                assert_never(message)

    def tick(self, now: float) -> None:
        """Do what is due."""
        if self.phase in _WITH_BALLOT:
            if now >= self._heartbeat_at:
                self._tick_leader(now)
        elif now >= self._timeout_at:
            self._timeout_at = now + self._random_timeout()
            if self._acceptor.votes:
                self._ask(now)
            elif self._attempt is None:
                self._prepare(now)
            else:
                # The same ballot again: those who promised it need not be disturbed once more.
                self._repeat(now)
                self._try_settle(now)
        elif now >= self._heartbeat_at and self.phase in (Phase.PREPARING, Phase.ASKING):
            self._repeat(now)

    # Elections.

    def _ask(self, now: float) -> None:
        """Ask for pre-votes: a replica that was cut off must not depose a leader that others hear.

        Source: Ongaro, Raft dissertation (2014), section 9.6.
        """
        self._round_seen = max(self._round_seen, self._acceptor.promised.round)
        ballot = Ballot(self._round_seen + 1, self.id)
        self._attempt = Attempt(ballot, self._request(), Slot(self.applied + 1), now)
        self.phase = Phase.ASKING
        self._attempt.granted.add(self.id)
        if len(self._attempt.granted) >= majority(len(self.state.replicas)):
            self._prepare(now)
        else:
            self._repeat(now)

    def _on_pre_vote(self, message: PreVote, now: float) -> None:
        quiet = now - self._leader_heard >= self._settings.election_s_min
        granted = (
            self._votes_now()
            and quiet
            and self.phase not in _WITH_BALLOT
            and message.ballot > self._acceptor.promised
        )
        reply = PreVoted(
            message.request, self.id, self._incarnation,
            message.ballot, granted, self._acceptor.promised,
        )  # fmt: skip
        self._reply(message.replica, reply, ordered=False)

    def _on_pre_voted(self, message: PreVoted, now: float) -> None:
        self._round_seen = max(self._round_seen, message.promised.round)
        attempt = self._attempt
        if self.phase is not Phase.ASKING or attempt is None:
            return
        if message.request != attempt.request or not message.granted:
            return
        attempt.granted.add(message.replica)
        if len(attempt.granted) >= majority(len(self.state.replicas)):
            self._prepare(now)

    def _prepare(self, now: float) -> None:
        """Begin phase 1 with a ballot that was never used."""
        self._round_seen = max(self._round_seen, self._acceptor.promised.round)
        ballot = Ballot(self._round_seen + 1, self.id)
        if not self._votes.has_room(0):
            return
        # The own promise goes into the journal before the Prepare leaves: a ballot that others
        # have seen is known after a restart, and the next one is higher.
        self._raise_promise(ballot)
        self._round_seen = ballot.round
        self._attempt = Attempt(ballot, self._request(), Slot(self.applied + 1), now)
        if self._acceptor.votes:
            self.phase = Phase.PREPARING
        self._repeat(now)
        self._try_settle(now)

    def _repeat(self, now: float) -> None:
        """Send the attempt's question to all that have not answered it."""
        attempt = self._attempt
        assert attempt is not None
        self._heartbeat_at = now + self._settings.heartbeat_s
        if self.phase is Phase.ASKING:
            ask = PreVote(
                attempt.request, self.id, self._incarnation, self.state.formatted, attempt.ballot
            )
            for member in self._others():
                if member.id not in attempt.granted:
                    self._out.send(member.address, ask, ordered=False)
            return
        prepare = Prepare(
            attempt.request, self.id, self._incarnation, self.state.formatted,
            attempt.ballot, attempt.from_slot,
        )  # fmt: skip
        for member in self._others():
            answer = attempt.promises.get(member.id)
            if answer is None or answer.doubt:
                self._out.send(member.address, prepare)
        # The own answer, like the others', counts when it comes: after it is durable.
        if self._acceptor.votes and self.id not in attempt.promises:
            self._on_prepare(prepare, now)

    def _on_prepare(self, message: Prepare, now: float) -> None:
        if not self._votes_now():
            # No promise, and nothing is changed: only what is still held, for another in doubt.
            self._reply(message.replica, self._promise_reply(message, doubt=True))
            return
        if message.ballot < self._acceptor.promised:
            self._nack(message.replica, message.ballot)
            return
        if message.ballot > self._acceptor.promised:
            if not self._votes.has_room(0):
                return
            self._met_higher(message.ballot, now)
            self._raise_promise(message.ballot)
        if message.replica != self.id:
            self._timeout_at = now + self._random_timeout()
        self._reply(message.replica, self._promise_reply(message, doubt=False))

    def _promise_reply(self, message: Prepare, *, doubt: bool) -> Promise:
        return Promise(
            message.request, self.id, self._incarnation, message.ballot,
            self._acceptor.snapshot, self.applied, doubt,
            self._acceptor.open_slots(message.from_slot),
        )  # fmt: skip

    def _on_promise(self, message: Promise, now: float) -> None:
        attempt = self._attempt
        if attempt is None or message.request != attempt.request:
            return
        if message.ballot != attempt.ballot:
            return
        if self.phase is Phase.SETTLING and message.replica != self.id:
            attempt.promises[message.replica] = message
            self._try_settle(now)
        elif self.phase is Phase.PREPARING and not message.doubt:
            attempt.promises[message.replica] = message
            if attempt.votes() >= majority(len(self.state.replicas)):
                self._won(attempt, now)

    def _try_settle(self, now: float) -> None:
        """End the acceptor's doubt if the answers allow it."""
        attempt = self._attempt
        if self.phase is not Phase.SETTLING or attempt is None:
            return
        blank = self._acceptor.doubt is Doubt.BLANK
        others = len(self.state.replicas) - 1
        if not votes_again(attempt.promises, others, blank=blank):
            return
        if attempt.promises:
            # Below the others' snapshots votes are forgotten: the chosen values themselves must
            # be durable here before this acceptor may answer for those slots.
            until, source = attempt.known_chosen()
            if self.applied < until:
                self._catch_up(source, now)
                return
            if self._acceptor.snapshot < until:
                return
        told = list(attempt.highest(self._acceptor.snapshot).values())
        if not self._votes.has_room(sum(64 + len(vote.value) for vote in told)):
            return
        for record in self._acceptor.settle(told):
            self._votes.append(record, Slot(0))
        self._out.persist()
        self.phase = Phase.FOLLOWING
        self._attempt = None
        self._timeout_at = now + self._random_timeout()

    def _won(self, attempt: Attempt, now: float) -> None:
        self.phase = Phase.CATCHING_UP
        self.leader = self.id
        self._proposals.begin(attempt.ballot, Slot(self.applied + 1))
        self._acked_round = {}
        self._acked_at = dict.fromkeys(attempt.promises, now)
        self.begin_round(now)
        self._recover_slots(now)

    def _recover_slots(self, now: float) -> None:
        """Propose again what may have been chosen, once all that is known chosen is here."""
        attempt = self._attempt
        if self.phase is not Phase.CATCHING_UP or attempt is None:
            return
        # At and below an acceptor's snapshot its votes are forgotten: to propose there would be
        # to choose a second value.
        until, source = attempt.known_chosen()
        if self.applied < until:
            self._catch_up(source, now)
            return
        self.phase = Phase.RECOVERING
        self._attempt = None
        self._proposals.begin(attempt.ballot, Slot(self.applied + 1))
        highest = attempt.highest(self.applied)
        noop = encode(Noop())
        for slot in range(self.applied + 1, max(highest, default=self.applied) + 1):
            vote = highest.get(Slot(slot))
            # A gap, for which nobody of a majority has voted: nothing was or will be chosen.
            self._propose_value(noop if vote is None else vote.value, None, now)
        self._opening_slot = self._propose_value(noop, None, now)

    # Votes.

    def _propose_value(self, value: bytes, done: Done | None, now: float) -> Slot:
        proposal = self._proposals.add(value, done, now)
        self._send_accept(proposal.slot, value, now, frozenset())
        return proposal.slot

    def _send_accept(
        self, slot: Slot, value: bytes, now: float, accepted_by: frozenset[ReplicaId]
    ) -> None:
        accept = Accept(
            self._request(), self.id, self._incarnation, self._proposals.ballot, slot, value
        )
        for member in self._others():
            if member.id not in accepted_by:
                # Its ballot is durable since the Prepare; the own vote syncs meanwhile.
                self._out.send(member.address, accept, ordered=False)
        if self.id not in accepted_by:
            self._on_accept(accept, now)

    def _on_accept(self, message: Accept, now: float) -> None:
        if not self._votes_now():
            return
        if message.ballot < self._acceptor.promised:
            self._nack(message.replica, message.ballot)
            return
        if message.slot <= self._acceptor.snapshot:
            # Chosen long ago; the vote for it is forgotten and must not be given again.
            self._on_catchup(Catchup(message.request, message.replica, message.incarnation,
                                     message.slot))  # fmt: skip
            return
        known = self._learner.value(message.slot)
        if known is not None and known != message.value:
            self._alarm(f"slot {message.slot}: another value is proposed than was chosen")
            return
        if not self._votes.has_room(len(message.value)):
            return
        self._met_higher(message.ballot, now)
        record = self._acceptor.accept(message.ballot, message.slot, message.value)
        if record is not None:
            self._journal(record)
        if message.replica != self.id:
            self._heard_leader(message.replica, now)
        reply = Accepted(message.request, self.id, self._incarnation, message.ballot, message.slot)
        self._reply(message.replica, reply)

    def _on_accepted(self, message: Accepted, now: float) -> None:
        if self.phase not in _WITH_BALLOT:
            return
        value = self._proposals.accepted(
            message.replica, message.ballot, message.slot, len(self.state.replicas)
        )
        if value is not None:
            self._learn(message.slot, value, now)

    def _on_nack(self, message: Nack, now: float) -> None:
        self._round_seen = max(self._round_seen, message.promised.round)
        attempt = self._attempt
        tried = self._proposals.ballot if self.phase in _WITH_BALLOT else NO_BALLOT
        if attempt is not None and self.phase in (Phase.PREPARING, Phase.SETTLING):
            tried = attempt.ballot
        if message.ballot == tried and message.promised > tried:
            self.step_down(now)

    def _met_higher(self, ballot: Ballot, now: float) -> None:
        """Somebody uses `ballot`: stop an own attempt, or term, under a lower one."""
        self._round_seen = max(self._round_seen, ballot.round)
        own = self._proposals.ballot if self.phase in _WITH_BALLOT else None
        if self.phase is Phase.PREPARING and self._attempt is not None:
            own = self._attempt.ballot
        if own is not None and ballot > own:
            self.step_down(now)

    # The leader's heartbeat.

    def _tick_leader(self, now: float) -> None:
        heard = sorted(
            (self._acked_at.get(member.id, -1e9) for member in self.state.replicas), reverse=True
        )
        # A leader that hears no majority confirms nothing and chooses nothing, and one whose disk
        # is full cannot vote for what it proposes: it makes room.
        silent_s = now - heard[majority(len(heard)) - 1]
        if silent_s > self._settings.election_s_max or not self._votes.has_room(0):
            self.step_down(now)
            return
        self.begin_round(now)
        if self.phase is Phase.CATCHING_UP:
            self._recover_slots(now)
        for proposal in self._proposals.overdue(now, self._settings.accept_repeat_s):
            self._send_accept(proposal.slot, proposal.value, now, frozenset(proposal.accepted_by))

    def _on_heartbeat(self, message: Heartbeat, now: float) -> None:
        if message.replica == self.id:
            return
        if message.ballot < self._acceptor.promised:
            if self._votes_now():
                self._nack(message.replica, message.ballot)
            return
        if message.ballot > self._acceptor.promised:
            if not self._votes.has_room(0):
                return
            self._met_higher(message.ballot, now)
            self._raise_promise(message.ballot)
        self._heard_leader(message.replica, now)
        self._take_notice(message, now)
        # One in doubt may have promised a higher ballot and not know it: it confirms nobody.
        if self._votes_now():
            ack = HeartbeatAck(
                message.request, self.id, self._incarnation, message.ballot, message.round,
                self.applied, self._learner.digest_slot, self._learner.digest,
                self._watcher.own_views(now),
            )  # fmt: skip
            self._reply(message.replica, ack)

    def _take_notice(self, message: Heartbeat, now: float) -> None:
        """Apply what the leader says is chosen."""
        while self.applied < message.chosen_until:
            vote = self._acceptor.accepted.get(Slot(self.applied + 1))
            # Only a value accepted at the notice's own ballot is the one that the leader chose;
            # one from an older ballot may be of a leader that lost.
            if vote is None or vote[0] != message.ballot:
                self._catch_up(message.replica, now)
                return
            self._learn(Slot(self.applied + 1), vote[1], now)

    def _on_heartbeat_ack(self, message: HeartbeatAck, now: float) -> None:
        if self.phase not in _WITH_BALLOT or message.ballot != self._proposals.ballot:
            return
        self._acked_at[message.replica] = now
        last = self._acked_round.get(message.replica, 0)
        self._acked_round[message.replica] = max(last, min(message.round, self.round))
        self._watcher.told(message.replica, message.units, now)
        mine = (self._learner.digest_slot, self._learner.digest)
        if message.digest_slot == mine[0] and message.digest != mine[1]:
            self._alarm(f"replica {message.replica} has another state at slot {mine[0]}")
        self._count_rounds(now)

    def _count_rounds(self, now: float) -> None:
        rounds = sorted(
            (self._acked_round.get(member.id, 0) for member in self.state.replicas), reverse=True
        )
        confirmed = rounds[majority(len(rounds)) - 1]
        if confirmed > self.confirmed_round:
            self.confirmed_round = confirmed
            if self.leads:
                self._watcher.confirmed(now)

    # Learning.

    def _learn(self, slot: Slot, value: bytes, now: float) -> None:
        vote = self._acceptor.accepted.get(slot)
        if slot > self.applied and (vote is None or vote[1] != value):
            # After a restart the journal must tell the chosen value, not the vote that lost.
            if not self._votes.has_room(len(value)):
                return
            self._votes.append_chosen(slot, value)
            self._out.persist()
        applied = self._learner.learn(slot, value)
        if not applied:
            return
        for done_slot in applied:
            done = self._proposals.finish(done_slot.slot)
            if done is not None:
                done(done_slot.outcome)
        if self.phase is Phase.RECOVERING and self.applied >= self._opening_slot:
            # All that earlier leaders may have chosen is applied, and a majority has taken part
            # in this ballot: from here on the state is the newest.
            self.phase = Phase.LEADING
            self._watcher.leading(self._proposals.ballot, now)
        self._watcher.applied(now)

    def _catch_up(self, source: ReplicaId, now: float) -> None:
        if now - self._catchup_at < self._settings.heartbeat_s:
            return
        self._catchup_at = now
        ask = Catchup(self._request(), self.id, self._incarnation, Slot(self.applied + 1))
        self._reply(source, ask, ordered=False)

    def _on_catchup(self, message: Catchup) -> None:
        missed = self._learner.missed(message.from_slot, self._settings.catchup_bytes_max)
        reply = Chosen(
            message.request, self.id, self._incarnation,
            missed.snapshot_slot, missed.snapshot, missed.values, self.applied,
        )  # fmt: skip
        # What is chosen stays chosen: it need not wait for this replica's disk.
        self._reply(message.replica, reply, ordered=False)

    def _on_chosen(self, message: Chosen, now: float) -> None:
        before = self.applied
        if message.snapshot_slot > self.applied:
            try:
                state = schema.unpack(State, message.snapshot)
            except WireError as error:
                self._alarm(f"replica {message.replica} sent no state: {error}")
                return
            self._learner.install(message.snapshot_slot, state)
            self._installed = message.snapshot_slot
            self._watcher.applied(now)
        for chosen in message.values:
            if chosen.slot > self.applied:
                self._learn(chosen.slot, chosen.value, now)
        if before < self.applied < message.chosen_until:
            self._catchup_at = -1e9
            self._catch_up(message.replica, now)
        self._try_settle(now)
        self._recover_slots(now)

    # Small things.

    def _votes_now(self) -> bool:
        # A member votes only with a state that admits it: it then knows all that was chosen
        # before it was a member.
        return self._acceptor.votes and self._is_member(self.id, self._incarnation)

    def _is_member(self, id_: ReplicaId, incarnation: Incarnation) -> bool:
        return any(m.id == id_ and m.incarnation == incarnation for m in self.state.replicas)

    def _others(self) -> list[Replica]:
        return [member for member in self.state.replicas if member.id != self.id]

    def _heard_leader(self, replica: ReplicaId, now: float) -> None:
        self.leader = replica
        self._leader_heard = now
        if self.phase is Phase.ASKING:
            self.phase = Phase.FOLLOWING
            self._attempt = None
        if self.phase is Phase.FOLLOWING:
            self._timeout_at = now + self._random_timeout()

    def _raise_promise(self, ballot: Ballot) -> None:
        record = self._acceptor.promise(ballot)
        if record is not None:
            self._journal(record)

    def _journal(self, record: PromisedRecord | AcceptedRecord) -> None:
        # No hint while an installed state is on no disk: after a restart the votes for the slots
        # it covers would be taken for what was chosen there.
        hint = self.applied if self._installed <= self._acceptor.snapshot else Slot(0)
        self._votes.append(record, hint)
        self._out.persist()

    def _nack(self, to: ReplicaId, ballot: Ballot) -> None:
        nack = Nack(self._request(), self.id, self._incarnation, ballot, self._acceptor.promised)
        self._reply(to, nack, ordered=False)

    def _reply(self, to: ReplicaId, message: PaxosMessage, *, ordered: bool = True) -> None:
        for member in self.state.replicas:
            if member.id == to:
                self._out.send(member.address, message, ordered=ordered)

    def _request(self) -> RequestId:
        self._sequence += 1
        return RequestId(self._session, self._sequence)

    def _random_timeout(self) -> float:
        return self._rng.uniform(self._settings.election_s_min, self._settings.election_s_max)

    def _alarm(self, text: str) -> None:
        if text not in self._alarmed:
            self._alarmed.add(text)
            self._watcher.alarm(text)
