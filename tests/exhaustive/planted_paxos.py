"""Bugs in Paxos: each function's first line says which rule it breaks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from corfu.journal.format import RecordHeader
from corfu.messages import Accept, Accepted, Heartbeat, OpenSlot, PaxosMessage, Prepare
from corfu.sequencer import member as member_module
from corfu.sequencer import proposer as proposer_module
from corfu.sequencer import storage as storage_module
from corfu.sequencer.acceptor import AcceptedRecord, Acceptor
from corfu.sequencer.learning import Learning
from corfu.sequencer.member import Member
from corfu.sequencer.proposer import Attempt, Proposals
from corfu.sequencer.term import Term
from corfu.sequencer.voting import Voting
from corfu.types import Ballot, ReplicaId, Slot

from .planting import Patch


def _accept_keeps_promise() -> tuple[Patch, ...]:
    """Accept does not raise the promised ballot."""

    def accept(self: Acceptor, ballot: Ballot, slot: Slot, value: bytes) -> AcceptedRecord | None:
        if self.accepted.get(slot) == (ballot, value):
            return None
        self.accepted[slot] = (ballot, value)
        return AcceptedRecord(slot, ballot, value)

    return (Patch(Acceptor, "accept", accept),)


def _promise_tells_promised() -> tuple[Patch, ...]:
    """A promise tells the promised ballot in the place of the accepted one."""

    def open_slots(self: Acceptor, from_slot: Slot) -> tuple[OpenSlot, ...]:
        return tuple(
            OpenSlot(slot, self.promised, self.accepted[slot][1])
            for slot in sorted(self.accepted)
            if slot >= from_slot
        )

    return (Patch(Acceptor, "open_slots", open_slots),)


def _lower_ballot_accepted() -> tuple[Patch, ...]:
    """An acceptor accepts below its promise (< for <=, the wrong way round)."""
    on_accept = Voting.on_accept

    def careless(self: Voting, message: Accept, now: float) -> None:
        acceptor = self._member.acceptor
        acceptor.promised = min(acceptor.promised, message.ballot)
        on_accept(self, message, now)

    return (Patch(Voting, "on_accept", careless),)


def _lower_ballot_promised() -> tuple[Patch, ...]:
    """An acceptor promises a ballot that is lower than what it has promised."""
    on_prepare = Voting.on_prepare

    def careless(self: Voting, message: Prepare, now: float) -> None:
        acceptor = self._member.acceptor
        acceptor.promised = min(acceptor.promised, message.ballot)
        on_prepare(self, message, now)

    return (Patch(Voting, "on_prepare", careless),)


def _votes_of_one_node_counted_twice() -> tuple[Patch, ...]:
    """A duplicated Accepted counts as the vote of another member."""

    def accepted(
        self: Proposals, member: ReplicaId, ballot: Ballot, slot: Slot, members: int
    ) -> bytes | None:
        proposal = self._open.get(slot)
        if proposal is None or ballot != self.ballot or proposal.chosen:
            return None
        proposal.accepted_by.add(ReplicaId(member + 100 * len(proposal.accepted_by)))
        if len(proposal.accepted_by) < proposer_module.majority(members):
            return None
        proposal.chosen = True
        return proposal.value

    return (Patch(Proposals, "accepted", accepted),)


def _votes_of_other_ballots_counted() -> tuple[Patch, ...]:
    """A vote counts whatever its ballot is."""
    accepted = Proposals.accepted

    def careless(
        self: Proposals, member: ReplicaId, ballot: Ballot, slot: Slot, members: int
    ) -> bytes | None:
        return accepted(self, member, self.ballot, slot, members)

    return (Patch(Proposals, "accepted", careless),)


def _half_is_a_majority() -> tuple[Patch, ...]:
    """Half of the members, rounded down, is taken for a majority."""

    def half(members: int) -> int:
        return members // 2

    return (Patch(proposer_module, "majority", half), Patch(member_module, "majority", half))


def _promise_not_durable() -> tuple[Patch, ...]:
    """A promise is not journalled."""

    def raise_promise(self: Member, ballot: Ballot) -> None:
        self.acceptor.promise(ballot)

    return (Patch(Member, "raise_promise", raise_promise),)


def _accepted_before_durable() -> tuple[Patch, ...]:
    """Accepted leaves before the vote is durable."""
    reply = Member.reply

    def hasty(self: Member, to: ReplicaId, message: PaxosMessage, *, ordered: bool = True) -> None:
        reply(self, to, message, ordered=ordered and not isinstance(message, Accepted))

    return (Patch(Member, "reply", hasty),)


def _votes_found_are_ignored() -> tuple[Patch, ...]:
    """A new leader does not propose again what was voted for."""

    def nothing(self: Attempt, above: Slot) -> dict[Slot, OpenSlot]:
        return {}

    return (Patch(Attempt, "highest", nothing),)


def _lowest_vote_wins() -> tuple[Patch, ...]:
    """A new leader proposes the value with the lowest ballot."""

    def lowest(self: Attempt, above: Slot) -> dict[Slot, OpenSlot]:
        found: dict[Slot, OpenSlot] = {}
        for promise in self.promises.values():
            for vote in promise.accepted:
                held = found.get(vote.slot)
                if vote.slot > above and (held is None or held.ballot > vote.ballot):
                    found[vote.slot] = vote
        return found

    return (Patch(Attempt, "highest", lowest),)


def _notice_of_any_ballot() -> tuple[Patch, ...]:
    """A commit notice applies what was accepted at whatever ballot."""

    def take_notice(self: Learning, message: Heartbeat, now: float) -> None:
        member = self._member
        while member.applied < message.chosen_until:
            vote = member.acceptor.accepted.get(Slot(member.applied + 1))
            if vote is None:
                return
            self.learn(Slot(member.applied + 1), vote[1], now)

    return (Patch(Learning, "take_notice", take_notice),)


def _one_vote_applies() -> tuple[Patch, ...]:
    """A leader applies its value when the first vote for it comes."""

    def on_accepted(self: Term, message: Accepted, now: float) -> None:
        value = self._proposals.accepted(message.replica, message.ballot, message.slot, 1)
        if value is not None:
            self._learning.learn(message.slot, value, now)

    return (Patch(Term, "on_accepted", on_accepted),)


def _restart_forgets_votes() -> tuple[Patch, ...]:
    """A restart takes back promises from the journal, but no votes."""
    replay = storage_module._Replayed.replay

    def forgetful(self: Any, place: Any, header: RecordHeader, body: bytes) -> None:
        if header.kind != storage_module._Kind.ACCEPTED:
            replay(self, place, header, body)

    return (Patch(storage_module._Replayed, "replay", forgetful),)


Bugs = dict[str, tuple[str, Callable[[], tuple[Patch, ...]]]]

PAXOS_BUGS: Bugs = {
    "accept-keeps-promise": ("paxos-two-slots", _accept_keeps_promise),
    "promise-tells-promised": ("paxos-two-slots", _promise_tells_promised),
    "lower-ballot-accepted": ("paxos-two-slots", _lower_ballot_accepted),
    "lower-ballot-promised": ("paxos-two-slots", _lower_ballot_promised),
    "votes-counted-twice": ("paxos-duplicates", _votes_of_one_node_counted_twice),
    "votes-of-other-ballots": ("paxos-crash-leader", _votes_of_other_ballots_counted),
    "half-is-a-majority": ("paxos-two-slots", _half_is_a_majority),
    "promise-not-durable": ("paxos-two-slots", _promise_not_durable),
    "accepted-before-durable": ("paxos-two-slots", _accepted_before_durable),
    "votes-found-ignored": ("paxos-one-slot", _votes_found_are_ignored),
    "lowest-vote-wins": ("paxos-third-ballot", _lowest_vote_wins),
    "notice-of-any-ballot": ("paxos-lone-vote", _notice_of_any_ballot),
    "one-vote-applies": ("paxos-two-slots", _one_vote_applies),
    "restart-forgets-votes": ("paxos-crash-leader", _restart_forgets_votes),
}
