"""Reading one chain: its values, its holes, its damage.

What a tail unit holds is final and may be returned at once. EMPTY is only a hint, and what turns
it into an answer is here, rule by rule. Source: CORFU (NSDI 2012) section 3.3.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass, field

import xxhash

from corfu.client.cluster import Cluster
from corfu.client.settle import Trouble, ask_fill, describe, without_chain
from corfu.client.span import Span
from corfu.client.values import Value, data_value
from corfu.compression import EntryCodec
from corfu.config import PART_BYTES_MAX
from corfu.errors import ConflictError, WireError
from corfu.messages import Copy, Entries, Entry, Fill, Filled, Message, NotWritten, Read
from corfu.ports import UnansweredError
from corfu.types import JUNK_ID, Address, Offset, State, UnitId

_FILLS_AT_ONCE = 32

_OFFSETS_MAX = 4096
"""Offsets of a chain in one Read: bounds what is booked for holes."""

_EXPANDED_BYTES_MAX = 8 << 20
"""What the entries of one answer may expand to: those behind are asked for again.

Compressed, thousands of the largest entries fit one answer; all at once they would fill memory.
"""

Spawn = Callable[[Coroutine[object, object, None]], object]


class Retry(Exception):  # noqa: N818 - it is no error but a turn of the loop
    """Internal: no answer this time; ask for the layout, wait a moment, begin again."""


@dataclass(slots=True)
class Found:
    """What a pass over a range of one chain has found."""

    values: dict[Offset, Value] = field(default_factory=dict)
    damaged: list[Entry] = field(default_factory=list)
    size: int = 0
    beyond: tuple[Offset, ...] = ()
    """Where those parts of an answer begin that came although one before them did not."""

    def holes(self, offsets: Iterable[int]) -> list[Offset]:
        """Return which of the offsets are neither found nor damaged."""
        damaged = {entry.offset for entry in self.damaged}
        return [Offset(o) for o in offsets if o not in self.values and o not in damaged]


@dataclass(slots=True)
class HoleWait:
    """When the holes of one range may be filled: a range waits once, never beyond `deadline`."""

    deadline: float | None = None
    until: float | None = None


class _Parts:
    """The parts of one answer, joined: how far they reach without gap, and what came beyond."""

    def __init__(self, message: Read, unit: UnitId, keep: Callable[[Entries], Offset]) -> None:
        self.reached = message.offset
        self.beyond: dict[Offset, Offset] = {}
        self.trouble: Retry | ConflictError | None = None
        self._message = message
        self._unit = unit
        self._keep = keep
        self._end = message.end

    def take(self, reply: Message) -> bool:
        """Take a reply; return whether there is nothing more to wait for."""
        try:
            self._join(reply)
        except (Retry, ConflictError) as trouble:
            self.trouble = trouble
            return True
        return self.reached >= self._end

    def _join(self, reply: Message) -> None:
        message = self._message
        if not isinstance(reply, Entries) or reply.epoch != message.epoch:
            raise Retry(describe(reply, self._unit))
        start, end = reply.offset, reply.end
        if not message.offset <= start <= end <= message.end:
            raise Retry(f"unit {self._unit} answered about another range")
        if start == end:
            # It says no more than up to here.
            self._end = start
        elif self.reached <= start < self._end and start not in self.beyond:
            taken = self.beyond[start] = self._keep(reply)
            if taken < end:
                # More would expand to too much: what is behind is asked for again.
                self._end = min(self._end, taken)
            while self.reached in self.beyond:
                self.reached = self.beyond.pop(self.reached)


class ChainReader:
    """Reads spans. Every method may raise `Retry`."""

    def __init__(self, cluster: Cluster, spawn: Spawn) -> None:
        self._cluster = cluster
        self._endpoint = cluster.endpoint
        self._settings = cluster.settings
        self._codec = cluster.codec
        self._spawn = spawn

    async def read(
        self, span: Span, start: Offset, end: Offset, *, bytes_max: int, wait_s: float = 0.0
    ) -> tuple[Found, Offset]:
        """Ask the tail unit for `[start, end)` once; return what it has and where it stopped.

        Args:
            span: The chain; `start` is one of its offsets.
            start: First offset.
            end: End of the range.
            bytes_max: Bytes of entries to send; one entry comes even if it is larger. Above
                `PART_BYTES_MAX` they come in parts. Then what is lost on the way may be missing:
                `found` tells what came beyond the first gap, before which the reading stopped,
                perhaps where it began.
            wait_s: The unit may hold the question so long for a first value in the range.
        """
        end = Offset(min(end, start + _OFFSETS_MAX * span.stride))
        found = Found()
        if not span.units:
            for offset in map(Offset, span.offsets(start, end)):
                gone = without_chain(self._cluster, span.layout, offset)
                if isinstance(gone, Trouble):
                    raise Retry(gone.text)
                found.values[offset] = Value(offset, gone.state)
            return found, end
        request = self._endpoint.new_request()
        message = Read(
            request, span.layout.epoch, start, end, max(1, bytes_max), int(wait_s * 1000)
        )
        if bytes_max > PART_BYTES_MAX:
            return await self._read_parts(span, message, found)
        reply = await self._ask(span.tail_unit.address, message, wait_s)
        if not isinstance(reply, Entries) or reply.epoch != span.layout.epoch:
            raise Retry(describe(reply, span.tail_unit.id))
        if reply.offset != start or not start < reply.end <= end:
            raise Retry(f"unit {span.tail_unit.id} answered about another range")
        return found, self._take_reply(span, reply, found)

    async def _read_parts(self, span: Span, message: Read, found: Found) -> tuple[Found, Offset]:
        """Take an answer that comes in parts; some of them may not come."""
        unit = span.tail_unit
        parts = _Parts(message, unit.id, lambda reply: self._take_reply(span, reply, found))
        budget, gap = self._settings.unit_budget_s, self._settings.part_gap_s
        try:
            await self._endpoint.ask_parts(unit.address, message, budget, gap, parts.take)
        except UnansweredError:
            raise Retry(f"the unit at {unit.address} did not answer") from None
        if parts.trouble is not None:
            raise parts.trouble
        found.beyond = tuple(sorted(parts.beyond))
        return found, parts.reached

    def _take_reply(self, span: Span, reply: Entries, found: Found) -> Offset:
        """Add what a unit has said of a range of its chain; return how far it was taken."""
        end = reply.end
        for entry in reply.entries:
            if reply.offset <= entry.offset < end:
                _take(found, entry, self._codec)
                if found.size > _EXPANDED_BYTES_MAX:
                    end = Offset(entry.offset + 1)
        if reply.entries:
            # Whatever is not EMPTY was granted; entries come in order.
            last = reply.entries[-1].offset
            if last in found.values:
                self._cluster.saw(last)
        if reply.trim_mark > self._cluster.trim_mark:
            self._cluster.trim_mark = reply.trim_mark
        if reply.trim_mark > reply.offset:
            for offset in map(Offset, span.offsets(reply.offset, min(end, reply.trim_mark))):
                found.values.setdefault(offset, Value(offset, State.TRIMMED))
        return end

    async def complete(
        self, span: Span, found: Found, holes: list[Offset], wait: HoleWait
    ) -> list[Offset]:
        """Give every damaged offset and every hole a value; return holes to read once more.

        All `holes` must be known to lie below the tail.
        """
        for entry in found.damaged:
            value = await self._mend(span, entry)
            found.values[entry.offset] = value
            found.size += value.size
        found.damaged.clear()
        if not holes:
            return []
        if not span.units:
            raise Retry("the chain is gone")
        # Ask the head at once: a half-written offset is completed with no wait.
        empty = await self._complete_written(holes)
        if empty:
            if wait.until is None:
                wait.until = self._endpoint.now() + self._cluster.hole_wait_s()
            # Truly empty: its writer gets a fair time, once for the whole range. A fill that
            # beats a slow writer is harmless: the writer learns it and appends again.
            deadline = math.inf if wait.deadline is None else wait.deadline
            patience = min(wait.until, deadline)
            empty = await self._wait_for_writers(span, empty, patience)
            if empty and patience < wait.until:
                raise Retry(f"offset {empty[0]} is empty, and its writer may still be at work")
            for start, end in span.runs(empty):
                await self._fill(span, start, end)
        # Now the tail unit holds all of them; what it holds is the answer.
        return holes

    async def _complete_written(self, holes: list[Offset]) -> list[Offset]:
        """Have the head pass down what it holds; return the offsets where it holds nothing."""
        empty: list[Offset] = []
        budget = self._settings.unit_budget_s
        for at in range(0, len(holes), _FILLS_AT_ONCE):
            part = holes[at : at + _FILLS_AT_ONCE]
            answers = await asyncio.gather(
                *(ask_fill(self._cluster, o, budget, only_if_written=True) for o in part)
            )
            for offset, answer in zip(part, answers, strict=True):
                if isinstance(answer, Trouble):
                    raise Retry(answer.text)
                if isinstance(answer, NotWritten):
                    empty.append(offset)
        return empty

    async def _wait_for_writers(
        self, span: Span, empty: list[Offset], until: float
    ) -> list[Offset]:
        """Wait until `until`, or until all have a value; return those that have none."""
        left: list[Offset] = []
        for offset in empty:
            wait_s = max(0.0, until - self._endpoint.now())
            end = Offset(offset + 1)
            found, _ = await self.read(span, offset, end, bytes_max=1, wait_s=wait_s)
            if not found.values and not found.damaged:
                left.append(offset)
        if left and (rest := until - self._endpoint.now()) > 0:
            # A unit need not hold a question at all.
            await self._endpoint.sleep(rest)
        return left

    async def _fill(self, span: Span, start: Offset, end: Offset) -> None:
        """Fill `[start, end)`, which lies below the tail, from the head on."""
        while start < end:
            request = self._endpoint.new_request()
            message = Fill(request, span.layout.epoch, start, end, False)
            reply = await self._ask(span.head.address, message, 0.0)
            if not isinstance(reply, Filled) or reply.epoch != span.layout.epoch:
                raise Retry(describe(reply, span.head.id))
            if not start < reply.end:
                raise Retry(f"the fill of {start} made no progress")
            # A list may be shorter than asked for: go on from there.
            start = reply.end

    async def _mend(self, span: Span, damaged: Entry) -> Value:
        """Return a sound copy of a damaged value, and have the tail unit repaired."""
        self._spawn(self._repair(damaged.offset))
        # Id and digest name one value for ever, so any copy that matches them is that value.
        if damaged.entry_id != JUNK_ID:
            for unit in reversed(span.units[:-1]):
                request = self._endpoint.new_request()
                offset = damaged.offset
                message = Copy(request, span.layout.epoch, offset, (offset,))
                try:
                    reply = await self._ask(unit.address, message, 0.0)
                except Retry:
                    continue
                if not isinstance(reply, Entries):
                    continue
                for entry in reply.entries:
                    if _is_copy_of(entry, damaged):
                        return _decode(entry, self._codec)
        # In doubt, or no other copy is to be had: nothing may be returned before the repair.
        raise Retry(f"offset {damaged.offset} is damaged at unit {span.tail_unit.id}")

    async def _repair(self, offset: Offset) -> None:
        # What the head forwards is the repair; if the head itself is damaged, it refuses.
        await ask_fill(self._cluster, offset, self._settings.unit_budget_s, only_if_written=True)

    async def _ask(self, to: Address, message: Read | Fill | Copy, wait_s: float) -> Message:
        try:
            return await self._endpoint.ask(to, message, wait_s + self._settings.unit_budget_s)
        except UnansweredError:
            raise Retry(f"the unit at {to} did not answer") from None


def _take(found: Found, entry: Entry, codec: EntryCodec) -> None:
    match entry.state:
        case State.DATA:
            if xxhash.xxh3_64_intdigest(entry.entry) != entry.digest:
                raise Retry(f"offset {entry.offset} came with a wrong digest")
            value = found.values[entry.offset] = _decode(entry, codec)
            found.size += value.size
        case State.JUNK | State.TRIMMED | State.LOST:
            found.values[entry.offset] = Value(entry.offset, entry.state)
        case State.DAMAGED:
            found.damaged.append(entry)
        case State.EMPTY:
            pass


def _is_copy_of(entry: Entry, damaged: Entry) -> bool:
    return (
        entry.offset == damaged.offset
        and entry.state is State.DATA
        and entry.entry_id == damaged.entry_id
        and xxhash.xxh3_64_intdigest(entry.entry) == damaged.digest
    )


def _decode(entry: Entry, codec: EntryCodec) -> Value:
    try:
        return data_value(entry.offset, entry.entry, codec)
    except WireError as error:
        # Its digest is right: it was appended like this, by something that is no client of this
        # format. No other copy will read better.
        raise ConflictError(f"offset {entry.offset} holds an unreadable entry: {error}") from error
