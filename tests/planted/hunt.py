"""Runs the simulator with a bug planted, and says what the suite found."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass

from corfu.tools.sightings import RULES
from corfu.tools.sim.run import simulate

from .bug import Bug
from .group_run import RULES as GROUP_RULES
from .group_run import GroupRun, run_group
from .planting import plant

_RAISED = re.compile(r"(\w+)(?:\(|: )")

_OWN_CHECKS = ("RuntimeError", "CorruptionError", "ConflictError", "LeftError", "FolderError")


class PlantError(Exception):
    """The plant itself is wrong: it crashed, it never did anything, or the run fails without it."""


@dataclass(frozen=True, slots=True)
class Finding:
    """How the search for one bug ended; `violation` is None if nothing was found."""

    bug: str
    violation: str | None
    seed: int
    seeds: int
    seconds: float
    """Processor time of the whole search, runs with the bug alone."""

    replay_s: float
    """Processor time of the run that found it."""

    activations: int
    problem: str


def violation_of(problem: str) -> str:
    """Return the kind of a run's problem.

    Raises:
        PlantError: Something crashed, which says nothing about the suite.
    """
    text = problem.removeprefix("RuleBroken: ")
    match = _RAISED.match(text)
    word = match[1] if match else ""
    rule = text.split(":")[0]
    if rule in RULES or rule in GROUP_RULES or rule in ("liveness", "alarm"):
        return rule
    if word == "UnavailableError":
        # The healed cluster did not answer.
        return "liveness"
    if "differ at slot" in text:
        return "replicas differ"
    if word == "FinalLogError":
        return "units compared"
    if word == "AssertionError":
        return "own assertion"
    if word in _OWN_CHECKS:
        return "own check"
    raise PlantError(f"a crash is no finding: {problem}")


def _run(bug: Bug, seed: int) -> tuple[str | None, tuple[str, ...]]:
    if isinstance(bug.options, GroupRun):
        return run_group(seed, bug.options), ()
    report = simulate(seed, bug.options)
    return report.problem, report.event_list


def run_planted(bug: Bug, seed: int) -> Finding:
    """Run one seed with the bug.

    Raises:
        PlantError: Something crashed.
        StaleBugError: The code that it breaks is another one.
    """
    began = time.process_time()
    with plant(bug.edits) as planted:
        problem, events = _run(bug, seed)
    took = time.process_time() - began
    violation = None if problem is None else violation_of(problem)
    if violation == "liveness" and any("ALARM" in event for event in events):
        # Somebody saw it, and stopped rather than go on: that is what an operator is told.
        violation = "own alarm, stopped"
    return Finding(bug.name, violation, seed, 1, took, took, planted.count, problem or "none")


def run_sound(bug: Bug, seed: int) -> None:
    """Run one seed without the bug.

    Raises:
        PlantError: It fails as well.
    """
    problem = _run(bug, seed)[0]
    if problem is not None:
        raise PlantError(f"{bug.name}: seed {seed} fails without the bug: {problem}")


def search(bug: Bug, seeds: int, seconds: float) -> Finding:
    """Run seeds from 0 on until one finds the bug.

    Raises:
        PlantError: The plant is wrong.
        StaleBugError: The code that it breaks is another one.
    """
    spent, activations = 0.0, 0
    problem = ""
    for seed in range(seeds):
        found = run_planted(bug, seed)
        spent += found.seconds
        activations += found.activations
        if found.violation is not None:
            if not found.activations:
                raise PlantError(f"{bug.name}: seed {seed} failed, and the bug did nothing")
            run_sound(bug, seed)
            return Finding(
                bug.name, found.violation, seed, seed + 1, spent, found.seconds,
                found.activations, found.problem,
            )  # fmt: skip
        if spent >= seconds:
            break
    if not activations:
        raise PlantError(f"{bug.name}: the broken code never ran")
    return Finding(bug.name, None, seed, seed + 1, spent, 0.0, activations, problem)
