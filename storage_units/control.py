"""Seal, Install, TrimTo, Probe: how the sequencer moves a unit from epoch to epoch."""

from __future__ import annotations

from collections.abc import Callable

from corfu.effects import Effect, Send
from corfu.layout import Layout, problems
from corfu.messages import (
    Install,
    Installed,
    Probe,
    Probed,
    Reason,
    Rebuild,
    Refused,
    Resolve,
    Scrub,
    Seal,
    Sealed,
    SilentUnit,
    Trimmed,
    TrimTo,
)
from corfu.types import Address, Offset, SyncMode

from .context import Context
from .records import layout_record, seal_record

_BLOCKS_MAX = 6000
"""Most blocks in one Sealed: some 6 M offsets above closed_until, and it still fits a message."""

ControlRequest = Seal | Install | TrimTo | Probe | Resolve | Rebuild | Scrub


class Control:
    """Takes orders from the sequencer; each is durable before it is answered."""

    def __init__(
        self,
        context: Context,
        *,
        on_seal: Callable[[], list[Effect]],
        on_install: Callable[[float], None],
        silent: Callable[[float], tuple[SilentUnit, ...]],
    ) -> None:
        """Take the parts to tell.

        Args:
            context: What all handlers share.
            on_seal: Ends what waits in the old epoch; returns the answers.
            on_install: Told that the layout is another one.
            silent: Which next units do not answer pings.
        """
        self._context = context
        self._on_seal = on_seal
        self._on_install = on_install
        self._silent = silent

    def misdirected(self, message: ControlRequest, sender: Address) -> list[Effect] | None:
        """Return the refusal of an order for another unit or incarnation; None if it is for us.

        A wiped and newly formatted folder at the old address must not be sealed into the place
        of the one that held the data.
        """
        standing = self._context.standing
        if (message.unit, message.incarnation) == (standing.unit, standing.incarnation):
            return None
        return self.refuse(message, Reason.WRONG_INCARNATION, sender)

    def refuse(self, message: ControlRequest, reason: Reason, sender: Address) -> list[Effect]:
        """Return a refusal that tells the own epoch."""
        sealed = self._context.standing.sealed
        return [Send(sender, Refused(message.request, sealed, Offset(0), reason))]

    def seal(self, message: Seal, sender: Address) -> list[Effect]:
        """Handle a Seal: refuse every older epoch for ever.

        It stands in the same queue as Writes: what was admitted before it is in the journal
        before it, so `Sealed` leaves only when that is durable, too, and lists it.
        """
        context = self._context
        standing, store = context.standing, context.store
        if message.epoch < standing.sealed:
            return self.refuse(message, Reason.STALE_EPOCH, sender)
        # Rule "a unit that lost state is never sealed forward": were its epoch raised here, the
        # next seal could not tell any more that its folder is an old copy. Every Seal sent since
        # the recorded one was activated says so again, and the answer stays the same.
        if standing.sealed < message.sealed_for:
            context.log(
                f"ALARM: this folder knows epoch {standing.sealed} only, but the unit was sealed "
                f"for {message.sealed_for}: it is an old copy, and is not served"
            )
            return self.refuse(message, Reason.LOST_STATE, sender)
        if not store.has_order_room(2 + len(message.lost)):
            return self.refuse(message, context.no_room(), sender)
        effects: list[Effect] = []
        if message.epoch > standing.sealed:
            standing.epoch_before, standing.sealed = standing.sealed, message.epoch
            store.put_other(seal_record(standing.sealed, standing.epoch_before))
            # Requests admitted and stored still forward and reply in their own epoch. What only
            # waits (held reads, fills that lack values) has changed nothing and ends here.
            effects = self._on_seal()
        # Else the same Seal again: the same answer, with the epoch held before its first. That
        # holds after a restart as well; but what the process served of this epoch before, it
        # does not serve again (`Standing.serving`).
        store.raise_marks(message.trim_mark, message.closed_until)
        store.put_lost(message.lost)
        sealed = Sealed(
            message.request,
            standing.sealed,
            standing.unit,
            standing.incarnation,
            standing.epoch_before,
            store.local_tail,
            standing.trim_mark,
            standing.closed_until,
            store.blocks(_BLOCKS_MAX),
            store.suspicion.unknown,
        )
        return [*effects, Send(sender, sealed)]

    def install(self, message: Install, sender: Address, now: float) -> list[Effect]:
        """Handle an Install: the activated layout of exactly the sealed epoch."""
        context = self._context
        standing, store = context.standing, context.store
        layout = message.layout
        reason = self._cannot_install(layout)
        if reason is not None:
            return self.refuse(message, reason, sender)
        if not store.has_order_room(4 + len(message.lost)):
            return self.refuse(message, context.no_room(), sender)
        if not standing.installed:
            record = layout_record(layout)
            if not store.has_room(len(record.body), reserve=True):
                return self.refuse(message, context.no_room(), sender)
            standing.take_layout(layout)
            store.index.expect_step(standing.step)
            store.put_other(record)
            store.bound_doubt(layout.first_offset)
            self._on_install(now)
        standing.window_end = max(standing.window_end, message.window_end)
        store.raise_marks(message.trim_mark, message.closed_until)
        store.put_lost(message.lost)
        store.gaps.begin()
        installed = Installed(message.request, standing.sealed, standing.unit, standing.incarnation)
        return [Send(sender, installed)]

    def _cannot_install(self, layout: Layout) -> Reason | None:
        standing = self._context.standing
        if layout.cluster != standing.cluster or problems(layout):
            return Reason.MALFORMED
        if layout.epoch != standing.sealed:
            return Reason.STALE_EPOCH
        # An acknowledgement promises what the layout says; this folder cannot keep more than
        # it was formatted for.
        if layout.sync is SyncMode.ALWAYS and standing.sync is not SyncMode.ALWAYS:
            return Reason.SYNC_MODE
        if standing.installed:
            assert standing.layout is not None
            if layout.digest() != standing.layout.digest():
                self._context.log(f"ALARM: a second, different layout of epoch {layout.epoch} came")
                return Reason.OTHER_LAYOUT
        return None

    def trim(self, message: TrimTo, sender: Address) -> list[Effect]:
        """Handle a TrimTo: raise the trim mark, durably; then free files."""
        context = self._context
        standing, store = context.standing, context.store
        if not store.has_mark_room():
            return self.refuse(message, context.no_room(), sender)
        store.raise_marks(message.mark, message.closed_until)
        # A file that was finished just now is not left to the next housekeeping: the answer is to
        # say whether it will be freed.
        store.files.drain_finished()
        store.reclaim()
        journal = store.journal
        trimmed = Trimmed(
            message.request, standing.unit, standing.incarnation, standing.trim_mark,
            journal.freed_files, journal.freed_bytes, store.freeing,
        )  # fmt: skip
        return [Send(sender, trimmed)]

    def probe(self, message: Probe, sender: Address, now: float) -> list[Effect]:
        """Handle a Probe. Ordered like any reply, so a disk that hangs does not look alive."""
        context = self._context
        standing, store = context.standing, context.store
        if store.has_mark_room():
            store.raise_marks(message.trim_mark, message.closed_until)
        standing.window_end = max(standing.window_end, message.window_end)
        probed = Probed(
            message.request,
            standing.unit,
            standing.incarnation,
            standing.sealed,
            standing.installed,
            standing.restarted,
            self.in_doubt(),
            standing.frozen,
            store.local_tail,
            standing.trim_mark,
            standing.closed_until,
            standing.window_end,
            store.journal.room(reserve=False) + context.free_bytes,
            standing.sync,
            self._silent(now),
        )
        return [Send(sender, probed)]

    def in_doubt(self) -> bool:
        """Tell whether this unit is the head for something damaged or doubtful.

        Only a head's doubt needs a new epoch: at a later unit the forwarded value is the repair.
        """
        standing, suspicion = self._context.standing, self._context.store.suspicion
        heads = [seat for seat in standing.seats if seat.previous is None]
        if suspicion.unknown and heads:
            return True
        return any(seat.holds(offset) for offset in suspicion.named for seat in heads)
