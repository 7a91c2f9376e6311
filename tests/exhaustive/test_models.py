"""Every model, up to a bound that `make test` has time for; the complete spaces are `long`."""

from __future__ import annotations

import pytest

from .explorer import STATES_MAX, Explorer
from .model import Report
from .models import models

EXHAUSTED = {
    "paxos-one-slot": 400_000,
    "paxos-third-ballot": 40_000,
    "chain-clients": 80_000,
    "chain-retry": 25_000,
    "chain-crash": 200_000,
    "chain-seal": 30_000,
    "chain-head-dropped": 10_000,
    "chain-tail-dropped": 10_000,
    "parallel-three": 20_000,
}
"""Explored to their end. There are at least so many states: fewer, and the model has lost moves."""

BOUNDED = {
    "paxos-two-slots": 100_000,
    "paxos-lone-vote": 60_000,
    "paxos-duplicates": 80_000,
    "paxos-crash-leader": 100_000,
    "paxos-crash": 80_000,
    "paxos-cold": 60_000,
    "chain-seal-reader": 100_000,
    "chain-tail-dropped-reader": 60_000,
    "parallel-clients": 60_000,
    "parallel-lost": 60_000,
    "parallel-crash": 60_000,
    "parallel-late": 40_000,
    "parallel-head-dropped": 40_000,
    "parallel-three-crash": 60_000,
    "parallel-three-dropped": 60_000,
}
"""Explored up to so many states."""


def explore(name: str, states_max: int) -> Report:
    report = Explorer(models()[name]).run(states_max)
    print(report)  # noqa: T201 - shown by pytest -s, and when it fails
    assert report.violation is None, str(report.violation)
    return report


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", EXHAUSTED)
def test_model_to_its_end_keeps_every_rule(name: str) -> None:
    report = explore(name, STATES_MAX)
    assert report.exhausted
    assert report.states >= EXHAUSTED[name]
    # Every schedule ends: states in which all is over are among them.
    assert report.at_rest


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", BOUNDED)
def test_model_up_to_its_bound_keeps_every_rule(name: str) -> None:
    report = explore(name, BOUNDED[name])
    assert report.states == BOUNDED[name]
    # Deep enough that a value gets around.
    assert report.depth > 8


def test_models_are_all_explored_by_more_than_a_million_states() -> None:
    assert EXHAUSTED.keys() | BOUNDED.keys() == models().keys()
    assert sum(EXHAUSTED.values()) + sum(BOUNDED.values()) > 1_000_000


@pytest.mark.long
@pytest.mark.timeout(900)
def test_paxos_with_a_crash_of_the_leader_is_explored_to_its_end() -> None:
    assert explore("paxos-crash-leader", STATES_MAX).exhausted
