"""When offsets were granted, roughly: samples of the tail, from which the age of a hole follows.

Pure. Bounded: when there are too many, they are kept at twice the distance in time. A leader closes
what is a second old, so there are many only while a chain cannot be reached; how old its holes are
then matters less to the millisecond.
"""

from __future__ import annotations

from corfu.messages import TailSample
from corfu.types import Offset

SAMPLES_MAX = 256
"""Most samples kept, and told in one answer."""

_APART_S = 0.01


class GrantTimes:
    """Samples of one leader's tail, ascending in tail and in time."""

    def __init__(self) -> None:
        self._samples: list[tuple[float, Offset]] = []
        self._apart_s = _APART_S

    def note(self, tail: Offset, now: float) -> None:
        """Note the tail before a grant: what lies at or above it is granted from now on."""
        samples = self._samples
        if samples:
            at, last = samples[-1]
            # The earlier of two samples that are close is kept: ages are rather too high.
            if tail <= last or now - at < self._apart_s:
                return
        samples.append((now, tail))
        if len(samples) > SAMPLES_MAX:
            self._thin()

    def _thin(self) -> None:
        """Keep at most half of the samples, evenly apart in time."""
        while len(self._samples) > SAMPLES_MAX // 2:
            self._apart_s *= 2
            # The first one stays: all below it is older than this leader can tell.
            kept = self._samples[:1]
            for sample in self._samples[1:]:
                if sample[0] - kept[-1][0] >= self._apart_s:
                    kept.append(sample)
            self._samples = kept

    def forget_below(self, closed_until: Offset) -> None:
        """Forget what tells only of offsets that are closed."""
        samples = self._samples
        needed = 0
        while needed + 1 < len(samples) and samples[needed + 1][1] <= closed_until:
            needed += 1
        del samples[:needed]
        if len(samples) <= SAMPLES_MAX // 4:
            self._apart_s = max(_APART_S, self._apart_s / 2)

    def samples(self, now: float) -> tuple[TailSample, ...]:
        """Return the samples, with their age."""
        return tuple(
            TailSample(tail, max(0, round((now - at) * 1000))) for at, tail in self._samples
        )
