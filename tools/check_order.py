"""The rules of time: what an operation shows of the tail, or of the trim mark, binds later ones.

Each rule sorts once and sweeps once: O(n log n).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import assert_never

from .check_options import CheckOptions, LostChain
from .operations import Append, Fill, Mark, Operation, Read, Scan, Seen, Tail, Trim
from .sightings import FINAL, Report, Sightings

Bound = tuple[float, int, int]
"""When an operation began or ended, what it says of the tail or mark, and its index."""


def check_order(sightings: Sightings, report: Report) -> None:
    """Check that what ended operations show of the tail fits all that begin later."""
    ends: list[Bound] = []
    begins: list[Bound] = [(math.inf, sightings.final.tail, FINAL)]
    for index, operation in enumerate(sightings.history):
        low, high = _tail_bounds(operation, sightings)
        if low and operation.completed is not None:
            ends.append((operation.completed, low, index))
        if high is not None:
            begins.append((operation.invoked, high, index))
    for shown, index, low, high in _sweep(ends, begins):
        rule = _order_rule(sightings, shown, index)
        report.add(rule, f"the tail was {low} before, {high} is too low", shown, index)


def _tail_bounds(operation: Operation, sightings: Sightings) -> tuple[int, int | None]:
    """Return the tail's lower bound when it ended and upper bound after it began."""
    match operation:
        case Append(records=(_,), places=((offset, _),)):
            # A value at `offset`, not only the grant: nothing joins an entry that is written.
            return offset + 1, offset
        case Append(places=places):
            known = [place[0] for place in sightings.places(operation)]
            acknowledged = [place[0] for place in places if place is not None]
            low = max(acknowledged) + 1 if acknowledged else 0
            return low, min(known) if known else None
        case Read(offset=offset, seen=seen) | Fill(offset=offset, seen=seen):
            if seen is Mark.UNWRITTEN:
                return 0, offset
            return (0 if seen is None else offset + 1), None
        case Scan(start=start, end=end) if end <= start:
            # One that came nowhere says nothing: a follow may begin above the tail, and wait.
            return 0, None
        case Scan(end=end):
            return (end[0] + 1 if end[1] else end[0]), None
        case Tail(offset=tail, confirmed=confirmed):
            return (0, None) if tail is None else (tail, tail if confirmed else None)
        case Trim(mark=mark, reached=reached):
            if reached is None:
                return 0, None
            # Only the tail keeps a mark from where it was asked to go.
            return reached, reached if reached < mark else None
        case _:
            assert_never(operation)


def _order_rule(sightings: Sightings, shown: int, index: int) -> str:
    before = sightings.history[shown]
    later = None if index == FINAL else sightings.history[index]
    if later is None or isinstance(later, Tail):
        return "tail"
    if isinstance(later, Trim):
        return "trim"
    if not isinstance(later, Append):
        return "unwritten"
    return "tail" if isinstance(before, Tail) else "real-time"


def check_scans_to_tail(
    sightings: Sightings, lost_chains: Sequence[LostChain], report: Report
) -> None:
    """Check that a scan to the tail gave, or came past, all that had been shown before it began.

    What was lost with a chain it steps over, also if that was trimmed later and is not called lost
    in the end.
    """
    begins: list[Bound] = []
    for index, operation in enumerate(sightings.history):
        if isinstance(operation, Scan) and operation.to_tail:
            end = operation.end
            begins.append((operation.invoked, end[0] if end[1] else end[0] - 1, index))
    if not begins:
        return
    ends: list[Bound] = []
    for index, operation in enumerate(sightings.history):
        highest = _highest_record(operation)
        lost = sightings.is_lost(highest) or any(chain.holds(highest) for chain in lost_chains)
        if operation.completed is not None and highest >= 0 and not lost:
            ends.append((operation.completed, highest, index))
    for shown, index, highest, last in _sweep(ends, begins):
        report.add("scan", f"it ended at {last}, {highest} was there before", shown, index)


def _highest_record(operation: Operation) -> int:
    """Return the highest offset at which the operation showed a record; -1 if it showed none."""
    match operation:
        case Append(places=places):
            return max((place[0] for place in places if place is not None), default=-1)
        case Read(offset=offset, seen=seen) | Fill(offset=offset, seen=seen):
            return offset if isinstance(seen, tuple) or seen is Mark.DATA else -1
        case Scan(items=items):
            return items[-1][0][0] if items else -1
        case Tail() | Trim():
            return -1
        case _:
            assert_never(operation)


def check_trims(sightings: Sightings, options: CheckOptions, report: Report) -> None:
    """Check that trimmed values stay away, marks rise, and each trimming was asked for."""
    final = sightings.final
    ends: list[Bound] = []
    # Below its start the final scan has not looked for the mark.
    begins: list[Bound] = [(math.inf, final.scanned_from, FINAL)]
    trimmed: list[tuple[int, float, int]] = []
    trimming: set[str] = set()
    for index, operation in enumerate(sightings.history):
        ended = math.inf if operation.completed is None else operation.completed
        if isinstance(operation, Trim):
            if operation.reached is not None:
                trimming.add(operation.client)
                begins.append((operation.invoked, operation.reached, index))
                ends.append((ended, operation.reached, index))
                trimmed.append((operation.reached - 1, ended, index))
            continue
        if isinstance(operation, Tail | Append):
            continue
        lowest = _lowest_value(operation)
        if lowest is not None and not _is_cached(operation):
            begins.append((operation.invoked, lowest, index))
        if isinstance(operation, Read | Fill) and operation.seen is Mark.TRIMMED:
            trimmed.append((operation.offset, ended, index))
    for trim, index, mark, offset in _sweep(ends, begins):
        report.add("trim", f"{offset} after the mark {mark} was reached", trim, index)
    _check_own_trims(sightings, trimming, report)
    if not options.trims_complete:
        return
    trimmed.append((final.trimmed_below - 1, math.inf, FINAL))
    for offset, ended, index in trimmed:
        if offset >= sightings.trim_bound(ended):
            report.add("untrimmed", f"no trim had asked for {offset}", index)


def _check_own_trims(sightings: Sightings, trimming: set[str], report: Report) -> None:
    """Check that nobody's own cache shows what a trim of its own has taken away."""
    ends: dict[str, list[Bound]] = {client: [] for client in trimming}
    begins: dict[str, list[Bound]] = {client: [] for client in trimming}
    for index, operation in enumerate(sightings.history if trimming else ()):
        client = operation.client
        if client not in trimming:
            continue
        if isinstance(operation, Trim):
            if operation.reached is not None and operation.completed is not None:
                ends[client].append((operation.completed, operation.reached, index))
        elif _is_cached(operation):
            lowest = _lowest_value(operation)
            if lowest is not None:
                begins[client].append((operation.invoked, lowest, index))
    for client in sorted(trimming):
        for trim, index, mark, offset in _sweep(ends[client], begins[client]):
            report.add("trim", f"{offset} after its own mark {mark} was reached", trim, index)


def _is_cached(operation: Operation) -> bool:
    return isinstance(operation, Read | Scan) and operation.cached


def _lowest_value(operation: Operation) -> int | None:
    """Return the lowest offset of which the operation showed a value."""
    match operation:
        case Read(offset=offset, seen=seen) | Fill(offset=offset, seen=seen):
            return offset if is_value(seen) else None
        case Scan(items=items) if items:
            return min(place[0] for place, _ in items)
        case Append() | Scan() | Tail() | Trim():
            return None
        case _:
            assert_never(operation)


def is_value(seen: Seen | None) -> bool:
    """Tell whether an answer says that an offset holds something, and still does."""
    return isinstance(seen, tuple) or seen is Mark.JUNK or seen is Mark.DATA


def check_call_order(sightings: Sightings, calls: list[int], report: Report) -> None:
    """Check that an ordered client's records lie in the order of its calls."""
    history = sightings.history
    last = (-1, 0)
    last_index = FINAL
    # The sort is stable: calls of one instant keep the order in which they were recorded.
    for index in sorted(calls, key=lambda each: history[each].invoked):
        operation = history[index]
        assert isinstance(operation, Append)
        places = sightings.places(operation)
        if places and min(places) <= last:
            report.add("call-order", "a later call lies before it", last_index, index)
        if places and max(places) > last:
            last, last_index = max(places), index


def check_batch(sightings: Sightings, index: int, call: Append, report: Report) -> None:
    """Check that the records of each entry of one call are in the log together, or none is."""
    at = 0
    failed = False
    for count in call.entries:
        places = [sightings.place(call, number) for number in range(at, at + count)]
        first = next((place for place in places if place is not None), None)
        if failed and first is not None:
            report.add("batch", "an entry is there that follows one that failed", index)
            return
        # The call ended with the first entry that got no position.
        failed = failed or None in call.places[at : at + count]
        at += count
        if first is None:
            continue
        began = first[1] - places.index(first)
        # Only the final scan shows an entry whole: of a trimmed one, a part may be known.
        whole = first[0] in sightings.final.entries
        for number, place in enumerate(places):
            if place != (first[0], began + number) and (whole or place is not None):
                report.add("batch", "a part of one entry is not there, or elsewhere", index)
                return


def _sweep(ends: list[Bound], begins: list[Bound]) -> list[tuple[int, int, int, int]]:
    """Find each begin whose number is below the highest of all that ended before it.

    Returns:
        (index of the ended one, index of the begun one, ended's number, begun's number) each.
    """
    ends.sort()
    begins.sort()
    found: list[tuple[int, int, int, int]] = []
    highest, shown, place = -1, FINAL, 0
    count = len(ends)
    for begun, number, index in begins:
        while place < count and ends[place][0] < begun:
            if ends[place][1] > highest:
                _, highest, shown = ends[place]
            place += 1
        if number < highest:
            found.append((shown, index, highest, number))
    return found
