"""The rules of Lamport, Paxos Made Simple (2001), and those that snapshots add: one test each."""

from __future__ import annotations

from corfu.messages import OpenSlot, Promise
from corfu.sequencer.acceptor import AcceptedRecord, Acceptor, Doubt, PromisedRecord
from corfu.sequencer.proposer import Attempt, Proposals, majority, votes_again
from corfu.types import NO_BALLOT, Ballot, Incarnation, ReplicaId, RequestId, Slot

ONE, TWO, THREE = ReplicaId(1), ReplicaId(2), ReplicaId(3)
LOW, HIGH, HIGHER = Ballot(1, ONE), Ballot(2, TWO), Ballot(3, ONE)
REQUEST = RequestId(Incarnation(bytes(16)), 1)


def acceptor(doubt: Doubt = Doubt.NONE) -> Acceptor:
    return Acceptor(NO_BALLOT, {}, Slot(0), doubt)


def promise(
    replica: ReplicaId,
    accepted: tuple[OpenSlot, ...] = (),
    *,
    chosen_until: int = 0,
    snapshot: int = 0,
    doubt: bool = False,
) -> Promise:
    return Promise(
        REQUEST, replica, Incarnation(bytes(16)), HIGHER, Slot(snapshot), Slot(chosen_until),
        doubt, accepted,
    )  # fmt: skip


def attempt(*promises: Promise) -> Attempt:
    made = Attempt(HIGHER, (), REQUEST, Slot(1), 0.0)
    made.promises = {each.replica: each for each in promises}
    return made


def test_acceptor_promise_is_journalled_once() -> None:
    """Section 2.2, phase 1b."""
    one = acceptor()
    assert one.promise(HIGH) == PromisedRecord(HIGH)
    assert one.promise(HIGH) is None


def test_acceptor_accepting_raises_the_promise() -> None:
    """Section 2.2, P1a: it accepts only if it has not promised higher; accepting promises."""
    one = acceptor()
    assert one.accept(HIGH, Slot(1), b"v") == AcceptedRecord(Slot(1), HIGH, b"v")
    assert one.promised == HIGH


def test_acceptor_tells_the_accepted_ballot_never_the_promised() -> None:
    """Section 2.2, phase 1b: "the highest-numbered proposal that it has accepted"."""
    one = acceptor()
    one.accept(LOW, Slot(1), b"v")
    one.promise(HIGHER)
    assert one.open_slots(Slot(1)) == (OpenSlot(Slot(1), LOW, b"v"),)


def test_acceptor_tells_slots_in_order_from_the_asked_one() -> None:
    one = acceptor()
    for slot in (3, 1, 2):
        one.accept(LOW, Slot(slot), b"v")
    assert [vote.slot for vote in one.open_slots(Slot(2))] == [2, 3]


def test_acceptor_same_vote_again_is_not_journalled_again() -> None:
    one = acceptor()
    one.accept(LOW, Slot(1), b"v")
    assert one.accept(LOW, Slot(1), b"v") is None
    assert one.accept(HIGH, Slot(1), b"v") is not None


def test_acceptor_forgets_votes_only_up_to_the_snapshot() -> None:
    one = acceptor()
    one.accept(LOW, Slot(1), b"v")
    one.accept(LOW, Slot(2), b"w")
    one.forget(Slot(1))
    assert one.snapshot == 1
    assert [vote.slot for vote in one.open_slots(Slot(1))] == [2]


def test_acceptor_in_doubt_does_not_vote_until_settled() -> None:
    one = acceptor(Doubt.TORN)
    assert not one.votes
    one.promise(HIGHER)
    records = one.settle([OpenSlot(Slot(1), HIGH, b"v")])
    assert records == [AcceptedRecord(Slot(1), HIGH, b"v"), PromisedRecord(HIGHER, settled=True)]
    assert one.votes
    assert one.open_slots(Slot(1)) == (OpenSlot(Slot(1), HIGH, b"v"),)


def test_acceptor_settling_keeps_its_own_higher_vote() -> None:
    one = Acceptor(HIGHER, {Slot(1): (HIGH, b"own")}, Slot(0), Doubt.TORN)
    one.settle([OpenSlot(Slot(1), LOW, b"told")])
    assert one.open_slots(Slot(1)) == (OpenSlot(Slot(1), HIGH, b"own"),)


def test_proposer_takes_the_value_with_the_highest_ballot_of_each_slot() -> None:
    """Section 2.2, P2c."""
    won = attempt(
        promise(ONE, (OpenSlot(Slot(1), LOW, b"low"), OpenSlot(Slot(3), LOW, b"three"))),
        promise(TWO, (OpenSlot(Slot(1), HIGH, b"high"),)),
    )
    assert {slot: vote.value for slot, vote in won.highest(Slot(0)).items()} == {
        1: b"high",
        3: b"three",
    }


def test_proposer_ignores_votes_at_slots_known_chosen() -> None:
    won = attempt(promise(ONE, (OpenSlot(Slot(1), LOW, b"v"),)))
    assert won.highest(Slot(1)) == {}


def test_proposer_behind_a_snapshot_must_catch_up_with_it_first() -> None:
    """Below a snapshot the votes are forgotten: silence there does not mean a gap."""
    won = attempt(promise(ONE, chosen_until=4), promise(TWO, chosen_until=9, snapshot=8))
    assert won.known_chosen() == (9, TWO)


def test_quorum_counts_distinct_members_at_exactly_one_ballot() -> None:
    """Section 2.2: a value is chosen when a majority has accepted one proposal."""
    proposals = Proposals()
    proposals.begin(HIGH, Slot(5))
    slot = proposals.add(b"v", None, 0.0).slot
    assert proposals.accepted(ONE, HIGH, slot, 3) is None
    assert proposals.accepted(ONE, HIGH, slot, 3) is None
    assert proposals.accepted(TWO, LOW, slot, 3) is None
    assert proposals.accepted(TWO, HIGH, Slot(slot + 1), 3) is None
    assert proposals.accepted(TWO, HIGH, slot, 3) == b"v"
    assert proposals.accepted(THREE, HIGH, slot, 3) is None


def test_majorities_of_any_size_intersect() -> None:
    assert [majority(n) for n in (1, 2, 3, 4, 5)] == [1, 2, 2, 3, 3]


def test_promise_of_an_acceptor_in_doubt_is_no_vote() -> None:
    assert attempt(promise(ONE), promise(TWO, doubt=True)).votes() == 1


def votes(*answers: Promise, others: int = 2, blank: bool = False) -> bool:
    return votes_again({each.replica: each for each in answers}, others, blank=blank)


def test_doubt_ends_with_a_majority_of_the_others_free_of_it() -> None:
    assert not votes(promise(ONE))
    assert votes(promise(ONE), promise(TWO))


def test_doubt_counts_as_torn_when_no_majority_of_the_others_is_free_of_it() -> None:
    assert votes(promise(ONE, doubt=True))
    assert not votes(promise(ONE, doubt=True), others=4)
    assert votes(promise(ONE, doubt=True), promise(TWO, doubt=True), others=4)


def test_doubt_of_a_group_of_one_ends_at_once() -> None:
    assert votes(others=0)
    assert votes(others=0, blank=True)


def test_blank_acceptor_does_not_vote_where_anybody_remembers() -> None:
    assert votes(promise(ONE, doubt=True), blank=True)
    assert not votes(promise(ONE, doubt=True), promise(TWO, chosen_until=5), blank=True)
    assert votes(promise(ONE), promise(TWO, chosen_until=5), blank=True)
