"""What a model says, and what a search reports."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Protocol

from .machine import Envelope, Node, Own

DISK_DONE = "the disk batch is durable"
"""The name of the move that every node with a journal has."""

Ghost = Hashable


@dataclass(frozen=True, slots=True)
class Opening:
    """One thing that happens before the search begins, with all that follows of it.

    Each message that follows is delivered in order, and each disk batch ends; what goes to a node
    that `hears` does not name is lost.
    """

    node: str
    own: Own
    hears: frozenset[str]


class Model(Protocol):
    """What is explored: the nodes, how often what may happen, and what must hold."""

    name: str
    nodes: dict[str, Callable[[], Node]]
    budgets: dict[str, int]
    """How often what may happen; "loss" and "duplicate" are the network's."""
    ghost: Ghost
    """What nobody knows but the invariants; a part of the state."""
    prologue: tuple[Opening, ...]
    """What happens before the search begins."""

    def observe(self, ghost: Ghost, told: Hashable) -> Ghost | str:
        """Return the ghost after something was told; a text says what is wrong with it."""
        ...

    def wrong(self, facts: tuple[Hashable, ...], ghost: Ghost) -> str:
        """Return which invariant the nodes break; "" if none."""
        ...

    def wrong_message(self, facts: Hashable, envelope: Envelope) -> str:
        """Return what a message in flight breaks, given its sender's facts; "" if nothing."""
        ...

    def wrong_at_rest(self, facts: tuple[Hashable, ...], ghost: Ghost) -> str:
        """Return what is wrong where nothing is under way; "" if nothing."""
        ...


@dataclass(slots=True)
class Violation:
    """A rule that was broken, and the shortest way there."""

    what: str
    moves: list[str]

    def __str__(self) -> str:
        steps = "\n".join(f"{number:4} {move}" for number, move in enumerate(self.moves, 1))
        return f"{self.what}\nafter {len(self.moves)} moves:\n{steps}"


@dataclass(slots=True)
class Report:
    """What a search has seen."""

    model: str
    states: int = 0
    moves: int = 0
    depth: int = 0
    at_rest: int = 0
    checks: int = 0
    exhausted: bool = False
    digest: int = 0
    """Over all fingerprints, in whatever order: two searches that saw the same have the same."""
    cores_run: int = 0
    node_states: dict[str, int] = field(default_factory=dict)
    cpu_s: float = 0.0
    violation: Violation | None = None

    def __str__(self) -> str:
        nodes = ", ".join(f"{name} {count}" for name, count in self.node_states.items())
        end = "exhausted" if self.exhausted else "stopped at the bound"
        return (
            f"{self.model}: {self.states:,} states, {self.moves:,} moves, depth {self.depth}, "
            f"{self.at_rest:,} at rest, {self.checks:,} checks, {self.cpu_s:.1f} CPU-s, {end}\n"
            f"  states of each node: {nodes}; {self.cores_run:,} steps of live cores"
        )
