"""`corfu verify`: a workload against a live cluster, and a check of all that it was told."""

from __future__ import annotations

import json
import secrets
import shutil
import sys
import tempfile
from pathlib import Path

import click
from rich.console import Console

from corfu.compression import LEVELS_MAX
from corfu.tools.compressing import compression_of_options, dictionary_option
from corfu.tools.connection import cluster_option, output_option, run
from corfu.tools.failure import STATUS_HELP, Status

from .files import write_recording
from .report import (
    SOUND,
    TABLE_COLUMNS,
    account_of,
    summary_json,
    summary_of,
    table_of,
    violation_json,
)
from .run import Run, Wish

EPILOG = f"""\
\b
Examples:
  corfu verify --seconds 60
  corfu verify --seconds 600 --clients 8 --rate 500 -o json
  corfu verify --seconds 10 --history run.jsonl && corfu check run.jsonl

Safe beside other users of the log: it begins at the tail, looks at nothing older, and trims nothing
and fills no hole of others unless told to. Its records (`verify-...`) stay in the log; so choose
--rate and --seconds for a cluster in service. Records of others are read from the beginning of the
run on, and must be one value for ever, too. Appends, reads, scans, follows, tails and fills of all
clients are checked together; of what clients cancelled, or got no answer to, either fate is right.

Ctrl-C ends the work early and checks what there is so far; the exit status is 130 then, if no rule
was broken. Exit status 1: a rule was broken, or a client or its follower did not end. 4: the
cluster stopped answering, so what is in the log could not be compared.

{STATUS_HELP}"""


@click.command(epilog=EPILOG)
@cluster_option
@click.option(
    "--seconds",
    type=click.FloatRange(min=0, min_open=True),
    default=10.0,
    show_default=True,
    metavar="N",
    help="How long the clients work.",
)
@click.option(
    "--clients",
    type=click.IntRange(1, 256),
    default=4,
    show_default=True,
    metavar="N",
    help="Clients; every second one in call order.",
)
@click.option(
    "--processes",
    type=click.IntRange(1, 64),
    default=2,
    show_default=True,
    metavar="N",
    help="Processes over which they are spread.",
)
@click.option(
    "--rate",
    type=click.FloatRange(min=0, min_open=True),
    default=100.0,
    show_default=True,
    metavar="N",
    help="Appends a second, of all together, at most; about as many other calls come with them.",
)
@click.option(
    "--record-bytes",
    type=click.IntRange(1, 1_000_000),
    default=300,
    show_default=True,
    metavar="N",
    help="Longest record, but for one in a thousand.",
)
@click.option(
    "--trim",
    is_flag=True,
    help="Trim, too. Deletes ALL that is older than the run, of whomever it is, and a part of the "
    "run's own records.",
)
@click.option(
    "--fill",
    is_flag=True,
    help="Fill any offset of the run, too: an append of others that is under way may have to move.",
)
@click.option("--seed", type=click.IntRange(0), metavar="N", help="Draws the calls.  [random]")
@click.option(
    "--history",
    "kept",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Where to keep what was recorded, for `corfu check`.",
)
@click.option(
    "--compression",
    type=click.Choice(["none", *LEVELS_MAX]),
    default="none",
    show_default=True,
    help="Compress what the clients append.",
)
@dictionary_option
@output_option
def verify(
    cluster: str,
    seconds: float,
    clients: int,
    processes: int,
    rate: float,
    record_bytes: int,
    trim: bool,
    fill: bool,
    seed: int | None,
    kept: Path | None,
    compression: str,
    dictionaries: tuple[bytes, ...],
    output: str,
) -> None:
    """Work with a live cluster for a while and check every promise of the log."""
    if kept is not None:
        # Not found out only in the end.
        kept.open("w").close()
    wish = Wish(
        cluster=cluster,
        seconds=seconds,
        clients=clients,
        processes=processes,
        rate=rate,
        record_bytes=record_bytes,
        trim=trim,
        fill=fill,
        seed=secrets.randbelow(1_000_000) if seed is None else seed,
        compression=compression_of_options(compression, None, dictionaries).codec,
        dictionaries=dictionaries,
    )
    folder = Path(tempfile.mkdtemp(prefix="corfu-verify-"))
    try:
        with Console(stderr=True).status("") as status:
            verification = Run(wish, folder, status.update)
            run(verification.run())
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if kept is not None:
        write_recording(kept, verification.history, verification.final, verification.options)
    if output == "json":
        click.echo(json.dumps(_as_json(verification, wish), indent=2))
    else:
        _show(verification)
    sys.exit(verification.status)


def _show(verification: Run) -> None:
    console = Console(highlight=False, width=TABLE_COLUMNS)
    summary = summary_of(verification.history)
    console.print(table_of(summary), soft_wrap=True)
    for complaint in verification.complaints:
        click.echo(f"PROBLEM: {complaint}")
    for violation in verification.violations:
        for line in account_of(violation, verification.history, lambda _index: None):
            click.echo(line)
    final = verification.final
    if final is not None:
        records = [key for entry in final.entries.values() for key in entry]
        own = sum(key.startswith(verification.prefix) for key in records)
        click.echo(
            f"offsets {verification.start} to {final.tail}: {own:,} records of this run "
            f"({verification.prefix}...), {len(records) - own:,} of others, "
            f"{len(final.junk):,} holes filled"
        )
    if verification.unavailable is not None:
        click.echo(f"the cluster stopped answering, no final log: {verification.unavailable}")
    if verification.status in (Status.OK, Status.INTERRUPTED):
        click.echo(f"{summary.operations:,} operations in {summary.seconds:.1f} s: {SOUND}")


def _as_json(verification: Run, wish: Wish) -> dict[str, object]:
    final = verification.final
    return {
        "sound": verification.status in (Status.OK, Status.INTERRUPTED),
        "interrupted": verification.interrupted,
        "seed": wish.seed,
        "prefix": verification.prefix,
        "start": verification.start,
        "tail": None if final is None else final.tail,
        **summary_json(summary_of(verification.history)),
        "problems": verification.complaints,
        "unavailable": verification.unavailable,
        "violations": [violation_json(each) for each in verification.violations],
    }
