"""`python -m tests.planted`: plants each bug, and says what found it, after how many seeds."""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict
from functools import partial

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from corfu.tools.processes import dying_with_us

from . import found as kept
from .bug import Bug
from .hunt import Finding, PlantError, search
from .planting import StaleBugError
from .registry import BUGS, EVERY

SEEDS = 500
SECONDS = 60.0


def hunt(name: str, *, seeds: int, seconds: float) -> Finding | str:
    """Look for one bug; returns what is wrong with the plant, if anything is."""
    try:
        return search(EVERY[name], seeds, seconds)
    except (PlantError, StaleBugError) as error:
        return str(error)


def findings(
    names: Sequence[str], *, seeds: int, seconds: float, jobs: int
) -> Iterator[tuple[str, Finding | str]]:
    """Yield how each search ended, as they end."""
    work = partial(hunt, seeds=seeds, seconds=seconds)
    if jobs == 1:
        for name in names:
            yield name, work(name)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context, initializer=dying_with_us()) as pool:
        running = {pool.submit(work, name): name for name in names}
        for future in as_completed(running):
            yield running[future], future.result()


def row(bug: Bug, found: Finding) -> str:
    """Return a line of the table in docs/evidence.md."""
    told = (bug.name, bug.hazards, bug.broken, found.violation or "none", str(found.seeds),
            f"{found.seconds:.1f}")  # fmt: skip
    return f"| {' | '.join(told)} |"


HEADER = "| bug | hazard | what is broken | found as | seeds | seconds |\n|---|---|---|---|---|---|"


@click.command(
    epilog="""\
\b
Examples:
  python -m tests.planted                                   every bug, on all processors
  python -m tests.planted blind-retry junk-over-data --seeds 50
  python -m tests.planted --list
  python -m tests.planted --save                            keep the seeds for the tests
  python -m tests.planted --markdown                        the table of docs/evidence.md

Seconds are processor time. Exit status 1: a bug was not found, or a plant is wrong."""
)
@click.argument("names", nargs=-1, metavar="[NAME]...", type=click.Choice(sorted(EVERY)))
@click.option("--seeds", type=click.IntRange(1), default=SEEDS, show_default=True)
@click.option("--seconds", type=click.FloatRange(0, min_open=True), default=SECONDS,
              show_default=True, help="Processor time spent on one bug.")  # fmt: skip
@click.option("--jobs", type=click.IntRange(1), help="Processes (default: one a processor).")
@click.option("--list", "listed", is_flag=True, help="Say what each bug breaks; run nothing.")
@click.option("--save", is_flag=True, help="Write what was found to tests/planted/found.json.")
@click.option(
    "--markdown", is_flag=True, help="Print what was found last, as a table; run nothing."
)
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text")
def main(
    names: tuple[str, ...],
    seeds: int,
    seconds: float,
    jobs: int | None,
    listed: bool,
    save: bool,
    markdown: bool,
    output: str,
) -> None:
    """Break rules of the protocol one at a time: the simulator has to find every one."""
    wanted = names or tuple(BUGS)
    if listed:
        for name in wanted:
            click.echo(f"{name:36} {EVERY[name].hazards:10} {EVERY[name].broken}")
        return
    if markdown:
        last = kept.load()
        click.echo(HEADER)
        for name in wanted:
            click.echo(row(BUGS[name], last[name]))
        return
    ended: list[Finding] = []
    wrong: dict[str, str] = {}
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        bar = progress.add_task("bugs", total=len(wanted))
        runs = findings(wanted, seeds=seeds, seconds=seconds, jobs=jobs or os.cpu_count() or 1)
        for name, end in runs:
            progress.advance(bar)
            if isinstance(end, str):
                wrong[name] = end
            else:
                ended.append(end)
                if save:
                    # At once: what was found by an interrupted search is kept.
                    kept.save(end)
            if output == "text":
                console.print(_line(name, end), markup=False, highlight=False, soft_wrap=True)
    missed = [found.bug for found in ended if found.violation is None]
    if output == "json":
        told = {"found": [asdict(found) for found in ended], "wrong": wrong, "missed": missed}
        json.dump(told, sys.stdout)
        click.echo()
    else:
        click.echo(f"{len(ended) - len(missed)} of {len(wanted)} found")
    if missed or wrong:
        sys.exit(1)


def _line(name: str, end: Finding | str) -> str:
    if isinstance(end, str):
        return f"{name:36} WRONG  {end}"
    if end.violation is None:
        return f"{name:36} NOT FOUND in {end.seeds} seeds, {end.seconds:.1f} s"
    return (
        f"{name:36} {end.violation:16} seed {end.seed}, {end.seeds} seeds,"
        f" {end.seconds:.1f} s, wrong {end.activations} times"
    )
