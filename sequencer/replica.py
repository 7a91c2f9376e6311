"""The sequencer replica: the one core, made of the Paxos group and what clients ask.

Pure and synchronous; the driver runs it. What takes several requests to units (making an epoch,
trimming, closing) is asked of the `Leader` procedures through the `Listener`.
"""

from __future__ import annotations

import random
from typing import Protocol

from corfu.effects import Effect
from corfu.journal.planner import Journal
from corfu.messages import (
    GetHistory,
    GetHoles,
    GetLayout,
    GetState,
    GetStatus,
    GetTail,
    GetToken,
    HolesAre,
    Message,
    NotLeader,
    PaxosMessage,
    Register,
    Rejected,
    Rejection,
    SetGoal,
    TailIs,
    Transfer,
    Transferring,
    Trim,
    UnitView,
)
from corfu.types import Address, Ballot, Incarnation, Offset, ReplicaId, RequestId, Slot

from .answers import layout_is, registered, state_is
from .commands import Command, RegisterUnit, ReserveOffsets
from .grant_times import GrantTimes
from .group import Group
from .identity import ReplicaIdentity
from .outbox import Outbox
from .proposer import Done
from .settings import SequencerSettings
from .state import Outcome, State
from .status import history_of, status_of
from .storage import Restored
from .tokens import Answer, TokenDesk, WriteReports
from .views import UnitViews
from .waiting_tails import WaitingTails


class Listener(Protocol):
    """Who runs the procedures of a leading term."""

    def leading(self, ballot: Ballot) -> None:
        """A term begins."""
        ...

    def deposed(self) -> None:
        """The term ended."""
        ...

    def trim(self, request: Trim, sender: Address) -> None:
        """A client asks to trim; called only while this replica grants."""
        ...

    def set_goal(self, request: SetGoal, sender: Address) -> None:
        """An operator states a goal; called only while this replica leads."""
        ...

    def expelled(self) -> None:
        """This replica is a member no more: it is to end."""
        ...

    def alarm(self, text: str) -> None:
        """Something happened that an operator must know."""
        ...


class Replica:
    """One sequencer replica. Grants tokens only between `begin_granting` and its deposal."""

    def __init__(
        self,
        *,
        identity: ReplicaIdentity,
        session: Incarnation,
        settings: SequencerSettings,
        restored: Restored,
        rng: random.Random,
        listener: Listener,
        now: float,
    ) -> None:
        self.journal: Journal = restored.votes.journal
        self.identity = identity
        self.views = UnitViews(dead_s=settings.unit_dead_s, grace_s=settings.boot_grace_s)
        self._settings = settings
        self._listener = listener
        self._out = Outbox()
        self._desk: TokenDesk | None = None
        self._reports = WriteReports()
        self._times = GrantTimes()
        self._tails = WaitingTails(settings.waiting_max)
        self._group = Group(
            identity=identity,
            session=session,
            settings=settings,
            restored=restored,
            rng=rng,
            outbox=self._out,
            watcher=self,
            now=now,
        )

    # The driver's side.

    def handle(self, message: Message, sender: Address, now: float) -> list[Effect]:
        """Handle a message; never raises for what a peer sent."""
        match message:
            case GetToken():
                self._on_get_token(message, sender, now)
            case GetTail():
                self._on_get_tail(message, sender, now)
            case GetLayout() | GetStatus() | GetHistory() | GetState():
                self._out.send(sender, self._looked_up(message, now), ordered=False)
            case GetHoles():
                self._on_get_holes(message, sender, now)
            case Transfer():
                self._on_transfer(message, sender, now)
            case Register():
                self._on_register(message, sender, now)
            case Trim():
                self._on_trim(message, sender)
            case SetGoal():
                self._on_set_goal(message, sender)
            case _ if isinstance(message, PaxosMessage):
                self._group.handle(message, sender, now)
            case _:
                # A reply nobody waits for any more, or a message meant for a unit: no answer.
                pass
        return self._out.drain()

    def tick(self, now: float) -> list[Effect]:
        """Do what is due."""
        self._group.tick(now)
        if self._desk is not None and not self._paused:
            self._answer(self._desk.serve(now))
            self._reserve(now)
        return self._out.drain()

    def fetched(self, ticket: int, data: bytes | None, now: float) -> list[Effect]:
        """Take what a `Fetch` read; a replica never asks for one."""
        raise AssertionError(f"no fetch was asked for (ticket {ticket}, {data!r}, {now})")

    @property
    def deadline(self) -> float | None:
        """When `tick` is wanted."""
        waiting = self._desk.deadline if self._desk is not None and not self._paused else None
        return self._group.deadline if waiting is None else min(self._group.deadline, waiting)

    # The procedures' side.

    @property
    def group(self) -> Group:
        """The Paxos group, to look at."""
        return self._group

    @property
    def state(self) -> State:
        """The applied state."""
        return self._group.state

    @property
    def ballot(self) -> Ballot:
        """The ballot it leads with, else the promised one."""
        return self._group.ballot

    @property
    def leads(self) -> bool:
        """Tell if a term is going on."""
        return self._group.leads

    @property
    def tail(self) -> Offset | None:
        """The first offset not yet granted; None unless this replica grants."""
        return None if self._desk is None else self._desk.next

    @property
    def window_end(self) -> Offset:
        """What units may believe: no offset at or above it is granted yet."""
        return self.state.reserved_until

    def propose(self, command: Command, done: Done, now: float) -> list[Effect]:
        """Propose a command; `done` hears its applied outcome, None if that stays unknown."""
        self._group.propose(command, done, now)
        return self._out.drain()

    def begin_granting(self, now: float) -> list[Effect]:
        """Grant tokens of the active epoch, which this very term has activated."""
        active = self.state.active
        # Only the process that won this ballot, had its own intent activated under it and has
        # not restarted since: it alone knows that none of the window's offsets was granted.
        if not (self._group.leads and active.epoch):
            raise RuntimeError("no epoch of this term to grant in")
        if active.leader.ballot != self._group.ballot:
            raise RuntimeError(f"epoch {active.epoch} is another ballot's")
        assert self._desk is None or self._desk.epoch < active.epoch
        old = self._desk
        # What the window before left unused was never granted: it is as old as this epoch.
        self._times.note(active.first_offset if old is None else old.next, now)
        self._desk = TokenDesk(
            active.epoch, active.first_offset, self.state.reserved_until, self._settings,
            self._reports, self._times,
        )  # fmt: skip
        if old is not None:
            for request, sender in old.waiting():
                self._answer(self._desk.ask(request, sender, now, paused=False))
        # The followers hear of the new layout now, not at the next heartbeat.
        self._group.begin_round(now)
        return self._out.drain()

    def hand_over(self, now: float) -> list[Effect]:
        """Ask the follower that is best off to lead; this term goes on until it does."""
        self._group.hand_over(None, now)
        return self._out.drain()

    def step_down(self, now: float, rest_s: float) -> list[Effect]:
        """Stop leading, and let others try first for `rest_s` seconds."""
        self._group.step_down(now, rest_s=rest_s)
        return self._out.drain()

    def snapshot_saved(self, slot: Slot, now: float) -> list[Effect]:
        """Note that the snapshot as of `slot` is durable."""
        self._group.snapshot_saved(slot, now)
        return self._out.drain()

    # What the group tells (the Watcher's side).

    def leading(self, ballot: Ballot, now: float) -> None:
        """A term begins."""
        self._listener.leading(ballot)

    def deposed(self) -> None:
        """Grant no more, and send who waits elsewhere."""
        self._listener.deposed()
        if self._desk is not None:
            for request, sender in self._desk.waiting():
                self._not_leader(request.request, sender)
            self._desk.close()
            self._desk = None
        # A later term of this replica cannot tell what others granted meanwhile.
        self._times = GrantTimes()
        for waiting in self._tails.clear():
            self._not_leader(waiting.request, waiting.sender)

    def applied(self, now: float) -> None:
        """Hold the desk to the state."""
        desk = self._desk
        self._times.forget_below(self.state.closed_until)
        if desk is not None and self.state.active.epoch != desk.epoch:
            # Its epoch is over: units are sealed against its tokens. Who waits is told when the
            # new epoch's desk opens.
            desk.window_end = desk.next

    def confirmed(self, now: float) -> None:
        """Answer who waits for the tail, as far as a majority has confirmed the leader."""
        if self._desk is None:
            return
        for waiting in self._tails.confirmed(self._group.confirmed_round):
            self._send_tail(waiting.request, waiting.sender, now)
        if self._tails and self._group.round == self._group.confirmed_round:
            self._group.begin_round(now)

    def told(self, replica: ReplicaId, views: tuple[UnitView, ...], now: float) -> None:
        """Note how another replica sees the units."""
        self.views.told(replica, views, now)

    def own_views(self, now: float) -> tuple[UnitView, ...]:
        """Return how this replica sees the units."""
        return self.views.own(now)

    def expelled(self) -> None:
        """Pass it on that this replica is a member no more."""
        self._listener.expelled()

    def alarm(self, text: str) -> None:
        """Pass an alarm on."""
        self._listener.alarm(text)

    # What clients, units and tools ask.

    def _on_get_token(self, message: GetToken, sender: Address, now: float) -> None:
        desk = self._desk
        if desk is None:
            self._not_leader(message.request, sender)
            return
        if not self.state.active.open_segment.chains and message.epoch == desk.epoch:
            short = self.state.active.min_replicas
            text = (
                f"no chain has {short} units: start units that are down again, or add spares "
                "(corfu-storage format, then start)"
            )
            self._reject(message.request, sender, Rejection.NO_CHAINS, text)
            return
        self._answer(desk.ask(message, sender, now, paused=self._paused))
        if not self._paused:
            self._reserve(now)

    @property
    def _paused(self) -> bool:
        # From the intent on until seals arrive tokens of this epoch could still be used, but
        # most would be lost: who asks now is served by the next epoch.
        return self.state.intent is not None or (
            self._desk is not None and self._desk.epoch != self.state.active.epoch
        )

    def _reserve(self, now: float) -> None:
        desk = self._desk
        if desk is None or not self.state.active.open_segment.chains:
            return
        until = desk.reserve(now)
        if until is None:
            return
        epoch, ballot = desk.epoch, self._group.ballot

        def done(outcome: Outcome | None) -> None:
            if self._desk is desk:
                accepted = outcome is not None and outcome.accepted
                self._answer(desk.reserved(until if accepted else None, now))

        self._group.propose(ReserveOffsets(epoch, ballot, until), done, now)

    def _on_get_tail(self, message: GetTail, sender: Address, now: float) -> None:
        if self._desk is None:
            self._not_leader(message.request, sender)
        elif not message.linearizable:
            self._send_tail(message.request, sender, now)
        elif not self._tails.add(message.request, sender, self._group.round):
            self._reject(message.request, sender, Rejection.BUSY, "too many wait")
        elif self._group.round == self._group.confirmed_round:
            self._group.begin_round(now)

    def _send_tail(self, request: RequestId, to: Address, now: float) -> None:
        desk = self._desk
        assert desk is not None
        reply = TailIs(
            request, desk.epoch, desk.next, self.state.trim_mark, self.state.closed_until,
            self._reports.p99_us(now), self._reports.lost_permille(),
        )  # fmt: skip
        self._out.send(to, reply, ordered=False)

    def _on_get_holes(self, message: GetHoles, sender: Address, now: float) -> None:
        desk, closed = self._desk, self.state.closed_until
        if desk is None:
            self._not_leader(message.request, sender)
            return
        # Between an activation and the first grant closed_until may pass the old desk's tail.
        reply = HolesAre(
            message.request, desk.epoch, closed, max(desk.next, closed), self._times.samples(now)
        )
        self._out.send(sender, reply, ordered=False)

    def _on_register(self, message: Register, sender: Address, now: float) -> None:
        unit, reply = message.unit, registered(message, self.state)
        self._out.send(sender, reply, ordered=False)
        known = reply.member or reply.left or unit in self.state.registered
        if self._group.leads and not known:
            self._group.propose(RegisterUnit(unit), lambda outcome: None, now)

    def _on_trim(self, message: Trim, sender: Address) -> None:
        if self._desk is None:
            self._not_leader(message.request, sender)
        else:
            self._listener.trim(message, sender)

    def _looked_up(
        self, message: GetLayout | GetStatus | GetHistory | GetState, now: float
    ) -> Message:
        """Return what any replica tells of itself."""
        match message:
            case GetLayout(request, newer_than):
                leader = self._leader_address()
                return layout_is(request, self.state, leader, newer_than=newer_than)
            case GetStatus():
                return status_of(message.request, self._group, self.views, self.tail, now)
            case GetHistory():
                return history_of(message.request, self.state)
            case GetState():
                return state_is(message, self.state, self._group.applied)

    def _on_transfer(self, message: Transfer, sender: Address, now: float) -> None:
        if self._desk is None:
            self._not_leader(message.request, sender)
            return
        if message.to not in {member.id for member in self.state.replicas}:
            text = f"replica {message.to} is no member"
            self._reject(message.request, sender, Rejection.MALFORMED, text)
            return
        self._group.hand_over(message.to, now)
        epoch = self.state.active.epoch
        reply = Transferring(message.request, epoch, message.to)
        self._out.send(sender, reply, ordered=False)

    def _on_set_goal(self, message: SetGoal, sender: Address) -> None:
        # Also while it cannot grant: a goal may be what is needed for that.
        if self._group.leads:
            self._listener.set_goal(message, sender)
        else:
            self._not_leader(message.request, sender)

    def _leader_address(self) -> Address | None:
        for member in self.state.replicas:
            if member.id == self._group.leader:
                return member.address
        return None

    def _not_leader(self, request: RequestId, to: Address) -> None:
        leader = self._group.leader
        # A leader that does not grant yet is none that clients could use.
        address = self._leader_address() if leader != self._group.id else None
        self._out.send(to, NotLeader(request, self.state.active.epoch, address), ordered=False)

    def _reject(self, request: RequestId, to: Address, reason: Rejection, text: str) -> None:
        reply = Rejected(request, self.state.active.epoch, reason, text)
        self._out.send(to, reply, ordered=False)

    def _answer(self, answers: list[Answer]) -> None:
        for answer in answers:
            # The window was chosen by a majority's durable votes: nothing of the grant waits for
            # this replica's own disk.
            self._out.send(answer.to, answer.message, ordered=False)
