"""Groups of replicas under loss, reordering, kills and power cuts: they agree, and grant once."""

from __future__ import annotations

import pytest

from corfu.errors import CorruptionError
from corfu.messages import (
    GetLayout,
    GetTail,
    GetToken,
    Heartbeat,
    HeartbeatAck,
    LayoutIs,
    NotLeader,
    Prepare,
    Promise,
    TailIs,
)
from corfu.sequencer.acceptor import Doubt
from corfu.sequencer.commands import RegisterUnit, encode
from corfu.types import Epoch, Incarnation, Slot
from tests.unit.sequencer.group_bench import SETTINGS, Pump, bootstrap, incarnation, same_chains


def started(seed: int = 1, replicas: int = 3) -> Pump:
    pump = Pump(seed, replicas)
    pump.start()
    pump.run_until(lambda: pump.granting() is not None)
    return pump


@pytest.mark.parametrize("replicas", [1, 3, 5])
def test_group_fresh_elects_a_leader_that_grants(replicas: int) -> None:
    pump = started(replicas=replicas)
    leader = pump.granting()
    assert leader is not None
    pump.ask_token(leader, 3)
    assert [grant.count for grant in pump.grants()] == [3]


def test_group_with_two_of_three_replicas_started_elects_a_leader() -> None:
    pump = Pump(4)
    pump.start(1, 3)
    pump.run_until(lambda: pump.granting() is not None)


def test_group_leader_lost_another_one_takes_over_above_the_old_window() -> None:
    pump = started()
    first = pump.granting()
    assert first is not None
    pump.ask_token(first)
    reserved = pump.core(first).state.reserved_until
    pump.kill(first)
    pump.run_until(lambda: pump.granting() is not None)
    second = pump.granting()
    assert second not in (None, first)
    assert pump.core(second or 0).tail == reserved


def test_group_leader_without_a_majority_stops_leading() -> None:
    pump = started()
    leader = pump.granting()
    assert leader is not None
    pump.cut_off = {leader}
    pump.run(SETTINGS.election_s_max + 2 * SETTINGS.heartbeat_s)
    assert not pump.core(leader).leads


def test_group_replica_cut_off_and_back_does_not_depose_the_leader() -> None:
    """The pre-vote: nobody promises while a leader is heard."""
    pump = started()
    leader = pump.granting()
    assert leader is not None
    other = next(n for n in pump.nodes if n != leader)
    ballot = pump.core(leader).ballot
    pump.cut_off = {other}
    pump.run(3.0)
    pump.cut_off = set()
    pump.run(3.0)
    assert pump.granting() == leader
    assert pump.core(leader).ballot == ballot


def test_leader_restarted_with_its_ballot_in_the_active_layout_does_not_grant() -> None:
    """Its window is active and names its ballot, but what it granted of it is forgotten."""
    pump = started(replicas=1)
    pump.ask_token(1)
    ballot = pump.core(1).ballot
    pump.grant = False
    pump.kill(1)
    pump.start(1)
    pump.run_until(lambda: pump.core(1).leads)
    assert pump.core(1).state.active.leader.ballot == ballot
    pump.to_client.clear()
    pump.ask_token(1)
    pump.deliver(1, GetTail(pump.request(), linearizable=True))
    assert [type(message) for _, _, message in pump.to_client] == [NotLeader, NotLeader]


def test_ballot_after_restart_is_higher_than_any_promised() -> None:
    pump = started(replicas=1)
    before = pump.core(1).ballot
    pump.kill(1)
    pump.start(1)
    pump.run_until(lambda: pump.granting() is not None)
    assert pump.core(1).ballot.round > before.round


def test_tail_is_answered_only_after_a_round_begun_after_the_request() -> None:
    pump = started()
    leader = pump.granting()
    assert leader is not None
    pump.run(0.1)
    # A round is under way: its answers do not count for a request that comes now.
    pump.dropped = lambda source, to, message: isinstance(message, HeartbeatAck)
    pump.core(leader).group.begin_round(pump.now)
    pump.act(leader, lambda core: core.tick(pump.now))
    begun = pump.core(leader).group.round
    pump.to_client.clear()
    pump.deliver(leader, GetTail(pump.request(), linearizable=True))
    pump.run(0.01)
    assert not pump.to_client
    pump.dropped = lambda source, to, message: False
    pump.run_until(lambda: bool(pump.to_client))
    answer = pump.to_client[0][2]
    assert isinstance(answer, TailIs)
    assert pump.core(leader).group.confirmed_round > begun


def test_tail_not_linearizable_is_answered_at_once() -> None:
    pump = started()
    leader = pump.granting()
    assert leader is not None
    pump.deliver(leader, GetTail(pump.request(), linearizable=False))
    assert isinstance(pump.to_client[-1][2], TailIs)


def test_tail_of_a_leader_that_a_successor_replaced_is_not_answered() -> None:
    pump = started()
    leader = pump.granting()
    assert leader is not None
    pump.cut_off = {leader}
    pump.to_client.clear()
    pump.deliver(leader, GetTail(pump.request(), linearizable=True))
    pump.run(2.0)
    answers = [message for _, number, message in pump.to_client if number == leader]
    assert [type(answer) for answer in answers] == [NotLeader]


def test_follower_serves_the_activated_layout_and_never_the_first() -> None:
    pump = Pump(1)
    pump.start()
    pump.deliver(1, GetLayout(pump.request(), Epoch(0)))
    first = pump.to_client[-1][2]
    assert isinstance(first, LayoutIs)
    assert first.layout is None
    pump.run_until(lambda: pump.granting() is not None)
    pump.run(0.2)
    for number in pump.nodes:
        pump.deliver(number, GetLayout(pump.request(), Epoch(0)))
        answer = pump.to_client[-1][2]
        assert isinstance(answer, LayoutIs)
        assert answer.layout is not None
        assert answer.layout.epoch == 1


def test_layout_of_a_pending_intent_is_told_to_nobody() -> None:
    pump = Pump(1, grant=False)
    pump.start()
    pump.run_until(lambda: pump.leader() is not None)
    leader = pump.leader()
    assert leader is not None
    command = same_chains(pump.core(leader), pump.core(leader).ballot)
    pump.act(leader, lambda core: core.propose(command, lambda outcome: None, pump.now))
    pump.run(0.5)
    for number in pump.nodes:
        assert pump.core(number).state.intent is not None
        pump.deliver(number, GetLayout(pump.request(), Epoch(0)))
        answer = pump.to_client[-1][2]
        assert isinstance(answer, LayoutIs)
        assert answer.layout is None


def test_message_of_a_stranger_is_counted_and_dropped() -> None:
    pump = started()
    core = pump.core(1)
    promised = core.group.ballot
    stranger = Prepare(
        pump.request(), core.group.id, incarnation(77), core.state.formatted,
        promised._replace(round=promised.round + 5), Slot(1),
    )  # fmt: skip
    before = len(pump.sent)
    pump.deliver(1, stranger)
    assert core.group.foreign == 1
    assert not [m for _, n, m in pump.sent[before:] if n == 1 and isinstance(m, Promise)]


def test_message_of_another_bootstrap_gets_no_vote_and_alarms() -> None:
    pump = started()
    core = pump.core(1)
    member = core.state.replicas[1]
    other = Prepare(
        pump.request(), member.id, member.incarnation, core.state.formatted + 1,
        core.group.ballot._replace(round=10**6), Slot(1),
    )  # fmt: skip
    before = len(pump.sent)
    pump.deliver(1, other)
    assert any("another bootstrap" in line for line in pump.log)
    assert not [m for _, n, m in pump.sent[before:] if n == 1 and isinstance(m, Promise)]


def test_replica_away_for_long_catches_up_by_snapshot() -> None:
    pump = started()
    leader = pump.granting()
    assert leader is not None
    other = next(n for n in pump.nodes if n != leader)
    pump.kill(other)
    for _ in range(10 * SETTINGS.snapshot_slots):
        pump.ask_token(leader, 4)
        pump.run(0.01)
    applied = pump.core(leader).group.applied
    assert applied > 2 * SETTINGS.snapshot_slots
    pump.start(other)
    pump.run(1.0)
    assert pump.core(other).group.applied >= applied
    assert pump.core(other).state == pump.core(leader).state


def test_replica_behind_after_snapshot_install_and_restart_agrees() -> None:
    """The journal still holds votes for slots that the installed state covers."""
    pump = started(seed=5)
    leader = pump.granting()
    assert leader is not None
    other = next(n for n in pump.nodes if n != leader)
    pump.kill(other)
    for _ in range(10 * SETTINGS.snapshot_slots):
        pump.ask_token(leader, 4)
        pump.run(0.01)
    pump.start(other)
    applied = pump.core(leader).group.applied
    pump.run_until(lambda: pump.core(other).group.applied >= applied)
    pump.kill(other)
    pump.start(other)
    pump.run(1.0)
    assert pump.core(other).state == pump.core(leader).state
    assert not pump.log


def test_notice_at_another_ballot_than_the_vote_is_fetched_not_applied() -> None:
    """A value accepted from a leader that lost must not be taken for what was chosen."""
    pump = started()
    leader = pump.granting()
    assert leader is not None
    pump.run(0.5)
    other = next(n for n in pump.nodes if n != leader)
    core, group = pump.core(other), pump.core(other).group
    slot = Slot(group.applied + 1)
    member = group._member
    ballot = member.acceptor.promised
    unit = bootstrap().units[0]
    member.acceptor.accepted[slot] = (ballot, encode(RegisterUnit(unit)))
    higher = ballot._replace(round=ballot.round + 1)
    beat = Heartbeat(
        pump.request(), core.state.replicas[leader - 1].id,
        core.state.replicas[leader - 1].incarnation, core.state.formatted, higher, 1, slot,
    )  # fmt: skip
    pump.deliver(other, beat)
    assert group.applied == slot - 1


def spoil_last_record(pump: Pump, number: int) -> None:
    """Flip a bit of the last thing that a killed replica wrote."""
    disk = pump.nodes[number].disk
    name = max(name for name in disk.names() if name.startswith("journal-"))
    data = disk.read(name, 0, disk.size(name))
    disk.flip(name, len(data.rstrip(b"\0")) - 1, 1)


@pytest.mark.parametrize("seed", range(12))
def test_vote_forgotten_with_a_torn_journal_is_fetched_before_it_counts_again(seed: int) -> None:
    """The leader's window was chosen by its own vote and the one that is then lost."""
    pump = started(seed=seed)
    leader = pump.granting()
    assert leader is not None
    victim, third = (n for n in pump.nodes if n != leader)
    pump.run(0.2)
    pump.cut_off = {third}
    for _ in range(8):
        pump.ask_token(leader, 4)
        pump.run(0.003)
    pump.kill(victim)
    spoil_last_record(pump, victim)
    pump.start(victim)
    assert pump.core(victim).group.doubt is Doubt.TORN
    pump.run(1.0)
    # Silence is no answer: while one of two others is cut off it does not vote.
    assert pump.core(victim).group.doubt is Doubt.TORN
    pump.cut_off = set()
    pump.run_until(lambda: pump.core(victim).group.doubt is Doubt.NONE)
    pump.kill(leader)
    pump.run_until(lambda: pump.granting() is not None)
    successor = pump.granting()
    assert successor is not None
    pump.ask_token(successor, 4)
    check_agreement(pump)
    assert len(pump.grants()) == 9


def test_votes_in_doubt_everywhere_count_as_torn() -> None:
    """The power went in all places at once: nobody waits for somebody free of doubt."""
    pump = started(seed=3)
    pump.run(0.2)
    pump.kill(1, 2, 3)
    for number in pump.nodes:
        spoil_last_record(pump, number)
    pump.start()
    pump.run_until(lambda: pump.granting() is not None)


def test_acceptor_with_damage_before_its_last_mark_does_not_start() -> None:
    pump = started(seed=3)
    for _ in range(10):
        pump.ask_token(pump.granting() or 1, 4)
        pump.run(0.01)
    pump.kill(1)
    disk = pump.nodes[1].disk
    name = max(name for name in disk.names() if name.startswith("journal-"))
    disk.flip(name, 1100, 1)
    with pytest.raises(CorruptionError, match="votes no more"):
        pump.start(1)


def check_agreement(pump: Pump) -> None:
    """Fail if replicas hold different states at one slot, or an offset was granted twice."""
    assert not pump.log
    by_slot: dict[Slot, set[int]] = {}
    for _, core in pump.cores():
        by_slot.setdefault(core.group.applied, set()).add(core.state.digest())
    assert all(len(digests) == 1 for digests in by_slot.values())
    owners: dict[int, tuple[Incarnation, int]] = {}
    for grant in pump.grants():
        for offset in range(grant.offset, grant.offset + grant.count):
            owner = (grant.request.client, grant.request.sequence)
            assert owners.setdefault(offset, owner) == owner, f"offset {offset} granted twice"


@pytest.mark.parametrize("seed", range(40))
def test_group_under_faults_agrees_and_grants_no_offset_twice(seed: int) -> None:
    """Loss, duplicates, late messages, cuts, kills and power cuts; then calm, and it grants."""
    pump = Pump(seed, replicas=3 if seed % 4 else 5, loss=0.15)
    pump.start()
    for _ in range(60):
        pump.run(pump.rng.uniform(0.0, 0.3))
        down = [n for n, node in pump.nodes.items() if node.core is None]
        match pump.rng.randrange(10):
            case 0:
                pump.kill(pump.rng.choice(list(pump.nodes)))
            case 1:
                pump.cut_power(pump.rng.choice(list(pump.nodes)))
            case 2 | 3 | 4 if down:
                pump.start(pump.rng.choice(down))
            case 5:
                pump.cut_off = {pump.rng.choice(list(pump.nodes))}
            case 6:
                pump.cut_off = set()
            case _:
                for number, core in pump.cores():
                    if core.tail is not None:
                        request = GetToken(
                            pump.request(), core.state.active.epoch, 1 + pump.rng.randrange(6),
                            0, 0, 0, 0,
                        )  # fmt: skip
                        pump.deliver(number, request)
                        pump.deliver(number, request)
        check_agreement(pump)
    pump.cut_off, pump.loss = set(), 0.0
    pump.start(*[n for n, node in pump.nodes.items() if node.core is None])
    pump.run(4.0)
    pump.run_until(lambda: pump.granting() is not None)
    pump.run(1.0)
    leader = pump.granting()
    assert leader is not None
    pump.ask_token(leader)
    check_agreement(pump)
    assert len({core.state.digest() for _, core in pump.cores()}) == 1


def test_group_formatted_anew_under_its_old_identity_votes_only_after_fetching() -> None:
    """A folder lost and made again from the same bootstrap has forgotten its votes."""
    pump = started(seed=9)
    leader = pump.granting()
    assert leader is not None
    pump.ask_token(leader, 3)
    pump.run(0.3)
    victim = next(n for n in pump.nodes if n != leader)
    pump.kill(victim)
    fresh = Pump(1).nodes[victim]
    pump.nodes[victim].disk = fresh.disk
    pump.start(victim)
    assert pump.core(victim).group.doubt is Doubt.BLANK
    applied = pump.core(leader).group.applied
    pump.run_until(lambda: pump.core(victim).group.doubt is Doubt.NONE)
    assert pump.core(victim).group.applied >= applied
