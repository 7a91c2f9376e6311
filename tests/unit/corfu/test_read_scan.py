"""The rules of scanning, and of opening a log, one test each."""

from __future__ import annotations

import asyncio

import pytest

import corfu.log
from corfu.client.log import LogClient
from corfu.errors import (
    LostError,
    TrimmedError,
    UnavailableError,
    UsageError,
)
from corfu.layout import Segment
from corfu.messages import (
    Entries,
    Message,
    Read,
)
from corfu.types import (
    Address,
    Offset,
    Position,
    State,
)
from tests.unit.corfu.client_world import (
    CHAINS,
    DROP,
    Drop,
    FakeCluster,
    entry,
    filled_cluster,
    junk_at,
    make_layout,
    marked,
    run,
)


async def collect(
    log: LogClient, start: corfu.log.Place | corfu.log.Edge, end: corfu.log.Place | None = None
) -> list[bytes]:
    return [record.data async for record in log.scan(start, end)]


def test_scan_merges_chains_in_order_and_steps_over_junk() -> None:
    async def test(cluster: FakeCluster, log: LogClient) -> None:
        cluster.put(junk_at(3))
        expected = [b"%d" % i for i in range(500) if i != 3]
        assert await collect(log, 0) == expected
        assert await collect(log, 490, 9999) == expected[-10:]
        assert await collect(log, 5, 5) == []
        assert await collect(log, corfu.log.LATEST) == []

    run(test, filled_cluster(500))


def test_scan_with_positions_cuts_inside_entries() -> None:
    async def test(cluster: FakeCluster, log: LogClient) -> None:
        cluster.put(entry(0, b"a", b"b", b"c"))
        cluster.put(entry(1, b"d", b"e"))
        start, end = Position(Offset(0), 1), Position(Offset(1), 1)
        assert await collect(log, start, end) == [b"b", b"c", b"d"]
        assert await collect(log, start, Position(Offset(1), 0)) == [b"b", b"c"]
        assert await collect(log, start, Position(Offset(0), 2)) == [b"b"]

    run(test)


def test_scan_range_waits_once_for_its_holes() -> None:
    async def test(cluster: FakeCluster, log: LogClient) -> None:
        for offset in (3, 8, 9, 14, 20):
            del cluster.held[Offset(offset)]
            del cluster.head[Offset(offset)]
        assert len(await collect(log, 0)) == 35
        assert cluster.now() < 0.35

    # Small reads: the holes come up one after the other.
    run(test, filled_cluster(40), read_bytes=100)


def test_scan_lost_raises_after_what_came_before_or_is_skipped() -> None:
    async def test(cluster: FakeCluster, log: LogClient) -> None:
        cluster.put(marked(2, State.LOST))
        scan = log.scan(0)
        assert [(await anext(scan)).data, (await anext(scan)).data] == [b"0", b"1"]
        with pytest.raises(LostError, match="offset 2"):
            await anext(scan)
        skipped = [r.data async for r in log.scan(0, on_lost="skip")]
        assert skipped == [b"0", b"1", b"3", b"4"]

    run(test, filled_cluster(5))


def test_scan_from_earliest_begins_at_the_mark_and_from_below_is_trimmed() -> None:
    async def test(cluster: FakeCluster, log: LogClient) -> None:
        cluster.trim_mark = 3
        assert await collect(log, corfu.log.EARLIEST) == [b"3", b"4"]
        with pytest.raises(TrimmedError):
            await collect(log, 0)

    run(test, filled_cluster(5))


def test_scan_large_entries_stay_within_window_budget() -> None:
    async def test(cluster: FakeCluster, log: LogClient) -> None:
        assert len(await collect(log, 0)) == 40
        largest = max(message.bytes_max for message in cluster.requests(Read))
        assert largest <= 20_000

    cluster = FakeCluster()
    for offset in range(40):
        cluster.put(entry(offset, bytes(15_000)))
    run(test, cluster, window_bytes=40_000, read_bytes=20_000)


async def read_window(cluster: FakeCluster, log: LogClient, end: int) -> list[bytes]:
    deadline = cluster.now() + 2.0
    values, reached = await log._reader.read_window(Offset(0), Offset(end), deadline)
    assert reached == end
    return [value.records[0] for value in values]


def test_window_takes_parts_and_asks_again_only_for_what_was_lost() -> None:
    async def test(cluster: FakeCluster, log: LogClient) -> None:
        lost: set[Offset] = set()

        def lose(part: Message) -> bool:
            assert isinstance(part, Entries)
            found = {each.offset for each in part.entries} & {8, 15} - lost
            lost.update(found)
            return bool(found)

        cluster.lose = lose
        assert await read_window(cluster, log, 20) == records
        asked = [(message.offset, message.end) for message in cluster.requests(Read)]
        # Parts have two entries. Of the second chain, the last part but one was lost.
        assert sorted(asked) == [(0, 20), (1, 20), (8, 12), (13, 17)]

    records = [bytes([number]) * 20_000 for number in range(20)]
    cluster = FakeCluster(part_bytes=45_000)
    for number, record in enumerate(records):
        cluster.put(entry(number, record))
    run(test, cluster)


def test_window_whose_first_part_never_comes_ends_in_its_time_and_keeps_the_rest() -> None:
    async def test(cluster: FakeCluster, log: LogClient) -> None:
        cluster.lose = lambda part: isinstance(part, Entries) and part.offset == 0
        with pytest.raises(UnavailableError, match="lost on the way"):
            await read_window(cluster, log, 10)
        asked = [(message.offset, message.end) for message in cluster.requests(Read)]
        assert sorted(asked[:2]) == [(0, 10), (1, 10)]
        assert len(asked) > 4
        assert set(asked[2:]) == {(0, 2)}

    cluster = FakeCluster(part_bytes=1)
    for number in range(10):
        cluster.put(entry(number, b"%d" % number))
    run(test, cluster)


def test_scan_over_closed_segments_uses_each_ones_chains() -> None:
    async def test(cluster: FakeCluster, log: LogClient) -> None:
        assert await collect(log, 0) == [b"%d" % i for i in range(30)]

    cluster = filled_cluster(30)
    segments = (
        Segment(Offset(0), Offset(11), (CHAINS[0],)),
        Segment(Offset(11), None, (CHAINS[1], CHAINS[0])),
    )
    cluster.layout = make_layout(2, 11, segments)
    run(test, cluster)


def test_scan_goes_on_across_a_new_epoch() -> None:
    async def test(cluster: FakeCluster, log: LogClient) -> None:
        seen = 0
        async for _ in log.scan(0):
            seen += 1
            if seen == 100:
                cluster.layout = make_layout(2, 1000)
        assert seen == 1000

    run(test, filled_cluster(1000))


def test_scan_broken_off_leaves_no_task() -> None:
    async def test(cluster: FakeCluster, log: LogClient) -> None:
        before = len(asyncio.all_tasks())
        scan = log.scan(0)
        async for _ in scan:
            break
        await scan.aclose()
        assert len(asyncio.all_tasks()) == before

    run(test, filled_cluster(300))


def test_log_bad_arguments_are_usage_errors() -> None:
    async def test(cluster: FakeCluster, log: LogClient) -> None:
        for place in (-1, 2**63, "3", True, Position(Offset(0), -1)):
            with pytest.raises(UsageError):
                await log.read(place)  # type: ignore[arg-type]
        with pytest.raises(UsageError):
            log.scan(-5)
        with pytest.raises(UsageError):
            log.follow("now")  # type: ignore[arg-type]
        with pytest.raises(UsageError, match="timeout"):
            await log.tail(timeout=0)

    run(test)


def test_open_without_cluster_names_the_addresses_tried() -> None:
    async def test(cluster: FakeCluster, log: LogClient) -> None:
        raise AssertionError("never opened")

    async def silent(to: Address, message: Message) -> Message | Drop | None:
        return DROP

    cluster = FakeCluster()
    cluster.script = silent
    with pytest.raises(UnavailableError, match=r"127\.0\.0\.1:9700, 127\.0\.0\.1:9701"):
        run(test, cluster, timeout_s=2.0)
