"""`corfu bench restart`: how long a unit with many entries takes to start, and its memory."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import click

from corfu.tools.failure import STATUS_HELP, CommandError, Status
from corfu.tools.tables import table_console

from .lone_unit import LoneUnit
from .machine import machine
from .usage import PROC

_READY_S_MAX = 120.0
_PER_COMMIT = 256
_PART = 20
"""What an entry costs is measured in the first and in the last part of so many."""

EPILOG = f"""\
\b
Examples:
  corfu bench restart                              a million entries of 100 bytes
  corfu bench restart --entries 10000000           ten million: some minutes, 2 GB
  corfu bench restart --size 32000 --entries 100000 --rounds 5

A unit is filled in this process, by its own code, without a network and without syncs; then the
real process is started on its folder, each time as after a crash, and once on an empty folder. The
time is from the start of the process to its line "ready". Memory is what the process has more
than the one on the empty folder, for each entry.

{STATUS_HELP}"""


@dataclass(frozen=True, slots=True)
class Start:
    """One start of the real process: seconds until it was ready, and resident bytes then."""

    seconds: float
    cpu_s: float
    resident_bytes: int


@dataclass(frozen=True, slots=True)
class Filling:
    """How long an entry took, in microseconds of processor time, in a part of the filling."""

    first_us: float
    last_us: float
    disk_bytes: int


@click.command(epilog=EPILOG)
@click.option(
    "--entries",
    type=click.IntRange(_PART * _PER_COMMIT, 10**9),
    default=1_000_000,
    show_default=True,
    metavar="N",
    help="Entries that the unit holds.",
)
@click.option(
    "--size",
    type=click.IntRange(0, 1_000_000),
    default=100,
    show_default=True,
    metavar="BYTES",
    help="Length of each entry.",
)
@click.option(
    "--chains",
    type=click.IntRange(1, 10_000),
    default=2,
    show_default=True,
    metavar="N",
    help="Chains of the layout: the unit holds every Nth offset.",
)
@click.option(
    "--rounds",
    type=click.IntRange(1, 1000),
    default=3,
    show_default=True,
    metavar="N",
    help="How often it is started; the median is told.",
)
@click.option(
    "--data",
    "parent",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    metavar="DIR",
    help="Where a folder is made, and removed.  [that of temporary files]",
)
@click.option(
    "-o",
    "--output",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="How to print the result.",
)
def restart(
    entries: int, size: int, chains: int, rounds: int, parent: Path | None, output: str
) -> None:
    """Start a storage unit that holds many entries."""
    folder = Path(tempfile.mkdtemp(prefix="corfu-bench-restart-", dir=parent))
    try:
        _require_room(folder, entries * (size + 100) + (200 << 20))
        filled, empty = folder / "filled", folder / "empty"
        filling = _fill(filled, entries, size, chains)
        LoneUnit.make(_made(empty), chains=chains).close()
        started = [(_start(filled), _start(empty)) for _ in range(rounds)]
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    found = _summed_up(entries, filling, started)
    settings = {"entries": entries, "size": size, "chains": chains, "rounds": rounds}
    if output == "json":
        told = {
            "command": "restart",
            "settings": settings,
            "machine": machine(),
            **found,
            "starts": [asdict(with_entries) for with_entries, _ in started],
        }
        click.echo(json.dumps(told, indent=2))
        return
    console = table_console()
    console.print(", ".join(f"{name} {value:,}" for name, value in settings.items()))
    console.print(", ".join(f"{name} {value}" for name, value in machine().items()))
    for name, value in found.items():
        console.print(f"{name.replace('_', ' '):<42}{value:>12,.3f}")


def _summed_up(
    entries: int, filling: Filling, started: list[tuple[Start, Start]]
) -> dict[str, float]:
    full, empty = [each for each, _ in started], [each for _, each in started]
    more = median(each.resident_bytes for each in full) - median(
        each.resident_bytes for each in empty
    )
    return {
        "ready_s": median(each.seconds for each in full),
        "ready_s_slowest": max(each.seconds for each in full),
        "ready_s_empty_folder": median(each.seconds for each in empty),
        "processor_s": median(each.cpu_s for each in full),
        "processor_s_empty_folder": median(each.cpu_s for each in empty),
        "memory_bytes_an_entry": more / entries,
        "disk_bytes_an_entry": filling.disk_bytes / entries,
        "processor_us_an_entry_first": filling.first_us,
        "processor_us_an_entry_last": filling.last_us,
    }


def _fill(folder: Path, entries: int, size: int, chains: int) -> Filling:
    """Fill a folder, and leave it as a crash does."""
    lone = LoneUnit.make(_made(folder), chains=chains)
    lone.synced = False
    entry, part = os.urandom(size), entries // _PART
    took = [_timed_fill(lone, entry, part) for _ in range(_PART)]
    lone.write_many(entry, entries - part * _PART, _PER_COMMIT)
    lone.disk.close()
    used = sum(each.stat().st_size for each in folder.iterdir())
    # Not the first: then caches fill, and nothing is indexed yet.
    return Filling(took[1], took[-1], used)


def _timed_fill(lone: LoneUnit, entry: bytes, count: int) -> float:
    """Return microseconds of processor time for each entry."""
    begun = time.process_time()
    lone.write_many(entry, count, _PER_COMMIT)
    return (time.process_time() - begun) / count * 1e6


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def _start(folder: Path) -> Start:
    """Start the real process on a folder, wait until it is ready, and kill it.

    Raises:
        CommandError: It ended by itself, or took too long.
    """
    argv = [sys.executable, "-m", "corfu.storage_units", "start", str(folder)]
    begun = time.perf_counter()
    with subprocess.Popen(  # noqa: S603 - our own command line
        [*argv, "--listen", "127.0.0.1:0"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        overdue = threading.Timer(_READY_S_MAX, process.kill)
        overdue.start()
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            seconds = time.perf_counter() - begun
            if not line.startswith(b"ready"):
                assert process.stderr is not None
                said = process.stderr.read().decode(errors="replace").strip()
                raise CommandError(f"the unit did not start: {said}", Status.LOCAL)
            return Start(seconds, _cpu_s(process.pid), _resident_bytes(process.pid))
        finally:
            overdue.cancel()
            process.kill()


def _resident_bytes(pid: int) -> int:
    for line in (PROC / str(pid) / "status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise CommandError("this system does not tell the memory of a process", Status.LOCAL)


def _cpu_s(pid: int) -> float:
    fields = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _require_room(folder: Path, wanted: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < wanted:
        raise CommandError(
            f"{folder.parent} has {free / 1e6:,.0f} MB left, {wanted / 1e6:,.0f} MB are written",
            Status.LOCAL,
        )
