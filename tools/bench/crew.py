"""The client processes of a benchmark, seen from the parent."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import IO

from corfu.tools.failure import CommandError, Status
from corfu.tools.processes import dying_with_us, ending, last_line

from .assignment import Assignment, Span
from .figures import Figures
from .histogram import Histogram
from .usage import Use, Watched, uses

READY_S_MAX = 60.0
"""Longest wait for a client to connect and to make its records."""

END_S_MAX = 45.0
"""Longest wait for what is under way at the end: longer than any call takes."""

HEAD_START_S = 0.1
"""From the order to begin to the beginning: all processes begin in the same moment."""

LINE_BYTES_MAX = 4 << 20
"""A report has a histogram of some thousand buckets."""


@dataclass(frozen=True, slots=True)
class Report:
    """What one client process told in the end."""

    role: str
    assignment: Assignment
    figures: Figures
    counters: dict[str, int]
    cpu_s: float


@dataclass(frozen=True, slots=True)
class Measured:
    """What all client processes told, and what the servers had used before and after."""

    reports: tuple[Report, ...]
    before: dict[Watched, Use]
    after: dict[Watched, Use]


class Worker:
    """One client process."""

    def __init__(
        self,
        name: str,
        role: str,
        assignment: Assignment,
        process: asyncio.subprocess.Process,
        errors: IO[bytes],
    ) -> None:
        self.name = name
        self.role = role
        self.assignment = assignment
        self.process = process
        self.records = 0
        """How many it has counted so far."""

        self.report: Report | None = None
        self.ready = asyncio.Event()
        self._errors = errors
        self.listening = asyncio.create_task(self._listen())

    def tell(self, line: str) -> None:
        """Send a line; one that has ended does not hear it."""
        assert self.process.stdin is not None
        with contextlib.suppress(ConnectionError):
            self.process.stdin.write(line.encode() + b"\n")

    async def end(self) -> None:
        """End the process if it still runs."""
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()
        self.listening.cancel()
        await asyncio.gather(self.listening, return_exceptions=True)
        self._errors.close()

    async def _listen(self) -> None:
        """Take what it says until it has ended.

        Raises:
            CommandError: It failed, or ended without a report.
        """
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            self._take(json.loads(line))
        status = await self.process.wait()
        if status != 0 or (self.report is None and self.ready.is_set()):
            self._errors.seek(0)
            said = last_line(self._errors.read().decode(errors="replace"))
            raise CommandError(f"client {self.name} {ending(status)}: {said}", Status.NO)

    def _take(self, said: dict[str, object]) -> None:
        match said:
            case {"ready": True}:
                self.ready.set()
            case {"at": float() | int(), "records": int(records)}:
                self.records = records
            case {"done": dict(done)}:
                self.report = Report(
                    self.role, self.assignment, _figures(done), done["counters"], done["cpu_s"]
                )
            case {"failed": str(text), "status": int(status)}:
                raise CommandError(f"client {self.name}: {text}", Status(status))
            case _:
                raise AssertionError(f"client {self.name} said {said}")


class Crew:
    """All client processes; use it with `async with`, which leaves none behind."""

    def __init__(self, assignments: Sequence[tuple[str, Assignment]]) -> None:
        """Make a crew; nothing is started.

        Args:
            assignments: The role of each process, and what it does.
        """
        self._assignments = assignments
        self._workers: list[Worker] = []

    async def __aenter__(self) -> Crew:
        try:
            for number, (role, assignment) in enumerate(self._assignments, 1):
                self._workers.append(await _start(str(number), role, assignment))
            await self._all_ready()
        except BaseException:
            await self._end()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._end()

    @property
    def records(self) -> int:
        """How many records were counted so far, by all together."""
        return sum(worker.records for worker in self._workers)

    async def measure(
        self,
        warmup_s: float,
        seconds: float,
        servers: Sequence[Watched],
        stop: asyncio.Event,
        progress: Callable[[float, int], None],
    ) -> Measured:
        """Let all work for one span.

        Args:
            warmup_s: Work that is not counted, before.
            seconds: The span; a client whose work is done ends sooner.
            servers: Of whom to tell what they used.
            stop: Ends the span early; what was measured so far is returned.
            progress: Told the seconds since counting began, and the records so far.

        Raises:
            CommandError: A client failed.
        """
        span = Span(time.monotonic_ns() + int(HEAD_START_S * 1e9), warmup_s, seconds)
        for worker in self._workers:
            worker.tell(span.encode())
        begin_s = span.begin_ns / 1e9
        await self._pass(begin_s, stop, lambda: progress(0.0, 0))
        before, begun = uses(servers), time.monotonic()
        await self._pass(
            begin_s + seconds, stop, lambda: progress(time.monotonic() - begun, self.records)
        )
        after = uses(servers)
        for worker in self._workers:
            worker.tell("stop")
        await self._all_ended()
        reports = tuple(worker.report for worker in self._workers if worker.report is not None)
        assert len(reports) == len(self._workers)
        return Measured(reports, before, after)

    async def _pass(self, until: float, stop: asyncio.Event, look: Callable[[], None]) -> None:
        """Wait for a moment, `stop`, or the end of all work."""
        stopping = asyncio.create_task(stop.wait())
        listening = {worker.listening for worker in self._workers}
        try:
            while (left := until - time.monotonic()) > 0 and not stop.is_set() and listening:
                look()
                waiting = {stopping, *listening}
                done, _ = await asyncio.wait(
                    waiting, timeout=min(left, 0.2), return_when="FIRST_COMPLETED"
                )
                for each in done & listening:
                    each.result()
                listening -= done
        finally:
            stopping.cancel()

    async def _all_ready(self) -> None:
        ready = [asyncio.create_task(worker.ready.wait()) for worker in self._workers]
        listening = {worker.listening for worker in self._workers}
        try:
            async with asyncio.timeout(READY_S_MAX):
                while not all(each.done() for each in ready):
                    waiting = {*(each for each in ready if not each.done()), *listening}
                    done, _ = await asyncio.wait(waiting, return_when="FIRST_COMPLETED")
                    for each in done & listening:
                        each.result()
        except TimeoutError:
            raise CommandError(
                f"a client was not ready within {READY_S_MAX:.0f} s", Status.UNAVAILABLE
            ) from None
        finally:
            for each in ready:
                each.cancel()

    async def _all_ended(self) -> None:
        try:
            async with asyncio.timeout(END_S_MAX):
                await asyncio.gather(*(worker.listening for worker in self._workers))
        except TimeoutError:
            raise CommandError(
                f"a client had not ended {END_S_MAX:.0f} s after the end of its work",
                Status.UNKNOWN,
            ) from None

    async def _end(self) -> None:
        for worker in self._workers:
            await worker.end()


async def _start(name: str, role: str, assignment: Assignment) -> Worker:
    errors = tempfile.TemporaryFile()  # noqa: SIM115 - the worker closes it
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "corfu.tools.bench.worker", assignment.encode()),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=errors,
        limit=LINE_BYTES_MAX,
        # Ctrl-C at the terminal reaches us alone.
        start_new_session=True,
        preexec_fn=dying_with_us(),
    )
    return Worker(name, role, assignment, process, errors)


def _figures(done: dict[str, object]) -> Figures:
    """Return the figures of a report."""
    told, histogram = done["figures"], done["histogram"]
    assert isinstance(told, dict)
    assert isinstance(histogram, dict)
    figures = Figures(
        what=told["what"],
        records=told["records"],
        bytes=told["bytes"],
        seconds=told["seconds"],
        errors=told["errors"],
        rates=tuple((at, rate) for at, rate in told["rates"]),
    )
    return replace(figures, latency=Histogram.from_json(histogram))
