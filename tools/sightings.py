"""Where a history's records are, by all that was answered: what the rules of the checker share."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import assert_never

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

FINAL = -1
"""Stands for the final log where the index of an operation is expected."""


RULES = {
    "history": "the history itself is well formed",
    "durable": "what was acknowledged or seen is in the final log, unless trimmed",
    "one-value": "an offset has one value for ever: data or junk",
    "once": "a record is in the log at most once",
    "refused": "a record reported as not appended is never in the log",
    "invented": "every record in the log was appended by somebody",
    "real-time": "an append that begins after another ended gets a greater position",
    "tail": "tail() is above all that ended before it, at most all that begins after it",
    "unwritten": "no offset below a tail that was shown is called unwritten later",
    "many-order": "the records of one append_many keep their order",
    "batch": "the records of one entry are there together; none of a later entry after a failure",
    "call-order": "an ordered client's records lie in the order of its calls",
    "scan": "a scan or follow gives every record between its bounds, in order, and nothing else; "
    "one that goes to the tail gives all that was there when it began",
    "trim": "below a mark that trim() returned no value is shown again; marks only rise, and "
    "reach what was asked or the tail",
    "untrimmed": "nothing is trimmed that no trim asked for",
    "fill": "a filled offset is not unwritten",
    "lost": "nothing is lost (unless allowed), and what is lost stays so",
    "final": "the final log has no hole between its trim mark and its tail",
}
"""The rules by name, as violations carry them."""


@dataclass(frozen=True, slots=True)
class Violation:
    """One rule seen broken.

    Attributes:
        rule: The rule's short name.
        message: What was seen, with the operations' text.
        operations: Their indices in the history; -1 is the final log.
        finding: What was seen, without the operations.
    """

    rule: str
    message: str
    operations: tuple[int, ...]
    finding: str = ""

    def __str__(self) -> str:
        return f"{self.rule}: {self.message}"


class Report:
    """Collects violations, a bounded number for each rule."""

    def __init__(self, history: Sequence[Operation], each_max: int) -> None:
        self.violations: list[Violation] = []
        self._history = history
        self._each_max = each_max
        self._counts: dict[str, int] = {}

    def add(self, rule: str, message: str, *operations: int) -> None:
        """Record that `operations` together break `rule`, one of `RULES`."""
        assert rule in RULES
        count = self._counts.get(rule, 0) + 1
        self._counts[rule] = count
        if count <= self._each_max:
            told = (describe(self._history, index) for index in dict.fromkeys(operations))
            text = f"{message}: {'; '.join(told)}"
            self.violations.append(Violation(rule, text, operations, message))


def describe(history: Sequence[Operation], index: int) -> str:
    """Return one of a violation's operations in words."""
    if index == FINAL:
        return "the final log"
    operation = history[index]
    end = "?" if operation.completed is None else f"{operation.completed:.6f}"
    times = f"[{operation.invoked:.6f}, {end}]"
    return f"#{index} {_describe_call(operation)} by {operation.client} {times}"


def _describe_call(operation: Operation) -> str:
    match operation:
        case Append(records=records, places=places, outcome=outcome):
            told = [
                f"{key} {outcome.value if place is None else f'at {place[0]}.{place[1]}'}"
                for key, place in zip(records[:4], places[:4], strict=True)
            ]
            return f"append of {', '.join(told)}{', ...' if len(records) > len(told) else ''}"
        case Read(offset=offset, index=index, seen=seen):
            return f"read of {offset}{'' if index is None else f'.{index}'} -> {_told(seen)}"
        case Scan(start=start, end=end, items=items):
            bounds = f"[{start[0]}.{start[1]}, {end[0]}.{end[1]})"
            return f"scan of {bounds} -> {len(items)} records"
        case Tail(offset=offset, confirmed=confirmed):
            return f"{'tail' if confirmed else 'cheap tail'} -> {offset}"
        case Fill(offset=offset, seen=seen):
            return f"fill of {offset} -> {_told(seen)}"
        case Trim(mark=mark, reached=reached):
            return f"trim to {mark} -> {reached}"
        case _:
            assert_never(operation)


def _told(seen: Seen | None) -> str:
    if seen is None:
        return "no answer"
    return seen.value if isinstance(seen, Mark) else " ".join(seen[:4])


class Sightings:
    """Every place at which a record, junk or a loss was seen, and by which operation first.

    Building it checks the rules that need no order: one value per offset for ever, each record
    at most once, no refused record in the log, and no record that nobody appended.
    """

    def __init__(
        self,
        history: Sequence[Operation],
        final: FinalLog,
        options: CheckOptions,
        report: Report,
    ) -> None:
        self.history = history
        self.final = final
        self._options = options
        self.place_of: dict[str, tuple[Place, int]] = {}
        self.record_at: dict[Place, tuple[str, int]] = {}
        self.data_at: dict[int, int] = {}
        self.junk_at: dict[int, int] = {}
        self.lost_at: dict[int, int] = {}
        self.appended_by: dict[str, int] = {}
        self._entry_at: dict[int, tuple[tuple[str, ...], int]] = {}
        self._report = report
        for index, operation in enumerate(history):
            self._look(index, operation)
        for offset, records in final.entries.items():
            self._see_entry(offset, records, FINAL)
        for offset in sorted(final.junk):
            self.junk_at.setdefault(offset, FINAL)
        self._lost = sorted(final.lost)
        trims = sorted((each.invoked, each.mark) for each in history if isinstance(each, Trim))
        self._trim_times = [time for time, _ in trims]
        self._trim_bounds = _running_max(bound for _, bound in trims)

    def place(self, call: Append, number: int) -> Place | None:
        """Return the known place of one of an append's records.

        A record without reported position may have been seen; a refused one has no place.
        """
        place = call.places[number]
        if place is None and call.outcome is Outcome.UNKNOWN:
            seen = self.place_of.get(call.records[number])
            return None if seen is None else seen[0]
        return place

    def places(self, call: Append) -> list[Place]:
        """Return the known places of an append's records, in call order."""
        found = (self.place(call, number) for number in range(len(call.records)))
        return [place for place in found if place is not None]

    def is_own(self, record: str) -> bool:
        """Tell whether only the history can have appended a record."""
        options = self._options
        return (
            options.appends_complete
            or record in self.appended_by
            or (options.own_prefix != "" and record.startswith(options.own_prefix))
        )

    def is_lost(self, offset: int) -> bool:
        """Whether the final log reports `offset` as lost."""
        place = bisect_right(self._lost, (offset, math.inf)) - 1
        return place >= 0 and self._lost[place][0] <= offset < self._lost[place][1]

    def trim_bound(self, time: float) -> int:
        """Return the highest mark that any trim of the history asked for up to `time`."""
        count = bisect_right(self._trim_times, time)
        return self._trim_bounds[count - 1] if count else 0

    def _look(self, index: int, operation: Operation) -> None:
        match operation:
            case Append():
                self._look_at_append(index, operation)
            case Read(offset=offset, index=None, seen=seen) | Fill(offset=offset, seen=seen):
                self._see_answer(offset, seen, index)
            case Read(offset=offset, index=int(place), seen=(record,)):
                self._see(record, (offset, place), index)
            case Read(offset=offset, seen=seen):
                if isinstance(seen, tuple):
                    self._report.add("history", "one record was asked for", index)
                else:
                    self._see_answer(offset, seen, index)
            case Scan(items=items):
                for where, record in items:
                    self._see(record, where, index)
            case Tail() | Trim():
                pass
            case _:
                assert_never(operation)

    def _look_at_append(self, index: int, call: Append) -> None:
        for record, place in zip(call.records, call.places, strict=True):
            first = self.appended_by.setdefault(record, index)
            if first != index:
                self._report.add("history", f"{record} was appended twice", first, index)
            if place is not None:
                self._see(record, place, index)

    def _see_answer(self, offset: int, seen: Seen | None, source: int) -> None:
        if isinstance(seen, tuple):
            self._see_entry(offset, seen, source)
        elif seen is Mark.DATA:
            self.data_at.setdefault(offset, source)
        elif seen is Mark.JUNK:
            self.junk_at.setdefault(offset, source)
        elif seen is Mark.LOST:
            self.lost_at.setdefault(offset, source)

    def _see_entry(self, offset: int, records: tuple[str, ...], source: int) -> None:
        known = self._entry_at.get(offset)
        if known is None:
            self._entry_at[offset] = (records, source)
            if not records:
                self.data_at.setdefault(offset, source)
        elif known[0] != records:
            self._report.add("one-value", f"offset {offset} changed", known[1], source)
        for place, record in enumerate(records):
            self._see(record, (offset, place), source)

    def _see(self, record: str, place: Place, source: int) -> None:
        known = self.place_of.get(record)
        if known is None:
            self.place_of[record] = (place, source)
        elif known[0] != place and self.is_own(record):
            self._report.add("once", f"{record} is in the log twice", known[1], source)
        other = self.record_at.get(place)
        if other is None:
            self.record_at[place] = (record, source)
            self.data_at.setdefault(place[0], source)
        elif other[0] != record:
            where = f"{place[0]}.{place[1]}"
            self._report.add("one-value", f"position {where} changed", other[1], source)


def _running_max(values: Iterable[int]) -> list[int]:
    highest = 0
    result: list[int] = []
    for value in values:
        highest = max(highest, value)
        result.append(highest)
    return result
