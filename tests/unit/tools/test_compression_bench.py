"""The benchmark of compression runs, and measures what it says."""

from __future__ import annotations

import random

import pytest
from click.testing import CliRunner

from corfu.tools.compression_bench import large_event, main, measure, small_event, ways
from corfu.tools.dictionary_training import entries_of, train


@pytest.mark.parametrize(("make", "size"), [(small_event, 150), (large_event, 1000)])
def test_events_have_the_size_that_is_said(make: object, size: int) -> None:
    assert callable(make)
    rng = random.Random(1)
    events = [make(rng, number) for number in range(300)]
    assert 0.95 * size < sum(map(len, events)) / 300 < 1.05 * size
    assert len(set(events)) == 300


def test_measured_bytes_are_those_of_the_entries() -> None:
    rng = random.Random(2)
    events = [small_event(rng, number) for number in range(400)]
    codecs = ways(train(events[:200], 2048, 1).dictionary)
    costs = measure(codecs, entries_of(events[200:], 0), 1)
    assert costs["none"].bytes == 24 + sum(map(len, events[200:])) / 200
    assert costs["zstd, dictionary"].bytes < 0.8 * costs["none"].bytes
    assert all(cost.pack_us >= 0 and cost.unpack_us >= 0 for cost in costs.values())


def test_command_prints_a_row_for_each_way_and_size() -> None:
    result = CliRunner().invoke(main, ["--records", "50", "--rounds", "1"])
    assert result.exit_code == 0, result.output
    assert len(result.output.splitlines()) == 1 + 4 * 5
