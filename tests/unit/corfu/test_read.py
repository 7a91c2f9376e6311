"""The rules of reading, filling and trimming, one test each."""

from __future__ import annotations

import asyncio

import pytest

import corfu.log
from corfu.client.log import LogClient
from corfu.entry import encode_entry
from corfu.errors import (
    JunkError,
    LostError,
    TrimmedError,
    UnavailableError,
    UnwrittenError,
    UsageError,
)
from corfu.layout import Segment
from corfu.messages import (
    Copy,
    Entries,
    Entry,
    Fill,
    GetLayout,
    GetTail,
    Message,
    Read,
    Reason,
    Refused,
    TailIs,
    WrongEpoch,
)
from corfu.types import (
    JUNK_ID,
    Address,
    Digest,
    Epoch,
    Offset,
    Position,
    Record,
    State,
)
from tests.unit.corfu.client_world import (
    CHAINS,
    DROP,
    Drop,
    FakeCluster,
    address_of,
    data,
    junk_at,
    make_layout,
    run,
)


def entry(offset: int, *records: bytes) -> Entry:
    return data(offset, encode_entry(records, 0))


def marked(offset: int, state: State) -> Entry:
    return Entry(Offset(offset), state, JUNK_ID, Digest(0), b"")


def filled_cluster(count: int) -> FakeCluster:
    cluster = FakeCluster()
    for offset in range(count):
        cluster.put(entry(offset, b"%d" % offset))
    return cluster


async def collect(
    log: LogClient, start: corfu.log.Place | corfu.log.Edge, end: corfu.log.Place | None = None
) -> list[bytes]:
    return [record.data async for record in log.scan(start, end)]


def test_read_value_needs_one_read_and_no_tail() -> None:
    async def test(cluster: FakeCluster, log: LogClient) -> None:
        cluster.put(entry(0, b"a", b"", b"c"))
        at = Position(Offset(0), 1)
        assert await log.read(at) == Record(at, b"")
        assert [record.data for record in await log.read(0)] == [b"a", b"", b"c"]
        assert len(cluster.requests(Read)) == 1
        assert not cluster.requests(GetTail)
        assert cluster.asked[-1][0] == address_of(2)
        with pytest.raises(UnwrittenError, match="3 records"):
            await log.read(Position(Offset(0), 3))

    run(test)


def test_read_empty_at_tail_is_unwritten_by_a_tail_round_begun_after() -> None:
    async def test(cluster: FakeCluster, log: LogClient) -> None:
        with pytest.raises(UnwrittenError):
            await log.read(0)
        assert await log.tail() == 0
        tails = len(cluster.requests(GetTail))
        with pytest.raises(UnwrittenError):
            await log.read(0)
        # The tail known before proves nothing: each read has its own round.
        assert len(cluster.requests(GetTail)) == tails + 1
        assert not cluster.requests(Fill)

    run(test)


def test_read_joining_tail_rounds_never_shares_one_already_begun() -> None:
    async def test(cluster: FakeCluster, log: LogClient) -> None:
        begun: list[float] = []

        async def slow(to: Address, message: Message) -> Message | Drop | None:
            if isinstance(message, GetTail):
                begun.append(cluster.now())
                reply = cluster.answer_replica(to, message)
                await asyncio.sleep(0.1)
                return reply
            return None

        cluster.script = slow
        first = asyncio.create_task(log.tail())
        await asyncio.sleep(0.05)
        cluster.tail = 7
        later = [asyncio.create_task(log.tail()) for _ in range(3)]
        assert await first == 0
        assert await asyncio.gather(*later) == [7, 7, 7]
        assert len(begun) == 2

    run(test)


def test_read_half_written_is_completed_by_the_head_with_no_wait() -> None:
    async def test(cluster: FakeCluster, log: LogClient) -> None:
        cluster.head[Offset(0)] = entry(0, b"half")
        cluster.tail = 1
        assert (await log.read(Position(Offset(0), 0))).data == b"half"
        assert cluster.now() < 0.02
        assert [m.only_if_written for m in cluster.requests(Fill)] == [True]

    run(test)


def test_read_hole_waits_then_fills_then_is_junk() -> None:
    async def test(cluster: FakeCluster, log: LogClient) -> None:
        cluster.tail = 1
        with pytest.raises(JunkError):
            await log.read(0)
        assert [m.only_if_written for m in cluster.requests(Fill)] == [True, False]
        assert 0.25 <= cluster.now() < 0.28

    run(test)


def test_read_hole_written_during_the_wait_is_returned_at_once() -> None:
    async def test(cluster: FakeCluster, log: LogClient) -> None:
        cluster.tail = 1
        asyncio.get_running_loop().call_later(0.1, lambda: cluster.store(entry(0, b"late")))
        assert (await log.read(0))[0].data == b"late"
        assert cluster.now() < 0.12
        assert all(m.only_if_written for m in cluster.requests(Fill))

    run(test)


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


def test_read_states_become_errors() -> None:
    async def test(cluster: FakeCluster, log: LogClient) -> None:
        cluster.put(junk_at(0))
        cluster.put(junk_at(1))
        cluster.put(marked(2, State.LOST))
        cluster.trim_mark = 1
        with pytest.raises(TrimmedError, match="begins at 1"):
            await log.read(0)
        with pytest.raises(JunkError):
            await log.read(1)
        with pytest.raises(LostError):
            await log.read(2)

    run(test)


def test_read_damaged_with_known_digest_is_copied_and_repaired() -> None:
    async def test(cluster: FakeCluster, log: LogClient) -> None:
        sound = entry(0, b"sound")
        cluster.put(sound)

        async def damaged(to: Address, message: Message) -> Message | Drop | None:
            if isinstance(message, Read):
                bad = Entry(Offset(0), State.DAMAGED, sound.entry_id, sound.digest, b"")
                zero = Offset(0)
                return Entries(message.request, Epoch(1), zero, Offset(1), zero, (bad,))
            return None

        cluster.script = damaged
        assert (await log.read(0))[0].data == b"sound"
        assert [to for to, m in cluster.asked if isinstance(m, Copy)] == [address_of(1)]
        await asyncio.sleep(0.1)
        assert [m.only_if_written for m in cluster.requests(Fill)] == [True]

    run(test)


def test_read_damaged_never_returns_a_copy_that_does_not_match() -> None:
    async def test(cluster: FakeCluster, log: LogClient) -> None:
        cluster.put(entry(0, b"another value"))

        async def damaged(to: Address, message: Message) -> Message | Drop | None:
            if isinstance(message, Read):
                bad = Entry(Offset(0), State.DAMAGED, data(0, b"").entry_id, Digest(77), b"")
                zero = Offset(0)
                return Entries(message.request, Epoch(1), zero, Offset(1), zero, (bad,))
            return None

        cluster.script = damaged
        with pytest.raises(UnavailableError, match="damaged"):
            await log.read(0, timeout=3)

    run(test)


def test_read_in_doubt_waits_for_the_repair_and_fills_nothing() -> None:
    async def test(cluster: FakeCluster, log: LogClient) -> None:
        async def doubtful(to: Address, message: Message) -> Message | Drop | None:
            if cluster.now() > 1.0:
                return None
            if isinstance(message, Read):
                zero = Offset(0)
                bad = marked(0, State.DAMAGED)
                return Entries(message.request, Epoch(1), zero, Offset(1), zero, (bad,))
            if isinstance(message, Fill):
                assert message.only_if_written
                return Refused(message.request, Epoch(1), message.offset, Reason.DAMAGED)
            return None

        cluster.put(entry(0, b"repaired"))
        cluster.script = doubtful
        assert (await log.read(0))[0].data == b"repaired"
        assert cluster.now() > 1.0

    run(test)


def test_read_silent_unit_leads_to_new_layout_of_another_replica() -> None:
    async def test(cluster: FakeCluster, log: LogClient) -> None:
        cluster.put(entry(0, b"x"))
        survivor = ((CHAINS[0][0],), CHAINS[1])

        async def dead(to: Address, message: Message) -> Message | Drop | None:
            if to == address_of(2):
                segment = Segment(Offset(0), None, survivor)
                cluster.layout = make_layout(2, 1, (segment,))
                return DROP
            return None

        cluster.script = dead
        assert (await log.read(0))[0].data == b"x"
        asked = [to for to, m in cluster.asked if isinstance(m, GetLayout)]
        assert len(asked) == len(set(asked)) > 1

    run(test)


def test_read_times_out_as_unavailable() -> None:
    async def test(cluster: FakeCluster, log: LogClient) -> None:
        async def silent(to: Address, message: Message) -> Message | Drop | None:
            return DROP if isinstance(message, Read) else None

        cluster.script = silent
        with pytest.raises(UnavailableError, match="did not answer"):
            await log.read(0, timeout=2)
        assert cluster.now() < 4

    run(test)


def test_read_abandoned_chain_is_lost_and_below_the_mark_trimmed() -> None:
    async def test(cluster: FakeCluster, log: LogClient) -> None:
        with pytest.raises(LostError):
            await log.read(4)
        with pytest.raises(TrimmedError):
            await log.read(0)
        assert not cluster.requests(Read)

    gone = Segment(Offset(0), Offset(6), ((), CHAINS[1]))
    layout = make_layout(2, 6, (gone, Segment(Offset(6), None, CHAINS)))
    run(test, FakeCluster(layout=layout, tail=6, trim_mark=2))


def test_fill_at_or_above_confirmed_tail_is_refused() -> None:
    async def test(cluster: FakeCluster, log: LogClient) -> None:
        cluster.tail = 3
        with pytest.raises(UsageError, match="not below the tail, 3"):
            await log.fill(3)
        assert not cluster.requests(Fill)
        cluster.put(entry(1, b"x"))
        assert await log.fill(1) is State.DATA
        assert await log.fill(2) is State.JUNK

    run(test)


def test_trim_returns_mark_and_forgets_cached_values() -> None:
    async def test(cluster: FakeCluster, log: LogClient) -> None:
        for offset in range(4):
            cluster.put(entry(offset, b"x"))
        await log.read(1)
        assert await log.trim(3) == 3
        with pytest.raises(TrimmedError):
            await log.read(1)
        assert await log.trim(100) == 4
        with pytest.raises(UsageError, match="not in"):
            await log.trim(-1)

    run(test)


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

    run(test, filled_cluster(40))


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
