"""Settings of one sequencer replica."""

from __future__ import annotations

from dataclasses import dataclass, field

from corfu.config import LinkSettings
from corfu.journal.format import JournalSettings

TOKENS_PER_REQUEST_MAX = 4096
"""Most tokens in one grant; a client asks for entries that could leave at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SequencerSettings:
    """Times and sizes of a replica; checked once, when made. Times decide how soon, never what."""

    heartbeat_s: float = 0.05
    election_s_min: float = 0.3
    election_s_max: float = 0.6
    """An election starts after a random time in [min, max] without a leader."""

    accept_repeat_s: float = 0.1
    """An Accept that is not answered is sent again after this time."""

    snapshot_slots: int = 1000
    """A snapshot is written after so many applied slots."""

    catchup_bytes_max: int = 256 << 10
    """Most bytes of values in one answer to a replica that is behind."""

    probe_s: float = 0.25
    probe_budget_s: float = 0.4
    """Each unit is probed every `probe_s`; a probe without an answer ends after the budget."""

    unit_dead_s: float = 1.0
    """A unit that a majority of replicas have not heard for so long is left out of the layout."""

    second_dead_s: float = 5.0
    """A second unit of the same chain at once is left out only after so long."""

    boot_grace_s: float = 30.0
    """Instead of `unit_dead_s`: for a unit not heard since the replica's own start, and for one
    that could settle another's doubt. A cluster that starts after a power cut drops nobody who is
    merely slow."""

    change_gap_s: float = 10.0
    """Changes that are neither failovers nor removals (a unit joins, chains are merged) wait until
    the epoch is so old."""

    rebuild_bytes_s: float = 64e6
    """Most bytes a second that a rebuild copies."""

    rebuild_share: float = 0.5
    """Most of its time that a rebuild works; it rests for the other part."""

    unit_silent_s: float = 1.0
    """A unit not heard for so long counts as out of reach."""

    mend_s: float = 3.0
    """So long a head may copy what it found damaged from its own chain; then the leader settles it
    in a new epoch."""

    seal_s: float = 1.0
    """How long one attempt at a seal or an install may take."""

    backoff_s_min: float = 0.1
    backoff_s_max: float = 5.0
    """Between attempts at a new epoch; doubles."""

    stable_s: float = 10.0
    """An epoch served for so long sets the backoff back."""

    hole_sweep_s: float = 1.0
    """Holes below a tail that is so old are filled by the leader."""

    window_s: float = 0.1
    """A window holds what is granted in this time, at the rate of the last seconds."""

    window_offsets_min: int = 256
    clients_max: int = 4096
    answers_max: int = 1024
    """Grants are remembered for so many clients, and for each so many requests."""

    waiting_max: int = 4096
    """Most requests waiting for a window or for a confirmed tail."""

    waiting_s: float = 1.0
    """A token request that waited so long for a window is told to come back."""

    journal: JournalSettings = field(default_factory=lambda: JournalSettings(file_bytes=4 << 20))
    link: LinkSettings = field(default_factory=LinkSettings)

    def __post_init__(self) -> None:
        if not 0 < self.heartbeat_s < self.election_s_min < self.election_s_max:
            raise ValueError("0 < heartbeat_s < election_s_min < election_s_max must hold")
        if not 0 < self.backoff_s_min <= self.backoff_s_max:
            raise ValueError("backoff_s_min must be above 0 and at most backoff_s_max")
        if not 0 < self.rebuild_share <= 1 or self.rebuild_bytes_s <= 0:
            raise ValueError("rebuild_share must be in (0, 1], rebuild_bytes_s above 0")
        if self.snapshot_slots < 1 or self.window_offsets_min < 1:
            raise ValueError("snapshot_slots and window_offsets_min must be at least 1")
