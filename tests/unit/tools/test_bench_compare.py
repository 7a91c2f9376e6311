"""Rounds, ratios and their spread; what becomes of a peer that fails or is missing."""

from __future__ import annotations

import io
import json
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

import pytest
from rich.console import Console
from rich.table import Table

from corfu.tools.bench.compare import Findings, Plan, Trial, compare, left_out, works_of
from corfu.tools.bench.compare_report import (
    Spread,
    as_json,
    complaints,
    durability_table,
    heading,
    load_text,
    ratios,
    spread,
    work_table,
)
from corfu.tools.bench.histogram import Histogram
from corfu.tools.bench.peers.base import (
    Filling,
    Measured,
    Meter,
    PeerError,
    Records,
    Setup,
    Work,
)
from corfu.tools.bench.peers.contenders import CONTENDERS, Contender
from corfu.types import SyncMode

MS = 1_000_000


def plan_of(
    *contenders: str,
    works: tuple[Work, ...] = ("producer",),
    rounds: int = 3,
    folder: Path | None = None,
) -> Plan:
    return Plan(
        contenders=contenders,
        works=works,
        sizes=(100,),
        sync=SyncMode.OS,
        chains=1,
        rounds=rounds,
        seconds=2.0,
        warm_s=0.5,
        inflight=None,
        kafka=None,
        kafka_topic=None,
        folder=folder,
    )


def measured(records: int, *latencies: int, cpu_s: float = 0.5) -> Measured:
    latency = Histogram()
    latency.record_all(latencies)
    return Measured(records=records, seconds=2.0, latency=latency, total=2 * records, cpu_s=cpu_s)


def trial(
    number: int, contender: str, records: int, *, work: Work = "producer", p50: int = MS
) -> Trial:
    return Trial(number, contender, work, 100, measured(records, p50), 1.0)


def shown(table: Table | None) -> list[list[str]]:
    """Return the words of each line as printed."""
    assert table is not None
    out = io.StringIO()
    Console(file=out, width=160).print(table)
    return [line.split() for line in out.getvalue().splitlines()]


def test_ratio_is_of_one_round_and_spread_over_all() -> None:
    trials = [
        *(trial(n, "corfu", records) for n, records in ((1, 900), (2, 100), (3, 400))),
        *(trial(n, "nats", records) for n, records in ((1, 300), (2, 100), (3, 200))),
    ]
    (ratio,) = ratios(plan_of("corfu", "nats"), trials)
    assert (ratio.ours, ratio.peer, ratio.what, ratio.rounds) == ("corfu", "nats", "records/s", 3)
    assert ratio.spread == Spread(1.0, 2.0, 3.0)


def test_ratio_of_serial_work_is_that_of_the_median_latencies() -> None:
    trials = [
        trial(1, "corfu", 10, work="serial", p50=100),
        trial(1, "nats", 40, work="serial", p50=400),
    ]
    (ratio,) = ratios(plan_of("corfu", "nats", works=("producer", "serial")), trials)
    assert (ratio.work, ratio.what, ratio.spread.median) == ("serial", "p50", 0.25)


def test_round_that_only_one_has_done_gives_no_ratio() -> None:
    trials = [trial(1, "corfu", 300), trial(1, "nats", 100), trial(2, "corfu", 900)]
    (ratio,) = ratios(plan_of("corfu", "nats"), trials)
    assert (ratio.rounds, ratio.spread) == (1, Spread(3.0, 3.0, 3.0))
    assert ratios(plan_of("corfu", "redis"), trials) == []


def test_ratios_are_of_each_of_ours_with_each_peer() -> None:
    names = ("corfu", "corfu-many", "nats", "redis")
    trials = [trial(1, name, 100) for name in names]
    pairs = [(ratio.ours, ratio.peer) for ratio in ratios(plan_of(*names), trials)]
    assert pairs == [
        ("corfu", "nats"),
        ("corfu", "redis"),
        ("corfu-many", "nats"),
        ("corfu-many", "redis"),
    ]


def test_spread_of_an_even_number_takes_the_middle_of_the_two() -> None:
    assert spread([4.0, 1.0, 2.0, 9.0]) == Spread(1.0, 3.0, 9.0)


def test_work_table_shows_median_rates_latency_and_cpu_of_a_record() -> None:
    trials = [
        Trial(1, "nats", "producer", 100, measured(1_000, 2 * MS), 1.0),
        Trial(2, "nats", "producer", 100, measured(3_000, 2 * MS), None),
    ]
    lines = shown(work_table(plan_of("corfu", "nats"), trials, "producer", 100))
    # 1,000 and 3,000 records in 2 s; the client took 0.5 s for 2,000 and 6,000 records.
    assert lines[-1][:5] == ["nats", "1,000", "500", "1,500", "0.1"]
    assert lines[-1][5:7] == ["2.00", "ms"]
    assert lines[-1][9:] == ["166.7", "us", "500.0", "us"]
    assert work_table(plan_of("nats"), trials, "serial", 100) is None
    assert work_table(plan_of("nats"), trials, "producer", 1024) is None


def test_work_table_of_reading_shows_no_latency() -> None:
    trials = [Trial(1, "nats", "read", 100, measured(1_000), None)]
    (line,) = shown(work_table(plan_of("nats"), trials, "read", 100))[1:]
    assert line[5:] == ["-", "-", "250.0", "us", "-"]
    assert heading(plan_of("nats"), "read", 1024) == (
        "1,024 B records, one reader, from the beginning to the end and again, --sync os"
    )


def test_ratio_of_reading_is_that_of_the_rates() -> None:
    trials = [trial(1, "corfu", 300, work="read"), trial(1, "nats", 100, work="read")]
    (ratio,) = ratios(plan_of("corfu", "nats", works=("read",)), trials)
    assert (ratio.what, ratio.spread.median) == ("records/s", 3.0)


def test_contender_reads_first_and_does_only_what_it_can() -> None:
    plan = plan_of("corfu", works=("producer", "serial", "read"))
    assert works_of(plan, CONTENDERS["nats"]) == ["read", "producer", "serial"]
    assert works_of(plan, CONTENDERS["corfu-many"]) == ["producer"]


def test_table_says_what_each_durability_was_and_nothing_of_who_never_ran() -> None:
    findings = Findings(durability={"nats": "3 servers, R3 stream"})
    lines = shown(durability_table(plan_of("nats", "redis"), findings))
    assert [line[0] for line in lines[1:]] == ["nats"]
    assert " ".join(lines[1]) == "nats 3 servers, R3 stream publish_async"


def test_complaints_name_who_has_no_figures_and_why() -> None:
    findings = Findings(left_out={"redis": "no redis-server in PATH"}, failed={"nats": "it died"})
    assert complaints(findings) == [
        "redis: left out: no redis-server in PATH",
        "nats: failed: it died",
    ]


def test_load_is_told_with_the_processors_that_it_is_on() -> None:
    assert load_text(1.04, 12.0, 2) == (
        "load 1.0 at the beginning, 12.0 at the end, on 2 processors"
    )


def test_json_holds_every_trial_and_ratio() -> None:
    findings = Findings(
        trials=[trial(1, "corfu", 300), trial(1, "nats", 100)],
        durability={"nats": "3 servers"},
        left_out={"redis": "missing"},
    )
    found = json.loads(json.dumps(as_json(plan_of("corfu", "nats"), findings, (1.0, 2.0))))
    assert found["contenders"] == [
        {"name": "nats", "durability": "3 servers", "call": "publish_async"}
    ]
    assert [each["records_per_s"] for each in found["trials"]] == [150.0, 50.0]
    assert found["trials"][0]["latency_us"]["p50"] == 1000.0
    assert found["ratios"][0]["spread"] == {"least": 3.0, "median": 3.0, "most": 3.0}
    assert (found["left_out"], found["failed"]) == ({"redis": "missing"}, {})


class FakeServers:
    """Servers that start in a folder, or fail after they have logged something."""

    started: ClassVar[list[str]] = []
    complaint: str | None = None

    def __init__(self, setup: Setup) -> None:
        self._folder = setup.folder

    @property
    def durability(self) -> str:
        return "none"

    def target(self) -> dict[str, object]:
        return {}

    def pids(self) -> list[int]:
        return []

    async def __aenter__(self) -> Self:
        self.started.append(self._folder.name)
        (self._folder / "data").mkdir()
        (self._folder / "server.log").write_text("no room\n")
        if self.complaint is not None:
            raise PeerError(self.complaint)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        return None


class FailingServers(FakeServers):
    complaint = "fake-1 exited with status 1: no room"


@pytest.fixture
def _fakes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Contenders that start and have no work to do, and one that fails at its start."""
    monkeypatch.setattr(FakeServers, "started", [])
    for name, servers in (
        ("idle", "FakeServers"),
        ("other", "FakeServers"),
        ("broken", "FailingServers"),
    ):
        monkeypatch.setitem(CONTENDERS, name, Contender(name, __name__, servers, "", "call", ()))


@pytest.mark.usefixtures("_fakes")
async def test_rounds_go_through_all_contenders_in_turn_and_leave_nothing(tmp_path: Path) -> None:
    said: list[str] = []
    plan = plan_of("idle", "other", rounds=2, folder=tmp_path)
    await compare(plan, Findings(), said.append)
    names = plan.contenders
    assert said == [f"round {number} of 2: 100 B, {name}" for number in (1, 2) for name in names]
    assert len(FakeServers.started) == 4
    assert _listed(tmp_path) == []


@pytest.mark.usefixtures("_fakes")
async def test_contender_that_fails_is_told_of_and_takes_no_further_part(tmp_path: Path) -> None:
    findings = Findings()
    said: list[str] = []
    await compare(plan_of("idle", "broken", rounds=2, folder=tmp_path), findings, said.append)
    assert said[-2].startswith("broken failed: fake-1 exited with status 1")
    assert [name.split("-")[2] for name in FakeServers.started] == ["idle", "broken", "idle"]
    (kept,) = _listed(tmp_path)
    assert findings.failed == {"broken": f"fake-1 exited with status 1: no room (logs: {kept})"}
    assert [path.name for path in _listed(kept)] == ["server.log"]


def _listed(folder: Path) -> list[Path]:
    return sorted(folder.iterdir())


def test_left_out_says_what_a_peer_lacks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("sys.executable", str(tmp_path / "python"))
    assert left_out(["redis", "kafka"])["redis"] == "no redis-server in PATH"


def test_meter_counts_only_what_ends_after_the_warm_up_and_before_the_end() -> None:
    times = iter([0, 999, 1_000, 1_400, 2_999, 2_999, 3_000, 3_000])
    meter = Meter(1e-6, 2e-6, lambda: next(times))
    meter.saw(5, 900)  # at 999: too early
    meter.saw(1, 990)  # at 1,000
    meter.saw(2, 1_200)  # at 1,400
    assert not meter.over()
    meter.saw(1, 2_989)
    assert meter.over()
    meter.saw(7, 2_000)  # at 3,000: too late
    assert (meter.records, meter.total) == (4, 16)
    latency = meter.latency()
    assert (latency.count, latency.lowest, latency.highest) == (3, 10, 200)


def test_records_differ_and_come_again_in_the_same_order() -> None:
    noise = bytes(range(256)) * (Records.COUNT // 128)
    records = Records(noise, 2)
    first = records.many(Records.COUNT)
    assert b"".join(first) == noise[: 2 * Records.COUNT]
    assert records.one() == first[0]


def test_meter_counts_what_is_read_within_its_span() -> None:
    times = iter([0, 999, 1_000, 2_999, 3_000])
    meter = Meter(1e-6, 2e-6, lambda: next(times))
    for count in (8, 4, 2, 1):
        meter.read(count)
    assert (meter.records, meter.total, meter.latency().count) == (6, 15, 0)


def test_meter_that_is_started_again_counts_from_then_on() -> None:
    times = iter([0, 5_000, 5_999, 6_000, 7_999, 8_000])
    meter = Meter(1e-6, 2e-6, lambda: next(times))
    meter.start()
    meter.read(4)  # at 5,999: in the second warm-up
    meter.read(2)
    assert not meter.over()
    assert meter.over()
    assert meter.records == 2


def test_filling_is_over_when_so_many_records_were_taken() -> None:
    records = Records(bytes(Records.COUNT), 1)
    meter = Filling(records, 3)
    records.many(2)
    assert not meter.over()
    records.one()
    assert meter.over()


def test_measured_survives_the_way_between_processes() -> None:
    sent = measured(10, MS, 3 * MS)
    assert Measured.from_json(json.loads(json.dumps(sent.as_json()))) == sent
