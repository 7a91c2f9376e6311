"""The explorer itself: it sees what a plain search sees, and a merged state behaves as its members.

The plain search keeps nothing of what a core did before: each state is replayed from the start.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections import deque
from collections.abc import Hashable, Iterator
from pathlib import Path
from typing import cast

import pytest

from .chain import Chain
from .chain_unit import Facts
from .explorer import Explorer
from .machine import Envelope, Event
from .model import Model
from .models import models

ROOT = Path(__file__).parents[2]


class Plain:
    """A model's search without machines: live nodes, moved along one schedule."""

    def __init__(self, model: Model) -> None:
        self.nodes = {name: make() for name, make in model.nodes.items()}
        self.in_flight: list[Envelope] = []
        self.budgets = dict(model.budgets)

    def moves(self) -> Iterator[tuple[str, Event]]:
        for envelope in self.in_flight:
            yield envelope.to, envelope
        for name, node in self.nodes.items():
            for own in node.own():
                if not own.budget or self.budgets.get(own.budget):
                    yield name, own

    def take(self, name: str, event: Event) -> None:
        if isinstance(event, Envelope):
            self.in_flight.remove(event)
        elif event.budget:
            self.budgets[event.budget] -= 1
        self.in_flight += self.nodes[name].apply(event).sends

    def state(self) -> object:
        forms = tuple(node.canonical() for node in self.nodes.values())
        return forms, frozenset(self.budgets.items()), tuple(sorted(map(repr, self.in_flight)))


def small() -> Chain:
    return Chain("small", clients=("writer", "filler"), patience=1)


def test_search_of_a_small_model_sees_as_many_states_as_a_plain_search() -> None:
    model = small()
    seen: set[object] = set()
    queue: deque[tuple[tuple[str, Event], ...]] = deque([()])
    while queue:
        schedule = queue.popleft()
        plain = Plain(model)
        for name, event in schedule:
            plain.take(name, event)
        state = plain.state()
        if state in seen:
            continue
        seen.add(state)
        queue += [(*schedule, move) for move in plain.moves()]
    explorer = Explorer(model)
    states = {explorer.begin()[0]}
    open_states = list(states)
    while open_states:
        for _, after, _ in explorer.successors(open_states.pop()):
            if after not in states:
                states.add(after)
                open_states.append(after)
    report = Explorer(model).run()
    assert report.exhausted
    assert report.states == len(states)
    assert len({explorer.without_ghost(state) for state in states}) == len(seen) > 100


@pytest.mark.parametrize("name", sorted(models()))
def test_remembered_steps_along_random_schedules_are_what_live_cores_do(name: str) -> None:
    """A state is remembered by one way to it; here the nodes got there by another."""
    explorer = Explorer(models()[name])
    start, _ = explorer.begin()
    rng = random.Random(name)
    for _ in range(6):
        state = start
        live = [
            machine.live(local) for machine, local in zip(explorer.machines, state, strict=False)
        ]
        for _ in range(60):
            moves = list(explorer.successors(state))
            if not moves:
                break
            move, state, wrong = rng.choice(moves)
            assert not wrong
            taken = explorer.event_of(move)
            if taken is None:
                continue
            place, event = taken
            outcome = live[place].apply(event)
            assert explorer.machines[place].knows_as(state[place], live[place])
            assert not outcome.wrong


def test_violation_with_its_moves_is_replayed_from_the_start() -> None:
    model = BrokenChain("broken", clients=("writer",), patience=0)
    report = Explorer(model).run()
    assert report.violation is not None
    assert report.violation.what == "u1 holds something"
    assert Explorer(model).follow(report.violation.moves) == "u1 holds something"
    assert len(report.violation.moves) == 2
    with pytest.raises(LookupError, match="nobody"):
        Explorer(model).follow(["nobody: does this"])


class BrokenChain(Chain):
    """Forbids what is right, so that a violation is there to be shown."""

    def wrong(self, facts: tuple[Hashable, ...], ghost: Hashable) -> str:
        return "u1 holds something" if cast("Facts", facts[0]).memory.values else ""


def test_duplicate_and_loss_use_up_their_budgets() -> None:
    without = Explorer(Chain("a", clients=("filler",), patience=0)).run()
    twice = Explorer(Chain("b", clients=("filler",), duplicates=1, patience=0)).run()
    lost = Explorer(Chain("c", clients=("filler",), losses=1, patience=0)).run()
    assert without.exhausted
    assert twice.exhausted
    assert lost.exhausted
    assert without.states < lost.states
    assert without.states < twice.states


def test_two_processes_with_other_hash_seeds_see_the_same_states() -> None:
    digests = set()
    for seed in ("1", "2"):
        command = [sys.executable, "-m", "tests.exhaustive", "-o", "json", "--max-states", "1000"]
        done = subprocess.run(
            [*command, "paxos-crash", "chain-crash"],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
            text=True,
        )
        digests.add(tuple(report["digest"] for report in json.loads(done.stdout)))
    assert len(digests) == 1


def test_own_and_message_are_shown_in_words() -> None:
    explorer = Explorer(small())
    shown = {explorer.show(move) for move, _, _ in explorer.successors(explorer.begin()[0])}
    crash = "crashes and restarts, the batch under way lost"
    assert shown == {"writer: begins", "filler: begins"}
    crashing = Explorer(Chain("crashing", clients=("writer",), crashes=1))
    shown = {crashing.show(move) for move, _, _ in crashing.successors(crashing.begin()[0])}
    assert shown == {"writer: begins", f"u1: {crash}", f"u2: {crash}"}
