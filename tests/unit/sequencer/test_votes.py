"""One replica of three, the others played by the test: what is durable when, what it waits for."""

from __future__ import annotations

import random
from collections.abc import Sequence

from corfu import schema
from corfu.effects import Effect, Persist, Send
from corfu.journal.execute import execute_all
from corfu.messages import (
    Accept,
    Accepted,
    Catchup,
    Chosen,
    ChosenValue,
    GetTail,
    Heartbeat,
    HeartbeatAck,
    Message,
    Nack,
    OpenSlot,
    Prepare,
    PreVote,
    PreVoted,
    Promise,
    SetGoal,
    TailIs,
    Trim,
)
from corfu.sequencer.acceptor import Doubt
from corfu.sequencer.commands import ActivateLayout, Command, Noop, RegisterUnit, SealedUnit, encode
from corfu.sequencer.identity import read_identity
from corfu.sequencer.member import Phase
from corfu.sequencer.process import format_replica
from corfu.sequencer.replica import Replica
from corfu.sequencer.state import first_state
from corfu.sequencer.storage import restore, snapshot_operations
from corfu.tools.sim.disk import SimDisk
from corfu.types import Address, Ballot, Offset, ReplicaId, RequestId, Slot
from tests.unit.sequencer.group_bench import (
    CLIENT,
    SETTINGS,
    bootstrap,
    incarnation,
    replica_address,
    same_chains,
)
from tests.unit.sequencer.test_machine import unit

FORMATTED = first_state(bootstrap().layout()).formatted
LOW, HIGH = Ballot(5, ReplicaId(2)), Ballot(9, ReplicaId(3))
NOOP = encode(Noop())


def value(number: int) -> bytes:
    return encode(RegisterUnit(unit(number)))


class Solo:
    """Replica 1; its disk is synced after each event unless `lazy`."""

    def __init__(self, *, settled: bool = True) -> None:
        self.disk = SimDisk()
        self.now = 0.0
        self.lazy = False
        self.alarms: list[str] = []
        self._sequence = 0
        format_replica(
            self.disk,
            replica=ReplicaId(1),
            incarnation=incarnation(1),
            bootstrap=bootstrap(),
            settings=SETTINGS,
        )
        self.start()
        if settled:
            self.settle()

    def start(self) -> None:
        identity = read_identity(self.disk)
        self.core = Replica(
            identity=identity,
            session=incarnation(500 + self._sequence),
            settings=SETTINGS,
            restored=restore(self.disk, identity, SETTINGS),
            rng=random.Random(1),
            listener=self,
            now=self.now,
        )
        self.group = self.core.group
        self.member = self.group._member

    def settle(self) -> None:
        prepare = self.until(Prepare)
        self.take(self.promise(2, prepare, doubt=True))
        assert self.doubt() is Doubt.NONE

    def leading(self, ballot: Ballot) -> None: ...

    def deposed(self) -> None: ...

    def trim(self, request: Trim, sender: Address) -> None: ...
    def set_goal(self, request: SetGoal, sender: Address) -> None: ...

    def expelled(self) -> None:
        raise AssertionError("nobody is replaced here")

    def alarm(self, text: str) -> None:
        self.alarms.append(text)

    def run(self, effects: Sequence[Effect]) -> list[Send]:
        """Commit, then deliver what it sends to itself; returns all sends."""
        sends = [effect for effect in effects if isinstance(effect, Send)]
        if not self.lazy:
            self.commit()
            for send in list(sends):
                if send.to == replica_address(1):
                    sends += self.take(send.message, 1)
        return sends

    def commit(self) -> None:
        while self.core.journal.dirty:
            execute_all(self.disk, self.core.journal.cut())
            self.core.journal.committed()

    def take(self, message: Message, source: int = 2) -> list[Send]:
        return self.run(self.core.handle(message, replica_address(source), self.now))

    def until(self, kind: type[Message]) -> Message:
        """Let time pass until it sends a message of this kind; returns that."""
        for _ in range(100):
            assert self.core.deadline is not None
            self.now = max(self.now, self.core.deadline)
            sends = self.run(self.core.tick(self.now))
            if kind in kinds(sends):
                return self.only(kind, sends)
        raise AssertionError(f"no {kind.__name__} was sent")

    def only(self, kind: type[Message], sends: list[Send]) -> Message:
        return next(send.message for send in sends if isinstance(send.message, kind))

    def restart(self, *, power: bool = True) -> None:
        if power:
            self.disk.power_cut(random.Random(2))
        else:
            self.disk.kill()
        self.start()

    def request(self) -> RequestId:
        self._sequence += 1
        return RequestId(incarnation(2), self._sequence)

    def doubt(self) -> Doubt:
        return self.group.doubt

    # What the others say.

    def promise(
        self,
        number: int,
        prepare: Message,
        *accepted: OpenSlot,
        chosen_until: int = 0,
        doubt: bool = False,
    ) -> Promise:
        assert isinstance(prepare, Prepare)
        return Promise(
            prepare.request, ReplicaId(number), incarnation(number), prepare.ballot, Slot(0),
            Slot(chosen_until), doubt, accepted,
        )  # fmt: skip

    def prepare(self, ballot: Ballot) -> Prepare:
        id_ = ballot.replica
        return Prepare(self.request(), id_, incarnation(id_), FORMATTED, ballot, Slot(1))

    def accept(self, ballot: Ballot, slot: int, what: bytes) -> Accept:
        id_ = ballot.replica
        return Accept(self.request(), id_, incarnation(id_), ballot, Slot(slot), what)

    def beat(self, ballot: Ballot, chosen_until: int) -> Heartbeat:
        id_ = ballot.replica
        return Heartbeat(
            self.request(), id_, incarnation(id_), FORMATTED, ballot, 1, Slot(chosen_until)
        )

    def chosen(self, *values: tuple[int, bytes], snapshot: int = 0, until: int = 0) -> Chosen:
        state = schema.pack(self.core.state) if snapshot else b""
        return Chosen(
            self.request(), ReplicaId(2), incarnation(2), Slot(snapshot), state,
            tuple(ChosenValue(Slot(slot), what) for slot, what in values), Slot(until),
        )  # fmt: skip


def kinds(sends: list[Send]) -> list[type[Message]]:
    return [type(send.message) for send in sends]


def ordered(effects: list[Effect], kind: type[Message]) -> list[bool]:
    return [e.ordered for e in effects if isinstance(e, Send) and isinstance(e.message, kind)]


# What must be durable first.


def test_promise_waits_for_the_journal_and_survives_a_power_cut() -> None:
    solo = Solo()
    ballot = Ballot(1 << 20, ReplicaId(2))
    effects = solo.core.handle(solo.prepare(ballot), replica_address(2), solo.now)
    assert Persist() in effects
    assert ordered(effects, Promise) == [True]
    solo.commit()
    solo.restart()
    assert solo.member.acceptor.promised == ballot


def test_vote_waits_for_the_journal_and_survives_a_power_cut() -> None:
    solo = Solo()
    ballot = Ballot(1 << 20, ReplicaId(2))
    accept = solo.accept(ballot, 1, value(40))
    effects = solo.core.handle(accept, replica_address(2), solo.now)
    assert ordered(effects, Accepted) == [True]
    # The same again is not journalled again, but its answer waits for the first all the same.
    again = solo.core.handle(accept, replica_address(2), solo.now)
    assert ordered(again, Accepted) == [True]
    assert Persist() not in again
    solo.commit()
    solo.restart()
    assert solo.member.acceptor.accepted == {1: (ballot, value(40))}
    assert solo.member.acceptor.promised == ballot


def test_heartbeat_of_a_higher_ballot_is_promised_durably_before_its_answer() -> None:
    solo = Solo()
    ballot = Ballot(1 << 20, ReplicaId(2))
    effects = solo.core.handle(solo.beat(ballot, 0), replica_address(2), solo.now)
    assert Persist() in effects
    assert ordered(effects, HeartbeatAck) == [True]
    solo.commit()
    solo.restart()
    assert solo.member.acceptor.promised == ballot


def candidate(solo: Solo) -> Prepare:
    """Win the pre-vote; returns the Prepare."""
    ask = solo.until(PreVote)
    assert isinstance(ask, PreVote)
    granted = PreVoted(
        ask.request, ReplicaId(2), incarnation(2), ask.ballot, granted=True,
        promised=Ballot(0, ReplicaId(0)),
    )  # fmt: skip
    prepare = solo.only(Prepare, solo.take(granted))
    assert isinstance(prepare, Prepare)
    return prepare


def test_ballot_is_durable_at_its_owner_before_anybody_sees_it() -> None:
    solo = Solo()
    ask = solo.until(PreVote)
    assert isinstance(ask, PreVote)
    granted = PreVoted(
        ask.request, ReplicaId(2), incarnation(2), ask.ballot, granted=True,
        promised=Ballot(0, ReplicaId(0)),
    )  # fmt: skip
    effects = solo.core.handle(granted, replica_address(2), solo.now)
    assert Persist() in effects
    assert set(ordered(effects, Prepare)) == {True}
    solo.commit()
    solo.restart()
    assert solo.member.acceptor.promised >= ask.ballot


# Refusals.


def test_lower_ballot_is_refused_with_the_promised_one() -> None:
    solo = Solo()
    high = Ballot(1 << 20, ReplicaId(3))
    low = Ballot(1 << 19, ReplicaId(2))
    solo.take(solo.prepare(high), 3)
    for message in (solo.prepare(low), solo.accept(low, 1, NOOP), solo.beat(low, 0)):
        (send,) = solo.take(message)
        assert isinstance(send.message, Nack)
        assert send.message.promised == high


def test_accept_at_or_below_the_snapshot_is_answered_with_what_is_chosen() -> None:
    solo = Solo()
    solo.take(solo.chosen((1, value(40)), (2, value(41)), until=2))
    execute_all(solo.disk, snapshot_operations(Slot(2), solo.core.state))
    solo.core.snapshot_saved(Slot(2), solo.now)
    (send,) = solo.take(solo.accept(Ballot(1 << 20, ReplicaId(2)), 1, NOOP))
    assert isinstance(send.message, Chosen)
    assert [each.slot for each in send.message.values] == [1, 2]


def test_accept_of_another_value_than_was_chosen_alarms() -> None:
    solo = Solo()
    solo.take(solo.chosen((1, value(40)), until=1))
    assert solo.take(solo.accept(Ballot(1 << 20, ReplicaId(2)), 1, NOOP)) == []
    assert solo.alarms


def test_replica_in_doubt_neither_votes_nor_confirms_a_leader() -> None:
    solo = Solo(settled=False)
    ballot = Ballot(1 << 20, ReplicaId(2))
    assert solo.take(solo.accept(ballot, 1, NOOP)) == []
    assert HeartbeatAck not in kinds(solo.take(solo.beat(ballot, 0)))
    (send,) = solo.take(solo.prepare(ballot._replace(round=ballot.round + 1)))
    assert isinstance(send.message, Promise)
    assert send.message.doubt


# Recovering open slots.


def test_new_leader_behind_what_is_known_chosen_fetches_before_it_proposes() -> None:
    solo = Solo()
    prepare = candidate(solo)
    sends = solo.take(solo.promise(2, prepare, chosen_until=3))
    assert Catchup in kinds(sends)
    assert Accept not in kinds(sends)
    values = tuple((slot, value(40 + slot)) for slot in (1, 2, 3))
    sends = solo.take(solo.chosen(*values, until=3))
    slots = [send.message.slot for send in sends if isinstance(send.message, Accept)]
    assert set(slots) == {4}


def test_new_leader_proposes_the_highest_votes_fills_gaps_and_adds_its_own() -> None:
    solo = Solo()
    prepare = candidate(solo)
    votes = (OpenSlot(Slot(1), LOW, value(40)), OpenSlot(Slot(3), HIGH, value(41)))
    sends = solo.take(solo.promise(2, prepare, *votes))
    proposed = {
        send.message.slot: send.message.value for send in sends if isinstance(send.message, Accept)
    }
    assert proposed == {1: value(40), 2: NOOP, 3: value(41), 4: NOOP}
    assert solo.group.phase is Phase.RECOVERING


def accept_all(solo: Solo, sends: list[Send]) -> list[Send]:
    """Answer each Accept as replica 2 would."""
    answers: list[Send] = []
    for send in sends:
        if isinstance(send.message, Accept) and send.to == replica_address(2):
            message = send.message
            accepted = Accepted(
                message.request, ReplicaId(2), incarnation(2), message.ballot, message.slot
            )
            answers += solo.take(accepted)
    return answers


def elected(solo: Solo) -> None:
    prepare = candidate(solo)
    accept_all(solo, solo.take(solo.promise(2, prepare)))
    assert solo.group.leads


def test_own_vote_counts_only_once_it_is_durable() -> None:
    solo = Solo()
    prepare = candidate(solo)
    solo.lazy = True
    sends = solo.take(solo.promise(2, prepare))
    accept_all(solo, sends)
    # Replica 2 has voted; the own vote is on no disk yet.
    assert solo.group.applied == 0
    solo.lazy = False
    solo.commit()
    own = solo.only(Accepted, [send for send in sends if send.to == replica_address(1)])
    solo.take(own, 1)
    assert solo.group.applied == 1


def test_leader_that_meets_a_higher_ballot_stops_and_tells_who_waits() -> None:
    solo = Solo()
    elected(solo)
    ended: list[object] = []
    solo.run(solo.core.propose(Noop(), ended.append, solo.now))
    solo.take(solo.prepare(Ballot(1 << 20, ReplicaId(3))), 3)
    assert not solo.group.leads
    assert ended == [None]


def decided(solo: Solo, command: Command) -> None:
    outcomes: list[object] = []
    accept_all(solo, solo.run(solo.core.propose(command, outcomes.append, solo.now)))
    assert outcomes


def granting(solo: Solo) -> None:
    elected(solo)
    decided(solo, same_chains(solo.core, solo.core.ballot))
    intent = solo.core.state.intent
    assert intent is not None
    sealed = tuple(SealedUnit(u.id, u.incarnation) for u in intent.layout.units)
    decided(solo, ActivateLayout(intent.layout.epoch, sealed, Offset(64)))
    solo.run(solo.core.begin_granting(solo.now))


def ack(solo: Solo, round_: int) -> HeartbeatAck:
    learner = solo.member.learner
    return HeartbeatAck(
        solo.request(), ReplicaId(2), incarnation(2), solo.core.ballot, round_,
        solo.group.applied, learner.digest_slot, learner.digest, (),
    )  # fmt: skip


def test_tail_needs_a_round_begun_after_the_request() -> None:
    solo = Solo()
    granting(solo)
    before = solo.group.round
    ask = GetTail(RequestId(incarnation(1000), 1), linearizable=True)
    assert TailIs not in kinds(solo.run(solo.core.handle(ask, CLIENT, solo.now)))
    # The majority's answer to the round of before comes late: it proves nothing.
    sends = solo.take(ack(solo, before))
    assert TailIs not in kinds(sends)
    # It sets off the round that counts.
    assert solo.group.round == before + 1
    assert TailIs in kinds(solo.take(ack(solo, before + 1)))


# What a restart takes for chosen.


def test_restart_applies_what_a_later_vote_says_is_chosen() -> None:
    solo = Solo()
    ballot = Ballot(1 << 20, ReplicaId(2))
    solo.take(solo.accept(ballot, 1, value(40)))
    solo.take(solo.beat(ballot, 1))
    assert solo.group.applied == 1
    solo.take(solo.accept(ballot, 2, value(41)))
    solo.restart()
    assert solo.group.applied == 1
    assert solo.core.state.registered == (unit(40),)


def test_restart_applies_the_fetched_value_not_the_vote_that_lost() -> None:
    solo = Solo()
    first, second = Ballot(1 << 20, ReplicaId(2)), Ballot(1 << 21, ReplicaId(3))
    solo.take(solo.accept(first, 1, value(40)))
    solo.take(solo.chosen((1, value(41)), until=1))
    solo.take(solo.accept(second, 2, value(42)), 3)
    solo.restart()
    assert solo.group.applied == 1
    assert solo.core.state.registered == (unit(41),)


def test_restart_before_an_installed_state_is_saved_takes_no_vote_for_chosen() -> None:
    solo = Solo()
    first, second = Ballot(1 << 20, ReplicaId(2)), Ballot(1 << 21, ReplicaId(3))
    solo.take(solo.accept(first, 1, value(40)))
    solo.take(solo.chosen(snapshot=3, until=3))
    assert solo.group.applied == 3
    solo.take(solo.accept(second, 4, value(42)), 3)
    solo.restart()
    assert solo.group.applied == 0


def test_restart_with_a_torn_vote_takes_no_hint_for_true() -> None:
    """The vote that held the chosen value may be the one that is missing."""
    solo = Solo()
    first, second = Ballot(1 << 20, ReplicaId(2)), Ballot(1 << 21, ReplicaId(3))
    solo.take(solo.accept(first, 1, value(40)))
    # One batch: the vote for what is chosen (torn below), and a vote with the hint.
    solo.lazy = True
    solo.take(solo.accept(second, 1, value(41)), 3)
    solo.take(solo.beat(second, 1), 3)
    solo.take(solo.accept(second, 2, value(42)), 3)
    solo.commit()
    solo.lazy = False
    name = max(name for name in solo.disk.names() if name.startswith("journal-"))
    data = solo.disk.read(name, 0, solo.disk.size(name))
    solo.disk.flip(name, data.rindex(value(41)), 0)
    solo.restart()
    assert solo.doubt() is Doubt.TORN
    assert solo.group.applied == 0
    # The doubt ends, the hint of before stays worthless: also at the restart after that.
    prepare = solo.until(Prepare)
    solo.take(solo.promise(2, prepare, doubt=True), 2)
    assert solo.doubt() is Doubt.NONE
    solo.restart()
    assert solo.doubt() is Doubt.NONE
    assert solo.group.applied == 0


# The end of doubt.


def test_doubt_does_not_end_before_what_the_others_know_is_in_the_own_snapshot() -> None:
    solo = Solo(settled=False)
    prepare = solo.until(Prepare)
    vote = OpenSlot(Slot(4), HIGH, value(44))
    solo.take(solo.promise(2, prepare, chosen_until=3))
    sends = solo.take(solo.promise(3, prepare, vote, chosen_until=2), 3)
    assert solo.doubt() is Doubt.BLANK
    solo.now += SETTINGS.heartbeat_s
    values = tuple((slot, value(40 + slot)) for slot in (1, 2, 3))
    sends = solo.take(solo.chosen(*values, until=3))
    assert Accepted not in kinds(sends)
    assert solo.doubt() is Doubt.BLANK
    wanted = solo.group.snapshot_wanted()
    assert wanted is not None
    execute_all(solo.disk, snapshot_operations(*wanted))
    solo.run(solo.core.snapshot_saved(wanted[0], solo.now))
    assert solo.doubt() is Doubt.NONE
    assert solo.member.acceptor.accepted == {4: (HIGH, value(44))}
    solo.restart()
    assert solo.doubt() is Doubt.NONE
    assert solo.group.applied == 3
    assert solo.member.acceptor.accepted == {4: (HIGH, value(44))}


def test_pre_vote_is_refused_while_a_leader_is_heard() -> None:
    solo = Solo()
    ballot = Ballot(1 << 20, ReplicaId(2))
    solo.take(solo.beat(ballot, 0))
    ask = PreVote(
        solo.request(), ReplicaId(3), incarnation(3), FORMATTED, Ballot(1 << 21, ReplicaId(3))
    )
    (send,) = solo.take(ask, 3)
    assert isinstance(send.message, PreVoted)
    assert not send.message.granted
    solo.now += SETTINGS.election_s_min
    (send,) = solo.take(ask, 3)
    assert isinstance(send.message, PreVoted)
    assert send.message.granted
    assert solo.member.acceptor.promised == ballot
