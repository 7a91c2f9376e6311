"""The fast checker and the second opinion on the same random histories."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field

from corfu.tools.check import check
from corfu.tools.made_history import Shares, made_history
from corfu.tools.operations import FinalLog, Operation

from .mutations import mutated
from .second_opinion import GivenUpError, is_linearizable

SHARES = Shares(append=4, read=3, scan=0.6, follow=0.6, tail=1.5, fill=0.8, trim=0.6)
OPERATIONS_MAX = 12

BEYOND = frozenset({"call-order", "many-order", "batch"})
"""Rules that the other's model does not have."""


@dataclass(slots=True)
class Comparison:
    """How often the two agreed.

    Attributes:
        sound: Histories that both call sound.
        unsound: Histories that both call unsound.
        given_up: Histories that the other did not search to the end.
        rules: How often each rule was broken.
        differing: Histories on which they differ.
    """

    sound: int = 0
    unsound: int = 0
    given_up: int = 0
    rules: Counter[str] = field(default_factory=Counter)
    differing: list[tuple[list[Operation], FinalLog]] = field(default_factory=list)

    def add(self, history: list[Operation], final: FinalLog) -> None:
        """Have both judge one history."""
        rules = {violation.rule for violation in check(history, final)} - BEYOND
        try:
            legal = is_linearizable(history, final)
        except GivenUpError:
            self.given_up += 1
            return
        self.rules.update(rules)
        if legal == bool(rules):
            self.differing.append((history, final))
        elif legal:
            self.sound += 1
        else:
            self.unsound += 1


def compare(rng: random.Random, count: int, *, mutating: bool) -> Comparison:
    """Make `count` histories, or change one thing in each, and have both judge them."""
    comparison = Comparison()
    for _ in range(count):
        history: list[Operation] = []
        final = FinalLog({}, 0)
        while not history:
            history, final = made_history(rng, rng.randint(3, OPERATIONS_MAX), SHARES)
        if mutating:
            history, final = mutated(rng, history, final)
        comparison.add(history, final)
    return comparison
