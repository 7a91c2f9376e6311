"""The proposer's books: one attempt to lead, and the values proposed under its ballot.

Pure. A quorum counts distinct members at exactly one ballot (and slot). Source: Lamport, Paxos Made
Simple (2001), sections 2.2 and 3.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from corfu.layout import Replica
from corfu.messages import OpenSlot, Promise
from corfu.types import NO_BALLOT, Ballot, ReplicaId, RequestId, Slot

from .commands import changes_members
from .state import Outcome

Done = Callable[[Outcome | None], None]
"""Told what applying a command did; None: the term ended first, it may still be chosen."""


def majority(members: int) -> int:
    """Return how many of so many members any two majorities have one in common of."""
    return members // 2 + 1


@dataclass(slots=True)
class Attempt:
    """One try to win a ballot: the votes that came in, by member."""

    ballot: Ballot
    members: tuple[Replica, ...]
    request: RequestId
    from_slot: Slot
    asked_at: float
    granted: set[ReplicaId] = field(default_factory=set)
    promises: dict[ReplicaId, Promise] = field(default_factory=dict)

    def votes(self) -> int:
        """Return how many distinct members have promised."""
        return sum(not promise.doubt for promise in self.promises.values())

    def known_chosen(self) -> tuple[Slot, ReplicaId]:
        """Return up to where anybody who answered knows the chosen values, and who that is.

        It covers every snapshot: at and below one the votes are forgotten, so that no promise
        tells what was chosen there.
        """
        best = max(
            self.promises.values(), key=lambda p: (max(p.chosen_until, p.snapshot), p.replica)
        )
        return max(best.chosen_until, best.snapshot), best.replica

    def tells_of_change(self, above: Slot) -> bool:
        """Tell if a vote above `above` is for a change of the members, perhaps chosen."""
        votes = self.highest(above).values()
        return any(changes_members(vote.value) for vote in votes)

    def highest(self, above: Slot) -> dict[Slot, OpenSlot]:
        """Return, per slot above `above`, the vote with the highest ballot that was told.

        If a value was chosen at a slot, each majority has a member that voted for it, and no
        vote with a higher ballot is for another: so this is that value.
        """
        found: dict[Slot, OpenSlot] = {}
        for promise in self.promises.values():
            for vote in promise.accepted:
                held = found.get(vote.slot)
                if vote.slot > above and (held is None or held.ballot < vote.ballot):
                    found[vote.slot] = vote
        return found


@dataclass(slots=True)
class Proposal:
    """A value proposed at one slot under the leader's ballot."""

    slot: Slot
    value: bytes
    done: Done | None
    sent_at: float
    accepted_by: set[ReplicaId] = field(default_factory=set)
    chosen: bool = False


class Proposals:
    """What a leader has proposed and not yet applied, by slot."""

    def __init__(self) -> None:
        self.ballot = NO_BALLOT
        self._next = Slot(1)
        self._open: dict[Slot, Proposal] = {}

    def begin(self, ballot: Ballot, first: Slot) -> None:
        """Start to propose under `ballot`, from slot `first` on."""
        assert not self._open
        self.ballot = ballot
        self._next = first

    @property
    def next(self) -> Slot:
        """The slot that the next value takes."""
        return self._next

    def add(self, value: bytes, done: Done | None, now: float) -> Proposal:
        """Take the next slot for a value."""
        proposal = Proposal(self._next, value, done, now)
        self._open[self._next] = proposal
        self._next = Slot(self._next + 1)
        return proposal

    def accepted(self, member: ReplicaId, ballot: Ballot, slot: Slot, members: int) -> bytes | None:
        """Count a vote; returns the value if that makes it chosen."""
        proposal = self._open.get(slot)
        # Votes at different ballots make no majority together, however many they are.
        if proposal is None or ballot != self.ballot or proposal.chosen:
            return None
        proposal.accepted_by.add(member)
        if len(proposal.accepted_by) < majority(members):
            return None
        proposal.chosen = True
        return proposal.value

    def overdue(self, now: float, after_s: float) -> list[Proposal]:
        """Return what was sent more than `after_s` ago and is not chosen; counts as sent now."""
        found = [p for p in self._open.values() if not p.chosen and now - p.sent_at >= after_s]
        for proposal in found:
            proposal.sent_at = now
        return found

    def finish(self, slot: Slot, value: bytes) -> Done | None:
        """Drop a slot at which `value` was applied, if it is what was proposed there.

        Returns whom to tell of the outcome.
        """
        proposal = self._open.get(slot)
        # What is applied may have been learnt from another member, and be the value of a higher
        # ballot that this leader has not heard of: its outcome is not that of the own proposal.
        if proposal is None or proposal.value != value:
            return None
        del self._open[slot]
        return proposal.done

    def overtaken(self, applied: Slot) -> bool:
        """Tell if a slot up to `applied` was chosen with a value that was not proposed here."""
        return applied >= self._next or any(slot <= applied for slot in self._open)

    @property
    def changing(self) -> bool:
        """Tell if a change of the members is proposed and not yet applied."""
        return any(changes_members(proposal.value) for proposal in self._open.values())

    def abandon(self) -> list[Done]:
        """Drop all, at the end of a term; returns whom to tell."""
        dropped = [proposal.done for proposal in self._open.values() if proposal.done]
        self._open.clear()
        self.ballot = NO_BALLOT
        return dropped

    def __len__(self) -> int:
        return len(self._open)


def votes_again(answers: Mapping[ReplicaId, Promise], others: int, *, blank: bool) -> bool:
    """Tell if an acceptor in doubt may vote again, once it took over what `answers` tell.

    Args:
        answers: From other members, to its own Prepare; those with `doubt` are no promises.
        others: How many other members there are.
        blank: It was just formatted.
    """
    # Any majority that counted a forgotten vote has a member in every majority of the others,
    # and these have promised a higher ballot since.
    if most_remember(answers, others):
        return True
    wanted = majority(others)
    if blank:
        # Nobody who answered remembers anything: a new group. One who does remember forbids it,
        # for then this folder may stand in the place of one that had voted.
        empty = sum(_is_empty(answer) for answer in answers.values())
        return empty == len(answers) and others - empty < wanted
    # No majority of the others is free of doubt: the power went everywhere at once, and what
    # does not end whole was being written, so it was never answered.
    doubtful = sum(answer.doubt for answer in answers.values())
    return others - doubtful < wanted


def most_remember(answers: Mapping[ReplicaId, Promise], others: int) -> bool:
    """Tell if a majority of the others have answered, and know all that they ever answered."""
    return sum(not answer.doubt for answer in answers.values()) >= majority(others)


def _is_empty(answer: Promise) -> bool:
    return not answer.chosen_until and not answer.snapshot and not answer.accepted
