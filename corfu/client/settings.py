"""The settings of a client. Frozen, with the unit in each name, checked when made."""

from __future__ import annotations

from dataclasses import dataclass, field

from corfu.compression import Compression
from corfu.config import ENTRY_BYTES_MAX


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientSettings:
    """How a client packs, how much it keeps in flight, how long it waits."""

    ordered: bool = False
    """One entry without verdict at a time: log order is call order, across failures too."""

    timeout_s: float = 30.0
    """How long a call may take that names no timeout of its own."""

    close_s: float = 5.0
    """How long `close()` waits for what is in flight, if it names no timeout."""

    linger_s: float = 0.0
    """How long a lone record waits for company when nothing is in flight."""

    gather_s: float = 0.005
    """The longest that queued records wait for an entry in flight to end and make room.

    Long enough for an ordinary round trip with its syncs, so that records go together; short,
    so that one stuck entry does not hold up the others.
    """

    entry_bytes_target: int = 60_000
    """An entry is closed at this size: it leaves in one burst (`BURST_BYTES_MAX`).

    Counted before compression.
    """

    compression: Compression = field(default_factory=Compression)
    """Whether entries are compressed, and the dictionaries to read with."""

    entries_in_flight_max: int = 64
    bytes_in_flight_max: int = 8 << 20
    queue_bytes_max: int = 16 << 20
    """Bytes of records, queued and in flight, from which on `drain` waits."""

    tokens_per_request_max: int = 64

    write_budget_s: float = 1.0
    """How long a Write is repeated before its offset is settled by a fill: so long at least, and
    longer where writes usually take long."""

    write_look_s: float = 0.25
    """How long a Write stays silent before it is looked whether there is a new layout: as above."""

    unit_budget_s: float = 0.5
    """How long any other request to a unit is repeated before the layout is asked for."""

    replica_budget_s: float = 0.4
    """How long a replica is asked before another one is."""

    backoff_s_min: float = 0.01
    backoff_s_max: float = 1.0

    hole_timeout_s: float = 0.25
    """Least time an offset below the tail may stay empty before a reader fills it."""

    gap_grace_s: float = 0.01
    """How long a follower lets an overtaken entry catch up before it asks the head for it."""

    read_bytes: int = 256 << 10
    """Bytes of entries that a scan asks one chain for in one Read; the answer comes in parts, each
    of which leaves in one burst (`PART_BYTES_MAX`)."""

    part_gap_s: float = 0.1
    """How long the next part of such an answer may take before what lacks is asked for again."""

    window_bytes: int = 1 << 20
    """Most bytes of entries that a scan asks of all chains together for one window, and about
    what it yields at once."""

    ahead_bytes: int = 3 << 20
    """A scan reads so many bytes ahead of what it has yielded. They come as fast as units send, so
    the socket's receive buffer must hold them: `connect` takes less where that is small."""

    follow_wait_s: float = 1.0
    """How long a follower's Read stays parked at a tail unit."""

    follow_bytes: int = 8 << 20
    """Bytes that a follower buffers ahead of the first offset it still lacks."""

    cache_bytes: int = 16 << 20
    """Values kept in memory, so that reading them again asks nobody; 0: none."""

    def __post_init__(self) -> None:
        if not 1024 <= self.entry_bytes_target <= ENTRY_BYTES_MAX:
            raise ValueError(f"entry_bytes_target must be in [1024, {ENTRY_BYTES_MAX}]")
        if not 1 <= self.read_bytes <= ENTRY_BYTES_MAX:
            raise ValueError(f"read_bytes must be in [1, {ENTRY_BYTES_MAX}]")
        if not 0 < self.backoff_s_min <= self.backoff_s_max:
            raise ValueError("backoff_s_min must be above 0 and at most backoff_s_max")
        if self.timeout_s <= 0 or self.entries_in_flight_max < 1 or self.ahead_bytes < 1:
            raise ValueError("timeout_s, entries_in_flight_max and ahead_bytes: above 0")
        if self.cache_bytes < 0:
            raise ValueError("cache_bytes must be 0 or more")
