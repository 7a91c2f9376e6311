"""The rules of following, one test each."""

from __future__ import annotations

import asyncio

import pytest

import corfu.log
from corfu.client.log import LogClient
from corfu.errors import (
    JunkError,
    UnavailableError,
    UsageError,
)
from corfu.layout import Segment
from corfu.messages import (
    Entries,
    Fill,
    GetTail,
    Message,
    Read,
    TailIs,
    WrongEpoch,
)
from corfu.types import (
    Address,
    Epoch,
    Offset,
)
from tests.unit.corfu.client_world import (
    CHAINS,
    DROP,
    Drop,
    FakeCluster,
    entry,
    filled_cluster,
    make_layout,
    run,
)


@pytest.mark.parametrize(
    ("p99_us", "lost_permille", "wait_s"),
    [(1000, 0, 0.25), (200_000, 0, 0.8), (1000, 20, 0.5), (200_000, 11, 1.6)],
)
def test_read_hole_wait_follows_writers(p99_us: int, lost_permille: int, wait_s: float) -> None:
    async def test(cluster: FakeCluster, log: LogClient) -> None:
        async def tails(to: Address, message: Message) -> Message | Drop | None:
            if isinstance(message, GetTail):
                zero, one = Offset(0), Offset(1)
                return TailIs(message.request, Epoch(1), one, zero, zero, p99_us, lost_permille)
            return None

        cluster.tail = 1
        cluster.script = tails
        with pytest.raises(JunkError):
            await log.read(0)
        assert wait_s <= cluster.now() < wait_s + 0.03

    run(test)


def test_read_of_a_hole_whose_writers_are_slow_ends_in_its_own_time() -> None:
    async def test(cluster: FakeCluster, log: LogClient) -> None:
        async def tails(to: Address, message: Message) -> Message | Drop | None:
            if isinstance(message, GetTail):
                zero, one = Offset(0), Offset(1)
                return TailIs(message.request, Epoch(1), one, zero, zero, 10_000_000, 0)
            return None

        cluster.tail = 1
        cluster.script = tails
        with pytest.raises(UnavailableError, match="offset 0 is empty"):
            await log.read(0, timeout=2)
        assert 2 <= cluster.now() < 2.1
        assert [fill for fill in cluster.requests(Fill) if not fill.only_if_written] == []

    run(test)


async def follow_some(
    log: LogClient, count: int, start: corfu.log.Place | corfu.log.Edge
) -> list[bytes]:
    found: list[bytes] = []
    follower = log.follow(start)
    async for record in follower:
        found.append(record.data)
        if len(found) == count:
            break
    await follower.aclose()
    return found


def test_follow_yields_old_and_new_in_order_soon() -> None:
    async def test(cluster: FakeCluster, log: LogClient) -> None:
        task = asyncio.create_task(follow_some(log, 1000, 0))
        await asyncio.sleep(2.5)
        for offset in range(900, 1000):
            cluster.put(entry(offset, b"%d" % offset))
            await asyncio.sleep(0.001)
        last = cluster.now()
        assert await task == [b"%d" % i for i in range(1000)]
        assert cluster.now() - last < 0.01

    run(test, filled_cluster(900))


def test_follow_of_units_that_park_no_more_reads_asks_them_less_and_less() -> None:
    """With its table full a unit answers at once: asked again at once it would never recover."""

    async def test(cluster: FakeCluster, log: LogClient) -> None:
        async def not_parked(to: Address, message: Message) -> Message | Drop | None:
            if isinstance(message, Read) and message.wait_ms and message.offset not in cluster.held:
                request, epoch, at = message.request, message.epoch, message.offset
                return Entries(request, epoch, at, message.end, Offset(0), ())
            return None

        cluster.script = not_parked
        task = asyncio.create_task(follow_some(log, 1, 0))
        await asyncio.sleep(5)
        assert len(cluster.requests(Read)) < 20 * len(CHAINS)
        cluster.put(entry(0, b"here"))
        put_at = cluster.now()
        assert await task == [b"here"]
        assert cluster.now() - put_at <= 1.1

    run(test)


def test_follow_from_latest_sees_only_what_comes() -> None:
    async def test(cluster: FakeCluster, log: LogClient) -> None:
        task = asyncio.create_task(follow_some(log, 1, corfu.log.LATEST))
        await asyncio.sleep(1)
        cluster.put(entry(5, b"new"))
        assert await task == [b"new"]

    run(test, filled_cluster(5))


def test_follow_overtaken_entry_is_waited_for_not_filled() -> None:
    async def test(cluster: FakeCluster, log: LogClient) -> None:
        task = asyncio.create_task(follow_some(log, 4, 0))
        await asyncio.sleep(0.5)
        for offset in (2, 3):
            cluster.put(entry(offset, b"%d" % offset))
        await asyncio.sleep(0.005)
        for offset in (0, 1):
            cluster.put(entry(offset, b"%d" % offset))
        assert await task == [b"0", b"1", b"2", b"3"]
        assert not cluster.requests(Fill)

    run(test)


def test_follow_hole_below_a_value_is_filled_after_the_wait() -> None:
    async def test(cluster: FakeCluster, log: LogClient) -> None:
        cluster.put(entry(1, b"1"))
        assert await follow_some(log, 1, 0) == [b"1"]
        assert cluster.now() < 0.5

    run(test)


def test_follow_hole_at_the_end_is_found_by_the_tail_round() -> None:
    async def test(cluster: FakeCluster, log: LogClient) -> None:
        task = asyncio.create_task(follow_some(log, 1, 0))
        await asyncio.sleep(0.1)
        # A writer died with its token; nothing is ever written behind it.
        cluster.tail = 3
        await asyncio.sleep(3)
        assert sorted(cluster.held) == [0, 1, 2]
        cluster.put(entry(3, b"3"))
        assert await task == [b"3"]

    run(test)


def test_follow_parked_read_without_value_asks_for_a_tail_before_parking_again() -> None:
    async def test(cluster: FakeCluster, log: LogClient) -> None:
        task = asyncio.create_task(follow_some(log, 1, 0))
        await asyncio.sleep(3.5)
        kinds = [type(m) for _, m in cluster.asked if isinstance(m, Read | GetTail)]
        # Two chains' reads, then one shared round, and again.
        assert kinds[:6] == [Read, Read, GetTail, Read, Read, GetTail]
        cluster.put(entry(0, b"x"))
        assert await task == [b"x"]

    run(test)


def test_follow_moves_to_the_new_layout_when_a_left_unit_still_answers() -> None:
    async def test(cluster: FakeCluster, log: LogClient) -> None:
        task = asyncio.create_task(follow_some(log, 1, 0))
        await asyncio.sleep(0.1)
        # The tail units are dropped, unsealed, and go on saying EMPTY in epoch 1.
        old = cluster.layout

        async def left(to: Address, message: Message) -> Message | Drop | None:
            if isinstance(message, Read) and message.epoch == old.epoch:
                await asyncio.sleep(message.wait_ms / 1000)
                return Entries(
                    message.request, old.epoch, message.offset, message.end, Offset(0), ()
                )
            return None

        cluster.script = left
        survivors = ((CHAINS[0][0],), (CHAINS[1][0],))
        cluster.layout = make_layout(2, 0, (Segment(Offset(0), None, survivors),))
        cluster.put(entry(0, b"x"))
        assert await task == [b"x"]
        assert cluster.now() < 1.5

    run(test)


def test_follow_survives_wrong_epoch_and_silence() -> None:
    async def test(cluster: FakeCluster, log: LogClient) -> None:
        faults = [0]

        async def faulty(to: Address, message: Message) -> Message | Drop | None:
            if isinstance(message, Read) and faults[0] < 6:
                faults[0] += 1
                if faults[0] % 2:
                    return DROP
                return WrongEpoch(message.request, Epoch(0), message.offset)
            return None

        cluster.script = faulty
        assert await follow_some(log, 20, 0) == [b"%d" % i for i in range(20)]

    run(test, filled_cluster(20))


def test_follow_buffers_no_more_than_its_budget() -> None:
    """One chain's entry lacks for long; the other chain must not be read without bound."""

    async def test(cluster: FakeCluster, log: LogClient) -> None:
        del cluster.held[Offset(0)]
        del cluster.head[Offset(0)]
        task = asyncio.create_task(follow_some(log, 199, 0))
        await asyncio.sleep(0.2)
        reads = [m for m in cluster.requests(Read) if m.offset % 2]
        assert max(m.offset for m in reads) < 60
        assert len(await task) == 199

    cluster = FakeCluster()
    for offset in range(200):
        cluster.put(entry(offset, bytes(1000)))
    run(test, cluster, follow_bytes=10_000, read_bytes=5_000)


def test_follow_ends_with_usage_error_when_closed() -> None:
    async def test(cluster: FakeCluster, log: LogClient) -> None:
        task = asyncio.create_task(follow_some(log, 1, 0))
        await asyncio.sleep(0.5)
        await log.close()
        with pytest.raises(UsageError, match="closed"):
            await task

    run(test)


def test_follow_cancelled_ends_and_leaves_no_task() -> None:
    async def test(cluster: FakeCluster, log: LogClient) -> None:
        before = len(asyncio.all_tasks())
        task = asyncio.create_task(follow_some(log, 1, 0))
        await asyncio.sleep(0.5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert len(asyncio.all_tasks()) == before

    run(test)
