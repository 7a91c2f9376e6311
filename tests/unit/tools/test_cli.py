"""The `corfu` command as far as it goes without a cluster: what it refuses, and how it says so."""

from __future__ import annotations

import os
from pathlib import Path

import click
import pytest

from corfu.tools.cli import COMMANDS, cli, main


def _run(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> tuple[int | str | None, str, str]:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    said = capsys.readouterr()
    return ended.value.code, said.out, said.err


@pytest.fixture(autouse=True)
def _elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CORFU_CLUSTER", "127.0.0.1:9")
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    "arguments",
    [
        ["read", "--from", "-1"],
        ["read", "--from", "x"],
        ["read", "--from", "1.x"],
        ["read", "--from", "99999999999999999999"],
        ["read", "--follow", "--to", "3"],
        ["read", "-n", "-3"],
        ["trim", "-1"],
        ["trim", "x"],
        ["fill", "1.2"],
        ["fill", "-1", "--timeout", "1"],
        ["fill", "9223372036854775807"],
        ["tail", "--timeout", "0"],
        ["status", "-o", "xml"],
        ["holes", "--from", "-1"],
        ["holes", "--older-than", "-2"],
        ["holes", "-n", "0"],
        ["unit", "nonsense"],
        ["layout", "show", "--epoch", "0"],
        ["layout", "history", "-n", "x"],
        ["sequencer", "status", "-o", "xml"],
        ["dev", "--sequencers", "2"],
        ["dev", "--chains", "0"],
        ["dev", "--base-port", "65530"],
        ["dev", "--base-port", "x"],
        ["dev", "--sync", "never"],
        ["dev", "no-such-command"],
        ["unit", "drain"],
        ["unit", "drain", "x"],
        ["unit", "drain", "-1"],
        ["unit", "replace", "1"],
        ["chain", "add"],
        ["chain", "abandon", "1", "x"],
        ["nonsense"],
        ["--nonsense"],
    ],
    ids=" ".join,
)
def test_command_with_wrong_arguments_says_so_in_one_line(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    status, out, err = _run(arguments, capsys)
    assert status == 2
    assert out == ""
    assert len(err.splitlines()) == 1
    assert err.startswith("corfu: ")


@pytest.mark.parametrize(
    "command",
    [
        "tail",
        "append",
        "read",
        "status",
        "scrub",
        "trim 1",
        "fill 1",
        "holes",
        "unit ls",
        "unit drain 1",
        "chain add 1",
        "layout show",
    ],
)
@pytest.mark.parametrize(
    "cluster", ["nonsense", "127.0.0.1", "127.0.0.1:x", "127.0.0.1:99999", ",", " "]
)
def test_command_with_a_wrong_cluster_string_names_it(
    command: str, cluster: str, capsys: pytest.CaptureFixture[str]
) -> None:
    status, out, err = _run([*command.split(), "--cluster", cluster], capsys)
    assert status == 2
    assert out == ""
    assert len(err.splitlines()) == 1


def test_command_without_a_cluster_says_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("CORFU_CLUSTER")
    status, _, err = _run(["tail"], capsys)
    assert status == 2
    assert "CORFU_CLUSTER" in err


def test_command_alone_shows_its_help(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = _run([], capsys)
    assert (status, out) == (2, "")
    assert all(f"\n  {command} " in err for command in COMMANDS)


@pytest.mark.parametrize("command", ["fill", "trim"])
def test_command_on_a_negative_offset_says_that_it_is_none(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    status, _, err = _run([command, "-1"], capsys)
    assert status == 2
    assert "'-1' is no offset" in err


def test_append_of_a_missing_file_is_a_local_failure(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = _run(["append", "/no/such/file"], capsys)
    assert (status, out) == (5, "")
    assert err == "corfu: cannot read '/no/such/file': No such file or directory\n"


def _every_command() -> list[str]:
    """Return all commands, those of groups too."""
    found: list[str] = []
    context = click.Context(cli)
    for name in COMMANDS:
        command = cli.get_command(context, name)
        found.append(name)
        if isinstance(command, click.Group):
            found += [f"{name} {each}" for each in command.list_commands(context)]
    return found


@pytest.mark.parametrize("command", _every_command())
def test_help_of_every_command_has_examples(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    status, out, _ = _run([*command.split(), "--help"], capsys)
    assert status == 0
    assert "Example" in out
    assert f"corfu {command}" in out


def test_help_lists_commands_and_exit_statuses(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = _run(["--help"], capsys)
    assert status == 0
    assert "Exit statuses" in out
    assert all(command in out for command in COMMANDS)
    assert _run(["--version"], capsys)[1].startswith("corfu-log ")


def test_dev_on_a_file_or_a_foreign_folder_touches_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "file"
    file.write_text("mine")
    status, _, err = _run(["dev", "--data", str(file)], capsys)
    assert status == 5
    assert f"{file}: it is no folder" in err
    status, _, err = _run(["dev", "--data", str(tmp_path)], capsys)
    assert status == 5
    assert "holds no development cluster" in err
    assert os.listdir(tmp_path) == ["file"]


def test_dev_on_a_newer_folder_says_which_format(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "dev.json").write_text('{"format": 99}')
    status, _, err = _run(["dev", "--data", str(tmp_path)], capsys)
    assert status == 5
    assert "format 99" in err
