"""This replica's part in the Paxos group: every Paxos message comes here, and every timer.

Pure and synchronous. Composes elections, voting, learning and the leader's term, and decides when
one gives way to another.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from corfu.messages import (
    Accept,
    Accepted,
    Catchup,
    Chosen,
    Expelled,
    Heartbeat,
    HeartbeatAck,
    Nack,
    PaxosMessage,
    Prepare,
    PreVote,
    PreVoted,
    Promise,
    TakeOver,
)
from corfu.types import Address, Ballot, Incarnation, ReplicaId, Slot

from .acceptor import Doubt
from .commands import Command
from .election import ROUNDS_PER_SLOT, Election
from .identity import ReplicaIdentity
from .learner import AppliedSlot
from .learning import Learning
from .member import WITH_BALLOT, Member, Phase, Watcher
from .outbox import Outbox
from .proposer import Attempt, Done
from .screening import objection
from .settings import SequencerSettings
from .state import State
from .storage import Restored
from .term import Term
from .voting import Voting


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
        self._member = Member(
            identity=identity,
            session=session,
            settings=settings,
            restored=restored,
            rng=rng,
            outbox=outbox,
            watcher=watcher,
            now=now,
        )
        self._watcher = watcher
        self._learning = Learning(self._member, self)
        self._voting = Voting(self._member, self._learning, self)
        self._election = Election(self._member, self._learning, self._voting, self, now)
        self._term = Term(self._member, self._learning, self._voting, self)
        self.foreign = 0
        """Messages dropped because their sender is no member."""
        self.heard_at: dict[ReplicaId, float] = {}
        self._handlers: dict[type[PaxosMessage], Callable[[Any, float], None]] = {
            PreVote: self._election.on_pre_vote,
            PreVoted: self._election.on_pre_voted,
            Prepare: self._voting.on_prepare,
            Promise: self._election.on_promise,
            Accept: self._voting.on_accept,
            Accepted: self._on_accepted,
            Nack: self._on_nack,
            Heartbeat: self._on_heartbeat,
            HeartbeatAck: self._on_heartbeat_ack,
            Catchup: lambda message, now: self._learning.on_catchup(message),
            Chosen: self._learning.on_chosen,
            TakeOver: self._on_take_over,
            Expelled: self._on_expelled,
        }

    # What others ask of it.

    @property
    def id(self) -> ReplicaId:
        """The own replica id."""
        return self._member.id

    @property
    def incarnation(self) -> Incarnation:
        """Which folder this replica has."""
        return self._member.incarnation

    @property
    def votes(self) -> bool:
        """Tell if its promises and votes count."""
        return self._member.may_vote

    @property
    def state(self) -> State:
        """The applied state."""
        return self._member.state

    @property
    def applied(self) -> Slot:
        """Every slot up to it is chosen and applied."""
        return self._member.applied

    @property
    def phase(self) -> Phase:
        """What it is doing about leadership."""
        return self._member.phase

    @property
    def leader(self) -> ReplicaId | None:
        """Who leads, as far as it knows."""
        return self._member.leader

    @property
    def leader_heard_at(self) -> float:
        """When a leader was last heard, or this process began."""
        return self._member.leader_heard_at

    @property
    def chosen_until(self) -> Slot:
        """Every slot up to it is chosen, as far as this replica has heard."""
        return max(self.applied, self._learning.chosen_until)

    @property
    def snapshot(self) -> Slot:
        """Up to where the durable snapshot goes."""
        return self._member.acceptor.snapshot

    @property
    def ballot(self) -> Ballot:
        """The ballot it leads with, else the one it promised."""
        in_term = self._member.phase in WITH_BALLOT
        return self._term.ballot if in_term else self._member.acceptor.promised

    @property
    def leads(self) -> bool:
        """Tell if its no-op was applied under its ballot, and no higher ballot was met since."""
        return self._member.phase is Phase.LEADING

    @property
    def admitted(self) -> bool:
        """Tell if this replica is, or was, a member by what it has applied."""
        return self._member.admitted_at is not None

    @property
    def doubt(self) -> Doubt:
        """Whether its acceptor votes."""
        return self._member.acceptor.doubt

    @property
    def round(self) -> int:
        """The last heartbeat round that it began."""
        return self._term.round

    @property
    def confirmed_round(self) -> int:
        """The last of its heartbeat rounds that a majority has answered."""
        return self._term.confirmed_round

    @property
    def deadline(self) -> float:
        """When `tick` is wanted."""
        in_term = self._member.phase in WITH_BALLOT
        return self._term.heartbeat_at if in_term else self._election.deadline

    def propose(self, command: Command, done: Done, now: float) -> None:
        """Propose a command; `done` hears its applied outcome, or None if the term ends first.

        None comes at once if this replica does not lead, or too much is under way.
        """
        self._term.propose(command, done, now)

    def begin_round(self, now: float) -> None:
        """Begin a heartbeat round now; only during a term."""
        assert self._member.phase in WITH_BALLOT
        self._term.begin_round(now)

    def is_followed_by(self, replica: ReplicaId, now: float, within_s: float) -> bool:
        """Tell if this replica leads, and another one that votes has lately answered it."""
        return self.leads and self._term.is_followed_by(replica, now, within_s)

    def hand_over(self, to: ReplicaId | None, now: float) -> bool:
        """Ask a follower (None: the one that is best off) to lead; False if there is none."""
        heir = self._term.heir(now) if to is None else to
        if not self.leads or heir is None or heir == self.id:
            return False
        self._term.hand_over(heir)
        return True

    def snapshot_wanted(self) -> tuple[Slot, State] | None:
        """Return what should be written to the snapshot file now, if anything."""
        member = self._member
        behind = member.applied - member.acceptor.snapshot
        # What was installed, or learnt in doubt, stands in no journal as this replica's votes:
        # only a snapshot makes it lasting.
        urgent = member.installed > member.acceptor.snapshot or not member.acceptor.votes
        if behind >= member.settings.snapshot_slots or (behind and urgent):
            return member.applied, member.state
        return None

    def snapshot_saved(self, slot: Slot, now: float) -> None:
        """Note that the state as of `slot` is durably on disk: the votes below may go."""
        self._member.acceptor.forget(slot)
        self._member.votes.release(slot)
        self._election.try_settle(now)

    def step_down(self, now: float, *, rest_s: float = 0.0) -> None:
        """Stop leading, or trying to; start no election for `rest_s` more than usual."""
        member = self._member
        led = self.leads
        if member.acceptor.votes:
            member.phase = Phase.FOLLOWING
            member.timeout_at = now + member.random_timeout() + rest_s
        else:
            # Its ballot was too low. Until it is settled the group has one vote less.
            member.phase = Phase.SETTLING
            member.timeout_at = now + member.random_start()
        if member.leader == member.id:
            member.leader = None
        self._election.attempt = None
        dropped = self._term.end()
        if led:
            self._watcher.deposed()
        for done in dropped:
            done(None)

    # Events.

    def handle(self, message: PaxosMessage, sender: Address, now: float) -> None:
        """Handle a message of another member, or of its own from behind the journal."""
        # Who is not a member (id and incarnation) neither votes nor is told anything: a replica
        # formatted anew has forgotten its votes.
        if not self._member.is_member(message.replica, message.incarnation):
            self.foreign += 1
            self._on_foreign(message, sender, now)
            return
        if (
            isinstance(message, PreVote | Prepare | Heartbeat)
            and message.formatted != self.state.formatted
        ):
            self._member.alarm(f"replica {message.replica} was formatted with another bootstrap")
            return
        self.heard_at[message.replica] = now
        if self._is_sane(message):
            self._handlers[type(message)](message, now)

    def _is_sane(self, message: PaxosMessage) -> bool:
        member = self._member
        known = max(member.round_seen, member.acceptor.promised.round)
        why = objection(message, max(known, member.applied * ROUNDS_PER_SLOT), member.applied)
        if why is not None:
            member.alarm(f"replica {message.replica} sent {why}: dropped")
        return why is None

    def _on_foreign(self, message: PaxosMessage, sender: Address, now: float) -> None:
        """Handle a message of a replica that is no member, as far as is known here."""
        member = self._member
        for gone in self.state.removed:
            if (gone.id, gone.incarnation) == (message.replica, message.incarnation):
                # It was replaced, and would ask for votes for ever. But before the new members have
                # made an epoch it may be the only one left who knows that they are the members.
                if gone not in self.state.active.replicas:
                    told = Expelled(
                        message.request, member.id, member.incarnation, gone.incarnation
                    )
                    member.send_to(gone.address, told)
                return
        # It may have become a member since: of what is chosen anybody may tell, for that never
        # changes. Votes and promises are counted only once it is a member here, too. A candidate
        # is asked as well, where no leader is heard: its majority may need this replica.
        if isinstance(message, PreVote | Prepare | Heartbeat):
            if isinstance(message, Heartbeat):
                wanted = message.chosen_until > member.applied
            else:
                wanted = now - member.leader_heard_at >= member.settings.election_s_min
            if wanted and message.formatted == self.state.formatted:
                self._learning.catch_up_from(sender, now)
        elif (
            isinstance(message, Chosen)
            and self._learning.was_asked_for(message)
            and self._is_sane(message)
        ):
            self._learning.on_chosen(message, now)

    def _on_expelled(self, message: Expelled, now: float) -> None:
        # A member says so only of what it has applied, so it is chosen: there is no way back.
        if message.expelled == self._member.incarnation:
            self._watcher.expelled()

    def _on_take_over(self, message: TakeOver, now: float) -> None:
        # Only at the word of the leader that it follows: an old one's must depose nobody.
        if message.ballot == self._member.acceptor.promised:
            self._election.take_over(now)

    def tick(self, now: float) -> None:
        """Do what is due."""
        if self._member.phase in WITH_BALLOT:
            self._term.tick(now)
        else:
            self._election.tick(now)

    def _on_accepted(self, message: Accepted, now: float) -> None:
        if self._member.phase in WITH_BALLOT:
            self._term.on_accepted(message, now)

    def _on_heartbeat_ack(self, message: HeartbeatAck, now: float) -> None:
        if self._member.phase in WITH_BALLOT:
            self._term.on_heartbeat_ack(message, now)

    def _on_nack(self, message: Nack, now: float) -> None:
        self._member.round_seen = max(self._member.round_seen, message.promised.round)
        if message.ballot == self._used_ballot() and message.promised > message.ballot:
            self.step_down(now)

    def _on_heartbeat(self, message: Heartbeat, now: float) -> None:
        member = self._member
        if message.replica == member.id:
            return
        promised = member.acceptor.promised
        if message.ballot < promised:
            if member.may_vote:
                member.nack(message.replica, message.ballot)
            return
        if message.ballot > promised:
            if not member.has_room(0):
                return
            self.met_higher(message.ballot, now)
            member.raise_promise(message.ballot)
        self.heard_leader(message.replica, now)
        self._learning.take_notice(message, now)
        # One in doubt may have promised a higher ballot and not know it: it confirms nobody.
        if member.may_vote:
            ack = HeartbeatAck(
                message.request,
                member.id,
                member.incarnation,
                message.ballot,
                message.round,
                member.applied,
                member.learner.digest_slot,
                member.learner.digest,
                self._watcher.own_views(now),
            )
            member.reply(message.replica, ack)

    # What the roles tell each other.

    def met_higher(self, ballot: Ballot, now: float) -> None:
        """Somebody uses `ballot`: stop an own attempt, or term, under a lower one."""
        self._member.round_seen = max(self._member.round_seen, ballot.round)
        own = self._used_ballot()
        if own is not None and ballot > own and self._member.phase is not Phase.SETTLING:
            self.step_down(now)

    def _used_ballot(self) -> Ballot | None:
        """Return the ballot that others may have promised to this replica."""
        if self._member.phase in WITH_BALLOT:
            return self._term.ballot
        attempt = self._election.attempt
        if attempt is None or self._member.phase is Phase.ASKING:
            return None
        return attempt.ballot

    def heard_leader(self, replica: ReplicaId, now: float) -> None:
        """A leader is alive: no election now."""
        member = self._member
        member.leader = replica
        member.leader_heard_at = now
        if member.phase is Phase.ASKING:
            member.phase = Phase.FOLLOWING
            self._election.attempt = None
        if member.phase is Phase.FOLLOWING:
            member.timeout_at = now + member.random_timeout()

    def won(self, attempt: Attempt, now: float) -> None:
        """A majority has promised: the term begins."""
        self._term.begin(attempt, now)

    def applied_slots(self, applied: list[AppliedSlot], now: float) -> None:
        """Tell who proposed what was applied, and that the state changed."""
        for each in applied:
            done = self._term.finish(each.slot, each.value)
            if done is not None:
                done(each.outcome)
        self._member.look_for_own_place()
        self._election.members_changed(now)
        if self._term.overtaken():
            # A late answer to a catch-up may tell of a successor before its own messages do.
            self.step_down(now)
        elif self._term.members_changed():
            self.step_down(now)
            # It asks the new members at once; nobody else is to wait for a timeout.
            self._election.take_over(now)
        elif self._member.phase is Phase.RECOVERING:
            self._term.recover_slots(now)
        if self._term.opened():
            self._watcher.leading(self._term.ballot, now)
        self._watcher.applied(now)

    def caught_up(self, now: float) -> None:
        """Go on with what waited for chosen values."""
        self._election.try_settle(now)
        self._term.recover_slots(now)
