"""An acceptor against a small model: promises and votes, through restarts and power cuts.

The acceptor is a whole replica on a simulated disk; the model is a number and a dict.
"""

from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from corfu.messages import Accepted, HeartbeatAck, Message, Nack, OpenSlot, Promise
from corfu.sequencer.acceptor import Acceptor, Doubt
from corfu.sequencer.member import Member
from corfu.types import Ballot, ReplicaId, Slot
from tests.unit.machines import Plant, explore
from tests.unit.sequencer.test_votes import Solo, value

BASE = 1 << 20
BALLOTS = st.builds(
    lambda round_, id_: Ballot(BASE + round_, ReplicaId(id_)), st.integers(0, 6), st.integers(2, 3)
)


class AcceptorModel(RuleBasedStateMachine):
    """Replica 1 of three; the machine speaks for the two others, and never chooses anything."""

    def __init__(self) -> None:
        super().__init__()
        self.solo = Solo()
        self.promised = self.solo.member.acceptor.promised
        self.votes: dict[int, tuple[Ballot, bytes]] = {}
        self.proposed: dict[tuple[int, Ballot], bytes] = {}

    @rule(ballot=BALLOTS)
    def prepare(self, ballot: Ballot) -> None:
        """Phase 1: promised if nothing higher is, and all votes are told."""
        reply = self._ask(self.solo.prepare(ballot))
        if self._refused(reply, ballot):
            return
        assert isinstance(reply, Promise)
        assert (reply.ballot, reply.doubt) == (ballot, False)
        told = tuple(OpenSlot(Slot(slot), *self.votes[slot]) for slot in sorted(self.votes))
        assert reply.accepted == told

    @rule(ballot=BALLOTS, slot=st.integers(1, 4), number=st.integers(40, 43))
    def accept(self, ballot: Ballot, slot: int, number: int) -> None:
        """Phase 2: accepted unless something higher is promised."""
        # A proposer proposes one value under one ballot.
        what = self.proposed.setdefault((slot, ballot), value(number))
        reply = self._ask(self.solo.accept(ballot, slot, what))
        if self._refused(reply, ballot):
            return
        assert isinstance(reply, Accepted)
        assert (reply.ballot, reply.slot) == (ballot, slot)
        self.votes[slot] = (ballot, what)

    @rule(ballot=BALLOTS)
    def heartbeat(self, ballot: Ballot) -> None:
        """A leader's heartbeat is promised, too; an old one's is refused."""
        reply = self._ask(self.solo.beat(ballot, 0))
        if not self._refused(reply, ballot):
            assert isinstance(reply, HeartbeatAck)
            assert reply.ballot == ballot

    @rule(power=st.booleans())
    def restart(self, power: bool) -> None:
        """Stop at once. Every answer was durable, so there is nothing to be in doubt about."""
        self.solo.restart(power=power)
        if self.solo.doubt() is not Doubt.NONE:
            # It was nobody's fault: settle as a process does, and see that nothing is missing.
            self.solo.settle()
            self.promised = max(self.promised, self.solo.member.acceptor.promised)

    @invariant()
    def nothing_is_forgotten(self) -> None:
        """Promise and votes are what was answered."""
        acceptor = self.solo.member.acceptor
        assert acceptor.promised == self.promised
        assert acceptor.accepted == self.votes

    def _ask(self, message: Message) -> Message:
        (send,) = self.solo.take(message, message.replica)  # type: ignore[union-attr]
        return send.message

    def _refused(self, reply: Message, ballot: Ballot) -> bool:
        if ballot >= self.promised:
            self.promised = ballot
            return False
        assert isinstance(reply, Nack)
        assert (reply.ballot, reply.promised) == (ballot, self.promised)
        return True


def test_acceptor_after_any_row_of_messages_is_what_the_model_is() -> None:
    explore(AcceptorModel, 100, 40)


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_acceptor_after_very_many_rows_of_messages_is_what_the_model_is() -> None:
    explore(AcceptorModel, 2500, 50)


def promise_is_not_journalled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        Member, "raise_promise", lambda self, ballot: self.acceptor.promise(ballot) and None
    )


def accept_does_not_raise_the_promise(monkeypatch: pytest.MonkeyPatch) -> None:
    accept = Acceptor.accept

    def planted(self, ballot, slot, what):  # type: ignore[no-untyped-def]
        before = self.promised
        record = accept(self, ballot, slot, what)
        self.promised = before
        return record

    monkeypatch.setattr(Acceptor, "accept", planted)


def promise_tells_the_promised_ballot(monkeypatch: pytest.MonkeyPatch) -> None:
    tell = Acceptor.open_slots
    monkeypatch.setattr(
        Acceptor,
        "open_slots",
        lambda self, from_slot: tuple(
            OpenSlot(each.slot, self.promised, each.value) for each in tell(self, from_slot)
        ),
    )


@pytest.mark.parametrize(
    "plant",
    [
        promise_is_not_journalled,
        accept_does_not_raise_the_promise,
        promise_tells_the_promised_ballot,
    ],
)
def test_acceptor_model_finds_a_planted_bug(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch)
    with pytest.raises(AssertionError):
        explore(AcceptorModel, 200, 40, shrink=False)
