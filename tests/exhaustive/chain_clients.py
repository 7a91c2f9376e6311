"""A writer, a filler and a reader, and who makes the second epoch.

Real: `Writer.append` with all that it settles by, `ask_fill`, `ChainReader.read`. They are
coroutines over an endpoint; here each is stepped by hand, so a wait ends when the search says so:
by an answer, by a timeout, or because a newer layout became known.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator, Hashable
from types import SimpleNamespace
from typing import Any, cast

from corfu.client.chain_reader import ChainReader, Retry
from corfu.client.cluster import Cluster
from corfu.client.packing import Call, OutgoingEntry
from corfu.client.settings import ClientSettings
from corfu.client.settle import Fate, Trouble, Writer, ask_fill
from corfu.client.span import spans_of
from corfu.client.tokens import Granted, TokenDesk
from corfu.compression import Compression, EntryCodec
from corfu.errors import AppendError
from corfu.layout import Layout
from corfu.messages import Message, NotWritten, Sealed
from corfu.ports import UnansweredError
from corfu.types import (
    Address,
    EntryId,
    Incarnation,
    Offset,
    RequestId,
    State,
    Token,
)
from tests.unit.storage_units.unit_bench import WINDOW_END

from .canonical import Canonical
from .chain_unit import install_message, seal_message
from .chain_words import (
    NAMES,
    TellActive,
    TellAppended,
    TellNever,
    TellReading,
    TellUnwritten,
    Value,
)
from .machine import Envelope, Event, Outcome, Own

CODEC = EntryCodec(Compression())
SETTINGS = ClientSettings(write_look_s=0.25, write_budget_s=0.5)
"""A Write is sent twice, then its offset is settled."""

ENTRY = EntryId(b"A".ljust(16, b"\0"))
OTHER_ENTRY = EntryId(b"B".ljust(16, b"\0"))

BEGIN = "begins"
GIVE_UP = "waits no longer"
SEAL = "begins the second epoch"

_LONG = 1e9


class _Suspended:
    """What a coroutine awaits: it is resumed from outside."""

    def __await__(self) -> Generator[_Suspended, Message | None, Message | None]:
        return (yield self)


class World:
    """The endpoint and the cluster that a client procedure sees, both at once."""

    def __init__(self, name: str, layout: Layout) -> None:
        self.layout = layout
        self.settings = SETTINGS
        self.codec = CODEC
        self.trim_mark = Offset(0)
        self.endpoint = self
        self.sends: list[Envelope] = []
        self.told: list[Hashable] = []
        self.asked: Message | None = None
        self.sleeping = False
        self._name = name
        self._looked_at = layout.epoch
        self._now = 0.0
        self._sequence = 0

    # Endpoint.

    def now(self) -> float:
        return self._now

    def new_request(self) -> RequestId:
        self._sequence += 1
        return RequestId(Incarnation(self._name.encode().ljust(16, b"-")), self._sequence)

    async def ask(self, to: Address, message: Message, budget_s: float) -> Message:
        self.sends.append(Envelope(self._name, NAMES[to], message))
        self.asked = message
        reply = await _Suspended()
        self.asked = None
        if reply is None:
            self._now += budget_s
            raise UnansweredError
        return reply

    async def sleep(self, seconds: float) -> None:
        self.sleeping = True
        await _Suspended()
        self.sleeping = False

    # Cluster.

    async def refresh(self) -> bool:
        """Tell whether a newer layout became known since the last time."""
        before, self._looked_at = self._looked_at, self.layout.epoch
        return self.layout.epoch > before

    def saw(self, offset: Offset) -> None:
        """Nothing: all offsets here are known to be granted."""

    def backoff(self) -> SimpleNamespace:
        return _BACKOFF

    def tell(self, what: Hashable) -> None:
        self.told.append(what)


_BACKOFF = SimpleNamespace(next_s=lambda: 0.0)

Procedure = Callable[[World], Coroutine[Any, Any, None]]


class ClientNode:
    """One procedure of a client, begun when the search says so."""

    def __init__(self, name: str, layout: Layout, procedure: Procedure) -> None:
        self._world = World(name, layout)
        self._work: Coroutine[Any, Any, None] | None = procedure(self._world)
        self._begun = False

    def __del__(self) -> None:
        if self._work is not None:
            self._work.close()

    def apply(self, event: Event) -> Outcome:
        world = self._world
        if isinstance(event, Own):
            self._begun = True
            self._resume(None)
        elif isinstance(event.message, Layout):
            if event.message.epoch > world.layout.epoch:
                world.layout = event.message
                if world.sleeping:
                    self._resume(None)
        else:
            assert isinstance(event.message, Message)
            # A late answer to a question that was given up finds nobody.
            if world.asked is not None and event.message.request == world.asked.request:
                self._resume(event.message)
        sends, world.sends = tuple(world.sends), []
        told, world.told = tuple(world.told), []
        return Outcome(sends, told)

    def _resume(self, reply: Message | None) -> None:
        assert self._work is not None
        try:
            self._work.send(reply)
        except StopIteration:
            self._work = None

    def canonical(self) -> str:
        return _CANONICAL.text((self._begun, self._work, self._world))

    def own(self) -> tuple[Own, ...]:
        if self._work is None:
            return ()
        if not self._begun:
            return (Own(BEGIN),)
        return (Own(GIVE_UP, "patience"),)

    def facts(self) -> bool:
        """Tell if it has ended."""
        return self._work is None

    def calm(self) -> bool:
        return self._begun


class _Desk:
    """Grants the offsets that it was made with; then the procedure ends."""

    def __init__(self, world: World, offsets: tuple[Offset, ...]) -> None:
        self._world = world
        self._offsets = list(offsets)
        self._layout = world.layout
        self.statistics = SimpleNamespace(add=_no_statistics, usual_s=0.0)

    async def take(self, entry: OutgoingEntry) -> Granted:
        if not self._offsets:
            raise _NoMoreTokens
        # Of the epoch in which it was asked for; it may be old when it is used.
        token = Token(self._layout.epoch, self._offsets.pop(0))
        return Granted(token, self._layout, WINDOW_END)

    def give_back(self, granted: Granted) -> None:
        pass


def _no_statistics(seconds: float, *, lost: bool) -> None:
    pass


class _NoMoreTokens(Exception):  # noqa: N818 - it ends the procedure
    pass


def writer(offsets: tuple[Offset, ...], id_: EntryId = ENTRY) -> Procedure:
    """Return a procedure that appends one entry, with tokens for these offsets at most."""

    async def write(world: World) -> None:
        call = Call((b"record",), _LONG, cast("Any", None))
        entry = OutgoingEntry([call], id_, 0, ordered=False)
        desk = _Desk(world, offsets)
        own = Value(State.DATA, entry.id)

        class Watched(Writer):
            async def _attempt(self, entry: OutgoingEntry, granted: Granted) -> Fate | None:
                fate = await super()._attempt(entry, granted)
                if fate is Fate.OTHER:
                    world.tell(TellNever(granted.token.offset, own))
                return fate

        try:
            offset = await Watched(_cluster(world), cast("TokenDesk", desk)).append(entry)
        except (_NoMoreTokens, AppendError):
            return
        world.tell(TellAppended(offset, own))

    return write


def filler(offset: Offset) -> Procedure:
    """Return a procedure that fills an offset, until it is settled."""

    async def fill(world: World) -> None:
        while isinstance(await ask_fill(_cluster(world), offset, SETTINGS.unit_budget_s), Trouble):
            await _again(world)

    return fill


def reader(offset: Offset) -> Procedure:
    """Return a procedure that reads an offset: a value, or that the head holds nothing."""

    async def read(world: World) -> None:
        world.tell(TellReading(offset))
        while True:
            try:
                # Once more at once: what the head holds was completed meanwhile.
                if await _read_once(world, offset) or await _read_once(world, offset):
                    return
            except Retry:
                pass
            await _again(world)

    return read


async def _read_once(world: World, offset: Offset) -> bool:
    cluster = _cluster(world)
    chains = ChainReader(cluster, cast("Any", None))
    span = spans_of(world.layout, world.layout.segment_of(offset))[0]
    found, _ = await chains.read(span, offset, Offset(offset + 1), bytes_max=1 << 15)
    if offset in found.values:
        return True
    budget = SETTINGS.unit_budget_s
    answer = await ask_fill(cluster, offset, budget, only_if_written=True)
    if isinstance(answer, NotWritten):
        world.tell(TellUnwritten(offset))
        return True
    if isinstance(answer, Trouble):
        raise Retry(answer.text)
    return False


async def _again(world: World) -> None:
    if not await world.refresh():
        await world.sleep(0.0)


def _cluster(world: World) -> Cluster:
    return cast("Cluster", world)


class LeaderNode:
    """Makes the second epoch: seals, activates, installs. The order is the protocol's."""

    def __init__(self, new: Layout, units: tuple[int, ...], clients: tuple[str, ...]) -> None:
        self._new = new
        self._clients = clients
        self._units = units
        self._begun = False
        self._sealed: set[str] = set()

    def apply(self, event: Event) -> Outcome:
        if isinstance(event, Own):
            self._begun = True
            return Outcome(
                tuple(Envelope("leader", f"u{n}", seal_message(n, self._new)) for n in self._units)
            )
        if not isinstance(event.message, Sealed) or len(self._sealed) == len(self._units):
            return Outcome()
        self._sealed.add(event.source)
        if len(self._sealed) < len(self._units):
            return Outcome()
        installs = [Envelope("leader", f"u{n}", install_message(n, self._new)) for n in self._units]
        news = [Envelope("leader", client, self._new) for client in self._clients]
        return Outcome((*installs, *news), (TellActive(self._new.epoch),))

    def canonical(self) -> str:
        return repr((self._begun, sorted(self._sealed)))

    def own(self) -> tuple[Own, ...]:
        return () if self._begun else (Own(SEAL, "epoch"),)

    def facts(self) -> None:
        return None

    def calm(self) -> bool:
        return True


_CANONICAL = Canonical(
    handlers={
        ClientSettings: lambda settings: None,
        EntryCodec: lambda codec: None,
        Layout: lambda layout: (layout.epoch, layout.digest()),
        SimpleNamespace: lambda namespace: None,
        type: lambda kind: kind.__qualname__,
    },
    left_out={},
)
