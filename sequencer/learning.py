"""How chosen values reach this replica: by the leader's notice, or fetched from who has them.

Pure. Applied results are handed on in slot order.
"""

from __future__ import annotations

from typing import Protocol

from corfu import schema
from corfu.errors import WireError
from corfu.messages import Catchup, Chosen, Heartbeat
from corfu.types import Address, ReplicaId, RequestId, Slot

from .learner import AppliedSlot
from .member import Member
from .state import State

_LONG_AGO = -1e9


class Learnt(Protocol):
    """Who is told what was learnt."""

    def applied_slots(self, applied: list[AppliedSlot], now: float) -> None:
        """These slots were applied."""
        ...

    def caught_up(self, now: float) -> None:
        """An answer to a catch-up was taken in."""
        ...


class Learning:
    """Feeds the learner."""

    def __init__(self, member: Member, learnt: Learnt) -> None:
        self._member = member
        self._learnt = learnt
        self._asked_at = _LONG_AGO
        self._asked: RequestId | None = None
        self.chosen_until = Slot(0)
        """Highest slot up to which a leader said that all is chosen."""

    def learn(self, slot: Slot, value: bytes, now: float) -> None:
        """Note that a value is chosen; apply what can be applied."""
        member = self._member
        vote = member.acceptor.accepted.get(slot)
        if slot > member.applied and (vote is None or vote[1] != value):
            # After a restart the journal must tell the chosen value, not the vote that lost.
            if not member.has_room(len(value)):
                return
            member.votes.append_chosen(slot, value)
            member.persisted()
        applied = member.learner.learn(slot, value)
        if applied:
            self._learnt.applied_slots(applied, now)

    def take_notice(self, message: Heartbeat, now: float) -> None:
        """Apply what the leader says is chosen."""
        member = self._member
        self.chosen_until = max(self.chosen_until, message.chosen_until)
        while member.applied < message.chosen_until:
            vote = member.acceptor.accepted.get(Slot(member.applied + 1))
            # Only a value accepted at the notice's own ballot is the one that the leader chose;
            # one from an older ballot may be of a leader that lost.
            if vote is None or vote[0] != message.ballot:
                self.catch_up(message.replica, now)
                return
            self.learn(Slot(member.applied + 1), vote[1], now)

    def catch_up(self, source: ReplicaId, now: float) -> None:
        """Ask a member for what is missing; one question at a time."""
        for known in self._member.state.replicas:
            if known.id == source:
                self.catch_up_from(known.address, now)

    def catch_up_from(self, source: Address, now: float) -> None:
        """Ask the replica at an address, which need not be a member as far as is known here."""
        member = self._member
        if now - self._asked_at < member.settings.heartbeat_s:
            return
        self._asked_at = now
        self._asked = member.request()
        ask = Catchup(self._asked, member.id, member.incarnation, Slot(member.applied + 1))
        member.send_to(source, ask)

    def was_asked_for(self, message: Chosen) -> bool:
        """Tell if this is the answer to the last question."""
        return message.request == self._asked

    def on_catchup(self, message: Catchup) -> None:
        """Send a member what it lacks, or a first part of it."""
        member = self._member
        missed = member.learner.missed(message.from_slot, member.settings.catchup_bytes_max)
        reply = Chosen(
            message.request,
            member.id,
            member.incarnation,
            missed.snapshot_slot,
            missed.snapshot,
            missed.values,
            member.applied,
        )
        # What is chosen stays chosen: it need not wait for this replica's disk.
        member.reply(message.replica, reply, ordered=False)

    def tell_applied(self, to: ReplicaId, request: RequestId) -> None:
        """Tell a member how far the log is known here, so that it fetches what it lacks."""
        member = self._member
        told = Chosen(request, member.id, member.incarnation, Slot(0), b"", (), member.applied)
        member.reply(to, told, ordered=False)

    def on_chosen(self, message: Chosen, now: float) -> None:
        """Take in what another member sent."""
        member = self._member
        before = member.applied
        if message.snapshot_slot > member.applied:
            try:
                state = schema.unpack(State, message.snapshot)
            except WireError as error:
                member.alarm(f"replica {message.replica} sent no state: {error}")
                return
            member.learner.install(message.snapshot_slot, state)
            member.installed = message.snapshot_slot
            self._learnt.applied_slots([], now)
        for chosen in message.values:
            if chosen.slot > member.applied:
                self.learn(chosen.slot, chosen.value, now)
        told_only = not message.values and not message.snapshot_slot
        if member.applied < message.chosen_until and (told_only or before < member.applied):
            self._asked_at = _LONG_AGO
            self.catch_up(message.replica, now)
        self._learnt.caught_up(now)
