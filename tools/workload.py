"""What clients do to a log under test: every operation they have, recorded as a history.

The simulator runs it in virtual time, the nemesis against real processes.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial

from corfu.errors import UnavailableError
from corfu.log import Log
from corfu.types import Offset, Position

from .operations import Operations, WorkloadOptions
from .recorder import Recorder

__all__ = ["Workload", "WorkloadOptions"]

Step = Callable[[], Coroutine[object, object, None]]


class Workload:
    """One client's tasks: appenders, a reader, a follower, and a visitor of other logs."""

    def __init__(
        self,
        name: str,
        open_log: Callable[[], Awaitable[Log]],
        recorder: Recorder,
        options: WorkloadOptions,
        seed: int,
        *,
        ordered: bool,
    ) -> None:
        self._name = name
        self._open_log = open_log
        self._recorder = recorder
        self._options = options
        self._rng = random.Random(f"workload-{seed}-{name}")  # noqa: S311
        self._ordered = ordered
        self._known: list[Position] = []
        self._visits = 0
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Open the log, then do every kind of operation until `end` is called."""
        log = await self._opened()
        if log is None:
            return
        operations = self._operations(self._name, log)
        working = [self._append_on(operations) for _ in range(self._options.appenders)]
        working.append(self._read_on(operations))
        if self._options.visits:
            working.append(self._visit_on())
        loop = asyncio.get_running_loop()
        tasks = [
            loop.create_task(step, name=f"{self._name}.{number}")
            for number, step in enumerate(working)
        ]
        follower = loop.create_task(self._follow_on(operations), name=f"{self._name}.follow")
        await self._stopping.wait()
        await asyncio.gather(*tasks)
        follower.cancel()
        await asyncio.gather(follower, return_exceptions=True)
        await log.close()

    def end(self) -> None:
        """Let every operation that is under way end; then `run` returns."""
        self._stopping.set()

    async def _opened(self) -> Log | None:
        """Return an open log; None once it is too late to begin."""
        while not self._stopping.is_set():
            try:
                return await self._open_log()
            except UnavailableError:
                continue
        return None

    def _operations(self, name: str, log: Log) -> Operations:
        return Operations(
            name,
            log,
            self._recorder,
            self._options,
            self._rng,
            self._known,
            ordered=self._ordered,
        )

    async def _append_on(self, operations: Operations) -> None:
        while not self._stopping.is_set():
            await asyncio.sleep(self._rng.expovariate(1 / self._options.append_gap_s))
            count = 1 if self._rng.random() < 0.8 else self._rng.randint(1, 6)
            await self._do(partial(operations.append, count))

    async def _read_on(self, operations: Operations) -> None:
        choices: list[Step] = [operations.read_record] * 3 + [operations.tail] * 2
        choices += [operations.read_entry, operations.scan, operations.fill]
        if self._rng.random() < self._options.trim_clients:
            choices.append(operations.trim)
        while not self._stopping.is_set():
            await asyncio.sleep(self._rng.expovariate(1 / self._options.read_gap_s))
            step = self._rng.choice(choices)
            if self._rng.random() < _SCAN_ALL_SHARE:
                step = operations.scan_all
            await self._do(step)

    async def _do(self, step: Step) -> None:
        """Do one operation; now and then it is cancelled while it is under way."""
        if self._rng.random() >= self._options.cancelled_share:
            await step()
            return
        task = asyncio.get_running_loop().create_task(step(), name=f"{self._name}.cancelled")
        await asyncio.wait({task}, timeout=self._rng.expovariate(1 / _CANCELLED_AFTER_S))
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        if not task.cancelled() and (error := task.exception()) is not None:
            raise error

    async def _follow_on(self, operations: Operations) -> None:
        """Follow until cancelled; begin again behind the trim mark when it is overtaken."""
        start: Offset | None = Offset(0) if self._rng.random() < 0.8 else None
        while not self._stopping.is_set():
            start = await operations.follow(start)

    async def _visit_on(self) -> None:
        """Open another log, append, and close it while the appends are under way."""
        while not self._stopping.is_set():
            await asyncio.sleep(self._rng.expovariate(1 / _VISIT_GAP_S))
            try:
                log = await self._open_log()
            except UnavailableError:
                continue
            self._visits += 1
            operations = self._operations(f"{self._name}.v{self._visits}", log)
            loop = asyncio.get_running_loop()
            appends = [
                loop.create_task(operations.append(self._rng.randint(1, 3)))
                for _ in range(self._rng.randint(1, 4))
            ]
            await asyncio.sleep(self._rng.choice((0.0, 0.001, 0.02)))
            # Appends that are not settled in time say so where they are awaited.
            await log.close(timeout=self._rng.choice((0.01, 0.5, 3.0)))
            await asyncio.gather(*appends)


_SCAN_ALL_SHARE = 0.01
_CANCELLED_AFTER_S = 0.01
_VISIT_GAP_S = 1.0
