"""What client processes do, without a cluster."""

# ruff: noqa: ASYNC109 - the log's own methods have it.

from __future__ import annotations

import asyncio
import itertools
import random
import time

import pytest

from corfu.client.log import LogClient
from corfu.config import LinkSettings
from corfu.errors import NotAppendedError
from corfu.link import Link
from corfu.messages import GetToken, Grant, NotLeader, Rejected, Rejection
from corfu.tools.bench.assignment import Assignment, Kind, Span
from corfu.tools.bench.meter import Meter
from corfu.tools.bench.producing import Producing
from corfu.tools.bench.token_clients import BUDGET_S, Aim, TokenSession
from corfu.tools.bench.tokens_cli import spread
from corfu.types import Address, ClusterId, Epoch, Incarnation, Offset, Position, RequestId

TAG = "0011223344556677"
LEADER = Address("127.0.0.1", 9)


class FakeLog(LogClient):
    """Acknowledges in the next turn; stops the work after so many calls."""

    def __init__(self, stop: asyncio.Event, calls_max: int, *, fails: bool = False) -> None:
        self.calls: list[list[bytes]] = []
        self.under_way = self.most_under_way = 0
        self._stop = stop
        self._calls_max = calls_max
        self._fails = fails

    async def append(self, data: bytes, *, timeout: float | None = None) -> Position:
        return (await self.append_many([data]))[0]

    async def append_many(
        self, records: list[bytes] | tuple[bytes, ...], *, timeout: float | None = None
    ) -> list[Position]:
        self.calls.append(list(records))
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        if len(self.calls) >= self._calls_max:
            self._stop.set()
        await asyncio.sleep(0)
        self.under_way -= 1
        if self._fails:
            raise NotAppendedError("no")
        return [Position(Offset(0), index) for index in range(len(records))]


class Producer(Producing):
    """A producer over a fake log."""

    def __init__(self, assignment: Assignment, log: FakeLog) -> None:
        super().__init__(assignment)
        self._log = log
        rng = random.Random(1)
        size = assignment.size - (16 if assignment.tag else 0)
        self._records = itertools.cycle([rng.randbytes(size) for _ in range(100)])


async def _produce(
    assignment: Assignment, calls_max: int, *, fails: bool = False
) -> tuple[FakeLog, Meter]:
    stop = asyncio.Event()
    log = FakeLog(stop, calls_max, fails=fails)
    producer = Producer(assignment, log)
    meter = producer.meter()
    meter.begin(time.monotonic_ns())
    await producer.work(meter, stop)
    meter.end(time.monotonic_ns())
    return log, meter


async def test_producer_keeps_so_many_calls_under_way() -> None:
    told = Assignment(kind=Kind.APPEND, size=100, inflight=7)
    log, meter = await _produce(told, 50)
    assert log.most_under_way == 7
    assert meter.figures("append").records == len(log.calls)
    assert meter.figures("append").bytes == 100 * len(log.calls)


async def test_producer_of_batches_counts_records_and_ends_at_its_limit() -> None:
    told = Assignment(kind=Kind.APPEND, size=100, inflight=3, batch=10, limit=95)
    log, _ = await _produce(told, 1000)
    assert sorted(map(len, log.calls)) == [5] + [10] * 9
    told = Assignment(kind=Kind.APPEND, size=100, batch=10)
    log, meter = await _produce(told, 4)
    assert meter.figures("append").records == 40


async def test_stamped_records_have_the_size_asked_for_and_tell_the_time() -> None:
    before = time.monotonic_ns()
    log, _ = await _produce(Assignment(kind=Kind.APPEND, size=100, tag=TAG), 5)
    for (record,) in log.calls:
        assert len(record) == 100
        assert record[:8].hex() == TAG
        assert before <= int.from_bytes(record[8:16], "little") <= time.monotonic_ns()


async def test_rate_is_kept_and_being_late_counts_as_waiting() -> None:
    begun = time.monotonic()
    log, meter = await _produce(Assignment(kind=Kind.APPEND, size=20, rate=500.0, inflight=4), 20)
    passed = time.monotonic() - begun
    assert passed >= (len(log.calls) - 4) / 500
    assert meter.figures("append").latency.count == len(log.calls)


async def test_failed_append_is_an_error_and_no_record() -> None:
    _, meter = await _produce(Assignment(kind=Kind.APPEND, size=20), 2, fails=True)
    figures = meter.figures("append")
    assert figures.records == 0
    assert figures.errors == {"NotAppendedError: no": 2}


def _session(inflight: int) -> tuple[TokenSession, Link, Meter]:
    link = Link(
        cluster=ClusterId(bytes(8)),
        session=Incarnation(bytes(16)),
        settings=LinkSettings(),
        rng=random.Random(1),
    )
    session = TokenSession(link, Aim(ClusterId(bytes(8)), LEADER, Epoch(3)), inflight)
    meter = Meter(records=1)
    meter.begin(0)
    return session, link, meter


def _grant(sequence: int) -> Grant:
    request = RequestId(Incarnation(bytes(16)), sequence)
    return Grant(request, Epoch(3), Offset(sequence), 1, Offset(9999), 0, 0)


def _records(meter: Meter) -> int:
    meter.end(1)
    return meter.figures("tokens").records


def test_session_asks_again_for_each_grant() -> None:
    session, link, meter = _session(3)
    session.start(meter, 1.0)
    assert link.asks == 3
    for sequence in (2, 1, 4):
        session.handle(_grant(sequence), LEADER, 1.1)
        assert link.asks == 3
    session.handle(_grant(4), LEADER, 1.2)
    assert link.asks == 3, "a second answer to one request makes no second request"
    session.stop()
    for sequence in (3, 5, 6):
        session.handle(_grant(sequence), LEADER, 1.3)
    assert (link.asks, session.waits) == (0, False)
    assert _records(meter) == 6


def test_session_tells_the_oldest_request_it_waits_for(monkeypatch: pytest.MonkeyPatch) -> None:
    session, link, meter = _session(2)
    asked: list[GetToken] = []
    ask = link.ask

    def note(to: Address, message: GetToken, now: float, budget_s: float) -> bool:
        asked.append(message)
        return ask(to, message, now, budget_s)

    monkeypatch.setattr(link, "ask", note)
    session.start(meter, 1.0)
    session.handle(_grant(1), LEADER, 1.1)
    session.handle(_grant(3), LEADER, 1.2)
    assert [(each.request.sequence, each.oldest) for each in asked] == [
        *((1, 1), (2, 1), (3, 2), (4, 2))
    ]
    assert {(each.epoch, each.count) for each in asked} == {(Epoch(3), 1)}


def test_refused_session_waits_for_a_new_aim() -> None:
    session, link, meter = _session(2)
    session.start(meter, 1.0)
    of = RequestId(Incarnation(bytes(16)), 1)
    session.handle(Rejected(of, Epoch(4), Rejection.WRONG_EPOCH, ""), LEADER, 1.1)
    assert session.is_stale
    assert link.asks == 1, "not asked at once: the answer would be the same"
    of = RequestId(Incarnation(bytes(16)), 2)
    session.is_stale = False
    session.handle(NotLeader(of, Epoch(4), None), LEADER, 1.1)
    assert session.is_stale
    session.tick(1.2)
    assert link.asks == 2
    assert _records(meter) == 0
    assert sum(meter.errors.values()) == 2


def test_busy_leader_is_asked_again_at_the_next_tick() -> None:
    session, link, meter = _session(1)
    session.start(meter, 1.0)
    of = RequestId(Incarnation(bytes(16)), 1)
    session.handle(Rejected(of, Epoch(3), Rejection.BUSY, ""), LEADER, 1.1)
    assert (session.is_stale, link.asks) == (False, 0)
    session.tick(1.2)
    assert link.asks == 1


def test_request_that_is_never_answered_fails_and_is_replaced(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    session, _, meter = _session(2)
    session.start(meter, 1.0)
    later = time.monotonic_ns() + int((BUDGET_S + 1) * 1e9)
    monkeypatch.setattr(time, "monotonic_ns", lambda: later)
    session.tick(1.0 + BUDGET_S + 1)
    assert sum(meter.errors.values()) == 2
    session.handle(_grant(1), LEADER, 9.0)
    session.handle(_grant(3), LEADER, 9.0)
    assert _records(meter) == 1, "late answers count for nothing"


@pytest.mark.parametrize(
    ("count", "processes", "shares"), [(64, 2, [32, 32]), (5, 3, [2, 2, 1]), (2, 8, [1, 1])]
)
def test_clients_are_spread_evenly(count: int, processes: int, shares: list[int]) -> None:
    assert spread(count, processes) == shares


def test_assignment_and_span_cross_the_process_boundary() -> None:
    told = Assignment(
        kind=Kind.FOLLOW,
        cluster="127.0.0.1:9",
        tag=TAG,
        rate=2.5,
        sync=False,
        settings={"ordered": True},
    )
    assert Assignment.decode(told.encode()) == told
    span = Span(123_456_789_012_345, 0.5, 2.0)
    assert Span.decode(span.encode()) == span
    assert span.begin_ns == 123_456_789_012_345 + 500_000_000
