"""Which faults a seed stands for."""

from __future__ import annotations

from corfu.tools.nemesis.plan import (
    ABSENCE_S,
    DOWN_S,
    STOP_S,
    Kind,
    draw_cycles,
    possible,
)


def test_draw_cycles_of_one_seed_is_always_the_same() -> None:
    assert draw_cycles(7, 60, tuple(Kind)) == draw_cycles(7, 60, tuple(Kind))
    assert draw_cycles(7, 60, tuple(Kind)) != draw_cycles(8, 60, tuple(Kind))


def test_draw_cycles_of_fewer_is_the_beginning_of_more() -> None:
    """So that a failure can be looked for with fewer cycles."""
    assert draw_cycles(7, 30, tuple(Kind))[:10] == draw_cycles(7, 10, tuple(Kind))


def test_draw_cycles_makes_every_kind_before_any_comes_again() -> None:
    cycles = draw_cycles(3, 2 * len(tuple(Kind)), tuple(Kind))
    for half in (cycles[: len(tuple(Kind))], cycles[len(tuple(Kind)) :]):
        assert {cycle.kind for cycle in half} == set(Kind)
    assert [cycle.number for cycle in cycles] == list(range(1, len(cycles) + 1))


def test_draw_cycles_keeps_the_durations_of_each_kind() -> None:
    for cycle in draw_cycles(5, 200, tuple(Kind)):
        low, high = DOWN_S
        if cycle.kind is Kind.LONG_ABSENCE:
            low, high = ABSENCE_S
        elif cycle.kind.startswith("stop-"):
            low, high = STOP_S
        assert low <= cycle.seconds <= high
        assert 0 <= cycle.draw < 1


def test_draw_cycles_overlaps_a_part_of_the_cycles() -> None:
    overlapping = [cycle.overlap for cycle in draw_cycles(1, 200, tuple(Kind))]
    assert 30 <= sum(overlapping) <= 90


def test_possible_leaves_out_what_a_small_cluster_cannot_survive() -> None:
    small = possible(tuple(Kind), sequencers=1, replicas=1, spares=0)
    assert set(small) == {
        Kind.KILL_LEADER,
        Kind.KILL_CLUSTER,
        Kind.RESTART_REPLICA,
        Kind.RESTART_UNIT,
    }
    pairs = possible(tuple(Kind), sequencers=3, replicas=2, spares=1)
    assert set(Kind) - set(pairs) == {Kind.KILL_MIDDLE, Kind.STOP_MIDDLE, Kind.KILL_TWO}
    assert possible(tuple(Kind), sequencers=3, replicas=3, spares=2) == tuple(Kind)
