"""The commands on dictionaries: train one on records, tell which one a file holds."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from pathlib import Path
from typing import BinaryIO

import click

import corfu
from corfu.compression import (
    DICTIONARY_BYTES_MAX,
    LEVELS_MAX,
    ZSTD_LEVEL,
    Compression,
    EntryCodec,
    compression_of,
    dictionary_id,
)
from corfu.errors import UsageError

from .appending import CHUNK_BYTES, split
from .compressing import dictionary_option
from .connection import run, timeout_option
from .data import InputFile, Place, PlaceType
from .dictionary_training import Trained, train
from .failure import CommandError, Status
from .tables import counted, plain_table, table_console

RECORDS_MAX = 20_000
SAMPLE_BYTES_MAX = 64 << 20
"""All records that are trained on or tried are in memory at once."""

DICTIONARY_BYTES_MIN = 256
"""zstd makes none smaller."""


@click.group(
    name="dict",
    epilog="""\
\b
Examples:
  corfu dict train -o clicks.zdict
  corfu dict show clicks.zdict
  corfu append --compression zstd --dictionary clicks.zdict access.log
  corfu read --dictionary clicks.zdict

A dictionary knows what records have in common, so that a small entry need not say it. Keep its
file: entries that were compressed with it cannot be read without it.
""",
)
def dictionary_group() -> None:
    """Train zstd dictionaries, for logs of small records."""


@dictionary_group.command(
    name="train",
    epilog="""\
\b
Examples:
  corfu dict train -o clicks.zdict
  corfu dict train --from 1000 -n 5000         only say what it would gain
  corfu dict train --input clicks.jsonl -o clicks.zdict --size 65536

The first four fifths of the records are trained on, the last fifth is tried: what it says of the
gain is about records that the dictionary has not seen. A file that is there is never overwritten:
there may be entries that need it.
""",
)
@click.option("--from", "start", type=PlaceType(), metavar="P", help="[default: the earliest]")
@click.option("--to", "end", type=PlaceType(), metavar="P", help="[default: the tail]")
@click.option(
    "-n",
    "count",
    type=click.IntRange(1),
    default=RECORDS_MAX,
    show_default=True,
    metavar="N",
    help=f"At most N records, and {SAMPLE_BYTES_MAX >> 20} MiB.",
)
@click.option(
    "--input",
    "source",
    type=InputFile("rb"),
    metavar="FILE",
    help="Take the lines of FILE (- for the standard input), not the records of a log.",
)
@click.option(
    "-o",
    "--output",
    "target",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Where to write it, as a new file. Without: only say what it would gain.",
)
@click.option(
    "--size",
    type=click.IntRange(DICTIONARY_BYTES_MIN, DICTIONARY_BYTES_MAX),
    default=16 << 10,
    show_default=True,
    metavar="BYTES",
    help="Most bytes that it may have.",
)
@click.option(
    "--level",
    type=click.IntRange(1, LEVELS_MAX["zstd"]),
    default=ZSTD_LEVEL,
    show_default=True,
    metavar="N",
    help="zstd's level, of training and trying.",
)
@click.option(
    "--cluster",
    envvar="CORFU_CLUSTER",
    show_envvar=True,
    metavar="HOST:PORT,...",
    help="Addresses of the sequencer replicas.",
)
@dictionary_option
@timeout_option
def train_command(
    start: Place | None,
    end: Place | None,
    count: int,
    source: BinaryIO | None,
    target: Path | None,
    size: int,
    level: int,
    cluster: str | None,
    dictionaries: tuple[bytes, ...],
    timeout: float,
) -> None:
    """Train a zstd dictionary on the records of a log, or the lines of a file."""
    if source is not None and (start is not None or end is not None):
        raise click.UsageError("--from and --to are places of a log: leave out --input")
    if target is not None and target.exists():
        raise CommandError(_there_is(target), Status.LOCAL)
    if source is not None:
        records = _lines(source, count)
    elif cluster is not None:
        records = run(_read(cluster, start, end, count, dictionaries, timeout))
    else:
        raise click.UsageError("Missing option '--cluster' (env var: 'CORFU_CLUSTER') or '--input'")
    trained = train(records, size, level)
    if target is not None:
        _write(target, trained.dictionary)
    _show(trained)
    name = f"dictionary {trained.id:016x}, {counted(len(trained.dictionary), 'byte')}"
    if target is None:
        click.echo(f"{name}: not written (-o FILE)")
    else:
        click.echo(f"{name}: written to {target}")


def _lines(source: BinaryIO, count: int) -> list[bytes]:
    records: list[bytes] = []
    size = 0
    for lines in split(iter(lambda: source.read(CHUNK_BYTES), b"")):
        for line in lines:
            if len(records) == count or size + len(line) > SAMPLE_BYTES_MAX:
                return records
            records.append(line)
            size += len(line)
    return records


async def _read(
    cluster: str,
    start: Place | None,
    end: Place | None,
    count: int,
    dictionaries: tuple[bytes, ...],
    timeout_s: float,
) -> list[bytes]:
    async with corfu.connect(cluster, timeout=timeout_s, dictionary=dictionaries) as log:
        place = corfu.EARLIEST if start is None else start
        # One lost entry more or less makes no other dictionary.
        return await _first(log.scan_batches(place, end, on_lost="skip"), count)


async def _first(batches: AsyncGenerator[Iterable[corfu.Record], None], count: int) -> list[bytes]:
    records: list[bytes] = []
    size = 0
    async with aclosing(batches):
        async for batch in batches:
            for record in batch:
                if len(records) == count or size + len(record.data) > SAMPLE_BYTES_MAX:
                    return records
                records.append(record.data)
                size += len(record.data)
    return records


def _write(target: Path, dictionary: bytes) -> None:
    """Write a new file, durably: whoever compresses with it from now on must find it again."""
    try:
        with target.open("xb") as file:
            file.write(dictionary)
            file.flush()
            os.fsync(file.fileno())
    except FileExistsError as error:
        raise CommandError(_there_is(target), Status.LOCAL) from error


def _there_is(target: Path) -> str:
    return f"{target} is there: entries may need it, so it is not overwritten"


def _show(trained: Trained) -> None:
    click.echo(
        f"trained on {counted(trained.records, 'record')} ({trained.record_bytes:,} bytes), tried "
        f"on the {trained.held_out:,} that came next; bytes per record:"
    )
    table = plain_table("entries of", "plain", "zstd", "with dictionary", "saved by it")
    for gain in trained.gains:
        saved = 1 - gain.with_dictionary / gain.compressed
        table.add_row(
            f"{gain.entry_bytes:,} bytes" if gain.entry_bytes else "one record",
            f"{gain.plain:,.1f}",
            f"{gain.compressed:,.1f}",
            f"{gain.with_dictionary:,.1f}",
            f"{saved:.0%}",
        )
    sys.stdout.flush()
    table_console().print(table)


@dictionary_group.command(
    name="show",
    epilog="""\
\b
Example:
  corfu dict show *.zdict      which of them is the one that an error names
""",
)
@click.argument("files", type=InputFile("rb"), nargs=-1, required=True, metavar="FILE...")
def show_command(files: tuple[BinaryIO, ...]) -> None:
    """Print the id of each dictionary: what entries, and errors, name it by."""
    for file in files:
        data = file.read(DICTIONARY_BYTES_MAX + 1)
        try:
            EntryCodec(compression_of(Compression(), None, (data,)))
        except UsageError as error:
            raise CommandError(f"{file.name}: {error}", Status.LOCAL) from error
        click.echo(f"{dictionary_id(data):016x}  {len(data):,} bytes  {file.name}")
