"""Who is dead, and who may be left out: one test per rule."""

from __future__ import annotations

from corfu.layout import Layout, Unit
from corfu.messages import Probed, UnitView
from corfu.sequencer.detector import Condition, broken_links, droppable
from corfu.sequencer.views import UnitViews
from corfu.types import Epoch, Offset, ReplicaId, RequestId, SyncMode, UnitId
from tests.unit.sequencer.group_bench import bootstrap, incarnation
from tests.unit.sequencer.test_machine import unit

LAYOUT = bootstrap(chains=((1, 2, 3), (4, 5, 6))).layout()
REPLICAS = LAYOUT.replicas
ALIVE = Condition(dead=False, silent_s=0.1, doubt=False, frozen=False)


def dead(silent_s: float = 1.1) -> Condition:
    return Condition(dead=True, silent_s=silent_s, doubt=False, frozen=False)


def dropped(layout: Layout = LAYOUT, **found: Condition) -> set[int]:
    conditions = {u.id: found.get(f"u{u.id}", ALIVE) for u in layout.units}
    return set(droppable(layout, conditions, second_s=5.0, boot_grace_s=30.0))


def test_dead_unit_is_dropped() -> None:
    assert dropped() == set()
    assert dropped(u2=dead()) == {2}


def test_dead_units_of_two_chains_are_dropped_together() -> None:
    assert dropped(u2=dead(), u4=dead()) == {2, 4}


def test_second_dead_unit_of_a_chain_waits() -> None:
    assert dropped(u1=dead(1.5), u2=dead(1.1)) == {1}
    assert dropped(u1=dead(9.0), u2=dead(5.5)) == {1, 2}


def test_last_living_unit_is_waited_for_and_no_dead_chain_is_dropped() -> None:
    assert dropped(u1=dead(90.0), u2=dead(90.0), u3=dead(90.0)) == set()


def test_frozen_unit_is_never_dropped() -> None:
    assert dropped(u2=Condition(dead=True, silent_s=99.0, doubt=False, frozen=True)) == set()


def test_unit_that_could_settle_anothers_doubt_is_waited_for() -> None:
    doubtful = Condition(dead=False, silent_s=0.1, doubt=True, frozen=False)
    assert dropped(u1=doubtful, u2=dead(29.0)) == set()
    assert dropped(u1=doubtful, u5=dead(1.1)) == {5}
    assert dropped(u1=doubtful, u2=dead(31.0)) == {2}


def links(accused: dict[UnitId, UnitId] | None = None, **found: Condition) -> dict[int, int]:
    conditions = {u.id: found.get(f"u{u.id}", ALIVE) for u in LAYOUT.units}
    found_links = broken_links(LAYOUT, conditions, accused or {})
    return {int(gone): int(word) for gone, word in found_links.items()}


def cut_off_from(*others: int) -> Condition:
    gone = tuple(UnitId(id_) for id_ in others)
    return Condition(dead=False, silent_s=0.1, doubt=False, frozen=False, unreachable=gone)


def test_broken_link_costs_the_later_unit_its_place() -> None:
    assert links(u1=cut_off_from(2)) == {2: 1}


def test_unit_that_reaches_two_next_units_in_a_row_no_more_goes_itself() -> None:
    assert links({UnitId(1): UnitId(9)}, u1=cut_off_from(2)) == {1: 1}


def test_silence_of_a_dead_unit_is_no_broken_link() -> None:
    assert links(u1=cut_off_from(2), u2=dead()) == {}


# What one replica sees, and what a majority says.


def probed(of: Unit) -> Probed:
    return Probed(
        RequestId(incarnation(9), 1), of.id, of.incarnation, Epoch(1), installed=True,
        restarted=False, doubt=False, frozen=False, local_tail=Offset(0), trim_mark=Offset(0),
        closed_until=Offset(0), window_end=Offset(0), free_bytes=0, sync=SyncMode.ALWAYS,
        silent=(),
    )  # fmt: skip


def views(*, heard: bool, misses: int = 3) -> UnitViews:
    found = UnitViews(dead_s=1.0, grace_s=30.0)
    found.keep((unit(1),), 0.0)
    if heard:
        found.heard(probed(unit(1)), 0.0, 0.0)
    for _ in range(misses):
        found.missed(unit(1))
    return found


def verdict(found: UnitViews, now: float) -> bool:
    (view,) = found.own(now)
    return view.dead


def test_unit_silent_for_dead_s_is_dead_for_a_replica() -> None:
    assert not verdict(views(heard=True), 0.9)
    assert verdict(views(heard=True), 1.0)


def test_unit_never_heard_is_dead_only_after_the_grace() -> None:
    assert not verdict(views(heard=False), 29.0)
    assert verdict(views(heard=False), 30.0)


def test_time_without_missed_probes_is_no_silence() -> None:
    assert not verdict(views(heard=True, misses=1), 60.0)


def test_answer_ends_the_silence() -> None:
    found = views(heard=True)
    found.heard(probed(unit(1)), 2.0, 2.1)
    assert not verdict(found, 60.0)


def test_majority_decides_and_old_reports_do_not_count() -> None:
    found = views(heard=True)
    own = ReplicaId(1)
    assert not found.dead(unit(1), 2.0, REPLICAS, own)
    says = UnitView(UnitId(1), unit(1).incarnation, 1500, restarted=False, doubt=False, dead=True)
    found.told(ReplicaId(2), (says,), 1.9)
    assert found.dead(unit(1), 2.0, REPLICAS, own)
    assert not found.dead(unit(1), 4.0, REPLICAS, own)


def test_leader_that_hears_a_unit_never_holds_it_for_dead() -> None:
    found = views(heard=True, misses=0)
    says = UnitView(UnitId(1), unit(1).incarnation, 1500, restarted=False, doubt=False, dead=True)
    found.told(ReplicaId(2), (says,), 1.9)
    found.told(ReplicaId(3), (says,), 1.9)
    assert not found.dead(unit(1), 2.0, REPLICAS, ReplicaId(1))
