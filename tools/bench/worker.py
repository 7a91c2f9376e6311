"""One client process of a benchmark.

    python -m corfu.tools.bench.worker ASSIGNMENT

Speaks in lines of JSON. It says {"ready": true} once it is connected and prepared; then it reads
when to work (`Span`), says {"at": s, "records": n} every `TICK_S` while it counts, and in the end
{"done": {...}}. A line `stop`, or the end of its input, ends the work early. What keeps it from
working it says as {"failed": text, "status": n}.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Collection
from typing import assert_never

from corfu.errors import CorfuError
from corfu.runtime.serving import new_loop
from corfu.tools.failure import CommandError, status_of, text_of

from .assignment import Assignment, Kind, Span
from .figures import figures_json
from .job import Counters, Job
from .meter import TICK_S, Meter

TICK_NS = int(TICK_S * 1e9)
FOLD_NS = 25_000_000
"""How often samples are put into the histogram: all of a tick at once would hold up the client."""


def job_of(assignment: Assignment) -> Job:
    """Return the job of an assignment; the modules of the others are not imported."""
    match assignment.kind:
        case Kind.APPEND:
            from .producing import Producing

            return Producing(assignment)
        case Kind.SCAN:
            from .reading import Scanning

            return Scanning(assignment)
        case Kind.READ:
            from .reading import PointReading

            return PointReading(assignment)
        case Kind.FOLLOW:
            from .following import Following

            return Following(assignment)
        case Kind.TOKENS:
            from .token_clients import TokenClients

            return TokenClients(assignment)
        case Kind.DISK:
            from .disk_writing import DiskWriting

            return DiskWriting(assignment)
        case Kind.UNIT:
            from .unit_writing import UnitWriting

            return UnitWriting(assignment)
        case _:
            assert_never(assignment.kind)


class Orders:
    """What the parent says, on our input."""

    def __init__(self) -> None:
        self._reader = asyncio.StreamReader()
        self.stop = asyncio.Event()

    async def open(self) -> None:
        """Begin to listen."""
        loop = asyncio.get_running_loop()
        await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(self._reader), sys.stdin.buffer
        )

    async def span(self) -> Span | None:
        """Return when to work; None if there is no work any more."""
        line = (await self._reader.readline()).decode().strip()
        return None if line in ("", "stop") else Span.decode(line)

    async def watch(self) -> None:
        """Set `stop` when the parent says so or is gone."""
        await self._reader.readline()
        self.stop.set()


async def serve(job: Job, kind: Kind) -> None:
    """Do one job from its preparation to its report."""
    orders = Orders()
    await orders.open()
    await job.open()
    try:
        say(ready=True)
        span = await orders.span()
        if span is None:
            return
        watching = asyncio.create_task(orders.watch())
        say(done=await measure(job, kind, span, orders.stop))
        watching.cancel()
    finally:
        await job.close()


async def measure(job: Job, kind: Kind, span: Span, stop: asyncio.Event) -> dict[str, object]:
    """Work for one span; return what there is to report of it."""
    meter = job.meter()
    await _until(span.start_ns)
    work = asyncio.create_task(job.work(meter, stop))
    before, after, cpu_s = await _count(meter, job, span, work, stop)
    stop.set()
    try:
        await work
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from failures
    figures = meter.figures(kind.value)
    counters = {name: after[name] - before.get(name, 0) for name in after}
    return {
        "figures": figures_json(figures),
        "histogram": figures.latency.as_json(),
        "counters": counters,
        "cpu_s": cpu_s,
    }


async def _count(
    meter: Meter, job: Job, span: Span, work: asyncio.Task[None], stop: asyncio.Event
) -> tuple[Counters, Counters, float]:
    """Count from the end of the warm-up to the end.

    Returns the counters at both moments, and the processor time between them.
    """
    stopping = asyncio.create_task(stop.wait())
    enders = (stopping, work)
    await _until(span.begin_ns, enders)
    begun = time.monotonic_ns()
    meter.begin(begun)
    before, used_s = job.counters(), time.process_time()
    end_ns = begun + int(span.seconds * 1e9)
    now = begun
    next_tick_ns = begun + TICK_NS
    while now < end_ns and not (stop.is_set() or work.done()):
        await _until(min(now + FOLD_NS, next_tick_ns, end_ns), enders)
        now = time.monotonic_ns()
        meter.fold()
        if now >= next_tick_ns and now < end_ns:
            meter.tick(now)
            say(at=round((now - begun) / 1e9, 3), records=meter.records)
            next_tick_ns += TICK_NS
    meter.end(time.monotonic_ns())
    stopping.cancel()
    return before, job.counters(), time.process_time() - used_s


async def _until(at_ns: int, enders: Collection[asyncio.Task[object]] = ()) -> None:
    """Wait for a moment, or for the first of `enders`."""
    while (left := (at_ns - time.monotonic_ns()) / 1e9) > 0:
        if not enders:
            await asyncio.sleep(left)
        elif (await asyncio.wait(enders, timeout=left, return_when="FIRST_COMPLETED"))[0]:
            return


def say(**what: object) -> None:
    """Tell the parent."""
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def main() -> None:
    """Run one client process."""
    assignment = Assignment.decode(sys.argv[1])
    try:
        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(serve(job_of(assignment), assignment.kind))
    except CommandError as error:
        say(failed=str(error), status=error.status)
        sys.exit(1)
    except (CorfuError, OSError) as error:
        say(failed=text_of(error), status=status_of(error))
        sys.exit(1)


if __name__ == "__main__":
    main()
