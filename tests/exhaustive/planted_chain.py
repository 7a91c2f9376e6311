"""Bugs in the chain and its clients: each function's first line says which rule it breaks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from corfu.client import settle as settle_module
from corfu.client.cluster import Cluster
from corfu.client.settle import Fate, Trouble
from corfu.effects import Effect, Send
from corfu.messages import (
    Fill,
    Filled,
    FillList,
    Forward,
    HeldOffset,
    Message,
    NotWritten,
    Seal,
    Write,
    Written,
    WrongEpoch,
)
from corfu.ports import UnansweredError
from corfu.storage_units import fills as fills_module
from corfu.storage_units import recovery as recovery_module
from corfu.storage_units import writes as writes_module
from corfu.storage_units.context import Context
from corfu.storage_units.control import Control
from corfu.storage_units.fill_plan import HeadPlan, work_of_list
from corfu.storage_units.fills import Fills
from corfu.storage_units.notices import Notices, _said
from corfu.storage_units.reads import Reads
from corfu.storage_units.records import RecordKind
from corfu.storage_units.standing import Seat
from corfu.storage_units.store import Store
from corfu.storage_units.writes import Writes
from corfu.types import Address, Offset, Range, State

from . import chain_clients
from .planting import Patch


def _fill_begins_at_tail() -> tuple[Patch, ...]:
    """A fill begins at the tail unit, which junks what it does not hold."""

    async def ask_fill(
        cluster: Cluster, offset: Offset, budget_s: float, *, only_if_written: bool = False
    ) -> HeldOffset | NotWritten | Trouble:
        layout = cluster.layout
        request = cluster.endpoint.new_request()
        message = Fill(request, layout.epoch, offset, Offset(offset + 1), only_if_written)
        tail = layout.chain_of(offset)[-1]
        try:
            reply = await cluster.endpoint.ask(tail.address, message, budget_s)
        except UnansweredError:
            return Trouble("no answer")
        if isinstance(reply, Filled):
            held = settle_module.held_in(reply, offset)
            assert held is not None
            return held
        return reply if isinstance(reply, NotWritten) else Trouble("refused")

    def seat_of(self: Fills, message: Fill) -> Seat | None:
        return self._context.standing.seat_of_range(message.offset, message.end)

    return (
        Patch(settle_module, "ask_fill", ask_fill),
        Patch(chain_clients, "ask_fill", ask_fill),
        Patch(Fills, "_seat", seat_of),
    )


def _fill_junks_data() -> tuple[Patch, ...]:
    """A head fills with junk what it holds."""

    def plan(store: Store, seat: Seat, start: Offset, end: Offset, offsets_max: int) -> HeadPlan:
        run = (Range(start, end),)
        return HeadPlan(end, run, run, (), ())

    return (Patch(fills_module, "plan_at_head", plan),)


def _head_acknowledges() -> tuple[Patch, ...]:
    """The head acknowledges a write that the tail unit has not got."""
    pass_on = writes_module._pass_on

    def hasty(message: Write | Forward, seat: Seat, client: Address) -> list[Effect]:
        done = Written(message.request, message.epoch, message.offset, message.entry_id)
        return [*pass_on(message, seat, client), Send(client, done)]

    return (Patch(writes_module, "_pass_on", hasty),)


def _forward_before_durable() -> tuple[Patch, ...]:
    """A unit forwards a write that its own disk has not got."""
    pass_on = writes_module._pass_on

    def hasty(message: Write | Forward, seat: Seat, client: Address) -> list[Effect]:
        return _unordered(pass_on(message, seat, client))

    return (Patch(writes_module, "_pass_on", hasty),)


def _fill_list_before_durable() -> tuple[Patch, ...]:
    """A unit passes on junk that its own disk has not got."""
    pass_on = fills_module._pass_list_on

    def hasty(
        message: Fill | FillList, seat: Seat, decided: HeadPlan | FillList, client: Address
    ) -> list[Effect]:
        return _unordered(pass_on(message, seat, decided, client))

    return (Patch(fills_module, "_pass_list_on", hasty),)


def _fill_list_without_values() -> tuple[Patch, ...]:
    """A later unit passes on a fill list without the values that it lacks."""
    apply = Fills._apply

    def careless(
        self: Fills, message: FillList, work: Any, seat: Seat, sender: Address, now: float
    ) -> list[Effect]:
        work.lacking.clear()
        return apply(self, message, work, seat, sender, now)

    return (Patch(Fills, "_apply", careless),)


def _fill_list_junks_what_lacks() -> tuple[Patch, ...]:
    """A later unit makes junk of every offset of a list that is EMPTY there."""

    def careless(store: Store, seat: Seat, message: FillList) -> Any:
        work = work_of_list(store, seat, message)
        lacking = tuple(Range(held.offset, Offset(held.offset + 1)) for held in work.lacking)
        work.empty += lacking
        work.lacking.clear()
        return work

    return (Patch(fills_module, "work_of_list", careless),)


def _read_before_durable() -> tuple[Patch, ...]:
    """A read shows a value that waits for its fsync."""
    replies = Reads._replies

    def hasty(self: Reads, *arguments: Any) -> list[Effect]:
        return _unordered(replies(self, *arguments))

    return (Patch(Reads, "_replies", hasty),)


def _refusal_before_durable() -> tuple[Patch, ...]:
    """AlreadyWritten leaves before what is written is durable."""
    already = Context.already

    def hasty(self: Context, *arguments: Any) -> list[Effect]:
        return _unordered(already(self, *arguments))

    return (Patch(Context, "already", hasty),)


def _old_epoch_served() -> tuple[Patch, ...]:
    """A sealed unit goes on serving requests of the epoch before."""
    not_served = Context.not_served

    def careless(self: Context, message: Any, to: Address) -> list[Effect] | None:
        return None if message.epoch < self.standing.sealed else not_served(self, message, to)

    return (Patch(Context, "not_served", careless),)


def _sealed_before_durable() -> tuple[Patch, ...]:
    """Sealed leaves before the seal, and what was admitted before it, is durable."""
    seal = Control.seal

    def hasty(self: Control, message: Seal, sender: Address) -> list[Effect]:
        return _unordered(seal(self, message, sender))

    return (Patch(Control, "seal", hasty),)


def _seal_forgotten() -> tuple[Patch, ...]:
    """A restart does not find the seal."""
    take_small = recovery_module._Replay._take_small

    def forgetful(self: Any, header: Any) -> None:
        if header.kind != RecordKind.SEAL:
            take_small(self, header)

    return (Patch(recovery_module._Replay, "_take_small", forgetful),)


def _second_value_stored() -> tuple[Patch, ...]:
    """A head stores a second write over the junk that it holds."""
    write_at = Writes._write_at

    def careless(
        self: Writes, message: Write, seat: Seat, sender: Address, now: float
    ) -> list[Effect]:
        store = self._context.store
        if store.state_at_head(message.offset) is State.JUNK:
            store.index.set(message.offset, 0)
        return write_at(self, message, seat, sender, now)

    return (Patch(Writes, "_write_at", careless),)


def _refusal_settles() -> tuple[Patch, ...]:
    """A writer takes WrongEpoch for proof that its entry is not there."""
    judge = settle_module.judge_write

    def hasty(token: Any, entry: Any, reply: Message) -> Fate | None:
        return Fate.OTHER if isinstance(reply, WrongEpoch) else judge(token, entry, reply)

    return (Patch(settle_module, "judge_write", hasty),)


def _silence_settles() -> tuple[Patch, ...]:
    """A writer takes silence for proof that its entry is not there."""

    async def nothing(self: Any, entry: Any, token: Any) -> Fate | None:
        return Fate.OTHER

    return (Patch(settle_module.Writer, "_settle", nothing),)


def _tentative_read() -> tuple[Patch, ...]:
    """A read shows an entry that is not known to be durable above."""
    choose = Reads._choose

    def careless(self: Reads, offsets: Any, *arguments: Any, **options: Any) -> Any:
        book = self._context.store.tentative
        options["tentative"] = frozenset(Offset(at) for at in offsets if Offset(at) in book)
        return choose(self, offsets, *arguments, **options)

    return (Patch(Reads, "_choose", careless),)


def _written_before_own_fsync() -> tuple[Patch, ...]:
    """A unit passes a notice on, or answers, before its own fsync."""

    def hasty(self: Notices, confirmed: Any) -> list[Effect]:
        said = [_said(at, entry, entry.waiter) for at, entry in confirmed if entry.waiter]
        sends: list[Effect] = [each for each in said if isinstance(each, Send)]
        return sends + self._notices([each for each in said if not isinstance(each, Send)])

    return (Patch(Notices, "_pass_on", hasty),)


def _flag_of_the_sender_alone() -> tuple[Patch, ...]:
    """A unit says that an entry is durable above when it is durable at itself."""
    take = Writes._take_tentative

    def careless(self: Writes, message: Forward, seat: Seat) -> list[Effect]:
        if seat.next is not None:
            self._notices.owe(message, seat)
        return take(self, message, seat)

    return (Patch(Writes, "_take_tentative", careless),)


def _tentative_forgotten() -> tuple[Patch, ...]:
    """A restart takes what was tentative for held."""
    take_data = recovery_module._Replay._take_data

    def careless(self: Any, offset: Offset, place: Any, header: Any) -> None:
        take_data(self, offset, place, header._replace(flags=0))

    return (Patch(recovery_module._Replay, "_take_data", careless),)


def _tentative_kept_by_all() -> tuple[Patch, ...]:
    """In a new epoch every unit, not the head alone, holds what was tentative."""

    def careless(self: Notices) -> None:
        store = self._context.store
        for offset in sorted(store.tentative.entries):
            store.confirm(offset)

    return (Patch(Notices, "installed", careless),)


def _unordered(effects: list[Effect]) -> list[Effect]:
    return [
        replace(effect, ordered=False) if isinstance(effect, Send) else effect for effect in effects
    ]


Bugs = dict[str, tuple[str, Callable[[], tuple[Patch, ...]]]]

CHAIN_BUGS: Bugs = {
    "fill-begins-at-tail": ("chain-clients", _fill_begins_at_tail),
    "fill-junks-data": ("chain-clients", _fill_junks_data),
    "head-acknowledges": ("chain-clients", _head_acknowledges),
    "forward-before-durable": ("chain-clients", _forward_before_durable),
    "fill-list-before-durable": ("chain-clients", _fill_list_before_durable),
    "fill-list-without-values": ("chain-clients", _fill_list_without_values),
    "fill-list-junks-what-lacks": ("chain-clients", _fill_list_junks_what_lacks),
    "read-before-durable": ("chain-clients", _read_before_durable),
    "refusal-before-durable": ("chain-clients", _refusal_before_durable),
    "old-epoch-served": ("chain-seal", _old_epoch_served),
    "sealed-before-durable": ("chain-seal", _sealed_before_durable),
    "seal-forgotten": ("chain-crash", _seal_forgotten),
    "second-value-stored": ("chain-clients", _second_value_stored),
    "refusal-settles": ("chain-tail-dropped", _refusal_settles),
    "silence-settles": ("chain-retry", _silence_settles),
    "tentative-read": ("parallel-clients", _tentative_read),
    "written-before-own-fsync": ("parallel-clients", _written_before_own_fsync),
    "flag-of-the-sender-alone": ("parallel-three", _flag_of_the_sender_alone),
    "parallel-sealed-before-durable": ("parallel-crash", _sealed_before_durable),
    "tentative-forgotten": ("parallel-crash", _tentative_forgotten),
    "tentative-kept-by-all": ("parallel-lost", _tentative_kept_by_all),
}
