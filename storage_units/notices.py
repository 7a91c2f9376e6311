"""What goes down the chain once entries are durable here: notices, and at its end the answers.

With parallel persistence an entry is forwarded before it is durable; the word that it is follows,
one `Durable` per group commit. Nothing is repeated: a lost notice is made good by the Forward of a
retransmitted Write, which says what is true then, or by the fill that settles the offset.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

from corfu.config import NOTICE_ENTRIES_MAX
from corfu.effects import Effect, Send
from corfu.messages import Durable, Forward, Write, Written
from corfu.types import Address, EntryId, Epoch, Offset

from .context import Context
from .copies import Copies
from .standing import Seat
from .tentative import TentativeEntry, Waiter

_ANNOUNCED_MAX = 4096
"""Notices that came before their entries, kept; the oldest gives way."""

_Noted = tuple[Address, Epoch, Offset, EntryId]
"""Whom to tell, and what."""


class Notices:
    """Takes the notices of the unit above, and owes those that follow from them."""

    def __init__(self, context: Context, copies: Copies) -> None:
        self._context = context
        self._copies = copies
        # By the commit that they wait for.
        self._owed: dict[int, list[_Noted | Send]] = {}
        self._announced: OrderedDict[Offset, EntryId] = OrderedDict()

    def forward_at_once(self, message: Write | Forward, seat: Seat, client: Address) -> Send:
        """Return the Forward of an entry that is not known to be durable here and above."""
        assert seat.next is not None
        forward = Forward(
            message.request,
            message.epoch,
            message.offset,
            message.entry_id,
            client,
            message.entry,
            durable_above=False,
        )
        # It says nothing that a crash could take back: the receiver counts on it for nothing.
        return Send(seat.next, forward, ordered=False)

    def owe(self, message: Write | Forward, seat: Seat) -> None:
        """Tell the next unit when the entry stored just now, durable above, is durable here."""
        assert seat.next is not None
        commit = self._context.store.journal.commits_begun
        noted = (seat.next, message.epoch, message.offset, message.entry_id)
        self._owed.setdefault(commit, []).append(noted)

    def was_announced(self, offset: Offset, entry_id: EntryId) -> bool:
        """Tell, once, whether the notice of an entry came before the entry."""
        if self._announced.get(offset) != entry_id:
            return False
        del self._announced[offset]
        return True

    def take(self, message: Durable, sender: Address) -> list[Effect]:
        """Handle a notice of the unit above.

        One of another epoch, or from elsewhere, is nobody's word; there is nobody to answer.
        """
        context = self._context
        standing, store = context.standing, context.store
        if context.not_served(message, sender) is not None:
            return []
        confirmed: list[tuple[Offset, TentativeEntry]] = []
        for offset, entry_id in message.entries:
            seat = standing.seat_of(offset)
            if seat is None or seat.previous != sender:
                continue
            entry = store.tentative.get(offset)
            if entry is None:
                self._announce(offset, entry_id)
            elif entry.name.entry_id == entry_id:
                confirmed.append((offset, store.confirm(offset)))
        return self._pass_on(confirmed)

    def confirm(self, offsets: Iterable[Offset]) -> list[Effect]:
        """Hold tentative entries: not a notice, but a list or a Forward, says that they may be."""
        store = self._context.store
        return self._pass_on([(offset, store.confirm(offset)) for offset in offsets])

    def durable(self) -> list[Effect]:
        """Return what is owed for the commits that are done."""
        done = self._context.store.journal.commits_done
        noted: list[_Noted] = []
        effects: list[Effect] = []
        for commit in sorted(commit for commit in self._owed if commit < done):
            for owed in self._owed.pop(commit):
                if isinstance(owed, Send):
                    effects.append(owed)
                else:
                    noted.append(owed)
        return [*self._notices(noted), *effects]

    def sealed(self) -> None:
        """Forget what belongs to the epoch that ends; what is tentative stays so.

        What is owed goes out all the same: a request ends in the epoch that admitted it, and a
        unit that is sealed does not listen to it.
        """
        self._announced.clear()
        self._context.store.tentative.end_waiting()

    def installed(self) -> None:
        """Hold what is tentative where the new layout makes this unit the head.

        It has no unit above: what it holds of the old chain is what the chain holds. Nobody was
        shown another value, for that one would be here, too.
        """
        context = self._context
        standing, store = context.standing, context.store
        if not standing.serving:
            return
        for offset in sorted(store.tentative.entries):
            seat = standing.seat_of(offset)
            if seat is not None and seat.previous is None:
                store.confirm(offset)
        store.record_confirmed()

    def _announce(self, offset: Offset, entry_id: EntryId) -> None:
        self._announced[offset] = entry_id
        if len(self._announced) > _ANNOUNCED_MAX:
            self._announced.popitem(last=False)

    def _pass_on(self, confirmed: Iterable[tuple[Offset, TentativeEntry]]) -> list[Effect]:
        """Say further down what is durable here already; owe the rest."""
        for offset, entry in confirmed:
            if entry.waiter is not None:
                owed = _said(offset, entry, entry.waiter)
                self._owed.setdefault(entry.commit, []).append(owed)
        return self.durable()

    def _notices(self, noted: list[_Noted]) -> list[Effect]:
        """Return them, those to one unit together."""
        grouped: dict[tuple[Address, Epoch], list[tuple[Offset, EntryId]]] = {}
        for to, epoch, offset, entry_id in noted:
            grouped.setdefault((to, epoch), []).append((offset, entry_id))
        effects: list[Effect] = []
        for (to, epoch), entries in grouped.items():
            for at in range(0, len(entries), NOTICE_ENTRIES_MAX):
                part = tuple(entries[at : at + NOTICE_ENTRIES_MAX])
                request = self._copies.new_request()
                effects.append(Send(to, Durable(request, epoch, part[0][0], part), ordered=False))
        return effects


def _said(offset: Offset, entry: TentativeEntry, waiter: Waiter) -> _Noted | Send:
    """Return what follows once an entry is durable at a unit and at all above it."""
    entry_id, seat = entry.name.entry_id, waiter.seat
    if seat.next is not None:
        return seat.next, entry.epoch, offset, entry_id
    # The rule of every acknowledgement: durable on every unit of the chain.
    written = Written(waiter.request, entry.epoch, offset, entry_id)
    return Send(waiter.client, written, ordered=False)
