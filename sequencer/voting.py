"""The acceptor's answers: Promise, Accepted, Nack.

Pure. Each is sent behind the journal, so it leaves only once it is durable; the own vote too, by
way of the own address. Source: Lamport, Paxos Made Simple (2001), section 2.
"""

from __future__ import annotations

from typing import Protocol

from corfu.messages import Accept, Accepted, Catchup, Prepare, Promise
from corfu.types import Ballot, ReplicaId

from .learning import Learning
from .member import Member


class Ballots(Protocol):
    """Who is told of ballots that others use."""

    def met_higher(self, ballot: Ballot, now: float) -> None:
        """Somebody uses `ballot`: an attempt, or term, under a lower one ends."""
        ...

    def heard_leader(self, replica: ReplicaId, now: float) -> None:
        """A leader, or a candidate with its majority, is alive."""
        ...


class Voting:
    """Answers phase 1 and phase 2."""

    def __init__(self, member: Member, learning: Learning, ballots: Ballots) -> None:
        self._member = member
        self._learning = learning
        self._ballots = ballots

    def on_prepare(self, message: Prepare, now: float) -> None:
        """Promise, if nothing higher is promised."""
        member = self._member
        acceptor = member.acceptor
        if not member.may_vote:
            # No promise, and nothing is changed: only what is still held, for another in doubt.
            member.reply(message.replica, self._promise(message, doubt=True))
            return
        if message.ballot < acceptor.promised:
            member.nack(message.replica, message.ballot)
            return
        if message.ballot > acceptor.promised:
            if not member.has_room(0):
                return
            self._ballots.met_higher(message.ballot, now)
            member.raise_promise(message.ballot)
        if message.replica != member.id:
            member.timeout_at = now + member.random_timeout()
        member.reply(message.replica, self._promise(message, doubt=False))

    def _promise(self, message: Prepare, *, doubt: bool) -> Promise:
        member = self._member
        return Promise(
            message.request,
            member.id,
            member.incarnation,
            message.ballot,
            member.acceptor.snapshot,
            member.applied,
            doubt,
            member.acceptor.open_slots(message.from_slot),
        )

    def on_accept(self, message: Accept, now: float) -> None:
        """Accept, if nothing higher is promised and the slot is still open here."""
        member = self._member
        acceptor = member.acceptor
        if not member.may_vote:
            return
        if message.ballot < acceptor.promised:
            member.nack(message.replica, message.ballot)
            return
        if message.slot <= acceptor.snapshot:
            # Chosen long ago; the vote for it is forgotten and must not be given again.
            ask = Catchup(message.request, message.replica, message.incarnation, message.slot)
            self._learning.on_catchup(ask)
            return
        known = member.learner.value(message.slot)
        if known is not None and known != message.value:
            member.alarm(f"slot {message.slot}: another value is proposed than was chosen")
            return
        if not member.has_room(len(message.value)):
            return
        self._ballots.met_higher(message.ballot, now)
        record = acceptor.accept(message.ballot, message.slot, message.value)
        if record is not None:
            member.journal(record)
        if message.replica != member.id:
            self._ballots.heard_leader(message.replica, now)
        reply = Accepted(
            message.request, member.id, member.incarnation, message.ballot, message.slot
        )
        member.reply(message.replica, reply)
