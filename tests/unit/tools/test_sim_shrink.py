"""How a failing seed is made small, and how its options are told."""

from __future__ import annotations

from dataclasses import replace

import pytest

from corfu.tools.sim import overrides
from corfu.tools.sim.faults import Fault
from corfu.tools.sim.options import CALM, Options, draw
from corfu.tools.sim.run import Report
from corfu.tools.sim.shrink import shrink


def _run(seed: int, options: Options) -> Report:
    """Fail if faults 3 and 7 of twelve happen, with two chains or more."""
    numbers = [n for n in range(1, 13) if options.only_faults is None or n in options.only_faults]
    fails = {3, 7} <= set(numbers) and options.chains >= 2
    return Report(
        seed=seed,
        problem=f"RuleBroken: lost offset {seed} of {options.chains}" if fails else None,
        virtual_s=1.0,
        events=1,
        operations=1,
        appended=1,
        trace_hash=0,
        injected=tuple(Fault(n, float(n), "kill") for n in numbers),
    )


def test_shrink_leaves_only_what_the_failure_needs() -> None:
    options = Options(chains=2, clients=3, goals=("drain",))
    shrunk = shrink(5, options, run=_run)
    assert shrunk is not None
    assert [fault.number for fault in shrunk.report.injected] == [3, 7]
    small = shrunk.options
    assert (small.clients, small.appenders, small.goals, small.network) == (1, 1, (), CALM)
    assert small.chains == 2, "without two chains it does not fail"
    assert _run(5, small).problem == shrunk.report.problem


def test_shrink_of_what_does_not_fail_finds_nothing() -> None:
    assert shrink(5, Options(chains=1), run=_run) is None


def test_shrink_does_not_follow_another_failure() -> None:
    def run(seed: int, options: Options) -> Report:
        report = _run(seed, options)
        if options.clients == 1:
            return replace(report, problem="AssertionError: something else altogether")
        return report

    shrunk = shrink(5, Options(clients=3), run=run)
    assert shrunk is not None
    assert shrunk.options.clients == 3
    assert str(shrunk.report.problem).startswith("RuleBroken")


def test_shrink_stops_after_so_many_runs() -> None:
    shrunk = shrink(5, Options(), runs_max=4, run=_run)
    assert shrunk is not None
    assert shrunk.runs == 4


@pytest.mark.parametrize("seed", range(40))
def test_overrides_told_give_the_same_options_again(seed: int) -> None:
    drawn = draw(seed)
    wanted = replace(
        drawn,
        chains=1,
        seconds=1.25,
        goals=("replace", "drain"),
        only_faults=frozenset({3, 1}),
        network=CALM,
        visits=not drawn.visits,
        client=Options().client,
    )
    told = overrides.texts(wanted, drawn)
    assert overrides.apply(drawn, overrides.parse(told)) == wanted


@pytest.mark.parametrize(
    "text", ["chains", "nothing=1", "chains=many", "chains=true", "visits=1", "network={}"]
)
def test_overrides_that_say_nothing_are_refused(text: str) -> None:
    with pytest.raises(overrides.OverrideError):
        overrides.parse([text])
