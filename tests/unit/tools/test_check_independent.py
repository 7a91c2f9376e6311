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

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest
from detangle import lin

from corfu.tools.check import (
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
    check,
)
from corfu.tools.made_history import Shares, made_history

JUNK = ("junk",)
SHARES = Shares(append=4, read=3, scan=0.6, follow=0.6, tail=1.5, fill=0.8, trim=0.6)
Held = tuple[tuple[int, tuple[str, ...]], ...]
"""What offsets hold, ascending: records' keys, or JUNK."""

BEYOND = {"call-order", "many-order", "batch"}
"""Rules that the model does not have."""


@dataclass(frozen=True)
class State:
    """The log as the model has it."""

    tail: int = 0
    held: Held = ()
    may: int = 0
    """Below it an offset may read as trimmed."""

    must: int = 0
    """Below it nothing is shown any more."""

    def at(self, offset: int) -> tuple[str, ...] | None:
        return dict(self.held).get(offset)

    def put(self, offset: int, value: tuple[str, ...]) -> State:
        held = {**dict(self.held), offset: value}
        return replace(self, tail=max(self.tail, offset + 1), held=tuple(sorted(held.items())))


Step = tuple[bool, State]


class LogModel(lin.Model):
    """The sequential log. An operation's `arg` is what was asked, `output` what was answered."""

    name = "log"

    def init(self) -> State:
        return State()

    def step(self, state: State, op: lin.Operation) -> Step:
        method = getattr(self, f"_{op.f}")
        stepped: Step = method(state, op.arg, op.output)
        return stepped

    def _entry(self, state: State, arg: tuple[int, tuple[str, ...]], _: object) -> Step:
        """One entry is written: at or above the tail, so all at once."""
        offset, records = arg
        return offset >= state.tail, state.put(offset, records)

    def _join(self, state: State, arg: tuple[int, str], _: object) -> Step:
        """An append was answered with a place in an entry that is written already."""
        offset, record = arg
        held = state.at(offset)
        return held is not None and record in held, state

    def _tail(self, state: State, _: object, tail: int) -> Step:
        return tail >= state.tail, replace(state, tail=max(state.tail, tail))

    def _above(self, state: State, _: object, tail: int) -> Step:
        """A cheap tail shows only that the tail has come so far."""
        return True, replace(state, tail=max(state.tail, tail))

    def _read(self, state: State, arg: tuple[int, int | None], seen: Seen) -> Step:
        offset, index = arg
        if seen is Mark.UNWRITTEN:
            return offset >= state.tail, state
        if seen is Mark.TRIMMED:
            return offset < state.may, replace(state, tail=max(state.tail, offset + 1))
        if offset < state.must:
            return False, state
        held = state.at(offset)
        if seen is Mark.JUNK:
            return held in (None, JUNK), state.put(offset, JUNK)
        if held is None or held == JUNK or seen is Mark.DATA:
            return seen is Mark.DATA and held not in (None, JUNK), state
        assert isinstance(seen, tuple)
        if index is None:
            return held == seen, state
        return index < len(held) and (held[index],) == seen, state

    def _cached(self, state: State, arg: tuple[int, int | None], seen: Seen) -> Step:
        """A read that may show what was trimmed."""
        return self._read(replace(state, must=0), arg, seen)[0], state

    def _skip(self, state: State, arg: tuple[int, int | None], _: object) -> Step:
        """A scan gave nothing here: junk, or trimmed."""
        if arg[0] < state.may:
            return True, replace(state, tail=max(state.tail, arg[0] + 1))
        held = state.at(arg[0])
        if arg[1] is not None and held not in (None, JUNK):
            assert held is not None
            return arg[1] >= len(held), state
        return held in (None, JUNK), state.put(arg[0], JUNK)

    def _trim_begins(self, state: State, mark: int, reached: int | None) -> Step:
        """It gets as far as it was asked to, or to the tail."""
        far = reached is None or reached >= min(mark, state.tail)
        return far, replace(state, may=max(state.may, mark))

    def _trim_ends(self, state: State, _: object, reached: int) -> Step:
        fits = state.must <= reached <= state.may
        return fits, replace(state, must=reached, tail=max(state.tail, reached))

    def _final(self, state: State, final: FinalLog, _: object) -> Step:
        if not state.must <= final.trimmed_below <= state.may or state.tail > final.tail:
            return False, state
        for offset in range(final.trimmed_below, final.tail):
            wanted = final.entries.get(offset, JUNK)
            if state.at(offset) != wanted and not (wanted == JUNK and state.at(offset) is None):
                return False, state
        return not any(o >= final.tail for o in final.entries), state


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
        self._entries: dict[int, tuple[str, ...]] = dict(final.entries)
        for where, record in sorted((place, record) for record, place in self._seen.items()):
            # Trimmed by the end: as far as anybody saw it.
            if where[0] not in final.entries:
                known = self._entries.get(where[0], ())
                self._entries[where[0]] = (*known, *([] if record in known else [record]))
        for each in history:
            self._take(each)
        last = max(self._times.values(), default=0)
        self._add("final", final, None, last + 1, last + 2)

    def _all_times(self) -> list[float]:
        times = {each.invoked for each in self._history}
        times |= {each.completed for each in self._history if each.completed is not None}
        return sorted(times)

    def _sightings(self) -> Iterator[tuple[str, Place]]:
        """Yield where records are, by whoever is believed last: the final log."""
        for each in self._history:
            match each:
                case Append(records=records, places=places):
                    found = zip(records, places, strict=True)
                    yield from ((record, place) for record, place in found if place is not None)
                case Read(offset=offset, index=int(index), seen=(record,)):
                    yield record, (offset, index)
                case Read(offset=offset, seen=tuple(records)):
                    yield from ((record, (offset, i)) for i, record in enumerate(records))
                case Scan(items=items):
                    yield from ((record, where) for where, record in items)
                case _:
                    pass
        for offset, records in self._final.entries.items():
            yield from ((record, (offset, i)) for i, record in enumerate(records))

    def _add(
        self, f: str, arg: object, output: object, call: int, ret: int | None, *, ok: bool = True
    ) -> None:
        status = lin.OK if ok else lin.INFO
        number = len(self.operations)
        self.operations.append(
            lin.Operation(number, number, f, arg, call, 0.0, output, status, ret if ok else None)
        )

    def _take(self, each: Operation) -> None:
        call = self._times[each.invoked]
        ret = None if each.completed is None else self._times[each.completed]
        match each:
            case Append():
                self._take_append(each, call, ret)
            case Read(offset=offset, index=index, seen=seen, cached=cached):
                if seen is not None:
                    shown = cached and seen is not Mark.TRIMMED and seen is not Mark.UNWRITTEN
                    self._add("cached" if shown else "read", (offset, index), seen, call, ret)
            case Fill(offset=offset, seen=seen):
                if seen is not None:
                    self._add("read", (offset, None), seen, call, ret)
            case Scan():
                self._take_scan(each, call, ret)
            case Tail(offset=tail, confirmed=confirmed):
                self._add("tail" if confirmed else "above", None, tail, call, ret)
            case Trim(mark=mark, reached=reached):
                # Without an answer it may have been asked for all the same.
                answered = reached is not None
                self._add("trim_begins", mark, reached, call, ret, ok=answered)
                if answered:
                    self._add("trim_ends", None, reached, call, ret)

    def _take_append(self, each: Append, call: int, ret: int | None) -> None:
        places = [
            self._seen.get(record) if place is None and each.outcome is Outcome.UNKNOWN else place
            for record, place in zip(each.records, each.places, strict=True)
        ]
        if each.outcome is Outcome.NOT_APPENDED:
            # Nothing happens in the model; whoever sees the record contradicts it.
            self.sound = self.sound and not any(record in self._seen for record in each.records)
            return
        where = next((place for place in places if place is not None), None)
        if where is None:
            return
        answered = ret is not None and None not in each.places
        records = self._entries.get(where[0], ())
        if records[: 1] != each.records[: 1]:
            # Not the first of its entry: another call's operation writes the whole entry.
            for record in each.records:
                self._add("join", (where[0], record), None, call, ret, ok=answered)
            return
        self._add("entry", (where[0], records), None, call, ret, ok=answered)

    def _take_scan(self, each: Scan, call: int, ret: int | None) -> None:
        places = [place for place, _ in each.items]
        inside = all(each.start <= place < each.end for place in places)
        self.sound = self.sound and places == sorted(set(places)) and inside
        for where, record in each.items:
            f = "cached" if each.cached else "read"
            self._add(f, where, (record,), call, ret)
        given = {place[0] for place in places}
        end = each.end[0] + (1 if each.end[1] else 0)
        for offset in range(each.start[0], end):
            if offset not in given:
                index = each.start[1] if offset == each.start[0] else None
                self._add("skip", (offset, index), None, call, ret)


def is_linearizable(history: list[Operation], final: FinalLog) -> bool:
    recording = _Recording(history, final)
    return recording.sound and lin.check(recording.operations, LogModel()).ok
