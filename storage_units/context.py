"""What all handlers of a unit share, and the refusals that more than one of them gives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from corfu.config import WINDOW_OFFSETS_MAX
from corfu.effects import Effect, Send
from corfu.messages import (
    AlreadyWritten,
    Copy,
    Durable,
    Fill,
    FillList,
    Forward,
    Read,
    Reason,
    Refused,
    Write,
    WrongEpoch,
)
from corfu.types import Address, EntryId, Offset, State

from .loads import Loads
from .records import frozen_record
from .settings import UnitSettings
from .standing import Standing
from .store import Store

DataRequest = Write | Forward | Fill | FillList | Read | Copy | Durable


@dataclass(slots=True)
class Context:
    """The parts that handlers work on. `log` takes alarms: lines for an operator.

    `free_bytes` is what the file system would still take, as last looked at.
    """

    standing: Standing
    store: Store
    loads: Loads
    settings: UnitSettings
    log: Callable[[str], None]
    free_bytes: int = 0
    said_full: bool = False

    def not_served(self, message: DataRequest, to: Address) -> list[Effect] | None:
        """Return the answer to a request of an epoch that is not served; None if it is.

        Rule "epoch before identity": nothing else is looked at before. A late forward of an old
        epoch that meets another value is no Conflict, just late. And as this is asked at the
        request's turn, in the one queue that seals go through, nothing of an old epoch is
        admitted once the seal is.
        """
        if message.epoch == self.standing.sealed and self.standing.serving:
            return None
        sealed = self.standing.sealed
        return [Send(to, WrongEpoch(message.request, sealed, message.offset))]

    def refuse(self, message: DataRequest, reason: Reason, to: Address) -> list[Effect]:
        """Return a refusal: it settles nothing, and a crash takes nothing of it back."""
        refused = Refused(message.request, message.epoch, message.offset, reason)
        return [Send(to, refused, ordered=False)]

    def no_seat(self, offset: Offset) -> Reason:
        """Return why there is no seat for an offset.

        A unit that is being rebuilt says so of old offsets, whatever it holds there: it may hold
        too little, or values that lost.
        """
        seats = self.standing.seats
        old = bool(seats) and offset < seats[-1].start
        return Reason.REBUILDING if old else Reason.WRONG_UNIT

    def already(
        self, message: Write | Forward, to: Address, entry_id: EntryId, state: State
    ) -> list[Effect]:
        """Return what the offset holds instead.

        Ordered: said before the stored record is durable, a crash could take it back after the
        writer has already appended its entry elsewhere.
        """
        answer = AlreadyWritten(message.request, message.epoch, message.offset, entry_id, state)
        return [Send(to, answer)]

    def freeze(self, why: str) -> None:
        """Stop taking new values for ever: a rule of the protocol was seen broken.

        Which of two values is right, nobody here can tell; so nothing is overwritten, reads and
        inspection go on, and an operator decides.
        """
        self.log(
            f"ALARM: CONFLICT at unit {self.standing.unit}: {why}; it takes no writes any more"
        )
        if not self.standing.frozen:
            self.standing.frozen = True
            if self.store.has_room(0, reserve=True):
                self.store.put_other(frozen_record(self.standing.sealed))

    def believe_window(self, end: Offset) -> None:
        """Raise the window end by what a token or a forward shows: one window ahead at most.

        One bad number must not open the way to offsets that nobody will ever grant.
        """
        standing = self.standing
        if end > standing.window_end:
            standing.window_end = min(end, Offset(standing.window_end + WINDOW_OFFSETS_MAX))

    def no_room(self) -> Reason:
        """Return why there is no room: a full disk, or files that are not allocated yet."""
        # What is free may not be for us: another unit on the same disk takes it while we try.
        free = self.free_bytes >= self.settings.journal_file_bytes
        full = not free or self.store.journal.spare_refused
        if full and not self.said_full:
            self.log(
                f"the disk is full ({self.free_bytes >> 20} MiB left): entries are refused until "
                "the log is trimmed or space is made"
            )
        self.said_full = full
        return Reason.NO_SPACE if full else Reason.BUSY
