"""`corfu simulate`: many seeds on all processors, a report, and how to replay what failed."""

from __future__ import annotations

import itertools
import json
import multiprocessing
import os
import shlex
import sys
import time
from collections import Counter
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from corfu.tools.failure import STATUS_HELP, CommandError, Status
from corfu.tools.processes import dying_with_us
from corfu.tools.sim import overrides
from corfu.tools.sim.options import Options, draw
from corfu.tools.sim.run import Report
from corfu.tools.sim.run import simulate as run_seed
from corfu.tools.sim.shrink import Shrunk, shrink


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
            "events_per_second": round(self.events / seconds) if seconds else None,
        }


@dataclass(frozen=True, slots=True)
class Wishes:
    """How the options of each seed are to be: as drawn, but for the mode and what is set."""

    mode: str
    sets: tuple[str, ...]

    def options(self, seed: int) -> Options:
        """Return the options of a seed."""
        options = draw(seed)
        if self.mode != "both":
            options = replace(options, minority_stops=self.mode == "liveness")
        return overrides.apply(options, overrides.parse(self.sets))

    def arguments(self) -> str:
        """Return what a command needs for the same."""
        words = [] if self.mode == "both" else ["--mode", self.mode]
        return "".join(f" {shlex.quote(word)}" for word in [*words, *_set_words(self.sets)])


def _set_words(sets: Iterable[str]) -> list[str]:
    return [word for text in sets for word in ("--set", text)]


@click.command(
    epilog=f"""\
\b
Examples:
  corfu simulate --seeds 1000
  corfu simulate --seeds 100 --start 5000 --jobs 1
  corfu simulate --seeds 1 --start 17 --trace         replay seed 17, with its event list
  corfu simulate --hours 2                            until the time is over
  corfu simulate --shrink 17                          the least of seed 17 that still fails

\b
Modes: in safety runs any number of faults goes on at once; then all is healed, and
everything must end, be redundant and be as the clients saw it. In liveness runs after
that a minority stops for good, and all that clients ask for must end within 10 virtual
seconds. Both draws the mode from the seed.

The same seed gives the same run, in any process. Exit status 1: a rule was broken; the first seed
that broke one is shrunk to the fewest faults, machines and knobs that still break it.

{STATUS_HELP}"""
)
@click.option("--seeds", type=click.IntRange(1), help="How many seeds to run (default 100).")
@click.option("--start", type=click.IntRange(0), default=0, show_default=True, help="First seed.")
@click.option("--hours", type=click.FloatRange(0, min_open=True), help="Run for so long instead.")
@click.option("--jobs", type=click.IntRange(1), help="Processes (default: one a processor).")
@click.option(
    "--mode",
    type=click.Choice(["safety", "liveness", "both"]),
    default="both",
    show_default=True,
    help="What the runs end with.",
)
@click.option(
    "--set",
    "sets",
    multiple=True,
    metavar="NAME=VALUE",
    help="Set an option of every seed; VALUE is JSON, or `default`.",
)
@click.option("--shrink", "to_shrink", type=int, metavar="SEED", help="Make a failing seed small.")
@click.option("--no-shrink", is_flag=True, help="Leave a seed that fails as it is.")
@click.option("--trace", is_flag=True, help="Print every run's event list and trace hash.")
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text")
def simulate(
    seeds: int | None,
    start: int,
    hours: float | None,
    jobs: int | None,
    mode: str,
    sets: tuple[str, ...],
    to_shrink: int | None,
    no_shrink: bool,
    trace: bool,
    output: str,
) -> None:
    """Run whole clusters in virtual time, with faults, and check every promise of the log."""
    if seeds is not None and hours is not None:
        raise click.UsageError("--seeds and --hours exclude each other")
    wishes = Wishes(mode, sets)
    try:
        wishes.options(start)
    except (overrides.OverrideError, ValueError) as error:
        raise click.UsageError(str(error)) from None
    if to_shrink is not None:
        _shrink(to_shrink, wishes)
        return
    began = time.monotonic()
    until = None if hours is None else began + hours * 3600
    count = None if until is not None else (seeds or 100)
    totals = Totals()
    try:
        _run_all(
            _seeds(start, count, until), count, jobs or os.cpu_count() or 1, wishes, totals, trace
        )
    except KeyboardInterrupt:
        _show(totals, time.monotonic() - began, output)
        raise
    _show(totals, time.monotonic() - began, output)
    if totals.failures:
        seed = min(report.seed for report in totals.failures)
        if not no_shrink:
            _shrink(seed, wishes)
        raise CommandError(
            f"{len(totals.failures)} of {totals.seeds} seeds broke a rule; replay:"
            f" corfu simulate --seeds 1 --start {seed}{wishes.arguments()} --trace",
            Status.NO,
        )


def _run_all(
    seeds: Iterable[int],
    count: int | None,
    jobs: int,
    wishes: Wishes,
    totals: Totals,
    trace: bool,
) -> None:
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with (
        Progress(*columns, TimeRemainingColumn(), console=console, transient=True) as progress,
        closing(_reports(seeds, jobs, wishes)) as reports,
    ):
        bar = progress.add_task("seeds", total=count)
        for report in reports:
            totals.add(report)
            progress.update(bar, completed=totals.seeds)
            if trace:
                for line in report.event_list:
                    click.echo(line)
                click.echo(f"seed {report.seed}  trace {report.trace_hash:016x}")
            if report.problem is not None:
                console.print(f"seed {report.seed}: {report.problem}", markup=False)


def _shrink(seed: int, wishes: Wishes) -> None:
    """Print the least of a failing seed; raises if it does not fail."""
    console = Console(stderr=True)
    with console.status(f"shrinking seed {seed}") as status:

        def tell(runs: int, faults: int) -> None:
            status.update(f"shrinking seed {seed}: {runs} runs, {faults} faults left")

        shrunk = shrink(seed, wishes.options(seed), progress=tell)
    if shrunk is None:
        raise CommandError(f"seed {seed} breaks no rule", Status.NO)
    for line in _told(seed, shrunk):
        click.echo(line)


def _told(seed: int, shrunk: Shrunk) -> Iterable[str]:
    report = shrunk.report
    words = shlex.join(_set_words(overrides.texts(shrunk.options, draw(seed))))
    yield f"seed {seed}, shrunk in {shrunk.runs} runs to {len(report.injected)} faults:"
    yield from report.event_list
    yield f"broken: {report.problem}"
    yield f"replay: corfu simulate --seeds 1 --start {seed} {words} --trace"


def _seeds(start: int, count: int | None, until: float | None) -> Iterator[int]:
    seed = start
    while (count is None or seed < start + count) and (until is None or time.monotonic() < until):
        yield seed
        seed += 1


def _run_seed(wishes: Wishes, seed: int) -> Report:
    return run_seed(seed, wishes.options(seed))


def _reports(seeds: Iterable[int], jobs: int, wishes: Wishes) -> Generator[Report, None, None]:
    """Yield reports as they come; never more than a few seeds are under way."""
    run = partial(_run_seed, wishes)
    if jobs == 1:
        yield from map(run, seeds)
        return
    # A fresh interpreter per worker, so nothing of this process leaks into a run.
    context = multiprocessing.get_context("spawn")
    left = iter(seeds)
    pool = ProcessPoolExecutor(
        jobs, mp_context=context, initializer=dying_with_us(), max_tasks_per_child=200
    )
    try:
        running = {pool.submit(run, seed) for seed in itertools.islice(left, 2 * jobs)}
        while running:
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                yield future.result()
            running |= {pool.submit(run, seed) for seed in itertools.islice(left, len(done))}
    finally:
        # Interrupted, it does not wait for what has not begun.
        pool.shutdown(cancel_futures=True)


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
        f" ({totals.events / max(seconds, 1e-9):.0f} events/s)"
    )
    faults = ", ".join(f"{kind} {n}" for kind, n in sorted(totals.faults.items()))
    click.echo(f"faults: {faults or 'none'}")
