"""A leader's term in Paxos: recovering open slots, proposing, heartbeats and their rounds.

Pure. Begins when a majority has promised the ballot, ends when a higher one is met or no majority
answers any more.
"""

from __future__ import annotations

from typing import Protocol

from corfu.layout import Replica
from corfu.messages import Accept, Accepted, Heartbeat, HeartbeatAck, OpenSlot, TakeOver
from corfu.types import Ballot, ReplicaId, Slot

from .commands import Command, Noop, encode
from .learning import Learning
from .member import WITH_BALLOT, Member, Phase
from .proposer import Attempt, Done, Proposals
from .voting import Voting

PROPOSALS_MAX = 64
"""Most values proposed and not yet applied."""

_LONG_AGO = -1e9


class Reign(Protocol):
    """Who is told how the term goes."""

    def step_down(self, now: float) -> None:
        """The term ends."""
        ...


class Term:
    """The proposals and rounds of the own ballot. `round`: of the last heartbeat sent."""

    def __init__(self, member: Member, learning: Learning, voting: Voting, reign: Reign) -> None:
        self._member = member
        self._learning = learning
        self._voting = voting
        self._reign = reign
        self._proposals = Proposals()
        self._recovering: Attempt | None = None
        self._votes: dict[Slot, OpenSlot] = {}
        self._members: tuple[Replica, ...] = ()
        self._opening_slot: Slot | None = None
        self.round = 0
        self.confirmed_round = 0
        self.heartbeat_at = 0.0
        self._acked_round: dict[ReplicaId, int] = {}
        self._acked_at: dict[ReplicaId, float] = {}
        self._acked_applied: dict[ReplicaId, Slot] = {}

    @property
    def ballot(self) -> Ballot:
        """The ballot of the term."""
        return self._proposals.ballot

    def begin(self, attempt: Attempt, now: float) -> None:
        """Begin a term with a majority's promises."""
        member = self._member
        member.phase = Phase.CATCHING_UP
        member.leader = member.id
        self._proposals.begin(attempt.ballot, Slot(member.applied + 1))
        self._recovering = attempt
        self._members = attempt.members
        self._opening_slot = None
        self._acked_round = {}
        self._acked_applied = {}
        self._acked_at = dict.fromkeys(attempt.promises, now)
        self.begin_round(now)
        self.recover_slots(now)

    def end(self) -> list[Done]:
        """End the term; returns who waits for the outcome of a proposal."""
        self._recovering = None
        return self._proposals.abandon()

    def recover_slots(self, now: float) -> None:
        """Propose again what may have been chosen, once all that is known chosen is here."""
        member, attempt = self._member, self._recovering
        if attempt is None:
            return
        # At and below an acceptor's snapshot its votes are forgotten: to propose there would be
        # to choose a second value.
        until, source = attempt.known_chosen()
        if member.applied < until:
            self._learning.catch_up(source, now)
            return
        if member.phase is Phase.CATCHING_UP:
            member.phase = Phase.RECOVERING
            self._proposals.begin(attempt.ballot, Slot(member.applied + 1))
            self._votes = attempt.highest(member.applied)
        last = max(self._votes, default=member.applied)
        noop = encode(Noop())
        # Nothing is proposed behind a change of the members before it is applied: its slots are the
        # new members' to choose, and this term's promises came from the old ones.
        while self._proposals.next <= last and not self._proposals.changing:
            vote = self._votes.get(self._proposals.next)
            # A gap, for which nobody of a majority has voted: nothing was or will be chosen.
            self._propose_value(noop if vote is None else vote.value, None, now)
        if not self._proposals.changing:
            self._recovering = None
            self._opening_slot = self._propose_value(noop, None, now)

    def opened(self) -> bool:
        """Tell if the term's own no-op was applied just now: then it leads."""
        member = self._member
        if member.phase is not Phase.RECOVERING or self._opening_slot is None:
            return False
        if member.applied < self._opening_slot:
            return False
        # All that earlier leaders may have chosen is applied, and a majority has taken part in
        # this ballot: from here on the state is the newest.
        member.phase = Phase.LEADING
        return True

    def members_changed(self) -> bool:
        """Tell if the members are others than those whose promises began the term.

        Then it must end: a majority of the old members is none of the new ones, and nothing that
        it promised speaks for slots behind the change. Source: Lamport, Malkhi, Zhou,
        Reconfiguring a State Machine (2010), section 2, with a window of one slot.
        """
        return self._member.phase in WITH_BALLOT and self._members != self._member.state.replicas

    def hand_over(self, to: ReplicaId) -> None:
        """Ask a follower to begin an election now; this term goes on until it has."""
        member = self._member
        ask = TakeOver(member.request(), member.id, member.incarnation, self.ballot)
        member.reply(to, ask, ordered=False)

    def is_followed_by(self, replica: ReplicaId, now: float, within_s: float) -> bool:
        """Tell if a replica has lately answered a heartbeat, which only one that votes does."""
        return now - self._acked_at.get(replica, _LONG_AGO) < within_s

    def heir(self, now: float) -> ReplicaId | None:
        """Return the follower that was heard lately and has applied most; None if none was."""
        heard = [
            (self._acked_applied.get(each.id, Slot(0)), each.id)
            for each in self._member.others
            if now - self._acked_at.get(each.id, _LONG_AGO) < self._member.settings.election_s_min
        ]
        return max(heard)[1] if heard else None

    # Proposals.

    def propose(self, command: Command, done: Done, now: float) -> None:
        """Propose a command; `done` hears its applied outcome, or None if the term ends first."""
        full = len(self._proposals) >= PROPOSALS_MAX or self._proposals.changing
        if self._member.phase is not Phase.LEADING or full:
            done(None)
            return
        self._propose_value(encode(command), done, now)

    def finish(self, slot: Slot, value: bytes) -> Done | None:
        """Note that a slot was applied; returns whom to tell, if the value is the own one."""
        return self._proposals.finish(slot, value)

    def overtaken(self) -> bool:
        """Tell if another ballot's value was applied at a slot that is this term's to fill."""
        if self._member.phase not in (Phase.RECOVERING, Phase.LEADING):
            return False
        return self._proposals.overtaken(self._member.applied)

    def _propose_value(self, value: bytes, done: Done | None, now: float) -> Slot:
        proposal = self._proposals.add(value, done, now)
        self._send_accept(proposal.slot, value, frozenset(), now)
        return proposal.slot

    def _send_accept(
        self, slot: Slot, value: bytes, accepted_by: frozenset[ReplicaId], now: float
    ) -> None:
        member = self._member
        accept = Accept(member.request(), member.id, member.incarnation, self.ballot, slot, value)
        for other in member.others:
            if other.id not in accepted_by:
                # Its ballot is durable since the Prepare; the own vote syncs meanwhile.
                member.reply(other.id, accept, ordered=False)
        if member.id not in accepted_by:
            self._voting.on_accept(accept, now)

    def on_accepted(self, message: Accepted, now: float) -> None:
        """Count a vote."""
        value = self._proposals.accepted(
            message.replica, message.ballot, message.slot, len(self._member.state.replicas)
        )
        if value is not None:
            self._learning.learn(message.slot, value, now)

    # Heartbeats.

    def tick(self, now: float) -> None:
        """Send the heartbeat that is due, and again what was not answered; or give up."""
        member = self._member
        if now < self.heartbeat_at:
            return
        heard = sorted(
            (self._acked_at.get(each.id, _LONG_AGO) for each in member.state.replicas),
            reverse=True,
        )
        # A leader that hears no majority confirms nothing and chooses nothing, and one whose disk
        # is full cannot vote for what it proposes: it makes room.
        silent_s = now - heard[member.quorum - 1]
        if silent_s > member.settings.election_s_max or not member.has_room(0):
            self._reign.step_down(now)
            return
        self.begin_round(now)
        self.recover_slots(now)
        for proposal in self._proposals.overdue(now, member.settings.accept_repeat_s):
            self._send_accept(proposal.slot, proposal.value, frozenset(proposal.accepted_by), now)

    def begin_round(self, now: float) -> None:
        """Send a heartbeat now; a majority's answers to it will confirm its round."""
        member = self._member
        self.round += 1
        self.heartbeat_at = now + member.settings.heartbeat_s
        beat = Heartbeat(
            member.request(),
            member.id,
            member.incarnation,
            member.state.formatted,
            self.ballot,
            self.round,
            member.applied,
        )
        for other in member.others:
            # Says only what is chosen: a crash takes none of it back.
            member.reply(other.id, beat, ordered=False)
        if member.acceptor.promised == self.ballot:
            self._acked_round[member.id] = self.round
            self._acked_at[member.id] = now
        self._count_rounds(now)

    def on_heartbeat_ack(self, message: HeartbeatAck, now: float) -> None:
        """Count an answer: its sender had promised nothing higher when it came to it."""
        member = self._member
        if message.ballot != self.ballot:
            return
        self._acked_at[message.replica] = now
        self._acked_applied[message.replica] = message.applied
        last = self._acked_round.get(message.replica, 0)
        self._acked_round[message.replica] = max(last, min(message.round, self.round))
        member.watcher.told(message.replica, message.units, now)
        learner = member.learner
        if message.digest_slot == learner.digest_slot and message.digest != learner.digest:
            member.alarm(
                f"replica {message.replica} has another state at slot {learner.digest_slot}"
            )
        self._count_rounds(now)

    def _count_rounds(self, now: float) -> None:
        member = self._member
        rounds = sorted(
            (self._acked_round.get(each.id, 0) for each in member.state.replicas), reverse=True
        )
        confirmed = rounds[member.quorum - 1]
        if confirmed > self.confirmed_round:
            self.confirmed_round = confirmed
            if member.phase is Phase.LEADING:
                member.watcher.confirmed(now)
