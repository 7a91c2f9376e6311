"""Read at the tail unit, with waiting for the next value, and Copy at any unit of a chain."""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from dataclasses import dataclass

from corfu.config import ENTRY_BYTES_MAX, HELD_MAX, PART_BYTES_MAX
from corfu.effects import Effect, Send
from corfu.messages import Copy, Entries, Entry, Read, Reason, WrongEpoch
from corfu.types import JUNK_ID, OFFSET_MAX, Address, Digest, Epoch, Offset, RequestId, State

from .context import Context
from .names import JUNK_NAME, HeldEntry
from .standing import Seat

_ENTRY_OVERHEAD_BYTES = 64
"""What one listed offset takes in a reply beside its entry, and a little more."""

_LISTED_MAX = HELD_MAX
"""Most offsets listed in one reply."""


@dataclass(frozen=True, slots=True)
class _Parked:
    message: Read
    sender: Address
    seat: Seat
    until: float


@dataclass(frozen=True, slots=True)
class _Found:
    """What one reply will list: offsets in order, and where it ends.

    `hot` are the entries in memory, kept from now on: the cache may drop them before the `cold`
    ones are read.
    """

    offsets: tuple[Offset, ...]
    end: Offset
    hot: dict[Offset, HeldEntry]
    cold: tuple[Offset, ...]
    durable: bool
    tentative: frozenset[Offset] = frozenset()
    """Offsets whose tentative entries the asker may copy."""


class Reads:
    """Answers from what is held; changes nothing."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._parked: dict[RequestId, _Parked] = {}
        self._ends: list[tuple[float, RequestId]] = []

    @property
    def deadline(self) -> float | None:
        """When the first of the held Reads ends."""
        ends = self._ends
        while ends:
            until, request = ends[0]
            parked = self._parked.get(request)
            if parked is not None and parked.until == until:
                return until
            heapq.heappop(ends)
        return None

    def read(self, message: Read, sender: Address, now: float) -> list[Effect]:
        """Handle a Read: only the tail unit shows values.

        What the tail unit holds, the whole chain holds durably, so it can never be unread.
        """
        context = self._context
        refused = context.not_served(message, sender)
        if refused is not None:
            return refused
        if not message.offset < message.end <= OFFSET_MAX:
            return context.refuse(message, Reason.MALFORMED, sender)
        seat = context.standing.seat_of_range(message.offset, message.end)
        if seat is None:
            return context.refuse(message, context.no_seat(message.offset), sender)
        if seat.next is not None:
            return context.refuse(message, Reason.WRONG_UNIT, sender)
        self._parked.pop(message.request, None)
        found = self._find(seat, message)
        if self._may_park(message, found):
            until = now + min(message.wait_ms / 1000, context.settings.park_s_max)
            self._parked[message.request] = _Parked(message, sender, seat, until)
            heapq.heappush(self._ends, (until, message.request))
            return []
        return self._answer(message, found, sender, now)

    def _may_park(self, message: Read, found: _Found) -> bool:
        context = self._context
        return (
            message.wait_ms > 0
            and not found.offsets
            and found.end == message.end
            and context.standing.trim_mark <= message.offset
            and len(self._parked) < context.settings.parked_max
        )

    def wake(self, now: float) -> list[Effect]:
        """Answer the held Reads that a value just stored has come for.

        At once, though it waits for its fsync: the reply is ordered, so it waits as well.
        """
        fresh = self._context.store.fresh
        effects: list[Effect] = []
        if self._parked:
            low = min(run.start for run in fresh)
            high = max(run.end for run in fresh)
            for request, parked in list(self._parked.items()):
                message = parked.message
                if message.offset >= high or message.end <= low:
                    continue
                found = self._find(parked.seat, message)
                if found.offsets:
                    del self._parked[request]
                    effects += self._answer(message, found, parked.sender, now)
        return effects

    def expire(self, now: float) -> list[Effect]:
        """Answer the held Reads whose time is over: nothing yet, which is only a hint."""
        effects: list[Effect] = []
        while (deadline := self.deadline) is not None and deadline <= now:
            _, request = heapq.heappop(self._ends)
            parked = self._parked.pop(request)
            found = self._find(parked.seat, parked.message)
            effects += self._answer(parked.message, found, parked.sender, now)
        return effects

    def sealed(self, epoch: Epoch) -> list[Effect]:
        """Answer all held Reads with the new epoch: their reader must look where the log goes on.

        Else it would wait for ever at a unit that may have left the chain.
        """
        parked, self._parked = self._parked, {}
        return [
            Send(each.sender, WrongEpoch(request, epoch, each.message.offset))
            for request, each in parked.items()
        ]

    def copy(self, message: Copy, sender: Address, now: float) -> list[Effect]:
        """Handle a Copy: exactly these offsets, from any unit of their chain."""
        context = self._context
        refused = context.not_served(message, sender)
        if refused is not None:
            return refused
        offsets = message.offsets
        if not 0 < len(offsets) <= HELD_MAX or list(offsets) != sorted(set(offsets)):
            return context.refuse(message, Reason.MALFORMED, sender)
        if any(context.standing.seat_of(offset) is None for offset in offsets):
            return context.refuse(message, Reason.WRONG_UNIT, sender)
        found = self._choose(
            list(offsets),
            Offset(offsets[-1] + 1),
            ENTRY_BYTES_MAX,
            is_head=False,
            tentative=self._for_its_head(offsets, sender),
        )
        return self._answer(message, found, sender, now)

    def _for_its_head(self, offsets: tuple[Offset, ...], sender: Address) -> frozenset[Offset]:
        """Return which tentative entries are asked for by the head of their chain.

        It alone may copy them: a head that cannot read what it held, and is told to take this
        copy, decides by taking it. Nobody else may count on them.
        """
        store, standing = self._context.store, self._context.standing
        found: set[Offset] = set()
        for offset in offsets:
            seat = standing.seat_of(offset) if offset in store.tentative else None
            if seat is not None and seat.chain[0].address == sender:
                found.add(offset)
        return frozenset(found)

    def _find(self, seat: Seat, message: Read) -> _Found:
        """Choose what a reply lists: as much as fits, from the start of the range.

        A tail unit that is the head, too, is the one whose EMPTY is acted upon.
        """
        context = self._context
        store, standing = context.store, context.standing
        is_head = seat.previous is None
        # Above this nothing is held or in doubt: all is EMPTY.
        horizon = max(store.local_tail, standing.closed_until)
        if standing.lost:
            horizon = max(horizon, standing.lost[-1].end)
        if store.suspicion.named:
            horizon = max(horizon, Offset(max(store.suspicion.named) + 1))
        if is_head and store.suspicion.unknown and store.suspicion.bound is not None:
            horizon = max(horizon, store.suspicion.bound)
        start = max(message.offset, standing.trim_mark)
        walk = seat.offsets(start, min(message.end, horizon))
        looked_at = walk[: context.settings.read_offsets_max]
        end = Offset(walk[len(looked_at)]) if len(looked_at) < len(walk) else message.end
        bytes_max = min(message.bytes_max, ENTRY_BYTES_MAX)
        return self._choose(looked_at, end, bytes_max, is_head=is_head)

    def _choose(
        self,
        offsets: range | list[Offset],
        end: Offset,
        bytes_max: int,
        *,
        is_head: bool,
        tentative: frozenset[Offset] = frozenset(),
    ) -> _Found:
        store = self._context.store
        state_of = store.state_at_head if is_head else store.state
        listed: list[Offset] = []
        hot: dict[Offset, HeldEntry] = {}
        cold: list[Offset] = []
        durable = store.others_durable
        total = 0
        for number in offsets:
            offset = Offset(number)
            state = State.DATA if offset in tentative else state_of(offset)
            if state in (State.EMPTY, State.TRIMMED):
                continue
            total += _ENTRY_OVERHEAD_BYTES
            if state is State.DATA:
                total += store.length_bound(offset)
            if listed and (total > bytes_max or len(listed) == _LISTED_MAX):
                return _Found(tuple(listed), offset, hot, tuple(cold), durable, tentative)
            listed.append(offset)
            if state is State.DATA:
                durable = durable and store.durable(offset)
                held = store.memory.held(offset)
                if held is None:
                    cold.append(offset)
                else:
                    hot[offset] = held
        return _Found(tuple(listed), end, hot, tuple(cold), durable, tentative)

    def _answer(
        self, message: Read | Copy, found: _Found, sender: Address, now: float
    ) -> list[Effect]:
        """Send what was found, after reading from disk what is not in memory."""
        context = self._context
        if not found.cold:
            return self._replies(message, found, found.hot, sender)
        if context.loads.full:
            return context.refuse(message, Reason.BUSY, sender)

        def then(values: Mapping[Offset, HeldEntry], _: float) -> list[Effect]:
            # In the epoch that admitted it, whatever was sealed meanwhile: values are final, and
            # what was EMPTY then is only a hint.
            return self._replies(message, found, {**found.hot, **values}, sender)

        return context.loads.start(found.cold, then)

    def _replies(
        self,
        message: Read | Copy,
        found: _Found,
        values: Mapping[Offset, HeldEntry],
        sender: Address,
    ) -> list[Effect]:
        """Return the answer, in one message or in parts.

        Parts follow each other without gap, and each leaves in one burst, for nothing but the
        fragments of a larger body is acknowledged. The last one reaches the end that was asked
        for; an answer that stops before says so by one more part, without length.
        """
        listed = [
            entry
            for offset in found.offsets
            if (entry := self._entry(offset, values, found.tentative)) is not None
        ]
        in_parts = isinstance(message, Read) and message.bytes_max > PART_BYTES_MAX
        start, end = message.offset, found.end
        parts: list[tuple[Offset, Offset, list[Entry]]] = []
        group: list[Entry] = []
        size = 0
        for entry in listed if in_parts else ():
            size += len(entry.entry) + _ENTRY_OVERHEAD_BYTES
            if group and size > PART_BYTES_MAX:
                parts.append((start, entry.offset, group))
                start, group = entry.offset, []
                size = len(entry.entry) + _ENTRY_OVERHEAD_BYTES
            group.append(entry)
        parts.append((start, end, group if in_parts else listed))
        if isinstance(message, Read) and in_parts and end < message.end:
            parts.append((end, end, []))
        mark = self._context.standing.trim_mark
        request, epoch = message.request, message.epoch
        # Nothing is read from a record that waits for its fsync: then the reply waits, too.
        ordered = not found.durable
        return [
            Send(sender, Entries(request, epoch, first, last, mark, tuple(group)), ordered)
            for first, last, group in parts
        ]

    def _entry(
        self,
        offset: Offset,
        values: Mapping[Offset, HeldEntry],
        tentative: frozenset[Offset],
    ) -> Entry | None:
        """Return how the reply lists an offset now; None if it was trimmed meanwhile."""
        store = self._context.store
        state = store.state(offset)
        if offset in tentative and offset in store.tentative:
            state = State.DATA
        match state:
            case State.DATA:
                held = values.get(offset)
                if held is not None:
                    name = held.name
                    return Entry(offset, state, name.entry_id, name.digest, held.entry)
                # Repaired while the reply was being read: the reader comes again.
                return Entry(offset, State.DAMAGED, JUNK_ID, Digest(0), b"")
            case State.JUNK | State.LOST:
                return Entry(offset, state, JUNK_ID, Digest(0), b"")
            case State.DAMAGED | State.EMPTY:
                # It was listed, so EMPTY means the doubt of a head that cannot name it.
                name = store.suspect(offset) or JUNK_NAME
                return Entry(offset, State.DAMAGED, name.entry_id, name.digest, b"")
            case State.TRIMMED:
                return None
