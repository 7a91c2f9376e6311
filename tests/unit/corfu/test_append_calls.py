"""How calls of append end: timeouts, cancelling, order, closing, large calls."""

from __future__ import annotations

import asyncio

import pytest

from corfu.client.log import LogClient
from corfu.errors import AppendUnknownError, NotAppendedError, UsageError
from corfu.messages import (
    Fill,
    GetToken,
    Message,
    Rejected,
    Rejection,
    Write,
)
from corfu.types import Address, Epoch, Offset, Position
from tests.unit.corfu.client_world import (
    DROP,
    Drop,
    FakeCluster,
    junk_at,
    records_written,
    run,
)


def test_append_timeout_without_token_is_certainly_not_appended() -> None:
    async def test(cluster: FakeCluster, log: LogClient) -> None:
        async def no_chains(to: Address, message: Message) -> Message | Drop | None:
            if isinstance(message, GetToken):
                return Rejected(message.request, Epoch(1), Rejection.NO_CHAINS, "chain 0 of 1")
            return None

        cluster.script = no_chains
        with pytest.raises(NotAppendedError, match="NO_CHAINS chain 0 of 1") as caught:
            await log.append(b"x", timeout=2)
        assert caught.value.outcome == "not_applied"
        assert 2 <= cluster.now() < 2.1

    run(test)


def test_append_timeout_while_unsettled_is_unknown() -> None:
    async def test(cluster: FakeCluster, log: LogClient) -> None:
        async def silent(to: Address, message: Message) -> Message | Drop | None:
            return DROP if isinstance(message, Write | Fill) else None

        cluster.script = silent
        with pytest.raises(AppendUnknownError, match="offset 0") as caught:
            await log.append(b"x", timeout=3)
        assert caught.value.outcome == "unknown"

    run(test)


def test_append_timeout_after_everything_settled_is_certain_and_takes_no_new_token() -> None:
    async def test(cluster: FakeCluster, log: LogClient) -> None:
        async def always_late(to: Address, message: Message) -> Message | Drop | None:
            if isinstance(message, Write):
                cluster.store(junk_at(message.offset))
            return None

        cluster.script = always_late
        with pytest.raises(NotAppendedError, match="filled before"):
            await log.append(b"x", timeout=2)
        asked = len(cluster.requests(GetToken))
        await asyncio.sleep(5)
        assert len(cluster.requests(GetToken)) == asked
        assert records_written(cluster) == []

    run(test)


def test_append_short_timeout_is_withdrawn_before_first_write_and_others_go_on() -> None:
    async def test(cluster: FakeCluster, log: LogClient) -> None:
        async def slow(to: Address, message: Message) -> Message | Drop | None:
            if isinstance(message, GetToken):
                await asyncio.sleep(0.2)
            return None

        cluster.script = slow
        short = asyncio.create_task(log.append(b"short", timeout=0.1))
        long = asyncio.create_task(log.append(b"long"))
        with pytest.raises(NotAppendedError):
            await short
        assert await long == Position(Offset(0), 0)
        assert records_written(cluster) == [(b"long",)]

    run(test)


def test_append_withdrawn_after_a_lost_try_leaves_under_another_id() -> None:
    """One id must never have two digests, so the rest of the entry is another entry."""

    async def test(cluster: FakeCluster, log: LogClient) -> None:
        async def fill_first(to: Address, message: Message) -> Message | Drop | None:
            if isinstance(message, Write) and message.offset == 0:
                cluster.store(junk_at(0))
            if isinstance(message, GetToken) and cluster.tail == 1:
                await asyncio.sleep(0.3)
            return None

        cluster.script = fill_first
        short = asyncio.create_task(log.append(b"short", timeout=0.2))
        long = asyncio.create_task(log.append(b"long"))
        with pytest.raises(NotAppendedError):
            await short
        await long
        first, second = cluster.requests(Write)
        assert first.entry_id != second.entry_id
        assert records_written(cluster) == [(b"long",)]

    run(test)


def test_append_cancelled_before_frozen_is_taken_out() -> None:
    async def test(cluster: FakeCluster, log: LogClient) -> None:
        first = asyncio.create_task(log.append(b"first"))
        await asyncio.sleep(0.0005)
        second = asyncio.create_task(log.append(b"second"))
        third = asyncio.create_task(log.append(b"third"))
        await asyncio.sleep(0)
        second.cancel()
        await first
        await third
        assert records_written(cluster) == [(b"first",), (b"third",)]
        with pytest.raises(asyncio.CancelledError):
            await second

    run(test)


def test_append_cancelled_after_frozen_goes_on() -> None:
    async def test(cluster: FakeCluster, log: LogClient) -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.0015):
                await log.append(b"x")
        await asyncio.sleep(1)
        assert records_written(cluster) == [(b"x",)]
        assert not cluster.requests(Fill)

    run(test)


def test_append_all_withdrawn_after_token_left_fills_the_token() -> None:
    async def test(cluster: FakeCluster, log: LogClient) -> None:
        async def slow(to: Address, message: Message) -> Message | Drop | None:
            if isinstance(message, GetToken):
                reply = cluster.answer_replica(to, message)
                await asyncio.sleep(0.3)
                return reply
            return None

        cluster.script = slow
        with pytest.raises(NotAppendedError):
            await log.append(b"x", timeout=0.1)
        await asyncio.sleep(1)
        assert [m.offset for m in cluster.requests(Fill)] == [0]
        assert not cluster.requests(Write)

    run(test)


def test_append_too_large_is_refused_before_packing_and_fails_nobody_else() -> None:
    async def test(cluster: FakeCluster, log: LogClient) -> None:
        good = asyncio.create_task(log.append(b"good"))
        with pytest.raises(UsageError, match="a record of"):
            await log.append(bytes(1 << 20))
        with pytest.raises(UsageError, match="bytes"):
            await log.append_many([b"fine", "text"])  # type: ignore[list-item]
        await good
        assert records_written(cluster) == [(b"good",)]

    run(test)


def test_append_many_fitting_one_entry_is_one_entry() -> None:
    async def test(cluster: FakeCluster, log: LogClient) -> None:
        # More than the target, but one call is never split if it fits an entry.
        positions = await log.append_many([bytes(1000)] * 200)
        assert positions == [Position(Offset(0), i) for i in range(200)]
        assert await log.append_many([]) == []

    run(test)


def test_append_many_larger_fails_with_positions_reached() -> None:
    async def test(cluster: FakeCluster, log: LogClient) -> None:
        async def second_fails(to: Address, message: Message) -> Message | Drop | None:
            return DROP if isinstance(message, Write | Fill) and message.offset == 1 else None

        cluster.script = second_fails
        with pytest.raises(AppendUnknownError) as caught:
            await log.append_many([bytes(600_000)] * 3, timeout=4)
        assert caught.value.appended == (Position(Offset(0), 0),)

    run(test)


def test_append_ordered_keeps_one_entry_without_verdict() -> None:
    async def test(cluster: FakeCluster, log: LogClient) -> None:
        async def lose_first(to: Address, message: Message) -> Message | Drop | None:
            return DROP if isinstance(message, Write) and message.offset == 0 else None

        cluster.script = lose_first
        tasks = [asyncio.create_task(log.append(bytes(2000) + b"%d" % i)) for i in range(5)]
        positions = await asyncio.gather(*tasks)
        assert positions == sorted(positions)
        assert all(m.count == 1 for m in cluster.requests(GetToken))
        stored = [record[-1:] for records in records_written(cluster) for record in records]
        assert stored == [b"0", b"1", b"2", b"3", b"4"]

    run(test, ordered=True, entry_bytes_target=2100)


def test_append_ordered_fails_those_queued_behind_a_failure() -> None:
    async def test(cluster: FakeCluster, log: LogClient) -> None:
        async def silent(to: Address, message: Message) -> Message | Drop | None:
            return DROP if isinstance(message, Write | Fill) and message.offset == 0 else None

        cluster.script = silent
        first = asyncio.create_task(log.append(b"first", timeout=3))
        await asyncio.sleep(0.01)
        behind = asyncio.create_task(log.append(b"behind"))
        with pytest.raises(AppendUnknownError):
            await first
        with pytest.raises(NotAppendedError, match="before it failed"):
            await behind
        assert (await log.append(b"later")).offset == 1
        assert records_written(cluster) == [(b"later",)]

    run(test, ordered=True)


@pytest.mark.parametrize("ordered", [False, True])
def test_append_whose_time_ends_in_the_turn_it_was_to_leave_holds_nobody_up(ordered: bool) -> None:
    """Its entry's task is ended before its first step: what it would undo has to be undone."""

    async def test(cluster: FakeCluster, log: LogClient) -> None:
        first = asyncio.create_task(log.append(b"first"))
        await asyncio.sleep(0.0625)
        first.cancel()
        with pytest.raises(NotAppendedError):
            await log.append(b"short", timeout=0.0625)
        assert await log.append(b"next", timeout=5) == Position(Offset(0), 0)
        assert records_written(cluster) == [(b"next",)]
        before = asyncio.get_running_loop().time()
        await log.close()
        assert asyncio.get_running_loop().time() - before < 1

    run(test, ordered=ordered, linger_s=0.125)


def test_append_close_settles_what_is_queued_and_in_flight() -> None:
    async def test(cluster: FakeCluster, log: LogClient) -> None:
        tasks = [asyncio.create_task(log.append(bytes(2000))) for _ in range(10)]
        await asyncio.sleep(0)
        await log.close()
        await asyncio.gather(*tasks)
        with pytest.raises(UsageError, match="closed"):
            await log.append(b"late")

    run(test, entry_bytes_target=2100, entries_in_flight_max=2)


def test_append_close_deadline_ends_unsettled_as_unknown_and_queued_as_not_appended() -> None:
    async def test(cluster: FakeCluster, log: LogClient) -> None:
        async def silent(to: Address, message: Message) -> Message | Drop | None:
            return DROP if isinstance(message, Write | Fill) else None

        cluster.script = silent
        first = asyncio.create_task(log.append(b"first"))
        await asyncio.sleep(0.01)
        queued = asyncio.create_task(log.append(b"queued"))
        await asyncio.sleep(0)
        await log.close(timeout=2)
        with pytest.raises(AppendUnknownError):
            await first
        with pytest.raises(NotAppendedError):
            await queued

    run(test, ordered=True)


def test_append_after_fork_is_refused() -> None:
    async def test(cluster: FakeCluster, log: LogClient) -> None:
        log._pid = lambda: 7
        with pytest.raises(UsageError, match="fork"):
            await log.append(b"x")
        log._pid = lambda: 0

    run(test)


def test_append_lone_record_lingers_only_if_asked_to() -> None:
    async def test(cluster: FakeCluster, log: LogClient) -> None:
        first = asyncio.create_task(log.append(b"1"))
        await asyncio.sleep(0.01)
        second = asyncio.create_task(log.append(b"2"))
        assert [(await first).index, (await second).index] == [0, 1]
        assert 0.02 < cluster.now() < 0.03

    run(test, linger_s=0.02)


def test_append_stuck_entry_holds_others_up_no_longer_than_gather() -> None:
    async def test(cluster: FakeCluster, log: LogClient) -> None:
        async def stuck(to: Address, message: Message) -> Message | Drop | None:
            return DROP if isinstance(message, Write) and message.offset == 0 else None

        cluster.script = stuck
        first = asyncio.create_task(log.append(b"1"))
        await asyncio.sleep(0.01)
        began = cluster.now()
        assert (await log.append(b"2")).offset == 1
        assert cluster.now() - began < 0.01
        assert (await first).offset == 2

    run(test)


def test_entry_that_its_caller_gave_up_leaves_when_its_time_is_over() -> None:
    """Else it would wait for a token for ever, and nothing could take its place in flight."""

    async def test(cluster: FakeCluster, log: LogClient) -> None:
        async def silent(to: Address, message: Message) -> Message | Drop | None:
            return DROP if isinstance(message, GetToken) else None

        cluster.script = silent
        given_up = asyncio.ensure_future(log.append(b"1", timeout=1))
        await asyncio.sleep(0.1)
        given_up.cancel()
        await asyncio.sleep(3)

        async def sound(to: Address, message: Message) -> Message | Drop | None:
            return None

        cluster.script = sound
        await log.append(b"2", timeout=1)
        assert records_written(cluster) == [(b"2",)]

    for settings in ({"entries_in_flight_max": 1}, {"ordered": True}):
        run(test, **settings)
