"""One member takes the place of another: they agree, and nobody forgets what was chosen."""

from __future__ import annotations

import pytest

from corfu.layout import Replica
from corfu.messages import (
    Accept,
    Accepted,
    Expelled,
    Message,
    Prepare,
    PreVote,
    Promise,
    TakeOver,
    Transfer,
    Transferring,
)
from corfu.sequencer.acceptor import Doubt
from corfu.sequencer.commands import RegisterUnit, ReplaceReplica, changes_members
from corfu.sequencer.replica import Replica as Core
from corfu.sequencer.state import Outcome
from corfu.types import Ballot, ReplicaId
from tests.unit.sequencer.group_bench import Pump, incarnation
from tests.unit.sequencer.test_machine import unit


def started(seed: int = 1, replicas: int = 3, *, loss: float = 0.0) -> Pump:
    pump = Pump(seed, replicas, loss=loss)
    pump.start()
    pump.run_until(lambda: pump.granting() is not None)
    return pump


def granting(pump: Pump) -> int:
    leader = pump.granting()
    assert leader is not None
    return leader


def follower(pump: Pump) -> int:
    leader = granting(pump)
    return next(n for n in pump.nodes if n != leader)


def change(pump: Pump, old: int, new: Replica) -> list[Outcome | None]:
    told: list[Outcome | None] = []
    command = ReplaceReplica(ReplicaId(old), incarnation(old), new)
    pump.act(granting(pump), lambda core: core.propose(command, told.append, pump.now))
    return told


def members(core: Core) -> set[int]:
    return {replica.id for replica in core.state.replicas}


def is_changed(pump: Pump, new: int) -> bool:
    """The group has a leader that grants, and the new member votes."""
    leader = pump.granting()
    return leader is not None and new in members(pump.core(leader)) and pump.core(new).group.votes


def check_agreement(pump: Pump) -> None:
    """Replicas that applied equally much are in equal states."""
    states: dict[int, int] = {}
    for _, core in pump.cores():
        digest = states.setdefault(core.group.applied, core.state.digest())
        assert digest == core.state.digest()


def test_new_members_votes_make_a_majority() -> None:
    pump = started()
    old = follower(pump)
    new = pump.join(4, granting(pump))
    assert pump.core(4).group.doubt is Doubt.JOINING
    pump.kill(old)
    change(pump, old, new)
    pump.run_until(lambda: is_changed(pump, 4))
    leader = granting(pump)
    third = next(n for n in (1, 2, 3, 4) if n not in (old, leader, 4)) if leader != 4 else None
    if third is not None:
        pump.kill(third)
    done: list[Outcome | None] = []
    command = RegisterUnit(unit(9))
    pump.act(leader, lambda core: core.propose(command, done.append, pump.now))
    pump.run_until(lambda: bool(done))
    assert done == [Outcome(accepted=True)]
    check_agreement(pump)


def test_joining_replica_neither_votes_nor_asks_before_it_is_a_member() -> None:
    pump = started()
    pump.join(4, granting(pump))
    pump.run(3.0)
    assert pump.core(4).group.doubt is Doubt.JOINING
    assert not pump.core(4).group.votes
    votes = (Promise, Accepted, Prepare, PreVote)
    assert not any(number == 4 and isinstance(message, votes) for _, number, message in pump.sent)


def test_joining_replica_restarted_still_waits_and_votes_once_admitted() -> None:
    pump = started()
    old = follower(pump)
    new = pump.join(4, granting(pump))
    pump.cut_power(4)
    pump.start(4)
    assert not pump.core(4).group.votes
    change(pump, old, new)
    pump.run_until(lambda: is_changed(pump, 4))
    pump.run(0.1)
    pump.kill(4)
    pump.start(4)
    assert pump.core(4).group.doubt is Doubt.NONE


def test_no_slot_behind_a_change_is_opened_before_it_is_applied() -> None:
    """A majority of the old members must not choose what is the new members' to choose."""
    pump = started()
    leader, old = granting(pump), follower(pump)
    new = pump.join(4, leader)
    slots: list[tuple[int, bool]] = []

    def dropped(source: int, to: int, message: Message) -> bool:
        if isinstance(message, Accept):
            slots.append((message.slot, changes_members(message.value)))
            return True
        return False

    pump.dropped = dropped
    change(pump, old, new)
    refused: list[Outcome | None] = []
    command = RegisterUnit(unit(9))
    for _ in range(3):
        pump.act(leader, lambda core: core.propose(command, refused.append, pump.now))
    pump.run(0.3)
    changes = {slot for slot, changing in slots if changing}
    assert refused == [None, None, None]
    assert len(changes) == 1
    assert max(slot for slot, _ in slots) == changes.pop()


def test_term_ends_with_a_change_and_the_next_one_has_the_new_members_promises() -> None:
    pump = started()
    leader, old = granting(pump), follower(pump)
    ballot = pump.core(leader).ballot
    new = pump.join(4, leader)
    changed_at = pump.now
    change(pump, old, new)
    pump.run_until(lambda: 4 in members(pump.core(leader)))
    assert not pump.core(leader).leads
    pump.run_until(lambda: pump.granting() is not None)
    # It asks the new members at once, and waits for no timeout.
    assert pump.now - changed_at < 0.25
    after = pump.core(granting(pump))
    assert after.ballot > ballot
    assert (
        {replica.id for replica in after.state.active.replicas}
        == members(after)
        == {*members(pump.core(leader))}
    )


def test_replaced_replica_is_told_and_never_elected() -> None:
    pump = started()
    old = follower(pump)
    new = pump.join(4, granting(pump))
    pump.cut_off = {old}
    change(pump, old, new)
    pump.run_until(lambda: is_changed(pump, 4))
    pump.run(2.0)
    pump.cut_off = set()
    pump.run_until(lambda: f"{old}: expelled" in pump.log)
    assert any(isinstance(message, Expelled) for _, _, message in pump.sent)
    assert not pump.core(old).leads


def test_member_that_missed_a_change_learns_it_from_a_leader_that_it_does_not_know() -> None:
    pump = started()
    leader, old = granting(pump), follower(pump)
    late = next(n for n in (1, 2, 3) if n not in (leader, old))
    new = pump.join(4, leader)
    pump.cut_off = {late}
    change(pump, old, new)
    pump.run_until(lambda: is_changed(pump, 4))
    # The new one leads, and nobody whom the late one knows does.
    pump.deliver(granting(pump), Transfer(pump.request(), ReplicaId(4)))
    pump.run_until(lambda: pump.granting() == 4)
    pump.kill(old)
    pump.cut_off = set()
    pump.run_until(lambda: members(pump.core(late)) == {*members(pump.core(4))}, seconds=2.0)
    pump.run_until(lambda: pump.core(late).group.leader == 4, seconds=2.0)
    assert granting(pump) == 4
    check_agreement(pump)


def test_leader_can_replace_itself() -> None:
    pump = started()
    leader = granting(pump)
    new = pump.join(4, leader)
    change(pump, leader, new)
    pump.run_until(lambda: is_changed(pump, 4) and pump.granting() != leader)
    check_agreement(pump)


def test_candidate_of_the_old_group_finishes_the_change_and_proposes_nothing_behind_it() -> None:
    """The change is voted for by a majority, known to nobody; its leader is gone."""
    pump = started()
    leader, old = granting(pump), follower(pump)
    third = next(n for n in (1, 2, 3) if n not in (leader, old))
    new = pump.join(4, leader)
    # The votes are given, but the leader never counts them.
    pump.dropped = lambda source, to, message: to == leader and isinstance(message, Accepted)
    change(pump, old, new)
    pump.run(0.05)
    pump.kill(leader)
    pump.dropped = lambda source, to, message: False
    # Two of the three new members are left: the one that voted, and the new one.
    pump.run_until(lambda: is_changed(pump, 4) and pump.granting() in (third, 4))
    check_agreement(pump)


def test_acceptor_in_doubt_votes_again_in_the_new_group() -> None:
    pump = started(seed=3)
    leader, old = granting(pump), follower(pump)
    new = pump.join(4, leader)
    change(pump, old, new)
    pump.run_until(lambda: is_changed(pump, 4))
    survivor = next(n for n in (1, 2, 3) if n not in (old, granting(pump)))
    pump.cut_power(survivor)
    pump.start(survivor)
    pump.run_until(lambda: 4 in members(pump.core(survivor)) and pump.core(survivor).group.votes)
    check_agreement(pump)


def test_transfer_hands_over_to_the_one_that_was_named() -> None:
    pump = started()
    leader = granting(pump)
    heir = follower(pump)
    ballot = pump.core(leader).ballot
    pump.deliver(leader, Transfer(pump.request(), ReplicaId(heir)))
    assert any(isinstance(message, Transferring) for _, _, message in pump.to_client)
    pump.run_until(lambda: pump.granting() == heir, seconds=1.0)
    assert pump.core(heir).ballot > ballot


def test_take_over_in_an_old_leaders_name_changes_nothing() -> None:
    pump = started()
    leader = granting(pump)
    heir = follower(pump)
    core = pump.core(leader)
    old = Ballot(0, core.ballot.replica)
    ask = TakeOver(pump.request(), ReplicaId(leader), core.identity.incarnation, old)
    ballot = core.ballot
    pump.deliver(heir, ask)
    pump.run(1.0)
    assert granting(pump) == leader
    assert pump.core(leader).ballot == ballot


@pytest.mark.parametrize("seed", range(40))
def test_members_replaced_one_after_the_other_amid_loss_and_power_cuts_agree(seed: int) -> None:
    pump = started(seed, loss=0.05)
    for new_id in (4, 5, 6):
        leader = granting(pump)
        old = pump.rng.choice([n for n in sorted(members(pump.core(leader))) if n != leader])
        new = pump.join(new_id, leader)
        if pump.rng.random() < 0.5:
            pump.kill(old)
        change(pump, old, new)
        if pump.rng.random() < 0.5:
            pump.run(pump.rng.uniform(0, 0.02))
            pump.cut_power(leader)
            pump.run(0.5)
            pump.start(leader)
            if pump.nodes[old].core is None:
                # With one gone and one in doubt there is no majority before the first is back.
                pump.start(old)
        for _ in range(20):
            pump.run_until(lambda: pump.granting() is not None, seconds=60)
            if new_id not in members(pump.core(granting(pump))):
                change(pump, old, new)
            pump.run(0.5)
            if is_changed(pump, new_id):
                break
        assert is_changed(pump, new_id)
        check_agreement(pump)
    pump.ask_token(granting(pump), 2)
    offsets = [o for g in pump.grants() for o in range(g.offset, g.offset + g.count)]
    assert offsets
    assert len(offsets) == len(set(offsets))
