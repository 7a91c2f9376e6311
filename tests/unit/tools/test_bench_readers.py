"""What readers and followers of a benchmark do, without a cluster."""

# ruff: noqa: ASYNC109 - the log's own methods have it.

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator

import pytest

import corfu
from corfu.client.log import LogClient
from corfu.errors import JunkError, LostError
from corfu.tools.bench.assignment import Assignment, Kind
from corfu.tools.bench.following import Following
from corfu.tools.bench.meter import Meter
from corfu.tools.bench.reading import PointReading, Scanning
from corfu.tools.failure import CommandError, Status
from corfu.types import Offset, Position, Record

TAG = "0011223344556677"
FOLLOWING = Assignment(kind=Kind.FOLLOW, tag=TAG)
SCANNING = Assignment(kind=Kind.SCAN)
READING = Assignment(kind=Kind.READ)


def _batch(offset: int, *data: bytes) -> tuple[Record, ...]:
    return tuple(Record(Position(Offset(offset), i), each) for i, each in enumerate(data))


class FakeLog(LogClient):
    """Holds entries in memory, and so never waits; a hole is a filled one."""

    def __init__(self, *entries: tuple[Record, ...] | None) -> None:
        self.entries = entries
        self.reads = 0

    async def tail(self, *, linearizable: bool = True, timeout: float | None = None) -> Offset:
        return Offset(len(self.entries))

    async def read(self, place: object, *, timeout: float | None = None) -> tuple[Record, ...]:  # type: ignore[override]
        assert isinstance(place, int)
        self.reads += 1
        found = self.entries[place]
        if found is None:
            raise JunkError(Offset(place))
        return found

    async def _all(self) -> AsyncGenerator[tuple[Record, ...], None]:
        for entry in self.entries:
            if entry is not None:
                yield entry

    def scan_batches(self, *_: object, **__: object) -> AsyncGenerator[tuple[Record, ...], None]:
        return self._all()

    async def _all_and_wait(self) -> AsyncGenerator[tuple[Record, ...], None]:
        async for entry in self._all():
            yield entry
        await asyncio.Event().wait()

    def follow_batches(self, *_: object, **__: object) -> AsyncGenerator[tuple[Record, ...], None]:
        return self._all_and_wait()


class OpenScanning(Scanning):
    """A scanner over a fake log."""

    def __init__(self, assignment: Assignment, log: FakeLog) -> None:
        super().__init__(assignment)
        self._log = log


class OpenReading(PointReading):
    """A reader over a fake log, of which the first offset was trimmed."""

    def __init__(self, assignment: Assignment, log: FakeLog) -> None:
        super().__init__(assignment)
        self._log = log
        self._trim_mark, self._tail = Offset(1), Offset(len(log.entries))


class OpenFollowing(Following):
    """A follower over a fake log."""

    def __init__(self, log: FakeLog) -> None:
        super().__init__(FOLLOWING)
        self._log = log


def _begun(meter: Meter) -> Meter:
    meter.begin(time.monotonic_ns())
    return meter


async def _counted(meter: Meter, records: int) -> None:
    while meter.records < records:  # noqa: ASYNC110 - a count sets no event
        await asyncio.sleep(0)


async def test_scanner_goes_round_until_it_is_stopped() -> None:
    job = OpenScanning(SCANNING, FakeLog(_batch(0, b"one", b"two"), None, _batch(2, b"three")))
    meter, stop = _begun(job.meter()), asyncio.Event()
    work = asyncio.create_task(job.work(meter, stop))
    await _counted(meter, 30)
    stop.set()
    await work
    assert meter.bytes == meter.records // 3 * 11 + (6 if meter.records % 3 else 0)


async def test_scanner_that_reads_once_ends_by_itself() -> None:
    job = OpenScanning(
        Assignment(kind=Kind.SCAN, once=True), FakeLog(_batch(0, b"one"), _batch(1, b"two"))
    )
    meter = _begun(job.meter())
    await job.work(meter, asyncio.Event())
    assert (meter.records, meter.bytes, len(meter.samples)) == (2, 6, 2)


async def test_reader_lets_others_have_their_turn_though_no_read_waits() -> None:
    log = FakeLog(None, None, _batch(2, b"one", b"two"))
    job = OpenReading(READING, log)
    meter, stop = _begun(job.meter()), asyncio.Event()
    work = asyncio.create_task(job.work(meter, stop))
    await _counted(meter, 1)
    stop.set()
    await work


async def test_reader_counts_records_of_what_it_finds_and_no_junk() -> None:
    job = OpenReading(READING, FakeLog(None, None, _batch(2, b"one", b"two")))
    meter, stop = _begun(job.meter()), asyncio.Event()
    work = asyncio.create_task(job.work(meter, stop))
    await _counted(meter, 100)
    stop.set()
    await work
    meter.end(time.monotonic_ns())
    figures = meter.figures("read")
    assert figures.errors == {}
    assert figures.bytes == 3 * figures.records
    assert figures.latency.count >= figures.records // 2


async def test_failed_read_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    log = FakeLog(None, _batch(1, b"one"))
    stop = asyncio.Event()

    async def lost(place: object, *, timeout: float | None = None) -> None:
        stop.set()
        raise LostError(Offset(1))

    monkeypatch.setattr(log, "read", lost)
    job = OpenReading(READING, log)
    meter = _begun(job.meter())
    await job.work(meter, stop)
    assert list(meter.errors.values()) == [1]
    assert meter.records == 0


@pytest.mark.parametrize("job_type", [Scanning, PointReading])
async def test_log_with_nothing_to_read_is_refused(
    job_type: type[Scanning | PointReading], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def connect(*_: object, **__: object) -> FakeLog:
        return FakeLog(None)

    monkeypatch.setattr(corfu, "connect", connect)
    with pytest.raises(CommandError, match="nothing to read") as refused:
        await job_type(SCANNING).open()
    assert refused.value.status is Status.NO


async def test_follower_counts_tagged_records_only_and_ends_where_it_waits() -> None:
    begun = time.monotonic_ns() - 5_000_000
    tagged = bytes.fromhex(TAG) + begun.to_bytes(8, "little") + b"rest"
    other = bytes.fromhex(TAG)[::-1] + tagged[8:]
    job = OpenFollowing(FakeLog(_batch(0, tagged, other), _batch(1, b"short", tagged[:15], tagged)))
    meter, stop = _begun(job.meter()), asyncio.Event()
    work = asyncio.create_task(job.work(meter, stop))
    await _counted(meter, 2)
    await asyncio.sleep(0)
    assert not work.done()
    stop.set()
    await work
    assert (meter.records, meter.bytes) == (2, 2 * len(tagged))
    assert all(5_000_000 <= delay < 60_000_000_000 for delay in meter.samples)
