"""The other checks, checked: each planted bug is found, and by nothing but a rule that it breaks.

The seeds are those of `found.json`; `python -m tests.planted --save` looks for new ones.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from corfu.sequencer import proposer
from corfu.sequencer.acceptor import Acceptor
from corfu.sequencer.member import Member

from . import found as kept
from .bug import Bug
from .cli import HEADER, SECONDS, SEEDS, main, row
from .harmless import HARMLESS
from .hunt import PlantError, run_planted, run_sound, search, violation_of
from .planting import StaleBugError, edit, function_of, plant
from .registry import BUGS, EVERY

FOUND = kept.load()
FAST_S = 2.0
EVIDENCE = Path(__file__).parents[2] / "docs" / "evidence.md"


def replays(*, fast: bool) -> list[str]:
    return [name for name in BUGS if name in FOUND and (FOUND[name].replay_s < FAST_S) == fast]


def replay(name: str) -> None:
    bug, known = BUGS[name], FOUND[name]
    again = run_planted(bug, known.seed)
    assert again.violation == known.violation, (
        f"{again.problem}\nlook for another seed: python -m tests.planted {name} --save"
    )
    assert again.activations > 0
    run_sound(bug, known.seed)


@pytest.mark.parametrize("name", replays(fast=True))
def test_simulate_with_planted_bug_at_its_seed_finds_it(name: str) -> None:
    replay(name)


@pytest.mark.long
@pytest.mark.parametrize("name", replays(fast=False))
def test_simulate_with_slowly_found_bug_at_its_seed_finds_it(name: str) -> None:
    replay(name)


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", list(BUGS))
def test_search_from_seed_0_finds_planted_bug(name: str) -> None:
    assert search(BUGS[name], SEEDS, SECONDS).violation is not None


@pytest.mark.parametrize("bug", HARMLESS, ids=lambda bug: bug.name)
def test_simulate_with_harmless_change_breaks_no_rule(bug: Bug) -> None:
    ends = [run_planted(bug, seed) for seed in range(3)]
    assert [end.problem for end in ends] == ["none"] * 3
    assert sum(end.activations for end in ends) > 0


def test_found_seeds_are_those_of_all_planted_bugs() -> None:
    assert sorted(FOUND) == sorted(BUGS)
    for found in FOUND.values():
        assert found.violation is not None
        assert found.seeds <= SEEDS
        assert found.seconds <= SECONDS


def test_evidence_has_the_table_of_all_planted_bugs() -> None:
    section = EVIDENCE.read_text().split("## Planted bugs")[1].split("\n## ")[0]
    table = "\n".join([HEADER, *(row(bug, FOUND[name]) for name, bug in BUGS.items())])
    assert table in section


def test_plant_every_bug_fits_the_production_code_and_leaves_it_as_it_was() -> None:
    for bug in EVERY.values():
        before = [vars(holder)[each.name] for each in bug.edits for holder in each.places()]
        with plant(bug.edits):
            broken = [vars(holder)[each.name] for each in bug.edits for holder in each.places()]
            assert all(new is not old for new, old in zip(broken, before, strict=True))
        after = [vars(holder)[each.name] for each in bug.edits for holder in each.places()]
        assert all(new is old for new, old in zip(after, before, strict=True))


@pytest.mark.parametrize(
    ("name", "old"),
    [
        ("promise_all", "assert"),
        ("promise", "assert ballot > self.promised"),
        ("promise", "return"),
    ],
)
def test_plant_when_the_code_is_another_refuses(name: str, old: str) -> None:
    with pytest.raises(StaleBugError), plant([edit(Acceptor, name, (old, "pass"))]):
        pass


def test_plant_of_many_edits_when_one_is_stale_changes_nothing() -> None:
    before = vars(Acceptor)["promise"]
    good = edit(Acceptor, "promise", ("assert ballot >= self.promised", "planted()"))
    stale = edit(Acceptor, "accept", ("no such words", "pass"))
    with pytest.raises(StaleBugError), plant([good, stale]):
        pass
    assert vars(Acceptor)["promise"] is before


def test_plant_of_module_function_reaches_the_modules_that_imported_it() -> None:
    imported = function_of(vars(Member)["quorum"]).__globals__
    before = proposer.majority
    with plant([edit(proposer, "majority", ("+ 1", "+ planted(2)"))]) as planted:
        assert proposer.majority(3) == imported["majority"](3) == 3
        assert planted.count == 2
    assert proposer.majority is imported["majority"] is before


@pytest.mark.parametrize(
    ("problem", "kind"),
    [
        ("RuleBroken: one-value: offset 3 is data and junk; durable: and so on", "one-value"),
        ("RuleBroken: liveness: not settled in 60 s: x", "liveness"),
        ("RuleBroken: alarm: CONFLICT at unit 2", "alarm"),
        ("RuleBroken: replica2 and replica1 differ at slot 20", "replicas differ"),
        ("RuleBroken: AssertionError()", "own assertion"),
        ("AssertionError: ", "own assertion"),
        ("RuleBroken: RuntimeError('epoch 3 is another ballot')", "own check"),
        ("FinalLogError: unit 2 holds another value", "units compared"),
    ],
)
def test_violation_of_problem_is_the_rule_that_was_broken(problem: str, kind: str) -> None:
    assert violation_of(problem) == kind


@pytest.mark.parametrize(
    "problem", ["RuleBroken: TypeError('x')", "NameError: y", "RuleBroken: KeyError(3)"]
)
def test_violation_of_crash_is_no_finding(problem: str) -> None:
    with pytest.raises(PlantError):
        violation_of(problem)


def test_command_lists_every_bug() -> None:
    result = CliRunner().invoke(main, ["--list"])
    assert result.exit_code == 0
    assert [line.split()[0] for line in result.output.splitlines()] == list(BUGS)


def test_command_when_a_bug_is_not_found_in_time_exits_with_1() -> None:
    # Its first seed that finds it is a later one.
    result = CliRunner().invoke(main, ["lowest-vote-wins", "--seeds", "1", "--jobs", "1"])
    assert result.exit_code == 1
    assert "0 of 1 found" in result.output


def test_command_when_a_bug_is_found_says_by_which_rule() -> None:
    result = CliRunner().invoke(main, ["junk-over-data", "--jobs", "1", "-o", "json"])
    assert result.exit_code == 0
    assert [found["violation"] for found in json.loads(result.stdout)["found"]] == ["alarm"]
