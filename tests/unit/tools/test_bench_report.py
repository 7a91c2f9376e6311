"""Figures: put together, in JSON, in tables."""

from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from corfu.tools.bench.figures import Figures, figures_json, together
from corfu.tools.bench.histogram import Histogram
from corfu.tools.bench.report import count_text, duration_text, figures_table


def _figures(what: str, records: int, latencies: list[int]) -> Figures:
    latency = Histogram()
    latency.record_all(latencies)
    return Figures(
        what=what,
        records=records,
        bytes=records * 1000,
        seconds=2.0,
        latency=latency,
        errors={"not appended": 1},
        rates=((0.5, 10.0), (1.0, 20.0)),
    )


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [
        (0, "0"),
        (417_000, "417 us"),
        (999_400, "999 us"),
        (999_600, "1.00 ms"),
        (1_430_000, "1.43 ms"),
        (23_450_000, "23.4 ms"),
        (12_000_000_000, "12.0 s"),
        (940, "0.94 us"),
    ],
)
def test_duration_has_three_digits(nanoseconds: int, text: str) -> None:
    assert duration_text(nanoseconds) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (7, "7"), (7.25, "7.25"), (72.04, "72.0"), (123.6, "124"), (98765.4, "98,765")],
)
def test_count_is_whole_where_it_is_large(value: float, text: str) -> None:
    assert count_text(value) == text


def test_together_adds_counts_and_rates_and_keeps_the_span() -> None:
    both = together("append", [_figures("a", 100, [1000]), _figures("b", 50, [3000])])
    assert (both.records, both.bytes, both.seconds) == (150, 150_000, 2.0)
    assert both.records_per_s == 75
    assert both.mb_per_s == pytest.approx(0.075)
    assert both.rates == ((0.5, 20.0), (1.0, 40.0))
    assert both.errors == {"not appended": 2}
    assert (both.latency.count, both.latency.lowest, both.latency.highest) == (2, 1000, 3000)


def test_figures_of_no_time_have_no_rate() -> None:
    none = Figures(what="append", records=0, bytes=0, seconds=0.0)
    assert (none.records_per_s, none.mb_per_s) == (0, 0)


def test_json_gives_rates_and_percentiles_in_microseconds() -> None:
    stored = json.loads(json.dumps(figures_json(_figures("append", 100, [400_000] * 99 + [10**7]))))
    assert stored["records_per_s"] == 50
    assert stored["latency_us"]["p50"] == pytest.approx(400, rel=0.004)
    assert stored["latency_us"]["max"] == 10_000
    assert stored["latency_us"]["count"] == 100
    assert stored["errors"] == {"not appended": 1}
    assert stored["rates"] == [[0.5, 10.0], [1.0, 20.0]]


def test_json_without_latencies_says_null() -> None:
    assert figures_json(_figures("disk", 1, []))["latency_us"] is None


def test_table_has_a_line_for_each_kind_of_work() -> None:
    out = io.StringIO()
    rows = [_figures("append", 123_456, [1_430_000]), _figures("disk", 5, [])]
    Console(file=out, width=120).print(figures_table(rows, "work"))
    heading, first, second = out.getvalue().splitlines()
    assert heading.split() == [
        *("work", "records", "records/s", "MB/s"),
        *("p50", "p99", "p99.9", "max"),
    ]
    assert first.split() == [
        *("append", "123,456", "61,728", "61.7"),
        *("1.43", "ms") * 4,
    ]
    assert second.split()[-4:] == ["-"] * 4
