"""The picture: well-formed, everything inside, no text upon another."""

from __future__ import annotations

import itertools
import random
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from corfu.tools.bench.figures import Figures
from corfu.tools.bench.histogram import Histogram
from corfu.tools.bench.outcome import Outcome
from corfu.tools.bench.plot import svg, write_plot

SVG = "{http://www.w3.org/2000/svg}"


def _row(what: str, latencies: int = 5000, rates: int = 20) -> Figures:
    rng = random.Random(what)
    latency = Histogram()
    latency.record_all(int(rng.lognormvariate(13, 1)) for _ in range(latencies))
    return Figures(
        what=what,
        records=1000,
        bytes=1,
        seconds=5.0,
        latency=latency,
        rates=tuple((i / 4, rng.uniform(0, 70_000)) for i in range(1, rates + 1)),
    )


def _points(line: ET.Element) -> list[tuple[float, float]]:
    pairs = (pair.split(",") for pair in line.attrib["points"].split())
    return [(float(x), float(y)) for x, y in pairs]


def test_lines_stay_inside_and_latencies_rise() -> None:
    root = ET.fromstring(svg("t", "s", [_row("append"), _row("follow")]))
    width, height = float(root.attrib["width"]), float(root.attrib["height"])
    lines = root.findall(f"{SVG}polyline")
    assert len(lines) == 4, "rates and latencies of two kinds of work"
    for line in lines:
        points = _points(line)
        assert all(0 <= x <= width and 0 <= y <= height for x, y in points)
        assert [x for x, _ in points] == sorted(x for x, _ in points)
    for line in lines[2:]:
        heights = [y for _, y in _points(line)]
        assert heights == sorted(heights, reverse=True), "a higher percentile is no shorter"


def test_no_text_lies_upon_another() -> None:
    root = ET.fromstring(svg("title", "subtitle", [_row("append"), _row("follow")]))
    places = [(float(t.attrib["x"]), float(t.attrib["y"])) for t in root.iter(f"{SVG}text")]
    for (x, y), (other_x, other_y) in itertools.combinations(places, 2):
        assert abs(x - other_x) > 20 or abs(y - other_y) > 11


@pytest.mark.parametrize(
    ("latencies", "rates", "lines"), [(0, 5, 1), (5, 0, 1), (1, 1, 2), (0, 0, 0)]
)
def test_what_was_not_measured_has_no_panel(latencies: int, rates: int, lines: int) -> None:
    root = ET.fromstring(svg("t", "s", [_row("disk", latencies, rates)]))
    assert len(root.findall(f"{SVG}polyline")) == lines


def test_rates_of_zero_are_drawn() -> None:
    idle = Figures(what="append", records=0, bytes=0, seconds=1.0, rates=((0.0, 0.0),))
    assert len(ET.fromstring(svg("t", "s", [idle])).findall(f"{SVG}polyline")) == 1


def test_file_has_the_command_and_escapes_what_it_quotes(tmp_path: Path) -> None:
    path = tmp_path / "plot.svg"
    outcome = Outcome(
        command="append",
        settings={},
        target={"folder": "a<b&c"},
        machine={},
        figures=(_row("append"),),
    )
    write_plot(path, outcome)
    texts = [text.text for text in ET.parse(path).getroot().iter(f"{SVG}text")]
    assert "corfu bench append" in texts
    assert "folder a<b&c" in texts
