"""All models by name, and how much of each the tests explore."""

from __future__ import annotations

from . import chain, paxos
from .model import Model


def models() -> dict[str, Model]:
    """Return all models by name."""
    return {**paxos.models(), **chain.models()}


def chosen(prefixes: tuple[str, ...], faults: dict[str, int]) -> list[Model]:
    """Return the models of these names, or that begin so, with these budgets of faults.

    Raises:
        LookupError: No name begins so.
    """
    found: dict[str, Model] = {}
    known = models()
    for prefix in prefixes or ("",):
        names = [prefix] if prefix in known else [n for n in known if n.startswith(prefix)]
        matching = {name: known[name] for name in names}
        if not matching:
            raise LookupError(prefix)
        found.update(matching)
    for model in found.values():
        model.budgets.update(faults)
    return list(found.values())
