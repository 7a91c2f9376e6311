"""Rebuilding: a unit gets the old entries of its chain, beside appends and reads.

The leader asks the chain what it holds, tells the new unit, compares what that then holds, and
records how far it has come in the replicated state: the next leader, or a unit that restarts, goes
on from there. Only what lies below closed_until is copied: above, the chain can still change, and
what was copied could miss a value.
"""

from __future__ import annotations

from functools import partial

from corfu.config import BLOCK_OFFSETS
from corfu.layout import Layout, Unit
from corfu.messages import (
    Inspect,
    Inspected,
    InspectedOffset,
    Reason,
    Rebuild,
    RebuildDone,
    RebuildItem,
    Refused,
)
from corfu.types import JUNK_ID, Digest, Offset, State, UnitId

from .commands import RecordRebuilt
from .context import Backoff, Context
from .planning import Rebuilding, rebuilds

_RECORD_OFFSETS = 16 * BLOCK_OFFSETS
"""After so many offsets it is recorded how far a rebuild has come."""

_FAILURES_MAX = 3
"""After so many failed attempts at a block in a row the others come first."""

_VALUES = (State.DATA, State.JUNK, State.LOST)

Held = dict[Offset, InspectedOffset]


def chosen_items(
    offsets: range, sources: list[tuple[Unit, Held]], lost: frozenset[Offset]
) -> tuple[RebuildItem, ...] | None:
    """Return what a chain holds at `offsets`, from units that hold it soundly.

    Returns None if no source holds one of them soundly: it waits until that is settled.
    """
    items: list[RebuildItem] = []
    for number in offsets:
        offset = Offset(number)
        if offset in lost:
            items.append(RebuildItem(offset, State.LOST, JUNK_ID, Digest(0), None))
            continue
        for unit, held in sources:
            found = held.get(offset)
            # What is tentative is given to nobody yet.
            if found is not None and found.state in _VALUES and not found.tentative:
                source = unit.address if found.state is State.DATA else None
                items.append(RebuildItem(offset, found.state, found.entry_id, found.digest, source))
                break
        else:
            return None
    return tuple(items)


def differences(items: tuple[RebuildItem, ...], held: Held) -> list[Offset]:
    """Return where a unit holds anything else than the items say."""
    return [
        item.offset
        for item in items
        if (found := held.get(item.offset)) is None
        or (found.state, found.entry_id, found.digest) != (item.state, item.entry_id, item.digest)
    ]


class Rebuilder:
    """Does the rebuilds of one epoch, one after the other, at a limited rate."""

    def __init__(self, context: Context, layout: Layout) -> None:
        self._context = context
        self._layout = layout
        self._told: set[tuple[UnitId, Offset]] = set()
        self._refused: Reason | None = None

    async def run(self) -> None:
        """Rebuild until nothing is left to copy; cancelled when the epoch ends."""
        context = self._context
        backoff = Backoff(context)
        # What is to be done changes only with the layout, and then another of these runs.
        while todo := [each for each in rebuilds(context.state) if each.reached < each.end]:
            moved, closed = False, context.state.closed_until
            for goal in todo:
                while (at := self._reached(goal)) < goal.end:
                    copied = await self._copy(goal, at, min(goal.end, Offset(at + _RECORD_OFFSETS)))
                    if copied is None:
                        return
                    moved |= copied
                    if not copied:
                        # Its source may be away for long: that holds up no other.
                        break
            if moved:
                backoff.reset()
            else:
                await backoff.wait(until=partial(self._closed_more, closed))

    def _closed_more(self, closed: Offset) -> bool:
        return self._context.state.closed_until > closed

    def _reached(self, goal: Rebuilding) -> Offset:
        place = (goal.unit, goal.start, goal.chain)
        for now in rebuilds(self._context.state):
            if (now.unit, now.start, now.chain) == place:
                return now.reached
        return goal.end

    async def _copy(self, goal: Rebuilding, start: Offset, end: Offset) -> bool | None:
        """Copy a part, then record it; False if that has to wait, None if the epoch is over."""
        context = self._context
        if context.state.closed_until < end:
            return False
        if (goal.unit.id, goal.start) not in self._told:
            self._told.add((goal.unit.id, goal.start))
            context.log(
                f"unit {goal.unit.id} is rebuilt from {start} to {goal.end}, "
                f"chain {'-'.join(str(id_) for id_ in goal.sources)}"
            )
        backoff = Backoff(context)
        failures = 0
        at = start
        while at < end:
            began = context.now()
            # What was trimmed meanwhile nobody holds any more.
            at = max(at, min(end, context.state.trim_mark))
            until = min(end, Offset(at + BLOCK_OFFSETS))
            copied = await self._piece(goal, at, until)
            if copied is None:
                failures += 1
                if failures >= _FAILURES_MAX:
                    return False
                await backoff.wait()
                continue
            failures = 0
            backoff.reset()
            at = until
            await self._rest(context.now() - began, copied)
        outcome = await context.decide(
            RecordRebuilt(
                self._layout.epoch, goal.unit.id, goal.unit.incarnation, start, end,
                goal.chains, goal.chain,
            )
        )  # fmt: skip
        if not outcome.accepted:
            context.log(f"a rebuild could not be recorded: {outcome.reason}")
        return True if outcome.accepted else None

    async def _rest(self, worked_s: float, copied_bytes: int) -> None:
        """Leave the greater part of every disk to those who append."""
        settings = self._context.settings
        share_s = worked_s / settings.rebuild_share - worked_s
        rate_s = copied_bytes / settings.rebuild_bytes_s - worked_s
        await self._context.shell.sleep(max(share_s, rate_s, 0.0))

    async def _piece(self, goal: Rebuilding, start: Offset, end: Offset) -> int | None:
        """Copy and compare one block; returns how many bytes were copied, None to try again."""
        context = self._context
        offsets = range(start + (goal.chain - start) % goal.chains, end, goal.chains)
        items = await self._items(goal, start, end, offsets)
        if items is None:
            return None
        message = Rebuild(
            context.shell.new_request(), self._layout.epoch, goal.unit.id, goal.unit.incarnation,
            context.state.trim_mark, context.state.closed_until, items,
        )  # fmt: skip
        reply = await context.ask(goal.unit.address, message, 5 * context.settings.seal_s)
        if isinstance(reply, Refused) and reply.reason is not self._refused:
            self._refused = reply.reason
            context.log(f"unit {goal.unit.id} refuses to be rebuilt: {reply.reason.name}")
        if not isinstance(reply, RebuildDone) or (reply.unit, reply.incarnation) != (
            goal.unit.id,
            goal.unit.incarnation,
        ):
            return None
        if not items:
            return reply.copied_bytes
        # What counts is what it says that it holds, read anew.
        answer = await self._inspect(goal.unit, start, end)
        if answer is None:
            return None
        held, mark = answer
        kept = tuple(item for item in items if item.offset >= mark)
        wrong = differences(kept, held)
        if wrong:
            context.log(f"unit {goal.unit.id} lacks {len(wrong)} offsets, the first {wrong[0]}")
            return None
        return reply.copied_bytes

    async def _items(
        self, goal: Rebuilding, start: Offset, end: Offset, offsets: range
    ) -> tuple[RebuildItem, ...] | None:
        if not offsets:
            return ()
        sources: list[tuple[Unit, Held]] = []
        lost = frozenset(
            Offset(offset)
            for each in self._context.state.lost
            for offset in range(max(start, each.start), min(end, each.end))
        )
        # One unit of the chain is enough, unless it has damage.
        for id_ in goal.sources:
            unit = self._layout.unit(id_)
            answer = await self._inspect(unit, start, end)
            if answer is None:
                continue
            held, mark = answer
            sources.append((unit, held))
            if mark > start:
                # Trimmed while it was asked: its entries are gone, and need not be copied.
                offsets = range(offsets.start + _up(mark - offsets.start, goal.chains), end,
                                goal.chains)  # fmt: skip
            items = chosen_items(offsets, sources, lost)
            if items is not None:
                return items
        return None

    async def _inspect(self, unit: Unit, start: Offset, end: Offset) -> tuple[Held, Offset] | None:
        """Return what a unit holds in a range, and its trim mark; None if it does not answer."""
        context = self._context
        held: Held = {}
        at, mark = start, Offset(0)
        while at < end:
            inspect = Inspect(context.shell.new_request(), at, end)
            reply = await context.ask(unit.address, inspect, context.settings.seal_s)
            if not isinstance(reply, Inspected) or reply.start != at or reply.end <= at:
                return None
            if (reply.unit, reply.incarnation) != (unit.id, unit.incarnation):
                return None
            held |= {each.offset: each for each in reply.offsets}
            at, mark = reply.end, max(mark, reply.trim_mark)
        return held, mark


def _up(distance: int, step: int) -> int:
    """Return the least multiple of `step` that is at least `distance` (and at least 0)."""
    return max(0, -(-distance // step) * step)
