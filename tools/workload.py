"""What clients do to a log under test: every operation they have, recorded as a history.

The simulator runs it in virtual time, the nemesis against real processes.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine

from corfu.client.packing import chunks
from corfu.config import ENTRY_BYTES_MAX
from corfu.errors import (
    AppendUnknownError,
    JunkError,
    LostError,
    NotAppendedError,
    TrimmedError,
    UnavailableError,
    UnwrittenError,
    UsageError,
)
from corfu.log import Log
from corfu.types import Offset, Position, State

from .history import (
    Append,
    Fill,
    Mark,
    Outcome,
    Place,
    Read,
    Scan,
    Seen,
    Tail,
    Trim,
)
from .recording import FOLLOWED_MAX, Followed, Recorder
from .records import key_of, make_record
from .workload_options import WorkloadOptions

__all__ = [
    "FOLLOWED_MAX",
    "Followed",
    "FollowerStalledError",
    "Recorder",
    "Workload",
    "WorkloadOptions",
]

MARKS = {
    State.DATA: Mark.DATA,
    State.JUNK: Mark.JUNK,
    State.TRIMMED: Mark.TRIMMED,
    State.LOST: Mark.LOST,
}


class FollowerStalledError(Exception):
    """A follower did not come to a record that had been acknowledged long before."""


class Workload:
    """One client's tasks: appenders, a reader, a follower."""

    _log: Log

    def __init__(
        self,
        name: str,
        open_log: Callable[[], Awaitable[Log]],
        recorder: Recorder,
        options: WorkloadOptions,
        seed: int,
        *,
        ordered: bool,
    ) -> None:
        self._name = name
        self._open_log = open_log
        self._recorder = recorder
        self._options = options
        self._rng = random.Random(f"workload-{seed}-{name}")  # noqa: S311
        self._ordered = ordered
        self._numbers = 0
        self._known: list[Position] = []
        self._followed: Place = (options.first, 0)
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Open the log, then do every kind of operation until `end` is called."""
        while not self._stopping.is_set():
            try:
                self._log = await self._open_log()
                break
            except UnavailableError:
                continue
        else:
            return
        loop = asyncio.get_running_loop()
        steps = [self._append_on() for _ in range(self._options.appenders)]
        steps += [self._read_on(), self._follow_on()]
        for number, step in enumerate(steps):
            self._tasks.append(loop.create_task(step, name=f"{self._name}.{number}"))
        await self._stopping.wait()
        follower = self._tasks[-1]
        await asyncio.gather(*self._tasks[:-1])
        if self._options.catch_up_s and self._known:
            await self._catch_up(max(self._known))
        follower.cancel()
        await asyncio.wait({follower})
        if not follower.cancelled():
            # It never ends by itself: what ended it is the finding.
            follower.result()
        await self._log.close()

    def end(self) -> None:
        """Let every operation that is under way end; then `run` returns."""
        self._stopping.set()

    async def _catch_up(self, last: Position) -> None:
        """Wait until the follower has given `last`."""
        try:
            async with asyncio.timeout(self._options.catch_up_s):
                while self._followed <= (last.offset, last.index):  # noqa: ASYNC110 - once a run
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise FollowerStalledError(
                f"{self._name}: a follower had not come to {last} "
                f"{self._options.catch_up_s:g} s after the last append"
            ) from None

    async def _append_on(self) -> None:
        while not self._stopping.is_set():
            await asyncio.sleep(self._rng.expovariate(1 / self._options.append_gap_s))
            count = 1 if self._rng.random() < 0.8 else self._rng.randint(1, 6)
            await self._append(count)

    async def _append(self, count: int) -> None:
        rng, options = self._rng, self._options
        keys: list[str] = []
        records: list[bytes] = []
        for _ in range(count):
            self._numbers += 1
            large = rng.random() < options.large_share
            length = rng.randrange(options.large_bytes_max if large else options.record_bytes_max)
            key, data = make_record(self._name, self._numbers, length)
            keys.append(key)
            records.append(data)
        timeout = rng.choice((options.append_timeout_s, rng.uniform(0.05, 1.0), 30.0))
        places: list[Place | None] = [None] * count
        outcome = Outcome.APPENDED
        invoked = self._recorder.now()
        try:
            call = self._call(records, timeout)
            if options.cancel_share and rng.random() < options.cancel_share:
                call = self._cut_short(call, rng.uniform(0, options.cancel_s_max))
            positions = await call
        except NotAppendedError as error:
            positions, outcome = list(error.appended), Outcome.NOT_APPENDED
        except AppendUnknownError as error:
            positions, outcome = list(error.appended), Outcome.UNKNOWN
        for index, position in enumerate(positions):
            places[index] = (position.offset, position.index)
        self._known += positions
        self._recorder.keep(
            Append(
                invoked,
                self._recorder.now(),
                self._name,
                tuple(keys),
                tuple(places),
                outcome,
                # An append_many of several entries ends entry by entry; its order is checked
                # by its own rule, and only calls in sequence are ordered here.
                self._ordered,
                tuple(map(len, chunks(tuple(records), ENTRY_BYTES_MAX))),
            )
        )

    async def _call(self, records: list[bytes], timeout_s: float) -> list[Position]:
        if len(records) == 1:
            return [await self._log.append(records[0], timeout=timeout_s)]
        return await self._log.append_many(records, timeout=timeout_s)

    async def _cut_short(
        self, call: Coroutine[object, object, list[Position]], after_s: float
    ) -> list[Position]:
        """Cancel a call that has not ended by then: nobody knows its fate."""
        task = asyncio.get_running_loop().create_task(call)
        try:
            await asyncio.wait({task}, timeout=after_s)
        finally:
            task.cancel()
        await asyncio.wait({task})
        if task.cancelled():
            raise AppendUnknownError("it was cancelled")
        return task.result()

    async def _read_on(self) -> None:
        choices = [self._read, self._read, self._read, self._tail, self._tail, self._scan]
        choices += [self._fill]
        if self._rng.random() < self._options.trim_clients:
            choices += [self._trim]
        while not self._stopping.is_set():
            await asyncio.sleep(self._rng.expovariate(1 / self._options.read_gap_s))
            await self._rng.choice(choices)()

    def _place(self) -> Position:
        if self._known and self._rng.random() < 0.7:
            return self._rng.choice(self._known)
        first = self._options.first
        top = self._known[-1].offset if self._known else first
        return Position(Offset(max(first, top + self._rng.randint(-50, 20))), 0)

    async def _read(self) -> None:
        await self._read_at(self._place())

    async def _read_at(self, place: Position | Offset) -> None:
        invoked = self._recorder.now()
        seen: Seen | None = None
        try:
            if isinstance(place, Position):
                seen = (key_of((await self._log.read(place, timeout=5)).data),)
            else:
                records = await self._log.read(place, timeout=5)
                seen = tuple(key_of(record.data) for record in records)
        except UnwrittenError:
            # Indexes above 0 are only asked for where a record was appended.
            seen = Mark.UNWRITTEN
        except JunkError:
            seen = Mark.JUNK
        except TrimmedError:
            seen = Mark.TRIMMED
        except LostError:
            seen = Mark.LOST
        except UnavailableError:
            seen = None
        offset, index = (
            (place.offset, place.index) if isinstance(place, Position) else (place, None)
        )
        self._recorder.keep(
            Read(
                invoked,
                self._recorder.now(),
                self._name,
                offset,
                seen,
                index,
                # The client keeps entries it has read: an answer may be from before a trim.
                cached=True,
            )
        )

    async def _tail(self) -> None:
        await self._ask_tail(confirmed=self._rng.random() < 0.7)

    async def _ask_tail(self, *, confirmed: bool) -> Offset | None:
        invoked = self._recorder.now()
        offset: Offset | None = None
        try:
            offset = await self._log.tail(linearizable=confirmed, timeout=5)
        except UnavailableError:
            offset = None
        self._recorder.keep(Tail(invoked, self._recorder.now(), self._name, offset, confirmed))
        return offset

    async def _scan(self) -> None:
        start = max(self._options.first, self._place().offset - self._rng.randint(0, 200))
        end = start + self._rng.randint(1, 300)
        share = self._options.to_tail_share
        to_tail = share > 0 and self._rng.random() < share
        invoked = self._recorder.now()
        items: list[tuple[Place, str]] = []
        begin: Place = (start, 0)
        reached: Place = begin
        tail = await self._ask_tail(confirmed=True)
        stop = start if tail is None else min(end, tail)
        if start >= stop:
            return
        if to_tail:
            # It asks for the tail itself: what it must give was there when that began.
            invoked = self._recorder.now()
        ended = False
        try:
            until = None if to_tail else Offset(stop)
            async for record in self._log.scan(Offset(start), until, on_lost="skip"):
                place = (record.position.offset, record.position.index)
                items.append((place, key_of(record.data)))
                reached = (place[0], place[1] + 1)
            ended = True
            reached = reached if to_tail else max((stop, 0), begin)
        except TrimmedError as error:
            if not items:
                begin = reached = (error.trim_mark, 0)
            self._note_trimmed(error, invoked)
        except UnavailableError:
            pass  # what it gave before is recorded all the same
        self._recorder.keep(
            Scan(
                invoked,
                self._recorder.now(),
                self._name,
                begin,
                reached,
                tuple(items),
                cached=True,
                to_tail=to_tail and ended,
            )
        )

    def _note_trimmed(self, error: TrimmedError, invoked: float) -> None:
        """Record what a scan or follow that ended so has said of the offsets below the mark."""
        ended = self._recorder.now()
        self._recorder.keep(
            Read(invoked, ended, self._name, error.trim_mark - 1, Mark.TRIMMED, cached=True)
        )

    async def _fill(self) -> None:
        offset = self._fillable()
        if offset is None:
            return
        invoked = self._recorder.now()
        seen: Seen | None = None
        try:
            seen = MARKS.get(await self._log.fill(offset, timeout=5), Mark.UNWRITTEN)
        except (UnavailableError, UsageError):
            seen = None  # no answer, or at or above the tail
        self._recorder.keep(Fill(invoked, self._recorder.now(), self._name, offset, seen))
        if seen is Mark.DATA:
            await self._read_at(offset)

    def _fillable(self) -> Offset | None:
        if self._options.fill_own_only:
            return self._rng.choice(self._known).offset if self._known else None
        return Offset(max(self._options.first, self._place().offset - self._rng.randint(0, 5)))

    async def _trim(self) -> None:
        if self._rng.random() < 1 - self._options.trim_share:
            return
        options = self._options
        above = self._place().offset - options.first - self._rng.randint(0, 100)
        mark = options.first + int(max(0, above) * options.trimmed_share)
        invoked = self._recorder.now()
        reached: int | None = None
        try:
            reached = await self._log.trim(Offset(mark), timeout=5)
        except UnavailableError:
            reached = None
        self._recorder.keep(Trim(invoked, self._recorder.now(), self._name, mark, reached))

    async def _follow_on(self) -> None:
        """Follow until cancelled; begin again behind the trim mark when it is overtaken."""
        start = Offset(self._options.first)
        # One that is to catch up goes on until it is cancelled.
        while self._options.catch_up_s or not self._stopping.is_set():
            followed = Followed(self._recorder, self._name, start)
            try:
                async for record in self._log.follow(start, on_lost="skip"):
                    followed.add(record)
                    self._followed = followed.reached
            except TrimmedError as error:
                followed.trimmed(error)
                # What was trimmed before it came there is never given.
                self._followed = max(self._followed, (error.trim_mark, 0))
                start = max(error.trim_mark, Offset(start + 1))
            except UnavailableError:
                start = Offset(followed.reached[0] + 1) if followed.reached[1] else start
            finally:
                followed.end()
