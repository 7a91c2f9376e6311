"""How long appends waited because of a fault. Pure.

All times are seconds on the clock that every process of one machine shares.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

RESUME_S = 3.0
"""Appends begun up to so long after a fault count for how long appending took to resume: the
cluster notices a dead unit after a second. What is begun later meets the return of what was hit."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One append that ended; `acknowledged`: with a position for each of its records."""

    client: str
    invoked: float
    completed: float
    acknowledged: bool


@dataclass(frozen=True, slots=True)
class Waits:
    """What one fault cost.

    Attributes:
        next_s: From the fault to the first acknowledgement of an append that was begun after it,
            over all clients; None: there was none.
        resumed_s: The longest wait, counted from the fault on, of any append that was under way
            then or begun within `RESUME_S`. An append that failed has waited, too.
        longest_s: The longest wait of any append up to the next fault.
    """

    next_s: float | None
    resumed_s: float
    longest_s: float


def waits(samples: Iterable[Sample], at: float, until: float) -> Waits:
    """Return what a fault at `at` cost, if the next one is at `until`.

    Args:
        samples: At least all appends that ended after `at`.
        at: When the first process was hit.
        until: What comes later is not this fault's doing.
    """
    next_s: float | None = None
    resumed_s = longest_s = 0.0
    for sample in samples:
        if sample.completed <= at or sample.invoked >= until:
            continue
        waited = min(sample.completed, until) - max(sample.invoked, at)
        longest_s = max(longest_s, waited)
        if sample.invoked < at + RESUME_S:
            resumed_s = max(resumed_s, waited)
        if sample.acknowledged and sample.invoked >= at:
            first = sample.completed - at
            next_s = first if next_s is None else min(next_s, first)
    return Waits(next_s, resumed_s, longest_s)


def percentile(values: Sequence[float], share: float) -> float:
    """Return the smallest of `values` that at least `share` of them do not exceed."""
    assert values
    assert 0 < share <= 1
    return sorted(values)[math.ceil(share * len(values)) - 1]
