"""Every model, up to a bound that `make test` has time for; the complete spaces are `long`."""

from __future__ import annotations

import pytest

from .explorer import Explorer, Report
from .models import models

EXHAUSTED = 1 << 62

BOUNDS = {
    "paxos-two-slots": 250_000,
    "paxos-one-slot": 250_000,
    "paxos-duplicates": 250_000,
    "paxos-crash": 250_000,
    "paxos-crash-leader": 250_000,
    "paxos-cold": 150_000,
    "paxos-lone-vote": 150_000,
    "paxos-third-ballot": EXHAUSTED,
    "chain-clients": EXHAUSTED,
    "chain-retry": 200_000,
    "chain-crash": 200_000,
    "chain-seal": 250_000,
    "chain-head-dropped": 200_000,
    "chain-tail-dropped": 200_000,
}
"""How many states of each; `EXHAUSTED`: all there are."""


def explore(name: str, states_max: int) -> Report:
    report = Explorer(models()[name]).run(states_max)
    print(report)  # noqa: T201 - shown by pytest -s, and when it fails
    assert report.violation is None, str(report.violation)
    return report


@pytest.mark.parametrize("name", BOUNDS)
def test_model_up_to_its_bound_keeps_every_rule(name: str) -> None:
    bound = BOUNDS[name]
    report = explore(name, bound)
    assert report.exhausted or report.states == bound
    assert report.exhausted == (bound == EXHAUSTED)
    # Not one schedule, and states in which all is over are among them.
    assert report.depth > 8
    assert report.checks > report.states


def test_bounds_of_all_models_are_more_than_a_million_states() -> None:
    assert BOUNDS.keys() == models().keys()
    assert sum(bound for bound in BOUNDS.values() if bound != EXHAUSTED) >= 1_000_000
