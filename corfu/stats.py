"""What a log has done since it was opened, in numbers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class LogStats:
    """Counters of one opened log. They only rise, but for `cache_bytes`.

    Attributes:
        cache_hits: Offsets that were read out of this process's memory.
        cache_misses: Offsets that were looked for there and had to be read elsewhere.
        cache_bytes: What is kept there now.
    """

    cache_hits: int = 0
    cache_misses: int = 0
    cache_bytes: int = 0

    @property
    def cache_hit_ratio(self) -> float:
        """The share of offsets that were read out of memory; 0 before anything was read."""
        looked = self.cache_hits + self.cache_misses
        return self.cache_hits / looked if looked else 0.0
