"""What clients and units exchange about entries. Each carries its epoch and (first) offset.

"Offsets of a range" always means: the offsets of the asked unit's chain in that range, which
lies within one segment.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import NamedTuple

from corfu.types import Address, Digest, EntryId, Epoch, Offset, Range, RequestId, State


@dataclass(frozen=True, slots=True)
class Write:
    """Client to head: store `entry` at `offset` and pass it down the chain.

    `window_end` is the end of the window the token came from. Answered by `Written` from the
    tail unit, or by the head: `AlreadyWritten`, `WrongEpoch`, `Refused`.
    """

    request: RequestId
    epoch: Epoch
    offset: Offset
    entry_id: EntryId
    window_end: Offset
    entry: bytes


@dataclass(frozen=True, slots=True)
class Forward:
    """Unit to the next unit of the chain: the entry that the head chose for `offset`.

    `durable_above`: every unit above the receiver holds it durably. Without, it is tentative
    there until a `Durable`, or the same Forward with the flag, says so. The tail unit answers
    `client` with `Written`.
    """

    request: RequestId
    epoch: Epoch
    offset: Offset
    entry_id: EntryId
    client: Address
    entry: bytes
    durable_above: bool = True


@dataclass(frozen=True, slots=True)
class Durable:
    """Unit to the next unit: it and every unit above it hold these entries durably.

    `entries` are (offset, entry id), at most `NOTICE_ENTRIES_MAX`; `offset` is the first one's.
    Nobody repeats it: the Forward of a retransmitted Write carries what a lost one said.
    """

    request: RequestId
    epoch: Epoch
    offset: Offset
    entries: tuple[tuple[Offset, EntryId], ...]


@dataclass(frozen=True, slots=True)
class Written:
    """Tail unit to client: the entry is durable on every unit of its chain."""

    request: RequestId
    epoch: Epoch
    offset: Offset
    entry_id: EntryId


@dataclass(frozen=True, slots=True)
class AlreadyWritten:
    """Head to client: the offset holds another entry, or junk, or is trimmed or lost.

    `state` is DATA, JUNK, TRIMMED or LOST; what it speaks of is durable at the head.
    """

    request: RequestId
    epoch: Epoch
    offset: Offset
    entry_id: EntryId
    state: State


@dataclass(frozen=True, slots=True)
class Fill:
    """Client or leader to head: settle every offset of `[offset, end)`.

    What the head holds is passed down; where it is EMPTY it stores junk. With
    `only_if_written` (single offsets) an EMPTY head answers `NotWritten` instead and stores
    nothing.
    """

    request: RequestId
    epoch: Epoch
    offset: Offset
    end: Offset
    only_if_written: bool


@dataclass(frozen=True, slots=True)
class HeldOffset:
    """What one offset holds: DATA with its id and digest, or JUNK, TRIMMED, LOST."""

    offset: Offset
    state: State
    entry_id: EntryId
    digest: Digest


@dataclass(frozen=True, slots=True)
class FillList:
    """Unit to the next unit: the head's decision for `[offset, end)`, offset by offset.

    In every range of `junk` each offset of the chain is junk; `held` names all the others that
    are not trimmed. At most 1,024 held offsets. A unit applies exactly this list: it copies
    from the unit before it what it lacks, and never junks "where it is EMPTY".
    """

    request: RequestId
    epoch: Epoch
    offset: Offset
    end: Offset
    client: Address
    junk: tuple[Range, ...]
    held: tuple[HeldOffset, ...]


@dataclass(frozen=True, slots=True)
class Filled:
    """Tail unit to the asker of a `Fill`: what each offset of `[offset, end)` holds, for ever.

    `end` may be lower than asked (at most 1,024 values a list, or a damaged offset ahead): go
    on from there. Offsets of the chain neither in `junk` nor in `held` are trimmed.
    """

    request: RequestId
    epoch: Epoch
    offset: Offset
    end: Offset
    junk: tuple[Range, ...]
    held: tuple[HeldOffset, ...]


@dataclass(frozen=True, slots=True)
class NotWritten:
    """Head to the asker of an only-if-written `Fill`: EMPTY here at this moment.

    It settles nothing.
    """

    request: RequestId
    epoch: Epoch
    offset: Offset


@dataclass(frozen=True, slots=True)
class Read:
    """Client to tail unit: what `[offset, end)` holds, up to `bytes_max` bytes of entries.

    With `wait_ms` the unit may hold the request up to that long for the first value in range.
    Answered by `Entries`.
    """

    request: RequestId
    epoch: Epoch
    offset: Offset
    end: Offset
    bytes_max: int
    wait_ms: int


@dataclass(frozen=True, slots=True)
class Copy:
    """To any unit of the chain: its soundly held values at exactly these offsets (<= 1,024).

    Answered by `Entries`; used to repair and to complete, never to tell what was appended.
    """

    request: RequestId
    epoch: Epoch
    offset: Offset
    offsets: tuple[Offset, ...]


class Entry(NamedTuple):
    """One offset in `Entries`. `entry` is the value for DATA, b"" otherwise.

    A tuple, not a dataclass: a reply lists many. DAMAGED carries id and digest when they are
    known, else `JUNK_ID` and 0.
    """

    offset: Offset
    state: State
    entry_id: EntryId
    digest: Digest
    entry: bytes


@dataclass(frozen=True, slots=True)
class Entries:
    """What a unit holds durably at the chain's offsets in `[offset, end)`.

    Answer to `Read` (`end` is where the byte limit ended it) and to `Copy`. Offsets of the
    chain that are not listed are EMPTY, or TRIMMED if below `trim_mark`; EMPTY is only a hint.
    """

    request: RequestId
    epoch: Epoch
    offset: Offset
    end: Offset
    trim_mark: Offset
    entries: tuple[Entry, ...]


@dataclass(frozen=True, slots=True)
class WrongEpoch:
    """The unit serves another epoch (`epoch`, its sealed one), or waits for that one's layout."""

    request: RequestId
    epoch: Epoch
    offset: Offset


class Reason(enum.IntEnum):
    """Why a unit or replica refuses. A refusal settles nothing."""

    BUSY = 1
    NO_SPACE = 2
    REBUILDING = 3
    DAMAGED = 4
    CONFLICT = 5
    WRONG_UNIT = 6
    """The layout gives this unit (id, incarnation) no such role for the offset."""
    BELOW_FIRST_OFFSET = 7
    """A Write below T: older offsets change only by fills."""
    ABOVE_WINDOW = 8
    WRONG_INCARNATION = 9
    OTHER_LAYOUT = 10
    """A second layout with another digest for one epoch: an alarm."""
    STALE_EPOCH = 11
    SYNC_MODE = 12
    MALFORMED = 13
    TOO_OLD = 14
    """A token request older than the answers that are kept."""
    LOST_STATE = 15
    """The unit knows only an older epoch than it was once sealed for: its folder is an old copy."""


@dataclass(frozen=True, slots=True)
class Refused:
    """The request was not done, for `reason`. It settles nothing about any offset."""

    request: RequestId
    epoch: Epoch
    offset: Offset
    reason: Reason
