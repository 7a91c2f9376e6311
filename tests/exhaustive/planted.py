"""Planted bugs: one rule of the protocol is broken in the real code, and the search must see it.

Each replaces one function or method while a model is explored, and says which model shows it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from .explorer import Explorer
from .model import Model, Report
from .models import models
from .planted_chain import CHAIN_BUGS
from .planted_paxos import PAXOS_BUGS
from .planting import Patch

STATES_MAX = 150_000
"""More than any of them needs."""


@dataclass(frozen=True, slots=True)
class Planted:
    """A bug, the model that shows it, and how it is planted."""

    name: str
    model: str
    patches: Callable[[], tuple[Patch, ...]]

    @property
    def what(self) -> str:
        """What the bug is, in a sentence."""
        return (self.patches.__doc__ or "").strip()

    def explore(self, states_max: int = STATES_MAX) -> Report:
        """Explore the model with the bug in it."""
        with self.planted() as model:
            return Explorer(model).run(states_max)

    @contextlib.contextmanager
    def planted(self) -> Iterator[Model]:
        """Plant the bug, give the model, and take the bug out again."""
        with contextlib.ExitStack() as stack:
            for patch in self.patches():
                stack.enter_context(_planted(patch))
            yield models()[self.model]


@contextlib.contextmanager
def _planted(patch: Patch) -> Iterator[None]:
    owner: Any = patch.owner
    before = owner.__dict__[patch.name]
    setattr(owner, patch.name, patch.new)
    try:
        yield
    finally:
        setattr(owner, patch.name, before)


PLANTED = {
    name: Planted(name, model, patches)
    for name, (model, patches) in {**PAXOS_BUGS, **CHAIN_BUGS}.items()
}
