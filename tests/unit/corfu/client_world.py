"""A scripted cluster behind `Endpoint`, on virtual time: chains of units, one leader, no faults.

A test puts its faults into `script`: it sees every request first and may answer, drop or delay.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field, replace
from typing import TypeVar

import xxhash

from corfu.client.log import LogClient
from corfu.client.settings import ClientSettings
from corfu.compression import Compression, EntryCodec
from corfu.entry import EntryBody, encode_entry
from corfu.layout import Layout, Leader, Replica, Segment, Unit
from corfu.messages import (
    AlreadyWritten,
    Copy,
    Entries,
    Entry,
    Fill,
    Filled,
    GetLayout,
    GetTail,
    GetToken,
    Grant,
    HeldOffset,
    LayoutIs,
    Message,
    NotWritten,
    Read,
    Rejected,
    Rejection,
    TailIs,
    Trim,
    TrimReached,
    Write,
    Written,
    WrongEpoch,
)
from corfu.ports import Take, UnansweredError
from corfu.tools.sim.loop import VirtualLoop
from corfu.types import (
    JUNK_ID,
    Address,
    Ballot,
    ClusterId,
    Digest,
    EntryId,
    Epoch,
    Incarnation,
    Offset,
    Range,
    ReplicaId,
    RequestId,
    State,
    SyncMode,
    UnitId,
)

T = TypeVar("T")

CODEC = EntryCodec(Compression())
TRIP_S = 0.001
CLIENT = Incarnation(b"client".ljust(16, b"\0"))
REPLICAS = tuple(Address("127.0.0.1", 9700 + number) for number in range(3))
CHAINS = ((UnitId(1), UnitId(2)), (UnitId(3), UnitId(4)))


class Drop:
    """What a script returns for a request that nobody answers."""


DROP = Drop()
Script = Callable[[Address, Message], Awaitable[Message | Drop | None]]


async def no_faults(to: Address, message: Message) -> Message | Drop | None:
    return None


def address_of(unit: int) -> Address:
    return Address("127.0.0.1", 9800 + unit)


def make_layout(
    epoch: int = 1, first_offset: int = 0, segments: tuple[Segment, ...] | None = None
) -> Layout:
    segments = segments or (Segment(Offset(0), None, CHAINS),)
    ids = sorted({id_ for segment in segments for chain in segment.chains for id_ in chain})
    return Layout(
        ClusterId(b"cluster!"),
        Epoch(epoch),
        Offset(first_offset),
        Leader(ReplicaId(0), Ballot(epoch, ReplicaId(0))),
        tuple(Replica(ReplicaId(i), Incarnation(bytes(16)), a) for i, a in enumerate(REPLICAS)),
        tuple(Unit(id_, Incarnation(bytes(16)), address_of(id_)) for id_ in ids),
        SyncMode.ALWAYS,
        1,
        segments,
    )


@dataclass
class FakeCluster:
    """Endpoint of one client. `head` is what heads hold, `held` what the whole chain holds."""

    layout: Layout = field(default_factory=make_layout)
    layouts_told: dict[Address, Layout] = field(default_factory=dict)
    head: dict[Offset, Entry] = field(default_factory=dict)
    held: dict[Offset, Entry] = field(default_factory=dict)
    tail: int = 0
    trim_mark: int = 0
    asked: list[tuple[Address, Message]] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    grants: dict[RequestId, Grant] = field(default_factory=dict)
    parked: list[asyncio.Event] = field(default_factory=list)
    sequence: int = 0
    script: Script = no_faults
    part_bytes: int = 60_000
    lose: Callable[[Message], bool] = lambda _: False

    # Endpoint.

    def now(self) -> float:
        return asyncio.get_running_loop().time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def new_request(self) -> RequestId:
        self.sequence += 1
        return RequestId(CLIENT, self.sequence)

    def send(self, to: Address, message: Message) -> None:
        raise AssertionError("the client only asks")

    async def ask(self, to: Address, message: Message, budget_s: float) -> Message:
        self.asked.append((to, message))
        self.times.append(self.now())
        until = self.now() + budget_s
        try:
            async with asyncio.timeout(budget_s):
                await asyncio.sleep(TRIP_S)
                reply = await self.script(to, message)
                if reply is None:
                    reply = await self.answer(to, message)
                if isinstance(reply, Drop):
                    await asyncio.sleep(budget_s + 1)
        except TimeoutError:
            raise UnansweredError(f"{to} at {until}") from None
        assert not isinstance(reply, Drop)
        return reply

    async def ask_parts(
        self, to: Address, message: Message, budget_s: float, gap_s: float, take: Take
    ) -> bool:
        """Hand on the answer in parts of `part_bytes`, but for those that `lose` names."""
        reply = await self.ask(to, message, budget_s)
        ended = False
        for part in self.parts(message, reply):
            if self.lose(part):
                continue
            ended = take(part) or ended
        if not ended:
            await asyncio.sleep(gap_s)
        return ended

    def parts(self, message: Message, reply: Message) -> list[Message]:
        if not isinstance(reply, Entries) or not isinstance(message, Read):
            return [reply]
        groups: list[list[Entry]] = [[]]
        size = 0
        for entry in reply.entries:
            if groups[-1] and size + len(entry.entry) > self.part_bytes:
                groups.append([])
                size = 0
            groups[-1].append(entry)
            size += len(entry.entry)
        starts = [reply.offset, *(group[0].offset for group in groups[1:])]
        ends = [*starts[1:], reply.end]
        found: list[Message] = [
            replace(reply, offset=start, end=end, entries=tuple(group))
            for start, end, group in zip(starts, ends, groups, strict=True)
        ]
        if reply.end < message.end:
            found.append(replace(reply, offset=reply.end, entries=()))
        return found

    # The servers.

    async def answer(self, to: Address, message: Message) -> Message:
        if to in REPLICAS:
            return self.answer_replica(to, message)
        epoch = getattr(message, "epoch", self.layout.epoch)
        offset = getattr(message, "offset", Offset(0))
        if epoch != self.layout.epoch:
            return WrongEpoch(message.request, self.layout.epoch, offset)
        match message:
            case Write():
                return self.write(message)
            case Fill():
                return self.fill(message)
            case Read():
                return await self.read(message)
            case Copy():
                entries = tuple(self.held[o] for o in message.offsets if o in self.held)
                return Entries(
                    message.request, epoch, offset, offset, Offset(self.trim_mark), entries
                )
            case _:
                raise AssertionError(message)

    def answer_replica(self, to: Address, message: Message) -> Message:
        epoch = self.layout.epoch
        match message:
            case GetLayout():
                told = self.layouts_told.get(to, self.layout)
                newer = told if told.epoch > message.newer_than else None
                mark = Offset(self.trim_mark)
                return LayoutIs(message.request, told.epoch, newer, REPLICAS[0], mark, mark, ())
            case GetToken() if message.epoch != epoch:
                return Rejected(message.request, epoch, Rejection.WRONG_EPOCH, "")
            case GetToken():
                if message.request not in self.grants:
                    self.grants[message.request] = Grant(
                        message.request,
                        epoch,
                        Offset(self.tail),
                        message.count,
                        Offset(1 << 20),
                        1000,
                        0,
                    )
                    self.tail += message.count
                return self.grants[message.request]
            case GetTail():
                mark = Offset(self.trim_mark)
                return TailIs(message.request, epoch, Offset(self.tail), mark, mark, 1000, 0)
            case Trim():
                self.trim_mark = max(self.trim_mark, min(message.mark, self.tail))
                mark = Offset(self.trim_mark)
                return TrimReached(message.request, epoch, mark, mark, 0, 0, 1, at_least=True)
            case _:
                raise AssertionError(message)

    def write(self, message: Write) -> Message:
        held = self.head.get(message.offset)
        if held is not None and held.entry_id != message.entry_id:
            return AlreadyWritten(
                message.request, message.epoch, message.offset, held.entry_id, held.state
            )
        self.store(data(message.offset, message.entry, message.entry_id))
        return Written(message.request, message.epoch, message.offset, message.entry_id)

    def fill(self, message: Fill) -> Message:
        chains = len(self.layout.segment_of(message.offset).chains)
        if message.only_if_written and message.offset not in self.head:
            return NotWritten(message.request, message.epoch, message.offset)
        junk: list[Range] = []
        kept: list[HeldOffset] = []
        for offset in map(Offset, range(message.offset, message.end, chains)):
            entry = self.head.get(offset) or junk_at(offset)
            self.store(entry)
            if entry.state is State.JUNK:
                junk.append(Range(offset, Offset(offset + 1)))
            elif entry.state is not State.TRIMMED:
                kept.append(HeldOffset(offset, entry.state, entry.entry_id, entry.digest))
        return Filled(
            message.request, message.epoch, message.offset, message.end, tuple(junk), tuple(kept)
        )

    async def read(self, message: Read) -> Message:
        chains = len(self.layout.segment_of(message.offset).chains)
        until = self.now() + message.wait_ms / 1000
        while True:
            mark = self.trim_mark
            entries: list[Entry] = []
            size, end = 0, message.end
            for offset in map(Offset, range(message.offset, message.end, chains)):
                entry = self.held.get(offset)
                if entry is None or offset < mark:
                    continue
                if entries and size + len(entry.entry) > message.bytes_max:
                    end = offset
                    break
                entries.append(entry)
                size += len(entry.entry)
            if entries or message.offset < mark or self.now() >= until:
                return Entries(
                    message.request,
                    message.epoch,
                    message.offset,
                    end,
                    Offset(mark),
                    tuple(entries),
                )
            event = asyncio.Event()
            self.parked.append(event)
            try:
                async with asyncio.timeout(until - self.now()):
                    await event.wait()
            except TimeoutError:
                continue

    def store(self, entry: Entry) -> None:
        self.head[entry.offset] = self.held[entry.offset] = entry
        for event in self.parked:
            event.set()
        self.parked.clear()

    def put(self, entry: Entry) -> None:
        """Store at the whole chain, as another client's append would."""
        self.store(entry)
        self.tail = max(self.tail, entry.offset + 1)

    # Looking at what was asked.

    def requests(self, kind: type[T]) -> list[T]:
        return [message for _, message in self.asked if isinstance(message, kind)]


def data(offset: int, entry: bytes, id_: bytes = b"i" * 16) -> Entry:
    digest = Digest(xxhash.xxh3_64_intdigest(entry))
    return Entry(Offset(offset), State.DATA, EntryId(id_), digest, entry)


def junk_at(offset: int) -> Entry:
    return Entry(Offset(offset), State.JUNK, JUNK_ID, Digest(0), b"")


def entry(offset: int, *records: bytes) -> Entry:
    return data(offset, encode_entry(records, 0))


def marked(offset: int, state: State) -> Entry:
    return Entry(Offset(offset), state, JUNK_ID, Digest(0), b"")


def filled_cluster(count: int) -> FakeCluster:
    cluster = FakeCluster()
    for offset in range(count):
        cluster.put(entry(offset, b"%d" % offset))
    return cluster


def records_written(cluster: FakeCluster) -> list[tuple[bytes, ...]]:
    """The entries that stand in the log, in its order."""
    entries = [cluster.held[offset] for offset in sorted(cluster.held)]
    bodies = [CODEC.decode(e.entry) for e in entries if e.state is State.DATA]
    return [body.records for body in bodies if isinstance(body, EntryBody)]


def run(
    test: Callable[[FakeCluster, LogClient], Coroutine[object, object, T]],
    cluster: FakeCluster | None = None,
    **settings: object,
) -> T:
    """Run a test against an opened client, in virtual time."""
    cluster = cluster or FakeCluster()
    rng = random.Random(1)
    loop = VirtualLoop(events_max=2_000_000)
    client = LogClient(
        cluster,
        replace(ClientSettings(), **settings),  # type: ignore[arg-type]
        rng=rng,
        entropy=rng.randbytes,
        sequencers=REPLICAS,
    )

    async def main() -> T:
        async with client:
            await client.open()
            return await test(cluster, client)

    try:
        return loop.run(main())
    finally:
        loop.finish()
