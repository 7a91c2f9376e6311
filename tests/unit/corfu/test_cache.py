"""What a client keeps of what it has read, and what it must not give any more."""

from __future__ import annotations

import pytest

import corfu
from corfu.client.cache import ValueCache
from corfu.client.log import LogClient
from corfu.client.values import Value
from corfu.errors import JunkError, TrimmedError, UsageError
from corfu.messages import Read
from corfu.types import Offset, Position, State
from tests.unit.corfu.client_world import FakeCluster, entry, filled_cluster, junk_at, run

NO_MARK = Offset(0)


def value(offset: int, size: int = 1000, state: State = State.DATA) -> Value:
    return Value(Offset(offset), state, (bytes(size),) if state is State.DATA else (), size)


def held(cache: ValueCache, mark: int = 0) -> list[int]:
    return sorted(cache.among(range(100), Offset(mark)))


def test_cache_is_bounded_and_drops_what_was_not_looked_at_for_longest() -> None:
    cache = ValueCache(6000)
    for offset in range(4):
        cache.put(value(offset), NO_MARK)
    assert cache.get(Offset(0), NO_MARK) is not None
    cache.put(value(4), NO_MARK)
    assert held(cache) == [0, 2, 3, 4]
    assert cache.bytes <= 6000
    cache.put(value(5, 7000), NO_MARK)
    assert held(cache) == [0, 2, 3, 4]


def test_cache_of_no_bytes_keeps_nothing() -> None:
    cache = ValueCache(0)
    cache.put(value(1), NO_MARK)
    cache.offer([value(2, state=State.JUNK)], NO_MARK)
    assert held(cache) == []


def test_cache_keeps_only_final_values_of_the_log() -> None:
    cache = ValueCache(1 << 20)
    for offset, state in enumerate(State):
        cache.put(value(offset, state=state), NO_MARK)
    assert held(cache) == [State.DATA, State.JUNK]


def test_cache_that_is_full_takes_nothing_from_a_scan() -> None:
    cache = ValueCache(6000)
    cache.put(value(50), NO_MARK)
    cache.offer([value(offset) for offset in range(40)], NO_MARK)
    assert held(cache) == [0, 1, 2, 50]


def test_cache_below_a_mark_gives_nothing_and_takes_nothing() -> None:
    cache = ValueCache(1 << 20)
    cache.offer([value(offset) for offset in range(10)], NO_MARK)
    before = cache.bytes
    assert cache.get(Offset(3), Offset(4)) is None
    assert held(cache, 4) == [4, 5, 6, 7, 8, 9]
    assert cache.bytes == before * 6 // 10
    # A mark that comes late, and lower, brings nothing back.
    cache.put(value(2), Offset(1))
    assert cache.get(Offset(2), Offset(1)) is None


def test_read_again_asks_nobody_and_is_counted() -> None:
    async def test(cluster: FakeCluster, log: LogClient) -> None:
        for _ in range(3):
            assert (await log.read(Position(Offset(1), 0))).data == b"1"
        with pytest.raises(JunkError):
            await log.read(3)
        with pytest.raises(JunkError):
            await log.read(3)
        assert len(cluster.requests(Read)) == 2
        assert (log.stats.cache_hits, log.stats.cache_misses) == (3, 2)
        assert log.stats.cache_hit_ratio == 0.6
        assert log.stats.cache_bytes > 0

    cluster = filled_cluster(5)
    cluster.put(junk_at(3))
    run(test, cluster)


def test_scan_reads_only_what_is_not_kept() -> None:
    async def test(cluster: FakeCluster, log: LogClient) -> None:
        await log.read(4)
        first = [record.data async for record in log.scan(0)]
        asked = {offset for m in cluster.requests(Read) for offset in range(m.offset, m.end, 2)}
        assert asked == set(range(40))
        assert [m.offset for m in cluster.requests(Read)].count(Offset(4)) == 1
        before = len(cluster.requests(Read))
        assert [record.data async for record in log.scan(0)] == first
        assert len(cluster.requests(Read)) == before

    run(test, filled_cluster(40))


def test_scan_without_a_cache_asks_each_time() -> None:
    async def test(cluster: FakeCluster, log: LogClient) -> None:
        for _ in range(2):
            assert len([record async for record in log.scan(0)]) == 40
        read = [offset for m in cluster.requests(Read) for offset in range(m.offset, m.end, 2)]
        assert sorted(read) == sorted([*range(40), *range(40)])

    run(test, filled_cluster(40), cache_bytes=0)


async def trim(cluster: FakeCluster, log: LogClient) -> None:
    assert await log.trim(10) == 10


async def hear_of_a_trim_by_a_tail(cluster: FakeCluster, log: LogClient) -> None:
    cluster.trim_mark = 10
    await log.tail()


async def hear_of_a_trim_by_a_read(cluster: FakeCluster, log: LogClient) -> None:
    cluster.trim_mark = 10
    cluster.put(entry(40, b"40"))
    await log.read(40)


@pytest.mark.parametrize("learn", [trim, hear_of_a_trim_by_a_tail, hear_of_a_trim_by_a_read])
def test_trimmed_is_never_read_from_memory_once_the_client_knows(learn: object) -> None:
    async def test(cluster: FakeCluster, log: LogClient) -> None:
        assert len([record async for record in log.scan(0)]) == 40
        assert callable(learn)
        await learn(cluster, log)
        for offset in (0, 9):
            with pytest.raises(TrimmedError):
                await log.read(offset)
        with pytest.raises(TrimmedError):
            [record async for record in log.scan(5)]
        first = [record.data async for record in log.scan(corfu.EARLIEST, 20)]
        assert first == [b"%d" % number for number in range(10, 20)]
        # What stands above is still there.
        before = len(cluster.requests(Read))
        await log.read(11)
        assert len(cluster.requests(Read)) == before

    run(test, filled_cluster(40))


@pytest.mark.parametrize("wrong", [-1, 1.5, True])
def test_connect_with_a_wrong_cache_size_is_a_usage_error(wrong: int) -> None:
    with pytest.raises(UsageError, match="cache_bytes"):
        corfu.connect("127.0.0.1:1", cache_bytes=wrong)
