"""The Paxos models: three acceptors, two proposers, two slots, and what must hold."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import NamedTuple, cast

from corfu.messages import Accept, Accepted, OpenSlot, Prepare, Promise
from corfu.sequencer.proposer import majority
from corfu.types import NO_BALLOT, Ballot, Slot

from .machine import Envelope, Node, Own
from .paxos_node import BALLOT, BEAT, REPLICAS, Facts, ReplicaNode, TellPromise, TellVote, name_of

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
        elected: bool,
        ballots: tuple[int, int] = (1, 1),
        values: tuple[int, int] = (2, 1),
        duplicates: int = 0,
        crashes: int = 0,
    ) -> None:
        """Make a model.

        Args:
            name: Its name.
            elected: Replica 1 leads when the search begins; else nobody does.
            ballots: How many ballots the two proposers start (beside that of the election).
            values: How many values they propose.
            duplicates: How many messages the network duplicates.
            crashes: How often a replica crashes.
        """
        self.name = name
        first = ballots[0] + elected

        def make(number: int) -> Callable[[], Node]:
            own_ballots = {1: first, 2: ballots[1]}.get(number, 0)
            own_values = {1: values[0], 2: values[1]}.get(number, 0)
            return lambda: ReplicaNode(number, ballots=own_ballots, proposals=own_values)

        self.nodes = {name_of(number): make(number) for number in REPLICAS}
        self.budgets = {
            "ballot": first + ballots[1],
            "value": sum(values),
            "duplicate": duplicates,
            "crash": crashes,
        }
        self.ghost: Hashable = Seen()
        start = ((name_of(1), Own(BALLOT, "ballot")), (name_of(1), Own(BEAT)))
        self.prologue: tuple[tuple[str, Own], ...] = start if elected else ()

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


def models() -> dict[str, Paxos]:
    """Return all Paxos models by name."""
    found = (
        Paxos("paxos", elected=True),
        Paxos("paxos-duplicates", elected=True, ballots=(0, 1), duplicates=1),
        Paxos("paxos-crash", elected=True, ballots=(0, 1), values=(2, 1), crashes=1),
        Paxos("paxos-cold", elected=False, ballots=(1, 1), values=(1, 1)),
    )
    return {model.name: model for model in found}
