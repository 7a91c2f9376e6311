"""Readers: scans from the first entry to the tail, and reads of single entries anywhere."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from contextlib import aclosing

import corfu
from corfu.errors import CorfuError, JunkError
from corfu.tools.failure import CommandError, Status
from corfu.types import Offset

from .assignment import Assignment
from .job import LogJob
from .meter import Meter

PAUSE_S = 0.05
"""After a failed read: what fails at once would fail thousands of times a second."""

LOOK_S = 0.5
FAIR_EVERY = 16


class _Reading(LogJob):
    """Knows what there is to read."""

    def __init__(self, assignment: Assignment) -> None:
        super().__init__(assignment)
        self._trim_mark = self._tail = Offset(0)

    async def open(self) -> None:
        """See `Job`.

        Raises:
            CommandError: The log is empty.
        """
        await super().open()
        self._tail = await self.log.tail()
        self._trim_mark = await self._first()
        if self._trim_mark >= self._tail:
            raise CommandError("there is nothing to read in this log", Status.NO)

    async def _first(self) -> Offset:
        async with aclosing(self.log.scan_batches(corfu.EARLIEST)) as batches:
            async for batch in batches:
                return batch[0].position.offset
        return self._tail


class Scanning(_Reading):
    """Reads the log from its beginning to its tail, again and again.

    What is timed is the wait for the next batch: what a program sees that does nothing else.
    """

    def meter(self) -> Meter:
        """See `Job`."""
        return Meter()

    async def work(self, meter: Meter, stop: asyncio.Event) -> None:
        """See `Job`."""
        while not stop.is_set():
            try:
                await self._scan(meter, stop)
            except CorfuError as error:
                meter.error(error)
                await asyncio.sleep(PAUSE_S)
            if self._assignment.once:
                return

    async def _scan(self, meter: Meter, stop: asyncio.Event) -> None:
        async with aclosing(self.log.scan_batches(corfu.EARLIEST)) as batches:
            begun = time.monotonic_ns()
            async for batch in batches:
                meter.samples.append(time.monotonic_ns() - begun)
                if stop.is_set():
                    return
                meter.add(len(batch), sum([len(record.data) for record in batch]))
                # What was read ahead comes without ever waiting; others must have their turn.
                await asyncio.sleep(0)
                begun = time.monotonic_ns()


class PointReading(_Reading):
    """Reads entries at random offsets, one at a time or several at once."""

    def meter(self) -> Meter:
        """See `Job`."""
        return Meter()

    async def work(self, meter: Meter, stop: asyncio.Event) -> None:
        """See `Job`."""
        looking = asyncio.create_task(self._look())
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(self._assignment.inflight):
                    group.create_task(self._read(meter, stop))
        finally:
            looking.cancel()

    async def _look(self) -> None:
        """Know of new entries, if others append meanwhile."""
        while True:
            await asyncio.sleep(LOOK_S)
            try:
                self._tail = max(self._tail, await self.log.tail(linearizable=False))
            except CorfuError:
                # Whatever it is, the reads meet it too, and count it.
                continue

    async def _read(self, meter: Meter, stop: asyncio.Event) -> None:
        rng = random.Random()  # noqa: S311 - which offset, nothing more
        for turn in itertools.count():
            if stop.is_set():
                return
            if turn % FAIR_EVERY == 0:
                # What the client has in its cache it returns without ever waiting.
                await asyncio.sleep(0)
            offset = rng.randrange(self._trim_mark, self._tail)
            begun = time.monotonic_ns()
            try:
                records = await self.log.read(offset)
            except JunkError:
                # A hole that was filled: found, but not worth counting.
                continue
            except CorfuError as error:
                meter.error(error)
                await asyncio.sleep(PAUSE_S)
            else:
                meter.samples.append(time.monotonic_ns() - begun)
                if not stop.is_set():
                    meter.add(len(records), sum([len(record.data) for record in records]))
