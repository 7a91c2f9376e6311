"""What the state machine accepts and rejects: one test per rule, then random successors."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corfu import schema
from corfu.config import WINDOW_OFFSETS_MAX
from corfu.errors import WireError
from corfu.goals import Goal, GoalKind
from corfu.layout import Layout, Leader, Replica, Unit, problems
from corfu.sequencer.commands import (
    KINDS,
    ActivateLayout,
    AddGoal,
    CloseUntil,
    Command,
    DeclareLost,
    EndGoal,
    Noop,
    ProposeLayout,
    RecordRebuilt,
    RegisterUnit,
    ReplaceReplica,
    ReserveOffsets,
    SealedUnit,
    TrimTo,
    decode,
    encode,
)
from corfu.sequencer.machine import apply
from corfu.sequencer.state import Outcome, Rebuilt, State, first_state
from corfu.types import Address, Ballot, Epoch, GoalId, Offset, Range, ReplicaId, UnitId
from tests.unit.sequencer.group_bench import bootstrap, incarnation, replica_address

LEADER = Leader(ReplicaId(1), Ballot(4, ReplicaId(1)))


def fresh(chains: tuple[tuple[int, ...], ...] = ((1, 2, 3), (4, 5, 6))) -> State:
    return first_state(bootstrap(chains=chains).layout())


def unit(number: int) -> Unit:
    return Unit(UnitId(number), incarnation(100 + number), Address(f"10.0.2.{number}", 9800))


def member(number: int) -> Replica:
    return Replica(ReplicaId(number), incarnation(number), replica_address(number))


def proposal(state: State, **changes: object) -> ProposeLayout:
    command = ProposeLayout(
        based_on=state.active.epoch,
        last_epoch=state.last_epoch,
        leader=LEADER,
        units=state.active.units,
        chains_below=tuple(segment.chains for segment in state.active.segments),
        open_chains=state.active.open_segment.chains,
        abandoned=(),
        conflicted=(),
    )
    return replace(command, **changes)  # type: ignore[arg-type]


def good(state: State, command: Command) -> State:
    after, outcome = apply(state, command)
    assert outcome == Outcome(accepted=True), outcome.reason
    return after


def bad(state: State, command: Command, reason: str) -> None:
    after, outcome = apply(state, command)
    assert not outcome.accepted
    assert reason in outcome.reason
    assert after is state


def sealing(layout: Layout) -> tuple[SealedUnit, ...]:
    return tuple(SealedUnit(each.id, each.incarnation) for each in layout.units)


def activated(state: State, command: ProposeLayout | None = None, window: int = 100) -> State:
    state = good(state, command if command is not None else proposal(state))
    assert state.intent is not None
    layout = state.intent.layout
    end = layout.first_offset + (window if layout.open_segment.chains else 0)
    return good(state, ActivateLayout(layout.epoch, sealing(layout), Offset(end)))


def chains(*members: tuple[int, ...]) -> tuple[tuple[UnitId, ...], ...]:
    return tuple(tuple(UnitId(id_) for id_ in chain) for chain in members)


# Windows.


def test_reserve_in_the_active_epoch_under_its_ballot_is_accepted() -> None:
    state = activated(fresh())
    assert state.reserved_until == 100
    after = good(state, ReserveOffsets(Epoch(1), LEADER.ballot, Offset(300)))
    assert after.reserved_until == 300


def test_reserve_is_absolute_so_twice_is_as_once() -> None:
    state = activated(fresh())
    command = ReserveOffsets(Epoch(1), LEADER.ballot, Offset(300))
    once = good(state, command)
    assert good(once, command) == once
    assert good(once, ReserveOffsets(Epoch(1), LEADER.ballot, Offset(200))) == once


def test_reserve_while_an_intent_is_pending_is_rejected() -> None:
    state = activated(fresh())
    pending = good(state, proposal(state))
    bad(pending, ReserveOffsets(Epoch(1), LEADER.ballot, Offset(300)), "pending")


def test_reserve_in_another_epoch_is_rejected() -> None:
    state = activated(activated(fresh()))
    bad(state, ReserveOffsets(Epoch(1), LEADER.ballot, Offset(300)), "epoch 1")


def test_reserve_at_epoch_0_is_rejected() -> None:
    bad(fresh(), ReserveOffsets(Epoch(0), Ballot(0, ReplicaId(0)), Offset(10)), "epoch 0")


def test_reserve_under_another_ballot_of_the_same_replica_is_rejected() -> None:
    state = activated(fresh())
    bad(state, ReserveOffsets(Epoch(1), Ballot(5, ReplicaId(1)), Offset(300)), "ballot")


def test_reserve_of_more_than_the_largest_window_is_rejected() -> None:
    state = activated(fresh())
    until = Offset(100 + WINDOW_OFFSETS_MAX + 1)
    bad(state, ReserveOffsets(Epoch(1), LEADER.ballot, until), "too large")


def test_reserve_without_an_open_chain_is_rejected() -> None:
    state = fresh()
    state = activated(state, proposal(state, open_chains=()))
    assert state.reserved_until == 0
    bad(state, ReserveOffsets(Epoch(1), LEADER.ballot, Offset(1)), "no chain")


# Intents.


def test_first_offset_is_what_was_reserved_when_the_intent_was_applied() -> None:
    state = activated(fresh())
    state = good(state, ReserveOffsets(Epoch(1), LEADER.ballot, Offset(357)))
    state = good(state, proposal(state))
    assert state.intent is not None
    assert state.intent.layout.first_offset == 357


def test_intent_replaced_keeps_its_first_offset_and_takes_a_new_epoch() -> None:
    state = activated(fresh())
    first = good(state, proposal(state))
    second = good(first, proposal(first))
    assert first.intent is not None
    assert second.intent is not None
    assert second.intent.layout.first_offset == first.intent.layout.first_offset
    assert (first.intent.layout.epoch, second.intent.layout.epoch) == (2, 3)


def test_intent_computed_from_a_stale_state_is_rejected() -> None:
    state = activated(fresh())
    bad(state, proposal(state, based_on=Epoch(0)), "not active")
    pending = good(state, proposal(state))
    bad(pending, proposal(state), "the last epoch is 2")


def test_intent_of_a_leader_that_is_no_member_is_rejected() -> None:
    state = fresh()
    stranger = Leader(ReplicaId(9), Ballot(4, ReplicaId(9)))
    bad(state, proposal(state, leader=stranger), "no member")
    mixed = Leader(ReplicaId(1), Ballot(4, ReplicaId(2)))
    bad(state, proposal(state, leader=mixed), "another replica's")


def test_chain_that_keeps_an_ordered_part_of_itself_is_accepted() -> None:
    state = activated(fresh())
    below = (chains((1, 3), (4, 5, 6)),)
    shrunk = proposal(
        state, chains_below=below, open_chains=below[0],
        units=tuple(unit(n) for n in (1, 3, 4, 5, 6)),
    )  # fmt: skip
    after = activated(state, shrunk)
    assert after.active.segments[0].chains == below[0]
    assert [(gone.unit, gone.bound) for gone in after.left] == [(2, 0)]


@pytest.mark.parametrize(
    ("chain", "reason"),
    [
        ((3, 1), "changes the order"),
        ((), "would lose all"),
        ((4,), "keeps no leading part"),
        ((1, 2, 3, 7), "not rebuilt"),
        ((7, 1, 2), "keeps no leading part"),
    ],
)
def test_chain_below_the_first_offset_that_is_no_part_of_the_old_is_rejected(
    chain: tuple[int, ...], reason: str
) -> None:
    state = good(activated(fresh(((1, 2, 3),))), RegisterUnit(unit(7)))
    state = good(state, RegisterUnit(unit(4)))
    units = (*state.active.units, unit(7), unit(4))
    bad(state, proposal(state, chains_below=(chains(chain),), units=units), reason)


def test_number_of_chains_below_the_first_offset_may_not_change() -> None:
    state = activated(fresh())
    below = (chains((1, 2, 3)),)
    bad(state, proposal(state, chains_below=below), "number of chains")


def test_segments_below_the_first_offset_keep_their_bounds() -> None:
    state = activated(fresh())
    bad(state, proposal(state, chains_below=()), "are not those")


def test_more_chains_open_a_new_segment_at_the_first_offset() -> None:
    state = activated(fresh(((1, 2, 3),)))
    for number in (7, 8):
        state = good(state, RegisterUnit(unit(number)))
    grown = activated(
        state,
        proposal(
            state, units=(*state.active.units, unit(7), unit(8)),
            open_chains=chains((1, 2, 3), (7, 8)),
        ),
    )  # fmt: skip
    assert [(s.start, s.end, len(s.chains)) for s in grown.active.segments] == [
        (0, 100, 1),
        (100, None, 2),
    ]
    assert not grown.registered


def test_equal_neighbours_are_merged_and_empty_segments_left_out() -> None:
    state = activated(fresh())
    again = activated(state, window=0)
    assert len(again.active.segments) == 1
    # Nothing was reserved since: a segment [T, T) would be empty.
    changed = proposal(again, open_chains=chains((1, 2, 3)))
    third = activated(again, changed)
    fourth = activated(activated(third, window=0), window=0)
    assert all(s.end is None or s.start < s.end for s in fourth.active.segments)


def test_new_incarnation_in_a_new_layout_must_be_registered() -> None:
    state = activated(fresh())
    bad(state, proposal(state, units=(*state.active.units, unit(9))), "not registered")


def test_incarnation_that_left_never_returns() -> None:
    state = activated(fresh(((1, 2, 3),)))
    shrunk = proposal(
        state, chains_below=(chains((1, 2)),), open_chains=chains((1, 2)),
        units=(unit(1), unit(2)),
    )  # fmt: skip
    state = activated(state, shrunk)
    bad(state, proposal(state, units=(*state.active.units, unit(3))), "left")
    bad(state, RegisterUnit(unit(3)), "left")
    again = replace(unit(3), incarnation=incarnation(999))
    state = good(state, RegisterUnit(again))
    opened = proposal(
        state, units=(*state.active.units, again), open_chains=chains((1, 2, 3))
    )  # fmt: skip
    good(state, opened)


def test_rebuilt_unit_may_stand_last_in_the_old_chain() -> None:
    state = good(activated(fresh(((1, 2),))), RegisterUnit(unit(7)))
    state = activated(
        state,
        proposal(
            state, units=(*state.active.units, unit(7)), open_chains=chains((1, 2, 7))
        ),
    )  # fmt: skip
    joined = proposal(state, chains_below=(chains((1, 2, 7)), chains((1, 2, 7))))
    bad(state, joined, "not rebuilt")
    rebuilt = RecordRebuilt(Epoch(2), UnitId(7), unit(7).incarnation, Offset(0), Offset(100), 1, 0)
    bad(state, rebuilt, "closed_until")
    state = good(state, CloseUntil(Epoch(2), Offset(100)))
    state = good(state, rebuilt)
    after = activated(state, joined)
    assert [s.chains for s in after.active.segments] == [chains((1, 2, 7))]
    assert after.rebuilt == ()


def test_unit_in_two_chains_of_a_segment_is_rejected() -> None:
    state = activated(fresh(((1, 2), (3, 4))))
    bad(state, proposal(state, open_chains=chains((1, 2), (2, 3))), "two places")


def test_open_chain_shorter_than_min_replicas_is_rejected() -> None:
    state = activated(fresh(((1, 2),)))
    bad(state, proposal(state, open_chains=chains((1,))), "fewer than 2")


def test_abandoned_chain_becomes_empty_and_gets_no_bound() -> None:
    state = activated(fresh(((1, 2), (3, 4))))
    command = proposal(
        state, chains_below=(chains((), (3, 4)),), open_chains=chains((3, 4)),
        units=(unit(3), unit(4)), abandoned=(UnitId(1), UnitId(2)),
    )  # fmt: skip
    bad(state, replace(command, abandoned=(UnitId(1),)), "would lose all")
    after = activated(state, command)
    assert after.active.segments[0].chains == chains((), (3, 4))
    assert {(gone.unit, gone.bound) for gone in after.left} == {(1, None), (2, None)}
    # Empty stays empty; and nothing of it needs a seal any more.
    assert activated(after).active.segments[0].chains == chains((), (3, 4))


def test_unit_left_out_after_a_conflict_gets_no_bound() -> None:
    state = activated(fresh(((1, 2, 3),)))
    command = proposal(
        state, chains_below=(chains((1, 2)),), open_chains=chains((1, 2)),
        units=(unit(1), unit(2)), conflicted=(UnitId(3),),
    )  # fmt: skip
    assert activated(state, command).left[0].bound is None
    bad(state, replace(command, units=(unit(1), unit(2), unit(3))), "given up")


# Activations.


def test_activation_of_another_intent_is_rejected() -> None:
    state = fresh()
    bad(state, ActivateLayout(Epoch(1), sealing(state.active), Offset(10)), "not pending")
    first = good(state, proposal(state))
    second = good(first, proposal(first))
    bad(second, ActivateLayout(Epoch(1), sealing(state.active), Offset(10)), "not pending")


def test_activation_without_a_seal_of_each_unit_that_can_change_is_rejected() -> None:
    state = good(fresh(), proposal(fresh()))
    sealed = sealing(state.active)
    bad(state, ActivateLayout(Epoch(1), sealed[1:], Offset(10)), "unit 1 is not sealed")
    other = (SealedUnit(UnitId(1), incarnation(77)), *sealed[1:])
    bad(state, ActivateLayout(Epoch(1), other, Offset(10)), "unit 1 is not sealed")


def test_activation_needs_no_seal_of_units_that_stand_below_closed_until_only() -> None:
    state = good(activated(fresh(((1, 2), (3, 4)))), CloseUntil(Epoch(1), Offset(100)))
    state = activated(state, proposal(state, open_chains=chains((3, 4))))
    state = good(state, proposal(state))
    sealed = tuple(SealedUnit(UnitId(n), unit(n).incarnation) for n in (3, 4))
    good(state, ActivateLayout(Epoch(3), sealed, Offset(300)))


def test_activation_window_starts_at_the_first_offset_and_is_bounded() -> None:
    state = good(fresh(), proposal(fresh()))
    sealed = sealing(state.active)
    bad(state, ActivateLayout(Epoch(1), sealed, Offset(WINDOW_OFFSETS_MAX + 1)), "window")


def test_activation_without_an_open_chain_has_no_window() -> None:
    state = good(fresh(), proposal(fresh(), open_chains=()))
    sealed = sealing(state.active)
    bad(state, ActivateLayout(Epoch(1), sealed, Offset(1)), "window")
    good(state, ActivateLayout(Epoch(1), sealed, Offset(0)))


def test_activation_twice_is_rejected_the_second_time() -> None:
    state = activated(fresh())
    bad(state, ActivateLayout(Epoch(1), sealing(state.active), Offset(100)), "not pending")


def test_activation_remembers_the_epoch_that_each_unit_was_sealed_for() -> None:
    state = activated(activated(fresh()))
    assert {sealed.epoch for sealed in state.sealed_for} == {2}


def test_layout_of_epoch_0_is_never_an_activated_one() -> None:
    assert fresh().activated is None
    assert activated(fresh()).activated is not None


# Closing, trimming, loss.


def test_close_in_the_active_epoch_is_monotone() -> None:
    state = good(activated(fresh()), CloseUntil(Epoch(1), Offset(50)))
    assert state.closed_until == 50
    assert good(state, CloseUntil(Epoch(1), Offset(40))).closed_until == 50


def test_close_of_another_epoch_or_above_the_reserve_is_rejected() -> None:
    state = activated(activated(fresh()))
    bad(state, CloseUntil(Epoch(1), Offset(50)), "epoch 1")
    bad(state, CloseUntil(Epoch(2), Offset(201)), "never granted")


def test_trim_goes_no_further_than_closed_until_and_never_back() -> None:
    state = good(activated(fresh()), CloseUntil(Epoch(1), Offset(50)))
    state = good(state, TrimTo(Offset(70)))
    assert state.trim_mark == 50
    assert good(state, TrimTo(Offset(10))).trim_mark == 50


def test_lost_offsets_are_joined_and_forgotten_below_the_trim_mark() -> None:
    state = activated(fresh())
    lost = (Range(Offset(10), Offset(11)), Range(Offset(11), Offset(12)))
    state = good(state, DeclareLost(Epoch(1), lost))
    assert state.lost == (Range(Offset(10), Offset(12)),)
    state = good(state, DeclareLost(Epoch(1), lost))
    assert state.lost == (Range(Offset(10), Offset(12)),)
    state = good(good(state, CloseUntil(Epoch(1), Offset(50))), TrimTo(Offset(11)))
    assert state.lost == (Range(Offset(11), Offset(12)),)


def test_lost_offsets_of_another_epoch_or_never_granted_are_rejected() -> None:
    state = activated(fresh())
    bad(state, DeclareLost(Epoch(0), (Range(Offset(1), Offset(2)),)), "epoch 0")
    bad(state, DeclareLost(Epoch(1), (Range(Offset(100), Offset(101)),)), "never granted")


def test_registered_unit_with_a_new_address_replaces_its_old_entry() -> None:
    state = good(fresh(), RegisterUnit(unit(9)))
    moved = replace(unit(9), address=Address("10.0.2.99", 1))
    state = good(state, RegisterUnit(moved))
    assert state.registered == (moved,)
    bad(state, RegisterUnit(unit(1)), "active layout")


# Members.


def test_replace_replica_changes_one_member_and_remembers_who_left() -> None:
    state = fresh()
    after = good(state, ReplaceReplica(ReplicaId(2), incarnation(2), member(4)))
    assert [replica.id for replica in after.replicas] == [1, 3, 4]
    assert after.removed == (member(2),)
    again, outcome = apply(after, ReplaceReplica(ReplicaId(2), incarnation(2), member(4)))
    assert not outcome.accepted
    assert again is after


def test_replace_replica_of_another_incarnation_is_rejected() -> None:
    bad(fresh(), ReplaceReplica(ReplicaId(2), incarnation(9), member(4)), "no member")


def test_replica_id_or_incarnation_used_before_never_becomes_a_member() -> None:
    state = good(fresh(), ReplaceReplica(ReplicaId(2), incarnation(2), member(4)))
    reused = Replica(ReplicaId(2), incarnation(50), replica_address(50))
    bad(state, ReplaceReplica(ReplicaId(3), incarnation(3), reused), "used before")
    same = Replica(ReplicaId(5), incarnation(2), replica_address(50))
    bad(state, ReplaceReplica(ReplicaId(3), incarnation(3), same), "used before")


def test_replace_replica_whose_goal_was_lifted_meanwhile_is_rejected() -> None:
    goal = Goal(GoalId(bytes(16)), GoalKind.REPLACE_REPLICA, (), member(4), ReplicaId(2))
    state = good(good(fresh(), AddGoal(goal)), EndGoal(goal.id, done=False, detail=""))
    command = ReplaceReplica(ReplicaId(2), incarnation(2), member(4))
    bad(state, command, "not to become a member")
    # Stated again it is wanted again.
    good(good(state, AddGoal(replace(goal, id=GoalId(bytes([1]) * 16)))), command)


def test_replace_replica_at_the_address_of_another_member_is_rejected() -> None:
    other = Replica(ReplicaId(4), incarnation(4), replica_address(1))
    bad(fresh(), ReplaceReplica(ReplicaId(2), incarnation(2), other), "another member")
    # At the address of the one that it replaces it may be.
    own = Replica(ReplicaId(4), incarnation(4), replica_address(2))
    good(fresh(), ReplaceReplica(ReplicaId(2), incarnation(2), own))


# Encoding.


def test_command_of_every_kind_survives_its_encoding() -> None:
    state = activated(fresh())
    commands: list[Command] = [
        Noop(),
        ReserveOffsets(Epoch(1), LEADER.ballot, Offset(9)),
        proposal(state),
        ActivateLayout(Epoch(1), sealing(state.active), Offset(4)),
        CloseUntil(Epoch(1), Offset(1)),
        TrimTo(Offset(1)),
        RegisterUnit(unit(1)),
        DeclareLost(Epoch(1), (Range(Offset(1), Offset(2)),)),
        RecordRebuilt(Epoch(1), UnitId(1), unit(1).incarnation, Offset(0), Offset(1), 1, 0),
        AddGoal(Goal(GoalId(bytes(16)), GoalKind.DRAIN_UNIT, (UnitId(1),))),
        EndGoal(GoalId(bytes(16)), done=True, detail=""),
        ReplaceReplica(ReplicaId(3), incarnation(3), member(4)),
    ]
    assert {type(command) for command in commands} == set(KINDS.values())
    for command in commands:
        assert decode(encode(command)) == command


@pytest.mark.parametrize("value", [b"", b"\xff", b"\x00", b"\x01\x80"])
def test_value_that_is_no_command_is_refused(value: bytes) -> None:
    with pytest.raises(WireError):
        decode(value)


def test_state_survives_its_encoding() -> None:
    state = good(activated(fresh()), proposal(activated(fresh())))
    assert schema.unpack(State, schema.pack(state)) == state


# Random successors.


@st.composite
def changes(draw: st.DrawFn) -> list[tuple[str, int, int]]:
    """Return steps: what to do, and two numbers to choose with."""
    step = st.tuples(
        st.sampled_from(["drop", "add", "chain", "same", "reserve", "close", "rebuild", "join"]),
        st.integers(0, 1 << 16),
        st.integers(0, 1 << 16),
    )
    return draw(st.lists(step, min_size=1, max_size=14))


def random_proposal(state: State, what: str, first: int, second: int) -> ProposeLayout:
    """Return some change of the chains, valid or not."""
    below = [list(map(list, segment.chains)) for segment in state.active.segments]
    top = [list(chain) for chain in state.active.open_segment.chains]
    units = list(state.active.units)
    spares = list(state.registered)
    if what == "drop" and units:
        gone = units[first % len(units)].id
        below = [[[i for i in c if i != gone] for c in s] for s in below]
        top = [c for c in ([i for i in c if i != gone] for c in top) if c]
        units = [u for u in units if u.id != gone]
    elif what == "add" and spares and top:
        new = spares[first % len(spares)]
        units.append(new)
        top[second % len(top)].append(new.id)
    elif what == "chain" and len(spares) > 1:
        units += spares[:2]
        top.append([spares[0].id, spares[1].id])
    elif what == "join" and units:
        joining = units[first % len(units)].id
        for chains_ in below:
            chain = chains_[second % len(chains_)] if chains_ else []
            if joining not in chain:
                chain.append(joining)
    return proposal(
        state,
        units=tuple(units),
        chains_below=tuple(tuple(tuple(c) for c in s) for s in below),
        open_chains=tuple(tuple(c) for c in top),
    )


@settings(max_examples=150, deadline=None)
@given(steps=changes(), shape=st.sampled_from([((1, 2, 3),), ((1, 2), (3, 4)), ((1, 2, 3),) * 1]))
def test_successor_keeps_every_offset_below_its_first_with_a_part_of_its_old_chain(
    steps: list[tuple[str, int, int]], shape: tuple[tuple[int, ...], ...]
) -> None:
    state = activated(fresh(shape), window=37)
    for number in range(20, 40):
        state = good(state, RegisterUnit(unit(number)))
    for what, first, second in steps:
        old = state.active
        epoch = state.active.epoch
        if what == "reserve":
            until = Offset(state.reserved_until + first % 50)
            state, _ = apply(state, ReserveOffsets(epoch, LEADER.ballot, until))
            continue
        if what == "close":
            state, _ = apply(state, CloseUntil(epoch, Offset(first % (state.reserved_until + 1))))
            continue
        if what == "rebuild":
            some = old.units[first % len(old.units)]
            segment = old.segments[second % len(old.segments)]
            end = segment.end if segment.end is not None else state.closed_until
            done = RecordRebuilt(
                epoch, some.id, some.incarnation, segment.start, Offset(end),
                max(1, len(segment.chains)), (first + second) % max(1, len(segment.chains)),
            )  # fmt: skip
            state, _ = apply(state, done)
            continue
        rebuilt = state.rebuilt
        state, outcome = apply(state, random_proposal(state, what, first, second))
        if not outcome.accepted:
            continue
        assert state.intent is not None
        state = activated(state, window=1 + first % 40)
        new = state.active
        assert problems(new) == []
        assert new.epoch > epoch
        for offset in range(new.first_offset):
            check_successor(old, new, Offset(offset), rebuilt)


def check_successor(old: Layout, new: Layout, offset: Offset, rebuilt: tuple[Rebuilt, ...]) -> None:
    before = [(u.id, u.incarnation) for u in old.chain_of(offset)]
    after = [(u.id, u.incarnation) for u in new.chain_of(offset)]
    kept = [key for key in after if key in before]
    assert kept, f"offset {offset} lost its chain"
    assert after[: len(kept)] == kept
    assert kept == [key for key in before if key in kept]
    for key in after[len(kept) :]:
        assert any(
            (done.unit, done.incarnation) == key and done.start <= offset < done.end
            for done in rebuilt
        )
