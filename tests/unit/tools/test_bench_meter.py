"""Counting in a client: what belongs to the span, and what does not."""

from __future__ import annotations

from corfu.errors import NotAppendedError
from corfu.tools.bench.meter import ERRORS_KEPT, Meter

S = 1_000_000_000


def test_warm_up_is_forgotten() -> None:
    meter = Meter(2, 100)
    meter.samples += [5, 5, 5]
    meter.error(NotAppendedError("early"))
    meter.begin(10 * S)
    meter.samples.append(7)
    meter.end(12 * S)
    figures = meter.figures("append")
    assert (figures.records, figures.bytes, figures.seconds) == (2, 200, 2.0)
    assert (figures.latency.count, figures.latency.highest) == (1, 7)
    assert figures.errors == {}


def test_what_ends_after_the_span_counts_only_for_the_latency() -> None:
    """Else a stall at the end would be told by nobody."""
    meter = Meter(1, 100)
    meter.begin(0)
    meter.samples.append(3)
    meter.end(S)
    meter.samples.append(9 * S)
    figures = meter.figures("append")
    assert figures.records == 1
    assert figures.latency.count == 2
    assert figures.latency.highest == 9 * S


def test_rates_are_those_of_the_ticks() -> None:
    meter = Meter(1, 1)
    meter.begin(0)
    meter.samples += [1] * 100
    meter.tick(S // 4 + 3_000_000)
    meter.add(50, 0)
    meter.tick(S // 2)
    meter.end(S // 2 + 1_000_000)
    figures = meter.figures("append")
    assert [at for at, _ in figures.rates] == [0.25, 0.5], "named by the planned time"
    assert [round(rate) for _, rate in figures.rates] == [395, 202]


def test_span_without_a_tick_has_one_rate() -> None:
    meter = Meter(1, 1)
    meter.begin(0)
    meter.samples += [1] * 10
    meter.end(S // 10)
    assert [round(rate) for _, rate in meter.figures("append").rates] == [100]


def test_hot_path_keeps_its_list() -> None:
    meter = Meter(1, 1)
    note = meter.samples.append
    meter.begin(0)
    for moment in (1, 2, 3):
        note(moment)
        meter.tick(moment * S)
    meter.end(4 * S)
    assert meter.figures("append").records == 3


def test_errors_are_counted_by_text_but_not_without_bound() -> None:
    meter = Meter()
    meter.begin(0)
    for number in range(100):
        meter.error(NotAppendedError(f"offset {number}"))
        meter.error(NotAppendedError("offset 0"))
    meter.end(S)
    errors = meter.figures("append").errors
    assert errors["NotAppendedError: offset 0"] == 101
    assert len(errors) == ERRORS_KEPT + 1
    assert sum(errors.values()) == 200
