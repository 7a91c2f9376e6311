"""Seeking a time, against looking at every entry."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corfu.client.log import LogClient
from corfu.client.values import Value
from corfu.entry import encode_entry
from corfu.errors import UsageError
from corfu.messages import Read
from corfu.seeking import seek_time, time_us
from corfu.types import Offset, State
from tests.unit.corfu.client_world import FakeCluster, data, junk_at, run

NOT_DATA = (State.JUNK, State.LOST, State.TRIMMED)


class Numbered:
    """A log as a list of times; None: an offset without an entry. Counts what is read."""

    def __init__(self, times: Sequence[int | None], start: int = 0) -> None:
        self.times = times
        self.start = start
        self.asked = 0
        self.listed = 0

    def value(self, offset: int) -> Value:
        time = self.times[offset]
        if time is None:
            return Value(Offset(offset), NOT_DATA[offset % 3])
        return Value(Offset(offset), State.DATA, (b"",), 1, time)

    async def one(self, offset: Offset) -> Value:
        assert self.start <= offset < len(self.times)
        self.asked += 1
        return self.value(offset)

    async def several(self, start: Offset, end: Offset) -> list[Value]:
        assert self.start <= start < end <= len(self.times)
        self.asked += 1
        self.listed += end - start
        return [self.value(offset) for offset in range(start, end)]

    def seek(self, wanted: int) -> int:
        work = seek_time(
            Offset(self.start), Offset(len(self.times)), wanted, one=self.one, several=self.several
        )
        try:
            work.send(None)
        except StopIteration as ended:
            return int(ended.value)
        raise AssertionError("nothing here ever waits")

    def naive(self, wanted: int) -> int:
        offsets = range(self.start, len(self.times))
        return next((o for o in offsets if is_from(self.times[o], wanted)), len(self.times))


def is_from(time: int | None, wanted: int) -> bool:
    return time is not None and time >= wanted


ENTRIES = st.lists(st.one_of(st.none(), st.integers(0, 50), st.integers(0, 50)), max_size=300)


@settings(deadline=None)
@given(ENTRIES, st.integers(-1, 52), st.data())
def test_seek_in_a_log_of_agreeing_clocks_finds_the_first_not_older(
    entries: list[int | None], wanted: int, draw: st.DataObject
) -> None:
    ascending = iter(sorted(time for time in entries if time is not None))
    times = [None if time is None else next(ascending) for time in entries]
    log = Numbered(times, draw.draw(st.integers(0, len(times))))
    assert log.seek(wanted) == log.naive(wanted)


@settings(deadline=None)
@given(ENTRIES, st.integers(-1, 52))
def test_seek_among_disagreeing_clocks_finds_a_place_where_the_time_is_crossed(
    times: list[int | None], wanted: int
) -> None:
    found = Numbered(times).seek(wanted)
    entries = [(i, time) for i, time in enumerate(times) if time is not None]
    assert found == len(times) or (times[found] or 0) >= wanted
    before = [time for i, time in entries if i < found]
    assert not before or before[-1] < wanted
    if found == len(times):
        # Not every entry may be older, but the last one is.
        assert not entries or entries[-1][1] < wanted


@pytest.mark.parametrize("length", [10, 1_000, 100_000])
@pytest.mark.parametrize("junk_share", [0.0, 0.9])
def test_seek_takes_logarithmically_many_reads(length: int, junk_share: float) -> None:
    every = 10 if junk_share else 1
    times = [i if i % every == 0 else None for i in range(length)]
    for wanted in (-1, 0, length // 3, length // 2 + 1, length - 1, length):
        log = Numbered(times)
        assert log.seek(wanted) == log.naive(wanted)
        # Each step halves what is left, and looks at a few neighbours.
        assert log.asked <= (1 + 2 * bool(junk_share)) * math.log2(length) + 2
        assert log.listed <= (1 + 64 * bool(junk_share)) * math.log2(length) + 8


@pytest.mark.parametrize("wanted", [4, 5, 6, 9])
def test_seek_over_a_long_run_of_junk_stays_bounded_and_never_skips(wanted: int) -> None:
    # One entry, which no neighbour of a middle hits, in many offsets without any.
    times: list[int | None] = [None] * 300_000
    times[:10] = [0, 1, 2, 3, 4, *[None] * 5]
    times[222_222] = 5
    times[-1] = 9
    log = Numbered(times)
    found = log.seek(wanted)
    assert found <= log.naive(wanted)
    assert all(time is None or time < wanted for time in times[:found])
    assert log.asked < 20 * (1 + 4 + 16)
    assert log.listed < 20 * 2 * (4 + 32 + 256 + 2048)


def test_seek_of_nothing_is_the_tail() -> None:
    assert Numbered([]).seek(5) == 0
    assert Numbered([1, 2, 3], start=3).seek(0) == 3


def test_time_is_seconds_or_a_datetime_with_its_zone() -> None:
    assert time_us(1.5) == 1_500_000
    east = timezone(timedelta(hours=2))
    assert time_us(datetime(1970, 1, 1, 2, 0, 1, tzinfo=east)) == 1_000_000
    assert time_us(datetime(1970, 1, 1, tzinfo=UTC)) == 0
    for wrong in (datetime(1970, 1, 1), "now", None, True, float("nan"), 1e300):  # noqa: DTZ001
        with pytest.raises(UsageError):
            time_us(wrong)  # type: ignore[arg-type]


def stamped(offset: int, seconds: int) -> bytes:
    return encode_entry((b"%d" % offset,), seconds * 1_000_000)


def test_seek_in_a_cluster_reads_few_entries_and_starts_at_the_mark() -> None:
    async def test(cluster: FakeCluster, log: LogClient) -> None:
        assert await log.seek(500) == 500
        assert await log.seek(datetime.fromtimestamp(499.5, UTC)) == 500
        assert await log.seek(1000) == 1000
        assert await log.seek(0) == 100
        asked = sum(len(range(m.offset, m.end, 2)) for m in cluster.requests(Read))
        assert asked <= 4 * (10 + 8)

    cluster = FakeCluster(trim_mark=100)
    for offset in range(1000):
        cluster.put(data(offset, stamped(offset, offset)))
    run(test, cluster)


def test_seek_over_junk_and_a_hole_below_the_tail_is_exact() -> None:
    async def test(cluster: FakeCluster, log: LogClient) -> None:
        assert await log.seek(30) == 60
        assert await log.seek(49) == 98

    cluster = FakeCluster()
    for offset in range(100):
        half = data(offset, stamped(offset, offset // 2))
        cluster.put(junk_at(offset) if offset % 2 else half)
    del cluster.held[Offset(51)], cluster.head[Offset(51)]
    run(test, cluster)
