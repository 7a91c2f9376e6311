"""What `corfu unit`, `corfu layout` and `corfu sequencer` say of what the replicas answered."""

from __future__ import annotations

from dataclasses import replace

from corfu.layout import Layout, Leader, Segment, Unit
from corfu.messages import RebuildStatus, ReplicaRole, ReplicaStatus, StatusIs, UnitStatus
from corfu.tools.admin import sequencer, unit
from corfu.tools.admin.layout_changes import changes
from corfu.tools.health import Health, assess
from corfu.types import (
    Address,
    Ballot,
    Epoch,
    Incarnation,
    Offset,
    ReplicaId,
    Slot,
    UnitId,
)
from tests.unit.tools.test_health import ASKED, HEALTHY, LAYOUT, REPLICAS, UNITS

NEW = Incarnation(bytes(15) + b"\x07")


def _chains(*members: tuple[int, ...]) -> tuple[tuple[UnitId, ...], ...]:
    return tuple(tuple(UnitId(id_) for id_ in chain) for chain in members)


def _layout(*segments: Segment, units: tuple[int, ...] = (1, 2), first: int = 100) -> Layout:
    return replace(
        LAYOUT,
        epoch=Epoch(5),
        first_offset=Offset(first),
        units=tuple(
            Unit(UnitId(id_), UNITS[0].incarnation, Address("127.0.0.1", 9100 + id_))
            for id_ in units
        ),
        segments=segments,
    )


# Layout history.


def test_changes_of_equal_layouts_are_the_same_chains() -> None:
    assert changes(LAYOUT, replace(LAYOUT, epoch=Epoch(5))) == ("the same chains",)


def test_changes_tell_of_the_leader() -> None:
    other = Leader(ReplicaId(2), Ballot(2, ReplicaId(2)))
    assert changes(LAYOUT, replace(LAYOUT, leader=other)) == ("leader 1 -> 2",)
    again = Leader(ReplicaId(1), Ballot(3, ReplicaId(1)))
    assert changes(LAYOUT, replace(LAYOUT, leader=again)) == ("leader 1 again",)


def test_changes_tell_of_a_unit_that_left_and_one_that_joined() -> None:
    after = _layout(
        Segment(Offset(0), Offset(200), _chains((1,))),
        Segment(Offset(200), None, _chains((1, 7))),
        units=(1, 7),
        first=200,
    )
    assert changes(LAYOUT, after) == ("unit 2 left", "unit 7 joined chain 0")


def test_changes_tell_of_a_unit_that_came_back_as_another_incarnation() -> None:
    after = _layout(Segment(Offset(0), None, _chains((1, 2))))
    reborn = replace(after, units=(after.units[0], replace(after.units[1], incarnation=NEW)))
    assert changes(LAYOUT, reborn) == (
        "unit 2 left",
        "unit 2 joined chain 0 as a new incarnation",
    )


def test_changes_tell_of_a_finished_rebuild_and_the_merge_it_allows() -> None:
    before = _layout(
        Segment(Offset(0), Offset(1000), _chains((1,))),
        Segment(Offset(1000), None, _chains((1, 7))),
        units=(1, 7),
        first=1000,
    )
    after = _layout(Segment(Offset(0), None, _chains((1, 7))), units=(1, 7), first=2000)
    assert changes(before, after) == (
        "unit 7 holds 0 to 999 of chain 0, too",
        "merged at 1,000",
    )


def test_changes_tell_of_an_abandoned_chain_and_of_fewer_chains() -> None:
    before = _layout(Segment(Offset(0), None, _chains((1,), (2,))))
    after = _layout(
        Segment(Offset(0), Offset(300), _chains((1,), ())),
        Segment(Offset(300), None, _chains((1,))),
        units=(1,),
        first=300,
    )
    assert changes(before, after) == (
        "unit 2 left",
        "2 -> 1 chains take appends",
        "0 to 299 of chain 1 is LOST",
    )


def test_changes_tell_of_a_unit_that_keeps_old_entries_only_and_of_its_return() -> None:
    narrow = _layout(
        Segment(Offset(0), Offset(300), _chains((1, 2))),
        Segment(Offset(300), None, _chains((1,))),
        first=300,
    )
    assert changes(LAYOUT, narrow) == ("unit 2 keeps old entries only",)
    wide = replace(_layout(Segment(Offset(0), None, _chains((1, 2))), first=300), epoch=Epoch(6))
    assert "unit 2 takes appends again in chain 0" in changes(narrow, wide)


def test_changes_tell_of_replicas() -> None:
    after = replace(LAYOUT, replicas=(*REPLICAS[:2], replace(REPLICAS[2], id=ReplicaId(4))))
    assert changes(LAYOUT, after) == ("replica 3 left", "replica 4 joined")


# Units.


def _status(**changes_: object) -> StatusIs:
    return replace(HEALTHY[0], **changes_)  # type: ignore[arg-type]


def _state(**changes_: object) -> str:
    status = _status()
    each: UnitStatus = replace(status.units[0], **changes_)  # type: ignore[arg-type]
    return unit.state_of(status, each)


def test_unit_state_is_the_worst_that_is_known() -> None:
    assert _state() == "up"
    assert _state(heard_ms=None, frozen=True) == "down"
    assert _state(heard_ms=5000) == "down"
    assert _state(frozen=True, restarted=True) == "conflict"
    assert _state(restarted=True) == "restarted"
    assert _state(doubt=True) == "in doubt"
    assert _state(unit=UnitId(9)) == "spare"


def test_spare_that_came_back_is_a_spare_and_waits_for_nothing() -> None:
    each = replace(_status().units[0], unit=UnitId(9), restarted=True)
    assert unit.state_of(_status(), each) == "spare"
    assert unit.state_of(_status(drained=(UnitId(9),)), each) == "drained"
    assert unit.state_of(_status(), replace(each, heard_ms=5000)) == "down"


def test_unit_state_tells_how_far_all_its_rebuilds_are() -> None:
    rebuilds = (
        RebuildStatus(UnitId(2), Offset(0), Offset(100), Offset(100)),
        RebuildStatus(UnitId(2), Offset(100), Offset(400), Offset(150)),
    )
    status = _status(rebuilds=rebuilds)
    assert [unit.state_of(status, each) for each in status.units] == ["up", "rebuilding 37 %"]


def test_unit_list_has_places_spares_and_those_that_left() -> None:
    layout = _layout(
        Segment(Offset(0), Offset(300), _chains((1, 2))),
        Segment(Offset(300), None, _chains((2,))),
        first=300,
    )
    spare = replace(HEALTHY[0].units[0], unit=UnitId(8), sync=None, heard_ms=None)
    status = _status(
        layout=layout, units=(*HEALTHY[0].units, spare), gone=(UnitId(5),)
    )  # fmt: skip
    rows = unit.as_json(status)
    assert [(row["id"], row["state"]) for row in rows] == [
        (1, "up"),
        (2, "up"),
        (8, "down"),
        (5, "left"),
    ]
    places = rows[1]["places"]
    assert isinstance(places, list)
    assert [(p["start"], p["end"], p["chain"], p["index"]) for p in places] == [
        (0, 300, 0, 1),
        (300, None, 0, 0),
    ]
    assert unit._places_text(unit.places_of(status, UnitId(2))) == "0 head, tail +1 old"


# Replicas.


def _members(*incarnations: Incarnation) -> tuple[ReplicaStatus, ...]:
    return tuple(
        ReplicaStatus(each.id, incarnation, each.address, 0)
        for each, incarnation in zip(REPLICAS, incarnations, strict=True)
    )


def _health(*answers: StatusIs) -> Health:
    return assess(ASKED, answers)


def test_sequencer_status_tells_roles_and_who_is_behind() -> None:
    old = HEALTHY[0].incarnation
    leads = replace(HEALTHY[0], replicas=_members(old, old, old))
    late = replace(
        HEALTHY[1], applied=Slot(4), chosen_until=Slot(8), role=ReplicaRole.IN_DOUBT, votes=False
    )
    lines = sequencer.lines_of(_health(leads, late))
    assert [(line.role, line.behind) for line in lines] == [
        ("leads", 0),
        ("in doubt", 5),
        ("down", None),
    ]


def test_sequencer_status_believes_no_folder_that_is_not_the_members() -> None:
    old = HEALTHY[0].incarnation
    leads = replace(HEALTHY[0], replicas=_members(old, NEW, old))
    lines = sequencer.lines_of(_health(leads, *HEALTHY[1:]))
    assert [line.role for line in lines] == ["leads", "down", "follows"]
    told = sequencer.as_json(_health(leads, *HEALTHY[1:]))
    assert (told["leader"], told["members"], told["majority"]) == (1, [1, 2, 3], 2)
