"""Settling doubt: what a head cannot tell of an offset, the other units of its chain can.

Runs at a fresh epoch, so no old forward is under way and every unit's answer stays true. Only a
head needs this: a later unit is repaired by what its head forwards.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from corfu.config import BLOCK_OFFSETS
from corfu.layout import Layout, Segment, Unit, parts
from corfu.messages import (
    Inspect,
    Inspected,
    InspectedOffset,
    Resolution,
    Resolve,
    Resolved,
    Scrub,
    ScrubIs,
    Sealed,
)
from corfu.types import JUNK_ID, OFFSET_MAX, Digest, Offset, Range, State, UnitId

from .commands import DeclareLost
from .context import Backoff, Context

_ITEMS_MAX = 512

_RESOLVES_MAX = 3
"""A verdict that the head could not carry out so often is looked into again."""
_SOUND = frozenset({State.DATA, State.JUNK, State.TRIMMED, State.LOST})


@dataclass(frozen=True, slots=True)
class Witness:
    """What one unit of the chain says of an offset. `certain`: its EMPTY can be trusted."""

    unit: Unit
    held: InspectedOffset | None
    certain: bool
    names_damage: bool

    @property
    def sound(self) -> bool:
        """It holds the offset's value, whole."""
        return self.held is not None and self.held.state in _SOUND

    @property
    def tentative(self) -> bool:
        """What it has it does not count as held."""
        return self.held is not None and self.held.tentative

    @property
    def soundly_empty(self) -> bool:
        """It never held anything there."""
        empty = self.held is None or self.held.state is State.EMPTY
        return empty and self.certain and not self.names_damage


def resolution(offset: Offset, witnesses: list[Witness], *, closed: bool) -> Resolution | None:
    """Return how an offset is settled at the head, the first of the chain's `witnesses`.

    None if the head needs nothing. `closed`: the offset is below closed_until.
    """
    head, others = witnesses[0], witnesses[1:]
    if head.sound or (head.soundly_empty and not closed):
        return None
    # A sound copy anywhere: every unit before it held the same, the head too. A tentative one is
    # the only entry that was ever written there: the head held it, or may decide for it now.
    for witness in sorted(others, key=lambda each: each.tentative):
        held = witness.held
        if witness.sound and held is not None:
            source = witness.unit.address if held.state is State.DATA else None
            return Resolution(offset, held.state, held.entry_id, held.digest, source)
    # Below closed_until each unit has held a value: no EMPTY there is believed.
    if closed:
        return _without_value(offset, State.LOST)
    # An acknowledged value is on every unit: one that soundly never held it proves that it was
    # not acknowledged.
    if any(witness.soundly_empty for witness in others):
        return _without_value(offset, State.EMPTY)
    # A chain of one has no witness, and a damaged record that a unit can name was a value.
    if not others or any(witness.names_damage for witness in witnesses):
        return _without_value(offset, State.LOST)
    # All in doubt and none can name it: an acknowledged record would have to be unreadable on
    # all of them at once.
    return _without_value(offset, State.EMPTY)


def _without_value(offset: Offset, state: State) -> Resolution:
    return Resolution(offset, state, JUNK_ID, Digest(0), None)


class _LookAgain(Exception):  # noqa: N818 - it is no error but a turn of the loop
    """The head cannot carry a verdict out: what the units hold may have changed."""


class DoubtSettler:
    """Settles the doubt of one head in one epoch."""

    def __init__(
        self, context: Context, layout: Layout, head: Unit, sealed: Mapping[UnitId, Sealed]
    ) -> None:
        self._context = context
        self._layout = layout
        self._head = head
        self._sealed = sealed
        self._named = {
            id_: frozenset(offset for block in answer.blocks for offset in block.named)
            for id_, answer in sealed.items()
        }

    async def run(self) -> bool:
        """Settle all; returns if no doubt is left. Waits for units that do not answer."""
        state = self._context.state
        first = self._layout.first_offset
        closed = state.closed_until
        return not await self._settle(Range(closed, first)) or await self._settle_old(closed)

    async def _settle(self, offsets: Range) -> bool:
        """Settle the head's offsets in a range; returns if the head still has doubt."""
        while True:
            try:
                return await self._settle_once(offsets)
            except _LookAgain:
                # The copy that was to be the repair may have turned out to be bad, or its unit
                # be gone: another unit may hold a sound one.
                continue

    async def _settle_old(self, closed: Offset) -> bool:
        """Settle what the head lists as damaged below `closed`; returns if all of it is.

        Every offset there is decided, and the head, which has this layout, has named all that it
        cannot show. So nothing else has to be looked at: old entries are read from the disk to
        be compared, and there may be very many.
        """
        before: list[Offset] | None = None
        while True:
            listed, mark = await self._damaged(), self._context.state.trim_mark
            left = [o for o in listed if mark <= o < closed and self._is_headed(o)]
            if not left or left == before:
                return not left
            before = left
            try:
                await self._settle_listed(left)
            except _LookAgain:
                before = None

    async def _damaged(self) -> tuple[Offset, ...]:
        """Return the lowest offsets at which the head has damage now."""
        context, head = self._context, self._head
        backoff = Backoff(context)
        while True:
            scrub = Scrub(context.shell.new_request(), head.id, head.incarnation, start=False)
            reply = await context.ask(head.address, scrub, context.settings.seal_s)
            if isinstance(reply, ScrubIs):
                return reply.offsets
            await backoff.wait()

    def _is_headed(self, offset: Offset) -> bool:
        chain = self._layout.segment_of(offset).chain_of(offset)
        return bool(chain) and chain[0] == self._head.id

    async def _settle_listed(self, offsets: list[Offset]) -> None:
        """Settle single old offsets; neighbours are looked at together."""
        items: list[Resolution] = []
        at = 0
        while at < len(offsets):
            first = last = offsets[at]
            segment = self._layout.segment_of(first)
            step = len(segment.chains)
            while at < len(offsets) and offsets[at] - last <= step:
                last = offsets[at]
                if last - first >= BLOCK_OFFSETS or self._layout.segment_of(last) != segment:
                    break
                at += 1
            end = Offset(min(last + 1, first + BLOCK_OFFSETS, segment.end or OFFSET_MAX))
            found, _ = await self._look(segment, first % step, Range(first, end))
            items += found
        for start in range(0, len(items), _ITEMS_MAX):
            await self._resolve(items[start : start + _ITEMS_MAX], all_known=False)

    async def _settle_once(self, offsets: Range) -> bool:
        items: list[Resolution] = []
        for segment in self._layout.segments:
            part = parts(segment, offsets)
            for index, chain in enumerate(segment.chains):
                if not chain or chain[0] != self._head.id:
                    continue
                start = part.start
                while start < part.end:
                    end = min(part.end, Offset(start + BLOCK_OFFSETS))
                    found, start = await self._look(segment, index, Range(start, end))
                    items += found
                    while len(items) > _ITEMS_MAX:
                        await self._resolve(items[:_ITEMS_MAX], all_known=False)
                        del items[:_ITEMS_MAX]
        return await self._resolve(items, all_known=True)

    async def _look(
        self, segment: Segment, index: int, part: Range
    ) -> tuple[list[Resolution], Offset]:
        """Ask every unit of the chain about a range; returns up to where all have answered."""
        chain = [self._layout.unit(id_) for id_ in segment.chains[index]]
        answers = await asyncio.gather(*(self._inspect(unit, part) for unit in chain))
        end = min(answer.end for answer in answers)
        known = [{held.offset: held for held in answer.offsets} for answer in answers]
        step = len(segment.chains)
        closed_until = self._context.state.closed_until
        mark = max(self._context.state.trim_mark, *(answer.trim_mark for answer in answers))
        found: list[Resolution] = []
        start = max(part.start, mark)
        for number in range(start + (index - start) % step, end, step):
            offset = Offset(number)
            witnesses = [
                self._witness(unit, offset, held.get(offset))
                for unit, held in zip(chain, known, strict=True)
            ]
            settled = resolution(offset, witnesses, closed=offset < closed_until)
            if settled is not None:
                found.append(settled)
        return found, end

    def _witness(self, unit: Unit, offset: Offset, held: InspectedOffset | None) -> Witness:
        answer = self._sealed.get(unit.id)
        named = offset in self._named.get(unit.id, ())
        return Witness(unit, held, answer is not None and not answer.doubt, named)

    async def _inspect(self, unit: Unit, part: Range) -> Inspected:
        context = self._context
        backoff = Backoff(context)
        while True:
            inspect = Inspect(context.shell.new_request(), part.start, part.end)
            reply = await context.ask(unit.address, inspect, context.settings.seal_s)
            if (
                isinstance(reply, Inspected)
                # Silence is no answer, nor is one of another epoch: it could still change.
                and reply.epoch == self._layout.epoch
                and (reply.unit, reply.incarnation) == (unit.id, unit.incarnation)
                and reply.start == part.start < reply.end <= part.end
            ):
                return reply
            await backoff.wait()

    async def _resolve(self, items: list[Resolution], *, all_known: bool) -> bool:
        """Have the head apply resolutions; returns if it still has doubt.

        Raises:
            _LookAgain: It did not say that it has, several times.
        """
        context, head, epoch = self._context, self._head, self._layout.epoch
        lost = tuple(
            Range(item.offset, Offset(item.offset + 1))
            for item in items
            if item.state is State.LOST
        )
        if lost:
            context.log(f"ALARM: {len(lost)} offsets from {lost[0].start} on are LOST")
            outcome = await context.decide(DeclareLost(epoch, lost))
            if not outcome.accepted:
                context.log(f"ALARM: lost offsets cannot be declared: {outcome.reason}")
                return True
        backoff = Backoff(context)
        for _ in range(_RESOLVES_MAX):
            message = Resolve(
                context.shell.new_request(), epoch, head.id, head.incarnation,
                tuple(items), all_known,
            )  # fmt: skip
            reply = await context.ask(head.address, message, context.settings.seal_s)
            if isinstance(reply, Resolved) and (reply.unit, reply.incarnation) == (
                head.id,
                head.incarnation,
            ):
                return reply.doubt
            await backoff.wait()
        raise _LookAgain
