"""The command line: what is refused, with which status, in one line."""

from __future__ import annotations

import fcntl
from pathlib import Path

import pytest

from corfu.storage_units.server import STATUS_FOLDER, STATUS_USAGE, _parser, _settings, main
from corfu.storage_units.settings import UnitSettings

CLUSTER = "8f3a6c11d2e94b07"


def test_format_then_again_is_refused_unless_forced(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "unit"
    command = ["format", str(folder), "--id", "1", "--cluster", CLUSTER]
    assert main(command) == 0
    assert main(command) == STATUS_FOLDER
    assert "not empty" in capsys.readouterr().err
    assert main([*command, "--force"]) == 0
    (aside,) = (path for path in tmp_path.iterdir() if path != folder)
    assert (aside / "identity").exists()
    assert str(aside) in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [
        ["format", "x", "--id", "0", "--cluster", CLUSTER],
        ["format", "x", "--id", "1", "--cluster", "beef"],
        ["start", "x", "--listen", "localhost:9710"],
        ["start", "x", "--listen", "127.0.0.1"],
        ["start", "x", "--listen", "127.0.0.1:70000"],
        ["start", "x", "--listen", "127.0.0.1:9710", "--scrub-mb-s", "0"],
        ["start", "x", "--listen", "127.0.0.1:9710", "--scrub-mb-s", "inf"],
        ["start", "x", "--listen", "127.0.0.1:9710", "--scrub-mb-s", "fast"],
        [],
    ],
)
def test_wrong_arguments_are_usage_errors(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == STATUS_USAGE


@pytest.mark.parametrize(
    ("more", "wanted"),
    [
        ([], UnitSettings().parallel_persist),
        (["--parallel-persist"], True),
        (["--no-parallel-persist"], False),
    ],
)
def test_how_a_unit_persists_is_an_option_of_its_process(more: list[str], *, wanted: bool) -> None:
    options = _parser().parse_args(["start", "x", "--listen", "127.0.0.1:9710", *more])
    assert _settings(options).parallel_persist is wanted


def start(folder: Path) -> int:
    return main(["start", str(folder), "--listen", "127.0.0.1:0"])


def test_start_on_folder_that_is_missing_or_never_formatted_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert start(tmp_path / "nowhere") == STATUS_FOLDER
    assert "format" in capsys.readouterr().err
    assert start(tmp_path) == STATUS_FOLDER
    assert capsys.readouterr().err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_start_on_folder_in_use_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "identity").write_bytes(b"")
    with (tmp_path / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert start(tmp_path) == STATUS_FOLDER
    assert "in use" in capsys.readouterr().err


def test_start_on_damaged_or_newer_identity_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "identity").write_bytes(b"something else entirely")
    assert start(tmp_path) == STATUS_FOLDER
    assert "identity" in capsys.readouterr().err
    (tmp_path / "identity").write_bytes(b"CORFUUNI" + b"\x09\x00" + bytes(40))
    assert start(tmp_path) == STATUS_FOLDER
    assert "format version 9" in capsys.readouterr().err
