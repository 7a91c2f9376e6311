"""The embedded log as users hold it."""

# ruff: noqa: ASYNC109 - a timeout says what became of the call; asyncio.timeout cannot.

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing

from corfu.client.packing import Call, Queue, Submitted
from corfu.client.values import Value, data_value
from corfu.compression import Compression, EntryCodec
from corfu.embedded.store import LocalStore
from corfu.entry import ENTRY_HEAD_BYTES
from corfu.errors import (
    AppendUnknownError,
    ConflictError,
    NotAppendedError,
    UnavailableError,
    UnwrittenError,
    UsageError,
    WireError,
)
from corfu.journal.format import DamagedRecordError, JournalFullError
from corfu.log import Log, checked_offset
from corfu.ports import DiskWorker
from corfu.runtime.committer import Committer
from corfu.stats import LogStats
from corfu.types import Offset, Position, State

_TIMEOUT_S = 30.0
_CLOSE_S = 5.0
_ENTRIES_PER_COMMIT = 16
_ENTRY_BYTES_TARGET = 256 << 10
_QUEUE_BYTES_MAX = 16 << 20
_READ_BYTES = 1 << 20
_RECENT_BYTES = 8 << 20
_FULL_RETRY_S = 1.0


class LocalLog(Log):
    """A log in one folder, for one process. An append returns when its fsync has."""

    def __init__(
        self,
        store: LocalStore,
        worker: DiskWorker,
        *,
        loop: asyncio.AbstractEventLoop,
        pid: Callable[[], int],
        wall_us: Callable[[], int],
        on_close: Callable[[], None],
        codec: EntryCodec | None = None,
    ) -> None:
        """Serve a store; made by `corfu.local`.

        Args:
            store: What the folder holds; only this log uses it.
            worker: Carries out its disk operations; a failed one is told to `broke`.
            loop: Where everything runs.
            pid: The id of the process that runs this.
            wall_us: Microseconds since 1970.
            on_close: Called when all is done: frees the folder.
            codec: Packs and unpacks entries; None: without compressing.
        """
        self._codec = codec or EntryCodec(Compression())
        self._store = store
        self._worker = worker
        self._loop = loop
        self._pid = pid
        self._own_pid = pid()
        self._wall_us = wall_us
        self._on_close = on_close
        self._queue = Queue()
        self._batch: list[tuple[Offset, int, list[Call]]] = []
        self._hits = self._misses = 0
        self._trims: list[tuple[Offset, asyncio.Future[None]]] = []
        self._trims_in_commit: list[tuple[Offset, asyncio.Future[None]]] = []
        self._durable = store.next
        self._mark = store.trim_mark
        self._grown: asyncio.Future[None] = loop.create_future()
        self._recent: OrderedDict[Offset, Value] = OrderedDict()
        self._recent_bytes = 0
        self._turn_handle: asyncio.Handle | None = None
        self._retry: asyncio.TimerHandle | None = None
        self._failure: OSError | None = None
        self._closing = self._closed = False
        self._committer = Committer(
            store.journal,
            worker,
            loop,
            release=lambda _: None,
            flush=self._turn,
            guarded=self._guarded,
        )
        self._schedule()

    def broke(self, error: OSError) -> None:
        """A write or sync failed: what the disk holds is unknown, so nothing goes on."""
        self._failure = error
        self._committer.stop()
        for *_, calls in self._batch:
            for call in calls:
                call.fail(AppendUnknownError(f"the disk failed: {error}"))
        self._queue.fail_all(lambda: NotAppendedError(f"the disk failed: {error}"))
        for _, future in [*self._trims, *self._trims_in_commit]:
            if not future.done():
                future.set_exception(UnavailableError(f"the disk failed: {error}", "unknown"))
        self._wake_followers()

    async def close(self, *, timeout: float | None = None) -> None:
        """See `Log`."""
        if self._closed:
            return
        if self._pid() != self._own_pid:
            self._closed = True
            return
        self._closing = True
        self._wake_followers()
        if self._failure is None:
            self._committer.finish()
            self._turn()
            until = self._loop.time() + (_CLOSE_S if timeout is None else timeout)
            while not self._committer.finished and self._failure is None:
                left = until - self._loop.time()
                if left <= 0:
                    break
                await asyncio.wait({self._grown}, timeout=min(left, 0.05))
        self._closed = True
        self._committer.stop()
        if self._retry is not None:
            self._retry.cancel()
        self._end_calls()
        self._wake_followers()
        self._on_close()

    async def tail(self, *, linearizable: bool = True, timeout: float | None = None) -> Offset:
        """See `Log`."""
        self._deadline(timeout)
        return self._durable

    async def fill(self, offset: int, *, timeout: float | None = None) -> State:
        """See `Log`. Nothing is ever left unwritten here, so nothing is filled."""
        deadline = self._deadline(timeout)
        place = checked_offset(offset)
        if place >= self._durable:
            raise UsageError(f"offset {place} is not below the tail, {self._durable}: not filled")
        return (await self._read_value(place, deadline)).state

    async def trim(self, offset: int, *, timeout: float | None = None) -> Offset:
        """See `Log`. Journal files that hold nothing above the mark are freed."""
        deadline = self._deadline(timeout)
        mark = min(checked_offset(offset), self._durable)
        if mark <= self._mark:
            return self._mark
        future: asyncio.Future[None] = self._loop.create_future()
        self._trims.append((mark, future))
        self._schedule()
        try:
            async with asyncio.timeout(deadline - self._now()):
                await future
        except TimeoutError:
            raise UnavailableError("trim: the disk did not answer in time", "unknown") from None
        return self._mark

    @property
    def stats(self) -> LogStats:
        """See `Log`."""
        return LogStats(
            cache_hits=self._hits, cache_misses=self._misses, cache_bytes=self._recent_bytes
        )

    # What `Log` asks for.

    def _check(self) -> None:
        if self._pid() != self._own_pid:
            raise UsageError("this log was opened before a fork: open one in each process")
        if self._closing:
            raise UsageError("the log is closed")
        if self._failure is not None:
            raise UnavailableError(f"the disk failed: {self._failure}; open the log again")

    def _patience(self, timeout: float | None) -> float:
        return _TIMEOUT_S if timeout is None else timeout

    def _now(self) -> float:
        return self._loop.time()

    @property
    def _trim_mark(self) -> Offset:
        return self._mark

    async def _append_entry(
        self, records: tuple[bytes, ...], deadline: float
    ) -> tuple[Position, ...]:
        # Cancelled while it is still queued, the call is dropped from the queue.
        return await self._enqueue(records, deadline).positions()

    def _submit(self, record: bytes, patience_s: float) -> Submitted:
        deadline = self._now() + patience_s
        return self._queue.submit(record, deadline, _ENTRY_BYTES_TARGET, self._begin_collecting)

    def _begin_collecting(self, deadline: float) -> Call:
        return self._enqueue((), deadline, collecting=True)

    async def _drain(self) -> None:
        while self._failure is None and self._queue.packed >= _QUEUE_BYTES_MAX:
            await asyncio.shield(self._grown)

    def _enqueue(
        self, records: Sequence[bytes], deadline: float, *, collecting: bool = False
    ) -> Call:
        call = Call(records, deadline, self._loop.create_future(), collecting=collecting)
        expiry = self._loop.call_at(deadline, self._expire, call)
        call.future.add_done_callback(lambda _: expiry.cancel())
        self._queue.put(call)
        self._schedule()
        return call

    def _expire(self, call: Call) -> None:
        if any(call in calls for *_, calls in self._batch):
            call.fail(AppendUnknownError("the disk did not answer in time"))
        else:
            call.fail(NotAppendedError("not written in time: the disk is slow or full"))

    async def _read_value(self, offset: Offset, deadline: float) -> Value:
        if offset < self._mark:
            return Value(offset, State.TRIMMED)
        if offset >= self._durable:
            raise UnwrittenError(offset)
        try:
            async with asyncio.timeout(deadline - self._now()):
                return (await self._load([offset]))[0]
        except TimeoutError:
            raise UnavailableError("read: the disk did not answer in time") from None

    async def _edges(self, deadline: float) -> tuple[Offset, Offset]:
        return self._mark, self._durable

    async def _scan_values(
        self, start: Offset, end: Offset, timeout_s: float
    ) -> AsyncGenerator[list[Value], None]:
        at = start
        while at < end:
            if at < self._mark:
                # Perhaps trimmed while it was scanned: whoever reads on has fallen behind.
                yield [Value(at, State.TRIMMED)]
                at = self._mark
                continue
            run = next(self._store.runs(at, end, _READ_BYTES))
            try:
                async with asyncio.timeout(timeout_s):
                    values = await self._load(run)
            except TimeoutError:
                raise UnavailableError("read: the disk did not answer in time") from None
            at = Offset(run[-1] + 1)
            yield values

    async def _follow_values(self, start: Offset) -> AsyncGenerator[list[Value], None]:
        at = start
        while True:
            while at >= self._durable:
                await asyncio.shield(self._grown)
                self._check()
            async with aclosing(self._scan_values(at, self._durable, _TIMEOUT_S)) as scan:
                async for values in scan:
                    at = Offset(values[-1].offset + 1)
                    yield values

    async def _next(self, values: AsyncGenerator[list[Value], None]) -> list[Value] | None:
        self._check()
        return await anext(values, None)

    # Committing. Entries are appended to the journal only when no commit is on its way, so when
    # the journal is neither committing nor dirty all of the batch is durable.

    def _schedule(self) -> None:
        if self._turn_handle is None:
            # One turn later: what is appended in this turn goes together.
            self._turn_handle = self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        if self._turn_handle is not None:
            self._turn_handle.cancel()
            self._turn_handle = None
        if self._failure is not None or self._closed:
            return
        journal = self._store.journal
        if not journal.committing and not journal.dirty:
            self._finish_batch()
            self._next_batch()
        self._committer.work()
        if self._closing and self._committer.finished:
            self._wake_followers()

    def _finish_batch(self) -> None:
        self._store.committed()
        batch, self._batch = self._batch, []
        for offset, timestamp_us, calls in batch:
            self._durable = Offset(offset + 1)
            records = tuple(record for call in calls for record in call.records)
            size = sum(map(len, records)) + 64
            self._remember(Value(offset, State.DATA, records, size, timestamp_us))
            index = 0
            for call in calls:
                if not call.future.done():
                    call.future.set_result(Position(offset, index))
                index += len(call.records)
        trims, self._trims_in_commit = self._trims_in_commit, []
        if trims:
            # Durable first, freed afterwards: a file freed for a mark that is forgotten would
            # turn TRIMMED into LOST.
            self._mark = self._store.trim_mark
            self._store.free()
            for _, future in trims:
                if not future.done():
                    future.set_result(None)
        if batch or trims:
            self._wake_followers()

    def _next_batch(self) -> None:
        trims, self._trims = self._trims, []
        try:
            if trims:
                self._store.trim(max(mark for mark, _ in trims))
                self._trims_in_commit = trims
            elif self._store.reserve_wanted and self._queue:
                self._store.note_state()
        except JournalFullError as error:
            for _, future in trims:
                if not future.done():
                    future.set_exception(UnavailableError(f"trim: {error}"))
            self._retry_later()
            return
        self._freeze_entries()

    def _freeze_entries(self) -> None:
        for _ in range(_ENTRIES_PER_COMMIT):
            first = self._queue.first_packed()
            room = self._store.entry_room()
            if first is None or ENTRY_HEAD_BYTES + first > room:
                break
            calls = self._queue.take(min(_ENTRY_BYTES_TARGET, room))
            timestamp_us = self._wall_us()
            records = [record for call in calls for record in call.records]
            offset = self._store.append(self._codec.encode(records, timestamp_us))
            self._batch.append((offset, timestamp_us, calls))
        if self._queue and not self._batch:
            # No room: a spare journal file is being made, or the disk is full. Look again.
            self._retry_later()

    def _retry_later(self) -> None:
        if self._retry is not None:
            self._retry.cancel()
        self._retry = self._loop.call_later(_FULL_RETRY_S, self._turn)

    def _guarded(self, step: Callable[[], None]) -> None:
        if self._failure is None and not self._closed:
            step()

    def _wake_followers(self) -> None:
        grown, self._grown = self._grown, self._loop.create_future()
        if not grown.done():
            grown.set_result(None)

    def _end_calls(self) -> None:
        for *_, calls in self._batch:
            for call in calls:
                call.fail(AppendUnknownError("the log was closed"))
        self._queue.fail_all(lambda: NotAppendedError("the log was closed"))
        for _, future in [*self._trims, *self._trims_in_commit]:
            if not future.done():
                future.set_exception(UnavailableError("trim: the log was closed", "unknown"))

    # Reading.

    async def _load(self, run: list[Offset]) -> list[Value]:
        """Return the values of a run of `LocalStore.runs`, by one read of the disk."""
        if all(offset in self._recent for offset in run):
            self._hits += len(run)
            return [self._recent[offset] for offset in run]
        self._misses += len(run)
        journal = self._store.journal
        places = [self._store.index.place(offset) for offset in run]
        first, last = places[0], places[-1]
        if first is None or last is None:
            return [Value(offset, State.LOST) for offset in run]
        name, position, _ = journal.locate(first)
        length = last.position + last.length - first.position
        data = await self._fetch(name, position, length)
        values: list[Value] = []
        for offset, place in zip(run, places, strict=True):
            assert place is not None
            if offset < self._mark:
                # Trimmed meanwhile, and its file perhaps in other use.
                values.append(Value(offset, State.TRIMMED))
                continue
            at = place.position - first.position
            try:
                body = journal.parse(place, data[at : at + place.length]).body
                values.append(data_value(offset, body, self._codec))
            except DamagedRecordError:
                # Found damaged: there is no other copy. It is lost, never junk or unwritten.
                values.append(Value(offset, State.LOST))
            except WireError as error:
                raise ConflictError(f"offset {offset} holds an unreadable entry") from error
        return values

    async def _fetch(self, name: str, position: int, length: int) -> bytes:
        future: asyncio.Future[bytes] = self._loop.create_future()

        def done(data: bytes | None) -> None:
            if not future.done():
                # What cannot be read is damaged: parsing nothing says so.
                future.set_result(data or b"")

        self._worker.fetch(name, position, length, done)
        return await future

    def _remember(self, value: Value) -> None:
        """Keep the newest values in memory, for those who follow."""
        self._recent[value.offset] = value
        self._recent_bytes += value.size
        while self._recent_bytes > _RECENT_BYTES:
            self._recent_bytes -= self._recent.popitem(last=False)[1].size
