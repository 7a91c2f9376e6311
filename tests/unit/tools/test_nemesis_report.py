"""What a run's report says, and when it is a failure."""

from __future__ import annotations

import json

from corfu.tools.failure import Status
from corfu.tools.nemesis.faults import describe
from corfu.tools.nemesis.measures import Waits
from corfu.tools.nemesis.plan import Cycle, Kind
from corfu.tools.nemesis.report import (
    Made,
    Report,
    Totals,
    as_json,
    count,
    judge,
    line_of,
    too_slow,
)
from corfu.tools.nemesis.safety import Victims
from corfu.tools.operations import Append, FinalLog, Operation, Outcome, Scan
from corfu.types import ReplicaId, UnitId

HISTORY: list[Operation] = [
    Append(1.0, 1.1, "c1", ("a", "b"), ((0, 0), (0, 1))),
    Append(1.2, 1.3, "c1", ("c",), ((1, 0),)),
    Append(1.4, 1.5, "c2", ("d",), (None,), Outcome.NOT_APPENDED),
    Scan(1.0, 2.0, "c2", (0, 0), (2, 0), (((0, 0), "a"), ((0, 1), "b"), ((1, 0), "c"))),
]
FINAL = FinalLog({0: ("a", "b"), 1: ("c",)}, tail=3, junk=frozenset({2}))


def _made(kind: Kind, resumed_s: float, *, number: int = 7, whole_s: float | None = 14.0) -> Made:
    return Made(number, kind, "words", "12:03:11", Waits(0.31, resumed_s, resumed_s), whole_s)


def _report(*violations: str) -> Report:
    faults = (_made(Kind.KILL_LEADER, 0.6), _made(Kind.STOP_HEAD, 1.31, whole_s=None))
    return Report(3, 2, 61.0, faults, count(HISTORY, FINAL), violations, None)


def test_judge_of_a_sound_history_finds_nothing() -> None:
    assert judge(HISTORY, FINAL) == []


def test_judge_of_a_lost_record_names_it() -> None:
    lost = FinalLog({0: ("a", "b")}, tail=3, junk=frozenset({1, 2}))
    assert any("c at 1.0 has vanished" in each for each in judge(HISTORY, lost))
    # A run's faults never take the last copy of anything, so LOST is no excuse.
    told = FinalLog({0: ("a", "b")}, tail=3, junk=frozenset({2}), lost=((1, 2),))
    assert judge(HISTORY, told) != []


def test_judge_of_a_record_twice_names_it() -> None:
    twice = FinalLog({0: ("a", "b"), 1: ("c",), 2: ("c",)}, tail=3)
    assert any(each.startswith("once") for each in judge(HISTORY, twice))


def test_status_of_a_report_follows_its_violations() -> None:
    assert _report().status is Status.OK
    assert _report("durable: c has vanished").status is Status.NO


def test_count_tells_what_was_done() -> None:
    assert count(HISTORY, FINAL) == Totals(
        operations=4, appended=3, found=3, read=3, trimmed_below=0, tail=3
    )


def test_too_slow_looks_at_the_bounds_that_were_asked_for() -> None:
    faults = [_made(Kind.KILL_LEADER, 0.6), _made(Kind.STOP_TAIL, 2.5), _made(Kind.KILL_TWO, 9.0)]
    assert list(too_slow(faults, leader_s=None, unit_s=None)) == []
    assert list(too_slow(faults, leader_s=1.0, unit_s=3.0)) == []
    (slow,) = too_slow(faults, leader_s=1.0, unit_s=2.0)
    assert slow == "appends resumed 2.50 s (p99) after the loss of a unit: more than 2 s"


def test_line_of_a_cycle_tells_what_it_cost() -> None:
    line = line_of(_made(Kind.STOP_HEAD, 1.31), 60)
    assert line.startswith("cycle  7/60  12:03:11  words ")
    assert line.endswith(
        "next append after 0.31 s, all resumed after 1.31 s, redundancy after 14.0 s"
    )
    overlapped = line_of(_made(Kind.STOP_HEAD, 1.31, whole_s=None), 60)
    assert "redundancy" not in overlapped


def test_json_of_a_report_holds_every_fault_and_the_sums() -> None:
    found = json.loads(json.dumps(as_json(_report("bad"))))
    assert found["sound"] is False
    assert found["violations"] == ["bad"]
    assert [fault["kind"] for fault in found["faults"]] == ["kill-leader", "stop-head"]
    assert found["faults"][1]["redundancy_s"] is None
    assert found["resumed_s"]["all of leaders"] == {"count": 1, "p50": 0.6, "p99": 0.6, "max": 0.6}
    assert found["resumed_s"]["all of units"]["max"] == 1.31
    assert found["records_appended"] == 3


def test_describe_names_what_is_hit_for_every_kind() -> None:
    whom = Victims(ReplicaId(2), (UnitId(4), UnitId(5)), "head", UnitId(8))
    texts = {kind: describe(Cycle(1, kind, 3.2, 0.5, overlap=False), whom) for kind in Kind}
    assert texts[Kind.STOP_HEAD] == "SIGSTOP head unit 4 and 5 for 3.2 s"
    assert texts[Kind.KILL_LEADER] == "kill -9 leader 2 for 3.2 s"
    assert texts[Kind.KILL_SPARE] == "kill -9 spare unit 8 for 3.2 s"
    assert texts[Kind.REPLACE] == "replace head unit 4 and 5 by unit 8"
    assert "{" not in "".join(texts.values())
