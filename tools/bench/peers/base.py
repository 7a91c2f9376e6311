"""What every peer provides, and the words between the command and its client processes."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from corfu.tools.bench.histogram import Histogram
from corfu.types import SyncMode

Work = Literal["producer", "serial", "read"]

READ_RECORDS = 20_000
"""Records of the stream that `read` reads; nothing else is in it."""

EXTRA = "pip install 'corfu-log[bench]'"
"""What brings the libraries and servers of peers."""

TIMEOUT_S = 30.0
"""Longest wait for the answer to one append: a peer that needs longer has failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """How the servers of a peer are to be started."""

    folder: Path
    """An empty folder, for data and logs."""

    sync: SyncMode
    chains: int = 1
    """Chains of our own log; peers have one stream."""

    kafka: str | None = None
    """Address of a Kafka broker that runs already."""

    kafka_topic: str | None = None
    """A topic that is there; None: one is made, and removed afterwards."""


class Missing(Exception):  # noqa: N818 - a fact about this machine, which may be asked for
    """A peer cannot run here; the text says what is missing."""


class PeerError(Exception):
    """A peer or its client failed; one line says how."""


class Servers(AbstractAsyncContextManager["Servers"], Protocol):
    """A peer's servers: they serve from entering until leaving, and leave no process behind.

    Entering raises `Missing` or `PeerError`.
    """

    @property
    def durability(self) -> str:
        """What an acknowledged record has survived, in the peer's own words."""

    def target(self) -> dict[str, object]:
        """Return what its client needs in order to connect, as JSON; after entering."""

    def pids(self) -> list[int]:
        """Return the process ids of the servers that are ours; after entering."""


class Client(Protocol):
    """A connection to a peer, in a process of its own."""

    async def append(self, record: bytes) -> None:
        """Append one record and return when it is acknowledged."""

    async def produce(self, records: Records, meter: Meter) -> None:
        """Append with many records outstanding until `meter` is over, then wait for the rest.

        It asks whether it is over before it takes a record, or the records of one call.
        """

    async def read(self, meter: Meter) -> None:
        """Read all records in order, again and again, until `meter` is over.

        What was read before is not taken from a cache of the client.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What one client process does; travels to it as JSON."""

    peer: str
    target: dict[str, object]
    work: Work | Literal["fill"]
    size: int
    seconds: float
    warm_s: float
    inflight: int | None
    """Records outstanding; None: what the peer is best at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What one client process saw, within `seconds` after the warm-up."""

    records: int
    seconds: float
    latency: Histogram
    """Nanoseconds from each call to its acknowledgement."""

    total: int
    """Records acknowledged from first to last, outside that span, too."""

    cpu_s: float
    """Processor time that the client process took for them."""

    @property
    def rate(self) -> float:
        """Records acknowledged in a second."""
        return self.records / self.seconds

    def as_json(self) -> dict[str, object]:
        """Return what `from_json` takes, for another process."""
        return {
            "records": self.records,
            "seconds": self.seconds,
            "latency": self.latency.as_json(),
            "total": self.total,
            "cpu_s": self.cpu_s,
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Measured:
        """Return what `as_json` wrote."""
        return cls(**{**stored, "latency": Histogram.from_json(stored["latency"])})


class Records:
    """Records of random bytes, made beforehand: making them is no part of the work."""

    COUNT = 1024

    def __init__(self, noise: bytes, size: int) -> None:
        """Cut `noise`, of at least `COUNT * size` bytes, into records."""
        assert len(noise) >= self.COUNT * size
        self._records = [noise[i * size : (i + 1) * size] for i in range(self.COUNT)]
        self.given = 0

    def one(self) -> bytes:
        """Return the next record; after the last one the first again."""
        record = self._records[self.given % self.COUNT]
        self.given += 1
        return record

    def many(self, count: int) -> list[bytes]:
        """Return the next records."""
        return [self.one() for _ in range(count)]


class Meter:
    """Counts what is acknowledged between the end of the warm-up and the end of the work.

    The same for every peer, so that it costs all the same.
    """

    def __init__(
        self, warm_s: float, seconds: float, now: Callable[[], int] = time.perf_counter_ns
    ) -> None:
        self.now = now
        self.records = 0
        self.total = 0
        self._latencies: list[int] = []
        self._span = round(warm_s * 1e9), round(seconds * 1e9)
        self._begin = self._end = 0
        self.start()

    def start(self) -> None:
        """Let the warm-up begin now, and not when this was made."""
        warm, span = self._span
        self._begin = self.now() + warm
        self._end = self._begin + span

    def over(self) -> bool:
        """Tell whether no further record is to be appended."""
        return self.now() >= self._end

    def saw(self, count: int, called: int) -> None:
        """Note that `count` records, appended by one call at `called`, are acknowledged now."""
        now = self.now()
        self.total += count
        if self._begin <= now < self._end:
            self.records += count
            self._latencies.append(now - called)

    def read(self, count: int) -> None:
        """Note that `count` records have been read now."""
        self.total += count
        if self._begin <= self.now() < self._end:
            self.records += count

    def latency(self) -> Histogram:
        """Return how long the calls took, in nanoseconds."""
        latency = Histogram()
        latency.record_all(self._latencies)
        return latency


class Filling(Meter):
    """Is over when so many records have been taken; counts without a span of time."""

    def __init__(self, records: Records, count: int) -> None:
        super().__init__(0.0, 0.0)
        self._taken = records
        self._count = count

    def over(self) -> bool:
        """Tell whether no further record is to be appended."""
        return self._taken.given >= self._count
