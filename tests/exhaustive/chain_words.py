"""What the nodes of the chain models call each other, and what messages say of offsets."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import NamedTuple

from corfu.messages import (
    AlreadyWritten,
    Durable,
    Entries,
    Filled,
    FillList,
    Forward,
    Written,
)
from corfu.types import JUNK_ID, Address, EntryId, Epoch, Offset, State
from tests.unit.storage_units.unit_bench import LEADER, unit_value

OFFSETS = (Offset(0), Offset(1))
"""The offsets that anything is done at."""

CLIENTS = ("writer", "filler", "reader")

ADDRESSES = {
    "u1": unit_value(1).address,
    "u2": unit_value(2).address,
    "u3": unit_value(3).address,
    "leader": LEADER,
    **{name: Address(f"10.0.9.{at}", 5000) for at, name in enumerate(CLIENTS, 1)},
}
NAMES = {address: name for name, address in ADDRESSES.items()}


class Value(NamedTuple):
    """What stands at an offset."""

    state: State
    entry_id: EntryId

    def __str__(self) -> str:
        known = self.entry_id.rstrip(b"\0").decode(errors="replace")
        return known if self.state is State.DATA else self.state.name


JUNK = Value(State.JUNK, JUNK_ID)


@dataclass(frozen=True, slots=True)
class TellValue:
    """A unit tells a client what an offset holds: for ever."""

    unit: str
    offset: Offset
    value: Value


@dataclass(frozen=True, slots=True)
class TellEmpty:
    """A unit tells a reader that an offset seems to hold nothing: a hint."""

    unit: str
    offset: Offset
    epoch: Epoch


@dataclass(frozen=True, slots=True)
class TellNever:
    """A writer has concluded that its entry does not stand at an offset, and never will."""

    offset: Offset
    value: Value


@dataclass(frozen=True, slots=True)
class TellAppended:
    """A writer has concluded that its entry stands at an offset."""

    offset: Offset
    value: Value


@dataclass(frozen=True, slots=True)
class TellReading:
    """A reader begins to read an offset."""

    offset: Offset


@dataclass(frozen=True, slots=True)
class TellUnwritten:
    """A reader has concluded that nothing was written when it looked."""

    offset: Offset


@dataclass(frozen=True, slots=True)
class TellActive:
    """The layout of an epoch is activated."""

    epoch: Epoch


def values_of(message: Hashable) -> list[tuple[Offset, Value]]:
    """Return which values a message says that its sender holds."""
    match message:
        case Written(offset=offset, entry_id=entry_id) | Forward(offset=offset, entry_id=entry_id):
            return [(offset, Value(State.DATA, entry_id))]
        case Durable(entries=entries):
            return [(offset, Value(State.DATA, entry_id)) for offset, entry_id in entries]
        case AlreadyWritten(offset=offset, entry_id=entry_id, state=state):
            return [(offset, Value(state, entry_id))]
        case Filled(junk=junk, held=held) | FillList(junk=junk, held=held):
            runs = [(Offset(at), JUNK) for run in junk for at in range(run.start, run.end)]
            return runs + [(each.offset, Value(each.state, each.entry_id)) for each in held]
        case Entries(entries=entries):
            return [(each.offset, Value(each.state, each.entry_id)) for each in entries]
        case _:
            return []
