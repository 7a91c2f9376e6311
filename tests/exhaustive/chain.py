"""The chain models: some units, a writer, a filler, a reader, a seal, and what must hold."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import NamedTuple, cast

from corfu.messages import Entries, Forward, Installed, Sealed
from corfu.types import Epoch, Offset, State
from tests.unit.storage_units.unit_bench import layout

from .chain_clients import ClientNode, LeaderNode, filler, reader, writer
from .chain_unit import PARALLEL, SETTINGS, Facts, UnitNode
from .chain_words import (
    CLIENTS,
    OFFSETS,
    TellActive,
    TellAppended,
    TellEmpty,
    TellNever,
    TellReading,
    TellUnwritten,
    TellValue,
    Value,
    values_of,
)
from .machine import Envelope, Node
from .model import Opening

_SECOND_T = 4

_DECIDED = (State.DATA, State.JUNK)


class Seen(NamedTuple):
    """What was ever told, and which epoch is the newest that was activated."""

    told: tuple[Value | None, ...] = (None,) * len(OFFSETS)
    never: frozenset[tuple[Offset, Value]] = frozenset()
    reading_after: frozenset[Offset] = frozenset()
    """Offsets whose reading began after a value of them had been told."""
    active: Epoch = Epoch(1)


class Chain:
    """Units and their clients."""

    def __init__(
        self,
        name: str,
        *,
        first: tuple[int, ...] = (1, 2),
        parallel: bool = False,
        second: tuple[int, ...] = (),
        clients: tuple[str, ...] = CLIENTS,
        tokens: int = 1,
        losses: int = 0,
        duplicates: int = 0,
        crashes: int = 0,
        patience: int = 1,
    ) -> None:
        """Make a model.

        Args:
            name: Its name.
            first: The chain of the first epoch.
            parallel: Units forward before their own fsync.
            second: The chain of a second epoch, which may begin at any moment; () for none.
            clients: Who takes part.
            tokens: How many offsets the writer may try.
            losses: How many messages are lost.
            duplicates: How many messages arrive twice.
            crashes: How often a unit crashes.
            patience: How often a client gives up waiting and goes on; in all.
        """
        self.name = name
        chain, opened = first, layout(1, first)
        new = layout(2, second, first_offset=_SECOND_T) if second else None
        self._chains = {Epoch(1): chain, Epoch(2): second}
        work = {
            "writer": writer(OFFSETS[:tokens]),
            "filler": filler(OFFSETS[0]),
            "reader": reader(OFFSETS[0]),
        }

        def unit(number: int) -> Callable[[], Node]:
            settings = PARALLEL if parallel else SETTINGS
            return lambda: UnitNode(number, opened, settings)

        def client(who: str) -> Callable[[], Node]:
            return lambda: ClientNode(who, opened, work[who])

        self.nodes: dict[str, Callable[[], Node]] = {f"u{n}": unit(n) for n in chain}
        self.nodes.update({who: client(who) for who in clients})
        if new is not None:
            made = new
            self.nodes["leader"] = lambda: LeaderNode(made, second, clients)
        self._ends = [at for at, who in enumerate(self.nodes) if who in CLIENTS]
        self.budgets = {
            "loss": losses,
            "duplicate": duplicates,
            "crash": crashes,
            "patience": patience,
            "epoch": 1 if new is not None else 0,
        }
        self.ghost: Hashable = Seen()
        self.prologue: tuple[Opening, ...] = ()

    def observe(self, ghost: Hashable, told: Hashable) -> Hashable | str:
        seen = cast("Seen", ghost)
        match told:
            case TellValue(_, offset, value):
                return _value(seen, offset, value)
            case TellAppended(offset, value):
                if seen.told[offset] != value:
                    return f"appended {value} at {offset}, where {seen.told[offset]} stands"
                return seen
            case TellNever(offset, value):
                if seen.told[offset] == value:
                    return f"{value} stands at {offset}, and its writer was told that it does not"
                return seen._replace(never=seen.never | {(offset, value)})
            case TellReading(offset):
                if seen.told[offset] is None:
                    return seen
                return seen._replace(reading_after=seen.reading_after | {offset})
            case TellUnwritten(offset) if offset in seen.reading_after:
                return f"a read of {offset} found nothing, begun after {seen.told[offset]} stood"
            case TellEmpty(unit, offset, epoch):
                return self._empty(seen, unit, offset, epoch)
            case TellActive(epoch):
                return seen._replace(active=epoch)
            case _:
                return seen

    def _empty(self, seen: Seen, unit: str, offset: Offset, epoch: Epoch) -> Seen | str:
        # A hint of a unit that left the chain, or is of an older epoch, is stale and known to be:
        # the reader asks the head.
        tail = f"u{self._chains[epoch][-1]}"
        if unit == tail and epoch == seen.active and seen.told[offset] is not None:
            return f"{unit} tells that {offset} is empty, where {seen.told[offset]} stands"
        return seen

    def wrong(self, facts: tuple[Hashable, ...], ghost: Hashable) -> str:
        seen = cast("Seen", ghost)
        units = {n: cast("Facts", facts[n - 1]) for n in self._chains[Epoch(1)]}
        chain = self._chains[seen.active]
        for offset in OFFSETS:
            for at, number in enumerate(chain):
                held = units[number].memory.value(offset)
                above = chain[at - 1] if at else None
                # What a unit holds, every unit before it holds durably.
                if held is not None and above is not None:
                    before = units[above].durable.kept(offset)
                    if before != held:
                        return f"u{number} holds {held} at {offset}, u{above} durably {before}"
                durable = units[number].durable.kept(offset)
                told = seen.told[offset]
                if told is not None and durable != told:
                    return f"{told} was told of {offset}, u{number} durably holds {durable}"
        return ""

    def wrong_message(self, facts: Hashable, envelope: Envelope) -> str:
        """Durable before it leaves: what a unit says, its disk says."""
        if not isinstance(facts, Facts):
            return ""
        durable, message = facts.durable, envelope.message
        # A Forward without the flag claims nothing.
        claims = not isinstance(message, Forward) or message.durable_above
        for offset, value in values_of(message) if claims else ():
            if value.state in _DECIDED and durable.kept(offset) != value:
                return f"{envelope}: its sender durably holds {durable.kept(offset)}"
        if isinstance(message, Sealed):
            if durable.sealed < message.epoch:
                return f"{envelope}: the seal is not durable"
            listed = {
                Offset(1024 * block.number + bit)
                for block in message.blocks
                for bit in range(len(OFFSETS))
                if block.bitmap[bit // 8] >> bit % 8 & 1
            }
            held = {offset for offset, _ in durable.values}
            kept = held | {offset for offset, _ in durable.tentative}
            # In the epoch that follows a head stores values that no Seal can have listed.
            if not listed <= kept or (durable.installed < message.epoch and not held <= listed):
                return f"{envelope}: it lists {sorted(listed)}, durable is {sorted(held)}"
        if isinstance(message, Installed) and durable.installed < message.epoch:
            return f"{envelope}: the layout is not durable"
        if isinstance(message, Entries) and any(e.state is State.DAMAGED for e in message.entries):
            return f"{envelope}: nothing was ever damaged"
        return ""

    def wrong_at_rest(self, facts: tuple[Hashable, ...], ghost: Hashable) -> str:
        """Once every client has its answer, an offset is one value on all units of its chain."""
        if not all(facts[at] for at in self._ends):
            return ""
        chain = self._chains[cast("Seen", ghost).active]
        units = [cast("Facts", facts[number - 1]) for number in chain]
        for offset in OFFSETS:
            values = {unit.durable.kept(offset) for unit in units}
            if len(values) > 1:
                return f"at rest {offset} is {', '.join(map(str, values))} on the units"
        return ""


def _value(seen: Seen, offset: Offset, value: Value) -> Seen | str:
    known = seen.told[offset]
    if value.state not in _DECIDED:
        return f"{offset} was told to be {value}"
    if known is not None and known != value:
        return f"{offset} was told to be {known}, and now {value}"
    if (offset, value) in seen.never:
        return f"{value} stands at {offset}, where its writer was told that it never would"
    told = list(seen.told)
    told[offset] = value
    if value.state is State.DATA and told.count(value) > 1:
        return f"{value} stands at two offsets"
    return seen._replace(told=tuple(told))


def models() -> dict[str, Chain]:
    """Return all chain models by name."""
    two = ("writer", "filler")
    found = (
        Chain("chain-clients", losses=1, duplicates=1, patience=1),
        Chain("chain-retry", clients=two, tokens=2, losses=1, duplicates=1, patience=2),
        Chain("chain-crash", second=(1, 2), clients=two, crashes=1, patience=0),
        Chain("chain-seal", second=(1, 2), clients=two, patience=0),
        Chain("chain-seal-reader", second=(1, 2), losses=1, duplicates=1, patience=1),
        Chain("chain-head-dropped", second=(2,), clients=two, patience=1),
        Chain("chain-tail-dropped", second=(1,), clients=two, patience=1),
        Chain("chain-tail-dropped-reader", second=(1,), duplicates=1, patience=1),
        Chain("parallel-clients", parallel=True, losses=1, duplicates=1, patience=1),
        Chain("parallel-crash", parallel=True, second=(1, 2), clients=two, crashes=2, patience=1),
        Chain("parallel-lost", parallel=True, second=(1, 2), clients=two, crashes=1, patience=0),
        Chain(
            "parallel-late",
            parallel=True,
            second=(1, 2),
            clients=two,
            crashes=1,
            duplicates=1,
            patience=1,
        ),
        Chain(
            "parallel-head-dropped",
            parallel=True,
            second=(2,),
            clients=two,
            crashes=1,
            duplicates=1,
            patience=1,
        ),
        Chain("parallel-three", first=(1, 2, 3), parallel=True, clients=two, losses=1, patience=1),
        Chain(
            "parallel-three-crash",
            first=(1, 2, 3),
            parallel=True,
            second=(1, 2, 3),
            clients=two,
            crashes=1,
            patience=0,
        ),
        Chain(
            "parallel-three-dropped",
            first=(1, 2, 3),
            parallel=True,
            second=(2, 3),
            clients=two,
            crashes=1,
            patience=0,
        ),
    )
    return {model.name: model for model in found}
