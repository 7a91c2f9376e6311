"""`corfu bench read`: how fast the log is read, from memory or from disk."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import click

from corfu.tools.cluster import LocalCluster
from corfu.tools.failure import STATUS_HELP, CommandError, Status

from .assignment import Assignment, Kind
from .client_options import parse_settings
from .options import (
    clients_option,
    finish,
    inflight_option,
    set_option,
    size_option,
    span_options,
    target_options,
    wanted_of,
)
from .outcome import Outcome
from .run import Say, measure, plan_of, prepare
from .target import Target

MEGABYTES = 64
"""Less than the units of two chains keep in memory."""

COLD_MEGABYTES = 256
FILL_CALL_BYTES = 48 << 10
FILL_INFLIGHT = 32

EPILOG = f"""\
\b
Examples:
  corfu bench read                                  scan 64 MB again and again, from memory
  corfu bench read --cold --megabytes 1000          once, from disk
  corfu bench read --random --inflight 64           single entries anywhere
  corfu bench read --cluster 127.0.0.1:9700 --seconds 30     what is in that log

A cluster of its own is filled first; one named by --cluster is read as it is, unless --megabytes
says how much to append to it before. The latency of a scan is the wait for its next batch, that of
--random one call of `log.read`. CPU is for one record of those read.

--cold stops its own cluster once it is filled, has the system forget its files, and starts it
again; each client then reads the log once.

{STATUS_HELP}"""


@click.command(epilog=EPILOG)
@size_option()
@clients_option("Readers, each a process.")
@click.option("--random", is_flag=True, help="Read single entries anywhere, not the whole log.")
@inflight_option("Reads that each client keeps under way, with --random.", 1)
@click.option(
    "--megabytes",
    type=click.IntRange(1, 1_000_000),
    metavar="N",
    help=f"Records to append before, in all.  [default: {MEGABYTES}, --cold: {COLD_MEGABYTES}, "
    "--cluster: none]",
)
@click.option("--cold", is_flag=True, help="Read from disk, not from memory.")
@set_option
@span_options
@target_options
def read(
    random: bool,
    megabytes: int | None,
    cold: bool,
    output: str,
    plot: Path | None,
    **given: Any,
) -> None:
    """Read a log as fast as it comes."""
    wanted = wanted_of(given)
    chosen = given["set"] = parse_settings(given.pop("chosen"))
    if cold and wanted.cluster is not None:
        raise CommandError("--cold stops and starts the cluster: not with --cluster", Status.USAGE)
    if megabytes is None and wanted.cluster is None:
        megabytes = COLD_MEGABYTES if cold else MEGABYTES
    if cold and not random:
        # Each entry is read from disk once.
        given["warmup"] = 0.0
    settings = {**given, "random": random, "cold": cold, "megabytes": megabytes}
    plan = plan_of("read", settings)

    async def work(found: Target, say: Say) -> Outcome:
        if megabytes is not None:
            await prepare(found, [("producer", filling(found, given["size"], megabytes))], say)
        if cold:
            assert found.local is not None
            say("starting the cluster again, cold")
            await restart_cold(found.local)
        assignment = Assignment(
            kind=Kind.READ if random else Kind.SCAN,
            cluster=found.cluster,
            inflight=given["inflight"],
            once=cold,
            settings=chosen,
        )
        return await measure(plan, found, [("client", assignment)] * given["clients"], say)

    finish(wanted, work, output, plot)


def filling(found: Target, size: int, megabytes: int) -> Assignment:
    """Return the work of a producer that appends so much and ends."""
    return Assignment(
        kind=Kind.APPEND,
        cluster=found.cluster,
        size=size,
        batch=max(1, FILL_CALL_BYTES // (size + 4)),
        inflight=FILL_INFLIGHT,
        limit=max(1, megabytes * 1_000_000 // size),
    )


async def restart_cold(local: LocalCluster) -> None:
    """Stop a cluster, have the system forget what it knows of its files, and start it again."""
    await local.stop()
    for path in sorted(local.folder.rglob("*")):
        if path.is_file():
            await asyncio.to_thread(forget, path)
    await local.start()
    await local.serving()


def forget(path: Path) -> None:
    """Drop a file from the page cache, once it is on disk."""
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)
