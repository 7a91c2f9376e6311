"""What no member's message may bring in, whatever its checksum says."""

from __future__ import annotations

import pytest

from corfu.messages import Accept, Accepted, Message, Nack, OpenSlot, Promise
from corfu.sequencer.member import ALARMS_MAX
from corfu.sequencer.screening import ROUNDS_AHEAD_MAX, SLOTS_AHEAD_MAX
from corfu.types import Ballot, ReplicaId, Slot
from tests.unit.sequencer.group_bench import incarnation
from tests.unit.sequencer.test_votes import NOOP, Solo, candidate, kinds

FRESH = Ballot(1 << 20, ReplicaId(3))
GARBAGE = (b"", b"\xff", b"\x02\x84\x81\x00", NOOP + b"\0")


@pytest.mark.parametrize("value", GARBAGE)
def test_accept_of_what_is_no_command_gets_no_vote(value: bytes) -> None:
    """Chosen, it would stop every replica that comes to apply it, for ever."""
    solo = Solo()
    assert solo.take(solo.accept(FRESH, 1, value), 3) == []
    assert solo.member.acceptor.accepted == {}
    assert len(solo.alarms) == 1
    assert Accepted in kinds(solo.take(solo.accept(FRESH, 1, NOOP), 3))


@pytest.mark.parametrize("value", GARBAGE)
def test_chosen_that_is_no_command_is_not_learnt(value: bytes) -> None:
    solo = Solo()
    assert solo.take(solo.chosen((1, value), until=1)) == []
    assert solo.member.applied == 0
    solo.take(solo.chosen((1, NOOP), until=1))
    assert solo.member.applied == 1


def test_promise_that_tells_of_no_command_is_not_counted() -> None:
    solo = Solo()
    prepare = candidate(solo)
    vote = OpenSlot(Slot(1), Ballot(1, ReplicaId(2)), b"\xff")
    promise = Promise(
        prepare.request, ReplicaId(2), incarnation(2), prepare.ballot, Slot(0), Slot(0), False,
        (vote,),
    )  # fmt: skip
    assert Accept not in kinds(solo.take(promise))


def too_high(round_: int) -> list[Message]:
    solo = Solo()
    ballot = Ballot(round_, ReplicaId(2))
    nack = Nack(
        solo.member.request(), ReplicaId(2), incarnation(2), Ballot(1, ReplicaId(1)), ballot
    )
    return [solo.prepare(ballot), solo.accept(ballot, 1, NOOP), solo.beat(ballot, 0), nack]


@pytest.mark.parametrize("number", range(4))
def test_ballot_far_above_all_known_rounds_is_dropped(number: int) -> None:
    """Of the last round there is no next one: the replica could never propose again."""
    solo = Solo()
    promised = solo.member.acceptor.promised
    for round_ in (2**64 - 1, 2**63, promised.round + 2 * ROUNDS_AHEAD_MAX):
        assert solo.take(too_high(round_)[number]) == []
    assert solo.member.acceptor.promised == promised
    assert solo.member.round_seen < ROUNDS_AHEAD_MAX


def test_alarms_of_ever_new_texts_come_to_an_end() -> None:
    solo = Solo()
    before = len(solo.alarms)
    for number in range(ALARMS_MAX + 50):
        solo.take(solo.accept(Ballot(2**63 + number, ReplicaId(2)), 1, NOOP))
    assert len(solo.alarms) - before <= ALARMS_MAX
    assert len(solo.member._alarmed) <= ALARMS_MAX


def test_accept_for_a_slot_far_above_what_is_applied_gets_no_vote() -> None:
    """The next leader would fill every gap below it with a no-op."""
    solo = Solo()
    assert solo.take(solo.accept(FRESH, SLOTS_AHEAD_MAX + 1, NOOP), 3) == []
    assert solo.member.acceptor.accepted == {}
    assert Accepted in kinds(solo.take(solo.accept(FRESH, SLOTS_AHEAD_MAX, NOOP), 3))
