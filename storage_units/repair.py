"""Inspect and Resolve: what a unit holds, told to others; and how a head's doubt is settled."""

from __future__ import annotations

from collections.abc import Mapping

from corfu.config import HELD_MAX
from corfu.effects import Effect, Send
from corfu.messages import (
    Inspect,
    Inspected,
    InspectedOffset,
    Reason,
    Refused,
    Resolution,
    Resolve,
    Resolved,
    WrongEpoch,
)
from corfu.types import OFFSET_MAX, Address, Offset, Range, State

from .context import Context
from .control import Control
from .copies import Copies, Wanted
from .names import JUNK_NAME, HeldEntry


class Repair:
    """Tells what is held, and takes the leader's verdicts on what is damaged or in doubt."""

    def __init__(self, context: Context, control: Control, copies: Copies) -> None:
        self._context = context
        self._control = control
        self._copies = copies

    def inspect(self, message: Inspect, sender: Address) -> list[Effect]:
        """Handle an Inspect, in any epoch: all that is known of up to 1,024 offsets."""
        context = self._context
        store, standing = context.store, context.standing
        if not message.start < message.end <= OFFSET_MAX:
            return self._refuse_inspect(message, Reason.MALFORMED, sender)
        end = Offset(min(message.end, message.start + HELD_MAX))
        listed: list[InspectedOffset] = []
        unnamed: list[Offset] = []
        for number in range(message.start, end):
            offset = Offset(number)
            tentative = store.tentative.get(offset)
            if tentative is not None:
                listed.append(InspectedOffset(offset, State.DATA, *tentative.name, tentative=True))
                continue
            state = store.state(offset)
            if state is State.EMPTY or state is State.TRIMMED:
                continue
            if state is State.DAMAGED and self._unheard_of(offset):
                continue
            name = JUNK_NAME
            if state is State.DATA:
                known = store.name(offset)
                if known is None:
                    unnamed.append(offset)
                    continue
                name = known
            elif state is State.DAMAGED:
                name = store.suspect(offset) or JUNK_NAME
            listed.append(InspectedOffset(offset, state, *name))
        if unnamed:
            return self._load_first(message, unnamed, sender)
        inspected = Inspected(
            message.request,
            standing.unit,
            standing.incarnation,
            standing.sealed,
            message.start,
            end,
            standing.trim_mark,
            tuple(listed),
        )
        return [Send(sender, inspected)]

    def _unheard_of(self, offset: Offset) -> bool:
        """Tell whether an offset counts as damaged only because it lies below closed_until.

        If it is another chain's, there is nothing to say about it.
        """
        store = self._context.store
        if store.index.get(offset) or offset in store.suspicion.named:
            return False
        return self._context.standing.seat_of(offset) is None

    def _load_first(self, message: Inspect, offsets: list[Offset], sender: Address) -> list[Effect]:
        if self._context.loads.full:
            return self._refuse_inspect(message, Reason.BUSY, sender)

        def then(_: Mapping[Offset, HeldEntry], __: float) -> list[Effect]:
            return self.inspect(message, sender)

        return self._context.loads.start(offsets, then)

    def _refuse_inspect(self, message: Inspect, reason: Reason, sender: Address) -> list[Effect]:
        sealed = self._context.standing.sealed
        return [Send(sender, Refused(message.request, sealed, message.start, reason))]

    def resolve(self, message: Resolve, sender: Address, now: float) -> list[Effect]:
        """Handle a Resolve: settle damage and doubt of this head by the leader's verdicts.

        Only at the epoch that the restart caused, sealed and installed: then no forward or fill
        of an older epoch is under way that could still change what the other units answered.
        """
        context = self._context
        standing = context.standing
        if message.epoch != standing.sealed or not standing.serving:
            return [Send(sender, WrongEpoch(message.request, standing.sealed, Offset(0)))]
        if any(not self._is_head_for(item.offset) for item in message.items):
            return self._control.refuse(message, Reason.WRONG_UNIT, sender)
        # A verdict is about what was granted before this epoch. It opens no way either to offsets
        # that nobody was granted: the local tail would look as if the sequencer lost its state.
        if any(item.offset >= standing.window_end for item in message.items):
            return self._control.refuse(message, Reason.ABOVE_WINDOW, sender)
        if not context.store.has_order_room(1 + len(message.items)):
            return self._control.refuse(message, context.no_room(), sender)
        wanted: dict[Address, list[Wanted]] = {}
        for item in message.items:
            reason = self._settle(item, message, wanted)
            if reason is not None:
                return self._control.refuse(message, reason, sender)
        if wanted:
            # One source after the other; the rest when the message is handled anew.
            source, values = next(iter(wanted.items()))
            return self._copies.start(
                message.request,
                source,
                message.epoch,
                values,
                lambda later: self.resolve(message, sender, later),
                now,
                reserve=True,
            )
        if message.all_known:
            # Every sound value of the chain is here now, so what could not be named was one of
            # them, or was never acknowledged.
            context.store.settle_unknown()
        doubt = self._control.in_doubt()
        resolved = Resolved(message.request, standing.unit, standing.incarnation, doubt)
        return [Send(sender, resolved)]

    def _is_head_for(self, offset: Offset) -> bool:
        seat = self._context.standing.seat_of(offset)
        return seat is not None and seat.previous is None

    def _settle(
        self, item: Resolution, message: Resolve, wanted: dict[Address, list[Wanted]]
    ) -> Reason | None:
        """Apply one verdict, or note what must be copied for it; returns why it cannot be."""
        context = self._context
        store, offset = context.store, item.offset
        state = store.state_at_head(offset)
        sound = state in (State.DATA, State.JUNK)
        match item.state:
            case _ if state in (State.TRIMMED, State.LOST):
                return None
            case State.LOST:
                store.put_lost([Range(offset, Offset(offset + 1))])
            case State.EMPTY:
                # Below closed_until it was decided, so it cannot have been empty. And what is
                # sound here is the head's decision, which nobody else's EMPTY can undo.
                if not sound and offset >= context.standing.closed_until:
                    store.settle_empty(offset)
            case State.JUNK:
                if not sound:
                    run = Range(offset, Offset(offset + 1))
                    store.put_junk(run, 1, message.epoch)
            case State.DATA:
                if item.source is None:
                    return Reason.MALFORMED
                if not sound:
                    value = Wanted(offset, item.entry_id, item.digest)
                    wanted.setdefault(item.source, []).append(value)
                    return None
                name = store.name(offset)
                if name is not None and name[:2] != (item.entry_id, item.digest):
                    context.freeze(f"{offset} is held, and another unit holds another value")
                    return Reason.CONFLICT
            case State.TRIMMED | State.DAMAGED:
                return Reason.MALFORMED
        return None
