"""Settings of one storage unit: sizes, bounds and intervals, checked once, when they are made."""

from __future__ import annotations

from dataclasses import dataclass, field

from corfu.config import HELD_MAX, LinkSettings
from corfu.types import Address

from .index import FILE_BYTES_MAX


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitSettings:
    """How one storage unit runs. Every bound holds per process."""

    journal_file_bytes: int = 32 << 20
    """Length of one journal file, at most 128 MiB; also the reserve that writes leave untouched."""

    spares_wanted: int = 2
    """Empty journal files kept ready: one is the reserve, so fewer than 2 stops writes."""

    cache_bytes_max: int = 64 << 20
    """Entries kept in memory for tailing readers, the newest first."""

    backlog_bytes_max: int = 64 << 20
    """Entries admitted and not yet durable; above it Writes and Forwards are answered BUSY."""

    names_loaded_max: int = 65536
    """Ids and digests, read back from disk for old offsets, that are kept: at least `HELD_MAX`, or
    an Inspect of so many offsets would read them for ever."""

    loads_max: int = 64
    """Requests that wait for a read from disk; above it they are answered BUSY."""

    parked_max: int = 4096
    """Reads held until a value comes; above it they are answered at once."""

    park_s_max: float = 60.0
    """Longest that a Read is held, whatever it asks for."""

    copies_max: int = 64
    """Fills and repairs that wait for values from another unit; the oldest gives way."""

    copy_s_max: float = 10.0
    """After that such a wait is given up, unanswered; the asker owns the retry."""

    parallel_persist: bool = True
    """Entries are forwarded before their own fsync, so that a chain costs one fsync time."""

    fill_offsets_max: int = 16384
    """Most offsets of the chain that one Fill settles; the asker goes on from there."""

    read_offsets_max: int = 4096
    """Most offsets of the chain that one Read looks at."""

    ping_interval_s: float = 0.25
    """How often the next unit of each chain is pinged."""

    housekeeping_s: float = 0.05
    """How often index files are looked after."""

    register_s: float = 1.0
    """How long one replica may take to acknowledge a registration before the next is asked."""

    register_again_s: float = 30.0
    """How long an acknowledged registration is believed."""

    unprobed_s: float = 2.0
    """A unit that no replica has probed for so long asks whether it was left out of the layout."""

    undropped_s: float = 60.0
    """So long a unit that may not serve waits to be dropped before it tells the operator."""

    scrub_bytes_s: float = 4e6
    """How fast all records are read again and checked, in the background."""

    scrub_rest_s: float = 3600.0
    """How long after such a pass the next one begins."""

    scrub_asked_bytes_s: float = 64e6
    """How fast that goes when somebody asked for it (`corfu scrub`)."""

    sequencers: tuple[Address, ...] = ()
    """Replicas to register with before the first layout names them."""

    link: LinkSettings = field(default_factory=LinkSettings)

    def __post_init__(self) -> None:
        if self.spares_wanted < 2:
            raise ValueError("spares_wanted must be at least 2: one of them is the reserve")
        if self.journal_file_bytes > FILE_BYTES_MAX:
            raise ValueError(f"journal_file_bytes must be at most {FILE_BYTES_MAX}")
        if self.names_loaded_max < HELD_MAX:
            raise ValueError(f"names_loaded_max must be at least {HELD_MAX}")
        if not 0 < self.scrub_bytes_s <= self.scrub_asked_bytes_s or self.scrub_rest_s <= 0:
            raise ValueError("0 < scrub_bytes_s <= scrub_asked_bytes_s, 0 < scrub_rest_s must hold")
        if not 1 <= self.fill_offsets_max <= 65536 or self.read_offsets_max < 1:
            raise ValueError("fill_offsets_max must be in [1, 65536], read_offsets_max at least 1")
