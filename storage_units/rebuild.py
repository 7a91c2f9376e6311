"""Rebuild: a unit takes over what a chain holds that it does not stand in yet.

What the folder held before, under an earlier incarnation, is only a hint that saves copying: every
offset is compared by id and digest with what the chain holds, and what differs is replaced.
"""

from __future__ import annotations

from collections.abc import Mapping

from corfu.effects import Effect, Send
from corfu.messages import Reason, Rebuild, RebuildDone, RebuildItem, Refused, WrongEpoch
from corfu.types import Address, Offset, Range, State

from .context import Context
from .copies import Copies, Wanted
from .names import HeldEntry


class Rebuilds:
    """Makes what is held equal to what the leader lists."""

    def __init__(self, context: Context, copies: Copies) -> None:
        self._context = context
        self._copies = copies

    def rebuild(
        self, message: Rebuild, sender: Address, now: float, copied: int = 0
    ) -> list[Effect]:
        """Handle a Rebuild; answered when all of it is durable here."""
        context = self._context
        store, standing = context.store, context.standing
        if message.epoch != standing.sealed or not standing.serving:
            return [Send(sender, WrongEpoch(message.request, standing.sealed, Offset(0)))]
        # Where the unit has a seat its chain has decided with it, and nothing is ever replaced.
        if any(standing.seat_of(item.offset) is not None for item in message.items):
            return self._refuse(message, Reason.WRONG_UNIT, sender)
        # Old chains lie below T of the layout that is installed here, and T below the window.
        if any(item.offset >= standing.window_end for item in message.items):
            return self._refuse(message, Reason.ABOVE_WINDOW, sender)
        if not store.has_junk_room(2 + len(message.items)):
            return self._refuse(message, context.no_room(), sender)
        if self._copies.busy(message.request, now):
            return []
        store.raise_marks(message.trim_mark, message.closed_until)
        unnamed = [item.offset for item in message.items if self._must_look(item)]
        if unnamed:
            return self._load_first(message, unnamed, sender, copied)
        wanted: dict[Address, list[Wanted]] = {}
        for item in message.items:
            self._take(item, message, wanted)
        if not wanted:
            done = RebuildDone(message.request, standing.unit, standing.incarnation, copied)
            return [Send(sender, done)]
        source, values = next(iter(wanted.items()))

        def then(later: float) -> list[Effect]:
            size = sum(store.length_bound(value.offset) for value in values)
            return self.rebuild(message, sender, later, copied + size)

        return self._copies.start(
            message.request, source, message.epoch, values, then, now, reserve=False, replace=True
        )

    def _refuse(self, message: Rebuild, reason: Reason, sender: Address) -> list[Effect]:
        sealed = self._context.standing.sealed
        return [Send(sender, Refused(message.request, sealed, Offset(0), reason))]

    def _must_look(self, item: RebuildItem) -> bool:
        """Tell whether the name of what is held must be read from disk, to compare it."""
        store = self._context.store
        held = item.state is State.DATA and store.state(item.offset) is State.DATA
        return held and store.name(item.offset) is None

    def _load_first(
        self, message: Rebuild, offsets: list[Offset], sender: Address, copied: int
    ) -> list[Effect]:
        if self._context.loads.full:
            return self._refuse(message, Reason.BUSY, sender)

        def then(_: Mapping[Offset, HeldEntry], later: float) -> list[Effect]:
            return self.rebuild(message, sender, later, copied)

        return self._context.loads.start(offsets, then)

    def _take(
        self, item: RebuildItem, message: Rebuild, wanted: dict[Address, list[Wanted]]
    ) -> None:
        store, offset = self._context.store, item.offset
        state = store.state(offset)
        if state in (State.TRIMMED, State.LOST):
            return
        here = Range(offset, Offset(offset + 1))
        match item.state:
            case State.LOST:
                store.put_lost([here])
            case State.JUNK:
                if state is not State.JUNK:
                    store.put_junk(here, 1, message.epoch)
            case State.DATA if item.source is not None:
                name = store.name(offset) if state is State.DATA else None
                if name is None or name[:2] != (item.entry_id, item.digest):
                    value = Wanted(offset, item.entry_id, item.digest)
                    wanted.setdefault(item.source, []).append(value)
            case _:
                # No chain holds anything else; the comparison afterwards would show it.
                pass
