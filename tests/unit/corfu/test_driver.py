"""The driver over fake ports: nothing leaves before its commit, and nothing happens after stop."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import pytest

from corfu.config import LinkSettings
from corfu.effects import Effect, Fetch, Persist, Send
from corfu.link import Link
from corfu.messages import GetStatus, Message, Ping, Pong
from corfu.ports import DiskOperation, Sync, UnansweredError
from corfu.runtime.committer import MARK_IDLE_S, SPARE_RETRY_S
from corfu.runtime.driver import Driver
from corfu.tools.sim.loop import VirtualLoop
from corfu.types import Address, ClusterId, Incarnation, RequestId, UnitId

OWN = Address("10.0.0.1", 1)
PEER = Address("10.0.0.2", 2)
CLUSTER = ClusterId(b"testtest")


def new_link(seed: int) -> Link:
    session = Incarnation(bytes([seed]) * 16)
    return Link(cluster=CLUSTER, session=session, settings=LinkSettings(), rng=random.Random(seed))


@dataclass
class FakeDatagrams:
    """Decodes what is sent with a link of its own, and lets a test send as the peer."""

    address: Address = OWN
    sent: list[Message] = field(default_factory=list)
    datagrams: int = 0
    receive: Callable[[bytes, Address], None] | None = None
    closed: bool = False
    peer: Link = field(default_factory=lambda: new_link(9))

    def send(self, datagrams: Sequence[tuple[bytes, Address]]) -> None:
        assert not self.closed
        for data, to in datagrams:
            assert to == PEER
            self.datagrams += 1
            self.sent.extend(d.message for d in self.peer.receive(data, OWN, 0.0))

    def listen(self, receive: Callable[[bytes, Address], None]) -> None:
        self.receive = receive

    def close(self) -> None:
        self.closed = True

    def deliver(self, *messages: Message) -> None:
        assert self.receive is not None
        for message in messages:
            self.peer.send(OWN, message, 0.0)
        for data, _ in self.peer.outgoing():
            self.receive(data, PEER)


@dataclass
class FakeWorker:
    """Does nothing until the test says so."""

    runs: list[tuple[Sequence[DiskOperation], Callable[[], None]]] = field(default_factory=list)
    spares: list[Callable[[OSError | None], None]] = field(default_factory=list)
    fetches: list[Callable[[bytes | None], None]] = field(default_factory=list)

    def run(self, operations: Sequence[DiskOperation], done: Callable[[], None]) -> None:
        self.runs.append((operations, done))

    def background(
        self, operations: Sequence[DiskOperation], done: Callable[[OSError | None], None]
    ) -> None:
        self.spares.append(done)

    def fetch(
        self,
        name: str,
        position: int,
        length: int,
        done: Callable[[bytes | None], None],
        *,
        fresh: bool = False,
    ) -> None:
        self.fetches.append(done)

    def finish(self) -> str:
        """Let the oldest run end; returns the name its operation carries."""
        operations, done = self.runs.pop(0)
        done()
        (operation,) = operations
        assert isinstance(operation, Sync)
        return operation.name


@dataclass
class FakeJournal:
    """Names each cut after what was appended."""

    appended: list[str] = field(default_factory=list)
    committing: bool = False
    unmarked: bool = False
    spares_missing: int = 0

    @property
    def dirty(self) -> bool:
        return bool(self.appended)

    def cut(self) -> tuple[DiskOperation, ...]:
        assert not self.committing
        name, self.appended = "+".join(self.appended), []
        self.committing = self.unmarked = True
        return (Sync(name),)

    def committed(self) -> None:
        assert self.committing
        self.committing = False

    @property
    def mark_wanted(self) -> bool:
        return self.unmarked and not self.committing and not self.dirty

    def mark(self, *, clean: bool = False) -> tuple[DiskOperation, ...]:
        assert not self.committing
        if not (self.unmarked or clean):
            return ()
        self.committing, self.unmarked = True, False
        return (Sync("clean" if clean else "mark"),)

    def spare_wanted(self) -> tuple[DiskOperation, ...] | None:
        return (Sync("spare"),) if self.spares_missing else None

    def spare_ready(self) -> None:
        self.spares_missing -= 1

    def spare_failed(self) -> None:
        pass


@dataclass
class FakeCore:
    """Answers each Ping; odd units are persisted first."""

    journal: FakeJournal | None
    deadline: float | None = None
    ticks: list[float] = field(default_factory=list)
    handled: list[Message] = field(default_factory=list)
    data: list[bytes | None] = field(default_factory=list)
    failure: Exception | None = None

    def handle(self, message: Message, sender: Address, now: float) -> list[Effect]:
        self.handled.append(message)
        if self.failure is not None:
            raise self.failure
        if isinstance(message, GetStatus):
            return [Fetch(5, "file", 0, 10)]
        assert isinstance(message, Ping)
        reply = Send(sender, Pong(message.request, message.unit), ordered=message.unit != 100)
        if not message.unit % 2:
            return [reply]
        assert self.journal is not None
        self.journal.appended.append(str(message.unit))
        return [Persist(), reply]

    def tick(self, now: float) -> list[Effect]:
        self.ticks.append(now)
        self.deadline = None
        return []

    def fetched(self, ticket: int, data: bytes | None, now: float) -> list[Effect]:
        assert ticket == 5
        self.data.append(data)
        return []


@dataclass
class Bench:
    loop: VirtualLoop
    datagrams: FakeDatagrams = field(default_factory=FakeDatagrams)
    worker: FakeWorker = field(default_factory=FakeWorker)
    journal: FakeJournal = field(default_factory=FakeJournal)
    failures: list[Exception] = field(default_factory=list)
    requests: int = 0

    def __post_init__(self) -> None:
        self.core = FakeCore(self.journal)
        self.driver = self.make(self.core)

    def make(self, core: FakeCore | None) -> Driver:
        return Driver(
            core=core,
            link=new_link(1),
            datagrams=self.datagrams,
            worker=self.worker if core else None,
            loop=self.loop,
            on_fatal=self.failures.append,
        )

    def ping(self, *units: int) -> None:
        """Receive a Ping of each unit, in one datagram, and end the loop turn."""
        messages = []
        for unit in units:
            self.requests += 1
            messages.append(Ping(RequestId(Incarnation(b"p" * 16), self.requests), UnitId(unit)))
        self.datagrams.deliver(*messages)
        self.turn()

    def turn(self, seconds: float = 0.001) -> None:
        self.loop.run(asyncio.sleep(seconds))

    @property
    def answered(self) -> list[int]:
        return [message.unit for message in self.datagrams.sent if isinstance(message, Pong)]


@pytest.fixture
def bench() -> Iterator[Bench]:
    loop = VirtualLoop()
    bench = Bench(loop)
    bench.driver.start()
    yield bench
    bench.driver.stop()
    loop.finish()


def test_send_after_persist_waits_for_its_commit(bench: Bench) -> None:
    bench.ping(1)
    assert bench.answered == []
    assert bench.worker.finish() == "1"
    bench.turn()
    assert bench.answered == [1]


def test_send_with_nothing_appended_leaves_at_once(bench: Bench) -> None:
    bench.ping(2, 4)
    assert bench.answered == [2, 4]
    assert bench.datagrams.datagrams == 1


def test_ordered_send_behind_uncommitted_record_waits_and_keeps_order(bench: Bench) -> None:
    """Also a hit on a record that waits for its sync: order alone makes it wait."""
    bench.ping(1, 2, 3, 4)
    bench.ping(6)
    assert bench.answered == []
    assert bench.worker.finish() == "1+3"
    bench.turn()
    assert bench.answered == [1, 2, 3, 4, 6]


def test_unordered_send_overtakes_the_commit(bench: Bench) -> None:
    bench.ping(1, 100)
    assert bench.answered == [100]


class NotingCore(FakeCore):
    """Has something to say after each commit."""

    def durable(self, now: float) -> list[Effect]:
        request = RequestId(Incarnation(b"core".ljust(16, b"-")), len(self.handled))
        return [Send(PEER, Pong(request, UnitId(200)), ordered=False)]


def test_core_speaks_after_each_commit_behind_what_waited_for_it(bench: Bench) -> None:
    bench.driver.stop()
    other = Bench(bench.loop)
    other.core = NotingCore(other.journal)
    other.driver = other.make(other.core)
    other.driver.start()
    other.ping(2, 1)
    assert other.answered == [2]
    other.worker.finish()
    other.turn()
    assert other.answered == [2, 1, 200]
    other.driver.stop()


def test_persist_that_a_core_forgot_still_holds_its_send(bench: Bench) -> None:
    bench.journal.appended.append("forgotten")
    bench.driver.run([Send(PEER, Pong(bench.driver.new_request(), UnitId(8)))])
    bench.turn()
    assert bench.answered == []
    bench.worker.finish()
    bench.turn()
    assert bench.answered == [8]


def test_records_that_come_during_a_commit_share_the_next_one(bench: Bench) -> None:
    bench.ping(1)
    bench.ping(3)
    bench.ping(5, 2)
    assert len(bench.worker.runs) == 1
    assert bench.worker.finish() == "1"
    bench.turn()
    # The reply behind records of the second cut waits for that one, not for the first.
    assert bench.answered == [1]
    assert len(bench.worker.runs) == 1
    assert bench.worker.finish() == "3+5"
    bench.turn()
    assert bench.answered == [1, 3, 5, 2]


@pytest.mark.parametrize("seed", range(20))
def test_random_order_of_events_never_lets_a_send_out_early(bench: Bench, seed: int) -> None:
    rng = random.Random(seed)
    units = iter(range(1, 10_000))
    expected: list[int] = []
    durable: set[str] = set()
    for _ in range(100):
        if bench.worker.runs and rng.random() < 0.4:
            durable.update(bench.worker.finish().split("+"))
            bench.turn(0.0)
        else:
            batch = [
                unit for unit in (next(units) for _ in range(rng.randint(1, 4))) if unit != 100
            ]
            expected += batch
            bench.ping(*batch)
        answered = bench.answered
        assert answered == expected[: len(answered)]
        assert all(str(unit) in durable for unit in answered if unit % 2)


def test_mark_is_written_after_idle_time_only(bench: Bench) -> None:
    bench.ping(1)
    bench.worker.finish()
    bench.turn(MARK_IDLE_S / 2)
    assert not bench.worker.runs
    bench.ping(3)
    bench.worker.finish()
    bench.turn(MARK_IDLE_S * 0.9)
    assert not bench.worker.runs
    bench.turn(MARK_IDLE_S)
    assert bench.worker.finish() == "mark"
    bench.turn(1)
    assert not bench.worker.runs


def test_stop_during_commit_silences_everything(bench: Bench) -> None:
    bench.ping(1)
    bench.driver.stop()
    bench.worker.finish()
    bench.driver.run([Send(PEER, Pong(bench.driver.new_request(), UnitId(2)))])
    bench.driver.send(PEER, Ping(bench.driver.new_request(), UnitId(2)))
    bench.datagrams.deliver(Ping(bench.driver.new_request(), UnitId(2)))
    bench.turn(10)
    assert bench.answered == []
    assert bench.datagrams.closed
    assert len(bench.core.handled) == 1
    assert not bench.failures


def test_drain_commits_answers_and_marks_clean(bench: Bench) -> None:
    bench.ping(1)
    bench.ping(3)
    drained = bench.loop.create_task(bench.driver.drain())
    bench.turn()
    bench.ping(2)
    assert [bench.worker.finish()] == ["1"]
    bench.turn()
    assert bench.worker.finish() == "3"
    bench.turn()
    assert not drained.done()
    assert bench.worker.finish() == "clean"
    bench.turn()
    assert drained.done()
    # What came while draining is not taken.
    assert bench.answered == [1, 3]
    assert bench.datagrams.closed


def test_drain_of_driver_without_core_ends(bench: Bench) -> None:
    client = bench.make(None)
    client.start()
    bench.loop.run(client.drain())
    assert bench.datagrams.closed


def test_fetch_is_handed_back_with_its_ticket(bench: Bench) -> None:
    bench.datagrams.deliver(GetStatus(bench.driver.new_request()))
    for done, data in zip(list(bench.worker.fetches), (b"abc",), strict=True):
        done(data)
    assert bench.core.data == [b"abc"]


def test_core_is_ticked_at_its_deadline_not_before(bench: Bench) -> None:
    bench.core.deadline = 0.5
    bench.ping(2)
    bench.turn(0.4)
    assert not bench.core.ticks
    bench.turn(0.2)
    (ticked,) = bench.core.ticks
    assert 0.5 <= ticked < 0.502


def test_failing_core_stops_the_driver_and_is_reported_once(bench: Bench) -> None:
    bench.core.failure = RuntimeError("broken")
    bench.ping(2, 4)
    assert [str(failure) for failure in bench.failures] == ["broken"]
    assert bench.datagrams.closed
    assert len(bench.core.handled) == 1


def test_failing_core_without_on_fatal_raises_out_of_the_callback(bench: Bench) -> None:
    core = FakeCore(bench.journal, failure=RuntimeError("broken"))
    driver = Driver(
        core=core,
        link=new_link(3),
        datagrams=bench.datagrams,
        worker=bench.worker,
        loop=bench.loop,
    )
    driver.start()
    with pytest.raises(RuntimeError, match="broken"):
        bench.ping(2)


def test_ask_returns_the_reply_and_the_core_sees_nothing(bench: Bench) -> None:
    request = bench.driver.new_request()
    asked = bench.loop.create_task(bench.driver.ask(PEER, Ping(request, UnitId(7)), 5.0))
    bench.turn()
    reply = Pong(request, UnitId(7))
    bench.datagrams.deliver(reply)
    bench.turn()
    assert asked.result() == reply
    assert not bench.core.handled
    bench.core.failure = None
    assert bench.driver.link.asks == 0


def test_reply_that_nobody_waits_for_goes_to_the_core(bench: Bench) -> None:
    request = bench.driver.new_request()
    bench.core.failure = RuntimeError("seen")
    bench.datagrams.deliver(Pong(request, UnitId(7)))
    assert bench.core.handled == [Pong(request, UnitId(7))]


def test_ask_without_reply_raises_unanswered_after_its_budget(bench: Bench) -> None:
    async def ask() -> float:
        message = Ping(bench.driver.new_request(), UnitId(7))
        with pytest.raises(UnansweredError):
            await bench.driver.ask(PEER, message, 3.0)
        return bench.driver.now()

    assert 3.0 <= bench.loop.run(ask()) < 3.01
    assert len(bench.datagrams.sent) > 3


def test_cancelled_ask_is_not_repeated(bench: Bench) -> None:
    message = Ping(bench.driver.new_request(), UnitId(7))
    asked = bench.loop.create_task(bench.driver.ask(PEER, message, 60.0))
    bench.turn()
    asked.cancel()
    bench.turn(10)
    assert len(bench.datagrams.sent) == 1
    assert bench.driver.link.asks == 0


def test_parts_of_an_answer_go_to_who_asked_until_the_last_one(bench: Bench) -> None:
    request = bench.driver.new_request()
    taken: list[Message] = []

    def take(message: Message) -> bool:
        taken.append(message)
        return len(taken) == 3

    work = bench.driver.ask_parts(PEER, Ping(request, UnitId(7)), 5.0, 0.1, take)
    asked = bench.loop.create_task(work)
    bench.turn()
    parts = [Pong(request, UnitId(number)) for number in range(4)]
    bench.datagrams.deliver(parts[0])
    bench.datagrams.deliver(parts[1])
    bench.turn()
    assert not asked.done()
    assert bench.driver.link.asks == 0  # not repeated: an answer is on its way
    bench.datagrams.deliver(*parts[2:])
    bench.turn()
    assert asked.result() is True
    assert taken == parts[:3]
    # What comes when nobody waits any more is for the core, as any late reply.
    bench.core.failure = RuntimeError("seen")
    bench.datagrams.deliver(parts[3])
    assert bench.core.handled == [parts[3]]


def test_parts_that_stop_coming_end_the_waiting_after_one_gap(bench: Bench) -> None:
    request = bench.driver.new_request()

    async def ask() -> float:
        work = bench.driver.ask_parts(PEER, Ping(request, UnitId(7)), 5.0, 0.1, lambda _: False)
        asked = bench.loop.create_task(work)
        for _ in range(3):
            await asyncio.sleep(0.07)
            bench.datagrams.deliver(Pong(request, UnitId(7)))
        assert await asked is False
        return bench.driver.now()

    # Each part begins the gap anew; looked at when one ends.
    assert 0.21 + 0.05 < bench.loop.run(ask()) < 0.21 + 0.2 + 0.01


def test_parts_without_any_reply_raise_unanswered(bench: Bench) -> None:
    message = Ping(bench.driver.new_request(), UnitId(7))
    with pytest.raises(UnansweredError):
        bench.loop.run(bench.driver.ask_parts(PEER, message, 3.0, 0.1, lambda _: True))


def test_spare_is_allocated_in_background_and_tried_again_later(bench: Bench) -> None:
    bench.journal.spares_missing = 2
    bench.ping(2)
    assert len(bench.worker.spares) == 1
    bench.worker.spares.pop()(None)
    bench.turn()
    assert len(bench.worker.spares) == 1
    bench.worker.spares.pop()(OSError(28, "full"))
    bench.turn(SPARE_RETRY_S / 2)
    assert not bench.worker.spares
    bench.turn(SPARE_RETRY_S)
    assert len(bench.worker.spares) == 1
