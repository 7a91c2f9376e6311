"""`corfu check`: files in, a verdict and a readable account out."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from corfu.tools.check import check
from corfu.tools.check_options import CheckOptions
from corfu.tools.cli import main
from corfu.tools.history import HistoryFormatError, HistoryReader, encode_history
from corfu.tools.made_history import made_history
from corfu.tools.operations import (
    Append,
    FinalLog,
    Mark,
    Operation,
    Outcome,
    Read,
    Scan,
    Tail,
    Trim,
)
from corfu.tools.verify.files import Recording
from corfu.tools.verify.report import summary_of

HISTORY: tuple[Operation, ...] = (
    Append(1.0, 1.5, "c1", ("a",), ((0, 0),)),
    Append(2.0, 2.5, "c2", ("b", "c"), ((1, 0), (1, 1)), entries=(2,)),
    Read(3.0, 3.25, "c1", 0, ("a",), 0),
    Scan(1.0, 4.0, "c1", (0, 0), (1, 2), (((0, 0), "a"), ((1, 0), "b"), ((1, 1), "c")),
         cached=True, followed=True),
    Tail(4.0, 4.5, "c2", None),
)  # fmt: skip
FINAL = FinalLog({0: ("a",), 1: ("b", "c")}, 2)
LATE = Tail(5.0, 5.5, "c2", 1)


def _run(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[object, str, str]:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    said = capsys.readouterr()
    return ended.value.code, said.out, said.err


def _write(
    path: Path,
    history: tuple[Operation, ...] | list[Operation],
    final: FinalLog | None = None,
    options: CheckOptions | None = None,
) -> str:
    path.write_text("\n".join(encode_history(history, final, options)) + "\n")
    return str(path)


def test_check_sound_file_exits_with_0(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = _run(["check", _write(tmp_path / "h", HISTORY, FINAL)], capsys)
    assert status == 0
    assert "5 operations: every rule holds" in out
    assert "no final log" not in out


def test_check_violation_is_told_with_its_rule_operations_and_lines(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = _write(tmp_path / "h", (*HISTORY, LATE), FINAL)
    status, out, _ = _run(["check", path], capsys)
    assert status == 1
    account = out.splitlines()[-4:]
    assert account == [
        "VIOLATION of tail: tail() is above all that ended before it, at most all that begins "
        "after it",
        "  the tail was 2 before, 1 is too low",
        f"  #2 append of b at 1.0, c at 1.1 by c2 [2.000000, 2.500000]  ({path}:2)",
        f"  #5 tail -> 1 by c2 [5.000000, 5.500000]  ({path}:6)",
    ]


def test_check_files_of_several_clients_are_one_history(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The order of the files does not matter, only their common clock."""
    late = _write(tmp_path / "late", (LATE,))
    early = _write(tmp_path / "early", HISTORY)
    final = _write(tmp_path / "final", (), FINAL)
    assert _run(["check", late, final], capsys)[0] == 1, "nobody appended what is there"
    status, out, _ = _run(["check", late, early, final, "-o", "json"], capsys)
    assert status == 1
    found: dict[str, Any] = json.loads(out)
    assert found["operations"] == 6
    (violation,) = found["violations"]
    assert violation["rule"] == "tail"
    assert violation["recorded_at"] == [f"{early}:2", f"{late}:1"]


def test_check_without_a_final_log_checks_what_was_seen_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, out, _ = _run(["check", _write(tmp_path / "h", HISTORY)], capsys)
    assert status == 0
    assert "no final log" in out
    changed = Read(5.0, 6.0, "c1", 0, ("c",), 0)
    assert _run(["check", _write(tmp_path / "h", (*HISTORY, changed))], capsys)[0] == 1


def test_check_what_the_file_says_of_its_run_holds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    others = FinalLog({**FINAL.entries, 2: ("x",), 3: ("x",)}, 4)
    known = CheckOptions(appends_complete=False, own_prefix="mine", trims_complete=False)
    assert _run(["check", _write(tmp_path / "h", HISTORY, others, known)], capsys)[0] == 0
    path = _write(tmp_path / "h", HISTORY, others)
    assert _run(["check", path], capsys)[0] == 1
    assert _run(["check", "--others-append", path], capsys)[0] == 0
    trimmed = replace(FINAL, entries={1: ("b", "c")}, trimmed_below=1)
    path = _write(tmp_path / "h", HISTORY, trimmed)
    assert _run(["check", path], capsys)[0] == 1
    assert _run(["check", "--others-trim", path], capsys)[0] == 0


@pytest.mark.parametrize(
    "arguments", [["check"], ["check", "--speed", "10", "file"], ["check", "--speed", "0"]]
)
def test_check_without_a_task_is_wrong_usage(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run(arguments, capsys)[0] == 2


@pytest.mark.parametrize(
    "text",
    [
        "{}\n",
        '{"op":"options","surprise":1}\n',
        '{"op":"entries","entries":[[1,["a"]]]}\n',
        "\n".join([*encode_history((), FINAL), *encode_history((), FINAL)]),
        "\xff",
    ],
)
def test_check_file_that_is_no_history_is_a_local_failure(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "h"
    path.write_bytes(text.encode("latin-1"))
    status, out, err = _run(["check", str(path)], capsys)
    assert (status, out) == (5, "")
    assert str(path) in err
    assert len(err.splitlines()) == 1


def test_check_missing_file_is_a_local_failure(capsys: pytest.CaptureFixture[str]) -> None:
    assert _run(["check", "no-such-file"], capsys)[0] == 5


def test_check_speed_checks_a_made_history(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = _run(["check", "--speed", "3000", "-o", "json"], capsys)
    assert status == 0
    assert json.loads(out)["operations"] >= 3000


def test_recording_tells_where_each_operation_was(tmp_path: Path) -> None:
    history, final = made_history(random.Random(5), 500)
    first, second = tmp_path / "1", tmp_path / "2"
    _write(first, history[::2])
    _write(second, history[1::2], final)
    recording = Recording()
    recording.read([first, second], lambda _: None)
    assert recording.final == final
    times = [each.invoked for each in recording.history]
    assert times == sorted(times)
    assert set(recording.history) == set(history)
    lines = {str(path): path.read_text().splitlines() for path in (first, second)}
    for index, operation in enumerate(recording.history):
        where = recording.where(index)
        assert where is not None
        path, _, number = where.rpartition(":")
        (line,) = encode_history([operation], None)
        assert lines[path][int(number) - 1] == line
    assert recording.where(-1) is None


def test_summary_counts_and_measures_by_kind() -> None:
    trim = Trim(6.0, 6.5, "c2", 1, None)
    unknown = Append(6.0, 7.0, "c2", ("x",), (None,), Outcome.UNKNOWN)
    gone = Read(6.0, 6.125, "c1", 9, Mark.TRIMMED)
    summary = summary_of((*HISTORY, trim, unknown, gone))
    assert (summary.operations, summary.seconds) == (8, 6.0)
    kinds = {kind.name: kind for kind in summary.kinds}
    assert set(kinds) == {"append", "append_many", "read", "follow", "tail", "trim"}
    append = kinds["append"]
    assert (append.calls, append.answered, append.records) == (2, 1, 1)
    assert (append.p50_s, append.max_s) == (0.5, 0.5), "what got no answer has no latency"
    assert (kinds["read"].p50_s, kinds["read"].max_s) == (0.125, 0.25)
    assert (kinds["follow"].records, kinds["follow"].p50_s) == (3, None)
    assert kinds["append_many"].records == 2
    assert (kinds["tail"].answered, kinds["trim"].answered) == (0, 0)


@pytest.mark.parametrize("seed", range(4))
def test_check_made_history_of_thousands_is_sound_and_one_change_is_found(seed: int) -> None:
    rng = random.Random(seed)
    history, final = made_history(rng, 4_000)
    assert check(history, final) == []
    appends = [
        at
        for at, each in enumerate(history)
        if isinstance(each, Append) and each.places[0] and each.places[0][0] in final.entries
    ]
    at = rng.choice(appends)
    call = history[at]
    assert isinstance(call, Append)
    assert call.places[0] is not None
    moved = (call.places[0][0] + 1, call.places[0][1])
    changed = [*history[:at], replace(call, places=(moved, *call.places[1:])), *history[at + 1 :]]
    assert {violation.rule for violation in check(changed, final)} & {"once", "one-value"}


def test_history_reader_of_old_lines_reads_them() -> None:
    """Lines from before entries, follows and starts were recorded."""
    reader = HistoryReader()
    for line in encode_history(HISTORY, FINAL):
        fields = json.loads(line)
        for name in ("entries", "followed", "start") if fields["op"] != "entries" else ():
            if fields["op"] != "scan" or name != "start":
                fields.pop(name, None)
        reader.read(json.dumps(fields))
    assert reader.final() == FINAL
    assert reader.history[0] == HISTORY[0]
    batch = HISTORY[1]
    assert isinstance(batch, Append)
    assert reader.history[1] == replace(batch, entries=())
    bad = json.loads(next(encode_history([batch], None))) | {"entries": [1]}
    with pytest.raises(HistoryFormatError, match="the entries"):
        reader.read(json.dumps(bad))


def test_nemesis_check_says_what_check_says_and_wants_a_final_log(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sound = _write(tmp_path / "sound", HISTORY, FINAL)
    broken = _write(tmp_path / "broken", (*HISTORY, LATE), FINAL)
    for path, status in ((sound, 0), (broken, 1)):
        judged = _run(["nemesis", "--check", path], capsys)
        assert judged == _run(["check", path], capsys)
        assert judged[0] == status
    refused, _, err = _run(["nemesis", "--check", _write(tmp_path / "h", HISTORY)], capsys)
    assert refused == 5
    assert "no final log" in err


def test_nemesis_check_is_strict_whatever_the_file_allows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A nemesis alone appends: a record that nobody appended is no stranger's."""
    others = CheckOptions(appends_complete=False)
    final = replace(FINAL, entries={**FINAL.entries, 2: ("of nobody",)}, tail=3)
    path = _write(tmp_path / "h", HISTORY, final, others)
    assert _run(["check", path], capsys)[0] == 0
    assert _run(["nemesis", "--check", path], capsys)[0] == 1
