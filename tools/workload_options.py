"""How much one client under test does, and what it leaves alone."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadOptions:
    """How much one client does. `*_gap_s` are means of exponential gaps."""

    appenders: int = 2
    """Concurrent appending tasks."""

    append_gap_s: float = 0.02
    read_gap_s: float = 0.05
    append_timeout_s: float = 4.0
    record_bytes_max: int = 300
    large_share: float = 0.01
    large_bytes_max: int = 150_000
    trim_clients: float = 0.4
    """Share of the clients that trim."""

    trim_share: float = 0.2
    """Share of their turns to trim that do."""

    trimmed_share: float = 1.0
    """At most this part of what a client knows of the log is trimmed by it: the rest is there to
    be found, or missed, in the end."""

    first: int = 0
    """What lies below this offset is nobody's business here: another's, in a log that was there
    before."""

    fill_own_only: bool = False
    """Fill only offsets that hold something of this client: an append of another that is under way
    is never made to move."""

    to_tail_share: float = 0.0
    """Share of the scans that are not told where to end."""

    cancel_share: float = 0.0
    """Share of the operations that are cancelled before they have ended."""

    cancel_s_max: float = 0.02
    """They are cancelled at most so soon."""

    catch_up_s: float = 0.0
    """How long, after the last append, a follower may take to come to it. 0: it is not asked."""

    visits: bool = False
    """Whether a client opens other logs, too, which it closes with appends in flight."""
