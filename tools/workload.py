"""What clients do to a log under test: every operation they have, recorded as a history.

The simulator runs it in virtual time, the nemesis against real processes.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from corfu.errors import (
    AppendUnknownError,
    CorfuError,
    JunkError,
    LostError,
    NotAppendedError,
    TrimmedError,
    UnavailableError,
    UnwrittenError,
)
from corfu.log import Log
from corfu.types import Offset, Position, Record, State

from .history import (
    Append,
    Fill,
    Mark,
    Operation,
    Outcome,
    Place,
    Read,
    Scan,
    Seen,
    Stamps,
    Tail,
    Trim,
)
from .records import key_of, make_record

MARKS = {State.JUNK: Mark.JUNK, State.TRIMMED: Mark.TRIMMED, State.LOST: Mark.LOST}


FOLLOWED_MAX = 500
"""A follower's records are recorded as scans of at most so many."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadOptions:
    """How much one client does. `*_gap_s` are means of exponential gaps."""

    appenders: int = 2
    """Concurrent appending tasks."""

    append_gap_s: float = 0.02
    read_gap_s: float = 0.05
    append_timeout_s: float = 4.0
    record_bytes_max: int = 300
    large_share: float = 0.01
    large_bytes_max: int = 150_000
    trim_clients: float = 0.4
    """Share of the clients that trim."""

    trim_share: float = 0.2
    """Share of their turns to trim that do."""

    trimmed_share: float = 1.0
    """At most this part of what a client knows of the log is trimmed by it: the rest is there to
    be found, or missed, in the end."""


class Recorder:
    """Takes down operations with strictly increasing stamps."""

    def __init__(self, clock: Callable[[], float], keep: Callable[[Operation], None]) -> None:
        """Make a recorder.

        Args:
            clock: A clock that all clients of the history share. Not one that a loop reads once
                a turn: an operation would seem to have ended before its answer came.
            keep: Takes each operation once it has ended.
        """
        self._clock = clock
        self._stamps = Stamps()
        self.keep = keep

    def now(self) -> float:
        """Return a stamp of this moment."""
        return self._stamps.stamp(self._clock())


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
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Open the log, then do every kind of operation until `end` is called."""
        while True:
            try:
                self._log = await self._open_log()
                break
            except UnavailableError:
                continue
        loop = asyncio.get_running_loop()
        steps = [self._append_on() for _ in range(self._options.appenders)]
        steps += [self._read_on(), self._follow_on()]
        for number, step in enumerate(steps):
            self._tasks.append(loop.create_task(step, name=f"{self._name}.{number}"))
        await self._stopping.wait()
        follower = self._tasks[-1]
        await asyncio.gather(*self._tasks[:-1])
        follower.cancel()
        await asyncio.gather(follower, return_exceptions=True)
        await self._log.close()

    def end(self) -> None:
        """Let every operation that is under way end; then `run` returns."""
        self._stopping.set()

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
            if count == 1:
                positions = [await self._log.append(records[0], timeout=timeout)]
            else:
                positions = list(await self._log.append_many(records, timeout=timeout))
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
            )
        )

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
        top = self._known[-1].offset if self._known else 0
        return Position(Offset(max(0, top + self._rng.randint(-50, 20))), 0)

    async def _read(self) -> None:
        place = self._place()
        invoked = self._recorder.now()
        seen: Seen | None = None
        try:
            record = await self._log.read(place, timeout=5)
            seen = (key_of(record.data),)
        except UnwrittenError:
            # Indexes above 0 are only asked for where a record was appended.
            seen = Mark.UNWRITTEN
        except JunkError:
            seen = Mark.JUNK
        except TrimmedError:
            seen = Mark.TRIMMED
        except LostError:
            seen = Mark.LOST
        except CorfuError:
            seen = None
        self._recorder.keep(
            Read(
                invoked,
                self._recorder.now(),
                self._name,
                place.offset,
                seen,
                place.index,
                # The client keeps entries it has read: an answer may be from before a trim.
                cached=True,
            )
        )

    async def _tail(self) -> None:
        confirmed = self._rng.random() < 0.7
        invoked = self._recorder.now()
        offset: int | None = None
        try:
            offset = await self._log.tail(linearizable=confirmed, timeout=5)
        except CorfuError:
            offset = None
        self._recorder.keep(Tail(invoked, self._recorder.now(), self._name, offset, confirmed))

    async def _scan(self) -> None:
        start = max(0, self._place().offset - self._rng.randint(0, 200))
        end = start + self._rng.randint(1, 300)
        invoked = self._recorder.now()
        items: list[tuple[Place, str]] = []
        begin: Place = (start, 0)
        reached: Place = begin
        try:
            tail = await self._log.tail(timeout=5)
            stop = min(end, tail)
            if start >= stop:
                return
            async for record in self._log.scan(Offset(start), Offset(stop), on_lost="skip"):
                place = (record.position.offset, record.position.index)
                items.append((place, key_of(record.data)))
                reached = (place[0], place[1] + 1)
            reached = max((stop, 0), begin)
        except TrimmedError as error:
            if not items:
                begin = reached = (error.trim_mark, 0)
        except CorfuError:
            pass
        self._recorder.keep(
            Scan(
                invoked,
                self._recorder.now(),
                self._name,
                begin,
                reached,
                tuple(items),
                cached=True,
            )
        )

    async def _fill(self) -> None:
        offset = max(0, self._place().offset - self._rng.randint(0, 5))
        invoked = self._recorder.now()
        seen: Seen | None = None
        try:
            state = await self._log.fill(Offset(offset), timeout=5)
            seen = MARKS.get(state)
            if state is State.DATA:
                records = await self._log.read(offset, timeout=5)
                seen = tuple(key_of(record.data) for record in records)
        except CorfuError:
            seen = None
        self._recorder.keep(Fill(invoked, self._recorder.now(), self._name, offset, seen))

    async def _trim(self) -> None:
        if self._rng.random() < 1 - self._options.trim_share:
            return
        share = self._options.trimmed_share
        mark = int(max(0, self._place().offset - self._rng.randint(0, 100)) * share)
        invoked = self._recorder.now()
        reached: int | None = None
        try:
            reached = await self._log.trim(Offset(mark), timeout=5)
        except CorfuError:
            reached = None
        self._recorder.keep(Trim(invoked, self._recorder.now(), self._name, mark, reached))

    async def _follow_on(self) -> None:
        """Follow until cancelled; begin again behind the trim mark when it is overtaken."""
        start = Offset(0)
        while not self._stopping.is_set():
            followed = Followed(self._recorder, self._name, start)
            try:
                async for record in self._log.follow(start, on_lost="skip"):
                    followed.add(record)
            except TrimmedError as error:
                start = max(error.trim_mark, Offset(start + 1))
            except CorfuError:
                start = Offset(followed.reached[0] + 1) if followed.reached[1] else start
            finally:
                followed.end()


class Followed:
    """What one follow has given, recorded as scans that lie side by side."""

    def __init__(self, recorder: Recorder, client: str, start: Offset) -> None:
        self._recorder = recorder
        self._client = client
        # Of every part: what a later one gives may have been fetched long before.
        self._invoked = recorder.now()
        self._begin: Place = (start, 0)
        self._items: list[tuple[Place, str]] = []
        self.reached = self._begin

    def add(self, record: Record) -> None:
        """Take down one record."""
        place = record.position
        self._items.append(((place.offset, place.index), key_of(record.data)))
        self.reached = (place.offset, place.index + 1)
        if len(self._items) >= FOLLOWED_MAX:
            self.end()

    def end(self) -> None:
        """Record what has come since the last part."""
        self._recorder.keep(
            Scan(
                self._invoked,
                self._recorder.now(),
                self._client,
                self._begin,
                self.reached,
                tuple(self._items),
                cached=True,
            )
        )
        self._begin, self._items = self.reached, []
