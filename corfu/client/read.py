"""Reading offsets and ranges: all chains at once, ahead of need, merged by offset."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Sequence
from dataclasses import dataclass

from corfu.client.chain_reader import ChainReader, Found, HoleWait, Retry, Spawn
from corfu.client.cluster import Backoff, Cluster
from corfu.client.span import Span, spans_of
from corfu.client.values import Value
from corfu.errors import UnavailableError, UnwrittenError
from corfu.types import Offset

_WINDOW_OFFSETS_FIRST = 64
_WINDOW_OFFSETS_MAX = 4096
_NO_LIMIT = 1 << 62


@dataclass(slots=True)
class _Window:
    start: Offset
    end: Offset
    task: asyncio.Task[tuple[list[Value], Offset]]


class Reader:
    """The read side of a client: asks until there is an answer, or time is over."""

    def __init__(self, cluster: Cluster, spawn: Spawn) -> None:
        self.chains = ChainReader(cluster, spawn)
        self._cluster = cluster
        self._endpoint = cluster.endpoint
        self._settings = cluster.settings

    async def read_offset(self, offset: Offset, deadline: float) -> Value:
        """Return what one offset holds, for ever.

        Raises:
            UnwrittenError: It is at or above a tail confirmed after this call began.
            UnavailableError: No answer before `deadline`.
        """
        wait = HoleWait(deadline)
        backoff = self._cluster.backoff()
        while True:
            try:
                return await self._try_offset(offset, wait, deadline)
            except Retry as retry:
                await self.pause(retry, backoff, deadline)

    async def _try_offset(self, offset: Offset, wait: HoleWait, deadline: float) -> Value:
        span, found = await self._read_one(offset)
        if offset in found.values:
            return found.values[offset]
        # A tail seen before proves that an offset is below the tail, never that it is not: for
        # that it must be confirmed in a round begun after the read began.
        if not found.damaged and offset >= self._cluster.tail_seen:
            tail = await self._cluster.confirmed_tail(deadline)
            if offset >= tail.tail:
                raise UnwrittenError(offset)
        if span is None:
            raise Retry(f"the layout has no chain for {offset} yet")
        await self.chains.complete(span, found, found.holes((offset,)), wait)
        if offset not in found.values:
            found = (await self._read_one(offset))[1]
        if offset not in found.values:
            raise Retry(f"offset {offset} was completed and is not at its tail unit")
        return found.values[offset]

    async def pause(self, retry: Retry, backoff: Backoff, deadline: float | None) -> None:
        """Get ready for another try: ask another replica for the layout, wait a moment.

        Raises:
            UnavailableError: `deadline` is over.
        """
        if deadline is not None and self._endpoint.now() >= deadline:
            raise UnavailableError(f"read: no answer in time: {retry}")
        if not await self._cluster.refresh():
            await self._endpoint.sleep(backoff.next_s())

    async def windows(
        self, start: Offset, end: Offset, timeout_s: float | None
    ) -> AsyncGenerator[list[Value], None]:
        """Yield the values of `[start, end)`, all below the tail, in order, in lists.

        Args:
            start: First offset.
            end: End of the range.
            timeout_s: How long one list may take; None: as long as it takes.

        Raises:
            UnavailableError: A list took longer.
        """
        pending: deque[_Window] = deque()
        launched = start
        count = _WINDOW_OFFSETS_FIRST
        try:
            while pending or launched < end:
                while launched < end and len(pending) <= self._settings.windows_ahead:
                    stop = Offset(min(end, launched + count))
                    pending.append(self._launch(launched, stop, timeout_s))
                    launched = stop
                window = pending.popleft()
                values, reached = await window.task
                if reached < window.end:
                    # It ended early, for its byte budget or at the end of a segment. What is
                    # read ahead of here stays good.
                    pending.appendleft(self._launch(reached, window.end, timeout_s))
                count = self._window_offsets(values, count)
                yield values
        finally:
            for window in pending:
                window.task.cancel()
            await asyncio.gather(*(window.task for window in pending), return_exceptions=True)

    def _window_offsets(self, values: list[Value], before: int) -> int:
        if not values:
            return before
        size = sum(value.size for value in values) // len(values)
        wanted = self._settings.window_bytes // max(size, 256)
        return max(2, min(wanted, 2 * before, _WINDOW_OFFSETS_MAX))

    def _launch(self, start: Offset, end: Offset, timeout_s: float | None) -> _Window:
        deadline = None if timeout_s is None else self._endpoint.now() + timeout_s
        work = self.read_window(start, end, deadline)
        return _Window(start, end, asyncio.get_running_loop().create_task(work))

    async def read_window(
        self, start: Offset, end: Offset, deadline: float | None
    ) -> tuple[list[Value], Offset]:
        """Return the values of `[start, reached)` in order, and `reached`, at most `end`.

        All of the range must lie below the tail. `reached` is lower than `end` where a segment
        ends or `window_bytes` is used up; it is always above `start`.
        """
        values: dict[Offset, Value] = {}
        wait = HoleWait(deadline)
        backoff = self._cluster.backoff()
        while True:
            try:
                reached = await self._try_window(start, end, values, wait)
            except Retry as retry:
                await self.pause(retry, backoff, deadline)
                continue
            return [values[o] for o in sorted(values) if o < reached], reached

    async def _try_window(
        self, start: Offset, end: Offset, values: dict[Offset, Value], wait: HoleWait
    ) -> Offset:
        layout = self._cluster.layout
        segment = layout.segment_of(start)
        stop = end if segment.end is None else Offset(min(end, segment.end))
        spans = [s for s in spans_of(layout, segment) if s.offsets(start, stop)]
        if not spans:
            raise Retry(f"the layout has no chain for {start} yet")
        share = self._settings.window_bytes // len(spans)
        return min(
            await _all_of(
                [self._read_span(span, start, stop, share, values, wait) for span in spans]
            )
        )

    async def _read_one(self, offset: Offset) -> tuple[Span | None, Found]:
        layout = self._cluster.layout
        segment = layout.segment_of(offset)
        if not segment.chains:
            # Only an open segment can be without chains: then nothing is granted in it.
            return None, Found()
        span = spans_of(layout, segment)[offset % len(segment.chains)]
        end = Offset(offset + 1)
        found, _ = await self.chains.read(span, offset, end, bytes_max=self._settings.read_bytes)
        return span, found

    async def _read_span(
        self,
        span: Span,
        start: Offset,
        end: Offset,
        share: int,
        values: dict[Offset, Value],
        wait: HoleWait,
    ) -> Offset:
        """Put what the chain holds in `[start, end)` into `values`; return how far it got."""
        at = span.first_from(start)
        size = 0
        while at < end:
            if at in values:
                size += values[at].size
                at = Offset(at + span.stride)
                continue
            if size >= share:
                return at
            budget = min(self._settings.read_bytes, share - size)
            found, reached = await self.chains.read(span, at, end, bytes_max=budget)
            holes = found.holes(span.offsets(at, reached))
            again = await self.chains.complete(span, found, holes, wait)
            for run_start, run_end in span.runs(again):
                await self._read_again(span, run_start, run_end, found)
            values.update(found.values)
            size += found.size
            at = span.first_from(reached)
        return end

    async def _read_again(self, span: Span, start: Offset, end: Offset, found: Found) -> None:
        """Read offsets that were completed just now; all of them have a value."""
        at = start
        while at < end:
            again, reached = await self.chains.read(
                span, at, end, bytes_max=self._settings.read_bytes
            )
            if len(again.values) < len(span.offsets(at, reached)):
                raise Retry(f"offsets from {at} on were completed and are not at the tail unit")
            found.values.update(again.values)
            found.size += again.size
            at = span.first_from(reached)

    async def complete_range(self, span: Span, start: Offset, end: Offset) -> list[Value]:
        """Return a value for each offset of the chain in `[start, end)`, all below the tail.

        May raise `Retry`.
        """
        values: dict[Offset, Value] = {}
        await self._read_span(span, start, end, _NO_LIMIT, values, HoleWait())
        return [values[o] for o in sorted(values)]


async def _all_of(work: Sequence[Awaitable[Offset]]) -> list[Offset]:
    """Run all at once to their ends, then return their results or raise the first failure."""
    if len(work) == 1:
        return [await work[0]]
    results: list[Offset] = []
    for result in await asyncio.gather(*work, return_exceptions=True):
        if isinstance(result, BaseException):
            raise result
        results.append(result)
    return results
