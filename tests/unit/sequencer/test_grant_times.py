"""The samples from which the age of a hole follows."""

from __future__ import annotations

import random

from corfu.messages import TailSample
from corfu.sequencer.grant_times import SAMPLES_MAX, GrantTimes
from corfu.types import Offset


def test_samples_tell_the_tail_before_each_grant() -> None:
    times = GrantTimes()
    times.note(Offset(0), 1.0)
    times.note(Offset(10), 1.5)
    times.note(Offset(30), 2.0)
    assert times.samples(2.5) == (
        TailSample(Offset(0), 1500),
        TailSample(Offset(10), 1000),
        TailSample(Offset(30), 500),
    )


def test_samples_close_to_each_other_keep_the_earlier_one() -> None:
    times = GrantTimes()
    times.note(Offset(0), 1.0)
    times.note(Offset(10), 1.001)
    times.note(Offset(10), 1.5)
    times.note(Offset(10), 1.6)
    assert times.samples(2.0) == (TailSample(Offset(0), 1000), TailSample(Offset(10), 500))


def test_samples_of_what_is_closed_are_forgotten() -> None:
    times = GrantTimes()
    for second in range(6):
        times.note(Offset(10 * second), float(second))
    times.forget_below(Offset(35))
    # The one below tells when the offsets 35 to 39 were granted.
    assert [sample.tail for sample in times.samples(6.0)] == [30, 40, 50]


def test_samples_stay_bounded_and_their_ages_never_too_low() -> None:
    """A week without closing: each offset's age is at least the true one, and near it."""
    seed = random.Random(5)
    times = GrantTimes()
    granted: list[tuple[Offset, float]] = []
    now, tail = 0.0, 0
    for _ in range(20_000):
        now += seed.expovariate(1 / 30)
        times.note(Offset(tail), now)
        granted.append((Offset(tail), now))
        tail += seed.randrange(1, 50)
    samples = times.samples(now)
    assert len(samples) <= SAMPLES_MAX
    assert samples[0].tail == 0
    for offset, at in seed.sample(granted, 200):
        found = [sample for sample in samples if sample.tail <= offset][-1]
        true_ms = (now - at) * 1000
        assert true_ms - 1 <= found.ago_ms <= true_ms + now * 1000 * 4 / SAMPLES_MAX


def test_samples_are_close_again_once_the_old_ones_are_closed() -> None:
    times = GrantTimes()
    for step in range(4 * SAMPLES_MAX):
        times.note(Offset(step), step * 0.02)
    now = 4 * SAMPLES_MAX * 0.02
    for step in range(40):
        times.note(Offset(10_000 + step), now + step * 0.02)
        times.forget_below(Offset(10_000 + step - 3))
    assert len(times.samples(now)) >= 3
