"""A cluster's log, over ports: the same in production and in the simulator."""

# ruff: noqa: ASYNC109 - a timeout says what became of the call; asyncio.timeout cannot.

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from dataclasses import replace
from typing import Self, TypeVar

from corfu.client.append import Appender
from corfu.client.cache import ValueCache
from corfu.client.cluster import Cluster, Endpoint
from corfu.client.follow import follow
from corfu.client.packing import Submitted
from corfu.client.read import Reader
from corfu.client.settings import ClientSettings
from corfu.client.settle import Trouble, ask_fill
from corfu.client.values import Value
from corfu.errors import UnavailableError, UsageError
from corfu.log import Log, checked_offset
from corfu.messages import HeldOffset, Rejected, Trim, TrimReached
from corfu.stats import LogStats
from corfu.types import Address, ClusterId, EntryId, Offset, Position, State

T = TypeVar("T")

_TRIM_BUDGET_S = 2.0
"""A trim passes Paxos and reaches every unit before it is answered."""


class LogClient(Log):
    """A client of one cluster. `open` it first; it stays bound to the process that made it."""

    def __init__(
        self,
        endpoint: Endpoint,
        settings: ClientSettings,
        *,
        rng: random.Random,
        entropy: Callable[[int], bytes],
        sequencers: tuple[Address, ...],
        pid: Callable[[], int] = lambda: 0,
        wall_us: Callable[[], int] | None = None,
        on_cluster: Callable[[ClusterId], None] | None = None,
        on_close: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """Make a client; nothing is sent before `open`.

        Args:
            endpoint: Requests and time.
            settings: How it packs and waits.
            rng: For jitter only.
            entropy: Random bytes for entry ids: the operating system's, outside a simulator.
                Two entries of equal id would take each other's place.
            sequencers: Addresses of replicas, at least one of them alive.
            pid: The id of the process that runs this; a copy made by fork would draw the same
                request ids and take the other's replies, so it is refused.
            wall_us: Microseconds since 1970, for the entries' timestamps.
            on_cluster: Called once with the cluster's id, which the first layout tells.
            on_close: Called when all is done: frees the endpoint.
        """
        self.settings = settings
        self._endpoint = endpoint
        self._pid = pid
        self._own_pid = pid()
        self._on_close = on_close
        self._closed = False
        self._calls: set[asyncio.Task[object]] = set()
        self._work: set[asyncio.Task[None]] = set()
        self._cluster = Cluster(endpoint, settings, rng, sequencers, on_cluster)
        self._cache = ValueCache(settings.cache_bytes)
        self._reader = Reader(self._cluster, self._spawn, self._cache)
        self._appender = Appender(
            self._cluster,
            lambda: EntryId(entropy(16)),
            wall_us or (lambda: int(endpoint.now() * 1e6)),
        )

    @property
    def endpoint(self) -> Endpoint:
        """Requests and time as this client has them; for measuring, what it does not need."""
        return self._endpoint

    async def open(self, *, timeout: float | None = None) -> Self:
        """Get the first layout.

        Raises:
            UnavailableError: No replica told one in time; the text names those asked.
        """
        self._check()
        await self._run(self._cluster.open(self._patience(timeout)))
        return self

    async def close(self, *, timeout: float | None = None) -> None:
        """See `Log`."""
        if self._closed:
            return
        if self._pid() != self._own_pid:
            # The parent's socket and its appends: not ours to end.
            self._closed = True
            return
        self._closed = True
        await self._appender.close(self.settings.close_s if timeout is None else timeout)
        tasks = [*self._calls, *self._work]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._cluster.close()
        if self._on_close is not None:
            await self._on_close()

    async def tail(self, *, linearizable: bool = True, timeout: float | None = None) -> Offset:
        """See `Log`."""
        deadline = self._deadline(timeout)
        ask = self._cluster.confirmed_tail if linearizable else self._cluster.cheap_tail
        return (await self._run(ask(deadline))).tail

    async def fill(self, offset: int, *, timeout: float | None = None) -> State:
        """See `Log`."""
        deadline = self._deadline(timeout)
        return await self._run(self._fill(checked_offset(offset), deadline))

    async def trim(self, offset: int, *, timeout: float | None = None) -> Offset:
        """See `Log`."""
        deadline = self._deadline(timeout)
        trimming = self._trim(checked_offset(offset), deadline, count_freed=False)
        return (await self._run(trimming)).mark

    async def trim_counting(self, offset: int, *, timeout: float | None = None) -> TrimReached:
        """Trim as `trim` does, wait for units to free files, and return what the leader counted."""
        deadline = self._deadline(timeout)
        epoch = self._cluster.layout.epoch
        trimming = self._trim(checked_offset(offset), deadline, count_freed=True)
        reached = await self._run(trimming)
        # A leader that took over meanwhile has not seen what units freed before.
        return replace(reached, at_least=reached.at_least or reached.epoch != epoch)

    @property
    def stats(self) -> LogStats:
        """See `Log`."""
        cache = self._cache
        return LogStats(cache_hits=cache.hits, cache_misses=cache.misses, cache_bytes=cache.bytes)

    # What `Log` asks for.

    def _check(self) -> None:
        if self._pid() != self._own_pid:
            raise UsageError("this log was opened before a fork: open one in each process")
        if self._closed:
            raise UsageError("the log is closed")

    def _patience(self, timeout: float | None) -> float:
        return self.settings.timeout_s if timeout is None else timeout

    def _now(self) -> float:
        return self._endpoint.now()

    @property
    def _trim_mark(self) -> Offset:
        return self._cluster.trim_mark

    def _submit(self, record: bytes, patience_s: float) -> Submitted:
        return self._appender.submit(record, patience_s)

    async def _drain(self) -> None:
        await self._appender.drain()

    async def _append_entry(
        self, records: tuple[bytes, ...], deadline: float
    ) -> tuple[Position, ...]:
        return await self._appender.append(records, deadline)

    async def _read_value(self, offset: Offset, deadline: float) -> Value:
        cached = self._cache.get(offset, self._cluster.trim_mark)
        if cached is not None:
            return cached
        value = await self._run(self._reader.read_offset(offset, deadline))
        self._cache.put(value, self._cluster.trim_mark)
        return value

    async def _edges(self, deadline: float) -> tuple[Offset, Offset]:
        tail = await self._run(self._cluster.confirmed_tail(deadline))
        return max(tail.trim_mark, self._cluster.trim_mark), tail.tail

    def _scan_values(
        self, start: Offset, end: Offset, timeout_s: float
    ) -> AsyncGenerator[list[Value], None]:
        return self._reader.windows(start, end, timeout_s)

    def _follow_values(self, start: Offset) -> AsyncGenerator[list[Value], None]:
        return follow(self._cluster, self._reader, start)

    async def _next(self, values: AsyncGenerator[list[Value], None]) -> list[Value] | None:
        self._check()
        return await self._run(anext(values, None))

    # Inside.

    async def _fill(self, offset: Offset, deadline: float) -> State:
        # A unit cannot know the tail, so the client refuses what would take a place from an
        # append that has not begun.
        tail = await self._cluster.confirmed_tail(deadline)
        if offset >= tail.tail:
            raise UsageError(f"offset {offset} is not below the tail, {tail.tail}: not filled")
        backoff = self._cluster.backoff()
        trouble = "no time"
        while (left := deadline - self._endpoint.now()) > 0:
            budget = min(left, self.settings.unit_budget_s)
            answer = await ask_fill(self._cluster, offset, budget)
            if isinstance(answer, HeldOffset):
                return answer.state
            trouble = answer.text if isinstance(answer, Trouble) else "nothing was filled"
            if not await self._cluster.refresh():
                await self._endpoint.sleep(backoff.next_s())
        raise UnavailableError(f"fill {offset}: {trouble}", "unknown")

    async def _trim(self, offset: Offset, deadline: float, *, count_freed: bool) -> TrimReached:
        backoff = self._cluster.backoff()
        message = Trim(self._endpoint.new_request(), offset, count_freed)
        trouble = "no time"
        while self._endpoint.now() < deadline:
            try:
                reply = await self._cluster.ask_leader(message, deadline, "trim", _TRIM_BUDGET_S)
            except UnavailableError as error:
                raise UnavailableError(str(error), "unknown") from None
            if isinstance(reply, TrimReached):
                self._cluster.trim_mark = max(self._cluster.trim_mark, reply.mark)
                return reply
            if isinstance(reply, Rejected):
                trouble = f"rejected: {reply.reason.name} {reply.detail}".rstrip()
            await self._cluster.refresh()
            await self._endpoint.sleep(backoff.next_s())
        raise UnavailableError(f"trim: {trouble}", "unknown")

    async def _run(self, work: Coroutine[object, object, T]) -> T:
        """Await `work` so that `close()` can end it, without touching the caller's task."""
        task = asyncio.get_running_loop().create_task(work)
        self._calls.add(task)
        try:
            return await task
        except asyncio.CancelledError:
            own = asyncio.current_task()
            if self._closed and task.cancelled() and not (own and own.cancelling()):
                raise UsageError("the log was closed") from None
            raise
        finally:
            self._calls.discard(task)

    def _spawn(self, work: Coroutine[object, object, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._work.add(task)
        task.add_done_callback(self._work.discard)
