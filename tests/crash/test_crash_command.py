"""`python -m tests.crash` as a command: its figures, its exit status, one state again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from corfu.journal.folder import JournalFolder
from tests.crash.__main__ import main


def test_command_sound_code_prints_figures_and_exits_0(tmp_path: Path) -> None:
    path = tmp_path / "figures.json"
    arguments = ["--states", "600", "--kind", "local", "--damage", "cut", "--damage", "flip"]
    result = CliRunner().invoke(main, [*arguments, "-o", str(path)])
    assert result.exit_code == 0, result.output
    assert "problems: 0" in result.output
    figures = json.loads(path.read_text())
    assert figures["states"] >= 600
    assert figures["states"] == sum(part["states"] for part in figures["parts"])
    assert figures["detected"] > 0
    assert figures["problems"] == []


def test_command_broken_code_exits_1_and_its_hint_finds_the_state_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(JournalFolder, "_refuse_cut", lambda self, serial: None)
    result = CliRunner().invoke(main, ["--states", "500", "--kind", "journal", "--damage", "cut"])
    assert result.exit_code == 1
    hint = next(line for line in result.output.splitlines() if "--only" in line)
    again = hint.split("tests.crash ")[1].replace("'", "").split()
    repeated = CliRunner().invoke(main, again)
    assert repeated.exit_code == 1
    assert hint in repeated.output


def test_command_one_state_without_its_part_is_refused() -> None:
    assert CliRunner().invoke(main, ["--only", "3"]).exit_code == 2
