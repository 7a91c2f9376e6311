"""`corfu check`: judge recorded histories, or measure how fast that is."""

from __future__ import annotations

import json
import random
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import click
from rich.console import Console

from corfu.tools.check import check
from corfu.tools.check_options import CheckOptions
from corfu.tools.connection import output_option
from corfu.tools.failure import STATUS_HELP, CommandError, Status
from corfu.tools.made_history import made_history

from .files import Recording, without_gc
from .report import (
    SOUND,
    TABLE_COLUMNS,
    account_of,
    summary_json,
    summary_of,
    table_of,
    violation_json,
)

EPILOG = f"""\
\b
Examples:
  corfu check run.jsonl                      what `corfu verify --history run.jsonl` wrote
  corfu check c1.jsonl c2.jsonl final.jsonl  one file of each client, on one clock
  corfu check --others-append app.jsonl      a log that also others write to
  corfu check --speed 1000000                how long a million operations take

A file has an operation a line, as JSON: what was called, when, by whom, and the answer. Lines of
the log as it was found in the end may follow; without them nothing is known of what nobody read.
`corfu.tools.check` is the same for Python programs; `corfu.tools.operations` says what the fields
mean.

Exit status 1: a rule was broken.

{STATUS_HELP}"""


@click.command("check", epilog=EPILOG)
@click.argument(
    "files", nargs=-1, metavar="FILE...", type=click.Path(path_type=Path, dir_okay=False)
)
@click.option("--others-append", is_flag=True, help="The log also has records of others.")
@click.option("--others-trim", is_flag=True, help="Others trim the log, too.")
@click.option("--allow-lost", is_flag=True, help="What the final log says is lost may be lost.")
@click.option(
    "--each-max",
    type=click.IntRange(1),
    default=5,
    show_default=True,
    metavar="N",
    help="Tell of at most so many violations of each rule.",
)
@click.option(
    "--speed",
    type=click.IntRange(1),
    metavar="N",
    help="Read no file: make a sound history of N operations, check it, and say how long it took.",
)
@output_option
def check_command(
    files: tuple[Path, ...],
    others_append: bool,
    others_trim: bool,
    allow_lost: bool,
    each_max: int,
    speed: int | None,
    output: str,
) -> None:
    """Check recorded histories against every promise of the log."""
    if (speed is None) == (not files):
        raise CommandError("give files, or --speed", Status.USAGE)
    if speed is not None:
        with without_gc():
            sys.exit(_speed(speed, output))

    def narrow(known: CheckOptions) -> CheckOptions:
        return replace(
            known,
            appends_complete=known.appends_complete and not others_append,
            trims_complete=known.trims_complete and not others_trim,
            allow_lost=known.allow_lost or allow_lost,
            each_max=each_max,
        )

    with without_gc():
        sys.exit(judge_files(files, narrow, output))


def judge_files(
    files: tuple[Path, ...],
    narrow: Callable[[CheckOptions], CheckOptions],
    output: str,
    *,
    needs_final: bool = False,
) -> Status:
    """Check what files hold, print the verdict, and return it as an exit status.

    Args:
        files: One recording, or one of each client.
        narrow: Makes the options of the check from those that the files tell.
        output: "text" or "json".
        needs_final: Whether a recording without a final log is refused.

    Raises:
        CommandError: A file cannot be judged.
    """
    recording = Recording()
    console = Console(stderr=True)
    with console.status("reading") as status:
        recording.read(files, lambda count: status.update(f"reading: {count:,} operations"))
        if needs_final and recording.final is None:
            raise CommandError("no final log: it cannot be judged", Status.LOCAL)
        status.update(f"checking {len(recording.history):,} operations")
        options = narrow(recording.options or CheckOptions())
        violations = check(recording.history, recording.final, options=options)
    summary = summary_of(recording.history)
    if output == "json":
        found = {
            "sound": not violations,
            "final_log": recording.final is not None,
            **summary_json(summary),
            "violations": [
                violation_json(each)
                | {"recorded_at": [recording.where(index) for index in each.operations]}
                for each in violations
            ],
        }
        click.echo(json.dumps(found, indent=2))
        return Status.NO if violations else Status.OK
    shown = Console(highlight=False, width=TABLE_COLUMNS)
    shown.print(table_of(summary), soft_wrap=True)
    for violation in violations:
        for line in account_of(violation, recording.history, recording.where):
            click.echo(line)
    if recording.final is None:
        click.echo("no final log: what was acknowledged and read by nobody could not be checked")
    if not violations:
        click.echo(f"{summary.operations:,} operations: {SOUND}")
    return Status.NO if violations else Status.OK


def _speed(count: int, output: str) -> Status:
    """Measure the check of a made history."""
    with Console(stderr=True).status(f"making {count:,} operations"):
        history, final = made_history(random.Random(1), count)  # noqa: S311
    with Console(stderr=True).status(f"checking {len(history):,} operations"):
        wall, cpu = time.perf_counter(), time.process_time()
        violations = check(history, final)
        wall_s, cpu_s = time.perf_counter() - wall, time.process_time() - cpu
    if output == "json":
        figures = {"operations": len(history), "seconds": wall_s, "cpu_seconds": cpu_s}
        click.echo(json.dumps({"sound": not violations, **figures}))
    else:
        click.echo(
            f"{len(history):,} operations checked in {wall_s:.2f} s ({cpu_s:.2f} s of processor)"
        )
    for violation in violations:
        click.echo(f"VIOLATION: {violation}", err=True)
    return Status.NO if violations else Status.OK
