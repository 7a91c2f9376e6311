"""Records that are submitted: packed together, in order, each with its own position."""

from __future__ import annotations

import asyncio
import gc
from pathlib import Path

import pytest

import corfu.sync
from corfu.client.log import LogClient
from corfu.errors import NotAppendedError, UsageError
from corfu.messages import GetToken, Message, Rejected, Rejection, Write
from corfu.types import Address, Epoch, Position
from tests.unit.corfu.client_world import DROP, Drop, FakeCluster, records_written, run


def test_submitted_records_go_together_and_each_has_its_position() -> None:
    async def test(cluster: FakeCluster, log: LogClient) -> None:
        submitted = [log.submit(b"%d" % number) for number in range(5)]
        assert not submitted[0].done()
        positions = [await each for each in submitted]
        assert positions == [Position(positions[0].offset, index) for index in range(5)]
        assert submitted[0].done()
        # Awaited again, it answers again.
        assert await submitted[3] == positions[3]
        assert records_written(cluster) == [(b"0", b"1", b"2", b"3", b"4")]

    run(test)


def test_order_of_calls_is_kept_between_submit_and_append() -> None:
    async def test(cluster: FakeCluster, log: LogClient) -> None:
        first = log.submit(b"1")
        second = asyncio.ensure_future(log.append(b"2"))
        await asyncio.sleep(0)
        third = log.submit(b"3")
        places = [await first, await second, await third]
        assert places == sorted(places)
        flat = [record for entry in records_written(cluster) for record in entry]
        assert flat == [b"1", b"2", b"3"]

    run(test)


def test_submitted_records_fill_entries_and_no_more() -> None:
    async def test(cluster: FakeCluster, log: LogClient) -> None:
        submitted = [log.submit(bytes(400)) for _ in range(10)]
        positions = [await each for each in submitted]
        # 24 bytes of head, and 404 for each record.
        assert [len(entry) for entry in records_written(cluster)] == [2, 2, 2, 2, 2]
        assert positions == sorted(positions)

    run(test, entry_bytes_target=1024)


def test_cancelled_wait_leaves_the_record_and_the_others_alone() -> None:
    async def test(cluster: FakeCluster, log: LogClient) -> None:
        first, second = log.submit(b"1"), log.submit(b"2")

        async def wait() -> None:
            await first

        waiting = asyncio.ensure_future(wait())
        await asyncio.sleep(0)
        waiting.cancel()
        assert (await second).index == 1
        assert (await first).index == 0
        assert records_written(cluster) == [(b"1", b"2")]

    run(test)


def test_error_after_a_cancelled_wait_is_not_reported_as_overlooked() -> None:
    async def test(cluster: FakeCluster, log: LogClient) -> None:
        async def no_chains(to: Address, message: Message) -> Message | Drop | None:
            if isinstance(message, GetToken):
                return Rejected(message.request, Epoch(1), Rejection.NO_CHAINS, "")
            return None

        cluster.script = no_chains
        reported: list[object] = []
        asyncio.get_running_loop().set_exception_handler(
            lambda _, context: reported.append(context)
        )

        async def wait() -> None:
            await log.submit(b"1", timeout=1)

        waiting = asyncio.ensure_future(wait())
        await asyncio.sleep(0.1)
        waiting.cancel()
        await asyncio.sleep(2)
        gc.collect()
        assert reported == []
        # One that nobody ever waited for is.
        log.submit(b"2", timeout=1)
        await asyncio.sleep(2)
        gc.collect()
        assert len(reported) == 1

    run(test)


def test_timeout_of_a_later_record_is_its_own() -> None:
    """Records share a deadline only if they were submitted shortly after one another."""

    async def test(cluster: FakeCluster, log: LogClient) -> None:
        async def no_chains(to: Address, message: Message) -> Message | Drop | None:
            if isinstance(message, GetToken):
                return Rejected(message.request, Epoch(1), Rejection.NO_CHAINS, "")
            return None

        cluster.script = no_chains
        ends: dict[str, float] = {}

        async def end(name: str, patience: float) -> None:
            with pytest.raises(NotAppendedError):
                await log.submit(name.encode(), timeout=patience)
            ends[name] = cluster.now()

        async with asyncio.TaskGroup() as group:
            # The first two entries are frozen at once, what comes then waits in the queue.
            group.create_task(end("short", 1.0))
            group.create_task(end("long", 3.0))
            await asyncio.sleep(0.5)
            group.create_task(end("later", 3.0))
        assert 1.0 <= ends["short"] < 1.2
        assert 3.0 <= ends["long"] < 3.2
        assert 3.5 <= ends["later"] < 3.7

    run(test, entries_in_flight_max=1)


def test_drain_waits_until_bytes_have_their_verdict() -> None:
    async def test(cluster: FakeCluster, log: LogClient) -> None:
        await log.drain()
        silent = True

        async def script(to: Address, message: Message) -> Message | Drop | None:
            return DROP if silent and isinstance(message, Write) else None

        cluster.script = script
        submitted = log.submit(bytes(2000))
        draining = asyncio.ensure_future(log.drain())
        await asyncio.sleep(0.2)
        assert not draining.done()
        silent = False
        await draining
        assert submitted.done()

    run(test, queue_bytes_max=1500)


def test_drain_ends_when_the_log_is_closed() -> None:
    async def test(cluster: FakeCluster, log: LogClient) -> None:
        async def script(to: Address, message: Message) -> Message | Drop | None:
            return DROP if isinstance(message, GetToken) else None

        cluster.script = script
        submitted = log.submit(bytes(2000))
        draining = asyncio.ensure_future(log.drain())
        await asyncio.sleep(0.01)
        await log.close(timeout=0.1)
        with pytest.raises(NotAppendedError, match="closed"):
            await submitted
        async with asyncio.timeout(1):
            await draining

    run(test, queue_bytes_max=1500)


def test_submit_checks_its_argument_and_the_log() -> None:
    async def test(cluster: FakeCluster, log: LogClient) -> None:
        with pytest.raises(UsageError, match="bytes"):
            log.submit("text")  # type: ignore[arg-type]
        await log.close()
        with pytest.raises(UsageError, match="closed"):
            log.submit(b"x")

    run(test)


async def test_embedded_log_takes_submitted_records(tmp_path: Path) -> None:
    async with corfu.local(tmp_path / "log") as log:
        submitted = [log.submit(b"%d" % number) for number in range(100)]
        await log.drain()
        positions = [await each for each in submitted]
        assert [each.index for each in positions] == list(range(100))
        found = [record.data async for record in log.scan()]
        assert found == [b"%d" % number for number in range(100)]


def test_blocking_log_gives_futures(tmp_path: Path) -> None:
    with corfu.sync.local(tmp_path / "log") as log:
        futures = [log.submit(b"%d" % number) for number in range(10)]
        log.drain()
        positions = [future.result(timeout=10) for future in futures]
        assert positions == sorted(positions)
