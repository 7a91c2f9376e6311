"""Kafka: a broker that runs already; a topic of its own, with one partition, for each run."""

from __future__ import annotations

import asyncio
import importlib.util
import secrets
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Self

from corfu.tools.tables import counted
from corfu.types import SyncMode

from .base import EXTRA, TIMEOUT_S, Client, Meter, Missing, PeerError, Records, Setup

if TYPE_CHECKING:
    from confluent_kafka import Consumer, KafkaError, Message, Producer
    from confluent_kafka.admin import AdminClient

REPLICAS_MAX = 3
READ_COUNT = 1000
"""Records taken from librdkafka's queue at a time."""

ADMIN_S = 10.0
"""Longest wait for an answer to a change of topics."""

QUEUED_BEST = 100_000
"""Records outstanding: librdkafka's own default (`queue.buffering.max.messages`)."""


def missing() -> str | None:
    """Return what this peer lacks on this machine; None: it can run, given a broker."""
    if importlib.util.find_spec("confluent_kafka") is None:
        return f"the package confluent-kafka is missing: {EXTRA}"
    return None


class KafkaServers:
    """A topic on brokers that somebody else runs; one that is made here is removed in the end."""

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._topic = setup.kafka_topic or f"corfu-bench-{secrets.token_hex(4)}"
        self._replicas = 0

    @property
    def durability(self) -> str:
        """What is known of brokers that we did not start."""
        if self._setup.kafka_topic is not None:
            topic = f"topic {self._topic} as it is"
        elif self._setup.sync is SyncMode.ALWAYS:
            topic = f"{counted(self._replicas, 'replica')}, flush.messages=1"
        else:
            topic = f"{counted(self._replicas, 'replica')}, flushed as the brokers are set"
        return f"brokers at {self._setup.kafka}, {topic}, acks=all, linger.ms by default"

    def target(self) -> dict[str, object]:
        """Return the broker and the topic."""
        return {"brokers": self._setup.kafka, "topic": self._topic}

    def pids(self) -> list[int]:
        """Return nothing: the brokers are not ours."""
        return []

    async def __aenter__(self) -> Self:
        if (reason := missing()) is not None:
            raise Missing(reason)
        if self._setup.kafka_topic is None:
            await self._administer(self._make_topic)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._setup.kafka_topic is None:
            await self._administer(self._remove_topic)

    async def _administer(self, change: Callable[[AdminClient], None]) -> None:
        """Make a change in a thread: it waits for the brokers."""
        from confluent_kafka import KafkaException
        from confluent_kafka.admin import AdminClient

        settings = {"bootstrap.servers": str(self._setup.kafka), **QUIET}
        try:
            await asyncio.to_thread(change, AdminClient(settings))
        except KafkaException as error:
            said = error.args[0].str()
            raise PeerError(f"{self._setup.kafka}, topic {self._topic}: {said}") from error

    def _make_topic(self, admin: AdminClient) -> None:
        from confluent_kafka.cimpl import NewTopic

        brokers = admin.list_topics(timeout=ADMIN_S).brokers
        self._replicas = min(REPLICAS_MAX, len(brokers))
        topic = NewTopic(
            self._topic,
            num_partitions=1,
            replication_factor=self._replicas,
            config={"flush.messages": "1"} if self._setup.sync is SyncMode.ALWAYS else {},
        )
        made = admin.create_topics([topic], request_timeout=ADMIN_S, operation_timeout=ADMIN_S)
        made[self._topic].result()

    def _remove_topic(self, admin: AdminClient) -> None:
        admin.delete_topics([self._topic], request_timeout=ADMIN_S)[self._topic].result()


QUIET: dict[str, str | int | float | bool] = {"log_level": 0}
"""Errors come from calls; librdkafka would print them as well."""


class KafkaClient:
    """A producer with acks=all and else its own defaults. Its calls hold up the event loop."""

    def __init__(self, producer: Producer, topic: str, brokers: str) -> None:
        self._producer = producer
        self._brokers = brokers
        self._topic = topic
        self._error: KafkaError | None = None

    async def append(self, record: bytes) -> None:
        """Produce one record and wait for its delivery."""
        delivered = False

        def report(error: KafkaError | None, _message: Message) -> None:
            nonlocal delivered
            delivered, self._error = True, error

        self._producer.produce(self._topic, record, on_delivery=report)
        while not delivered:
            self._producer.poll(0.1)
        self._require()

    async def produce(self, records: Records, meter: Meter) -> None:
        """Produce as fast as its queue takes records."""
        produce, poll, now = self._producer.produce, self._producer.poll, meter.now

        def report(called: int, error: KafkaError | None, _message: Message) -> None:
            if error is None:
                meter.saw(1, called)
            else:
                self._error = error

        while not meter.over() and self._error is None:
            record, delivered = records.one(), partial(report, now())
            while True:
                try:
                    produce(self._topic, record, on_delivery=delivered)
                except BufferError:
                    # Its queue is full: what is delivered meanwhile makes room.
                    poll(0.01)
                else:
                    break
            poll(0)
        left = self._producer.flush(TIMEOUT_S)
        self._require()
        if left:
            raise PeerError(f"{left} records were not delivered in {TIMEOUT_S:.0f} s")

    async def read(self, meter: Meter) -> None:
        """Consume the partition from its beginning to the end that it had."""
        from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

        consumer = Consumer(
            {
                "bootstrap.servers": self._brokers,
                # It has to have one; nothing is committed.
                "group.id": self._topic,
                "enable.auto.commit": False,
                **QUIET,
            }
        )
        start = TopicPartition(self._topic, 0, OFFSET_BEGINNING)
        _, end = consumer.get_watermark_offsets(start, timeout=TIMEOUT_S)
        consumer.assign([start])
        try:
            # Until it is given its first records a consumer takes a second or more.
            _await_records(consumer)
            meter.start()
            while not meter.over():
                # It waits for that many, so not for long.
                messages = consumer.consume(READ_COUNT, timeout=0.05)
                for error in (message.error() for message in messages):
                    if error is not None:
                        raise PeerError(error.str())
                meter.read(len(messages))
                last = messages[-1].offset() if messages else None
                if last is not None and last >= end - 1:
                    consumer.assign([start])
        finally:
            consumer.close()

    def _require(self) -> None:
        if self._error is not None:
            raise PeerError(self._error.str())


def _await_records(consumer: Consumer) -> None:
    """Wait until a consumer is given records."""
    give_up = time.monotonic() + TIMEOUT_S
    while not consumer.consume(1, timeout=0.1):
        if time.monotonic() > give_up:
            raise PeerError(f"its consumer has no record after {TIMEOUT_S:.0f} s")


@asynccontextmanager
async def client(target: Mapping[str, object], inflight: int | None) -> AsyncIterator[Client]:
    """Make a producer."""
    from confluent_kafka import Producer

    settings: dict[str, str | int | float | bool] = {
        "bootstrap.servers": str(target["brokers"]),
        "acks": "all",
        "queue.buffering.max.messages": inflight or QUEUED_BEST,
        **QUIET,
    }
    yield KafkaClient(Producer(settings), str(target["topic"]), str(target["brokers"]))
