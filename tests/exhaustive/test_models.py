"""Every model, up to a bound that `make test` has time for; the complete spaces are `long`."""

from __future__ import annotations

import pytest

from .explorer import Explorer, Report
from .models import models

EXHAUSTED = 1 << 62

BOUNDS = {
    "paxos-one-slot": EXHAUSTED,
    "paxos-two-slots": 150_000,
    "paxos-lone-vote": 100_000,
    "paxos-third-ballot": EXHAUSTED,
    "paxos-duplicates": 100_000,
    "paxos-crash-leader": 150_000,
    "paxos-crash": 100_000,
    "paxos-cold": 80_000,
    "chain-clients": EXHAUSTED,
    "chain-retry": EXHAUSTED,
    "chain-crash": 200_000,
    "chain-seal": EXHAUSTED,
    "chain-seal-reader": 150_000,
    "chain-head-dropped": EXHAUSTED,
    "chain-tail-dropped": EXHAUSTED,
    "chain-tail-dropped-reader": 80_000,
}
"""How many states of each; `EXHAUSTED`: all there are."""


def explore(name: str, states_max: int) -> Report:
    report = Explorer(models()[name]).run(states_max)
    print(report)  # noqa: T201 - shown by pytest -s, and when it fails
    assert report.violation is None, str(report.violation)
    return report


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", BOUNDS)
def test_model_up_to_its_bound_keeps_every_rule(name: str) -> None:
    bound = BOUNDS[name]
    report = explore(name, bound)
    assert report.exhausted == (bound == EXHAUSTED)
    assert report.exhausted or report.states == bound
    # Not one schedule, but deep enough that a value gets around.
    assert report.depth > 8
    assert report.checks > report.states


def test_bounds_of_all_models_are_more_than_a_million_states() -> None:
    """Beside what the exhausted ones add."""
    assert BOUNDS.keys() == models().keys()
    assert sum(bound for bound in BOUNDS.values() if bound != EXHAUSTED) > 1_000_000


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", ["paxos-crash-leader", "chain-crash"])
def test_model_with_a_crash_is_explored_to_its_end(name: str) -> None:
    assert explore(name, EXHAUSTED).exhausted
