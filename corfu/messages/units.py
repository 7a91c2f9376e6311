"""What the sequencer (and tools) and the units tell each other: epochs, trim, health, repair."""

from __future__ import annotations

from dataclasses import dataclass

from corfu.layout import Layout
from corfu.messages.data import Reason
from corfu.types import (
    Address,
    Digest,
    EntryId,
    Epoch,
    Incarnation,
    Offset,
    Range,
    RequestId,
    State,
    SyncMode,
    UnitId,
)


@dataclass(frozen=True, slots=True)
class Seal:
    """Leader to unit: refuse every epoch below `epoch`, for ever.

    Carries what the sequencer knows (trim mark, closed_until, lost offsets); the unit raises its
    own first. Answered by `Sealed`, or `Refused(WRONG_INCARNATION | STALE_EPOCH)`.
    """

    request: RequestId
    epoch: Epoch
    unit: UnitId
    incarnation: Incarnation
    sealed_for: Epoch
    trim_mark: Offset
    closed_until: Offset
    lost: tuple[Range, ...]


@dataclass(frozen=True, slots=True)
class Block:
    """Which of 1,024 consecutive offsets a unit soundly holds (data, junk or lost).

    Bit i of `bitmap` (little-endian, 128 bytes) is offset `1024 * number + i`. `digest` is the
    xor over the held offsets of xxh3_64(offset u64 big-endian, entry id). `named` are offsets
    it holds damaged or in doubt, but can name.
    """

    number: int
    bitmap: bytes
    digest: int
    named: tuple[Offset, ...]


@dataclass(frozen=True, slots=True)
class Sealed:
    """Unit to leader: sealed at `epoch`, durably, and what was admitted before is in here.

    `epoch_before` is the epoch held before the first Seal with this epoch came. `blocks` tell
    what it holds at and above its closed_until. `doubt` tells whether there may be more that
    it can neither read nor name. `local_tail` is 1 + the highest offset held (at least the
    trim mark).
    """

    request: RequestId
    epoch: Epoch
    unit: UnitId
    incarnation: Incarnation
    epoch_before: Epoch
    local_tail: Offset
    trim_mark: Offset
    closed_until: Offset
    blocks: tuple[Block, ...]
    doubt: bool


@dataclass(frozen=True, slots=True)
class Install:
    """Leader to unit: the activated layout of exactly the sealed epoch.

    Answered by `Installed`, or `Refused(OTHER_LAYOUT | STALE_EPOCH | SYNC_MODE |
    WRONG_INCARNATION)`.
    """

    request: RequestId
    unit: UnitId
    incarnation: Incarnation
    layout: Layout
    trim_mark: Offset
    closed_until: Offset
    window_end: Offset
    lost: tuple[Range, ...]


@dataclass(frozen=True, slots=True)
class Installed:
    """Unit to leader: the layout is durably installed; data requests of its epoch are served."""

    request: RequestId
    epoch: Epoch
    unit: UnitId
    incarnation: Incarnation


@dataclass(frozen=True, slots=True)
class TrimTo:
    """Leader to unit: the chosen trim mark; everything below it is gone."""

    request: RequestId
    unit: UnitId
    incarnation: Incarnation
    mark: Offset
    closed_until: Offset


@dataclass(frozen=True, slots=True)
class Trimmed:
    """Unit to leader: its trim mark is durably `mark`.

    `freed_files` and `freed_bytes`: what the process has freed since its start, for whatever
    reason. `freeing`: more will follow for this mark.
    """

    request: RequestId
    unit: UnitId
    incarnation: Incarnation
    mark: Offset
    freed_files: int
    freed_bytes: int
    freeing: bool


@dataclass(frozen=True, slots=True)
class Probe:
    """Replica to unit: are you well? Passes through the unit's commit queue.

    Carries what the sequencer knows, for the unit to raise its own.
    """

    request: RequestId
    unit: UnitId
    incarnation: Incarnation
    trim_mark: Offset
    closed_until: Offset
    window_end: Offset


@dataclass(frozen=True, slots=True)
class SilentUnit:
    """A next unit that has not answered pings for `silent_ms`."""

    unit: UnitId
    silent_ms: int


@dataclass(frozen=True, slots=True)
class Probed:
    """Unit to replica. `restarted`: it serves no data before it is sealed at a newer epoch.

    `doubt`: it holds damaged or doubtful offsets that a new epoch should settle. `frozen`: it
    saw a Conflict and takes no writes.
    """

    request: RequestId
    unit: UnitId
    incarnation: Incarnation
    epoch: Epoch
    installed: bool
    restarted: bool
    doubt: bool
    frozen: bool
    local_tail: Offset
    trim_mark: Offset
    closed_until: Offset
    window_end: Offset
    free_bytes: int
    sync: SyncMode
    silent: tuple[SilentUnit, ...]


@dataclass(frozen=True, slots=True)
class Inspect:
    """Tool or leader to any unit, in any epoch: what it holds in `[start, end)` (<= 1,024 offsets).

    Ranges here are of all offsets; the unit lists those it knows anything of.
    """

    request: RequestId
    start: Offset
    end: Offset


@dataclass(frozen=True, slots=True)
class InspectedOffset:
    """State, id, digest and entry length of one offset at one unit.

    `tentative`: a whole copy of the one entry ever written there, which the unit counts as EMPTY
    since it does not know it to be durable above. Its state is DATA.
    """

    offset: Offset
    state: State
    entry_id: EntryId
    digest: Digest
    length: int
    tentative: bool = False


@dataclass(frozen=True, slots=True)
class Inspected:
    """Unit's answer to `Inspect` for `[start, end)`; `end` may be lower than asked."""

    request: RequestId
    unit: UnitId
    incarnation: Incarnation
    epoch: Epoch
    start: Offset
    end: Offset
    trim_mark: Offset
    offsets: tuple[InspectedOffset, ...]


@dataclass(frozen=True, slots=True)
class Resolution:
    """How one doubtful or damaged offset at a head is settled.

    DATA: the unit at `source` holds a sound copy with this id and digest (junk: JUNK, no copy
    needed). EMPTY: it was never acknowledged. LOST: no sound copy exists.
    """

    offset: Offset
    state: State
    entry_id: EntryId
    digest: Digest
    source: Address | None


@dataclass(frozen=True, slots=True)
class Resolve:
    """Leader to a head in doubt, at the epoch that its restart caused.

    With `all_known`, every sound value of the other units of its chain is among `items`, so
    the doubt that cannot name its offsets ends too.
    """

    request: RequestId
    epoch: Epoch
    unit: UnitId
    incarnation: Incarnation
    items: tuple[Resolution, ...]
    all_known: bool


@dataclass(frozen=True, slots=True)
class Resolved:
    """Unit to leader: the resolutions are durably applied; `doubt` tells if any is left."""

    request: RequestId
    unit: UnitId
    incarnation: Incarnation
    doubt: bool


@dataclass(frozen=True, slots=True)
class RebuildItem:
    """What a chain holds at one offset.

    DATA with its id and digest, and a unit to copy it from; JUNK or LOST with `JUNK_ID`, 0, None.
    """

    offset: Offset
    state: State
    entry_id: EntryId
    digest: Digest
    source: Address | None


@dataclass(frozen=True, slots=True)
class Rebuild:
    """Leader to a unit that is being rebuilt: make what you hold equal to `items`.

    They are all that a chain holds in some closed range below `closed_until` and not below
    `trim_mark`. Answered by `RebuildDone`, or `Refused`, or `WrongEpoch`.
    """

    request: RequestId
    epoch: Epoch
    unit: UnitId
    incarnation: Incarnation
    trim_mark: Offset
    closed_until: Offset
    items: tuple[RebuildItem, ...]


@dataclass(frozen=True, slots=True)
class RebuildDone:
    """Unit to leader: all items of the `Rebuild` are durably held. `copied_bytes` were copied."""

    request: RequestId
    unit: UnitId
    incarnation: Incarnation
    copied_bytes: int


@dataclass(frozen=True, slots=True)
class Scrub:
    """Tool or leader to unit: what is damaged; with `start`, begin a pass over everything now.

    Answered by `ScrubIs`. The same request again begins nothing anew.
    """

    request: RequestId
    unit: UnitId
    incarnation: Incarnation
    start: bool


@dataclass(frozen=True, slots=True)
class ScrubIs:
    """Unit's answer to `Scrub`. All counts are since its process began.

    `running` and the bytes are about the pass under way, else the last one; `passes` have ended.
    Of `damaged` offsets `repaired` were stored soundly again, and `left` are damaged now, the
    lowest of them in `offsets`. `doubt`: there may be more that it cannot name.
    """

    request: RequestId
    unit: UnitId
    incarnation: Incarnation
    running: bool
    passes: int
    bytes_done: int
    bytes_total: int
    damaged: int
    repaired: int
    left: int
    offsets: tuple[Offset, ...]
    doubt: bool


@dataclass(frozen=True, slots=True)
class Ping:
    """Unit to the next unit of one of its chains."""

    request: RequestId
    unit: UnitId


@dataclass(frozen=True, slots=True)
class Pong:
    """Answer to `Ping`."""

    request: RequestId
    unit: UnitId


__all__ = [
    "Block",
    "Inspect",
    "Inspected",
    "InspectedOffset",
    "Install",
    "Installed",
    "Ping",
    "Pong",
    "Probe",
    "Probed",
    "Reason",
    "Rebuild",
    "RebuildDone",
    "RebuildItem",
    "Resolution",
    "Resolve",
    "Resolved",
    "Scrub",
    "ScrubIs",
    "Seal",
    "Sealed",
    "SilentUnit",
    "TrimTo",
    "Trimmed",
]
