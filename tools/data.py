"""The commands on records: append, read, tail, fill."""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import BinaryIO, NoReturn

import click

import corfu
from corfu.errors import UnwrittenError
from corfu.log import OnLost
from corfu.types import OFFSET_MAX, Offset, Position

from .appending import Totals, append_lines
from .compressing import compression_of_options, compression_options, dictionary_option
from .connection import cluster_option, output_option, run, timeout_option
from .failure import CommandError, Status
from .times import TimeType

FLUSH_S = 0.05
"""In `--follow`, a record is on its way to the reader of our output within this time."""

Place = Offset | Position


class PlaceType(click.ParamType[Place]):
    """An offset, or a position `offset.index`."""

    name = "place"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> Place:
        """Parse what the user typed; anything but decimal digits is refused."""
        found = re.fullmatch(r"([0-9]{1,19})(?:\.([0-9]{1,9}))?", str(value))
        if found is None or int(found[1]) >= OFFSET_MAX:
            self.fail(f"{value!r} is no offset (such as 17) or position (such as 17.3)", param, ctx)
        offset = Offset(int(found[1]))
        return offset if found[2] is None else Position(offset, int(found[2]))


class OffsetType(click.ParamType[Offset]):
    """An offset."""

    name = "offset"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> Offset:
        """Parse what the user typed; anything but decimal digits is refused."""
        if re.fullmatch(r"[0-9]{1,19}", str(value)) is None or int(str(value)) >= OFFSET_MAX:
            self.fail(f"{value!r} is no offset (0, 1, 2 ...)", param, ctx)
        return Offset(int(str(value)))


OFFSET = OffsetType()


class OffsetCommand(click.Command):
    """A command on an offset: a negative one is a wrong offset, not an unknown option."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Refuse what looks like a negative number and is not the value of an option."""
        for before, argument in zip(["", *args], args, strict=False):
            if re.fullmatch(r"-[0-9]+", argument) and not before.startswith("-"):
                OFFSET.convert(argument, None, ctx)
        return super().parse_args(ctx, args)


class InputFile(click.File):
    """A file to read; that it cannot be opened is no mistake in the command line."""

    def fail(
        self,
        message: str,
        param: click.Parameter | None = None,
        ctx: click.Context | None = None,
    ) -> NoReturn:
        """Report what `open` said."""
        raise CommandError(f"cannot read {message}", Status.LOCAL)


@click.command(
    epilog="""\
\b
Examples:
  corfu append access.log
  tail -f access.log | corfu append
  echo hello | corfu append -o json
  corfu append --compression zstd access.log

Lines become records without their line end, in their order, each exactly once. If the command
fails, it says on stderr how many are certainly in the log.
"""
)
@click.argument("file", type=InputFile("rb"), default="-")
@compression_options
@dictionary_option
@cluster_option
@timeout_option
@output_option
def append(
    file: BinaryIO,
    compression: str,
    level: int | None,
    dictionaries: tuple[bytes, ...],
    cluster: str,
    timeout: float,
    output: str,
) -> None:
    """Append each line of FILE (or of the standard input) as a record."""
    chosen = compression_of_options(compression, level, dictionaries)
    totals = run(append_lines(cluster, file, timeout, chosen))
    click.echo(json.dumps(totals.as_json()) if output == "json" else _sentence(totals))


def _sentence(totals: Totals) -> str:
    if totals.first is None:
        return "appended nothing"
    return (
        f"appended {totals.records:,} records ({totals.bytes:,} bytes) "
        f"at {totals.first} to {totals.last} in {totals.seconds:.3f} s"
    )


@click.command(
    epilog="""\
\b
Examples:
  corfu read                         all that is there now
  corfu read --from 100 --to 200     entries 100 to 199
  corfu read --from 17.3 -n 1        one record
  corfu read --from-time -5m         what was appended in the last five minutes
  corfu read --follow                all, then what comes, until Ctrl-C

Places are offsets (17) or positions (17.3); --to is exclusive. Times are in ISO 8601, in this
machine's zone if they name none, or -30s, -5m, -2h, -1d: so long ago. They are compared with
what the appending clients' clocks said: exact if those agree. Records are printed as lines.
"""
)
@click.option("--from", "start", type=PlaceType(), metavar="P", help="[default: the earliest]")
@click.option(
    "--from-time", "since", type=TimeType(), metavar="T", help="From the first entry not older."
)
@click.option("--to", "end", type=PlaceType(), metavar="P", help="[default: the tail]")
@click.option("-n", "count", type=click.IntRange(0), metavar="N", help="At most N records.")
@click.option("--follow", is_flag=True, help="Go on with new records as they come.")
@click.option("--skip-lost", is_flag=True, help="Step over lost offsets instead of failing.")
@dictionary_option
@click.option("-v", "--verbose", is_flag=True, help="Say on stderr what it took.")
@cluster_option
@timeout_option
def read(
    start: Place | None,
    since: float | None,
    end: Place | None,
    count: int | None,
    follow: bool,
    skip_lost: bool,
    dictionaries: tuple[bytes, ...],
    verbose: bool,
    cluster: str,
    timeout: float,
) -> None:
    """Print records in log order, one a line."""
    if follow and end is not None:
        raise click.UsageError("--follow has no end: leave out --to")
    if start is not None and since is not None:
        raise click.UsageError("--from and --from-time exclude each other")
    on_lost: OnLost = "skip" if skip_lost else "raise"
    wish = _Wish(start, since, end, count, follow, on_lost, verbose, dictionaries)
    run(_read(cluster, wish, timeout))


@dataclass(frozen=True, slots=True)
class _Wish:
    """What `corfu read` was asked for."""

    start: Place | None
    since: float | None
    end: Place | None
    count: int | None
    follow: bool
    on_lost: OnLost
    verbose: bool
    dictionaries: tuple[bytes, ...]


async def _read(cluster: str, wish: _Wish, timeout_s: float) -> None:
    async with corfu.connect(cluster, timeout=timeout_s, dictionary=wish.dictionaries) as log:
        began = time.monotonic()
        try:
            await _read_from(log, wish)
        finally:
            if wish.verbose:
                stats = log.stats
                looked = stats.cache_hits + stats.cache_misses
                click.echo(
                    f"{time.monotonic() - began:.3f} s; {stats.cache_hits:,} of {looked:,} "
                    f"offsets ({stats.cache_hit_ratio:.0%}) were in memory",
                    err=True,
                )


async def _read_from(log: corfu.Log, wish: _Wish) -> None:
    start, end = wish.start, wish.end
    place = corfu.EARLIEST if start is None else start
    if wish.since is not None:
        place = await log.seek(wish.since)
    if wish.follow:
        batches = log.follow_batches(place, on_lost=wish.on_lost)
        await _print_following(batches, wish.count, sys.stdout.buffer)
        return
    tail = await log.tail()
    first = start.offset if isinstance(start, Position) else start
    if first is not None and first > tail:
        # An empty answer would look as if nothing had been appended yet.
        raise UnwrittenError(first, f"the tail is {tail}")
    batches = log.scan_batches(place, end, on_lost=wish.on_lost)
    await _print(batches, wish.count, sys.stdout.buffer)


async def _print(
    batches: AsyncGenerator[corfu.Batch, None], count: int | None, stream: BinaryIO
) -> None:
    left = count
    async with aclosing(batches):
        while left != 0:
            batch = await anext(batches, None)
            if batch is None:
                break
            stream.writelines(record.data + b"\n" for record in batch[:left])
            if left is not None:
                left -= min(left, len(batch))
    stream.flush()


async def _print_following(
    batches: AsyncGenerator[corfu.Batch, None], count: int | None, stream: BinaryIO
) -> None:
    """Print without end, and never keep a record back because no other one follows it."""
    printing = asyncio.create_task(_print(batches, count, stream))
    flushing = asyncio.create_task(_flush_regularly(stream))
    try:
        await asyncio.wait({printing, flushing}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        printing.cancel()
        flushing.cancel()
        ended = await asyncio.gather(printing, flushing, return_exceptions=True)
    for result in ended:
        if isinstance(result, Exception):
            raise result


async def _flush_regularly(stream: BinaryIO) -> None:
    while True:
        await asyncio.sleep(FLUSH_S)
        stream.flush()


@click.command(
    epilog="""\
\b
Example:
  corfu tail      prints 1042 if entries stand at 0 to 1041
"""
)
@cluster_option
@timeout_option
def tail(cluster: str, timeout: float) -> None:
    """Print the tail: the first offset not yet granted. Confirmed by a majority of replicas."""

    async def procedure() -> int:
        async with corfu.connect(cluster, timeout=timeout) as log:
            return await log.tail()

    click.echo(run(procedure()))


@click.command(
    cls=OffsetCommand,
    epilog="""\
\b
Example:
  corfu fill 17      prints data if an entry is at 17, else junk

Readers fill holes by themselves; this is for people who look into one.
""",
)
@click.argument("offset", type=OFFSET)
@cluster_option
@timeout_option
def fill(offset: int, cluster: str, timeout: float) -> None:
    """Make sure that OFFSET, if nothing was written there, never holds anything.

    Prints what it holds now. An offset at or above the tail is refused.
    """

    async def procedure() -> str:
        async with corfu.connect(cluster, timeout=timeout) as log:
            return (await log.fill(Offset(offset))).name.lower()

    click.echo(run(procedure()))
