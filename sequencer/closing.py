"""Closing: the leader settles every old offset with range fills, so that closed_until follows.

What the old window left unused, half-written offsets, and holes whose writer is gone all become
decided. CloseUntil is proposed only from the answers of the tail units of one activated epoch.
"""

from __future__ import annotations

import asyncio
from collections import deque

from corfu.layout import Layout, Segment, parts
from corfu.messages import Fill, Filled
from corfu.types import Offset, Range, UnitId

from .commands import CloseUntil
from .context import Backoff, Context

_STEP_OFFSETS = 1 << 18
"""Most offsets closed by one command, so that closed_until moves on long ranges too."""

_CHECKS_PER_SWEEP = 4


class Closer:
    """Closes what is below T and, later, what was granted a while ago, in one epoch."""

    def __init__(self, context: Context, layout: Layout) -> None:
        self._context = context
        self._layout = layout
        self._tails: deque[tuple[float, Offset]] = deque()
        self._old_tail = layout.first_offset
        self._wanted = layout.first_offset
        self._wake = asyncio.Event()

    def want(self, until: Offset) -> None:
        """Close up to `until` now, and not only when it is old. At most up to the tail."""
        self._wanted = max(self._wanted, until)
        self._wake.set()

    async def run(self) -> None:
        """Close for ever."""
        pause_s = self._context.settings.hole_sweep_s / _CHECKS_PER_SWEEP
        while True:
            target = self._target()
            if target > self._context.state.closed_until:
                await self._close(target)
                continue
            self._wake.clear()
            try:
                async with asyncio.timeout(pause_s):
                    await self._wake.wait()
            except TimeoutError:
                continue

    def _target(self) -> Offset:
        """Return up to where to close: T, what was granted long ago, what was asked for."""
        context = self._context
        tail = context.core.tail
        if tail is None:
            return self._layout.first_offset
        now = context.now()
        if not self._tails or self._tails[-1][1] < tail:
            self._tails.append((now, tail))
        while self._tails and now - self._tails[0][0] >= context.settings.hole_sweep_s:
            self._old_tail = max(self._old_tail, self._tails.popleft()[1])
        # Never above the tail: a fill there would make a hole of an offset not yet granted.
        return min(tail, max(self._old_tail, self._wanted))

    async def _close(self, target: Offset) -> None:
        context = self._context
        closed = context.state.closed_until
        until = min(target, Offset(closed + _STEP_OFFSETS))
        fills = [
            self._fill(segment, index, part)
            for segment in self._layout.segments
            for index, chain in enumerate(segment.chains)
            # An abandoned chain's offsets are LOST: decided.
            if chain and (part := parts(segment, Range(closed, until))).start < part.end
        ]
        await asyncio.gather(*fills)
        outcome = await context.decide(CloseUntil(self._layout.epoch, until))
        if not outcome.accepted:
            context.log(f"closed_until stays at {context.state.closed_until}: {outcome.reason}")
            await Backoff(context).wait()

    async def _fill(self, segment: Segment, index: int, part: Range) -> None:
        """Settle the chain's offsets in `part`; returns when its tail unit has answered for all."""
        context, layout = self._context, self._layout
        head = layout.unit(segment.chains[index][0])
        backoff = Backoff(context)
        offset = _first_of_chain(part.start, index, len(segment.chains))
        while offset < part.end:
            fill = Fill(
                context.shell.new_request(), layout.epoch, offset, part.end, only_if_written=False
            )
            reply = await context.ask(head.address, fill, context.settings.seal_s)
            if (
                isinstance(reply, Filled)
                and (reply.epoch, reply.offset) == (layout.epoch, offset)
                and offset < reply.end <= part.end
            ):
                offset = _first_of_chain(reply.end, index, len(segment.chains))
                backoff.reset()
            else:
                # A refusal settles nothing: not installed yet, busy, or an offset in doubt.
                await backoff.wait()


def _first_of_chain(start: Offset, index: int, chains: int) -> Offset:
    """Return the first offset at or above `start` that belongs to the chain `index`."""
    return Offset(start + (index - start) % chains)


def heads_of(layout: Layout) -> frozenset[UnitId]:
    """Return the units that are the head of some chain."""
    return frozenset(chain[0] for segment in layout.segments for chain in segment.chains if chain)
