"""The Paxos models: three acceptors, two proposers, two slots, and what must hold."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import NamedTuple, cast

from corfu.messages import Accept, Accepted, OpenSlot, Prepare, Promise
from corfu.sequencer.proposer import majority
from corfu.types import NO_BALLOT, Ballot, Slot

from .machine import Envelope, Node, Own
from .model import Opening
from .paxos_node import (
    BALLOT,
    BEAT,
    PROPOSE,
    REPLICAS,
    Facts,
    ReplicaNode,
    TellPromise,
    TellVote,
    name_of,
)

_MAJORITY = 2
assert majority(len(REPLICAS)) == _MAJORITY


class Seen(NamedTuple):
    """All votes that were ever durable, and the highest promise that each replica has sent."""

    votes: frozenset[TellVote] = frozenset()
    promises: tuple[Ballot, ...] = (NO_BALLOT,) * len(REPLICAS)

    def chosen(self) -> dict[Slot, set[bytes]]:
        """Return which values a majority has voted for at one ballot."""
        by: dict[tuple[Slot, Ballot, bytes], set[int]] = {}
        for number, slot, ballot, value in self.votes:
            by.setdefault((slot, ballot, value), set()).add(number)
        found: dict[Slot, set[bytes]] = {}
        for (slot, _, value), voters in by.items():
            if len(voters) >= _MAJORITY:
                found.setdefault(slot, set()).add(value)
        return found


class Paxos:
    """Three replicas, two of which propose."""

    def __init__(
        self,
        name: str,
        *,
        prologue: tuple[Opening, ...] = (),
        ballots: tuple[int, int] = (1, 1),
        values: tuple[int, int] = (2, 1),
        beats: int = 1,
        duplicates: int = 0,
        crashes: int = 0,
    ) -> None:
        """Make a model.

        Args:
            name: Its name.
            prologue: What happens before the search begins; uses up nothing of the rest.
            ballots: How many ballots the two proposers start.
            values: How many values they propose.
            beats: How many heartbeats leaders send that tell of something chosen.
            duplicates: How many messages the network duplicates.
            crashes: How often a replica crashes.
        """
        self.name = name
        begun = [sum(opening.own.name == BALLOT for opening in _of(prologue, n)) for n in (1, 2)]
        done = [sum(opening.own.name == PROPOSE for opening in _of(prologue, n)) for n in (1, 2)]

        def make(number: int) -> Callable[[], Node]:
            at = number - 1
            own_ballots = ballots[at] + begun[at] if at < len(ballots) else 0
            own_values = values[at] + done[at] if at < len(values) else 0
            return lambda: ReplicaNode(number, ballots=own_ballots, proposals=own_values)

        self.nodes = {name_of(number): make(number) for number in REPLICAS}
        self.budgets = {
            "ballot": sum(ballots),
            "value": sum(values),
            "beat": beats,
            "duplicate": duplicates,
            "crash": crashes,
        }
        self.ghost: Hashable = Seen()
        self.prologue = prologue

    def observe(self, ghost: Hashable, told: Hashable) -> Hashable | str:
        seen = cast("Seen", ghost)
        match told:
            case TellVote():
                return _voted(seen, told)
            case TellPromise():
                return _promised(seen, told)
            case _:
                raise AssertionError(told)

    def wrong(self, facts: tuple[Hashable, ...], ghost: Hashable) -> str:
        """Applied only what is chosen, and one value each."""
        chosen = cast("Seen", ghost).chosen()
        for each in cast("tuple[Facts, ...]", facts):
            for slot, value in each.applied:
                if chosen.get(slot) != {value}:
                    return (
                        f"r{each.number} applied {value.hex()} at slot {slot}: not what is chosen"
                    )
        return ""

    def wrong_message(self, facts: Hashable, envelope: Envelope) -> str:
        """Durable before it leaves: what a message says, its sender's disk says."""
        durable = cast("Facts", facts).durable
        votes = {slot: ballot for slot, ballot, _ in durable.accepted}
        match envelope.message:
            case Prepare(ballot=ballot) | Promise(ballot=ballot) | Accept(ballot=ballot):
                if durable.promised < ballot:
                    return f"{envelope}: its sender's disk has promised {durable.promised} only"
            case Accepted(ballot=ballot, slot=slot):
                if votes.get(slot, NO_BALLOT) < ballot:
                    return f"{envelope}: the vote is not durable"
            case _:
                pass
        return ""

    def wrong_at_rest(self, facts: tuple[Hashable, ...], ghost: Hashable) -> str:
        """Nothing more: that something is chosen in the end is a matter of time."""
        return ""


def _voted(seen: Seen, told: TellVote) -> Seen | str:
    number, slot, ballot, value = told
    if ballot < seen.promises[number - 1]:
        return f"r{number} voted at {ballot} after it had promised {seen.promises[number - 1]}"
    for _, other_slot, other_ballot, other in seen.votes:
        if (other_slot, other_ballot) == (slot, ballot) and other != value:
            return f"two values at slot {slot}, ballot {ballot}"
    after = seen._replace(votes=seen.votes | {told})
    for at, values in after.chosen().items():
        if len(values) > 1:
            return f"two values chosen at slot {at}: {', '.join(sorted(v.hex() for v in values))}"
    return after


def _promised(seen: Seen, told: TellPromise) -> Seen | str:
    number, ballot, accepted = told
    by_slot = {vote.slot: vote for vote in accepted}
    for voter, slot, voted, _ in seen.votes:
        known = by_slot.get(slot)
        if voter == number and known is not None and known.ballot < voted < ballot:
            return f"r{number} promised {ballot} and told an older vote of slot {slot}"
    for vote in accepted:
        if (number, *_fields(vote)) not in seen.votes:
            return f"r{number} promised {ballot} and told a vote it never gave: {vote}"
    promises = list(seen.promises)
    promises[number - 1] = max(promises[number - 1], ballot)
    return seen._replace(promises=tuple(promises))


def _fields(vote: OpenSlot) -> tuple[Slot, Ballot, bytes]:
    return vote.slot, vote.ballot, vote.value


def _of(prologue: tuple[Opening, ...], number: int) -> list[Opening]:
    return [opening for opening in prologue if opening.node == name_of(number)]


def _opening(number: int, own: str, budget: str, *hears: int) -> Opening:
    return Opening(name_of(number), Own(own, budget), frozenset(map(name_of, hears)))


ELECTED = (_opening(1, BALLOT, "ballot", 1, 2, 3), _opening(1, BEAT, "beat", 1, 2, 3))
"""Replica 1 leads, and its no-op in slot 1 is applied everywhere."""

LONE_VOTE = (*ELECTED, _opening(1, PROPOSE, "value", 1))
"""And it has voted alone for a value in slot 2."""

THIRD_BALLOT = (*LONE_VOTE, _opening(2, BALLOT, "ballot", 2, 3))
"""And the two others have chosen another one there, at a higher ballot."""


def models() -> dict[str, Paxos]:
    """Return all Paxos models by name."""
    found = (
        Paxos("paxos-one-slot", prologue=ELECTED, ballots=(0, 1), values=(1, 0), beats=0),
        Paxos("paxos-two-slots", prologue=ELECTED),
        Paxos("paxos-lone-vote", prologue=LONE_VOTE, ballots=(0, 1), values=(0, 1)),
        Paxos("paxos-third-ballot", prologue=THIRD_BALLOT, ballots=(1, 0), values=(0, 0)),
        Paxos("paxos-duplicates", prologue=ELECTED, ballots=(0, 1), duplicates=1),
        Paxos(
            "paxos-crash-leader",
            prologue=ELECTED,
            ballots=(1, 0),
            values=(1, 0),
            beats=0,
            crashes=1,
        ),
        Paxos("paxos-crash", prologue=ELECTED, ballots=(0, 1), crashes=1),
        Paxos("paxos-cold", ballots=(1, 1), values=(1, 1)),
    )
    return {model.name: model for model in found}
