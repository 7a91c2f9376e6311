"""Following the log: every value in order, from a place on, as soon as it is there.

A Read is parked at each tail unit of the open segment, so a new entry comes in one trip. All
buffers are bounded, and a seal, a silent unit or a left one leads to a new layout within one wait.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Coroutine
from contextlib import aclosing

from corfu.client.chain_reader import Retry
from corfu.client.cluster import Cluster
from corfu.client.read import Reader
from corfu.client.span import Span, spans_of
from corfu.client.values import Value
from corfu.config import PART_BYTES_MAX
from corfu.errors import UnavailableError
from corfu.layout import Layout
from corfu.types import Offset

_AHEAD_OFFSETS = 1024
"""Offsets of one chain asked for in one Read."""

_BEHIND_OFFSETS = 256
"""A follower so far behind the tail it knows of reads windows, which overlap their trips."""


async def follow(
    cluster: Cluster, reader: Reader, start: Offset
) -> AsyncGenerator[list[Value], None]:
    """Yield the values from `start` on, in order, without gap, for ever.

    Junk and losses are values, too. Never gives up: while the cluster is out of reach it waits.
    """
    at = start
    backoff = cluster.backoff()
    while True:
        layout = cluster.layout
        end = layout.segment_of(at).end
        known = cluster.tail_seen if end is None else end
        if end is not None or known - at > _BEHIND_OFFSETS:
            async with aclosing(reader.windows(at, known, None)) as windows:
                async for values in windows:
                    if values:
                        at = Offset(values[-1].offset + 1)
                        yield values
            # Windows without end of patience return only when they have read everything.
            at = max(at, known)
            continue
        try:
            async with aclosing(_Live(cluster, reader, layout, at).values()) as live:
                async for values in live:
                    at = Offset(values[-1].offset + 1)
                    backoff = cluster.backoff()
                    yield values
        except Retry as retry:
            await reader.pause(retry, backoff, None)


class _Live:
    """One follower in the open segment of one layout, until `Retry` or a newer layout."""

    def __init__(self, cluster: Cluster, reader: Reader, layout: Layout, start: Offset) -> None:
        self._cluster = cluster
        self._reader = reader
        self._settings = cluster.settings
        self._layout = layout
        self._next = start
        self._values: dict[Offset, Value] = {}
        self._bytes = 0
        self._trouble: BaseException | None = None
        self._gaps_looked_until = start
        self._stalled = asyncio.Event()
        self._changed = asyncio.Event()
        self._drained = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    async def values(self) -> AsyncGenerator[list[Value], None]:
        spans = spans_of(self._layout, self._layout.open_segment)
        if not spans:
            raise Retry("no chain takes appends")
        try:
            for span in spans:
                self._start(self._follow_chain(span))
            self._start(self._close_gaps(spans))
            while True:
                values = self._take()
                if values:
                    yield values
                elif self._trouble is not None:
                    raise self._trouble
                else:
                    self._changed.clear()
                    await self._changed.wait()
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def _take(self) -> list[Value]:
        """Return what is there without gap from the next offset on."""
        taken: list[Value] = []
        values, at = self._values, self._next
        while (value := values.pop(at, None)) is not None:
            taken.append(value)
            self._bytes -= value.size
            at = Offset(at + 1)
        if taken:
            self._next = at
            self._drained.set()
        if values:
            self._stalled.set()
        return taken

    def _put(self, values: list[Value]) -> None:
        for value in values:
            if value.offset >= self._next and value.offset not in self._values:
                self._values[value.offset] = value
                self._bytes += value.size
        self._changed.set()

    def _start(self, work: Coroutine[object, object, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            # The first failure ends the whole follower; `values` raises it.
            self._trouble = self._trouble or error
            self._changed.set()

    async def _follow_chain(self, span: Span) -> None:
        at = span.first_from(self._next)
        backoff = self._cluster.backoff()
        while True:
            await self._room(at)
            end = Offset(at + _AHEAD_OFFSETS * span.stride)
            asked_at = self._cluster.endpoint.now()
            found, _ = await self._reader.chains.read(
                span,
                at,
                end,
                bytes_max=min(self._settings.read_bytes, PART_BYTES_MAX),
                wait_s=self._settings.follow_wait_s,
            )
            for entry in found.damaged:
                self._start(self._close_gap(span, entry.offset, Offset(entry.offset + 1)))
            seen = [*found.values, *(entry.offset for entry in found.damaged)]
            if seen:
                self._put([found.values[offset] for offset in sorted(found.values)])
                at = span.first_from(Offset(max(seen) + 1))
                backoff = self._cluster.backoff()
            else:
                if self._cluster.endpoint.now() - asked_at < self._settings.follow_wait_s / 2:
                    # The unit has no room to park it. Asked again at once, by everybody whom it
                    # turned away, it would have none for ever.
                    await self._cluster.endpoint.sleep(backoff.next_s())
                # Parked without a value: EMPTY is only a hint, and this unit may have left the
                # log. So a confirmed tail comes before it is parked again; it tells the epoch.
                at = await self._look_around(span, at)

    async def _look_around(self, span: Span, at: Offset) -> Offset:
        deadline = self._cluster.endpoint.now() + self._settings.timeout_s
        try:
            tail = await self._cluster.confirmed_tail(deadline)
        except UnavailableError as error:
            raise Retry(str(error)) from None
        if self._cluster.layout.epoch != self._layout.epoch:
            raise Retry("there is a newer layout")
        self._put(await self._reader.complete_range(span, at, tail.tail))
        return span.first_from(max(at, tail.tail))

    async def _close_gaps(self, spans: list[Span]) -> None:
        """Complete what lacks below a value that is there: on any chain, that proves it granted.

        Usually it is an entry still on its way, so it gets a moment before the head is asked.
        """
        while True:
            await self._stalled.wait()
            self._stalled.clear()
            at = self._next
            await self._cluster.endpoint.sleep(self._settings.gap_grace_s)
            if self._next != at or not self._values:
                continue
            start = max(self._next, self._gaps_looked_until)
            end = max(self._values)
            for span in spans:
                lacking = [Offset(o) for o in span.offsets(start, end) if o not in self._values]
                for run_start, run_end in span.runs(lacking):
                    self._start(self._close_gap(span, run_start, run_end))
            self._gaps_looked_until = max(start, end)

    async def _close_gap(self, span: Span, start: Offset, end: Offset) -> None:
        self._put(await self._reader.complete_range(span, start, end))

    async def _room(self, at: Offset) -> None:
        """Wait while the buffer is full, unless this chain is what all wait for."""
        while self._bytes >= self._settings.follow_bytes and at > self._next:
            self._drained.clear()
            await self._drained.wait()
