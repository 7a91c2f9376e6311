"""Figures as people read them: tables and durations. Pure but for rich; no cluster's details."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from .figures import PERCENTS, Figures, label_of

_UNITS = ((1e9, "s"), (1e6, "ms"), (1e3, "us"))


def duration_text(nanoseconds: float) -> str:
    """Return a duration with three digits: `417 us`, `1.43 ms`, `12.0 s`."""
    for size, unit in _UNITS:
        # What would be rounded up to 1,000 of a smaller unit is one of this.
        if nanoseconds >= size * 0.9995:
            return f"{_digits(nanoseconds / size)} {unit}"
    return f"{nanoseconds / 1e3:.2f} us" if nanoseconds else "0"


def count_text(value: float) -> str:
    """Return a number as people read it: whole, with thousands apart; small ones with digits."""
    return f"{value:,.0f}" if value >= 100 or value == int(value) else _digits(value)


def figures_table(rows: Sequence[Figures], first: str = "") -> Table:
    """Return a table with one line for each kind of work.

    Args:
        rows: What was measured.
        first: Heading of the names' column.
    """
    table = Table(box=None, pad_edge=False)
    table.add_column(first)
    for heading in ("records", "records/s", "MB/s", *map(label_of, PERCENTS)):
        table.add_column(heading, justify="right")
    for row in rows:
        table.add_row(row.what, *figures_cells(row))
    return table


def figures_cells(figures: Figures) -> tuple[str, ...]:
    """Return the cells of one line: records, records/s, MB/s, percentiles; "-" is not measured."""
    latency = figures.latency
    times = [duration_text(latency.percentile(each)) for each in PERCENTS] if latency.count else []
    return (
        f"{figures.records:,}",
        count_text(figures.records_per_s),
        f"{figures.mb_per_s:,.1f}",
        *(times or ["-"] * len(PERCENTS)),
    )


def _digits(value: float) -> str:
    """Return a number below 1,000 with three digits."""
    for limit, digits in ((9.995, 2), (99.95, 1)):
        if value < limit:
            return f"{value:.{digits}f}"
    return f"{value:.0f}"
