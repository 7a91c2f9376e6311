"""`corfu bench` as far as it goes without a cluster: what it refuses, and how."""

from __future__ import annotations

from pathlib import Path

import click
import pytest

from corfu.client.settings import ClientSettings
from corfu.tools.bench.cli import COMMANDS, bench
from corfu.tools.bench.client_options import client_settings, parse_settings
from corfu.tools.cli import main

OWN = ("--cluster", "127.0.0.1:9")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("append", "--size", "0"), "--size"),
        (("append", "--size", "1000001"), "--size"),
        (("append", "--clients", "0"), "--clients"),
        (("append", "--inflight", "0"), "--inflight"),
        (("append", "--seconds", "0"), "--seconds"),
        (("append", "--warmup", "-1"), "--warmup"),
        (("append", "--batch", "0"), "--batch"),
        (("append", "--sync", "never"), "--sync"),
        (("append", "-o", "xml"), "--output"),
        (("append", *OWN, "--chains", "2"), "--chains"),
        (("append", *OWN, "--sync", "os"), "--sync"),
        (("append", *OWN, "--data", "."), "--data"),
        (("append", "--chains", "0"), "--chains"),
        (("append", "--sequencers", "2"), "--sequencers"),
        (("append", "--data", "no-such-folder"), "--data"),
        (("append", "--set", "no_such_setting=1"), "entry_bytes_target"),
        (("append", "--set", "entry_bytes_target"), "entry_bytes_target"),
        (("append", "--set", "entry_bytes_target=many"), "int is wanted"),
        (("append", "--set", "ordered=1"), "bool is wanted"),
        (("append", "--set", "entry_bytes_target=1"), "must be in [1024"),
        (("read", *OWN, "--cold"), "--cold"),
        (("read", "--megabytes", "0"), "--megabytes"),
        (("follow", "--size", "15"), "--size"),
        (("follow", "--rate", "-1"), "--rate"),
        (("tokens", "--processes", "0"), "--processes"),
        (("mixed", "--followers", "-1"), "--followers"),
        (("disk", "--size", "1000000", "--group", "34"), "--group"),
        (("disk", "--clients", "0"), "--clients"),
        (("disk", "--trimmed"), "--units"),
        (("restart", "--entries", "10"), "--entries"),
        (("no-such-command",), "no-such-command"),
    ],
)
def test_wrong_usage_is_one_line_and_status_2(
    arguments: tuple[str, ...],
    text: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(["bench", *arguments])
    said = capsys.readouterr()
    assert ended.value.code == 2
    assert text in said.err
    assert len(said.err.splitlines()) == 1
    assert said.out == ""
    assert list(tmp_path.iterdir()) == [], "nothing is left behind"


def test_settings_of_clients_are_taken_as_their_types() -> None:
    texts = ("entry_bytes_target=30000", "linger_s=1", "ordered=true")
    chosen = parse_settings(texts)
    assert chosen == {"entry_bytes_target": 30000, "linger_s": 1.0, "ordered": True}
    settings = client_settings(chosen)
    assert (settings.entry_bytes_target, settings.linger_s, settings.ordered) == (30000, 1.0, True)
    assert client_settings({}) == ClientSettings()


def test_plot_that_cannot_be_written_is_found_out_before_the_work(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["bench", "append", *OWN, "--plot", str(tmp_path / "no" / "plot.svg")])
    assert ended.value.code == 5
    assert "no/plot.svg" in capsys.readouterr().err


def test_every_command_has_help_with_examples(capsys: pytest.CaptureFixture[str]) -> None:
    context = click.Context(bench)
    assert bench.list_commands(context) == list(COMMANDS)
    for name in COMMANDS:
        with pytest.raises(SystemExit) as ended:
            main(["bench", name, "--help"])
        assert ended.value.code == 0
        said = capsys.readouterr().out
        assert f"corfu bench {name}" in said
        assert "Exit statuses" in said
