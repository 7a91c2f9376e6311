"""A leader that learns of a successor's value at a slot where it has proposed its own."""

from __future__ import annotations

from corfu.messages import Catchup, Chosen, ChosenValue
from corfu.sequencer.commands import Noop, encode
from corfu.sequencer.proposer import Proposals
from corfu.types import Ballot, ReplicaId, RequestId, Slot
from tests.unit.sequencer.group_bench import Pump, incarnation, replica_address

BALLOT = Ballot(3, ReplicaId(1))


def test_proposal_is_finished_only_by_its_own_value() -> None:
    proposals = Proposals()
    proposals.begin(BALLOT, Slot(7))
    told: list[object] = []
    proposals.add(b"own", told.append, 0.0)
    assert proposals.finish(Slot(7), b"other") is None
    assert proposals.overtaken(Slot(7))
    assert not proposals.overtaken(Slot(6))
    assert proposals.finish(Slot(7), b"own") is not None
    assert not proposals.overtaken(Slot(7))
    # At a slot not even proposed yet, another ballot was at work for certain.
    assert proposals.overtaken(Slot(8))


def test_reserve_overtaken_by_a_successors_value_grants_nothing() -> None:
    """A catch-up sent long ago is answered late, by the successor: it opens no window."""
    pump = Pump(1)
    pump.start()
    pump.run_until(lambda: pump.granting() is not None)
    first = pump.granting()
    assert first is not None
    core = pump.core(first)
    pump.run(0.2)
    pump.grant = False
    pump.cut_off = {first}
    slot = Slot(core.group.applied + 1)
    late = Catchup(RequestId(incarnation(77), 1), ReplicaId(first), incarnation(first), slot)
    reserved, tail = core.state.reserved_until, core.tail
    assert tail is not None
    # Uses up the window, so that another one is proposed at the next slot.
    pump.ask_token(first, reserved - tail)
    pump.run_until(lambda: pump.leader() not in (None, first))
    second = pump.leader()
    assert second is not None
    assert core.leads
    sent = len(pump.sent)
    pump.deliver(second, late, replica_address(first))
    replies = [message for _, _, message in pump.sent[sent:] if isinstance(message, Chosen)]
    assert replies[0].values == (ChosenValue(slot, encode(Noop())),)
    pump.deliver(first, replies[0], replica_address(second))
    assert core.state.reserved_until == reserved
    assert not core.leads
    grants = len(pump.grants())
    pump.ask_token(first)
    assert len(pump.grants()) == grants


def test_leader_that_learns_of_a_successors_epoch_stops_leading() -> None:
    """It had nothing proposed: only what was chosen tells that somebody else leads."""
    pump = Pump(1)
    pump.start()
    pump.run_until(lambda: pump.granting() is not None)
    first = pump.granting()
    assert first is not None
    core = pump.core(first)
    pump.run(0.2)
    pump.cut_off = {first}
    slot = Slot(core.group.applied + 1)
    late = Catchup(RequestId(incarnation(77), 1), ReplicaId(first), incarnation(first), slot)
    pump.run_until(lambda: len([n for n, c in pump.cores() if c.tail is not None]) > 1)
    second = next(n for n, c in pump.cores() if c.tail is not None and n != first)
    assert core.leads
    sent = len(pump.sent)
    pump.deliver(second, late, replica_address(first))
    replies = [message for _, _, message in pump.sent[sent:] if isinstance(message, Chosen)]
    pump.deliver(first, replies[0], replica_address(second))
    assert core.state.active.leader.replica == second
    assert not core.leads
    assert core.tail is None
