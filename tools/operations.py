"""What clients did to a log and were answered: the values that the history checker reads."""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping
from dataclasses import dataclass, field

Place = tuple[int, int]
"""A record's position as a plain pair (offset, index)."""


class Mark(enum.Enum):
    """What an offset that shows no records was said to be."""

    JUNK = "junk"
    UNWRITTEN = "unwritten"
    TRIMMED = "trimmed"
    LOST = "lost"
    DATA = "data"
    """Records, which the answer did not show."""


Seen = tuple[str, ...] | Mark
"""What an answer said of an offset: its records' keys, or a mark."""


class Outcome(enum.Enum):
    """How an append ended, for those of its records that have no position."""

    APPENDED = "appended"
    NOT_APPENDED = "not_appended"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Append:
    """One call of append or append_many.

    Every operation has `invoked` and `completed` (None: no answer came), numbers on one scale.
    An operation comes before another if it completed at a smaller number than the other was
    invoked at; equal numbers count as concurrent, so stamps should differ (see `Stamps`).

    Attributes:
        records: A key for each record, unique in the history (a digest of unique bytes).
        places: For each record its position, or None if none was reported.
        outcome: The fate of the records without position.
        ordered: The client promises log order = call order, failures included.
        entries: How many of the records, in their order, each entry of the call has: those of
            one entry are in the log together or not at all. (): not known.
    """

    invoked: float
    completed: float | None
    client: str
    records: tuple[str, ...]
    places: tuple[Place | None, ...]
    outcome: Outcome = Outcome.APPENDED
    ordered: bool = False
    entries: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Read:
    """One read of a whole entry, or of one record of it.

    Attributes:
        index: The record's index in the entry; None: the entry was read.
        seen: All records of the entry, or the one; None: the read gave no answer.
        cached: The answer came from a cache: it may be of a time before a trim.
    """

    invoked: float
    completed: float | None
    client: str
    offset: int
    seen: Seen | None
    index: int | None = None
    cached: bool = False


@dataclass(frozen=True, slots=True)
class Scan:
    """One scan or follow, as far as it came.

    Attributes:
        start: The first position it was to give.
        end: The position before which it claims to have given every record.
        items: What it gave, in its order.
        cached: As in `Read`.
        followed: It is a part of a follow, which began at `invoked`.
        to_tail: It was to go to the tail of the moment at which it began, and ended by itself;
            then `end` lies behind the last record that it gave.
    """

    invoked: float
    completed: float | None
    client: str
    start: Place
    end: Place
    items: tuple[tuple[Place, str], ...]
    cached: bool = False
    followed: bool = False
    to_tail: bool = False


@dataclass(frozen=True, slots=True)
class Tail:
    """One tail(). `confirmed` is false for the cheap one, which only proves what lies below."""

    invoked: float
    completed: float | None
    client: str
    offset: int | None
    confirmed: bool = True


@dataclass(frozen=True, slots=True)
class Fill:
    """One fill of an offset, and what the offset holds after it (None: no answer)."""

    invoked: float
    completed: float | None
    client: str
    offset: int
    seen: Seen | None


@dataclass(frozen=True, slots=True)
class Trim:
    """One trim up to `mark`, and the mark that was reached (None: no answer)."""

    invoked: float
    completed: float | None
    client: str
    mark: int
    reached: int | None


Operation = Append | Read | Scan | Tail | Fill | Trim


@dataclass(frozen=True, slots=True)
class FinalLog:
    """What a full scan found when all operations had ended.

    Attributes:
        entries: The records of every data entry at or above the trim mark, by offset.
        junk: Offsets that hold junk.
        trimmed_below: The trim mark.
        lost: Ranges `[start, end)` reported as lost.
        tail: The confirmed tail; every offset in `[trimmed_below, tail)` was scanned.
        start: What lies below was not looked at, trimmed or not (a log that is older than the
            history).
    """

    entries: Mapping[int, tuple[str, ...]]
    tail: int
    junk: frozenset[int] = frozenset()
    trimmed_below: int = 0
    lost: tuple[tuple[int, int], ...] = ()
    start: int = 0

    @property
    def scanned_from(self) -> int:
        """The first offset of which the scan tells what it holds."""
        return max(self.start, self.trimmed_below)


@dataclass(slots=True)
class Stamps:
    """Turns times that may repeat into strictly increasing ones, for recorders."""

    _last: float = field(default=-math.inf)

    def stamp(self, now: float) -> float:
        """Return `now`, or the next float after the last stamp if `now` is not above it."""
        self._last = now if now > self._last else math.nextafter(self._last, math.inf)
        return self._last
