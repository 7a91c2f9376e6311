"""Each operation of a log, done once and taken down, whatever comes of it."""

from __future__ import annotations

import contextlib
import random
from collections.abc import AsyncGenerator

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
from corfu.log import EARLIEST, LATEST, Edge, Log
from corfu.places import OnLost
from corfu.places import Place as LogPlace
from corfu.types import Offset, Position, Record, State

from .operations import Append, Fill, Mark, Outcome, Place, Read, Scan, Seen, Tail, Trim
from .recording import Followed, Recorder
from .records import key_of, make_record
from .workload_options import WorkloadOptions

MARKS = {
    State.DATA: Mark.DATA,
    State.JUNK: Mark.JUNK,
    State.TRIMMED: Mark.TRIMMED,
    State.LOST: Mark.LOST,
}

_TIMEOUT_S = 5.0
_KNOWN_SHARE = 0.7


class RecordedLog:
    """The operations of one client on one log, each with its answer recorded.

    Attributes:
        followed: How far the follower has come.
    """

    def __init__(
        self,
        name: str,
        log: Log,
        recorder: Recorder,
        options: WorkloadOptions,
        rng: random.Random,
        known: list[Position],
        *,
        ordered: bool,
    ) -> None:
        """Make what a client works with.

        Args:
            name: Of the client; no other has it.
            log: What it works on.
            recorder: Takes each operation down.
            options: What it is like.
            rng: Draws places, sizes and timeouts.
            known: Positions of records that are there, or were; appends add theirs.
            ordered: Whether the log promises log order = call order.
        """
        self.log = log
        self.known = known
        self._name = name
        self._recorder = recorder
        self._options = options
        self._rng = rng
        self._ordered = ordered
        self._numbers = 0
        self.followed: Place = (options.first, 0)

    async def append(self, count: int) -> None:
        """Append so many records in one call."""
        keys, records = zip(*(self._new_record() for _ in range(count)), strict=True)
        patience = (self._options.append_timeout_s, self._rng.uniform(0.05, 1.0), 30.0)
        timeout = self._rng.choice(patience)
        places: list[Place | None] = [None] * count
        positions: list[Position] = []
        outcome = Outcome.APPENDED
        # Cancelled, or not ended for another reason, it may still be appended, and later.
        ended = False
        invoked = self._recorder.now()
        try:
            if count == 1 and self._numbers % 3 == 0:
                await self.log.drain()
                positions = [await self.log.submit(records[0], timeout=timeout)]
            elif count == 1:
                positions = [await self.log.append(records[0], timeout=timeout)]
            else:
                positions = list(await self.log.append_many(records, timeout=timeout))
            ended = True
        except NotAppendedError as error:
            positions, outcome, ended = list(error.appended), Outcome.NOT_APPENDED, True
        except AppendUnknownError as error:
            positions, outcome, ended = list(error.appended), Outcome.UNKNOWN, True
        except UsageError:
            # The log is closed. Of several entries the first may be in it.
            outcome, ended = Outcome.UNKNOWN if count > 1 else Outcome.NOT_APPENDED, True
        finally:
            for index, position in enumerate(positions):
                places[index] = (position.offset, position.index)
            self.known += positions
            self._recorder.keep(
                Append(
                    invoked,
                    self._recorder.now() if ended else None,
                    self._name,
                    keys,
                    tuple(places),
                    outcome if ended else Outcome.UNKNOWN,
                    # An append_many of several entries ends entry by entry; its order is checked
                    # by its own rule, and only calls in sequence are ordered here.
                    self._ordered,
                    tuple(map(len, chunks(records, ENTRY_BYTES_MAX))),
                )
            )

    async def read_record(self) -> None:
        """Read one record. Indexes above 0 are asked for only where a record was appended."""
        await self._read(self._place())

    async def read_entry(self) -> None:
        """Read all records of an entry."""
        await self._read(self._place().offset)

    async def _read(self, place: Position | Offset) -> None:
        invoked = self._recorder.now()
        seen: Seen | None = None
        try:
            if isinstance(place, Position):
                seen = (key_of((await self.log.read(place, timeout=_TIMEOUT_S)).data),)
            else:
                records = await self.log.read(place, timeout=_TIMEOUT_S)
                seen = tuple(key_of(record.data) for record in records)
        except UnwrittenError:
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
        # The client keeps entries it has read: an answer may be from before a trim.
        self._recorder.keep(
            Read(invoked, self._recorder.now(), self._name, offset, seen, index, cached=True)
        )

    async def seek(self) -> None:
        """Look for a time, and read the entry where that leads to.

        A seek is composed of reads, and of what clocks say, which no rule promises anything about.
        So nothing of its own is recorded: what it may have done wrong to the log (a hole filled
        too early, a value kept too long) shows in what is read there, and in all other answers.
        """
        time = self._recorder.now() * self._rng.random()
        with contextlib.suppress(UnavailableError):
            offset = await self.log.seek(time, timeout=_TIMEOUT_S)
            if offset >= self._options.first:
                await self._read(offset)

    async def tail(self) -> None:
        """Ask for the tail, confirmed or not."""
        await self._ask_tail(confirmed=self._rng.random() < 0.7)

    async def _ask_tail(self, *, confirmed: bool) -> Offset | None:
        invoked = self._recorder.now()
        offset: Offset | None = None
        with contextlib.suppress(UnavailableError):
            offset = await self.log.tail(linearizable=confirmed, timeout=_TIMEOUT_S)
        self._recorder.keep(Tail(invoked, self._recorder.now(), self._name, offset, confirmed))
        return offset

    async def scan(self) -> None:
        """Scan a part of the log below the tail, between offsets or positions."""
        rng = self._rng
        first = max(self._options.first, self._place().offset - rng.randint(0, 200))
        last = first + rng.randint(1, 300)
        invoked = self._recorder.now()
        tail = await self._ask_tail(confirmed=True)
        if tail is None or first >= tail:
            return
        stop = min(last, tail)
        start: Position | Offset = Offset(first)
        end: Position | Offset = Offset(stop)
        begin: Place = (first, 0)
        claimed: Place = (stop, 0)
        to_tail = rng.random() < self._options.to_tail_share
        if to_tail:
            # It asks for the tail itself: what it must give was there when that began.
            invoked = self._recorder.now()
        elif stop - first > 1 and rng.random() < 0.3:
            start, end = Position(Offset(first), 1), Position(Offset(stop - 1), 1)
            begin, claimed = (first, 1), (stop - 1, 1)
        items: list[tuple[Place, str]] = []
        reached = begin
        on_lost: OnLost = "skip" if rng.random() < 0.7 else "raise"
        ended = False
        try:
            async for record in self._scanned(start, None if to_tail else end, on_lost):
                place = (record.position.offset, record.position.index)
                items.append((place, key_of(record.data)))
                reached = (place[0], place[1] + 1)
            ended = True
            reached = reached if to_tail else claimed
        except TrimmedError as error:
            if not items:
                begin = reached = (error.trim_mark, 0)
            self._note_trimmed(error, invoked)
        except (UnavailableError, LostError):
            pass  # what it gave before is recorded all the same
        self._keep_scan(invoked, begin, reached, items, to_tail=to_tail and ended)

    def _note_trimmed(self, error: TrimmedError, invoked: float) -> None:
        """Record what a scan that ended so has said of the offsets below the mark."""
        ended = self._recorder.now()
        self._recorder.keep(
            Read(invoked, ended, self._name, error.trim_mark - 1, Mark.TRIMMED, cached=True)
        )

    async def scan_all(self) -> None:
        """Scan from wherever the log begins to its tail."""
        invoked = self._recorder.now()
        items: list[tuple[Place, str]] = []
        ended = False
        try:
            async for record in self._scanned(EARLIEST, None, "skip"):
                place = (record.position.offset, record.position.index)
                items.append((place, key_of(record.data)))
            ended = True
        except TrimmedError as error:
            self._note_trimmed(error, invoked)
        except UnavailableError:
            pass  # what it gave before is recorded all the same
        if items:
            (offset, index), _key = items[-1]
            self._keep_scan(invoked, items[0][0], (offset, index + 1), items, to_tail=ended)

    async def fill(self) -> None:
        """Fill an offset that is written, or should be."""
        offset = self._fillable()
        if offset is None:
            return
        invoked = self._recorder.now()
        seen: Seen | None = None
        ended = False
        try:
            # UsageError: it is at or above the tail.
            with contextlib.suppress(UnavailableError, UsageError):
                seen = MARKS.get(await self.log.fill(offset, timeout=_TIMEOUT_S), Mark.UNWRITTEN)
            ended = True
        finally:
            completed = self._recorder.now() if ended else None
            self._recorder.keep(Fill(invoked, completed, self._name, offset, seen))
        if seen is Mark.DATA:
            await self._read(offset)

    def _fillable(self) -> Offset | None:
        if self._options.fill_own_only:
            return self._rng.choice(self.known).offset if self.known else None
        return Offset(max(self._options.first, self._place().offset - self._rng.randint(0, 5)))

    async def trim(self) -> None:
        """Trim, when it is this client's turn to."""
        options = self._options
        if self._rng.random() >= options.trim_share:
            return
        above = self._place().offset - options.first - self._rng.randint(0, 100)
        mark = options.first + int(max(0, above) * options.trimmed_share)
        invoked = self._recorder.now()
        reached: int | None = None
        ended = False
        try:
            with contextlib.suppress(UnavailableError):
                reached = await self.log.trim(Offset(mark), timeout=_TIMEOUT_S)
            ended = True
        finally:
            completed = self._recorder.now() if ended else None
            self._recorder.keep(Trim(invoked, completed, self._name, mark, reached))

    async def follow(self, start: Offset | None) -> Offset | None:
        """Follow from an offset, None: from the tail on, until that ends; return where to go on."""
        # What a follow from the tail on gives first is where it began.
        followed = None if start is None else Followed(self._recorder, self._name, start)
        invoked = self._recorder.now()
        try:
            async for record in self._followed(LATEST if start is None else start):
                if followed is None:
                    begin = record.position.offset
                    followed = Followed(self._recorder, self._name, begin, invoked)
                followed.add(record)
                self.followed = max(self.followed, followed.reached)
        except TrimmedError as error:
            if followed is not None:
                followed.trimmed(error)
            # What was trimmed before it came there is never given.
            self.followed = max(self.followed, (error.trim_mark, 0))
            return max(error.trim_mark, Offset((start or 0) + 1))
        except UnavailableError:
            pass  # it goes on where that one has come to
        finally:
            if followed is not None:
                followed.end()
        if followed is None or not followed.reached[1]:
            return start
        return Offset(followed.reached[0] + 1)

    def _new_record(self) -> tuple[str, bytes]:
        rng, options = self._rng, self._options
        self._numbers += 1
        large = rng.random() < options.large_share
        length = rng.randrange(options.large_bytes_max if large else options.record_bytes_max)
        return make_record(self._name, self._numbers, length)

    def _place(self) -> Position:
        if self.known and self._rng.random() < _KNOWN_SHARE:
            return self._rng.choice(self.known)
        first = self._options.first
        top = self.known[-1].offset if self.known else first
        return Position(Offset(max(first, top + self._rng.randint(-50, 20))), 0)

    def _keep_scan(
        self,
        invoked: float,
        begin: Place,
        reached: Place,
        items: list[tuple[Place, str]],
        *,
        to_tail: bool,
    ) -> None:
        self._recorder.keep(
            Scan(
                invoked,
                self._recorder.now(),
                self._name,
                begin,
                reached,
                tuple(items),
                cached=True,
                to_tail=to_tail,
            )
        )

    async def _scanned(
        self, start: LogPlace | Edge, end: LogPlace | None, on_lost: OnLost
    ) -> AsyncGenerator[Record, None]:
        """Scan, by records or by batches of them."""
        if self._rng.random() < 0.5:
            async with contextlib.aclosing(
                self.log.scan(start, end, on_lost=on_lost, timeout=_TIMEOUT_S)
            ) as records:
                async for record in records:
                    yield record
            return
        async with contextlib.aclosing(
            self.log.scan_batches(start, end, on_lost=on_lost, timeout=_TIMEOUT_S)
        ) as batches:
            async for batch in batches:
                for record in batch:
                    yield record

    async def _followed(self, start: LogPlace | Edge) -> AsyncGenerator[Record, None]:
        """Follow, by records or by batches of them."""
        if self._rng.random() < 0.5:
            async with contextlib.aclosing(self.log.follow(start, on_lost="skip")) as records:
                async for record in records:
                    yield record
            return
        async with contextlib.aclosing(self.log.follow_batches(start, on_lost="skip")) as batches:
            async for batch in batches:
                for record in batch:
                    yield record
