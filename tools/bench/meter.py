"""Counting in a client process, as cheaply as can be: what it costs is measured with the rest."""

from __future__ import annotations

from .figures import Figures
from .histogram import Histogram

TICK_S = 0.25
"""How often what was noted is counted, and a rate told."""

ERRORS_KEPT = 16
"""Different error texts that are told apart; texts name offsets, so there may be thousands."""


class Meter:
    """Counts records, latencies and errors of one client, from `begin` to `end`.

    The hot path is `samples.append(nanoseconds)`; the rest is done by `fold` and `tick`.
    """

    def __init__(self, records: int = 0, size: int = 0) -> None:
        """Make a meter.

        Args:
            records: How many records each sample stands for; 0: they are told by `add`.
            size: Bytes of each of them.
        """
        self.samples: list[int] = []
        self.latency = Histogram()
        self.records = 0
        self.bytes = 0
        self.errors: dict[str, int] = {}
        self._weight = (records, records * size)
        self._rates: list[tuple[float, float]] = []
        self._begin_ns = self._last_ns = self._end_ns = 0
        self._last_records = 0

    def add(self, records: int, size: int) -> None:
        """Count records that no sample stands for."""
        self.records += records
        self.bytes += size

    def error(self, error: Exception) -> None:
        """Count a failure."""
        text = f"{type(error).__name__}: {error}"
        if text not in self.errors and len(self.errors) >= ERRORS_KEPT:
            text = type(error).__name__
        self.errors[text] = self.errors.get(text, 0) + 1

    def begin(self, now_ns: int) -> None:
        """Forget all that was counted: the warm-up is over."""
        self.samples.clear()
        self.latency = Histogram()
        self.records = self.bytes = self._last_records = 0
        self.errors.clear()
        self._rates.clear()
        self._begin_ns = self._last_ns = now_ns

    def tick(self, now_ns: int) -> None:
        """Count what was noted since the last tick."""
        self.fold()
        passed = now_ns - self._last_ns
        if passed > 0:
            # Named by the planned time, so that those of several processes can be added up.
            at = round((now_ns - self._begin_ns) / 1e9 / TICK_S) * TICK_S
            self._rates.append((at, (self.records - self._last_records) / (passed / 1e9)))
        self._last_records, self._last_ns = self.records, now_ns

    def end(self, now_ns: int) -> None:
        """End the span: records that come later do not count; how long they took does."""
        # A rate over a few milliseconds would say nothing.
        if now_ns - self._last_ns > TICK_S * 0.5e9 or not self._rates:
            self.tick(now_ns)
        else:
            self.fold()
        self._end_ns = now_ns
        self._weight = (0, 0)

    def figures(self, what: str) -> Figures:
        """Return what was counted, once all calls have ended."""
        records, size = self.records, self.bytes
        self.fold()
        return Figures(
            what=what,
            records=records,
            bytes=size,
            seconds=(self._end_ns - self._begin_ns) / 1e9,
            latency=self.latency,
            errors=self.errors,
            rates=tuple(self._rates),
        )

    def fold(self) -> None:
        """Put what was noted into the histogram."""
        count = len(self.samples)
        self.latency.record_all(self.samples[:count])
        # Not replaced: the hot path holds its `append`; and it may be that of another thread.
        del self.samples[:count]
        records, size = self._weight
        self.records += records * count
        self.bytes += size * count
