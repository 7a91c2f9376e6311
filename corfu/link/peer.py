"""What is known of one peer: round trips, the window, and the budget for repetitions.

Sources: RFC 6298 (retransmission timer), RFC 8085 section 3.1 (a window even for UDP), Bronson et
al., Metastable Failures in Distributed Systems, HotOS 2021 (why repetitions need a budget).
"""

from __future__ import annotations

import random
from collections import deque

from corfu.config import LinkSettings
from corfu.link.transfer import Ask, Transfer

WINDOW_STEP_BYTES = 64 << 10
"""What the window grows by while one window of bytes is answered."""

RETRIES_PER_S = 20.0
"""Allowance beside the ratio, so that a peer that answers nothing is still asked again."""

BACKOFF_MAX = 8
JITTER = 0.25


class Peer:
    """State towards one address."""

    __slots__ = (
        "_backoff",
        "_halved_at",
        "_retries",
        "_retries_at",
        "_rng",
        "_settings",
        "_timeout",
        "_variance",
        "flight",
        "mean",
        "waiting",
        "window",
    )

    def __init__(self, settings: LinkSettings, rng: random.Random, now: float) -> None:
        self._settings = settings
        self._rng = rng
        self._timeout = settings.retransmit_s_initial
        self._variance = 0.0
        self._backoff = 0
        self._halved_at = -1.0
        self._retries = float(settings.retry_budget_burst)
        self._retries_at = now
        self.mean: float | None = None
        """Smoothed round trip in seconds; None before the first sample."""
        self.window = settings.window_bytes_initial
        self.flight = 0
        self.waiting: deque[Ask | Transfer] = deque()

    @property
    def idle(self) -> bool:
        """Nothing is under way to this peer: it can be forgotten."""
        return not self.flight and not self.waiting

    def fits(self, size: int) -> bool:
        """Tell whether `size` more bytes may be in flight; something always may."""
        return not self.flight or self.flight + size <= self.window

    def took_off(self, size: int) -> None:
        """Count bytes as in flight."""
        self.flight += size

    def landed(self, size: int, *, answered: bool) -> None:
        """Count bytes as out of flight; `answered` lets the window grow."""
        settings = self._settings
        # A window that is not used proves nothing and does not grow (RFC 7661).
        if answered and 2 * self.flight > self.window:
            grown = self.window + max(1, WINDOW_STEP_BYTES * size // self.window)
            self.window = min(settings.window_bytes_max, grown)
        self.flight -= size
        assert self.flight >= 0

    def sample(self, round_trip_s: float) -> None:
        """Take a measured round trip. Karn: never one of something that was sent twice."""
        settings = self._settings
        if self.mean is None:
            self.mean, self._variance = round_trip_s, round_trip_s / 2
        else:
            self._variance += (abs(round_trip_s - self.mean) - self._variance) / 4
            self.mean += (round_trip_s - self.mean) / 8
        timeout = self.mean + 4 * self._variance
        self._timeout = min(max(timeout, settings.retransmit_s_min), settings.retransmit_s_max)
        self._backoff = 0

    def interval(self, repetitions: int) -> float:
        """Return how long to wait for an answer after so many repetitions, with jitter.

        The peer's own backoff counts too and lasts until the next sample (RFC 6298, 5.5 to
        5.7): else, after round trips have grown, everything would be sent twice for ever
        and nothing could be sampled.
        """
        doublings = min(max(repetitions, self._backoff), BACKOFF_MAX)
        waited = min(self._timeout * (1 << doublings), self._settings.retransmit_s_max)
        return waited * (1 + JITTER * self._rng.random())

    def timed_out(self, now: float) -> None:
        """Note that an answer did not come in time; one window's losses count once."""
        if now < self._halved_at + self._timeout:
            return
        self._halved_at = now
        self.window = max(self._settings.window_bytes_min, self.window // 2)
        self._backoff = min(self._backoff + 1, BACKOFF_MAX)

    def earn_retry(self) -> None:
        """Note a first send."""
        allowance = self._settings.retry_budget_burst
        self._retries = min(allowance, self._retries + self._settings.retry_budget_ratio)

    def spend_retry(self, now: float) -> bool:
        """Take one repetition from the budget; False if there is none."""
        earned = max(0.0, now - self._retries_at) * RETRIES_PER_S
        self._retries = min(self._settings.retry_budget_burst, self._retries + earned)
        self._retries_at = now
        if self._retries < 1:
            return False
        self._retries -= 1
        return True
