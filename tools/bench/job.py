"""What every kind of client work has in common."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import Protocol

import corfu
from corfu.client.log import LogClient
from corfu.runtime.driver import Driver

from .assignment import Assignment
from .client_options import client_settings
from .meter import Meter
from .usage import udp_drops

Counters = dict[str, int]


class Job(Protocol):
    """Work that a client process does between `open` and `close`."""

    async def open(self) -> None:
        """Connect, and prepare all that is not to be measured."""
        ...

    def meter(self) -> Meter:
        """Return the meter that fits the work."""
        ...

    async def work(self, meter: Meter, stop: asyncio.Event) -> None:
        """Work until `stop`, or until there is nothing left to do; ends what was begun."""
        ...

    def counters(self) -> Counters:
        """Return what the links and the kernel have counted so far."""
        ...

    async def close(self) -> None:
        """Disconnect."""
        ...


class LogJob:
    """The part of a job that opens the log as any program does."""

    def __init__(self, assignment: Assignment) -> None:
        self._assignment = assignment
        self._log: LogClient | None = None

    @property
    def log(self) -> LogClient:
        """The open log."""
        assert self._log is not None
        return self._log

    async def open(self) -> None:
        """See `Job`."""
        told = self._assignment
        self._log = await corfu.connect(
            told.cluster, timeout=told.timeout_s, settings=client_settings(told.settings)
        )

    def counters(self) -> Counters:
        """See `Job`."""
        endpoint = self.log.endpoint
        assert isinstance(endpoint, Driver)
        return driver_counters([endpoint])

    async def close(self) -> None:
        """See `Job`."""
        await self.log.close()


def driver_counters(drivers: list[Driver]) -> Counters:
    """Return the sums of what the links of these sockets counted, and of the kernel's drops."""
    total: Counters = {}
    for driver in drivers:
        counted = asdict(driver.link.counters)
        drops: dict[str, int] = counted.pop("drops")
        for name, value in (*counted.items(), ("unusable", sum(drops.values()))):
            total[name] = total.get(name, 0) + value
    lost = udp_drops([driver.address for driver in drivers])
    if lost is not None:
        total["kernel_drops"] = lost
    return total
