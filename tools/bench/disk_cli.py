"""`corfu bench disk`: what the disk itself gives to processes that write as units do."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import click

from corfu.storage_units.settings import UnitSettings
from corfu.tools.failure import STATUS_HELP, CommandError, Status
from corfu.types import SyncMode

from .assignment import Assignment, Kind
from .crew import Crew
from .disk_writing import FILES
from .machine import machine
from .options import clients_option, conclude, size_option, span_options
from .outcome import Outcome
from .run import (
    Interrupts,
    Plan,
    Say,
    client_uses,
    counters_of,
    plan_of,
    progress_of,
    rows_of,
)

EPILOG = f"""\
\b
Examples:
  corfu bench disk                            3 processes, 32 pieces of 32 KiB for each fdatasync
  corfu bench disk --group 1 --size 1100      what a serial append of 1 KiB costs in syncs
  corfu bench disk --data /srv/corfu          the disk that matters
  corfu bench disk --units                    the same from storage units' own code
  corfu bench disk --units --trimmed          the same when old files can be used again

Each process writes into preallocated, zeroed files of a journal's length, as a storage unit does,
and calls fdatasync after each group; nothing else. MB/s is the sum over all processes. The latency
is that of one group. Compare `corfu bench append --size 32000` on the same disk: a chain of n units
writes n bytes for each byte of its records, so its MB/s is at most the n-th part of this.

With --units each process is a storage unit without a network. It takes a group of entries while the
one before is synced; the latency is that of an entry. Without --trimmed its journal needs a new
file, zeroed, for each one that is full, so the disk writes every byte twice.

{STATUS_HELP}"""


@click.command(epilog=EPILOG)
@size_option(32 << 10)
@clients_option("Processes that write.", 3)
@click.option(
    "--group",
    type=click.IntRange(1, 10_000),
    default=32,
    show_default=True,
    metavar="N",
    help="Pieces written together, before each fdatasync.",
)
@click.option(
    "--sync",
    type=click.Choice([mode.value for mode in SyncMode]),
    default=SyncMode.ALWAYS.value,
    show_default=True,
    help="always: fdatasync after each group; os: only into the page cache.",
)
@click.option("--units", is_flag=True, help="Write what storage units write, by their own code.")
@click.option(
    "--trimmed",
    is_flag=True,
    help="Trim the units' logs behind what is written: their files are recycled, none is made.",
)
@click.option(
    "--data",
    "parent",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    metavar="DIR",
    help="Where a folder for the files is made, and removed.  [that of temporary files]",
)
@span_options
def disk(parent: Path | None, output: str, plot: Path | None, **given: Any) -> None:
    """Write to a disk from several processes, with no cluster: the yardstick for `append`."""
    file_bytes = UnitSettings().journal_file_bytes
    if given["size"] * given["group"] > file_bytes:
        raise CommandError(
            f"--size times --group must fit a journal file of {file_bytes:,} bytes", Status.USAGE
        )
    if given["trimmed"] and not given["units"]:
        raise CommandError("--trimmed is for --units", Status.USAGE)
    folder = Path(tempfile.mkdtemp(prefix="corfu-bench-disk-", dir=parent))
    try:
        _require_room(folder, given["clients"] * FILES * file_bytes)
        conclude(lambda say: write(plan_of("disk", given), folder, say), output, plot)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def write(plan: Plan, folder: Path, say: Say) -> Outcome:
    """Let processes write for a while.

    Raises:
        CommandError: One of them failed.
    """
    before = machine()
    say("allocating files")
    given: dict[str, Any] = dict(plan.settings)
    writers: list[tuple[str, Assignment]] = []
    for number in range(given["clients"]):
        own = folder / f"writer-{number}"
        own.mkdir()
        writer = Assignment(
            kind=Kind.UNIT if given["units"] else Kind.DISK,
            trimmed=given["trimmed"],
            folder=str(own),
            size=given["size"],
            batch=given["group"],
            sync=given["sync"] == SyncMode.ALWAYS.value,
        )
        writers.append(("writer", writer))
    interrupts = Interrupts()
    async with Crew(writers) as crew:
        with interrupts.heard() as stop:
            measured = await crew.measure(
                plan.warmup_s, plan.seconds, (), stop, progress_of(plan, say)
            )
    rows = rows_of(measured.reports)
    ratios = {"MB/s of each process": rows[0].mb_per_s / len(writers)}
    if given["units"]:
        ratios["entries of each commit"] = rows[0].records / max(
            1, counters_of(measured)["commits"]
        )
    return Outcome(
        command=plan.command,
        settings=plan.settings,
        target={"folder": str(folder.parent)},
        machine=before,
        figures=rows,
        uses=client_uses(measured.reports),
        ratios=ratios,
        interrupted=interrupts.stop.is_set(),
    )


def _require_room(folder: Path, wanted: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < wanted:
        raise CommandError(
            f"{folder.parent} has {free / 1e6:,.0f} MB left, {wanted / 1e6:,.0f} MB are written",
            Status.LOCAL,
        )
