"""All models by name, and how much of each the tests explore."""

from __future__ import annotations

from . import chain, paxos
from .explorer import Model

FAULTS = ("loss", "duplicate", "crash", "patience")
"""The budgets that a command line may set."""


def models() -> dict[str, Model]:
    """Return all models by name."""
    return {**paxos.models(), **chain.models()}


def chosen(prefixes: tuple[str, ...], faults: dict[str, int]) -> list[Model]:
    """Return the models whose names begin with one of `prefixes`, with these budgets of faults.

    Raises:
        LookupError: No name begins so.
    """
    found: dict[str, Model] = {}
    for prefix in prefixes or ("",):
        matching = {name: model for name, model in models().items() if name.startswith(prefix)}
        if not matching:
            raise LookupError(prefix)
        found.update(matching)
    for model in found.values():
        model.budgets.update(faults)
    return list(found.values())
