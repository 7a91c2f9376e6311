"""What is said about a cluster from its replicas' answers."""

from __future__ import annotations

from dataclasses import replace

from corfu.layout import Layout, Leader, Replica, Segment, Unit
from corfu.messages import ReplicaRole, StatusIs, UnitStatus
from corfu.tools.health import assess, leader_of
from corfu.types import (
    NO_INCARNATION,
    Address,
    Ballot,
    ClusterId,
    Epoch,
    Offset,
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
UNITS = tuple(Unit(UnitId(i), NO_INCARNATION, Address("127.0.0.1", 9100 + i)) for i in (1, 2))
LAYOUT = Layout(
    ClusterId(bytes(8)),
    Epoch(4),
    Offset(100),
    Leader(ReplicaId(1), BALLOT),
    REPLICAS,
    UNITS,
    SyncMode.ALWAYS,
    2,
    (Segment(Offset(0), None, ((UnitId(1), UnitId(2)),)),),
)


def _unit(unit: Unit) -> UnitStatus:
    return UnitStatus(
        unit.id,
        unit.incarnation,
        unit.address,
        heard_ms=10,
        epoch=LAYOUT.epoch,
        restarted=False,
        doubt=False,
        frozen=False,
        local_tail=Offset(100),
        free_bytes=10**9,
        sync=SyncMode.ALWAYS,
    )


def _answer(replica: int, *, granting: bool = False) -> StatusIs:
    return StatusIs(
        RequestId(NO_INCARNATION, 1),
        ReplicaId(replica),
        NO_INCARNATION,
        ReplicaRole.LEADS if granting else ReplicaRole.FOLLOWS,
        True,
        granting,
        BALLOT,
        ReplicaId(1),
        0,
        Slot(9),
        Slot(9),
        Slot(0),
        LAYOUT,
        None,
        Offset(120),
        Offset(400),
        Offset(100),
        Offset(0),
        (),
        tuple(_unit(unit) for unit in UNITS),
        (),
        (),
        1,
        2,
        (),
        (),
        (),
    )


ASKED = tuple(replica.address for replica in REPLICAS)
HEALTHY = [_answer(1, granting=True), _answer(2), _answer(3)]


def test_assess_of_a_healthy_cluster_finds_nothing() -> None:
    health = assess(ASKED, HEALTHY)
    assert health.problems == ()
    assert health.leader is HEALTHY[0]


def test_assess_without_leader_or_replica_says_so() -> None:
    problems = assess(ASKED, [_answer(2), _answer(3)]).problems
    assert any("no replica leads" in problem for problem in problems)
    assert any("replica 1" in problem and "does not answer" in problem for problem in problems)


def test_assess_of_a_unit_in_trouble_names_it() -> None:
    troubles = [
        {"heard_ms": None},
        {"heard_ms": 5000},
        {"restarted": True},
        {"doubt": True},
        {"frozen": True},
        {"epoch": Epoch(3)},
        {"free_bytes": 100 << 20},
    ]
    for trouble in troubles:
        units = (replace(_unit(UNITS[0]), **trouble), _unit(UNITS[1]))  # type: ignore[arg-type]
        problems = assess(ASKED, [replace(HEALTHY[0], units=units), *HEALTHY[1:]]).problems
        assert len(problems) == 1, trouble
        assert "storage unit 1" in problems[0]


def test_assess_of_a_spare_that_was_in_an_epoch_before_finds_nothing() -> None:
    """It has restarted, and no epoch is made for it before it gets a place."""
    spare = replace(_unit(UNITS[0]), unit=UnitId(3), restarted=True, epoch=Epoch(2))
    answer = replace(HEALTHY[0], units=(*HEALTHY[0].units, spare))
    assert assess(ASKED, [answer, *HEALTHY[1:]]).problems == ()


def test_assess_of_short_chains_and_lost_offsets_says_so() -> None:
    short = replace(LAYOUT, segments=(Segment(Offset(0), None, ((UnitId(1),),)),))
    answer = replace(HEALTHY[0], layout=short, pending_epoch=Epoch(5))
    problems = assess(ASKED, [answer, *HEALTHY[1:]]).problems
    assert problems == ("epoch 5 is being made", "chain 0 has 1 units instead of 2")


def test_assess_of_an_abandoned_chain_tells_what_is_lost_above_the_trim_mark() -> None:
    closed = Segment(Offset(0), Offset(90), ((), (UnitId(1), UnitId(2))))
    opened = Segment(Offset(90), None, ((UnitId(1), UnitId(2)),))
    layout = replace(LAYOUT, segments=(closed, opened))
    answer = replace(HEALTHY[0], layout=layout, trim_mark=Offset(30))
    problems = assess(ASKED, [answer, *HEALTHY[1:]]).problems
    assert problems == ("lost: offsets 30 to 89, those of chain 0 of 2, which was abandoned",)
    trimmed = replace(answer, trim_mark=Offset(90))
    assert assess(ASKED, [trimmed, *HEALTHY[1:]]).problems == ()


def test_leader_of_two_that_say_so_is_the_newer_epochs() -> None:
    newer = replace(_answer(2, granting=True), layout=replace(LAYOUT, epoch=Epoch(5)))
    assert leader_of([HEALTHY[0], newer]) is newer
    assert leader_of([_answer(3)]) is None
