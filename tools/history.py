"""What clients did to a log and were answered: the values that the history checker reads.

Also their form as JSON lines, one operation a line, so that a history can be kept and checked
again elsewhere.
"""

from __future__ import annotations

import enum
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, assert_never

Place = tuple[int, int]
"""A record's position as a plain pair (offset, index)."""


class Mark(enum.Enum):
    """What an offset that shows no records was said to be."""

    JUNK = "junk"
    UNWRITTEN = "unwritten"
    TRIMMED = "trimmed"
    LOST = "lost"


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
    """

    invoked: float
    completed: float | None
    client: str
    records: tuple[str, ...]
    places: tuple[Place | None, ...]
    outcome: Outcome = Outcome.APPENDED
    ordered: bool = False


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
    """

    invoked: float
    completed: float | None
    client: str
    start: Place
    end: Place
    items: tuple[tuple[Place, str], ...]
    cached: bool = False


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
    """

    entries: Mapping[int, tuple[str, ...]]
    tail: int
    junk: frozenset[int] = frozenset()
    trimmed_below: int = 0
    lost: tuple[tuple[int, int], ...] = ()


@dataclass(slots=True)
class Stamps:
    """Turns times that may repeat into strictly increasing ones, for recorders."""

    _last: float = field(default=-math.inf)

    def stamp(self, now: float) -> float:
        """Return `now`, or the next float after the last stamp if `now` is not above it."""
        self._last = now if now > self._last else math.nextafter(self._last, math.inf)
        return self._last


class HistoryFormatError(ValueError):
    """A line is not one of a history."""


_ENTRIES_A_LINE = 1_000


def encode_history(history: Iterable[Operation], final: FinalLog | None) -> Iterator[str]:
    """Yield the lines of a history, without line ends; the final log comes last."""
    for operation in history:
        yield encode_operation(operation)
    if final is None:
        return
    head = {
        "op": "final",
        "tail": final.tail,
        "trimmed_below": final.trimmed_below,
        "junk": sorted(final.junk),
        "lost": [list(each) for each in final.lost],
    }
    yield json.dumps(head, separators=(",", ":"))
    entries = [[offset, list(final.entries[offset])] for offset in sorted(final.entries)]
    for start in range(0, len(entries), _ENTRIES_A_LINE):
        line = {"op": "entries", "entries": entries[start : start + _ENTRIES_A_LINE]}
        yield json.dumps(line, separators=(",", ":"))


def decode_history(lines: Iterable[str]) -> tuple[list[Operation], FinalLog | None]:
    """Read back what `encode_history` wrote; empty lines are skipped.

    Raises:
        HistoryFormatError: With the number of the line that is wrong.
    """
    history: list[Operation] = []
    head: dict[str, Any] | None = None
    entries: dict[int, tuple[str, ...]] = {}
    final: FinalLog | None = None
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            fields = json.loads(line)
            match fields["op"]:
                case "final":
                    head = fields
                    final = _decode_final(head, entries)
                case "entries":
                    for offset, records in fields["entries"]:
                        entries[int(offset)] = tuple(map(str, records))
                case _:
                    history.append(_decode(fields))
        except (
            *(ValueError, TypeError, KeyError, IndexError),
            # Infinity where an offset is wanted; thousands of brackets.
            *(OverflowError, RecursionError),
        ) as error:
            raise HistoryFormatError(f"line {number}: {error!r}") from error
    if head is None and entries:
        raise HistoryFormatError("entries of a final log that is missing")
    return history, final


def encode_operation(operation: Operation) -> str:
    """Return one operation's line of a history."""
    return json.dumps(_encode(operation), separators=(",", ":"))


def _encode(operation: Operation) -> dict[str, object]:
    line: dict[str, object] = {
        "op": type(operation).__name__.lower(),
        "invoked": operation.invoked,
        "completed": operation.completed,
        "client": operation.client,
    }
    match operation:
        case Append(_, _, _, records, places, outcome, ordered):
            line |= {"records": records, "places": places, "outcome": outcome.value}
            line |= {"ordered": ordered}
        case Read(_, _, _, offset, seen, index, cached):
            line |= {"offset": offset, "seen": _encode_seen(seen), "index": index}
            line |= {"cached": cached}
        case Scan(_, _, _, start, end, items, cached):
            line |= {"start": start, "end": end, "cached": cached}
            line |= {"items": [[offset, index, key] for (offset, index), key in items]}
        case Tail(_, _, _, tail, confirmed):
            line |= {"offset": tail, "confirmed": confirmed}
        case Fill(_, _, _, offset, seen):
            line |= {"offset": offset, "seen": _encode_seen(seen)}
        case Trim(_, _, _, mark, reached):
            line |= {"mark": mark, "reached": reached}
        case _:
            assert_never(operation)
    return line


def _encode_seen(seen: Seen | None) -> str | list[str] | None:
    if seen is None:
        return None
    return seen.value if isinstance(seen, Mark) else list(seen)


def _decode(fields: dict[str, Any]) -> Operation:
    invoked = float(fields["invoked"])
    completed = None if fields["completed"] is None else float(fields["completed"])
    if not math.isfinite(invoked) or (completed is not None and not completed >= invoked):
        raise HistoryFormatError("times must be finite, and completed not before invoked")
    client = str(fields["client"])
    match fields["op"]:
        case "append":
            records = tuple(map(str, fields["records"]))
            places = tuple(None if each is None else _place(each) for each in fields["places"])
            if len(places) != len(records):
                raise HistoryFormatError("as many places as records are needed")
            outcome, ordered = Outcome(fields["outcome"]), bool(fields["ordered"])
            return Append(invoked, completed, client, records, places, outcome, ordered)
        case "read":
            offset, seen, index = int(fields["offset"]), _seen(fields["seen"]), fields["index"]
            index = None if index is None else int(index)
            return Read(invoked, completed, client, offset, seen, index, bool(fields["cached"]))
        case "scan":
            start, end = _place(fields["start"]), _place(fields["end"])
            items = tuple(
                ((int(offset), int(index)), str(key)) for offset, index, key in fields["items"]
            )
            return Scan(invoked, completed, client, start, end, items, bool(fields["cached"]))
        case "tail":
            tail = _number(fields["offset"])
            return Tail(invoked, completed, client, tail, bool(fields["confirmed"]))
        case "fill":
            offset, seen = int(fields["offset"]), _seen(fields["seen"])
            return Fill(invoked, completed, client, offset, seen)
        case "trim":
            mark, reached = int(fields["mark"]), _number(fields["reached"])
            return Trim(invoked, completed, client, mark, reached)
        case other:
            raise HistoryFormatError(f"unknown operation {other!r}")


def _decode_final(head: dict[str, Any], entries: dict[int, tuple[str, ...]]) -> FinalLog:
    """Build the final log; `entries` is filled by the lines that follow."""
    return FinalLog(
        entries=entries,
        tail=int(head["tail"]),
        junk=frozenset(map(int, head["junk"])),
        trimmed_below=int(head["trimmed_below"]),
        lost=tuple((int(start), int(end)) for start, end in head["lost"]),
    )


def _place(value: Any) -> Place:
    offset, index = value
    return int(offset), int(index)


def _number(value: Any) -> int | None:
    return None if value is None else int(value)


def _seen(value: Any) -> Seen | None:
    if value is None:
        return None
    return Mark(value) if isinstance(value, str) else tuple(map(str, value))
