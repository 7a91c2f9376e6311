"""The acceptor: what this replica has promised and accepted, slot by slot.

Pure. It changes its books and tells what to journal; no answer may leave before that is durable.
Source: Lamport, Paxos Made Simple (2001), section 2.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from corfu.messages import OpenSlot
from corfu.types import Ballot, Slot


class Doubt(enum.Enum):
    """Whether the acceptor knows all that it ever answered."""

    NONE = 0
    TORN = 1
    """Its journal does not end whole: an answered vote may be missing."""
    BLANK = 2
    """Just formatted: perhaps over the memory of an earlier life of the same incarnation."""
    JOINING = 3
    """Made to take another replica's place, with a state fetched from the group. It has never
    voted, and does not before a state that admits it is durable here."""


@dataclass(frozen=True, slots=True)
class PromisedRecord:
    """To journal: the promised ballot. `settled`: with it the acceptor's doubt ends."""

    ballot: Ballot
    settled: bool = False


@dataclass(frozen=True, slots=True)
class AcceptedRecord:
    """To journal: an accepted value; promised is at least its ballot from then on."""

    slot: Slot
    ballot: Ballot
    value: bytes


class Acceptor:
    """Promises and accepts for all slots above the snapshot."""

    def __init__(
        self,
        promised: Ballot,
        accepted: dict[Slot, tuple[Ballot, bytes]],
        snapshot: Slot,
        doubt: Doubt,
    ) -> None:
        self.promised = promised
        self.accepted = accepted
        self.snapshot = snapshot
        self.doubt = doubt

    @property
    def votes(self) -> bool:
        """Tell if its answers count as votes."""
        # One in doubt may have given a promise, or a vote, that it does not know of: a second
        # majority without that vote could choose another value.
        return self.doubt is Doubt.NONE

    def promise(self, ballot: Ballot) -> PromisedRecord | None:
        """Promise to accept nothing below `ballot`; None if it is promised already.

        Raised also in doubt: a higher promise never breaks an older one.
        """
        assert ballot >= self.promised
        if ballot == self.promised:
            return None
        self.promised = ballot
        return PromisedRecord(ballot)

    def open_slots(self, from_slot: Slot) -> tuple[OpenSlot, ...]:
        """Return what is accepted from `from_slot` on, in slot order.

        The highest *accepted* ballot of each slot, never the promised one: a proposer that took
        a promise for a vote would prefer a value that nobody accepted.
        """
        return tuple(
            OpenSlot(slot, *self.accepted[slot])
            for slot in sorted(self.accepted)
            if slot >= from_slot
        )

    def accept(self, ballot: Ballot, slot: Slot, value: bytes) -> AcceptedRecord | None:
        """Accept a value; None if exactly this is accepted already.

        The caller has checked that `ballot` is at least the promised one, that `slot` is above
        the snapshot and that this acceptor votes.
        """
        assert self.votes
        assert ballot >= self.promised
        assert slot > self.snapshot
        # Accepting raises the promise: else a lower ballot could be accepted afterwards.
        self.promised = ballot
        if self.accepted.get(slot) == (ballot, value):
            return None
        self.accepted[slot] = (ballot, value)
        return AcceptedRecord(slot, ballot, value)

    def settle(self, told: list[OpenSlot]) -> list[AcceptedRecord | PromisedRecord]:
        """End the doubt: take over what the others hold, and vote again.

        The caller has made its promised ballot known to a majority of the others, who therefore
        accept nothing lower any more; any majority that counted a forgotten vote of this
        acceptor has a member among them, so what that vote was for is in `told`.
        """
        records: list[AcceptedRecord | PromisedRecord] = []
        for open_slot in told:
            if open_slot.slot <= self.snapshot:
                continue
            held = self.accepted.get(open_slot.slot)
            if held is None or held[0] < open_slot.ballot:
                self.accepted[open_slot.slot] = (open_slot.ballot, open_slot.value)
                records.append(AcceptedRecord(open_slot.slot, open_slot.ballot, open_slot.value))
        self.doubt = Doubt.NONE
        records.append(PromisedRecord(self.promised, settled=True))
        return records

    def forget(self, snapshot: Slot) -> None:
        """Drop the votes at and below a slot whose state is durable on this replica's disk."""
        self.snapshot = max(self.snapshot, snapshot)
        for slot in [slot for slot in self.accepted if slot <= snapshot]:
            del self.accepted[slot]
