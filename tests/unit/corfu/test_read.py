"""The rules of reading, filling and trimming, one test each."""

from __future__ import annotations

import asyncio

import pytest

from corfu.client.log import LogClient
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
)
from corfu.types import (
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
    entry,
    junk_at,
    make_layout,
    marked,
    run,
)


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
