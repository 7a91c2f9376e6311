"""The fate of an offset at which a Write has left: which answers settle it, and how to get one.

Source: CORFU (NSDI 2012) section 3.3 on holes. **Only three answers settle an offset:**

- `Written`, from the tail unit: every unit of the chain holds the entry durably.
- `Filled`, from the tail unit: says what every unit of the chain holds, for ever.
- `AlreadyWritten` with junk or another id, from the head, in the token's own epoch: the first
  value durable at the head is the only one any unit of the chain may hold.

No other refusal does: the Write may lie, stored, at some unit that the refusing one knows
nothing of, and be completed by a later fill.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import assert_never

from corfu.client.cluster import Cluster
from corfu.client.packing import OutgoingEntry
from corfu.client.tokens import Granted, TokenDesk
from corfu.config import BURST_BYTES_MAX
from corfu.errors import AppendUnknownError, NotAppendedError
from corfu.layout import Layout
from corfu.messages import (
    AlreadyWritten,
    Fill,
    Filled,
    HeldOffset,
    Message,
    NotWritten,
    Reason,
    Refused,
    Write,
    Written,
    WrongEpoch,
)
from corfu.ports import UnansweredError
from corfu.types import JUNK_ID, Digest, Epoch, Offset, State, Token

_SLOW_LOOK = 4.0
_SLOW_BUDGET = 8.0
"""How many usual writes to wait for an answer, before the layout is asked for and in all."""

_USUAL_S_MAX = 0.25


class Fate(enum.Enum):
    """What became of an entry at one offset, for ever."""

    APPENDED = 1
    OTHER = 2
    """Junk or another entry stands there: this one never will."""
    GONE = 3
    """Trimmed or lost: nobody can tell any more what stood there."""
    CONFLICT = 4
    """The own id with other bytes: a rule of the protocol was broken."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """An answer, or none, that settles nothing; the text says why."""

    text: str


def judge_write(token: Token, entry: OutgoingEntry, reply: Message) -> Fate | None:
    """Return what the answer to a Write settles, None if it settles nothing."""
    match reply:
        case Written(_, epoch, offset, entry_id):
            matches = (epoch, offset, entry_id) == (token.epoch, token.offset, entry.id)
            return Fate.APPENDED if matches else None
        case AlreadyWritten(_, epoch, offset, entry_id, state):
            if (epoch, offset) != (token.epoch, token.offset):
                return None
            if state in (State.TRIMMED, State.LOST):
                return Fate.GONE
            # The own id would mean that a unit took a retransmission for another entry: that
            # says nothing about the chain.
            other = state is State.JUNK or (state is State.DATA and entry_id != entry.id)
            return Fate.OTHER if other else None
        case _:
            # NoSpace, Busy, WrongEpoch, Rebuilding, Damaged, Conflict: the answering unit stores
            # nothing now, but a copy of the Write sent before may have been, or come late.
            return None


def judge_fill(entry: OutgoingEntry, held: HeldOffset) -> Fate:
    """Return what a fill's answer says of the entry; every one of them settles the offset."""
    match held.state:
        case State.DATA if held.entry_id == entry.id:
            return Fate.APPENDED if held.digest == entry.digest else Fate.CONFLICT
        case State.DATA | State.JUNK:
            return Fate.OTHER
        case _:
            return Fate.GONE


def held_in(reply: Filled, offset: Offset) -> HeldOffset | None:
    """Return what a `Filled` says of one offset, None if it does not reach it."""
    if not reply.offset <= offset < reply.end:
        return None
    if any(run.start <= offset < run.end for run in reply.junk):
        return HeldOffset(offset, State.JUNK, JUNK_ID, Digest(0))
    for held in reply.held:
        if held.offset == offset:
            return held
    # In neither list: the message says that it is trimmed then.
    return HeldOffset(offset, State.TRIMMED, JUNK_ID, Digest(0))


async def ask_fill(
    cluster: Cluster, offset: Offset, budget_s: float, *, only_if_written: bool = False
) -> HeldOffset | NotWritten | Trouble:
    """Ask the head, in the newest epoch known, what `offset` holds, or to fill it."""
    layout = cluster.layout
    chain = layout.chain_of(offset)
    if not chain:
        return without_chain(cluster, layout, offset)
    request = cluster.endpoint.new_request()
    end = Offset(offset + 1)
    message = Fill(request, layout.epoch, offset, end, only_if_written)
    try:
        reply = await cluster.endpoint.ask(chain[0].address, message, budget_s)
    except UnansweredError:
        return Trouble(f"unit {chain[0].id} did not answer a fill of {offset}")
    if isinstance(reply, Filled) and reply.epoch == layout.epoch:
        held = held_in(reply, offset)
        if held is not None:
            return held
    if isinstance(reply, NotWritten) and only_if_written and reply.epoch == layout.epoch:
        return reply
    return Trouble(describe(reply, chain[0].id))


def without_chain(cluster: Cluster, layout: Layout, offset: Offset) -> HeldOffset | Trouble:
    """Say what an offset holds whose chain the layout leaves empty.

    In a closed segment the chain was abandoned: all it held from the trim mark on is lost. In
    the open one nothing was granted yet, so a layout that says this of a granted offset is old.
    """
    if layout.segment_of(offset).end is None:
        return Trouble(f"the layout of epoch {layout.epoch} has no chain for {offset} yet")
    state = State.TRIMMED if offset < cluster.trim_mark else State.LOST
    return HeldOffset(offset, state, JUNK_ID, Digest(0))


def describe(reply: Message, unit: int) -> str:
    """Say why an answer did not help."""
    match reply:
        case Refused(_, _, _, Reason.NO_SPACE):
            return f"the disk of unit {unit} is full"
        case Refused(_, _, offset, reason):
            return f"unit {unit} refused {offset}: {reason.name}"
        case WrongEpoch(_, epoch, _):
            return f"unit {unit} is at epoch {epoch}"
        case _:
            return f"unit {unit} answered {type(reply).__name__}"


class Writer:
    """Brings frozen entries into the log, one at a time each, until they have a verdict."""

    def __init__(self, cluster: Cluster, desk: TokenDesk) -> None:
        self._cluster = cluster
        self._desk = desk
        self._endpoint = cluster.endpoint
        self._settings = cluster.settings

    async def append(self, entry: OutgoingEntry) -> Offset:
        """Return the offset at which `entry` stands, exactly once.

        Raises:
            NotAppendedError: Its time is over, and it stands nowhere and never will.
            AppendUnknownError: Its time is over while an offset is unsettled, or that offset was
                trimmed or lost.
        """
        backoff = self._cluster.backoff()
        while True:
            granted = await self._desk.take(entry)
            if granted is None:
                raise NotAppendedError(f"not appended in time: {entry.trouble}")
            fate = await self._attempt(entry, granted)
            match fate:
                case Fate.APPENDED:
                    return granted.token.offset
                case Fate.OTHER:
                    pass  # `trouble` says why
                case Fate.GONE:
                    raise AppendUnknownError(
                        f"offset {granted.token.offset} was trimmed or lost before the append "
                        "was known to be there"
                    )
                case Fate.CONFLICT:
                    raise AppendUnknownError(
                        f"offset {granted.token.offset} holds the entry's id with other bytes: "
                        "a rule of the protocol was broken"
                    )
                case None:
                    raise AppendUnknownError(
                        f"time ran out while offset {granted.token.offset} was unsettled: "
                        f"{entry.trouble}"
                    )
                case _:
                    assert_never(fate)
            # Settled as not appended, and after the deadline no new token is taken.
            if self._endpoint.now() >= entry.deadline:
                raise NotAppendedError(f"not appended in time: {entry.trouble}")
            # A loser backs off before it takes the next token, or writers that are slower than
            # readers' fills only make more holes.
            await self._endpoint.sleep(backoff.next_s())

    async def _attempt(self, entry: OutgoingEntry, granted: Granted) -> Fate | None:
        """Use one token: write, and settle its offset; None if time ran out before."""
        token = granted.token
        began = self._endpoint.now()
        fate = await self._write(entry, granted)
        if entry.unsettled is None:
            # No Write of it has left, and none will.
            self._desk.give_back(granted)
            return Fate.OTHER
        if fate is None:
            refused = entry.trouble
            fate = await self._settle(entry, token)
            # That the offset was then filled is only what follows from the refusal.
            if fate is Fate.OTHER:
                entry.trouble = refused
        elif fate is Fate.OTHER:
            entry.trouble = f"offset {token.offset} was filled before the write"
        if fate is not None:
            self._desk.statistics.add(self._endpoint.now() - began, lost=fate is Fate.OTHER)
            entry.unsettled = None
        return fate

    async def _write(self, entry: OutgoingEntry, granted: Granted) -> Fate | None:
        token = granted.token
        chain = granted.layout.chain_of(token.offset)
        if not chain:
            return None
        head = chain[0]
        message = Write(
            self._endpoint.new_request(),
            token.epoch,
            token.offset,
            entry.id,
            granted.window_end,
            entry.body,
        )
        backoff = self._cluster.backoff()
        until = self._endpoint.now() + max(
            self._settings.write_budget_s, _SLOW_BUDGET * self._usual_s()
        )
        while (left := min(until, entry.deadline) - self._endpoint.now()) > 0:
            # A token is never used in another epoch than its own: nothing leaves any more once a
            # newer layout is known. (What left before, its units refuse once they are sealed.)
            if self._cluster.layout.epoch != token.epoch:
                return None
            # From here on until it is settled, the entry may come to stand at this offset.
            entry.unsettled = token.offset
            try:
                reply = await self._endpoint.ask(head.address, message, self._patience(entry, left))
            except UnansweredError:
                entry.trouble = f"unit {head.id} or the units after it did not answer a write"
                # A unit may be gone; then the same request goes on only in this epoch.
                await self._cluster.refresh()
                continue
            fate = judge_write(token, entry, reply)
            if fate is not None:
                return fate
            entry.trouble = describe(reply, head.id)
            if not _comes_back(reply, token.epoch):
                return None
            # The unit's layout is on its way to it, or it is busy: the same request again.
            await self._endpoint.sleep(backoff.next_s())
        return None

    def _patience(self, entry: OutgoingEntry, left: float) -> float:
        """Return how long to wait for an answer before the layout is asked for."""
        # A large entry is on its way for longer, and would begin anew each time.
        if len(entry.body) > BURST_BYTES_MAX:
            return left
        return min(left, max(self._settings.write_look_s, _SLOW_LOOK * self._usual_s()))

    def _usual_s(self) -> float:
        """Return what a write usually takes.

        Where units have more to do than they can, each takes long; to send it again then, or to
        fill its offset, would give them the same work twice. The median, not the tail: a few slow
        writes beside a failure must not make the next failure take longer.
        """
        return min(self._desk.statistics.usual_s, _USUAL_S_MAX)

    async def _settle(self, entry: OutgoingEntry, token: Token) -> Fate | None:
        """Learn for certain what the offset holds, by filling it; None if time ran out.

        A granted offset lies below the T of every later epoch, so a Fill can always settle it.
        An answer by which it would lie above a tail or a window is stale: ask again.
        """
        backoff = self._cluster.backoff()
        # Ask for the newest layout first: silence mostly means that there is a new one.
        await self._cluster.refresh()
        while (left := entry.deadline - self._endpoint.now()) > 0:
            budget = min(left, self._settings.unit_budget_s)
            held = await ask_fill(self._cluster, token.offset, budget)
            if isinstance(held, HeldOffset):
                return judge_fill(entry, held)
            entry.trouble = held.text if isinstance(held, Trouble) else "a fill filled nothing"
            if not await self._cluster.refresh():
                await self._endpoint.sleep(backoff.next_s())
        return None


def _comes_back(reply: Message, epoch: Epoch) -> bool:
    """Tell whether the same Write may succeed a moment later, in the same epoch."""
    match reply:
        case WrongEpoch(_, own, _):
            return own <= epoch
        case Refused(_, _, _, reason):
            return reason is Reason.BUSY
        case _:
            return False
