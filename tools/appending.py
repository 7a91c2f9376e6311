"""Appending the lines of a file or a pipe: as they come, in order, many at once."""

from __future__ import annotations

import asyncio
import itertools
import os
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO

import click
from rich.console import Console

import corfu
from corfu.compression import Compression
from corfu.entry import RECORD_BYTES_MAX
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

    def count(self, lines: Lines, positions: Sequence[Position]) -> None:
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


async def append_lines(
    cluster: str, source: BinaryIO, timeout_s: float, compression: Compression
) -> Totals:
    """Append each line of `source`, without its line end, in order.

    Raises:
        UsageError: what `compression` needs is missing.
        CommandError: an append failed; its text says how many lines are certainly in the log.
    """
    totals = Totals()
    begun = time.monotonic()
    # ordered: the log order of the lines is theirs also if a leader fails meanwhile.
    async with corfu.connect(
        cluster, ordered=True, timeout=timeout_s, compression=compression
    ) as log:
        with _progress(totals, begun):
            try:
                await append_batches(log, _batches(source), totals)
            except (CorfuError, OSError) as error:
                raise CommandError(f"{error}; {_so_far(totals)}", status_of(error)) from error
            except CommandError as error:
                raise CommandError(f"{error}; {_so_far(totals)}", error.status) from error
            except asyncio.CancelledError:
                click.echo(f"interrupted; {_so_far(totals)}", err=True)
                raise
    totals.seconds = time.monotonic() - begun
    return totals


def _so_far(totals: Totals) -> str:
    last = "" if totals.last is None else f", the last at {totals.last}"
    return f"{totals.records:,} records are certainly in the log{last}"


async def append_batches(log: corfu.Log, batches: AsyncIterator[Lines], totals: Totals) -> None:
    """Append each batch by one call, several under way; `totals` counts what is in the log.

    What `batches` raises is raised after the calls before it have ended.

    Raises:
        CorfuError: what the first call that failed raised; those behind it were given up.
    """
    room = asyncio.Semaphore(CALLS_MAX)
    refused: CommandError | OSError | None = None

    async def append(lines: Lines) -> None:
        try:
            totals.count(lines, await log.append_many(lines))
        except AppendError as error:
            totals.count(lines, error.appended)
            raise
        finally:
            room.release()

    try:
        async with asyncio.TaskGroup() as calls:
            try:
                async for lines in batches:
                    await room.acquire()
                    # Tasks begin in the order they are made: calls reach the log in line order.
                    calls.create_task(append(lines))
            except (CommandError, OSError) as error:
                refused = error
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from failures
    if refused is not None:
        raise refused


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
        # Not by the file object: it holds its lock in a read, and Python aborts when it exits
        # while this thread waits there.
        descriptor = source.fileno()
        for lines in split(iter(lambda: os.read(descriptor, CHUNK_BYTES), b"")):
            hand_over(lines)
    except (OSError, CommandError) as error:
        hand_over(error)
    else:
        hand_over(None)


def split(chunks: Iterator[bytes]) -> Iterator[Lines]:
    """Cut bytes into groups of whole lines; a last line without a line end counts.

    A group is at most BATCH_BYTES long, or one line.

    Raises:
        CommandError: a line is longer than any record can be; those before it were yielded.
    """
    rest = b""
    handed_over = 0
    for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        if max(map(len, (*lines, rest))) > RECORD_BYTES_MAX:
            fitting = list(itertools.takewhile(lambda line: len(line) <= RECORD_BYTES_MAX, lines))
            yield from groups(fitting)
            raise CommandError(
                f"line {handed_over + len(fitting) + 1:,} has more than {RECORD_BYTES_MAX:,} "
                "bytes, the most that a record can have",
                Status.USAGE,
            )
        yield from groups(lines)
        handed_over += len(lines)
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
