"""What must hold in every run at every moment, beside what histories can show."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from corfu.storage_units.standing import Standing
from corfu.types import Epoch, Offset

NEVER_SAID = (
    "ALARM: CONFLICT",
    "ALARM: a second, different layout",
    "another value is proposed than was chosen",
    "has another state at slot",
)
"""What processes say only if they have seen a rule of the protocol broken, whatever the faults."""

LOST_STATE = "it has lost state"
"""What is said of a unit that lacks what it once held: only another disk explains that."""


def tells_of_broken_rule(text: str, *, disks_stay: bool) -> bool:
    """Tell whether a line of a process's log says that a rule was broken.

    Args:
        text: The line.
        disks_stay: No disk was wiped so far, and what is acknowledged is on disk.
    """
    never = (*NEVER_SAID, LOST_STATE) if disks_stay else NEVER_SAID
    return any(words in text for words in never)


def unit_without_mark(
    mark: Offset, epochs: Iterable[Epoch], standings: Sequence[tuple[str, Standing]]
) -> str | None:
    """Return which unit serves the newest epoch and lacks a mark that a trim has returned.

    Histories cannot tell, for clients keep what they have read.

    Args:
        mark: What the trim returned.
        epochs: The active epochs that replicas know.
        standings: Those of all units, by name.
    """
    newest = max([*epochs, *(standing.sealed for _, standing in standings)])
    for name, standing in standings:
        serves = standing.sealed == newest and standing.serving and standing.seats
        if serves and standing.trim_mark < mark:
            return f"{name} has the mark {standing.trim_mark}, though a trim has returned {mark}"
    return None
