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

from .recorded_log import RecordedLog
from .recording import Recorder
from .workload_options import WorkloadOptions

__all__ = ["FollowerStalledError", "Workload", "WorkloadOptions"]

Step = Callable[[], Coroutine[object, object, None]]


class FollowerStalledError(Exception):
    """A follower did not come to a record that had been acknowledged long before."""


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
        recorded = self._recorded(self._name, log)
        working = [self._append_on(recorded) for _ in range(self._options.appenders)]
        working.append(self._read_on(recorded))
        if self._options.visits:
            working.append(self._visit_on())
        loop = asyncio.get_running_loop()
        tasks = [
            loop.create_task(step, name=f"{self._name}.{number}")
            for number, step in enumerate(working)
        ]
        follower = loop.create_task(self._follow_on(recorded), name=f"{self._name}.follow")
        await self._stopping.wait()
        await asyncio.gather(*tasks)
        if self._options.catch_up_s and self._known:
            await self._catch_up(recorded, max(self._known))
        follower.cancel()
        await asyncio.wait({follower})
        if not follower.cancelled():
            # It never ends by itself: what ended it is the finding.
            follower.result()
        await log.close()

    def end(self) -> None:
        """Let every operation that is under way end; then `run` returns."""
        self._stopping.set()

    async def _catch_up(self, recorded: RecordedLog, last: Position) -> None:
        """Wait until the follower has given `last`."""
        try:
            async with asyncio.timeout(self._options.catch_up_s):
                while recorded.followed <= (last.offset, last.index):  # noqa: ASYNC110 - once a run
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise FollowerStalledError(
                f"{self._name}: a follower had not come to {last} "
                f"{self._options.catch_up_s:g} s after the last append"
            ) from None

    async def _opened(self) -> Log | None:
        """Return an open log; None once it is too late to begin."""
        while not self._stopping.is_set():
            try:
                return await self._open_log()
            except UnavailableError:
                continue
        return None

    def _recorded(self, name: str, log: Log) -> RecordedLog:
        return RecordedLog(
            name,
            log,
            self._recorder,
            self._options,
            self._rng,
            self._known,
            ordered=self._ordered,
        )

    async def _append_on(self, recorded: RecordedLog) -> None:
        while not self._stopping.is_set():
            await asyncio.sleep(self._rng.expovariate(1 / self._options.append_gap_s))
            count = 1 if self._rng.random() < 0.8 else self._rng.randint(1, 6)
            await self._do(partial(recorded.append, count))

    async def _read_on(self, recorded: RecordedLog) -> None:
        choices: list[Step] = [recorded.read_record] * 3 + [recorded.tail] * 2
        choices += [recorded.read_entry, recorded.scan, recorded.fill, recorded.seek]
        if self._rng.random() < self._options.trim_clients:
            choices.append(recorded.trim)
        while not self._stopping.is_set():
            await asyncio.sleep(self._rng.expovariate(1 / self._options.read_gap_s))
            step = self._rng.choice(choices)
            # In a log that was there before, all may be very much, and another's.
            if not self._options.first and self._rng.random() < _SCAN_ALL_SHARE:
                step = recorded.scan_all
            await self._do(step)

    async def _do(self, step: Step) -> None:
        """Do one operation; now and then it is cancelled while it is under way."""
        if self._rng.random() >= self._options.cancel_share:
            await step()
            return
        task = asyncio.get_running_loop().create_task(step(), name=f"{self._name}.cancelled")
        await asyncio.wait({task}, timeout=self._rng.uniform(0, self._options.cancel_s_max))
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        if not task.cancelled() and (error := task.exception()) is not None:
            raise error

    async def _follow_on(self, recorded: RecordedLog) -> None:
        """Follow until cancelled; begin again behind the trim mark when it is overtaken."""
        first = Offset(self._options.first)
        # Whether it comes to the last append is asked of those that begin below it.
        latest = not self._options.catch_up_s and self._rng.random() < 0.2
        start = None if latest else first
        # One that is to catch up goes on until it is cancelled.
        while self._options.catch_up_s or not self._stopping.is_set():
            start = await recorded.follow(start)

    async def _visit_on(self) -> None:
        """Open another log, append, and close it while the appends are under way."""
        while not self._stopping.is_set():
            await asyncio.sleep(self._rng.expovariate(1 / _VISIT_GAP_S))
            try:
                log = await self._open_log()
            except UnavailableError:
                continue
            self._visits += 1
            recorded = self._recorded(f"{self._name}.v{self._visits}", log)
            loop = asyncio.get_running_loop()
            appends = [
                loop.create_task(recorded.append(self._rng.randint(1, 3)))
                for _ in range(self._rng.randint(1, 4))
            ]
            await asyncio.sleep(self._rng.choice((0.0, 0.001, 0.02)))
            # Appends that are not settled in time say so where they are awaited.
            await log.close(timeout=self._rng.choice((0.01, 0.5, 3.0)))
            await asyncio.gather(*appends)


_SCAN_ALL_SHARE = 0.01
_VISIT_GAP_S = 1.0
