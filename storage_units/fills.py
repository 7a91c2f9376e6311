"""Fill at the head and FillList after it: settling offsets for ever."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from corfu.effects import Effect, Send
from corfu.messages import Fill, Filled, FillList, NotWritten, Reason
from corfu.types import OFFSET_MAX, Address, Epoch, Offset, Range, State

from .context import Context
from .copies import Copies, Wanted
from .fill_plan import HeadPlan, ListWork, list_is_sane, plan_at_head, work_of_list
from .names import HeldEntry
from .notices import Notices
from .standing import Seat


class Fills:
    """Settles offsets: with what the head holds, else with junk."""

    def __init__(self, context: Context, copies: Copies, notices: Notices) -> None:
        self._context = context
        self._copies = copies
        self._notices = notices

    def fill(self, message: Fill, sender: Address, now: float) -> list[Effect]:
        """Handle a Fill at the head: turn it into a list, store its junk, pass it on."""
        context = self._context
        refused = context.not_served(message, sender)
        if refused is not None:
            return refused
        start, end = message.offset, message.end
        if not start < end <= OFFSET_MAX or (message.only_if_written and end - start != 1):
            return context.refuse(message, Reason.MALFORMED, sender)
        seat = self._seat(message)
        if isinstance(seat, Reason):
            return context.refuse(message, seat, sender)
        # Rule "never at or above the window": an offset nobody could have been granted yet must
        # not be filled, or every append would find junk.
        if end > context.standing.window_end:
            return context.refuse(message, Reason.ABOVE_WINDOW, sender)
        if message.only_if_written and not seat.holds(start):
            return context.refuse(message, Reason.WRONG_UNIT, sender)
        return self._fill_at(message, seat, sender, now)

    def _seat(self, message: Fill) -> Seat | Reason:
        """Return the head's seat for the range, or why there is none."""
        standing = self._context.standing
        seat = standing.seat_of_range(message.offset, message.end)
        if seat is not None:
            return seat if seat.previous is None else Reason.WRONG_UNIT
        assert standing.layout is not None
        segment = standing.layout.segment_of(message.offset)
        one_segment = segment.end is None or message.end <= segment.end
        return Reason.WRONG_UNIT if one_segment else Reason.MALFORMED

    def _fill_at(self, message: Fill, seat: Seat, sender: Address, now: float) -> list[Effect]:
        context = self._context
        store = context.store
        if message.only_if_written and store.state_at_head(message.offset) is State.EMPTY:
            # A fact about the head at this moment; a write may come right after. It settles
            # nothing, so it is not called Filled.
            answer = NotWritten(message.request, message.epoch, message.offset)
            return [Send(sender, answer)]
        offsets_max = context.settings.fill_offsets_max
        plan = plan_at_head(store, seat, message.offset, message.end, offsets_max)
        if plan.unnamed:
            return self._load_first(message, plan.unnamed, sender, sender)
        if plan.end < message.end and plan.end <= seat.first(message.offset):
            # Damage at the very first offset: there is no shorter range to answer for.
            return context.refuse(message, Reason.DAMAGED, sender)
        if plan.empty:
            reason = self._cannot_store_junk(len(plan.empty))
            if reason is not None:
                return context.refuse(message, reason, sender)
            self._store_junk(plan.empty, seat, message.epoch)
        return _pass_list_on(message, seat, plan, sender)

    def fill_list(self, message: FillList, sender: Address, now: float) -> list[Effect]:
        """Handle a FillList: apply exactly the head's decision, then pass it on.

        Rule "it copies values it lacks, journals them, then the junk, and only then forwards or
        replies": a list alone would claim values that a crash, or a lost Forward, left out.
        """
        context, client = self._context, message.client
        refused = context.not_served(message, client)
        if refused is not None:
            return refused
        seat = context.standing.seat_of_range(message.offset, message.end)
        if seat is None or seat.previous is None or seat.previous != sender:
            return context.refuse(message, Reason.WRONG_UNIT, client)
        if not list_is_sane(seat, message):
            return context.refuse(message, Reason.MALFORMED, client)
        context.believe_window(message.end)
        if message.end > context.standing.window_end:
            return context.refuse(message, Reason.ABOVE_WINDOW, client)
        work = work_of_list(context.store, seat, message)
        if work.conflict is not None:
            context.freeze(work.conflict)
            return context.refuse(message, Reason.CONFLICT, client)
        if work.unnamed:
            return self._load_first(message, work.unnamed, sender, client)
        confirmed = self._notices.confirm(work.tentative)
        return [*confirmed, *self._apply(message, work, seat, sender, now)]

    def _apply(
        self, message: FillList, work: ListWork, seat: Seat, sender: Address, now: float
    ) -> list[Effect]:
        context, client = self._context, message.client
        if work.lacking or work.empty or work.lost:
            reason = self._cannot_store_junk(len(work.empty) + len(work.lost))
            if reason is not None:
                return context.refuse(message, reason, client)
        if work.lacking:
            if not context.store.has_completion_room(0):
                return context.refuse(message, context.no_room(), client)
            wanted = [Wanted(held.offset, held.entry_id, held.digest) for held in work.lacking]
            return self._copies.start(
                message.request,
                sender,
                message.epoch,
                wanted,
                # Anew, from the epoch on: a seal in between has dropped it.
                lambda later: self.fill_list(message, sender, later),
                now,
                reserve=False,
                no_room=lambda _: context.refuse(message, context.no_room(), client),
            )
        context.store.put_lost(Range(o, Offset(o + 1)) for o in work.lost)
        self._store_junk(work.empty, seat, message.epoch)
        return _pass_list_on(message, seat, message, client)

    def _cannot_store_junk(self, runs: int) -> Reason | None:
        context = self._context
        if context.standing.frozen:
            return Reason.CONFLICT
        # Junk may use the reserve: settling must go on when a full unit takes no entries.
        if not context.store.has_junk_room(runs):
            return context.no_room()
        return None

    def _store_junk(self, runs: Sequence[Range], seat: Seat, epoch: Epoch) -> None:
        for run in runs:
            self._context.store.put_junk(run, seat.step, epoch)

    def _load_first(
        self,
        message: Fill | FillList,
        offsets: Sequence[Offset],
        sender: Address,
        client: Address,
    ) -> list[Effect]:
        """Read the names of old entries, then handle the message anew."""
        context = self._context
        if context.loads.full:
            return context.refuse(message, Reason.BUSY, client)

        def then(_: Mapping[Offset, HeldEntry], later: float) -> list[Effect]:
            if isinstance(message, Fill):
                return self.fill(message, sender, later)
            return self.fill_list(message, sender, later)

        return context.loads.start(offsets, then)


def _pass_list_on(
    message: Fill | FillList, seat: Seat, decided: HeadPlan | FillList, client: Address
) -> list[Effect]:
    """Send the list to the next unit, or the answer to the asker; ordered, in its own epoch."""
    request, epoch, offset = message.request, message.epoch, message.offset
    end, junk, held = decided.end, decided.junk, decided.held
    if seat.next is None:
        if client == seat.chain[seat.index].address:
            # This unit had it asked for, to be mended; nobody waits for the answer.
            return []
        return [Send(client, Filled(request, epoch, offset, end, junk, held))]
    return [Send(seat.next, FillList(request, epoch, offset, end, client, junk, held))]
