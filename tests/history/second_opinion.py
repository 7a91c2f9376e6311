"""The fast checker against an independent one: detangle's search for a linearization.

That one knows nothing of this log but the model below: a tail, what each offset holds, and two
trim marks. It tries orders of the operations (Wing and Gong, with Lowe's memory of what was tried)
until one explains every answer. Both must say the same of each history, sound or mutated.

A trim is no single moment: what lies below its mark may be called trimmed from its call on, and
must be once it has returned. So it is two operations of the model, which may take effect apart. A
scan is one look at each offset between its bounds. What an append without answer wrote is
taken from whoever saw it.

Rules that go beyond one order of all operations are not in the model: that an ordered client's
calls, and one call's records, keep their order; that no cache of one's own shows what one has
trimmed; losses. `test_check_neighbours` has those.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from detangle import lin

from corfu.tools.operations import (
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

JUNK = ("junk",)
Held = tuple[tuple[int, tuple[str, ...]], ...]
"""What offsets hold, ascending: records' keys, or JUNK."""

STEPS_MAX = 300_000
"""A search that takes longer is given up."""

ALL = 1 << 30
"""More records than any entry has."""

UNSEEN = "?"
"""Stands for a record of a trimmed entry that nobody saw."""


@dataclass(frozen=True)
class State:
    """The log as the model has it."""

    tail: int = 0
    held: Held = ()
    may: int = 0
    """Below it an offset may read as trimmed."""

    must: int = 0
    """Below it nothing is shown any more."""

    def at(self, offset: int) -> tuple[str, ...]:
        return dict(self.held).get(offset, ())

    def put(self, offset: int, value: tuple[str, ...]) -> State:
        held = {**dict(self.held), offset: value}
        return replace(self, tail=max(self.tail, offset + 1), held=tuple(sorted(held.items())))


Step = tuple[bool, State]


@dataclass(frozen=True)
class Look:
    """A look at the records of an offset with indices in `[low, high)`."""

    offset: int
    low: int = 0
    high: int = ALL
    cached: bool = False


class LogModel(lin.Model):
    """The sequential log. An operation's `arg` is what was asked, `output` what was answered."""

    name = "log"

    def init(self) -> State:
        return State()

    def step(self, state: State, op: lin.Operation) -> Step:
        stepped: Step = getattr(self, op.f)(state, op.arg, op.output)
        return stepped

    def entry(self, state: State, arg: tuple[int, tuple[str, ...]], _: object) -> Step:
        return arg[0] >= state.tail, state.put(*arg)

    def tail(self, state: State, _: object, tail: int) -> Step:
        return tail >= state.tail, replace(state, tail=max(state.tail, tail))

    def cheap_tail(self, state: State, _: object, tail: int) -> Step:
        """It shows only that the tail has come so far."""
        return True, replace(state, tail=max(state.tail, tail))

    def answer(self, state: State, look: Look, seen: Seen) -> Step:
        """What a read or fill says of one offset."""
        offset, held = look.offset, state.at(look.offset)
        match seen:
            case Mark.UNWRITTEN:
                return offset >= state.tail, state
            case Mark.TRIMMED:
                return offset < state.may, replace(state, tail=max(state.tail, offset + 1))
            case Mark.JUNK:
                shown = look.cached or offset >= state.must
                return shown and held in ((), JUNK), state.put(offset, JUNK)
            case Mark.DATA:
                return offset >= state.must and held not in ((), JUNK), state
            case tuple(records):
                shown = look.cached or offset >= state.must
                return shown and held[look.low : look.high] == records, state
            case _:
                raise AssertionError(seen)

    def filled(self, state: State, look: Look, seen: Seen) -> Step:
        if seen is Mark.UNWRITTEN:
            return False, state
        return self.answer(state, look, seen)

    def scanned(self, state: State, look: Look, given: tuple[str, ...]) -> Step:
        """What a scan gave of one offset; () for junk, and for what was trimmed."""
        held = state.at(look.offset)
        if given and not look.cached and look.offset < state.must:
            return False, state
        if look.offset < state.may:
            trimmed = replace(state, tail=max(state.tail, look.offset + 1))
            return set(given) <= set(held), trimmed
        if held in ((), JUNK):
            return given == (), state.put(look.offset, JUNK)
        return held[look.low : look.high] == given, state

    def trim_begins(self, state: State, mark: int, reached: int | None) -> Step:
        """It gets as far as it was asked to, or to the tail."""
        far = reached is None or reached >= min(mark, state.tail)
        return far, replace(state, may=max(state.may, mark))

    def trim_ends(self, state: State, _: object, reached: int) -> Step:
        fits = state.must <= reached <= state.may
        return fits, replace(state, must=reached, tail=max(state.tail, reached))

    def final(self, state: State, final: FinalLog, _: object) -> Step:
        if not state.must <= final.trimmed_below <= state.may or state.tail > final.tail:
            return False, state
        for offset in range(final.trimmed_below, final.tail):
            wanted = (final.entries[offset],) if offset in final.entries else ((), JUNK)
            if state.at(offset) not in wanted:
                return False, state
        return True, state


class _Recording:
    """A history as the other checker takes it."""

    def __init__(self, history: list[Operation], final: FinalLog) -> None:
        self.operations: list[lin.Operation] = []
        self.sound = True
        """False: what was found needs no search."""

        self._history = history
        self._final = final
        self._times = {time: rank for rank, time in enumerate(self._all_times())}
        self._seen = dict(self._sightings())
        self._entries: dict[int, tuple[str, ...]] = {}
        for record, (offset, index) in self._seen.items():
            known = self._entries.get(offset, ())
            known += (UNSEEN,) * (index + 1 - len(known))
            self._entries[offset] = (*known[:index], record, *known[index + 1 :])
        self._entries |= final.entries
        self._calls: dict[int, list[tuple[int, int | None]]] = {}
        for each in history:
            self._take(each)
        for offset, calls in self._calls.items():
            self._add_entry(offset, calls)
        last = len(self._times)
        self._add("final", final, None, last, last + 1)

    def _all_times(self) -> list[float]:
        times = {each.invoked for each in self._history}
        times |= {each.completed for each in self._history if each.completed is not None}
        return sorted(times)

    def _sightings(self) -> Iterator[tuple[str, Place]]:
        """Yield where records are; the final log comes last, and is believed."""
        for each in self._history:
            match each:
                case Append(records=records, places=places):
                    found = zip(records, places, strict=True)
                    yield from ((record, place) for record, place in found if place is not None)
                case Read(offset=offset, index=int(index), seen=(record,)):
                    yield record, (offset, index)
                case (
                    Read(offset=offset, seen=tuple(records))
                    | Fill(offset=offset, seen=tuple(records))
                ):
                    yield from ((record, (offset, i)) for i, record in enumerate(records))
                case Scan(items=items):
                    yield from ((record, where) for where, record in items)
                case _:
                    pass
        for offset, records in self._final.entries.items():
            yield from ((record, (offset, i)) for i, record in enumerate(records))

    def _add(self, f: str, arg: object, output: object, call: int, ret: int | None) -> None:
        """Add an operation of the model; with no `ret` it may take effect late, or never."""
        status = lin.INFO if ret is None else lin.OK
        number = len(self.operations)
        self.operations.append(
            lin.Operation(number, number, f, arg, call, 0.0, output, status, ret)
        )

    def _take(self, each: Operation) -> None:
        call = self._times[each.invoked]
        ret = None if each.completed is None else self._times[each.completed]
        match each:
            case Append():
                self._take_append(each, call, ret)
            case Read(seen=None) | Fill(seen=None) | Tail(offset=None):
                pass
            case Read(offset=offset, index=index, seen=seen, cached=cached):
                low, high = (0, ALL) if index is None else (index, index + 1)
                self._add("answer", Look(offset, low, high, cached), seen, call, ret)
            case Fill(offset=offset, seen=seen):
                self._add("filled", Look(offset), seen, call, ret)
            case Scan():
                self._take_scan(each, call, ret)
            case Tail(offset=tail, confirmed=confirmed):
                self._add("tail" if confirmed else "cheap_tail", None, tail, call, ret)
            case Trim(mark=mark, reached=None):
                # Without an answer it may have been asked for all the same.
                self._add("trim_begins", mark, None, call, None)
            case Trim(mark=mark, reached=reached):
                self._add("trim_begins", mark, reached, call, ret)
                self._add("trim_ends", None, reached, call, ret)

    def _take_append(self, each: Append, call: int, ret: int | None) -> None:
        if each.outcome is Outcome.NOT_APPENDED:
            # Nothing happens in the model; whoever sees a record of it contradicts it.
            self.sound = self.sound and not any(record in self._seen for record in each.records)
            return
        offsets: set[int] = set()
        for record, told in zip(each.records, each.places, strict=True):
            place = self._seen.get(record) if told is None else told
            if place is not None:
                offsets.add(place[0])
                entry = self._entries.get(place[0], ())
                self.sound = self.sound and entry[place[1] : place[1] + 1] == (record,)
        for offset in offsets:
            answered = ret if None not in each.places else None
            self._calls.setdefault(offset, []).append((call, answered))

    def _add_entry(self, offset: int, calls: list[tuple[int, int | None]]) -> None:
        """Calls that share an entry take effect at one moment, which lies within each of them."""
        begun = max(call for call, _ in calls)
        ended = min((ret for _, ret in calls if ret is not None), default=None)
        if ended is not None and ended < begun:
            self.sound = False
        else:
            self._add("entry", (offset, self._entries.get(offset, ())), None, begun, ended)

    def _take_scan(self, each: Scan, call: int, ret: int | None) -> None:
        places = [place for place, _ in each.items]
        inside = all(each.start <= place < each.end for place in places)
        self.sound = self.sound and places == sorted(set(places)) and inside
        if each.end <= each.start:
            return  # it came nowhere
        for offset in range(each.start[0], each.end[0] + (1 if each.end[1] else 0)):
            given = tuple(record for place, record in each.items if place[0] == offset)
            low = each.start[1] if offset == each.start[0] else 0
            high = each.end[1] if offset == each.end[0] else ALL
            self._add("scanned", Look(offset, low, high, each.cached), given, call, ret)


class GivenUpError(Exception):
    """The search would take too long: no verdict."""


def is_linearizable(history: list[Operation], final: FinalLog) -> bool:
    """Tell whether some order of all operations explains every answer.

    Raises:
        GivenUpError: It was not found in time, nor that there is none.
    """
    recording = _Recording(history, final)
    if not recording.sound:
        return False
    try:
        return lin.check(recording.operations, LogModel(), budget=STEPS_MAX).ok
    except RuntimeError as error:  # what detangle raises when the budget is used up
        raise GivenUpError(str(error)) from error
