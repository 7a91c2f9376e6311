"""How long appends waited because of a fault."""

from __future__ import annotations

from corfu.tools.nemesis.measures import RESUME_S, Sample, Waits, percentile, waits


def _sample(invoked: float, completed: float, *, acknowledged: bool = True) -> Sample:
    return Sample("c1", invoked, completed, acknowledged)


def test_waits_counts_from_the_fault_on() -> None:
    samples = [_sample(9.0, 9.5), _sample(9.75, 11.5), _sample(10.25, 11.0), _sample(12.0, 12.5)]
    assert waits(samples, 10.0, 20.0) == Waits(next_s=1.0, resumed_s=1.5, longest_s=1.5)


def test_waits_of_an_append_that_failed_count_but_it_is_no_next_one() -> None:
    samples = [_sample(10.0, 12.0, acknowledged=False), _sample(10.5, 13.0)]
    assert waits(samples, 10.0, 20.0) == Waits(next_s=3.0, resumed_s=2.5, longest_s=2.5)


def test_waits_of_what_begins_later_are_the_longest_alone() -> None:
    later = 10.0 + RESUME_S
    cost = waits([_sample(10.0, 10.5), _sample(later, later + 2)], 10.0, 20.0)
    assert cost == Waits(next_s=0.5, resumed_s=0.5, longest_s=2.0)


def test_waits_end_with_the_next_fault() -> None:
    cost = waits([_sample(10.5, 15.0), _sample(12.5, 12.75)], 10.0, 12.0)
    # It was acknowledged, though the next fault came between: how late, that one tells.
    assert cost == Waits(next_s=5.0, resumed_s=1.5, longest_s=1.5)


def test_waits_without_appends_knows_no_next_one() -> None:
    assert waits([], 10.0, 20.0) == Waits(None, 0.0, 0.0)


def test_percentile_is_one_of_the_values() -> None:
    values = [0.3, 0.1, 0.2, 0.4]
    assert percentile(values, 0.5) == 0.2
    assert percentile(values, 0.99) == 0.4
    assert percentile(values, 1.0) == 0.4
    assert percentile([7.0], 0.01) == 7.0
    assert percentile([float(n) for n in range(1, 201)], 0.99) == 198.0
