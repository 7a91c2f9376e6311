"""Which processes a fault may hit."""

from __future__ import annotations

from dataclasses import replace

import pytest

from corfu.layout import Layout, Leader, Replica, Segment, Unit
from corfu.messages import ReplicaRole, StatusIs, UnitStatus
from corfu.tools.health import assess
from corfu.tools.nemesis.plan import Kind, possible
from corfu.tools.nemesis.safety import (
    Situation,
    conflicts,
    lacking,
    may_go,
    sound_units,
    victims,
)
from corfu.types import (
    NO_INCARNATION,
    Address,
    Ballot,
    ClusterId,
    Epoch,
    Incarnation,
    Offset,
    Range,
    ReplicaId,
    RequestId,
    Slot,
    SyncMode,
    UnitId,
)

BALLOT = Ballot(1, ReplicaId(1))
REPLICAS = tuple(
    Replica(ReplicaId(i), NO_INCARNATION, Address("127.0.0.1", 9000 + i)) for i in (1, 2, 3)
)
ASKED = tuple(replica.address for replica in REPLICAS)
CHAINS = ((UnitId(1), UnitId(2), UnitId(3)), (UnitId(4), UnitId(5), UnitId(6)))
SPARES = (UnitId(7), UnitId(8))
SHAPE = {"units": 8, "chains": 2, "replicas": 3}


def _unit(number: int) -> Unit:
    return Unit(UnitId(number), NO_INCARNATION, Address("127.0.0.1", 9100 + number))


LAYOUT = Layout(
    ClusterId(bytes(8)),
    Epoch(4),
    Offset(100),
    Leader(ReplicaId(1), BALLOT),
    REPLICAS,
    tuple(_unit(number) for number in range(1, 7)),
    SyncMode.ALWAYS,
    2,
    (Segment(Offset(0), None, CHAINS),),
)


def _status(number: int) -> UnitStatus:
    unit = _unit(number)
    return UnitStatus(
        unit.id,
        unit.incarnation,
        unit.address,
        heard_ms=10,
        epoch=LAYOUT.epoch if number <= 6 else Epoch(0),
        restarted=False,
        doubt=False,
        frozen=False,
        local_tail=Offset(100),
        free_bytes=10**9,
        sync=SyncMode.ALWAYS,
    )


STATUS = StatusIs(
    request=RequestId(NO_INCARNATION, 1),
    replica=ReplicaId(1),
    incarnation=NO_INCARNATION,
    role=ReplicaRole.LEADS,
    votes=True,
    granting=True,
    ballot=BALLOT,
    leader=ReplicaId(1),
    leader_heard_ms=0,
    chosen_until=Slot(9),
    applied=Slot(9),
    snapshot=Slot(0),
    layout=LAYOUT,
    pending_epoch=None,
    tail=Offset(120),
    reserved_until=Offset(400),
    closed_until=Offset(100),
    trim_mark=Offset(0),
    lost=(),
    units=tuple(_status(number) for number in range(1, 9)),
    gone=(),
    replicas=(),
    wanted_chains=2,
    wanted_replicas=3,
    rebuilds=(),
    goals=(),
    drained=(),
)


def _situation(
    status: StatusIs = STATUS,
    *,
    answering: tuple[int, ...] = (1, 2, 3),
    unsure: frozenset[UnitId] = frozenset(),
) -> Situation:
    answers = [
        replace(status, replica=ReplicaId(number), granting=number == 1 and status.granting)
        for number in answering
    ]
    health = assess(ASKED, answers)
    return Situation(health, unsure, not unsure and lacking(health, **SHAPE) is None)


def _with_unit(number: int, **changes: object) -> StatusIs:
    units = tuple(
        replace(unit, **changes) if unit.unit == number else unit  # type: ignore[arg-type]
        for unit in STATUS.units
    )
    return replace(STATUS, units=units)


def _with_chains(*segments: Segment) -> StatusIs:
    return replace(STATUS, layout=replace(LAYOUT, segments=segments))


KINDS = possible(tuple(Kind), sequencers=3, replicas=3, spares=2)


@pytest.mark.parametrize("kind", KINDS)
def test_victims_of_a_whole_cluster_are_found_for_every_kind(kind: Kind) -> None:
    assert victims(kind, _situation()) != ()
    assert victims(kind, _situation()) == victims(kind, _situation())


def test_victims_stand_where_the_kind_says() -> None:
    now = _situation()
    assert [each.units for each in victims(Kind.KILL_HEAD, now)] == [(1,), (4,)]
    assert [each.units for each in victims(Kind.STOP_MIDDLE, now)] == [(2,), (5,)]
    assert [each.units for each in victims(Kind.KILL_TAIL, now)] == [(3,), (6,)]
    assert [each.spare for each in victims(Kind.KILL_SPARE, now)] == [7, 8]
    assert [each.replica for each in victims(Kind.KILL_LEADER, now)] == [1]
    assert [each.replica for each in victims(Kind.STOP_REPLICA, now)] == [2, 3]
    assert [each.replica for each in victims(Kind.RESTART_REPLICA, now)] == [1, 2, 3]
    assert all(each.replica == 1 for each in victims(Kind.LEADER_AND_UNIT, now))


@pytest.mark.parametrize("kind", KINDS)
def test_victims_without_a_leader_or_in_a_change_of_epoch_are_none(kind: Kind) -> None:
    assert victims(kind, _situation(replace(STATUS, granting=False))) == ()
    assert victims(kind, _situation(replace(STATUS, pending_epoch=Epoch(5)))) == ()


def test_victims_among_replicas_leave_a_majority() -> None:
    now = _situation(answering=(1, 2))
    for kind in (Kind.KILL_LEADER, Kind.STOP_REPLICA, Kind.LEADER_AND_UNIT, Kind.WIPE_TWICE):
        assert victims(kind, now) == ()
    assert victims(Kind.KILL_HEAD, now) != ()


def test_victim_of_the_whole_cluster_wants_full_redundancy() -> None:
    assert victims(Kind.KILL_CLUSTER, _situation(answering=(1, 2))) == ()
    short = _with_chains(Segment(Offset(0), None, (CHAINS[0], CHAINS[1][:2])))
    assert victims(Kind.KILL_CLUSTER, _situation(short)) == ()


@pytest.mark.parametrize(
    "trouble",
    [
        {"heard_ms": None},
        {"heard_ms": 5000},
        {"epoch": Epoch(3)},
        {"restarted": True},
        {"doubt": True},
        {"incarnation": Incarnation(b"x" * 16)},
    ],
    ids=lambda trouble: next(iter(trouble)),
)
def test_units_beside_one_that_does_not_serve_are_left_alone(trouble: dict[str, object]) -> None:
    """Also if a third one is there: it may be needed to settle what the troubled one holds."""
    now = _situation(_with_unit(2, **trouble))
    assert sound_units(now) == {1, 3, 4, 5, 6}
    assert not may_go(frozenset({UnitId(1)}), now)
    assert not may_go(frozenset({UnitId(3)}), now)
    assert may_go(frozenset({UnitId(4)}), now)
    # The troubled one itself may be hit (again): the rest is sound.
    assert may_go(frozenset({UnitId(2)}), now)


def test_units_touched_lately_do_not_count_whatever_the_cluster_says() -> None:
    now = _situation(unsure=frozenset({UnitId(5)}))
    assert not may_go(frozenset({UnitId(4)}), now)
    assert may_go(frozenset({UnitId(1)}), now)


def test_all_units_of_a_chain_never_go_together() -> None:
    now = _situation()
    assert may_go(frozenset({UnitId(1), UnitId(2)}), now)
    assert not may_go(frozenset(CHAINS[0]), now)
    pair = _with_chains(Segment(Offset(0), None, ((UnitId(1), UnitId(2)), CHAINS[1])))
    assert not may_go(frozenset({UnitId(1), UnitId(2)}), _situation(pair))


def test_old_entries_keep_their_last_unit() -> None:
    """Unit 1 alone holds what lies below 50: the others are being given it."""
    old = _with_chains(
        Segment(Offset(0), Offset(50), ((UnitId(1),), CHAINS[1])),
        Segment(Offset(50), None, CHAINS),
    )
    now = _situation(old)
    assert not may_go(frozenset({UnitId(1)}), now)
    assert may_go(frozenset({UnitId(2)}), now)
    assert [each.units for each in victims(Kind.KILL_HEAD, now)] == [(4,)]


def test_lacking_of_a_whole_cluster_is_nothing() -> None:
    assert lacking(_situation().health, **SHAPE) is None


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (_with_unit(8, heard_ms=5000), "silent"),
        (
            _with_chains(
                Segment(Offset(0), Offset(9), (CHAINS[0][:2], CHAINS[1])),
                Segment(Offset(9), None, CHAINS),
            ),
            "entries from 0",
        ),
        (replace(STATUS, units=STATUS.units[:-1]), "units 8"),
        (replace(STATUS, units=(*STATUS.units, _status(7))), "unit 7 is known twice"),
        (replace(STATUS, wanted_chains=1, wanted_replicas=3), "only 1 chains"),
    ],
)
def test_lacking_says_what_is_not_there(status: StatusIs, said: str) -> None:
    if "only" in said:
        layout = replace(LAYOUT, segments=(Segment(Offset(0), None, CHAINS[:1]),))
        status = replace(status, layout=layout)
    text = lacking(_situation(status).health, **SHAPE)
    assert text is not None
    assert said in text


def test_conflicts_are_what_no_fault_explains() -> None:
    assert conflicts(_situation().health) == []
    lost = replace(_with_unit(2, frozen=True), lost=(Range(Offset(3), Offset(5)),))
    assert conflicts(_situation(lost).health) == ["unit 2 saw a conflict", "lost: [3, 5)"]
