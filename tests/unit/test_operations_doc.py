"""docs/operations.md explains every line that a server can write to its log, and no other."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from corfu.sequencer import arguments as sequencer
from corfu.storage_units import server as storage
from corfu.tools.failure import Status

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "operations.md").read_text()
FOLDERS = ("sequencer", "storage_units", "corfu/runtime")

SAYING = {"log", "_log", "_say", "warn", "tell"}
ALARMING = {"alarm", "SealProblem"}
"""What is handed to these is printed behind "ALARM: "."""

PASSED_ON = {"text", "line", "'; '.join((problem.text for problem in problems))"}
"""Texts that come from a call that is looked at itself."""

NOT_SERVING = {"sequencer/server.py", "storage_units/server.py"}
"""Print what their commands say, not a log."""


def _texts(node: ast.expr) -> Iterator[str]:
    """Yield what an expression may print, each value in it as one `…`."""
    match node:
        case ast.Constant(value=str(text)):
            yield text
        case ast.JoinedStr(values=values):
            parts = [part.value if isinstance(part, ast.Constant) else "…" for part in values]
            # Two values with nothing between are one for a reader.
            yield re.sub("…+", "…", "".join(str(part) for part in parts))
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            for start in _texts(left):
                for end in _texts(right):
                    yield start + end
        case ast.Subscript(value=ast.Name(id="_DOUBT_TEXTS")):
            yield "a new folder: it asks the other replicas before it votes"
            yield "its journal does not end whole: it asks the other replicas before it votes"
        case _ if ast.unparse(node) in PASSED_ON:
            yield "…"
        case _:
            pytest.fail(f"the document cannot be checked for: {ast.unparse(node)}")


def _logged() -> dict[str, str]:
    """Return each line that is logged, with where."""
    found: dict[str, str] = {}
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            name = path.relative_to(ROOT).as_posix()
            if name in NOT_SERVING:
                continue
            for node in ast.walk(ast.parse(path.read_text())):
                if not isinstance(node, ast.Call) or not node.args:
                    continue
                called = ast.unparse(node.func).rpartition(".")[2]
                if called not in SAYING | ALARMING or name == "storage_units/file_book.py":
                    continue
                if name == "storage_units/recovery.py" and called == "_log":
                    continue
                for text in _texts(node.args[0]):
                    line = f"ALARM: {text}" if called in ALARMING else text
                    if line.replace("ALARM: ", "") != "…":
                        found[line] = f"{name}:{node.lineno}"
    return found


LOGGED = _logged()


def _rows() -> list[str]:
    table = TEXT.partition("## What the log lines mean")[2].partition("\n## ")[0]
    return re.findall(r"^\| `([^`]+)` \| [^|]+ \| [^|]+ \|$", table, re.MULTILINE)


def test_every_line_that_is_logged_has_a_row_with_its_meaning_and_what_to_do() -> None:
    missing = {line: where for line, where in LOGGED.items() if line not in _rows()}
    assert missing == {}


def test_every_row_is_a_line_that_is_logged_once() -> None:
    rows = _rows()
    assert sorted(set(rows) - set(LOGGED)) == []
    assert len(set(rows)) == len(rows)


def test_alarms_stand_before_all_that_is_less() -> None:
    alarms = [row.startswith("ALARM: ") for row in _rows()]
    assert alarms == sorted(alarms, reverse=True)
    assert sum(alarms) >= 10


def test_every_exit_status_is_explained() -> None:
    servers = {
        value
        for module in (sequencer, storage)
        for name, value in vars(module).items()
        if name.startswith("STATUS_")
    }
    section = TEXT.partition("## Exit statuses of the servers")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (\d+) \|", section, re.MULTILINE)
    assert [int(each) for each in rows] == sorted(servers)
    readme = (ROOT / "README.md").read_text()
    assert all(re.search(rf"^\|[ 0-9,]*\b{status.value}\b", readme, re.M) for status in Status)
