"""What a benchmark came to, from the reports of its processes to what is printed."""

from __future__ import annotations

import io
import json

from rich.console import Console

from corfu.tools.bench.assignment import Assignment, Kind
from corfu.tools.bench.crew import Report
from corfu.tools.bench.figures import Figures
from corfu.tools.bench.follow_cli import with_delay_ratio
from corfu.tools.bench.histogram import Histogram
from corfu.tools.bench.outcome import Outcome
from corfu.tools.bench.run import client_uses, rows_of
from corfu.tools.bench.usage import RoleUse


def _figures(what: str, records: int, latency_ns: int, **more: int) -> Figures:
    latency = Histogram()
    latency.record(latency_ns, max(records, 1))
    return Figures(
        what=what, records=records, bytes=records * 10, seconds=2.0, latency=latency, errors=more
    )


def _report(role: str, figures: Figures, cpu_s: float, **counters: int) -> Report:
    return Report(role, Assignment(kind=Kind.APPEND), figures, counters, cpu_s)


def _outcome(*figures: Figures, interrupted: bool = False) -> Outcome:
    return Outcome(
        command="append",
        settings={"size": 1024},
        target={"cluster": "127.0.0.1:9"},
        machine={"processors": 2},
        figures=figures,
        uses=(RoleUse("client", 1, 1.0, None), RoleUse("units", 3, 3.0, 7)),
        counters={"retransmits": 5, "datagrams_out": 50},
        interrupted=interrupted,
    )


def test_reports_of_one_kind_of_work_make_one_row() -> None:
    reports = [
        _report("producer", _figures("append", 100, 5), 0.5),
        _report("follower", _figures("follow", 90, 6), 0.1),
        _report("producer", _figures("append", 50, 5), 0.25),
    ]
    assert [(row.what, row.records) for row in rows_of(reports)] == [
        ("append", 150),
        ("follow", 90),
    ]


def test_clients_are_summed_by_role() -> None:
    reports = [
        _report("producer", _figures("append", 1, 5), 0.5, kernel_drops=2),
        _report("producer", _figures("append", 1, 5), 0.25, kernel_drops=3),
        _report("follower", _figures("follow", 1, 5), 0.125),
    ]
    assert client_uses(reports) == (
        RoleUse("producer", 2, 0.75, 5),
        RoleUse("follower", 1, 0.125, None),
    )


def test_json_tells_cpu_for_a_record_and_of_all_roles() -> None:
    stored = json.loads(json.dumps(_outcome(_figures("append", 1000, 5)).as_json()))
    client, units = stored["cpu"]
    assert (client["us_per_record"], client["cores"], client["kernel_drops"]) == (1000, 0.5, None)
    assert (units["us_per_record"], units["cores"], units["kernel_drops"]) == (3000, 1.5, 7)
    assert stored["cpu_all"] == {
        "role": "all",
        "processes": 4,
        "seconds": 4.0,
        "us_per_record": 4000,
        "cores": 2.0,
        "kernel_drops": 7,
    }
    assert stored["counters"]["retransmits"] == 5


def test_nothing_done_has_no_cost_for_a_record() -> None:
    stored = _outcome(_figures("append", 0, 5)).as_json()
    assert stored["cpu_all"] == {
        "role": "all",
        "processes": 4,
        "seconds": 4.0,
        "us_per_record": None,
        "cores": 2.0,
        "kernel_drops": 7,
    }


def _shown(outcome: Outcome) -> str:
    out = io.StringIO()
    outcome.show(Console(file=out, width=120))
    return out.getvalue()


def test_text_has_all_there_is() -> None:
    text = _shown(_outcome(_figures("append", 1000, 400_000)))
    lines = [line.split() for line in text.splitlines()]
    assert ["append", "1,000", "500", "0.0", *("400", "us") * 4] in lines
    assert ["units", "3", "3,000", "1.50", "7"] in lines
    assert ["all", "4", "4,000", "2.00", "7"] in lines
    assert "5 retransmits" in text
    assert "0.050 datagrams sent a record" in text
    assert "interrupted" not in text


def test_errors_and_an_early_end_are_told() -> None:
    outcome = _outcome(_figures("append", 1000, 400_000, nope=3), interrupted=True)
    assert outcome.errors == {"nope": 3}
    assert "ERROR (3 times): nope" in _shown(outcome)
    assert "interrupted after 2.0 s" in _shown(outcome)


def test_delay_of_a_follower_is_compared_with_the_append() -> None:
    rows = (_figures("append", 100, 400_000), _figures("follow", 100, 600_000))
    ratios = with_delay_ratio(_outcome(*rows)).ratios
    assert ratios is not None
    assert 1.48 < ratios["follow p50 / append p50"] < 1.52
    nothing = Figures(what="follow", records=0, bytes=0, seconds=2.0)
    assert with_delay_ratio(_outcome(rows[0], nothing)).ratios is None
