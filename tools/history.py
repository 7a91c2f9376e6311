"""A history as JSON lines, one operation a line: to be kept, and checked again elsewhere.

Besides operations there are lines of the final log, and one of what is known of the run. Lines
may come in any order, and from several files.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from typing import Any, assert_never

from .check_options import CheckOptions
from .operations import (
    Append,
    Fill,
    FinalLog,
    Mark,
    Operation,
    Outcome,
    Place,
    Read,
    Scan,
    Seen,
    Tail,
    Trim,
)


class HistoryFormatError(ValueError):
    """A line is not one of a history."""


Item = tuple[Place, str]

_ENTRIES_A_LINE = 1_000

_KNOWN = {"appends_complete": bool, "own_prefix": str, "trims_complete": bool}
_KNOWN |= {"allow_lost": bool, "allow_lost_unshown": bool, "holes_closed": bool}
"""The options that a history can carry, and their types."""


def encode_history(
    history: Iterable[Operation], final: FinalLog | None, options: CheckOptions | None = None
) -> Iterator[str]:
    """Yield the lines of a history, without line ends; the final log comes last.

    Args:
        history: The operations.
        final: The log in the end, if it was read.
        options: What is known of the run, for whoever checks the history later.
    """
    if options is not None:
        known = {name: getattr(options, name) for name in _KNOWN}
        yield json.dumps({"op": "options", **known}, separators=(",", ":"))
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
        "start": final.start,
    }
    yield json.dumps(head, separators=(",", ":"))
    entries = [[offset, list(final.entries[offset])] for offset in sorted(final.entries)]
    for start in range(0, len(entries), _ENTRIES_A_LINE):
        line = {"op": "entries", "entries": entries[start : start + _ENTRIES_A_LINE]}
        yield json.dumps(line, separators=(",", ":"))


class HistoryReader:
    """Reads lines back, from any number of files.

    Attributes:
        history: The operations so far, in the order of their lines.
        options: What the lines say of the run; None: nothing.
    """

    def __init__(self) -> None:
        self.history: list[Operation] = []
        self.options: CheckOptions | None = None
        self._final: FinalLog | None = None
        self._entries: dict[int, tuple[str, ...]] = {}
        # What is given again and again is kept once: an hour's scans and follows fit in memory.
        self._items: dict[tuple[int, int, str], Item] = {}

    def read(self, line: str) -> bool:
        """Take in one line; returns whether it was an operation.

        Raises:
            HistoryFormatError: It is none of a history.
        """
        try:
            fields = json.loads(line)
            match fields["op"]:
                case "final":
                    self._end(_decode_final(fields, self._entries))
                case "entries":
                    for offset, records in fields["entries"]:
                        self._entries[int(offset)] = tuple(map(str, records))
                case "options":
                    self.options = _decode_options(fields)
                case _:
                    self.history.append(_decode(fields, self._items))
                    return True
        except HistoryFormatError:
            raise
        except (
            *(ValueError, TypeError, KeyError, IndexError),
            # Infinity where an offset is wanted; thousands of brackets.
            *(OverflowError, RecursionError),
        ) as error:
            raise HistoryFormatError(repr(error)) from error
        return False

    def _end(self, final: FinalLog) -> None:
        if self._final is not None:
            raise HistoryFormatError("a second final log")
        self._final = final

    def final(self) -> FinalLog | None:
        """Return the final log, None if no line told of it; once all lines were read.

        Raises:
            HistoryFormatError: A part of it is missing.
        """
        if self._final is None and self._entries:
            raise HistoryFormatError("entries of a final log that is missing")
        return self._final


def decode_history(lines: Iterable[str]) -> tuple[list[Operation], FinalLog | None]:
    """Read back what `encode_history` wrote; empty lines are skipped.

    Raises:
        HistoryFormatError: With the number of the line that is wrong.
    """
    reader = HistoryReader()
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            reader.read(line)
        except HistoryFormatError as error:
            raise HistoryFormatError(f"line {number}: {error}") from error
    return reader.history, reader.final()


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
        case Append(_, _, _, records, places, outcome, ordered, entries):
            line |= {"records": records, "places": places, "outcome": outcome.value}
            line |= {"ordered": ordered, "entries": entries}
        case Read(_, _, _, offset, seen, index, cached):
            line |= {"offset": offset, "seen": _encode_seen(seen), "index": index}
            line |= {"cached": cached}
        case Scan(_, _, _, start, end, items, cached, followed, to_tail):
            line |= {"start": start, "end": end, "cached": cached, "followed": followed}
            line |= {"to_tail": to_tail}
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


def _decode(fields: dict[str, Any], known: dict[tuple[int, int, str], Item]) -> Operation:
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
            # Histories that were kept before this was recorded lack it.
            entries = tuple(map(int, fields.get("entries", ())))
            if entries and (min(entries) < 1 or sum(entries) != len(records)):
                raise HistoryFormatError("the entries must hold the records")
            return Append(invoked, completed, client, records, places, outcome, ordered, entries)
        case "read":
            offset, seen, index = int(fields["offset"]), _seen(fields["seen"]), fields["index"]
            index = None if index is None else int(index)
            return Read(invoked, completed, client, offset, seen, index, bool(fields["cached"]))
        case "scan":
            start, end = _place(fields["start"]), _place(fields["end"])
            items = tuple(
                [known.get(tuple(each)) or _item(each, known) for each in fields["items"]]
            )
            cached, followed = bool(fields["cached"]), bool(fields.get("followed"))
            to_tail = bool(fields.get("to_tail"))
            return Scan(invoked, completed, client, start, end, items, cached, followed, to_tail)
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
        start=int(head.get("start", 0)),
    )


def _decode_options(fields: dict[str, Any]) -> CheckOptions:
    known = {name: kind(fields[name]) for name, kind in _KNOWN.items() if name in fields}
    unknown = sorted(set(fields) - set(known) - {"op"})
    if unknown:
        raise HistoryFormatError(f"unknown options: {', '.join(unknown)}")
    return CheckOptions(**known)


def _place(value: Any) -> Place:
    offset, index = value
    return int(offset), int(index)


def _item(value: Any, known: dict[tuple[int, int, str], Item]) -> Item:
    offset, index, key = value
    item = ((int(offset), int(index)), str(key))
    known[*item[0], item[1]] = item
    return item


def _number(value: Any) -> int | None:
    return None if value is None else int(value)


def _seen(value: Any) -> Seen | None:
    if value is None:
        return None
    return Mark(value) if isinstance(value, str) else tuple(map(str, value))
