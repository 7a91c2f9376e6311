"""Checks a history of operations against what the log promises; pure, in O(n log n).

An append says where it went, so no search for an order is needed. The log is a tail that only
rises and one value for each offset. An answer bounds the tail: an append at `o`, or a value seen
at `o`, shows that the tail was above `o` when it ended; an append that got `o`, or a read that
found `o` unwritten, shows that the tail was at most `o` at some moment after it began. A history
is linearizable exactly if every offset has one value and no bound from an operation that ended
exceeds one of an operation that began later. The other rules are promises beyond that.

For programs that record what they do to a log themselves:

    from corfu.tools.check import check
    from corfu.tools.operations import Append, FinalLog, Read

    history = [
        Append(1.0, 1.2, "client 1", records=("a",), places=((0, 0),)),
        Read(1.3, 1.4, "client 2", offset=0, seen=("a",)),
    ]
    for violation in check(history, FinalLog({0: ("a",)}, tail=1)):
        print(violation)

A record stands in it by a key, unique in the history: the record itself, if all are different, or
its digest. `corfu.tools.history` has its form as lines, which `corfu check` reads.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence

from .check_options import DEFAULT_OPTIONS, CheckOptions
from .check_order import (
    check_batch,
    check_call_order,
    check_order,
    check_scans_to_tail,
    check_trims,
    is_value,
)
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
    Trim,
)
from .sightings import FINAL, Report, Sightings, Violation

_NO_TAIL = 1 << 64
"""Above every offset."""


def check(
    history: Sequence[Operation],
    final: FinalLog | None,
    *,
    options: CheckOptions = DEFAULT_OPTIONS,
) -> list[Violation]:
    """Return every broken rule that was found; an empty list means: the history is sound.

    Args:
        history: What all clients did, in any order, on one clock.
        final: The log when every operation had ended. None: nobody looked, so what was
            acknowledged and never read may be lost for all that is known.
        options: What is known of the run.
    """
    final = _unknown(history) if final is None else final
    report = Report(history, options.each_max)
    sightings = Sightings(history, final, options, report)
    checker = _Checker(sightings, options, report)
    checker.check_values()
    checker.check_appends()
    check_order(sightings, report)
    checker.check_scans()
    check_scans_to_tail(sightings, options.lost_chains, report)
    check_trims(sightings, options, report)
    checker.check_lost()
    checker.check_final()
    return report.violations


def _unknown(history: Sequence[Operation]) -> FinalLog:
    """Return a final log that tells of nothing."""
    reached = (each.reached or 0 for each in history if isinstance(each, Trim))
    return FinalLog({}, _NO_TAIL, trimmed_below=max(reached, default=0), start=_NO_TAIL)


class _Checker:
    def __init__(self, sightings: Sightings, options: CheckOptions, report: Report) -> None:
        self._sightings = sightings
        self._options = options
        self._report = report
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
        for offset, source in sightings.data_at.items():
            if offset not in final.entries and not self._is_gone(offset):
                self._add("durable", f"what was at {offset} has vanished", source, FINAL)
        for record, (_place, source) in sightings.place_of.items():
            if record not in sightings.appended_by and sightings.is_own(record):
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
            if len(each.records) > 1 and each.entries:
                check_batch(sightings, index, each, self._report)
            if each.ordered:
                ordered.setdefault(each.client, []).append(index)
        for calls in ordered.values():
            check_call_order(sightings, calls, self._report)

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
        if not self._options.trims_complete:
            bound = max(bound, self._final.trimmed_below)
        was_given = set(given)
        for place in expected:
            # Whether trimmed just then or later cannot be told: either answer is right.
            excused = place[0] < bound or self._was_lost(place[0], ended)
            if place not in was_given and not excused:
                source = self._sightings.record_at[place][1]
                self._add("scan", f"{place[0]}.{place[1]} is missing", index, source)
                return

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
            if offset >= self._final.scanned_from and not self._sightings.is_lost(offset):
                self._add("lost", f"offset {offset} was lost, then found", source, FINAL)
        for index, operation in enumerate(self._history if lost_at else ()):
            if isinstance(operation, Read | Fill) and operation.offset in lost_at:
                source = lost_at[operation.offset]
                self._check_not_found(operation, index, source)

    def _check_not_found(self, operation: Read | Fill, index: int, source: int) -> None:
        ended = self._history[source].completed
        cached = isinstance(operation, Read) and operation.cached
        later = ended is not None and ended < operation.invoked
        if later and not cached and is_value(operation.seen):
            self._add("lost", f"offset {operation.offset} came back", source, index)

    def check_final(self) -> None:
        """Check fills' answers and that the final log is whole."""
        final = self._final
        for index, operation in enumerate(self._history):
            if isinstance(operation, Fill) and operation.seen is Mark.UNWRITTEN:
                self._add("fill", f"offset {operation.offset} stayed unwritten", index)
        for offset in final.entries:
            if not final.scanned_from <= offset < final.tail:
                self._add("final", f"an entry at {offset} lies outside the log", FINAL)
        if not self._options.holes_closed:
            return
        for offset in range(final.scanned_from, final.tail):
            held = offset in final.entries or offset in final.junk
            if not held and not self._sightings.is_lost(offset):
                self._add("final", f"offset {offset} is a hole", FINAL)

    def _is_gone(self, offset: int) -> bool:
        return offset < self._final.scanned_from or self._is_excused_loss(offset)

    def _is_excused_loss(self, offset: int) -> bool:
        return self._sightings.is_lost(offset) and self._was_lost(offset, math.inf)

    def _was_lost(self, offset: int, time: float) -> bool:
        """Tell whether an offset may have been lost by then; perhaps it is trimmed by now."""
        if any(each.since <= time and each.holds(offset) for each in self._options.lost_chains):
            return True
        return self._options.allow_lost and self._sightings.is_lost(offset)


def _rises(places: list[Place]) -> bool:
    return all(places[i] < places[i + 1] for i in range(len(places) - 1))
