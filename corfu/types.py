"""The numbers and names of the log, each a type of its own so that they cannot be mixed.

Pure values only; imports nothing of ours.
"""

from __future__ import annotations

import enum
from typing import NamedTuple, NewType

Offset = NewType("Offset", int)
"""Place of an entry in the log, u64, from 0."""

Epoch = NewType("Epoch", int)
"""Number of a layout; no number ever has two layouts. 0 means: never sealed."""

Slot = NewType("Slot", int)
"""Place in the Paxos log, from 1; 0 is the formatted state."""

UnitId = NewType("UnitId", int)
ReplicaId = NewType("ReplicaId", int)

ClusterId = NewType("ClusterId", bytes)
"""8 random bytes, made when a cluster is formatted."""

Incarnation = NewType("Incarnation", bytes)
"""16 random bytes, made when a data folder is formatted or a client or process opened."""

EntryId = NewType("EntryId", bytes)
"""16 random bytes, one per entry; an entry keeps its id when it is appended again."""

GoalId = NewType("GoalId", bytes)
"""16 random bytes, made by the command that states a goal."""

Digest = NewType("Digest", int)
"""xxh3_64 of an entry's bytes."""

JUNK_ID = EntryId(bytes(16))
"""The id of junk: it equals any junk."""

NO_INCARNATION = Incarnation(bytes(16))

OFFSET_MAX = Offset(2**63 - 1)
"""Offsets stay below this, so that a sum of two never leaves u64."""


class Address(NamedTuple):
    """Where a process receives datagrams: a numeric host and a UDP port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Position(NamedTuple):
    """Place of a record: the entry's offset and the record's index in it. Ordered.

    A tuple, as `Record` is: a scan makes one of each for every record, and frozen dataclasses
    would cost more than all else that is done with it.
    """

    offset: Offset
    index: int  # type: ignore[assignment]  # it hides `tuple.index`, which nobody misses

    def __str__(self) -> str:
        return f"{self.offset}.{self.index}"


class Ballot(NamedTuple):
    """Paxos ballot; ordered by round, then replica id; never used twice."""

    round: int
    replica: ReplicaId


NO_BALLOT = Ballot(0, ReplicaId(0))


class RequestId(NamedTuple):
    """Names one request: who asked (a process's incarnation) and its how-manieth."""

    client: Incarnation
    sequence: int


class Token(NamedTuple):
    """The right to write one entry at one offset, in one epoch only; granted once."""

    epoch: Epoch
    offset: Offset


class Range(NamedTuple):
    """Offsets `[start, end)`."""

    start: Offset
    end: Offset


class Record(NamedTuple):
    """One value a user appended, and its place."""

    position: Position
    data: bytes


class State(enum.IntEnum):
    """What a unit says of one offset."""

    EMPTY = 0
    DATA = 1
    JUNK = 2
    TRIMMED = 3
    DAMAGED = 4
    LOST = 5


class SyncMode(enum.StrEnum):
    """What an acknowledged append has reached on every unit of its chain."""

    ALWAYS = "always"
    OS = "os"
