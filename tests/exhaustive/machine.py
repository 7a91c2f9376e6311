"""One node of a model: its real core, run once for each distinct (state, event).

A core is a function of its state and the event, so what an event does in a state is worked out
once, on a live core, and remembered. The product of all nodes has some millions of states, but
each node by itself only some thousands. A state of a node is named by the shortest list of events
that leads to it; to run a further event the node is made anew and that list replayed.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Envelope:
    """A message in flight, with the names of its ends."""

    source: str
    to: str
    message: Hashable

    def __str__(self) -> str:
        return f"{self.source} -> {self.to}: {show(self.message)}"


@dataclass(frozen=True, slots=True)
class Own:
    """What a node does by itself; `budget` names what it uses up of, "" for nothing."""

    name: str
    budget: str = ""


Event = Envelope | Own


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an event did beside changing the node.

    Attributes:
        sends: What left, in order.
        told: What the node showed to the world for ever; for the model's invariants.
        wrong: A rule that was broken within the node; "" if none was.
    """

    sends: tuple[Envelope, ...] = ()
    told: tuple[Hashable, ...] = ()
    wrong: str = ""


class Node(Protocol):
    """A live node. Everything it does follows from the events it was given."""

    def apply(self, event: Event) -> Outcome:
        """Take one event."""
        ...

    def canonical(self) -> str:
        """Return the canonical form of its state."""
        ...

    def own(self) -> tuple[Own, ...]:
        """Return what it could do by itself now."""
        ...

    def facts(self) -> Hashable:
        """Return what invariants look at."""
        ...

    def calm(self) -> bool:
        """Tell if nothing is under way inside the node."""
        ...


_SPARE_MAX = 256
"""Live nodes kept for their next step; each holds a small disk."""


class Machine:
    """All states of one node that were met, and what each event did in them."""

    def __init__(self, name: str, make: Callable[[], Node]) -> None:
        self.name = name
        self._make = make
        self._ids: dict[str, int] = {}
        self._paths: list[tuple[int, Event] | None] = []
        self.own: list[tuple[Own, ...]] = []
        self.facts: list[Hashable] = []
        self.calm: list[bool] = []
        self._spare: OrderedDict[int, Node] = OrderedDict()
        self.steps_run = 0
        """How often a live core took an event to find out what it does."""
        self.replayed = 0
        self.first = self._note(make(), None)

    def __len__(self) -> int:
        return len(self._ids)

    def step(self, state: int, event: Event) -> tuple[int, Outcome]:
        """Run `event` in `state` on a live core; returns the state after it."""
        node = self._spare.pop(state, None) or self.live(state)
        self.steps_run += 1
        try:
            outcome = node.apply(event)
        except Exception as error:  # noqa: BLE001 - a core never raises: that it does is a finding
            return state, Outcome(wrong=f"{self.name}: the core raised {error!r}")
        after = self._note(node, (state, event))
        # It stands in that state now: the first step from there needs no replay.
        self._spare[after] = node
        if len(self._spare) > _SPARE_MAX:
            self._spare.popitem(last=False)
        return after, outcome

    def live(self, state: int) -> Node:
        """Return a fresh node in `state`."""
        node = self._make()
        for event in self.path(state):
            self.replayed += 1
            node.apply(event)
        return node

    def path(self, state: int) -> list[Event]:
        """Return the events that lead to a state."""
        events: list[Event] = []
        while (step := self._paths[state]) is not None:
            state, event = step
            events.append(event)
        return events[::-1]

    def knows_as(self, state: int, node: Node) -> bool:
        """Tell if `node` is in the state with this number."""
        return self._ids.get(node.canonical()) == state

    def _note(self, node: Node, path: tuple[int, Event] | None) -> int:
        form = node.canonical()
        known = self._ids.get(form)
        if known is not None:
            return known
        state = self._ids[form] = len(self._ids)
        self._paths.append(path)
        self.own.append(node.own())
        self.facts.append(node.facts())
        self.calm.append(node.calm())
        return state


def show(message: object) -> str:
    """Return a message as one readable line: without ids that say nothing to a reader."""
    fields = getattr(message, "__dataclass_fields__", None)
    if fields is None:
        return str(message)
    shown = [
        f"{name}={_short(getattr(message, name))}"
        for name in fields
        if name not in ("request", "incarnation", "formatted", "layout")
    ]
    return f"{type(message).__name__}({', '.join(shown)})"


def _short(value: object) -> str:
    if isinstance(value, bytes):
        text = value.hex()
        return text if len(text) <= 16 else f"{text[:6]}..{text[-6:]}"
    if isinstance(value, tuple) and not hasattr(value, "_fields"):
        return "[" + ", ".join(map(_short, value)) + "]"
    if hasattr(value, "__dataclass_fields__"):
        return show(value)
    if isinstance(value, tuple):
        return ".".join(map(str, value))
    return str(value)
