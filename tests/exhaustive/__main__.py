"""`python -m tests.exhaustive`: explore models, whole or up to a bound, and print what was seen."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict

import click

from .explorer import STATES_MAX, Explorer
from .model import Report
from .models import chosen, models
from .planted import PLANTED
from .planted import STATES_MAX as PLANTED_STATES_MAX

EPILOG = """\b
Examples:
  python -m tests.exhaustive                             all models, 300,000 states of each
  python -m tests.exhaustive chain --losses 0            those whose name begins with "chain"
  python -m tests.exhaustive chain-seal --max-states 0   the whole space of one (may take long)
  python -m tests.exhaustive --planted                   each planted bug, and how it was found
  python -m tests.exhaustive -o json > exhaustive.json

Exit status: 0 if no rule was broken (with --planted: if every bug was found), else 1.
"""


@click.command(epilog=EPILOG)
@click.argument("names", nargs=-1, metavar="[MODEL]...")
@click.option(
    "--max-states",
    type=click.IntRange(0),
    default=300_000,
    show_default=True,
    metavar="N",
    help="Stop each search after N states; 0: never.",
)
@click.option("--losses", type=click.IntRange(0), metavar="N", help="Messages lost.")
@click.option("--duplicates", type=click.IntRange(0), metavar="N", help="Messages doubled.")
@click.option("--crashes", type=click.IntRange(0), metavar="N", help="Crashes of a node.")
@click.option("--patience", type=click.IntRange(0), metavar="N", help="Timeouts of clients.")
@click.option("--planted", is_flag=True, help="Explore with each planted bug instead.")
@click.option("--list", "listed", is_flag=True, help="List the models and end.")
@click.option(
    "-o", "output", type=click.Choice(["text", "json"]), default="text", show_default=True
)
def main(
    names: tuple[str, ...],
    max_states: int,
    losses: int | None,
    duplicates: int | None,
    crashes: int | None,
    patience: int | None,
    *,
    planted: bool,
    listed: bool,
    output: str,
) -> None:
    """Explore every schedule of a small cluster over the real cores, breadth first.

    Without options each model has the faults it was made with (--list shows them).
    """
    if listed:
        for name, model in models().items():
            budgets = ", ".join(f"{k} {v}" for k, v in model.budgets.items())
            click.echo(f"{name:22} {budgets}")
        return
    if planted:
        sys.exit(_planted(names, output))
    given = {"loss": losses, "duplicate": duplicates, "crash": crashes, "patience": patience}
    faults = {name: count for name, count in given.items() if count is not None}
    try:
        wanted = chosen(names, faults)
    except LookupError as error:
        raise click.UsageError(f"no model's name begins with {error}; see --list") from error
    reports: list[Report] = []
    for model in wanted:
        report = Explorer(model).run(max_states or STATES_MAX, _progress(model.name))
        reports.append(report)
        if output == "text":
            click.echo(str(report))
            if report.violation is not None:
                click.echo(f"VIOLATION: {report.violation}")
    broken = [report for report in reports if report.violation is not None]
    if output == "json":
        click.echo(json.dumps([asdict(report) for report in reports], indent=2))
    else:
        click.echo(
            f"{len(reports)} models, {sum(r.states for r in reports):,} states, "
            f"{sum(r.moves for r in reports):,} moves, {sum(r.checks for r in reports):,} checks, "
            f"{sum(r.exhausted for r in reports)} exhausted, {len(broken)} with a violation, "
            f"{sum(r.cpu_s for r in reports):.0f} CPU-s"
        )
    sys.exit(1 if broken else 0)


def _planted(names: tuple[str, ...], output: str) -> int:
    unknown = [name for name in names if name not in PLANTED]
    if unknown:
        raise click.UsageError(f"no planted bug {unknown[0]}; there are: {', '.join(PLANTED)}")
    rows = []
    for name in names or tuple(PLANTED):
        bug = PLANTED[name]
        report = bug.explore()
        found = report.violation
        rows.append(
            {
                "bug": name,
                "what": bug.what,
                "model": bug.model,
                "found": found is not None,
                "states": report.states,
                "moves": len(found.moves) if found else 0,
                "violation": str(found) if found else "",
            }
        )
        if output == "text":
            seen = f"{len(found.moves)} moves: {found.what}" if found else "NOT FOUND"
            click.echo(f"{name:28} {report.states:>8,} states  {seen}")
            if names:
                click.echo(f"{bug.what}\n{found}")
    missed = sum(not row["found"] for row in rows)
    if output == "json":
        click.echo(json.dumps(rows, indent=2))
    else:
        click.echo(
            f"{len(rows) - missed} of {len(rows)} planted bugs found, each within "
            f"{PLANTED_STATES_MAX:,} states"
        )
    return 1 if missed else 0


def _progress(name: str) -> Callable[[Report], None]:
    """Show a line now and then, on a terminal only."""
    shown = [time.monotonic()]

    def show(report: Report) -> None:
        if sys.stderr.isatty() and time.monotonic() - shown[0] > 1.0:
            shown[0] = time.monotonic()
            text = f"{name}: depth {report.depth}, {report.states:,} states"
            click.echo(f"\r{text:70}\r", nl=False, err=True)

    return show


if __name__ == "__main__":
    main()
