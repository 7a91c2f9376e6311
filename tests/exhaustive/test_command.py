"""`python -m tests.exhaustive`: what it prints, and how it ends."""

from __future__ import annotations

import json

from click.testing import CliRunner

from .__main__ import main
from .models import models
from .planted import PLANTED


def test_search_of_one_model_prints_its_figures_and_ends_well() -> None:
    done = CliRunner().invoke(main, ["paxos-third-ballot", "--max-states", "500"])
    assert done.exit_code == 0
    assert done.output.startswith("paxos-third-ballot: 500 states, ")
    assert "stopped at the bound" in done.output
    assert "1 models, 500 states" in done.output


def test_budgets_of_faults_are_taken_from_the_command_line() -> None:
    arguments = ["chain-clients", "--max-states", "0", "-o", "json"]
    faults = ["--losses", "0", "--duplicates", "0", "--patience", "0"]
    done = CliRunner().invoke(main, [*arguments, *faults])
    (report,) = json.loads(done.stdout)
    assert report["exhausted"]
    assert report["violation"] is None
    assert 500 < report["states"] < 10_000


def test_planted_bug_is_printed_with_the_moves_that_show_it() -> None:
    done = CliRunner().invoke(main, ["--planted", "head-acknowledges"])
    assert done.exit_code == 0
    assert PLANTED["head-acknowledges"].what in done.output
    assert "   1 writer: begins\n" in done.output
    assert "1 of 1 planted bugs found" in done.output


def test_list_names_all_models() -> None:
    done = CliRunner().invoke(main, ["--list"])
    assert [line.split()[0] for line in done.output.splitlines()] == list(models())


def test_unknown_names_are_refused() -> None:
    for arguments in (["nothing"], ["--planted", "nothing"]):
        done = CliRunner().invoke(main, arguments)
        assert done.exit_code == 2
        assert "nothing" in done.output
