"""docs/performance.md names what there is: every command and only options that exist."""

from __future__ import annotations

import re
from pathlib import Path

import click

from corfu.tools.bench.cli import COMMANDS, bench

ROOT = Path(__file__).parent.parent.parent.parent
TEXT = (ROOT / "docs" / "performance.md").read_text()
README = (ROOT / "README.md").read_text()


def _options(name: str) -> set[str]:
    command = bench.get_command(click.Context(bench), name)
    assert command is not None
    return {option for parameter in command.params for option in parameter.opts}


def test_every_command_stands_in_the_document_and_the_readme() -> None:
    for name in COMMANDS:
        assert f"`corfu bench {name}" in TEXT
        assert re.search(rf"^\| `corfu bench [^|]*\b{name}\b", README, re.MULTILINE)


def test_commands_quoted_in_the_document_have_the_options_quoted_with_them() -> None:
    quoted = re.findall(r"`corfu bench ([a-z]+)([^`]*)`", TEXT)
    assert len(quoted) >= len(COMMANDS)
    for name, rest in quoted:
        options = set(re.findall(r"--[a-z-]+", rest))
        assert options <= _options(name), f"corfu bench {name}{rest}"


def test_options_quoted_alone_exist_somewhere() -> None:
    known = set[str]().union(*map(_options, COMMANDS))
    quoted = set(re.findall(r"`(--[a-z-]+)", TEXT))
    assert quoted <= known
