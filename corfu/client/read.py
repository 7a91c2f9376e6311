"""Reading offsets and ranges: all chains at once, ahead of need, merged by offset."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Coroutine, Sequence
from dataclasses import dataclass

from corfu.client.cache import ValueCache
from corfu.client.chain_reader import ChainReader, Found, HoleWait, Retry, Spawn
from corfu.client.cluster import Backoff, Cluster
from corfu.client.pace import Pace
from corfu.client.span import Span, spans_of
from corfu.client.values import Value
from corfu.config import PART_BYTES_MAX
from corfu.errors import UnavailableError, UnwrittenError
from corfu.layout import Layout, Segment
from corfu.types import Offset

_NO_LIMIT = 1 << 62


@dataclass(slots=True)
class _Window:
    start: Offset
    end: Offset
    task: asyncio.Task[tuple[list[Value], Offset]]


class Reader:
    """The read side of a client: asks until there is an answer, or time is over."""

    def __init__(self, cluster: Cluster, spawn: Spawn, cache: ValueCache) -> None:
        self.chains = ChainReader(cluster, spawn)
        self._cluster = cluster
        self._endpoint = cluster.endpoint
        self._settings = cluster.settings
        self._cache = cache
        self._spans: tuple[Layout, Segment, list[Span]] | None = None

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

        All chains are read at once, `ahead_bytes` ahead of what was yielded. A list holds what is
        there already, up to `window_bytes`: a reader that is slower than the units gets more in
        one piece.

        Args:
            start: First offset.
            end: End of the range.
            timeout_s: How long one list may take; None: as long as it takes.

        Raises:
            UnavailableError: A list took longer.
        """
        pending: deque[_Window] = deque()
        launched = start
        pace = Pace(self._settings)
        try:
            while pending or launched < end:
                while launched < end and pace.has_room:
                    stop = Offset(min(end, launched + pace.window_offsets(self._chains(launched))))
                    pending.append(self._launch(launched, stop, timeout_s))
                    pace.launched(stop - launched)
                    launched = stop
                yield await self._collect(pending, pace, timeout_s)
        finally:
            for window in pending:
                window.task.cancel()
            await asyncio.gather(*(window.task for window in pending), return_exceptions=True)

    async def _collect(
        self, pending: deque[_Window], pace: Pace, timeout_s: float | None
    ) -> list[Value]:
        """Return the values of the first window, and of those after it that are there already."""
        collected: list[Value] = []
        size = 0
        while True:
            window = pending.popleft()
            values, reached = await window.task
            pace.arrived(reached - window.start, values)
            if reached < window.end:
                # It ended early, for its byte budget or at the end of a segment. What is read
                # ahead of here stays good.
                pending.appendleft(self._launch(reached, window.end, timeout_s))
                pace.relaunched()
            collected += values
            size += sum(value.size for value in values)
            if not pending or size >= self._settings.window_bytes:
                return collected
            following = pending[0].task
            # A failure is raised when its turn comes: what stands before it is good.
            if not following.done() or following.cancelled() or following.exception() is not None:
                return collected

    def _chains(self, offset: Offset) -> int:
        return max(1, len(self._cluster.layout.segment_of(offset).chains))

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
        # What is not there is read around it; if all is, nobody is asked.
        values = self._cache.among(range(start, end), self._cluster.trim_mark)
        if len(values) == end - start:
            return list(values.values()), end
        wait = HoleWait(deadline)
        backoff = self._cluster.backoff()
        while True:
            try:
                reached = await self._try_window(start, end, values, wait)
            except Retry as retry:
                await self.pause(retry, backoff, deadline)
                continue
            found = [values[o] for o in sorted(values) if o < reached]
            self._cache.offer(found, self._cluster.trim_mark)
            return found, reached

    async def _try_window(
        self, start: Offset, end: Offset, values: dict[Offset, Value], wait: HoleWait
    ) -> Offset:
        layout = self._cluster.layout
        segment = layout.segment_of(start)
        stop = end if segment.end is None else Offset(min(end, segment.end))
        spans = [s for s in self._spans_of(layout, segment) if s.offsets(start, stop)]
        if not spans:
            raise Retry(f"the layout has no chain for {start} yet")
        share = self._settings.window_bytes // len(spans)
        return min(
            await _all_of(
                [self._read_span(span, start, stop, share, values, wait) for span in spans]
            )
        )

    def _spans_of(self, layout: Layout, segment: Segment) -> list[Span]:
        """Return the spans of a segment, made once as long as the same one is asked for."""
        if self._spans is None or self._spans[0] is not layout or self._spans[1] is not segment:
            self._spans = (layout, segment, spans_of(layout, segment))
        return self._spans[2]

    async def _read_one(self, offset: Offset) -> tuple[Span | None, Found]:
        layout = self._cluster.layout
        segment = layout.segment_of(offset)
        if not segment.chains:
            # Only an open segment can be without chains: then nothing is granted in it.
            return None, Found()
        span = self._spans_of(layout, segment)[offset % len(segment.chains)]
        end = Offset(offset + 1)
        found, _ = await self.chains.read(span, offset, end, bytes_max=1)
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
        # What an earlier try has found beyond a gap need not come again.
        beyond = tuple(sorted(o for o in values if o % span.stride == span.index))
        while at < end:
            if at in values:
                size += values[at].size
                at = Offset(at + span.stride)
                continue
            if size >= share:
                return at
            budget = min(self._settings.read_bytes, share - size)
            stop = next((known for known in beyond if known > at), end)
            found, reached = await self.chains.read(span, at, stop, bytes_max=budget)
            values.update(found.values)
            if found.damaged or len(found.values) != len(span.offsets(at, reached)):
                holes = found.holes(span.offsets(at, reached))
                again = await self.chains.complete(span, found, holes, wait)
                for run_start, run_end in span.runs(again):
                    await self._read_again(span, run_start, run_end, found)
                values.update(found.values)
            if reached == at:
                # What came beyond is kept; the rest is asked for again, after a look around.
                raise Retry(f"what unit {span.tail_unit.id} says of {at} was lost on the way")
            beyond = found.beyond or beyond
            size += found.size
            at = span.first_from(reached)
        return end

    async def _read_again(self, span: Span, start: Offset, end: Offset, found: Found) -> None:
        """Read offsets that were completed just now; all of them have a value."""
        at = start
        while at < end:
            budget = min(self._settings.read_bytes, PART_BYTES_MAX)
            again, reached = await self.chains.read(span, at, end, bytes_max=budget)
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


async def _all_of(work: Sequence[Coroutine[object, object, Offset]]) -> list[Offset]:
    """Run all at once to their ends, then return their results or raise the first failure."""
    # The last one runs in the caller's own task: a task is a good part of what a read costs.
    loop = asyncio.get_running_loop()
    tasks = [loop.create_task(each) for each in work[:-1]]
    try:
        last: Offset | Retry = await work[-1]
    except Retry as retry:
        last = retry
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise
    results: list[Offset] = []
    for result in [*(await asyncio.gather(*tasks, return_exceptions=True)), last]:
        if isinstance(result, BaseException):
            raise result
        results.append(result)
    return results
