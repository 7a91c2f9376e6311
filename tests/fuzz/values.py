"""Values of any message, built from the types of its fields: a new message needs no line here.

Numbers come from a small world (the epochs, offsets, units and replicas that a target really has),
so that many messages mean something to it, and now and then from the edges of their range.
"""

from __future__ import annotations

import enum
import random
import types
import typing
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, get_args, get_origin, get_type_hints

from corfu.layout import Layout, Replica, Unit
from corfu.messages import Message
from corfu.messages.data import AlreadyWritten, Durable, Entry, HeldOffset
from corfu.messages.units import Block, Inspect
from corfu.types import (
    OFFSET_MAX,
    Address,
    Ballot,
    ClusterId,
    EntryId,
    Epoch,
    GoalId,
    Incarnation,
    Offset,
    ReplicaId,
    RequestId,
    Slot,
    State,
    UnitId,
)

EDGES = (
    *(0, 1, 2, 23, 24, 127, 128, 255, 256, 1023, 1024, 1025, 2047, 2048, 65535, 65536),
    *(2**20, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**53, 2**62, 2**63 - 1, 2**63, 2**64 - 1),
)
"""Integers at which codes go wrong."""

_NARROW = {"bytes_max": (0, 1, 100, 4096, 1 << 20, 2**32 - 1), "wait_ms": (0, 0, 1, 50, 2**32 - 1)}
"""Fields that travel in 32 bits."""

_EDGE_SHARE = 0.06
_SETTLED = (State.DATA, State.JUNK, State.TRIMMED, State.LOST)


@dataclass(frozen=True, slots=True)
class Names:
    """The world that values are drawn from."""

    cluster: ClusterId
    epochs: tuple[int, ...]
    offsets: tuple[int, ...]
    units: tuple[Unit, ...]
    replicas: tuple[Replica, ...]
    clients: tuple[Incarnation, ...]
    layouts: tuple[Layout, ...]
    entry_ids: tuple[EntryId, ...]
    ballots: tuple[Ballot, ...] = (Ballot(1, ReplicaId(1)),)
    slots: tuple[int, ...] = (1, 2, 3)
    values: tuple[bytes, ...] = (b"", b"value")
    sequences: tuple[int, ...] = tuple(range(1, 40))
    digests: tuple[int, ...] = (0,)
    extra: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    """Values for fields of this name, whatever their message."""

    @property
    def addresses(self) -> tuple[Address, ...]:
        """Return where anybody of this world is reached."""
        units = tuple(unit.address for unit in self.units)
        return (*units, *(replica.address for replica in self.replicas))


class Maker:
    """Makes messages; the same random numbers, the same messages."""

    def __init__(self, names: Names, rng: random.Random) -> None:
        self._names = names
        self._rng = rng
        self._unit = names.units[0]
        self._replica = names.replicas[0]
        pick = self._pick
        self._special: dict[Any, Callable[[], Any]] = {
            ClusterId: lambda: names.cluster,
            Epoch: lambda: self._number(names.epochs),
            Offset: lambda: min(self._number(names.offsets), OFFSET_MAX),
            Slot: lambda: self._number(names.slots),
            UnitId: lambda: self._unit.id,
            ReplicaId: lambda: self._replica.id,
            Ballot: lambda: pick(names.ballots),
            Incarnation: lambda: pick(names.clients),
            EntryId: lambda: pick(names.entry_ids),
            GoalId: lambda: GoalId(pick((bytes(16), b"goal-id-goal-id-"))),
            Layout: lambda: pick(names.layouts),
            Unit: lambda: pick(names.units),
            Replica: lambda: pick(names.replicas),
            Address: lambda: pick(names.addresses),
            RequestId: lambda: RequestId(pick(names.clients), self._number(names.sequences)),
            int: lambda: self._number(names.digests if self._rng.random() < 0.2 else range(64)),
            bool: lambda: self._rng.random() < 0.5,
            float: self._rng.random,
            bytes: lambda: pick(names.values),
            str: lambda: pick(("", "text", "ä" * 9)),
            types.NoneType: lambda: None,
        }

    def message(self, kind: type[Message]) -> Any:
        """Make a message of a kind, in bounds that its words state and its types cannot."""
        self._unit = self._pick(self._names.units)
        self._replica = self._pick(self._names.replicas)
        if kind is Inspect:
            start = self._rng.randrange(64)
            request = self._value(RequestId, "request")
            return Inspect(request, Offset(start), Offset(start + self._rng.randrange(1024)))
        if kind is Durable:
            entries = tuple(
                (self._value(Offset, "offset"), self._value(EntryId, "entry_id"))
                for _ in range(self._rng.randint(1, 3))
            )
            request, epoch = self._value(RequestId, "request"), self._value(Epoch, "epoch")
            return Durable(request, epoch, entries[0][0], entries)
        return self._value(kind, "")

    def value(self, kind: Any) -> Any:
        """Make a value of any declared type."""
        return self._value(kind, "")

    def _value(self, kind: Any, name: str) -> Any:
        extra = self._names.extra.get(name) or _NARROW.get(name)
        if extra is not None:
            return self._pick(extra)
        if kind is Incarnation and name == "incarnation":
            # Whose incarnation it is, the field beside it says: a unit's or a replica's.
            return self._pick((self._unit.incarnation, self._replica.incarnation))
        special = self._special.get(kind)
        if special is not None:
            return special()
        if isinstance(kind, typing.NewType):
            return self._value(kind.__supertype__, name)
        if isinstance(kind, type) and issubclass(kind, enum.Enum):
            return self._pick(tuple(kind))
        if is_dataclass(kind) or (isinstance(kind, type) and hasattr(kind, "_fields")):
            return self._structure(kind)
        return self._generic(kind, name)

    def _structure(self, kind: Any) -> Any:
        hints = get_type_hints(kind)
        names = [f.name for f in fields(kind)] if is_dataclass(kind) else list(kind._fields)
        values = {name: self._value(hints[name], name) for name in names}
        if kind in (HeldOffset, AlreadyWritten):
            values["state"] = self._pick(_SETTLED)
        if kind is Entry and values["state"] is not State.DATA:
            values["entry"] = b""
        if kind is Block:
            values["bitmap"] = self._rng.randbytes(128)
        if "unit" in values and "incarnation" in values and self._rng.random() < 0.9:
            values["incarnation"] = self._unit.incarnation
        if "replica" in values and "incarnation" in values and self._rng.random() < 0.95:
            values["incarnation"] = self._replica.incarnation
        if "offset" in values and "end" in values and self._rng.random() < 0.9:
            values["end"] = min(values["offset"] + self._rng.randrange(1, 12), OFFSET_MAX)
        return kind(**values)

    def _generic(self, kind: Any, name: str) -> Any:
        origin, arguments = get_origin(kind), get_args(kind)
        if origin is tuple and len(arguments) == 2 and arguments[1] is Ellipsis:
            return tuple(self._value(arguments[0], name) for _ in range(self._rng.randrange(4)))
        if origin is tuple:
            return tuple(self._value(each, name) for each in arguments)
        if origin in (typing.Union, types.UnionType):
            return self._value(self._pick(arguments), name)
        raise AssertionError(f"no value for {kind}")

    def _number(self, choices: Sequence[int]) -> int:
        numbers = EDGES if self._rng.random() < _EDGE_SHARE else choices
        return numbers[int(self._rng.random() * len(numbers))]

    def _pick(self, choices: Sequence[Any]) -> Any:
        return choices[int(self._rng.random() * len(choices))]
