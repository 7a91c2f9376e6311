"""The same log without an event loop: every call blocks, iterators are plain ones.

    with corfu.sync.connect("127.0.0.1:9700") as log:
        position = log.append(b"hello")
        for record in log.scan():
            ...

Each log has one background thread with an event loop; calls may come from any thread. Ctrl-C in a
waiting call ends the waiting, as cancelling does.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Generator
from datetime import datetime
from types import TracebackType
from typing import Generic, Self, TypeVar, overload

import corfu.client.connecting
import corfu.embedded.opening
from corfu.batch import Batch
from corfu.client.settings import ClientSettings
from corfu.config import LinkSettings
from corfu.errors import UsageError
from corfu.log import EARLIEST, LATEST, Edge, Log, OnLost, Place
from corfu.stats import LogStats
from corfu.types import Offset, Position, Record, State

T = TypeVar("T")


class SyncLog:
    """A log whose methods block; see `corfu.Log` for what each promises and raises."""

    def __init__(self, open_log: Callable[[], Awaitable[Log]]) -> None:
        """Open a log on a thread of its own; made by `connect` and `local`."""
        self._pid = os.getpid()
        self._closed = False
        self._close_lock = threading.Lock()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, name="corfu", daemon=True)
        self._thread.start()
        try:
            self._log = self._wait(_awaited(open_log))
        except BaseException:
            self._stop()
            raise

    def append(self, data: bytes, *, timeout: float | None = None) -> Position:
        """See `Log.append`."""
        return self._call(self._log.append(data, timeout=timeout))

    def append_many(
        self, records: list[bytes] | tuple[bytes, ...], *, timeout: float | None = None
    ) -> list[Position]:
        """See `Log.append_many`."""
        return self._call(self._log.append_many(records, timeout=timeout))

    def submit(
        self, data: bytes, *, timeout: float | None = None
    ) -> concurrent.futures.Future[Position]:
        """Begin to append one record; return a future of its position.

        See `Log.submit`; here cancelling the future is cancelling an `append`.
        """
        self._check()
        appending = self._log.append(data, timeout=timeout)
        return asyncio.run_coroutine_threadsafe(appending, self._loop)

    def drain(self) -> None:
        """See `Log.drain`."""
        self._call(self._log.drain())

    @overload
    def read(self, place: Position, *, timeout: float | None = None) -> Record: ...

    @overload
    def read(self, place: int, *, timeout: float | None = None) -> tuple[Record, ...]: ...

    def read(self, place: Place, *, timeout: float | None = None) -> Record | tuple[Record, ...]:
        """See `Log.read`."""
        if isinstance(place, Position):
            return self._call(self._log.read(place, timeout=timeout))
        return self._call(self._log.read(place, timeout=timeout))

    def scan(
        self,
        start: Place | Edge = EARLIEST,
        end: Place | None = None,
        *,
        on_lost: OnLost = "raise",
        timeout: float | None = None,
    ) -> Generator[Record, None, None]:
        """See `Log.scan`."""
        return _one_by_one(self.scan_batches(start, end, on_lost=on_lost, timeout=timeout))

    def scan_batches(
        self,
        start: Place | Edge = EARLIEST,
        end: Place | None = None,
        *,
        on_lost: OnLost = "raise",
        timeout: float | None = None,
    ) -> Generator[Batch, None, None]:
        """See `Log.scan_batches`."""
        self._check()
        return self._iterate(self._log.scan_batches(start, end, on_lost=on_lost, timeout=timeout))

    def follow(
        self, start: Place | Edge = LATEST, *, on_lost: OnLost = "raise"
    ) -> Generator[Record, None, None]:
        """See `Log.follow`. Where LATEST is, the first `next` decides."""
        return _one_by_one(self.follow_batches(start, on_lost=on_lost))

    def follow_batches(
        self, start: Place | Edge = LATEST, *, on_lost: OnLost = "raise"
    ) -> Generator[Batch, None, None]:
        """See `Log.follow_batches`."""
        self._check()
        return self._iterate(self._log.follow_batches(start, on_lost=on_lost))

    def seek(self, time: float | datetime, *, timeout: float | None = None) -> Offset:
        """See `Log.seek`."""
        return self._call(self._log.seek(time, timeout=timeout))

    @property
    def stats(self) -> LogStats:
        """See `Log.stats`."""
        return self._log.stats

    def tail(self, *, linearizable: bool = True, timeout: float | None = None) -> Offset:
        """See `Log.tail`."""
        return self._call(self._log.tail(linearizable=linearizable, timeout=timeout))

    def fill(self, offset: int, *, timeout: float | None = None) -> State:
        """See `Log.fill`."""
        return self._call(self._log.fill(offset, timeout=timeout))

    def trim(self, offset: int, *, timeout: float | None = None) -> Offset:
        """See `Log.trim`."""
        return self._call(self._log.trim(offset, timeout=timeout))

    def close(self, *, timeout: float | None = None) -> None:
        """See `Log.close`; ends the thread, too."""
        with self._close_lock:
            if self._closed:
                return
            self._closed = True
        if os.getpid() != self._pid:
            # The thread stayed in the parent; there is nothing here to end.
            return
        try:
            self._wait(self._log.close(timeout=timeout))
        finally:
            self._stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _check(self) -> None:
        if os.getpid() != self._pid:
            raise UsageError("this log was opened before a fork: open one in each process")
        if self._closed:
            raise UsageError("the log is closed")

    def _call(self, work: Coroutine[object, object, T]) -> T:
        try:
            self._check()
        except UsageError:
            work.close()
            raise
        return self._wait(work)

    def _wait(self, work: Coroutine[object, object, T]) -> T:
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            # Ctrl-C, mostly; harmless if the call itself failed.
            future.cancel()
            raise

    def _iterate(self, batches: AsyncGenerator[Batch, None]) -> Generator[Batch, None, None]:
        cursor = _Cursor(batches)
        try:
            while (batch := self._call(cursor.next())) is not None:
                yield batch
        finally:
            if not self._closed and threading.current_thread() is not self._thread:
                self._call(cursor.close())

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
            # What the log left: generators that were not closed, and their tasks.
            tasks = asyncio.all_tasks(self._loop)
            for task in tasks:
                task.cancel()
            if tasks:
                self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.run_until_complete(self._loop.shutdown_default_executor())
        finally:
            self._loop.close()

    def _stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()


class _Cursor(Generic[T]):
    """An async iterator in the loop's thread, of which one step at a time is under way.

    A step that was cancelled is still ending when the next one, or the closing, comes.
    """

    def __init__(self, batches: AsyncGenerator[T, None]) -> None:
        self._batches = batches
        self._lock = asyncio.Lock()

    async def next(self) -> T | None:
        async with self._lock:
            return await anext(self._batches, None)

    async def close(self) -> None:
        async with self._lock:
            await self._batches.aclose()


def connect(
    cluster: str,
    *,
    ordered: bool = False,
    timeout: float | None = None,
    cache_bytes: int | None = None,
    settings: ClientSettings | None = None,
    link: LinkSettings | None = None,
) -> SyncLog:
    """Open the log of a running cluster; see `corfu.connect`."""
    opening = corfu.client.connecting.connect(
        cluster,
        ordered=ordered,
        timeout=timeout,
        cache_bytes=cache_bytes,
        settings=settings,
        link=link,
    )
    return SyncLog(lambda: opening)


def local(path: str | os.PathLike[str], *, file_bytes: int = 32 << 20) -> SyncLog:
    """Open the embedded log in a folder; see `corfu.local`."""
    opening = corfu.embedded.opening.local(path, file_bytes=file_bytes)
    return SyncLog(lambda: opening)


async def _awaited(open_log: Callable[[], Awaitable[Log]]) -> Log:
    return await open_log()


def _one_by_one(
    batches: Generator[Batch, None, None],
) -> Generator[Record, None, None]:
    try:
        for batch in batches:
            yield from batch
    finally:
        batches.close()


__all__ = ["SyncLog", "connect", "local"]
