"""Elections: is an attempt welcome, then phase 1; and how an acceptor's doubt ends.

Pure. An acceptor in doubt runs the same phase 1 without voting: those who promise its ballot accept
nothing lower any more, so what they tell cannot be overtaken.
"""

from __future__ import annotations

from typing import Protocol

from corfu.messages import OpenSlot, Prepare, PreVote, PreVoted, Promise
from corfu.types import Ballot, Slot

from .acceptor import Doubt
from .learning import Learning
from .member import WITH_BALLOT, Member, Phase
from .proposer import Attempt, most_remember, votes_again
from .voting import Voting

ROUNDS_IN_DOUBT = 1 << 16
"""Rounds left out after a doubtful restart: the batch that is in doubt may have held promises of
own ballots, but never so many."""

ROUNDS_PER_SLOT = 1 << 24
"""More rounds than are ever used up while no slot is chosen."""


class Winner(Protocol):
    """Who is told that an election is won."""

    def won(self, attempt: Attempt, now: float) -> None:
        """A majority has promised the attempt's ballot."""
        ...


class Election:
    """At most one attempt at a time."""

    def __init__(
        self, member: Member, learning: Learning, voting: Voting, winner: Winner, now: float
    ) -> None:
        self._member = member
        self._learning = learning
        self._voting = voting
        self._winner = winner
        self.attempt: Attempt | None = None
        self.repeat_at = now
        member.timeout_at = now + member.random_timeout()
        if not member.acceptor.votes:
            member.round_seen += ROUNDS_IN_DOUBT
            member.phase = Phase.SETTLING
            member.timeout_at = now + member.random_start()

    @property
    def deadline(self) -> float:
        """When `tick` is wanted; not during a term."""
        if self._member.phase in (Phase.PREPARING, Phase.ASKING):
            return min(self._member.timeout_at, self.repeat_at)
        return self._member.timeout_at

    def tick(self, now: float) -> None:
        """Start an attempt, or repeat its questions."""
        member = self._member
        if now < member.timeout_at:
            if now >= self.repeat_at and member.phase in (Phase.PREPARING, Phase.ASKING):
                self._repeat(now)
            return
        member.timeout_at = now + member.random_timeout()
        if member.acceptor.votes:
            self._ask(now)
        elif member.acceptor.doubt is Doubt.JOINING:
            # It has no vote to remember: it only waits to be admitted.
            self._try_join(now)
        elif self.attempt is None:
            self._prepare(now)
        else:
            # The same ballot again: those who promised it need not be disturbed once more.
            self._repeat(now)
            self.try_settle(now)

    def _new_attempt(self, now: float) -> Attempt:
        member = self._member
        # Higher than every ballot that was ever seen or promised here, so never used before.
        member.round_seen = max(member.round_seen, member.acceptor.promised.round)
        if member.state.removed:
            # And higher than every ballot under which earlier members may have proposed for a slot
            # behind the change that ended them. Their majorities and the new members' need have
            # nobody in common, so no promise tells of it; such a value, come late, would otherwise
            # take the place of a vote for what the new members chose. Those ballots were begun
            # before the change was chosen, by replicas that had applied less than this one has.
            member.round_seen = max(member.round_seen, member.applied * ROUNDS_PER_SLOT)
        ballot = Ballot(member.round_seen + 1, member.id)
        members = member.state.replicas
        return Attempt(ballot, members, member.request(), Slot(member.applied + 1), now)

    def _ask(self, now: float) -> None:
        """Ask for pre-votes: a replica that was cut off must not depose a leader that others hear.

        Source: Ongaro, Consensus: Bridging Theory and Practice (2014), section 9.6.
        """
        member = self._member
        self.attempt = self._new_attempt(now)
        self.attempt.granted.add(member.id)
        member.phase = Phase.ASKING
        if len(self.attempt.granted) >= member.quorum:
            self._prepare(now)
        else:
            self._repeat(now)

    def on_pre_vote(self, message: PreVote, now: float) -> None:
        """Say whether a promise would be given: not while a leader is heard."""
        member = self._member
        if member.was_replaced:
            # Perhaps nobody else who is left knows that the change was chosen, and the asker
            # looks in vain for a majority of the old members.
            self._learning.tell_applied(message.replica, message.request)
            return
        if member.acceptor.doubt is Doubt.JOINING:
            # It may be a member by now, and its vote what the asker lacks: no leader is there to
            # tell it, so it asks who seems to know.
            self._learning.catch_up(message.replica, now)
            return
        granted = (
            member.may_vote
            and member.phase not in WITH_BALLOT
            and now - member.leader_heard_at >= member.settings.election_s_min
            and message.ballot > member.acceptor.promised
        )
        reply = PreVoted(
            message.request,
            member.id,
            member.incarnation,
            message.ballot,
            granted,
            member.acceptor.promised,
        )
        member.reply(message.replica, reply, ordered=False)

    def on_pre_voted(self, message: PreVoted, now: float) -> None:
        """Count a pre-vote."""
        member, attempt = self._member, self.attempt
        member.round_seen = max(member.round_seen, message.promised.round)
        if member.phase is not Phase.ASKING or attempt is None:
            return
        if message.request != attempt.request or not message.granted:
            return
        attempt.granted.add(message.replica)
        if len(attempt.granted) >= member.quorum:
            self._prepare(now)

    def _prepare(self, now: float) -> None:
        """Begin phase 1 with a ballot that was never used."""
        member = self._member
        if not member.has_room(0):
            return
        self.attempt = self._new_attempt(now)
        member.round_seen = self.attempt.ballot.round
        # The own promise goes into the journal before the Prepare leaves: a ballot that others
        # have seen is known after a restart, and the next one is higher.
        member.raise_promise(self.attempt.ballot)
        if member.acceptor.votes:
            member.phase = Phase.PREPARING
        self._repeat(now)
        self.try_settle(now)

    def _repeat(self, now: float) -> None:
        """Send the attempt's question to all that have not answered it."""
        member, attempt = self._member, self.attempt
        assert attempt is not None
        self.repeat_at = now + member.settings.heartbeat_s
        if member.phase is Phase.ASKING:
            ask = PreVote(
                attempt.request,
                member.id,
                member.incarnation,
                member.state.formatted,
                attempt.ballot,
            )
            for other in member.others:
                if other.id not in attempt.granted:
                    member.reply(other.id, ask, ordered=False)
            return
        prepare = Prepare(
            attempt.request,
            member.id,
            member.incarnation,
            member.state.formatted,
            attempt.ballot,
            attempt.from_slot,
        )
        for other in member.others:
            answer = attempt.promises.get(other.id)
            if answer is None or answer.doubt:
                member.reply(other.id, prepare)
        # The own answer, like the others', counts when it comes: after it is durable.
        if member.acceptor.votes and member.id not in attempt.promises:
            self._voting.on_prepare(prepare, now)

    def on_promise(self, message: Promise, now: float) -> None:
        """Count a promise."""
        member, attempt = self._member, self.attempt
        if attempt is None or message.request != attempt.request:
            return
        if message.ballot != attempt.ballot:
            return
        if member.phase is Phase.SETTLING and message.replica != member.id:
            attempt.promises[message.replica] = message
            self.try_settle(now)
        elif member.phase is Phase.PREPARING and not message.doubt:
            attempt.promises[message.replica] = message
            if attempt.votes() >= member.quorum:
                self.attempt = None
                self._winner.won(attempt, now)

    def try_settle(self, now: float) -> None:
        """End the acceptor's doubt if the answers allow it."""
        member, attempt = self._member, self.attempt
        if member.acceptor.doubt is Doubt.JOINING:
            self._try_join(now)
            return
        if member.phase is not Phase.SETTLING or attempt is None:
            return
        blank = member.acceptor.doubt is Doubt.BLANK
        if not votes_again(attempt.promises, len(member.others), blank=blank):
            return
        if attempt.promises:
            # Below the others' snapshots votes are forgotten: the chosen values themselves must
            # be durable here before this acceptor may answer for those slots.
            until, source = attempt.known_chosen()
            if member.applied < until:
                self._learning.catch_up(source, now)
                return
            if member.acceptor.snapshot < until:
                return
        # A forgotten vote may have been given in a group that another member has joined since.
        # Whether it has is known once the change that somebody voted for is applied, or is not;
        # those who remember see to that. If too few do, no vote was forgotten in any group: what
        # is torn was never answered. To wait then would be for ever, as nobody else votes.
        sound = most_remember(attempt.promises, len(member.others))
        if sound and attempt.tells_of_change(member.applied):
            return
        told = list(attempt.highest(member.acceptor.snapshot).values())
        if not member.has_room(sum(128 + len(vote.value) for vote in told)):
            return
        self._settle(told, now)

    def _try_join(self, now: float) -> None:
        """Begin to vote once this replica is a member by a state that is durable here.

        All that was chosen before it was admitted lies at or below that state's slot, where it
        never votes; above, it starts like an acceptor of a new group, having answered nobody.
        """
        member = self._member
        admitted_at = member.admitted_at
        durable = admitted_at is not None and member.acceptor.snapshot >= admitted_at
        if durable and member.has_room(0):
            self._settle([], now)

    def _settle(self, told: list[OpenSlot], now: float) -> None:
        member = self._member
        for record in member.acceptor.settle(told):
            # Without a hint: what was learnt in doubt stands in the snapshot.
            member.votes.append(record, Slot(0))
        member.persisted()
        member.phase = Phase.FOLLOWING
        member.timeout_at = now + member.random_timeout()
        self.attempt = None

    def members_changed(self, now: float) -> None:
        """Give up an attempt that asks members of before: their majority is none any more."""
        member, attempt = self._member, self.attempt
        if attempt is None or attempt.members == member.state.replicas:
            return
        self.attempt = None
        if member.phase in (Phase.ASKING, Phase.PREPARING):
            member.phase = Phase.FOLLOWING
        member.timeout_at = now + member.random_timeout()

    def take_over(self, now: float) -> None:
        """Begin phase 1 at once, without pre-votes: the leader itself has asked for it."""
        member = self._member
        if member.may_vote and member.phase in (Phase.FOLLOWING, Phase.ASKING):
            member.timeout_at = now + member.random_timeout()
            self._prepare(now)
