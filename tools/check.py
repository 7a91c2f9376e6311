"""Checks a history of operations against what the log promises; pure, in O(n log n).

An append says where it went, so no search for an order is needed. The log is a tail that only
rises and one value for each offset. An answer bounds the tail: an append at `o`, or a value seen
at `o`, shows that the tail was above `o` when it ended; an append that got `o`, or a read that
found `o` unwritten, shows that the tail was at most `o` at some moment after it began. A history
is linearizable exactly if every offset has one value and no bound from an operation that ended
exceeds one of an operation that began later. The other rules are promises beyond that.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import assert_never

from corfu.tools.history import (
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
from corfu.tools.sightings import FINAL, RULES, Report, Sightings, Violation

__all__ = ["RULES", "CheckOptions", "LostChain", "Violation", "check"]

Bound = tuple[float, int, int]
"""When an operation began or ended, what it says of the tail or mark, and its index."""


@dataclass(frozen=True, slots=True)
class LostChain:
    """Every offset in `[start, end)` that leaves `chain` when divided by `chains`.

    `since`: when its last disk was gone, on the history's scale.
    """

    start: int
    end: int
    chains: int
    chain: int
    since: float

    def holds(self, offset: int) -> bool:
        """Tell whether an offset is of the chain."""
        return self.start <= offset < self.end and offset % self.chains == self.chain


@dataclass(frozen=True, slots=True)
class CheckOptions:
    """What the caller knows about a run.

    Attributes:
        allow_lost: Offsets may have been lost (so many disks were damaged on purpose).
        allow_lost_unshown: Offsets may have been lost of which no value was ever acknowledged or
            shown (a power cut tore the only copies of what was being written).
        lost_chains: What was given up with chains that were abandoned, in this run, may be lost.
        appends_complete: The history holds every append to the log.
        trims_complete: The history holds every trim of the log.
        holes_closed: The final scan closed every hole below the tail.
        each_max: At most so many violations are returned for each rule.
    """

    allow_lost: bool = False
    allow_lost_unshown: bool = False
    lost_chains: tuple[LostChain, ...] = ()
    appends_complete: bool = True
    trims_complete: bool = True
    holes_closed: bool = True
    each_max: int = 20


DEFAULT_OPTIONS = CheckOptions()


def check(
    history: Sequence[Operation], final: FinalLog, *, options: CheckOptions = DEFAULT_OPTIONS
) -> list[Violation]:
    """Return every broken rule that was found; an empty list means: the history is sound."""
    report = Report(history, options.each_max)
    sightings = Sightings(history, final, report)
    checker = _Checker(sightings, options, report)
    checker.check_values()
    checker.check_appends()
    checker.check_order()
    checker.check_scans()
    checker.check_trims()
    checker.check_lost()
    checker.check_final()
    return report.violations


class _Checker:
    def __init__(self, sightings: Sightings, options: CheckOptions, report: Report) -> None:
        self._sightings = sightings
        self._options = options
        self._add = report.add
        self._history = sightings.history
        self._final = sightings.final

    def check_values(self) -> None:
        """Check that what was seen is one value, appended by somebody, and still there."""
        sightings, final = self._sightings, self._final
        for offset, source in sightings.junk_at.items():
            if offset in sightings.data_at:
                data = sightings.data_at[offset]
                self._add("one-value", f"offset {offset} is data and junk", data, source)
            elif offset not in final.junk and not self._is_gone(offset):
                self._add("durable", f"junk at {offset} has vanished", source, FINAL)
        for place, (record, source) in sightings.record_at.items():
            offset, index = place
            entry = final.entries.get(offset, ())
            if (index >= len(entry) or entry[index] != record) and not self._is_gone(offset):
                self._add("durable", f"{record} at {offset}.{index} has vanished", source, FINAL)
        if self._options.appends_complete:
            for record, (_place, source) in sightings.place_of.items():
                if record not in sightings.appended_by:
                    self._add("invented", f"nobody appended {record}", source)

    def check_appends(self) -> None:
        """Check each append by itself, and those of each ordered client together."""
        sightings = self._sightings
        ordered: dict[str, list[int]] = {}
        for index, each in enumerate(self._history):
            if not isinstance(each, Append):
                continue
            if each.outcome is Outcome.NOT_APPENDED:
                for record, place in zip(each.records, each.places, strict=True):
                    if place is None and record in sightings.place_of:
                        source = sightings.place_of[record][1]
                        self._add("refused", f"{record} is in the log", index, source)
            elif each.outcome is Outcome.APPENDED and None in each.places:
                self._add("history", "an appended record has no position", index)
            if len(each.records) > 1 and not _rises(sightings.places(each)):
                self._add("many-order", "records of one call changed places", index)
            if each.ordered:
                ordered.setdefault(each.client, []).append(index)
        for calls in ordered.values():
            self._check_call_order(calls)

    def _check_call_order(self, calls: list[int]) -> None:
        last: Place = (-1, 0)
        last_index = FINAL
        # The sort is stable: calls of one instant keep the order in which they were recorded.
        for index in sorted(calls, key=lambda each: self._history[each].invoked):
            operation = self._history[index]
            assert isinstance(operation, Append)
            places = self._sightings.places(operation)
            if places and min(places) <= last:
                self._add("call-order", "a later call lies before it", last_index, index)
            if places and max(places) > last:
                last, last_index = max(places), index

    def check_order(self) -> None:
        """Check that what ended operations show of the tail fits all that begin later."""
        ends: list[Bound] = []
        begins: list[Bound] = [(math.inf, self._final.tail, FINAL)]
        for index, operation in enumerate(self._history):
            low, high = self._tail_bounds(operation)
            if low and operation.completed is not None:
                ends.append((operation.completed, low, index))
            if high is not None:
                begins.append((operation.invoked, high, index))
        for shown, index, low, high in _sweep(ends, begins):
            rule = self._order_rule(shown, index)
            self._add(rule, f"the tail was {low} before, {high} is too low", shown, index)

    def _tail_bounds(self, operation: Operation) -> tuple[int, int | None]:
        """Return the tail's lower bound when it ended and upper bound after it began."""
        match operation:
            case Append(places=places):
                known = [place[0] for place in self._sightings.places(operation)]
                acknowledged = [place[0] for place in places if place is not None]
                # A value at `o`, not only the grant: nothing joins an entry that is written.
                low = max(acknowledged) + 1 if acknowledged else 0
                return low, min(known) if known else None
            case Read(offset=offset, seen=seen) | Fill(offset=offset, seen=seen):
                if seen is Mark.UNWRITTEN:
                    return 0, offset
                return (0 if seen is None else offset + 1), None
            case Scan(end=end, items=items):
                decided = end[0] + 1 if end[1] else end[0]
                return max([decided, *(place[0] + 1 for place, _ in items[-1:])]), None
            case Tail(offset=tail, confirmed=confirmed):
                return (0, None) if tail is None else (tail, tail if confirmed else None)
            case Trim(reached=reached):
                return reached or 0, None
            case _:
                assert_never(operation)

    def _order_rule(self, shown: int, index: int) -> str:
        before = self._history[shown]
        later = None if index == FINAL else self._history[index]
        if later is None or isinstance(later, Tail):
            return "tail"
        if not isinstance(later, Append):
            return "unwritten"
        return "tail" if isinstance(before, Tail) else "real-time"

    def check_scans(self) -> None:
        """Check that every scan gave exactly the records between its bounds."""
        scans = [(i, each) for i, each in enumerate(self._history) if isinstance(each, Scan)]
        places = sorted(self._sightings.record_at) if scans else []
        for index, scan in scans:
            given = [place for place, _ in scan.items]
            expected = places[bisect_left(places, scan.start) : bisect_left(places, scan.end)]
            if given == expected:
                continue
            if not _rises(given):
                self._add("scan", "records came out of order or twice", index)
            if given and (min(given) < scan.start or max(given) >= scan.end):
                self._add("scan", "records came from outside the bounds", index)
            self._check_missing(index, scan, given, expected)

    def _check_missing(
        self, index: int, scan: Scan, given: list[Place], expected: list[Place]
    ) -> None:
        ended = math.inf if scan.completed is None else scan.completed
        bound = self._sightings.trim_bound(ended)
        was_given = set(given)
        for place in expected:
            # Whether trimmed just then or later cannot be told: either answer is right.
            excused = place[0] < bound or self._was_lost(place[0], ended)
            if place not in was_given and not excused:
                source = self._sightings.record_at[place][1]
                self._add("scan", f"{place[0]}.{place[1]} is missing", index, source)
                return

    def check_trims(self) -> None:
        """Check that trimmed values stay away, marks rise, and each trimming was asked for."""
        ends: list[Bound] = []
        begins: list[Bound] = [(math.inf, self._final.trimmed_below, FINAL)]
        for index, operation in enumerate(self._history):
            if isinstance(operation, Trim) and operation.reached is not None:
                begins.append((operation.invoked, operation.reached, index))
                if operation.completed is not None:
                    ends.append((operation.completed, operation.reached, index))
                continue
            lowest = _lowest_value(operation)
            if lowest is not None:
                begins.append((operation.invoked, lowest, index))
            if isinstance(operation, Read | Fill) and operation.seen is Mark.TRIMMED:
                ended = math.inf if operation.completed is None else operation.completed
                self._check_was_trimmed(operation.offset, ended, index)
        for trim, index, mark, offset in _sweep(ends, begins):
            self._add("trim", f"{offset} after the mark {mark} was reached", trim, index)
        if self._final.trimmed_below:
            self._check_was_trimmed(self._final.trimmed_below - 1, math.inf, FINAL)

    def _check_was_trimmed(self, offset: int, ended: float, index: int) -> None:
        bound = self._sightings.trim_bound(ended)
        if self._options.trims_complete and offset >= bound:
            self._add("untrimmed", f"no trim had asked for {offset}", index)

    def check_lost(self) -> None:
        """Check that losses are allowed, final, and not taken back."""
        lost_at = self._sightings.lost_at
        options = self._options
        if not (options.allow_lost or options.allow_lost_unshown or options.lost_chains):
            for offset, source in lost_at.items():
                self._add("lost", f"offset {offset} was lost", source)
            for start, end in self._final.lost:
                self._add("lost", f"offsets [{start}, {end}) were lost", FINAL)
            return
        for offset, source in lost_at.items():
            if offset >= self._final.trimmed_below and not self._sightings.is_lost(offset):
                self._add("lost", f"offset {offset} was lost, then found", source, FINAL)
        for index, operation in enumerate(self._history if lost_at else ()):
            if isinstance(operation, Read | Fill) and operation.offset in lost_at:
                source = lost_at[operation.offset]
                self._check_not_found(operation, index, source)

    def _check_not_found(self, operation: Read | Fill, index: int, source: int) -> None:
        ended = self._history[source].completed
        cached = isinstance(operation, Read) and operation.cached
        later = ended is not None and ended < operation.invoked
        if later and not cached and _is_value(operation.seen):
            self._add("lost", f"offset {operation.offset} came back", source, index)

    def check_final(self) -> None:
        """Check fills' answers and that the final log is whole."""
        final = self._final
        for index, operation in enumerate(self._history):
            if isinstance(operation, Fill) and operation.seen is Mark.UNWRITTEN:
                self._add("fill", f"offset {operation.offset} stayed unwritten", index)
        for offset in final.entries:
            if not final.trimmed_below <= offset < final.tail:
                self._add("final", f"an entry at {offset} lies outside the log", FINAL)
        if not self._options.holes_closed:
            return
        for offset in range(final.trimmed_below, final.tail):
            held = offset in final.entries or offset in final.junk
            if not held and not self._sightings.is_lost(offset):
                self._add("final", f"offset {offset} is a hole", FINAL)

    def _is_gone(self, offset: int) -> bool:
        return offset < self._final.trimmed_below or self._is_excused_loss(offset)

    def _is_excused_loss(self, offset: int) -> bool:
        return self._sightings.is_lost(offset) and self._was_lost(offset, math.inf)

    def _was_lost(self, offset: int, time: float) -> bool:
        """Tell whether an offset may have been lost by then; perhaps it is trimmed by now."""
        if any(each.since <= time and each.holds(offset) for each in self._options.lost_chains):
            return True
        return self._options.allow_lost and self._sightings.is_lost(offset)


def _sweep(ends: list[Bound], begins: list[Bound]) -> list[tuple[int, int, int, int]]:
    """Find each begin whose number is below the highest of all that ended before it.

    Returns:
        (index of the ended one, index of the begun one, ended's number, begun's number) each.
    """
    ends.sort()
    begins.sort()
    found: list[tuple[int, int, int, int]] = []
    highest, shown, place = -1, FINAL, 0
    for begun, number, index in begins:
        while place < len(ends) and ends[place][0] < begun:
            if ends[place][1] > highest:
                _, highest, shown = ends[place]
            place += 1
        if number < highest:
            found.append((shown, index, highest, number))
    return found


def _is_value(seen: Seen | None) -> bool:
    return isinstance(seen, tuple) or seen is Mark.JUNK


def _lowest_value(operation: Operation) -> int | None:
    """Return the lowest offset of which the operation showed a value, caches left out."""
    match operation:
        case Read(offset=offset, seen=seen, cached=False) | Fill(offset=offset, seen=seen):
            return offset if _is_value(seen) else None
        case Scan(items=items, cached=False) if items:
            return min(place[0] for place, _ in items)
        case Append() | Read() | Scan() | Tail() | Fill() | Trim():
            return None
        case _:
            assert_never(operation)


def _rises(places: list[Place]) -> bool:
    return all(places[i] < places[i + 1] for i in range(len(places) - 1))
