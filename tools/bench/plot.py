"""Figures as a picture: rates over time and latencies by percentile, as SVG written by hand."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from pathlib import Path

from .figures import Figures
from .histogram import Histogram
from .outcome import Outcome
from .report import count_text, duration_text

WIDTH, PANEL, GAP, LEFT, RIGHT, TOP = 900, 260, 90, 90, 20, 96
COLOURS = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#8c564b")
PERCENTS = (1, 10, 25, 50, 75, 90, 95, 99, 99.5, 99.9, 99.95, 99.99, 99.999)
NAMED_PERCENTS = (0, 50, 90, 99, 99.9, 99.99)

Point = tuple[float, float]


def write_plot(path: Path, outcome: Outcome) -> None:
    """Draw an outcome into a file."""
    target = ", ".join(f"{name} {value}" for name, value in outcome.target.items())
    path.write_text(svg(f"corfu bench {outcome.command}", target, outcome.figures))


def svg(title: str, subtitle: str, rows: Sequence[Figures]) -> str:
    """Return a picture of rates over time (if known) and of latencies (if measured)."""
    panels: list[str] = []
    top = TOP
    if any(row.rates for row in rows):
        panels.append(_rates(rows, top))
        top += PANEL + GAP
    if any(row.latency.count for row in rows):
        panels.append(_latencies(rows, top))
        top += PANEL + GAP
    names = [(row.what, COLOURS[i % len(COLOURS)]) for i, row in enumerate(rows)]
    return "\n".join(
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{top}" '
            f'viewBox="0 0 {WIDTH} {top}" font-family="sans-serif" font-size="12">',
            f'<rect width="{WIDTH}" height="{top}" fill="white"/>',
            _text(LEFT, 22, title, size=16),
            _text(LEFT, 40, subtitle),
            *(
                _text(LEFT + 130 * i, 58, name, colour=colour, size=13)
                for i, (name, colour) in enumerate(names)
            ),
            *panels,
            "</svg>",
            "",
        )
    )


def _rates(rows: Sequence[Figures], top: int) -> str:
    """Return the panel of rates: linear, from 0."""
    across = max(at for row in rows for at, _ in row.rates)
    up = _round_up(max(rate for row in rows for _, rate in row.rates))
    lines = [
        _line([(at / (across or 1), rate / up) for at, rate in row.rates], top, i)
        for i, row in enumerate(rows)
        if row.rates
    ]
    return "\n".join(
        (
            _frame(top, "records/s", "seconds"),
            *(_level(top, i / 4, count_text(up * i / 4)) for i in range(5)),
            *(_mark(top, i / 5, f"{across * i / 5:.3g}") for i in range(6)),
            *lines,
        )
    )


def _latencies(rows: Sequence[Figures], top: int) -> str:
    """Return the panel of latencies: logarithmic, over the nines of the percentile."""
    measured = [(i, row.latency) for i, row in enumerate(rows) if row.latency.count]
    low = min(max(latency.lowest, 1) for _, latency in measured)
    high = max(max(latency.highest, 1) for _, latency in measured)
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    last = max(last, first + 1)
    nines = max(_nines(_last_percent(latency)) for _, latency in measured)

    def height(value: int) -> float:
        return (math.log10(max(value, 1)) - first) / (last - first)

    return "\n".join(
        (
            _frame(top, "latency", "percentile"),
            *(
                _level(top, (power - first) / (last - first), duration_text(10**power))
                for power in range(first, last + 1)
            ),
            *(
                _mark(top, _nines(percent) / nines, f"{percent:g} %")
                for percent in NAMED_PERCENTS
                if _nines(percent) <= nines
            ),
            *(
                _line(
                    [
                        (_nines(percent) / nines, height(latency.percentile(percent)))
                        for percent in PERCENTS
                        if percent <= _last_percent(latency)
                    ],
                    top,
                    i,
                )
                for i, latency in measured
            ),
        )
    )


def _last_percent(latency: Histogram) -> float:
    """Return the last percentile that so many values can tell of."""
    told = [percent for percent in PERCENTS if latency.count * (1 - percent / 100) >= 1]
    return max(told, default=50)


def _nines(percent: float) -> float:
    """Return where a percentile stands: 90 at 1, 99 at 2, 99.9 at 3."""
    return -math.log10(1 - percent / 100)


def _round_up(value: float) -> float:
    """Return 1, 2, 4 or 8 times a power of ten, at least `value`."""
    power = 10.0 ** math.floor(math.log10(value)) if value > 0 else 1.0
    return next(power * step for step in (1, 2, 4, 8, 10) if power * step >= value)


def _x(across: float) -> float:
    return round(LEFT + across * (WIDTH - LEFT - RIGHT), 1)


def _y(top: int, up: float) -> float:
    return round(top + PANEL * (1 - up), 1)


def _frame(top: int, up: str, across: str) -> str:
    return "\n".join(
        (
            f'<rect x="{LEFT}" y="{top}" width="{WIDTH - LEFT - RIGHT}" height="{PANEL}" '
            'fill="none" stroke="#888"/>',
            _text(LEFT, top - 10, up),
            _text(WIDTH - RIGHT, top + PANEL + 34, across, anchor="end"),
        )
    )


def _level(top: int, up: float, label: str) -> str:
    y = _y(top, up)
    return f'<line x1="{LEFT}" y1="{y}" x2="{WIDTH - RIGHT}" y2="{y}" stroke="#ddd"/>' + _text(
        LEFT - 6, y + 4, label, anchor="end"
    )


def _mark(top: int, across: float, label: str) -> str:
    return _text(_x(across), top + PANEL + 18, label, anchor="middle")


def _line(points: Sequence[Point], top: int, number: int) -> str:
    places = " ".join(f"{_x(across)},{_y(top, up)}" for across, up in points)
    colour = COLOURS[number % len(COLOURS)]
    return f'<polyline points="{places}" fill="none" stroke="{colour}" stroke-width="2"/>'


def _text(
    x: float, y: float, text: str, *, anchor: str = "start", colour: str = "black", size: int = 12
) -> str:
    return (
        f'<text x="{x}" y="{y}" text-anchor="{anchor}" fill="{colour}" font-size="{size}">'
        f"{escape(text)}</text>"
    )
