"""Appending the lines of a file or a pipe: as they come, in order, many at once."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO

from rich.console import Console

import corfu
from corfu.config import ENTRY_BYTES_MAX
from corfu.errors import AppendError, CorfuError
from corfu.types import Position

from .failure import CommandError, Status, status_of

BATCH_BYTES = 48 << 10
"""Lines of one call: an entry that still leaves in one burst, with its record lengths."""

BATCH_LINES = 2048
CALLS_MAX = 8
"""Calls under way: enough that the client always finds the next entry waiting."""

CHUNK_BYTES = 256 << 10
PROGRESS_S = 0.1

Lines = list[bytes]


@dataclass(slots=True)
class Totals:
    """What is certainly in the log so far."""

    records: int = 0
    bytes: int = 0
    first: Position | None = None
    last: Position | None = None
    seconds: float = 0.0

    def count(self, lines: Lines, positions: tuple[Position, ...]) -> None:
        """Add the first `len(positions)` of `lines`, which stand at `positions`."""
        if not positions:
            return
        self.records += len(positions)
        self.bytes += sum(len(line) for line in lines[: len(positions)])
        self.first = self.first or positions[0]
        self.last = positions[-1]

    def as_json(self) -> dict[str, object]:
        """Return what `-o json` prints."""
        return {
            "records": self.records,
            "bytes": self.bytes,
            "first": None if self.first is None else str(self.first),
            "last": None if self.last is None else str(self.last),
            "seconds": round(self.seconds, 6),
        }


async def append_lines(cluster: str, source: BinaryIO, timeout_s: float) -> Totals:
    """Append each line of `source`, without its line end, in order.

    Raises:
        CommandError: an append failed; its text says how many lines are certainly in the log.
    """
    totals = Totals()
    begun = time.monotonic()
    # ordered: the log order of the lines is theirs also if a leader fails meanwhile.
    async with corfu.connect(cluster, ordered=True) as log:
        await log.tail(timeout=timeout_s)  # nothing is read from a pipe if no cluster answers
        with _progress(totals, begun):
            try:
                await append_batches(log, _batches(source), timeout_s, totals)
            except CorfuError as error:
                text = f"{error}; {totals.records:,} records were appended before it"
                if totals.last is not None:
                    text += f", the last at {totals.last}"
                raise CommandError(text, status_of(error)) from error
            except asyncio.CancelledError:
                Console(stderr=True).print(
                    f"interrupted: {totals.records:,} records are certainly in the log",
                    highlight=False,
                )
                raise
    totals.seconds = time.monotonic() - begun
    return totals


async def append_batches(
    log: corfu.Log, batches: AsyncIterator[Lines], timeout_s: float, totals: Totals
) -> None:
    """Append each batch by one call, several under way; `totals` counts what is in the log.

    Raises:
        CorfuError: what the first call that failed raised; the ones behind it were given up.
    """
    flight: deque[tuple[Lines, asyncio.Task[tuple[Position, ...]]]] = deque()
    try:
        async for lines in batches:
            # Tasks begin in the order they are made, so calls reach the log in file order.
            task = asyncio.create_task(_append(log, lines, timeout_s))
            flight.append((lines, task))
            while flight and (len(flight) >= CALLS_MAX or flight[0][1].done()):
                await _settle(flight, totals)
        while flight:
            await _settle(flight, totals)
    finally:
        # After a failure the client refuses what is queued behind it; after Ctrl-C we give up.
        for _, task in flight:
            task.cancel()
        await asyncio.gather(*(task for _, task in flight), return_exceptions=True)


async def _append(log: corfu.Log, lines: Lines, timeout_s: float) -> tuple[Position, ...]:
    return tuple(await log.append_many(lines, timeout=timeout_s))


async def _settle(
    flight: deque[tuple[Lines, asyncio.Task[tuple[Position, ...]]]], totals: Totals
) -> None:
    lines, task = flight[0]
    try:
        positions = await task
    except AppendError as error:
        totals.count(lines, error.appended)
        raise
    flight.popleft()
    totals.count(lines, positions)


async def _batches(source: BinaryIO) -> AsyncIterator[Lines]:
    """Yield the lines of `source` in groups, as soon as they can be read."""
    loop = asyncio.get_running_loop()
    queue: asyncio.Queue[Lines | Exception | None] = asyncio.Queue()
    room = threading.Semaphore(CALLS_MAX)

    def hand_over(item: Lines | Exception | None) -> None:
        room.acquire()
        loop.call_soon_threadsafe(queue.put_nowait, item)

    # A daemon: a read of a terminal or pipe cannot be ended, and must not keep us from exiting.
    threading.Thread(target=_read_source, args=(source, hand_over), daemon=True).start()
    while (item := await queue.get()) is not None:
        room.release()
        if isinstance(item, Exception):
            raise item
        yield item


def _read_source(source: BinaryIO, hand_over: Callable[[Lines | Exception | None], None]) -> None:
    try:
        for lines in split(iter(lambda: source.read1(CHUNK_BYTES), b"")):  # type: ignore[attr-defined]
            hand_over(lines)
    except (OSError, CommandError) as error:
        hand_over(error)
    else:
        hand_over(None)


def split(chunks: Iterator[bytes]) -> Iterator[Lines]:
    """Cut bytes into groups of whole lines; a last line without a line end counts.

    A group is at most BATCH_BYTES long, or one line.

    Raises:
        CommandError: a line is longer than any record can be.
    """
    rest = b""
    for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        yield from groups(lines)
        if len(rest) > ENTRY_BYTES_MAX:
            raise CommandError("a line is longer than a record can be", Status.USAGE)
    if rest:
        yield [rest]


def groups(lines: Iterable[bytes]) -> Iterator[Lines]:
    """Collect lines into groups of at most BATCH_BYTES, or one line."""
    group: Lines = []
    size = 0
    for line in lines:
        if group and (size + len(line) > BATCH_BYTES or len(group) == BATCH_LINES):
            yield group
            group, size = [], 0
        group.append(line)
        size += len(line) + 4
    if group:
        yield group


@contextmanager
def _progress(totals: Totals, begun: float) -> Iterator[None]:
    """Show on stderr how far we are, if a person is looking."""
    if not sys.stderr.isatty():
        yield
        return
    console = Console(stderr=True)
    with console.status("appending") as shown:

        async def update() -> None:
            while True:
                rate = totals.records / max(time.monotonic() - begun, 0.001)
                size = totals.bytes / 1e6
                shown.update(f"{totals.records:,} records, {size:,.1f} MB, {rate:,.0f} records/s")
                await asyncio.sleep(PROGRESS_S)

        task = asyncio.create_task(update())
        try:
            yield
        finally:
            task.cancel()
