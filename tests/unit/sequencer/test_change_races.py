"""Races of a change of the members with slots that others had opened behind it."""

from __future__ import annotations

from corfu.layout import Replica
from corfu.messages import Accept, Accepted, Catchup, Chosen, Heartbeat, Prepare, PreVote
from corfu.sequencer.acceptor import Doubt
from corfu.sequencer.commands import Command, RegisterUnit, ReplaceReplica
from corfu.sequencer.state import Outcome
from corfu.types import Ballot, ReplicaId, Slot
from tests.unit.sequencer.group_bench import Pump, incarnation, replica_address
from tests.unit.sequencer.test_group import spoil_last_record
from tests.unit.sequencer.test_machine import unit
from tests.unit.sequencer.test_membership import check_agreement, members


def propose(pump: Pump, at: int, command: Command) -> list[Outcome | None]:
    told: list[Outcome | None] = []
    pump.act(at, lambda core: core.propose(command, told.append, pump.now))
    return told


def replacement(old: int, new: Replica) -> ReplaceReplica:
    return ReplaceReplica(ReplicaId(old), incarnation(old), new)


def test_value_chosen_behind_a_slot_that_becomes_a_change_is_not_applied() -> None:
    """A majority of the old members may choose a slot behind one that turns out to be a change."""
    pump = Pump(1, grant=False)
    pump.start()
    pump.run_until(lambda: pump.leader() is not None)
    pump.run(0.3)
    first = pump.leader()
    assert first is not None
    second, third = (n for n in (1, 2, 3) if n != first)
    new = pump.join(4, first)
    # The first leader votes for a change three slots on, and nobody else hears of it.
    pump.cut_off = {first}
    change_at = pump.core(first).group.applied + 3
    for number in (11, 12):
        propose(pump, first, RegisterUnit(unit(number)))
    propose(pump, first, replacement(third, new))
    # The second one chooses a value behind that slot, with the third, while its own for it is lost.
    pump.dropped = lambda source, to, message: source == third and isinstance(message, PreVote)
    pump.run_until(lambda: pump.core(second).leads)
    pump.dropped = lambda source, to, message: (
        isinstance(message, Accept) and message.slot == change_at and source == second
    )
    for number in (13, 14, 15):
        propose(pump, second, RegisterUnit(unit(number)))
    pump.run(0.1)
    assert pump.core(second).group.applied == change_at - 1
    # The two others find the vote for the change, and it is chosen.
    pump.cut_off = {second}
    pump.dropped = lambda source, to, message: False
    pump.run_until(lambda: 4 in members(pump.core(first)) and pump.core(4).group.votes)
    pump.run_until(lambda: any(pump.core(n).leads for n in (first, 4)))
    pump.run(0.3)
    pump.cut_off = set()
    pump.run_until(lambda: members(pump.core(second)) == {first, second, 4})
    pump.run(1.0)
    check_agreement(pump)
    assert len({core.state.digest() for number, core in pump.cores() if number != third}) == 1


def ask_for_promises(pump: Pump, candidate: int, others: list[int]) -> None:
    """Have these replicas journal something, all at the same time."""
    core = pump.core(candidate)
    ballot = Ballot(core.ballot.round + 7, ReplicaId(candidate))
    for number in others:
        prepare = Prepare(
            pump.request(), ReplicaId(candidate), core.identity.incarnation,
            core.state.formatted, ballot, Slot(core.group.applied + 1),
        )  # fmt: skip
        pump.deliver(number, prepare, replica_address(candidate))


def test_torn_acceptors_that_hold_a_vote_for_a_change_vote_again() -> None:
    """No majority remembers all, so what is torn was never answered: a change stops nobody."""
    pump = Pump(1, grant=False)
    pump.start()
    pump.run_until(lambda: pump.leader() is not None)
    pump.run(0.3)
    leader = pump.leader()
    assert leader is not None
    others = [n for n in (1, 2, 3) if n != leader]
    new = pump.join(4, leader)
    pump.dropped = lambda source, to, message: isinstance(message, Accepted)
    propose(pump, leader, replacement(others[0], new))
    pump.run(0.05)
    # The power goes at both while they write their next promise.
    pump.cut_off = {leader}
    ask_for_promises(pump, leader, others)
    pump.run(0.01)
    pump.kill(*others)
    for number in others:
        spoil_last_record(pump, number)
    pump.start(*others)
    assert {pump.core(n).group.doubt for n in others} == {Doubt.TORN}
    pump.cut_off = set()
    pump.dropped = lambda source, to, message: False
    pump.run_until(lambda: is_changed_everywhere(pump, leader, others[1], 4))
    check_agreement(pump)


def is_changed_everywhere(pump: Pump, *numbers: int) -> bool:
    cores = [pump.core(n) for n in numbers]
    return all(core.group.votes and members(core) == {*numbers} for core in cores)


def test_member_that_missed_a_change_learns_it_from_a_candidate_that_it_does_not_know() -> None:
    """The new member and the late one are a majority, and nobody leads them yet."""
    pump = Pump(1, grant=False)
    pump.start()
    pump.run_until(lambda: pump.leader() is not None)
    pump.run(0.3)
    leader = pump.leader()
    assert leader is not None
    late, old = (n for n in (1, 2, 3) if n != leader)
    new = pump.join(4, leader)
    pump.cut_off = {late}
    propose(pump, leader, replacement(old, new))
    pump.run_until(lambda: is_member_that_votes(pump, 4))
    pump.run_until(lambda: pump.leader() in (leader, 4))
    pump.kill(leader, old)
    pump.cut_off = set()
    pump.run_until(lambda: pump.leader() in (late, 4))
    assert members(pump.core(late)) == {late, leader, 4}
    check_agreement(pump)


def is_member_that_votes(pump: Pump, number: int) -> bool:
    core = pump.core(number)
    return core.group.votes and number in members(core)


def test_replaced_replica_stays_until_the_new_members_have_made_an_epoch() -> None:
    """Before that it may be the only one left who knows that the change was chosen."""
    pump = Pump(1, grant=False)
    pump.start()
    pump.run_until(lambda: pump.leader() is not None)
    pump.run(0.3)
    leader = pump.leader()
    assert leader is not None
    late, old = (n for n in (1, 2, 3) if n != leader)
    new = pump.join(4, leader)
    pump.cut_off = {late, 4}
    propose(pump, leader, replacement(old, new))
    pump.run(2.0)
    assert members(pump.core(leader)) == {leader, late, 4}
    # What a process does that hears that it is expelled: it ends.
    pump.kill(leader, *([old] if f"{old}: expelled" in pump.log else []))
    pump.cut_off = set()
    pump.run_until(lambda: pump.leader() in (late, 4))
    assert members(pump.core(late)) == {late, leader, 4}
    check_agreement(pump)


def test_late_accept_of_the_old_members_leader_counts_not_among_the_new_ones() -> None:
    """Two majorities of different groups need have nobody in common who knows both ballots."""
    pump = Pump(1, grant=False)
    pump.start()
    pump.run_until(lambda: pump.leader() is not None)
    pump.run(0.3)
    late, first, old = 1, 2, 3
    # Two of three go through several ballots, of which the third hears nothing.
    pump.cut_off = {late}
    pump.dropped = lambda source, to, message: source == old and isinstance(message, PreVote)
    for _ in range(4):
        pump.kill(first, old)
        pump.start(first, old)
        pump.run_until(lambda: pump.core(first).leads)
    ballot = pump.core(first).ballot
    # One proposes three values. They leave, but its own votes are lost with its power.
    pump.dropped = lambda source, to, message: isinstance(message, Accept)
    base = pump.core(first).group.applied
    for number in (11, 12, 13):
        propose(pump, first, RegisterUnit(unit(number)))
    under_way = next(
        message
        for _, _, message in reversed(pump.sent)
        if isinstance(message, Accept) and message.ballot == ballot and message.slot == base + 3
    )
    pump.cut_power(first)
    pump.start(first)
    # The same two choose a change, one slot before the last of those.
    new = pump.join(4, old)
    pump.dropped = lambda source, to, message: (
        (source == old and isinstance(message, PreVote))
        or ({source, to} == {first, 4} and not isinstance(message, PreVote | Catchup | Chosen))
        or (source == 4 and to == first and not isinstance(message, Catchup))
    )
    pump.run_until(lambda: pump.core(first).leads)
    propose(pump, first, replacement(old, new))
    pump.run_until(lambda: is_member_that_votes(pump, 4))
    assert pump.core(4).group.applied == base + 2
    # The third and the new one choose a value behind it; the third does not know that it is chosen.
    pump.cut_off = {first, old}
    pump.dropped = lambda source, to, message: (
        (source == late and isinstance(message, PreVote))
        or (source == 4 and isinstance(message, Heartbeat))
    )
    pump.run_until(lambda: pump.core(4).leads)
    # Now the old leader's message comes.
    pump.deliver(late, under_way, replica_address(first))
    pump.cut_off = {4, old}
    pump.dropped = lambda source, to, message: False
    pump.run_until(lambda: pump.leader() in (first, late))
    pump.cut_off = {old}
    pump.run(3.0)
    check_agreement(pump)
    assert len({pump.core(n).state.digest() for n in (first, late, 4)}) == 1
