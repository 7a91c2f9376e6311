"""The producer: keeps calls of `append` under way, as an ordinary program would."""

from __future__ import annotations

import asyncio
import itertools
import os
import time
from collections import deque
from collections.abc import Iterator

from corfu.client.packing import Submitted
from corfu.errors import AppendError

from .assignment import TAG_BYTES, Assignment
from .job import LogJob
from .meter import Meter

POOL_BYTES = 16 << 20
POOL_RECORDS = (64, 65_536)
"""Different records, at least and at most: an entry never holds one twice, so that it is as hard
to compress as random bytes are."""

PAUSE_S = 0.05
"""After a failed append: what fails at once would fail thousands of times a second."""


class Producing(LogJob):
    """Appends records until it is told to stop.

    So many calls as are to be under way have a task each, which lives as long as the work: a task
    for each record would cost more than the append.
    """

    def __init__(self, assignment: Assignment) -> None:
        super().__init__(assignment)
        self._records: Iterator[bytes] = iter(())
        self._left = assignment.limit or None
        self._next_at = 0.0

    async def open(self) -> None:
        """See `Job`. Making records takes time, so all are made here."""
        await super().open()
        self._records = itertools.cycle(_pool(self._assignment))

    def meter(self) -> Meter:
        """See `Job`."""
        return Meter(self._assignment.batch, self._assignment.size)

    async def work(self, meter: Meter, stop: asyncio.Event) -> None:
        """See `Job`."""
        told = self._assignment
        self._next_at = time.monotonic()
        if told.submit:
            await self._submit(meter, stop)
            return
        if told.tag or told.rate:
            step = self._append_paced
        elif told.batch > 1 or told.limit:
            step = self._append_batches
        else:
            step = self._append
        async with asyncio.TaskGroup() as group:
            for _ in range(told.inflight):
                group.create_task(step(meter, stop))

    async def _append(self, meter: Meter, stop: asyncio.Event) -> None:
        """One record a call: the hot path, hence the local names."""
        append, records, stopped = self.log.append, self._records, stop.is_set
        clock, note = time.monotonic_ns, meter.samples.append
        while not stopped():
            record = next(records)
            begun = clock()
            try:
                await append(record)
            except AppendError as error:
                await _failed(meter, error)
            else:
                note(clock() - begun)

    async def _submit(self, meter: Meter, stop: asyncio.Event) -> None:
        """One record a call, and the verdicts in order, as a program does that keeps a window."""
        submit, records, stopped = self.log.submit, self._records, stop.is_set
        clock, note = time.monotonic_ns, meter.samples.append
        window: deque[tuple[int, Submitted]] = deque()
        inflight = self._assignment.inflight
        while window or not stopped():
            while len(window) < inflight and not stopped():
                window.append((clock(), submit(next(records))))
            begun, submitted = window.popleft()
            try:
                await submitted
            except AppendError as error:
                await _failed(meter, error)
            else:
                note(clock() - begun)

    async def _append_batches(self, meter: Meter, stop: asyncio.Event) -> None:
        told = self._assignment
        while not stop.is_set() and self._left != 0:
            count = told.batch if self._left is None else min(told.batch, self._left)
            if self._left is not None:
                self._left -= count
            batch = list(itertools.islice(self._records, count))
            begun = time.monotonic_ns()
            try:
                await self.log.append_many(batch)
            except AppendError as error:
                await _failed(meter, error)
            else:
                meter.samples.append(time.monotonic_ns() - begun)

    async def _append_paced(self, meter: Meter, stop: asyncio.Event) -> None:
        """No faster than a rate; the records tell when their call began."""
        told = self._assignment
        tag, batch = bytes.fromhex(told.tag), told.batch
        while not stop.is_set():
            begun = await self._turn()
            stamp = tag + begun.to_bytes(8, "little") if tag else b""
            records = [stamp + next(self._records) for _ in range(batch)]
            try:
                await (self.log.append(records[0]) if batch == 1 else self.log.append_many(records))
            except AppendError as error:
                await _failed(meter, error)
            else:
                meter.samples.append(time.monotonic_ns() - begun)

    async def _turn(self) -> int:
        """Wait for the time of the next call; return the time from which it counts."""
        if not self._assignment.rate:
            return time.monotonic_ns()
        at = self._next_at
        self._next_at += 1 / self._assignment.rate
        wait = at - time.monotonic()
        if wait > 0:
            await asyncio.sleep(wait)
            # What the timer was late is nobody's delay.
            return time.monotonic_ns()
        # Behind the plan, since the calls before took too long: the wait belongs to this one.
        return int(at * 1e9)


def _pool(told: Assignment) -> list[bytes]:
    """Return random records; what a stamp will take is left out."""
    size = told.size - (TAG_BYTES + 8 if told.tag else 0)
    least, most = POOL_RECORDS
    count = min(max(POOL_BYTES // max(size, 1), least), most)
    return [os.urandom(size) for _ in range(count)]


async def _failed(meter: Meter, error: AppendError) -> None:
    meter.error(error)
    await asyncio.sleep(PAUSE_S)
