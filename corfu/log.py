"""The log as users see it: one API for a cluster's client and for the embedded log.

What is common stands here: checking arguments, cutting calls into entries, turning what offsets
hold into records and errors. What differs, each kind of log provides.
"""

# ruff: noqa: ASYNC109 - a timeout says what became of the call; asyncio.timeout cannot.

from __future__ import annotations

import abc
from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import datetime
from types import TracebackType
from typing import Self, assert_never, overload

from corfu.batch import Batch, Part, records_of
from corfu.client.packing import Submitted, chunks
from corfu.client.values import Value
from corfu.config import ENTRY_BYTES_MAX
from corfu.errors import (
    AppendError,
    JunkError,
    LostError,
    TrimmedError,
    UnwrittenError,
    UsageError,
)
from corfu.places import (
    EARLIEST,
    LATEST,
    Edge,
    OnLost,
    Place,
    begin_of,
    check_start,
    checked_offset,
    checked_record,
    offset_of,
)
from corfu.seeking import seek_time, time_us
from corfu.stats import LogStats
from corfu.types import Offset, Position, Record, State


class Log(abc.ABC):
    """A shared log: append records, read them back in one order, for everybody the same.

    Every method may raise `UsageError` (a bad argument, a closed log, another process after a
    fork) and `UnavailableError` (no answer before `timeout` seconds; None: the default). Made by
    `corfu.connect` or `corfu.local`; leave it with `async with` or `close()`.
    """

    async def append(self, data: bytes, *, timeout: float | None = None) -> Position:
        """Append one record; return its position once it is durable on every unit of its chain.

        Cancelling ends the waiting, not always the append: a record that has not been packed
        into an entry yet is taken out, another one may still be appended.

        Raises:
            NotAppendedError: It is certainly not in the log and never will be.
            AppendUnknownError: It may be in the log: time was over before its fate was known.
        """
        records = (checked_record(data),)
        return (await self._append_entry(records, self._deadline(timeout)))[0]

    async def append_many(
        self, records: list[bytes] | tuple[bytes, ...], *, timeout: float | None = None
    ) -> list[Position]:
        """Append records in order; all or none of them, if they fit one entry (1 MiB).

        More than that go entry by entry, in order: an error then carries in `appended` the
        positions of the records before the entry that failed.

        Raises:
            NotAppendedError: The rest is certainly not in the log.
            AppendUnknownError: The records of one entry may be in the log, later ones are not.
        """
        deadline = self._deadline(timeout)
        # All are checked before the first is packed: a bad one fails the call, nobody else.
        checked = tuple(checked_record(record) for record in records)
        appended: list[Position] = []
        for part in chunks(checked, ENTRY_BYTES_MAX):
            try:
                appended += await self._append_entry(part, deadline)
            except AppendError as error:
                error.appended = tuple(appended)
                raise
        return appended

    def submit(self, data: bytes, *, timeout: float | None = None) -> Submitted:
        """Queue one record to be appended and return at once: the cheapest way to append many.

        Await what is returned, now or later, for the record's position; it raises what `append`
        raises. Log order is the order of the calls, as far as nothing fails. Nothing bounds what
        is queued but `drain`:

            for record in records:
                submitted.append(log.submit(record))
                await log.drain()
        """
        self._check()
        return self._submit(checked_record(data), self._patience(timeout))

    async def drain(self) -> None:
        """Wait while too many bytes of records have no verdict yet (`queue_bytes_max`)."""
        self._check()
        await self._drain()

    @overload
    async def read(self, place: Position, *, timeout: float | None = None) -> Record: ...

    @overload
    async def read(self, place: int, *, timeout: float | None = None) -> tuple[Record, ...]: ...

    async def read(
        self, place: Place, *, timeout: float | None = None
    ) -> Record | tuple[Record, ...]:
        """Return the record at a position, or all records of the entry at an offset.

        Raises:
            UnwrittenError: Nothing is there, by a tail confirmed after the call began; or the
                entry has no such record.
            JunkError: The offset was filled.
            TrimmedError: The offset was trimmed.
            LostError: No sound copy of it is left.
        """
        offset = offset_of(place)
        value = await self._read_value(offset, self._deadline(timeout))
        self._require_data(value)
        if not isinstance(place, Position):
            return records_of(offset, value.records)
        if place.index >= len(value.records):
            raise UnwrittenError(offset, f"its entry has {len(value.records)} records")
        return Record(place, value.records[place.index])

    def scan(
        self,
        start: Place | Edge = EARLIEST,
        end: Place | None = None,
        *,
        on_lost: OnLost = "raise",
        timeout: float | None = None,
    ) -> AsyncGenerator[Record, None]:
        """Iterate over the records in `[start, end)`, in order; junk is stepped over.

        Ends at `end` or at the tail confirmed when the scan began, whichever comes first.

        Args:
            start: Where to begin.
            end: Where to stop; None: at the tail.
            on_lost: "skip" steps over offsets of which no sound copy is left.
            timeout: Seconds that the next records may take each time.

        Raises:
            TrimmedError: A record of the range was trimmed before it was read (what EARLIEST
                never saw does not count).
            LostError: No sound copy of an offset is left, and `on_lost` is "raise".
        """
        return _one_by_one(self.scan_batches(start, end, on_lost=on_lost, timeout=timeout))

    def scan_batches(
        self,
        start: Place | Edge = EARLIEST,
        end: Place | None = None,
        *,
        on_lost: OnLost = "raise",
        timeout: float | None = None,
    ) -> AsyncGenerator[Batch, None]:
        """Like `scan`, in batches of the records that came together: less work for each."""
        self._check()
        check_start(start)
        if end is not None:
            offset_of(end)
        return self._scan(start, end, on_lost, self._patience(timeout))

    def follow(
        self, start: Place | Edge = LATEST, *, on_lost: OnLost = "raise"
    ) -> AsyncGenerator[Record, None]:
        """Iterate over the records from `start` on, in order, waiting for new ones, for ever.

        Ends when it is cancelled, or with UsageError when the log is closed. While the cluster
        cannot be reached it waits. Errors are those of `scan`.
        """
        return _one_by_one(self.follow_batches(start, on_lost=on_lost))

    def follow_batches(
        self, start: Place | Edge = LATEST, *, on_lost: OnLost = "raise"
    ) -> AsyncGenerator[Batch, None]:
        """Like `follow`, in batches of the records that came together."""
        self._check()
        check_start(start)
        return self._follow(start, on_lost)

    async def seek(self, time: float | datetime, *, timeout: float | None = None) -> Offset:
        """Return where the log crosses a time: the first entry there that is not older.

        To be used as `scan(await log.seek(time))`. The tail, if all entries are older. An entry
        carries the clock of the client that appended it, from when its records were packed; so
        this is exact if the clients' clocks agree, and among entries whose times are not in the
        log's order it finds one place where older ones end and others begin. It takes O(log n)
        reads. In a run of more than some thousand offsets without entries (filled or lost), the
        answer may be the run's begin, or before: never behind what is wanted.

        Args:
            time: Seconds since 1970, or a datetime with its time zone.
            timeout: Seconds.
        """
        deadline = self._deadline(timeout)
        wanted_us = time_us(time)
        trim_mark, tail = await self._edges(deadline)

        async def one(offset: Offset) -> Value:
            return await self._read_value(offset, deadline)

        async def several(start: Offset, end: Offset) -> list[Value]:
            found: list[Value] = []
            left = max(deadline - self._now(), 0.001)
            async with aclosing(self._scan_values(start, end, left)) as values:
                while (some := await self._next(values)) is not None:
                    found += some
            return found

        return await seek_time(trim_mark, tail, wanted_us, one=one, several=several)

    @property
    @abc.abstractmethod
    def stats(self) -> LogStats:
        """Counters of what this log has done since it was opened."""

    @abc.abstractmethod
    async def tail(self, *, linearizable: bool = True, timeout: float | None = None) -> Offset:
        """Return the first offset not yet granted: every append that has ended lies below.

        Args:
            linearizable: Confirmed by a majority after the call began. False: perhaps of a
                moment ago.
            timeout: Seconds.
        """

    @abc.abstractmethod
    async def fill(self, offset: int, *, timeout: float | None = None) -> State:
        """Settle an offset below the tail: junk if nothing is written there.

        Returns what it holds from now on: DATA, JUNK, TRIMMED or LOST.

        Raises:
            UsageError: The offset is at or above the confirmed tail.
        """

    @abc.abstractmethod
    async def trim(self, offset: int, *, timeout: float | None = None) -> Offset:
        """Give up every offset below `offset`; return the trim mark that every unit has.

        The mark never goes back and never passes the tail.
        """

    @abc.abstractmethod
    async def close(self, *, timeout: float | None = None) -> None:
        """Bring appends in flight to their end, for up to `timeout` seconds; then close.

        What is not settled then raises AppendUnknownError where it is awaited. Iterators and
        other calls end with UsageError. Closing twice is harmless.
        """

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    # What each kind of log provides.

    @abc.abstractmethod
    def _check(self) -> None:
        """Raise UsageError if the log is closed or belongs to another process."""

    @abc.abstractmethod
    def _patience(self, timeout: float | None) -> float:
        """Return the seconds that `timeout` means."""

    @abc.abstractmethod
    def _now(self) -> float: ...

    @abc.abstractmethod
    def _submit(self, record: bytes, patience_s: float) -> Submitted:
        """Queue a record for an entry."""

    @abc.abstractmethod
    async def _drain(self) -> None:
        """Wait until what is queued and under way is less than it may be."""

    @abc.abstractmethod
    async def _append_entry(
        self, records: tuple[bytes, ...], deadline: float
    ) -> tuple[Position, ...]:
        """Append records that fit one entry, as one entry."""

    @abc.abstractmethod
    async def _read_value(self, offset: Offset, deadline: float) -> Value:
        """Return what an offset holds; raises UnwrittenError at or above the tail."""

    @abc.abstractmethod
    async def _edges(self, deadline: float) -> tuple[Offset, Offset]:
        """Return (trim mark, confirmed tail)."""

    @abc.abstractmethod
    def _scan_values(
        self, start: Offset, end: Offset, timeout_s: float
    ) -> AsyncGenerator[list[Value], None]:
        """Yield what the offsets of `[start, end)`, below the tail, hold, in order."""

    @abc.abstractmethod
    def _follow_values(self, start: Offset) -> AsyncGenerator[list[Value], None]:
        """Yield what the offsets from `start` on hold, in order, for ever."""

    @abc.abstractmethod
    async def _next(self, values: AsyncGenerator[list[Value], None]) -> list[Value] | None:
        """Return the next list, None after the last; UsageError once the log is closed."""

    @property
    @abc.abstractmethod
    def _trim_mark(self) -> Offset: ...

    # Common parts.

    def _deadline(self, timeout: float | None) -> float:
        self._check()
        if timeout is not None and not timeout > 0:
            raise UsageError(f"timeout must be above 0, not {timeout!r}")
        return self._now() + self._patience(timeout)

    async def _scan(
        self, start: Place | Edge, end: Place | None, on_lost: OnLost, timeout_s: float
    ) -> AsyncGenerator[Batch, None]:
        trim_mark, tail = await self._edges(self._now() + timeout_s)
        begin = begin_of(start, trim_mark, tail)
        stop = tail
        if isinstance(end, Position):
            stop = min(tail, Offset(end.offset + (1 if end.index else 0)))
        elif end is not None:
            stop = min(tail, Offset(end))
        if begin >= stop:
            return
        values = self._scan_values(begin, stop, timeout_s)
        async with aclosing(self._batches(values, start, on_lost)) as batches:
            async for batch in batches:
                kept = batch.before(end) if isinstance(end, Position) else batch
                if kept:
                    yield kept

    async def _follow(self, start: Place | Edge, on_lost: OnLost) -> AsyncGenerator[Batch, None]:
        begin = Offset(0)
        if isinstance(start, Edge):
            trim_mark, tail = await self._edges(self._now() + self._patience(None))
            begin = begin_of(start, trim_mark, tail)
        else:
            begin = offset_of(start)
        values = self._follow_values(begin)
        async with aclosing(self._batches(values, start, on_lost)) as batches:
            async for batch in batches:
                yield batch

    async def _batches(
        self, values: AsyncGenerator[list[Value], None], start: Place | Edge, on_lost: OnLost
    ) -> AsyncGenerator[Batch, None]:
        """Turn values into records; never yields an empty batch."""
        first = start if isinstance(start, Position) else None
        # EARLIEST is wherever the log begins, also if that moves before the first record comes.
        may_skip_trimmed = start is EARLIEST
        async with aclosing(values):
            while (found := await self._next(values)) is not None:
                parts: list[Part] = []
                try:
                    for value in found:
                        if value.state is State.DATA:
                            may_skip_trimmed = False
                            if first and first.offset == value.offset:
                                parts.append(_from(first, value))
                            else:
                                parts.append(Part(value.offset, 0, value.records))
                        elif not _stepped_over(value.state, on_lost, may_skip_trimmed):
                            self._require_data(value)
                except (TrimmedError, LostError):
                    # What comes before the bad offset is good, and comes first.
                    if batch := Batch(parts):
                        yield batch
                    raise
                if batch := Batch(parts):
                    yield batch

    def _require_data(self, value: Value) -> None:
        match value.state:
            case State.DATA:
                return
            case State.JUNK:
                raise JunkError(value.offset)
            case State.TRIMMED:
                raise TrimmedError(value.offset, max(self._trim_mark, Offset(value.offset + 1)))
            case State.LOST:
                raise LostError(value.offset)
            case State.EMPTY | State.DAMAGED:
                raise AssertionError(f"{value.state.name} is no value")
            case _:
                assert_never(value.state)


def _from(first: Position, value: Value) -> Part:
    return Part(value.offset, first.index, value.records[first.index :])


def _stepped_over(state: State, on_lost: OnLost, may_skip_trimmed: bool) -> bool:
    match state:
        case State.JUNK:
            return True
        case State.TRIMMED:
            return may_skip_trimmed
        case State.LOST:
            return on_lost == "skip"
        case _:
            return False


async def _one_by_one(
    batches: AsyncGenerator[Batch, None],
) -> AsyncGenerator[Record, None]:
    async with aclosing(batches):
        async for batch in batches:
            for record in batch:
                yield record


__all__ = ["EARLIEST", "LATEST", "Edge", "Log", "OnLost", "Place", "checked_offset"]
