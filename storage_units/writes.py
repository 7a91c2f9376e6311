"""Write at the head and Forward after it: one entry, stored and passed down the chain.

CORFU (NSDI 2012, section 3) lets clients walk the chain; here units forward, as in chain
replication (OSDI 2004), and the tail unit answers the client.
"""

from __future__ import annotations

from collections.abc import Mapping

from corfu.config import ENTRY_BYTES_MAX
from corfu.effects import Effect, Send
from corfu.messages import Forward, Reason, Write, Written
from corfu.types import JUNK_ID, OFFSET_MAX, Address, Offset, State

from .context import Context
from .names import HeldEntry, Name, entry_digest
from .notices import Notices
from .standing import Seat
from .tentative import TentativeEntry, Waiter


class Writes:
    """Stores entries that arrive by Write or Forward."""

    def __init__(self, context: Context, notices: Notices) -> None:
        self._context = context
        self._notices = notices

    def write(self, message: Write, sender: Address, now: float) -> list[Effect]:
        """Handle a Write: the head decides."""
        context = self._context
        refused = context.not_served(message, sender)
        if refused is not None:
            return refused
        standing, offset = context.standing, message.offset
        if message.entry_id == JUNK_ID or not _sane(offset, message.entry):
            return context.refuse(message, Reason.MALFORMED, sender)
        seat = standing.seat_of(offset)
        if seat is None or seat.previous is not None:
            return context.refuse(message, Reason.WRONG_UNIT, sender)
        assert standing.layout is not None
        # Rule "a head refuses Write below T": a token is used in its own epoch only, so an older
        # offset here is a client's mistake. Older offsets change by fills alone; a writer that
        # settles by fill could otherwise be told junk first and find its entry stored later.
        if offset < standing.layout.first_offset:
            return context.refuse(message, Reason.BELOW_FIRST_OFFSET, sender)
        context.believe_window(message.window_end)
        # Rule "units refuse offsets at or above the window": one stray offset would count as the
        # local tail and look as if the sequencer had lost its state.
        if offset >= standing.window_end:
            return context.refuse(message, Reason.ABOVE_WINDOW, sender)
        return self._write_at(message, seat, sender, now)

    def _write_at(self, message: Write, seat: Seat, sender: Address, now: float) -> list[Effect]:
        context, offset = self._context, message.offset
        store = context.store
        match store.state_at_head(offset):
            case State.EMPTY:
                reason = self._cannot_store(message.entry, at_head=True)
                if reason is not None:
                    return context.refuse(message, reason, sender)
                digest = entry_digest(message.entry)
                store.put_data(offset, message.epoch, message.entry_id, digest, message.entry)
                return self._pass_fresh(message, seat, sender)
            case State.DATA:
                name = store.name(offset)
                if name is None:
                    return self._load_first(message, sender, now)
                if name.entry_id != message.entry_id:
                    # Rule "the head decides": the first value it makes durable is the only one.
                    return context.already(message, sender, name.entry_id, State.DATA)
                if name.digest != entry_digest(message.entry):
                    context.log(
                        f"ALARM: entry {name.entry_id.hex()} at {offset} came with two contents"
                    )
                    return context.refuse(message, Reason.CONFLICT, sender)
                # The same entry again is a retransmission: what was lost on the way down is sent
                # again. If the record still waits for its fsync, so does this (ordered).
                return _pass_on(message, seat, sender)
            case State.JUNK | State.TRIMMED | State.LOST as state:
                return context.already(message, sender, JUNK_ID, state)
            case State.DAMAGED:
                # Whatever stood here may have been acknowledged: nothing is stored or forwarded
                # before the damage is repaired or settled.
                return context.refuse(message, Reason.DAMAGED, sender)

    def forward(self, message: Forward, sender: Address, now: float) -> list[Effect]:
        """Handle a Forward: store what the head decided.

        Refusals go to the client, who owns every retry.
        """
        context, client = self._context, message.client
        refused = context.not_served(message, client)
        if refused is not None:
            return refused
        standing, offset = context.standing, message.offset
        if message.entry_id == JUNK_ID or not _sane(offset, message.entry):
            return context.refuse(message, Reason.MALFORMED, client)
        seat = standing.seat_of(offset)
        # Only the unit before it in the chain of this very layout speaks for the head.
        if seat is None or seat.previous is None or seat.previous != sender:
            return context.refuse(message, Reason.WRONG_UNIT, client)
        assert standing.layout is not None
        if offset < standing.layout.first_offset:
            return context.refuse(message, Reason.BELOW_FIRST_OFFSET, client)
        context.believe_window(Offset(offset + 1))
        if offset >= standing.window_end:
            return context.refuse(message, Reason.ABOVE_WINDOW, client)
        return self._forward_at(message, seat, sender, now)

    def _forward_at(
        self, message: Forward, seat: Seat, sender: Address, now: float
    ) -> list[Effect]:
        context, offset, client = self._context, message.offset, message.client
        store = context.store
        tentative = store.tentative.get(offset)
        if tentative is not None:
            return self._forward_again(message, tentative, seat)
        durable_above = message.durable_above or self._notices.was_announced(
            offset, message.entry_id
        )
        if not durable_above and store.state(offset) is not State.DATA:
            return self._take_tentative(message, seat)
        match store.state(offset):
            case State.EMPTY | State.DAMAGED:
                # Rule "the forwarded value is the repair": what a unit holds every unit before it
                # holds durably, so whatever this unit held and cannot read was the same value, or
                # was never acknowledged.
                reason = self._cannot_store(message.entry, at_head=False)
                if reason is not None:
                    return context.refuse(message, reason, client)
                digest = entry_digest(message.entry)
                store.put_data(offset, message.epoch, message.entry_id, digest, message.entry)
                return self._pass_fresh(message, seat, client)
            case State.DATA:
                name = store.name(offset)
                if name is None:
                    return self._load_first(message, sender, now)
                if _same(name, message):
                    return _pass_on(message, seat, client)
                if not durable_above:
                    # Rule "a late unflagged forward is ignored": it claims nothing.
                    return []
                context.freeze(f"{offset} holds {name.entry_id.hex()}, forwarded was another")
                return context.refuse(message, Reason.CONFLICT, client)
            case State.JUNK:
                context.freeze(f"{offset} holds junk, forwarded was {message.entry_id.hex()}")
                return context.refuse(message, Reason.CONFLICT, client)
            case State.TRIMMED | State.LOST as state:
                # Decided since the head sent it: for the client its fate is no longer told.
                return context.already(message, client, JUNK_ID, state)

    def _take_tentative(self, message: Forward, seat: Seat) -> list[Effect]:
        """Store an entry that a unit above may still lose; pass it on as such.

        Rule "tentative": it shows nowhere and answers nobody before the notice has come. Where
        anything but EMPTY stands it is no use: damage is repaired by what is certain, and what
        is settled stays.
        """
        context, offset, client = self._context, message.offset, message.client
        if context.store.state(offset) is not State.EMPTY:
            return []
        reason = self._cannot_store(message.entry, at_head=False)
        if reason is not None:
            return context.refuse(message, reason, client)
        digest = entry_digest(message.entry)
        name = Name(message.entry_id, digest, len(message.entry))
        waiter = Waiter(message.request, client, seat)
        context.store.put_tentative(offset, message.epoch, name, message.entry, waiter)
        return [] if seat.next is None else [self._notices.forward_at_once(message, seat, client)]

    def _forward_again(
        self, message: Forward, tentative: TentativeEntry, seat: Seat
    ) -> list[Effect]:
        """Take the Forward of what is tentative here: sent again, and perhaps certain by now."""
        context, offset, client = self._context, message.offset, message.client
        if not _same(tentative.name, message):
            # Writes to an offset are of one epoch, in which the head decides once.
            context.freeze(f"{offset} holds {tentative.name.entry_id.hex()}, forwarded was another")
            return context.refuse(message, Reason.CONFLICT, client)
        tentative.waiter = Waiter(message.request, client, seat)
        if message.durable_above:
            effects = self._notices.confirm([offset])
            # Further down the first Forward may be missing: it goes again, once durable here.
            return effects if seat.next is None else [*effects, *_pass_on(message, seat, client)]
        return [] if seat.next is None else [self._notices.forward_at_once(message, seat, client)]

    def _pass_fresh(self, message: Write | Forward, seat: Seat, client: Address) -> list[Effect]:
        """Pass on what was stored just now and is durable above, at once if that is wanted."""
        if seat.next is None or not self._context.settings.parallel_persist:
            return _pass_on(message, seat, client)
        self._notices.owe(message, seat)
        return [self._notices.forward_at_once(message, seat, client)]

    def _cannot_store(self, entry: bytes, *, at_head: bool) -> Reason | None:
        """Return why a new entry cannot be stored, None if it can."""
        context = self._context
        store = context.store
        if context.standing.frozen:
            return Reason.CONFLICT
        backlog = store.memory.uncommitted_bytes
        if backlog and backlog + len(entry) > context.settings.backlog_bytes_max:
            return Reason.BUSY
        # Rule "writes are refused one journal file early": junk, seals, installs and trim marks
        # must still fit when entries do not, or a full unit could never be made less full.
        size = len(entry)
        fits = store.has_room(size, reserve=False)
        if not (fits or (not at_head and store.has_completion_room(size))):
            return context.no_room() if store.fits(len(entry)) else Reason.MALFORMED
        return None

    def _load_first(self, message: Write | Forward, sender: Address, now: float) -> list[Effect]:
        """Read the name of the old entry at the message's offset, then handle it anew.

        Anew, from the epoch on: as if it had only come now.
        """
        context = self._context
        if context.loads.full:
            to = sender if isinstance(message, Write) else message.client
            return context.refuse(message, Reason.BUSY, to)

        def then(_: Mapping[Offset, HeldEntry], later: float) -> list[Effect]:
            if isinstance(message, Write):
                return self.write(message, sender, later)
            return self.forward(message, sender, later)

        return context.loads.start([message.offset], then)


def _sane(offset: Offset, entry: bytes) -> bool:
    return offset < OFFSET_MAX and len(entry) <= ENTRY_BYTES_MAX


def _same(name: Name, message: Forward) -> bool:
    return name.entry_id == message.entry_id and name.digest == entry_digest(message.entry)


def _pass_on(message: Write | Forward, seat: Seat, client: Address) -> list[Effect]:
    """Send the entry to the next unit, or the answer to the client.

    Rule "a request ends in the epoch that admitted it": both carry the message's epoch and
    follow the seat of that epoch's layout. Ordered: they leave when the record is durable here,
    so what a unit holds, every unit before it holds durably, and the Forward may say so.
    """
    request, epoch, offset, entry_id = (
        message.request,
        message.epoch,
        message.offset,
        message.entry_id,
    )
    if seat.next is None:
        return [Send(client, Written(request, epoch, offset, entry_id))]
    forward = Forward(request, epoch, offset, entry_id, client, message.entry)
    return [Send(seat.next, forward)]
