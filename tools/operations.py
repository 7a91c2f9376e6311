"""Each operation of a log, done once and taken down, whatever comes of it."""

from __future__ import annotations

import contextlib
import random
from collections.abc import AsyncGenerator
from dataclasses import dataclass

from corfu.errors import (
    AppendUnknownError,
    CorfuError,
    JunkError,
    LostError,
    NotAppendedError,
    TrimmedError,
    UnwrittenError,
    UsageError,
)
from corfu.log import EARLIEST, LATEST, Edge, Log
from corfu.places import OnLost
from corfu.places import Place as LogPlace
from corfu.types import Offset, Position, Record, State

from .history import Append, Fill, Mark, Outcome, Place, Read, Scan, Seen, Tail, Trim
from .recorder import Followed, Recorder
from .records import key_of, make_record

MARKS = {State.JUNK: Mark.JUNK, State.TRIMMED: Mark.TRIMMED, State.LOST: Mark.LOST}

_TIMEOUT_S = 5.0
_KNOWN_SHARE = 0.7


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

    cancelled_share: float = 0.0
    """Share of the operations that are cancelled while they are under way."""

    visits: bool = False
    """Whether a client opens other logs, too, which it closes with appends in flight."""


class Operations:
    """The operations of one client on one log, each with its answer recorded."""

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
        """Make the operations of a client.

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
            if count == 1:
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
                )
            )

    async def read_record(self) -> None:
        """Read one record. Indexes above 0 are asked for only where a record was appended."""
        place = self._place()
        invoked = self._recorder.now()
        seen: Seen | None = None
        with contextlib.suppress(CorfuError):
            try:
                record = await self.log.read(place, timeout=_TIMEOUT_S)
                seen = (key_of(record.data),)
            except (UnwrittenError, JunkError, TrimmedError, LostError) as error:
                seen = _mark_of(error)
        self._keep_read(invoked, place.offset, seen, place.index)

    async def read_entry(self) -> None:
        """Read all records of an entry."""
        offset = self._place().offset
        invoked = self._recorder.now()
        seen: Seen | None = None
        with contextlib.suppress(CorfuError):
            try:
                seen = tuple(
                    key_of(record.data)
                    for record in await self.log.read(offset, timeout=_TIMEOUT_S)
                )
            except (UnwrittenError, JunkError, TrimmedError, LostError) as error:
                seen = _mark_of(error)
        self._keep_read(invoked, offset, seen, None)

    async def tail(self) -> None:
        """Ask for the tail, confirmed or not."""
        confirmed = self._rng.random() < 0.7
        invoked = self._recorder.now()
        offset: int | None = None
        with contextlib.suppress(CorfuError):
            offset = await self.log.tail(linearizable=confirmed, timeout=_TIMEOUT_S)
        self._recorder.keep(Tail(invoked, self._recorder.now(), self._name, offset, confirmed))

    async def scan(self) -> None:
        """Scan a part of the log below the tail, between offsets or positions."""
        rng = self._rng
        first = max(0, self._place().offset - rng.randint(0, 200))
        last = first + rng.randint(1, 300)
        invoked = self._recorder.now()
        items: list[tuple[Place, str]] = []
        begin: Place = (first, 0)
        reached = begin
        try:
            stop = min(last, await self.log.tail(timeout=_TIMEOUT_S))
            if first >= stop:
                return
            start: Position | Offset = Offset(first)
            end: Position | Offset = Offset(stop)
            claimed: Place = (stop, 0)
            if rng.random() < 0.3:
                start, end = Position(Offset(first), 1), Position(Offset(stop - 1), 1)
                begin, claimed = (first, 1), (stop - 1, 1)
                reached = begin
                if begin >= claimed:
                    return
            on_lost: OnLost = "skip" if rng.random() < 0.7 else "raise"
            async for record in self._scanned(start, end, on_lost):
                place = (record.position.offset, record.position.index)
                items.append((place, key_of(record.data)))
                reached = (place[0], place[1] + 1)
            reached = max(claimed, begin)
        except TrimmedError as error:
            if not items:
                begin = reached = (error.trim_mark, 0)
        except CorfuError:
            pass
        self._keep_scan(invoked, begin, reached, items)

    async def scan_all(self) -> None:
        """Scan from wherever the log begins to its tail."""
        invoked = self._recorder.now()
        items: list[tuple[Place, str]] = []
        with contextlib.suppress(CorfuError):
            async for record in self._scanned(EARLIEST, None, "skip"):
                place = (record.position.offset, record.position.index)
                items.append((place, key_of(record.data)))
        if items:
            (offset, index), _key = items[-1]
            self._keep_scan(invoked, items[0][0], (offset, index + 1), items)

    async def fill(self) -> None:
        """Fill an offset that is written, or should be."""
        offset = max(0, self._place().offset - self._rng.randint(0, 5))
        invoked = self._recorder.now()
        seen: Seen | None = None
        ended = False
        try:
            with contextlib.suppress(CorfuError):
                state = await self.log.fill(Offset(offset), timeout=_TIMEOUT_S)
                seen = MARKS.get(state)
                if state is State.DATA:
                    records = await self.log.read(offset, timeout=_TIMEOUT_S)
                    seen = tuple(key_of(record.data) for record in records)
            ended = True
        finally:
            completed = self._recorder.now() if ended else None
            seen = seen if ended else None
            self._recorder.keep(Fill(invoked, completed, self._name, offset, seen))

    async def trim(self) -> None:
        """Trim, when it is this client's turn to."""
        if self._rng.random() >= self._options.trim_share:
            return
        known = max(0, self._place().offset - self._rng.randint(0, 100))
        mark = int(known * self._options.trimmed_share)
        invoked = self._recorder.now()
        reached: int | None = None
        ended = False
        try:
            with contextlib.suppress(CorfuError):
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
        except TrimmedError as error:
            return max(error.trim_mark, Offset((start or 0) + 1))
        except CorfuError:
            pass
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
        top = self.known[-1].offset if self.known else 0
        return Position(Offset(max(0, top + self._rng.randint(-50, 20))), 0)

    def _keep_read(self, invoked: float, offset: int, seen: Seen | None, index: int | None) -> None:
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

    def _keep_scan(
        self, invoked: float, begin: Place, reached: Place, items: list[tuple[Place, str]]
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


def _mark_of(error: CorfuError) -> Mark:
    match error:
        case JunkError():
            return Mark.JUNK
        case TrimmedError():
            return Mark.TRIMMED
        case LostError():
            return Mark.LOST
        case _:
            return Mark.UNWRITTEN
