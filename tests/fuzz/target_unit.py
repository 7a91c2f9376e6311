"""A storage unit with data: head of one segment and tail unit of another."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import NamedTuple, get_args

from corfu.config import WINDOW_OFFSETS_MAX
from corfu.effects import Send
from corfu.link import Link
from corfu.messages import (
    AlreadyWritten,
    DataMessage,
    Entries,
    Fill,
    FillList,
    Forward,
    Install,
    Message,
    Probe,
    Rebuild,
    Resolve,
    Seal,
    TrimTo,
    UnitMessage,
    Write,
    Written,
)
from corfu.types import EntryId, Epoch, Incarnation, Offset, Range, State
from tests.unit.storage_units.unit_bench import (
    CLIENT,
    CLUSTER,
    LEADER,
    SETTINGS,
    Bench,
    entry_id,
    request,
    unit_value,
    write,
)

from .bounds import LINK, BrokenRuleError, check_link
from .corpus import build
from .stages import Stages
from .world import EPOCH, FIRST, LAYOUT, OLD_LAYOUT, UNIT_NAMES

NEIGHBOUR = unit_value(2).address
SENDERS = (CLIENT, LEADER, NEIGHBOUR, NEIGHBOUR)
_RENEWED_EVERY = 3000
_NOT_SERVING_FOR = 150
_SWEEP_EVERY = 256
_STORING = (Write, Forward, Fill, FillList, Entries, Rebuild, Resolve)
_MARKING = (Seal, Install, TrimTo, Probe, Rebuild)


class _Look(NamedTuple):
    """What a unit's small state says, before and after a message."""

    sealed: Epoch
    epoch: Epoch
    trim_mark: Offset
    closed_until: Offset
    window_end: Offset
    local_tail: Offset
    frozen: bool


class UnitTarget:
    """One unit behind a link; every reply is encoded, every append committed to a fake disk."""

    name = "unit"
    dispatched_min = 0.15

    def __init__(self, seed: int) -> None:
        self.stages = Stages()
        self.corpus = build(UNIT_NAMES, seed, often=get_args(DataMessage) + get_args(UnitMessage))
        # With every other seed the unit persists in parallel.
        self._settings = replace(SETTINGS, parallel_persist=seed % 2 == 0)
        self._draw = random.Random(seed).random
        self._now = 0.0
        self._left = 0
        self._idle = 0
        self._values: dict[int, tuple[State, EntryId | None]] = {}
        self._renew()

    def _renew(self) -> None:
        self._left, self._idle = _RENEWED_EVERY, 0
        session = Incarnation(b"unit-session----")
        self.link = Link(cluster=CLUSTER, session=session, settings=LINK, rng=random.Random(1))
        bench = self.bench = Bench.fresh(1, self._settings)
        bench.now = self._now
        bench.epoch(OLD_LAYOUT)
        for offset in range(40):
            if offset % 7 == 3:
                continue
            entry = b"entry %d" % (offset % 8)
            id_ = entry_id(1 + offset % 8)
            forward = Forward(request(), Epoch(1), Offset(offset), id_, CLIENT, entry)
            bench.give(forward, NEIGHBOUR)
        junk = (Range(Offset(40), Offset(50)),)
        bench.give(
            FillList(request(), Epoch(1), Offset(40), Offset(50), CLIENT, junk, ()), NEIGHBOUR
        )
        bench.epoch(LAYOUT, trim_mark=8, closed_until=16)
        for offset in range(FIRST, FIRST + 20, 2):
            bench.give(write(offset, offset % 8 + 1, EPOCH))
        self._values = {}
        self._sweep()

    def take(self, datagram: bytes, kind: int) -> None:
        """Hand a datagram to the unit."""
        bench = self.bench
        if not self._left or self._idle > _NOT_SERVING_FOR:
            self.finish()
            self._renew()
            bench = self.bench
        self._left -= 1
        self._now = bench.now = self._now + 0.0005
        sender = SENDERS[int(self._draw() * len(SENDERS))]
        stages, link = self.stages, self.link
        for message, origin in stages.receive(link, datagram, kind, sender, self._now):
            stages.count(message)
            before = self._look()
            sends = bench.give(message, origin)
            stages.dispatched += 1
            self._judge(before, message, sends)
            for send in sends:
                link.send(send.to, send.message, self._now)
                stages.replies += 1
        if not bench.unit.store.standing.serving:
            self._idle += 1
        if not self._left % _SWEEP_EVERY:
            link.outgoing()
            link.tick(self._now)
            check_link(link)
            deadline = bench.unit.deadline
            if deadline is not None and deadline <= self._now:
                bench.run(bench.unit.tick(self._now))
            self._sweep()

    def close(self) -> None:
        """Free what the target holds: nothing."""

    def finish(self) -> None:
        """Count what the link dropped, and look at all that the unit holds."""
        self._sweep()
        check_link(self.link)
        self.stages.take_drops(self.link)

    # The rules.

    def _look(self) -> _Look:
        store = self.bench.unit.store
        standing = store.standing
        installed = standing.layout
        return _Look(
            standing.sealed,
            Epoch(0) if installed is None else installed.epoch,
            standing.trim_mark,
            standing.closed_until,
            standing.window_end,
            store.local_tail,
            standing.frozen,
        )

    def _judge(self, before: _Look, message: Message, sends: list[Send]) -> None:
        """Hold the unit to what a valid message of this content may do."""
        after = self._look()
        if after != before:
            self._judge_change(before, after, message)
        for send in sends:
            self._judge_reply(send.message)

    def _judge_change(self, before: _Look, after: _Look, message: Message) -> None:
        own = unit_value(1)
        named = getattr(message, "unit", None) == own.id
        named = named and getattr(message, "incarnation", None) == own.incarnation
        marks = named and isinstance(message, _MARKING)
        rules = [
            ("an epoch goes back", after.sealed >= before.sealed),
            ("a mark goes back", after.trim_mark >= before.trim_mark),
            ("closed_until goes back", after.closed_until >= before.closed_until),
            ("the window goes back", after.window_end >= before.window_end),
            ("a unit thaws", after.frozen >= before.frozen),
        ]
        if after.sealed != before.sealed:
            allowed = named and isinstance(message, Seal) and after.sealed == message.epoch
            rules.append(("an epoch moves without a seal that says so", allowed))
        if after.epoch != before.epoch:
            allowed = named and isinstance(message, Install) and after.epoch == before.sealed
            rules.append(("a layout comes without its install", allowed))
        if after[2:4] != before[2:4]:
            rules.append(("a mark moves without an order", marks))
        if after.window_end > before.window_end and not marks:
            near = after.window_end <= before.window_end + WINDOW_OFFSETS_MAX
            rules.append(("a token opens more than one window", near))
        if after.local_tail > max(before.local_tail, after.trim_mark):
            storing = isinstance(message, _STORING) and after.local_tail <= after.window_end
            rules.append(("something is stored above the window", storing))
            fenced = getattr(message, "epoch", before.sealed) == before.sealed
            rules.append(("something is stored for another epoch", fenced))
        for what, holds in rules:
            if not holds:
                raise BrokenRuleError(f"{what}: {message}, {before}, {after}")

    def _judge_reply(self, reply: Message) -> None:
        held = isinstance(reply, Written) or (
            isinstance(reply, AlreadyWritten) and reply.state is State.DATA
        )
        if held:
            assert isinstance(reply, Written | AlreadyWritten)
            store = self.bench.unit.store
            state = store.state(reply.offset)
            name = store.name(reply.offset)
            if state is State.DATA and name is not None and name.entry_id != reply.entry_id:
                raise BrokenRuleError(f"answered {reply}, holds {name}")
            if state is State.EMPTY:
                raise BrokenRuleError(f"answered {reply}, holds nothing")

    def _sweep(self) -> None:
        """Look at every offset near those that messages name: a value never becomes another."""
        store = self.bench.unit.store
        for offset in range(FIRST + 60):
            state = store.state(Offset(offset))
            name = store.name(Offset(offset)) if state is State.DATA else None
            now = (state, None if name is None else name.entry_id)
            before = self._values.get(offset, (State.EMPTY, None))
            self._values[offset] = now
            if before == now or before[0] is State.EMPTY:
                continue
            gone = now[0] in (State.TRIMMED, State.LOST)
            # A name that is not in memory is none that changed.
            same = now[0] is before[0] and None in (now[1], before[1])
            # What is closed, and is not here, was named as missing; or is found and copied.
            found = before[0] is State.DAMAGED
            if not (gone or same or found):
                raise BrokenRuleError(f"offset {offset}: {before} became {now}")
