"""`corfu simulate`: many seeds on all processors, a report, and how to replay what failed."""

from __future__ import annotations

import itertools
import json
import multiprocessing
import os
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from dataclasses import dataclass, field

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from corfu.tools.failure import STATUS_HELP, CommandError, Status
from corfu.tools.processes import dying_with_us
from corfu.tools.sim.run import Report
from corfu.tools.sim.run import simulate as run_seed


@dataclass(slots=True)
class Totals:
    """Sums over the runs so far."""

    seeds: int = 0
    events: int = 0
    virtual_s: float = 0.0
    operations: int = 0
    appended: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    failures: list[Report] = field(default_factory=list)

    def add(self, report: Report) -> None:
        """Count one run."""
        self.seeds += 1
        self.events += report.events
        self.virtual_s += report.virtual_s
        self.operations += report.operations
        self.appended += report.appended
        self.faults.update(report.faults)
        if report.problem is not None:
            self.failures.append(report)

    def as_dict(self, seconds: float) -> dict[str, object]:
        """Return the report as plain values."""
        return {
            "seeds": self.seeds,
            "failed": [report.seed for report in self.failures],
            "events": self.events,
            "simulated_hours": round(self.virtual_s / 3600, 3),
            "operations": self.operations,
            "records_appended": self.appended,
            "faults": dict(sorted(self.faults.items())),
            "seconds": round(seconds, 1),
        }


@click.command(
    epilog=f"""\
\b
Examples:
  corfu simulate --seeds 1000
  corfu simulate --seeds 100 --start 5000 --jobs 1
  corfu simulate --seeds 1 --start 17 --trace         replay seed 17, with its event list
  corfu simulate --hours 2                            until the time is over

The same seed gives the same run, in any process. Exit status 1: a rule was broken.

{STATUS_HELP}"""
)
@click.option("--seeds", type=click.IntRange(1), help="How many seeds to run (default 100).")
@click.option("--start", type=click.IntRange(0), default=0, show_default=True, help="First seed.")
@click.option("--hours", type=click.FloatRange(0, min_open=True), help="Run for so long instead.")
@click.option("--jobs", type=click.IntRange(1), help="Processes (default: one a processor).")
@click.option("--trace", is_flag=True, help="Print every run's event list and trace hash.")
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text")
def simulate(
    seeds: int | None,
    start: int,
    hours: float | None,
    jobs: int | None,
    trace: bool,
    output: str,
) -> None:
    """Run whole clusters in virtual time, with faults, and check every promise of the log."""
    if seeds is not None and hours is not None:
        raise click.UsageError("--seeds and --hours exclude each other")
    began = time.monotonic()
    until = None if hours is None else began + hours * 3600
    count = None if until is not None else (seeds or 100)
    totals = Totals()
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeRemainingColumn(), console=console, transient=True) as progress:
        bar = progress.add_task("seeds", total=count)
        for report in _reports(_seeds(start, count, until), jobs or os.cpu_count() or 1):
            totals.add(report)
            progress.update(bar, completed=totals.seeds)
            if trace:
                for line in report.event_list:
                    click.echo(line)
                click.echo(f"seed {report.seed}  trace {report.trace_hash:016x}")
            if report.problem is not None:
                console.print(f"seed {report.seed}: {report.problem}", markup=False)
    _show(totals, time.monotonic() - began, output)
    if totals.failures:
        seed = totals.failures[0].seed
        raise CommandError(
            f"{len(totals.failures)} of {totals.seeds} seeds broke a rule;"
            f" replay: corfu simulate --seeds 1 --start {seed} --trace",
            Status.NO,
        )


def _seeds(start: int, count: int | None, until: float | None) -> Iterator[int]:
    seed = start
    while (count is None or seed < start + count) and (until is None or time.monotonic() < until):
        yield seed
        seed += 1


def _reports(seeds: Iterable[int], jobs: int) -> Iterator[Report]:
    """Yield reports as they come; never more than a few seeds are under way."""
    if jobs == 1:
        yield from map(run_seed, seeds)
        return
    # A fresh interpreter per worker, so nothing of this process leaks into a run.
    context = multiprocessing.get_context("spawn")
    left = iter(seeds)
    with ProcessPoolExecutor(
        jobs, mp_context=context, initializer=dying_with_us(), max_tasks_per_child=200
    ) as pool:
        running = {pool.submit(run_seed, seed) for seed in itertools.islice(left, 2 * jobs)}
        while running:
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                yield future.result()
            running |= {pool.submit(run_seed, seed) for seed in itertools.islice(left, len(done))}


def _show(totals: Totals, seconds: float, output: str) -> None:
    report = totals.as_dict(seconds)
    if output == "json":
        json.dump(report, sys.stdout)
        click.echo()
        return
    click.echo(
        f"{totals.seeds} seeds, {len(totals.failures)} failed; {totals.events} events,"
        f" {totals.operations} operations, {totals.appended} records,"
        f" {report['simulated_hours']} simulated hours in {seconds:.1f} s"
    )
    faults = ", ".join(f"{kind} {n}" for kind, n in sorted(totals.faults.items()))
    click.echo(f"faults: {faults or 'none'}")
