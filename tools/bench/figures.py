"""What one measurement came to: counts, rates and latencies. Pure, and of no cluster's kind."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from .histogram import Histogram

PERCENTS = (50.0, 99.0, 99.9, 100.0)
"""What is printed of a histogram; 100 is the highest value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """One kind of work over one span of time.

    Attributes:
        what: Its name, such as "append".
        records: How many were done within the span.
        bytes: Their length.
        seconds: The span.
        latency: What each took, in nanoseconds; empty if that was not measured.
        errors: What failed, by its text.
        rates: (seconds since the beginning of the span, records a second) of each short interval.
    """

    what: str
    records: int
    bytes: int
    seconds: float
    latency: Histogram = field(default_factory=Histogram)
    errors: Mapping[str, int] = field(default_factory=dict)
    rates: tuple[tuple[float, float], ...] = ()

    @property
    def records_per_s(self) -> float:
        """Records a second, over the whole span."""
        return self.records / self.seconds if self.seconds > 0 else 0.0

    @property
    def mb_per_s(self) -> float:
        """Megabytes (10^6 bytes) of records a second, over the whole span."""
        return self.bytes / 1e6 / self.seconds if self.seconds > 0 else 0.0


def together(what: str, parts: Iterable[Figures]) -> Figures:
    """Return the figures of processes that worked side by side, over the same span."""
    latency, errors = Histogram(), dict[str, int]()
    rates: dict[float, float] = {}
    records = size = 0
    seconds = 0.0
    for part in parts:
        records += part.records
        size += part.bytes
        seconds = max(seconds, part.seconds)
        latency.merge(part.latency)
        for text, times in part.errors.items():
            errors[text] = errors.get(text, 0) + times
        for at, rate in part.rates:
            rates[at] = rates.get(at, 0.0) + rate
    return Figures(
        what=what,
        records=records,
        bytes=size,
        seconds=seconds,
        latency=latency,
        errors=errors,
        rates=tuple(sorted(rates.items())),
    )


def label_of(percent: float) -> str:
    """Return what a percentile is called: p50, p99.9, max."""
    return "max" if percent == PERCENTS[-1] else f"p{percent:g}"


def latency_json(latency: Histogram) -> dict[str, float | int] | None:
    """Return the percentiles in microseconds; None if nothing was recorded."""
    if not latency.count:
        return None
    return {
        **{label_of(each): round(latency.percentile(each) / 1e3, 3) for each in PERCENTS},
        "mean": round(latency.mean / 1e3, 3),
        "count": latency.count,
    }


def figures_json(figures: Figures) -> dict[str, object]:
    """Return what `-o json` prints of one kind of work."""
    return {
        "what": figures.what,
        "records": figures.records,
        "bytes": figures.bytes,
        "seconds": round(figures.seconds, 6),
        "records_per_s": round(figures.records_per_s, 3),
        "mb_per_s": round(figures.mb_per_s, 3),
        "latency_us": latency_json(figures.latency),
        "errors": dict(figures.errors),
        "rates": [[round(at, 3), round(rate, 1)] for at, rate in figures.rates],
    }
