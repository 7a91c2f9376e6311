"""The histogram against the values themselves."""

from __future__ import annotations

import json
import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corfu.tools.bench.histogram import EXACT_BELOW, Histogram, bucket_of, highest_of

VALUES = st.integers(0, 10**13)


@given(VALUES)
def test_bucket_holds_its_value_and_is_narrow(value: int) -> None:
    bucket = bucket_of(value)
    lowest = highest_of(bucket - 1) + 1 if bucket else 0
    assert lowest <= value <= highest_of(bucket)
    assert highest_of(bucket) - lowest <= value / 256


def test_buckets_follow_each_other_without_a_gap() -> None:
    assert [bucket_of(value) for value in range(EXACT_BELOW)] == list(range(EXACT_BELOW))
    for bucket in range(20 * 256):
        assert bucket_of(highest_of(bucket)) == bucket
        assert bucket_of(highest_of(bucket) + 1) == bucket + 1


@given(st.lists(VALUES, min_size=1, max_size=200), st.floats(0.001, 100))
def test_percentile_is_that_of_the_sorted_values_within_one_bucket(
    values: list[int], percent: float
) -> None:
    histogram = Histogram()
    histogram.record_all(values)
    rank = max(1, math.ceil(round(len(values) * percent / 100, 6)))
    exact = sorted(values)[rank - 1]
    assert exact <= histogram.percentile(percent) <= min(exact * (1 + 1 / 256), max(values))


@pytest.mark.parametrize(("percent", "exact"), [(50, 500), (99, 990), (99.9, 999), (100, 1000)])
def test_percentiles_of_a_thousand_values_are_exact_ranks(percent: float, exact: int) -> None:
    histogram = Histogram()
    histogram.record_all(range(1, 1001))
    assert exact <= histogram.percentile(percent) <= exact * 1.004


def test_one_by_one_and_all_at_once_are_the_same() -> None:
    rng = random.Random(1)
    values = [int(rng.lognormvariate(13, 2)) for _ in range(5000)] + [-3, 0]
    one, many = Histogram(), Histogram()
    for value in values:
        one.record(value)
    many.record_all(values)
    assert one == many
    assert many.count == len(values)
    assert many.lowest == 0
    assert many.highest == max(values)
    assert many.mean == pytest.approx(sum(values[:-2]) / len(values))


def test_record_times_counts_as_so_many_values() -> None:
    one, many = Histogram(), Histogram()
    one.record(70_000, 3)
    many.record_all([70_000] * 3)
    assert one == many


@given(st.lists(VALUES, max_size=50), st.lists(VALUES, max_size=50))
def test_merged_histograms_are_that_of_all_values(left: list[int], right: list[int]) -> None:
    merged, other, whole = Histogram(), Histogram(), Histogram()
    merged.record_all(left)
    other.record_all(right)
    whole.record_all([*left, *right])
    merged.merge(other)
    assert merged == whole


def test_json_brings_back_the_same_histogram() -> None:
    histogram = Histogram()
    histogram.record_all([1, 5, 70_000, 70_001, 10**12])
    assert Histogram.from_json(json.loads(json.dumps(histogram.as_json()))) == histogram
    assert Histogram.from_json(Histogram().as_json()) == Histogram()


@pytest.mark.parametrize(
    "stored", [{}, {"counts": [], "total": "x"}, {"counts": [], "total": 1, "lowest": 0}]
)
def test_json_of_something_else_is_refused(stored: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="no histogram"):
        Histogram.from_json(stored)


def test_empty_histogram_has_percentiles_of_zero() -> None:
    assert Histogram().percentile(99) == 0
    assert Histogram().percentile(100) == 0
    assert Histogram().mean == 0
