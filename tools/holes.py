"""`corfu holes`: which offsets below the tail are not whole yet, and what they wait for."""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import dataclass

import click
from rich.console import Console
from rich.progress import Progress

from corfu.addresses import parse_addresses
from corfu.layout import Layout
from corfu.messages import GetHoles, HolesAre
from corfu.types import Offset, Range, UnitId

from .asking import Asker, asking
from .connection import cluster_option, output_option, run, timeout_option
from .data import OFFSET
from .failure import CommandError, Status
from .hole_search import Age, HoleRun, HoleSearch
from .status import STATUS_TIMEOUT_S
from .tables import chain_text, offsets_text, plain_table, table_console

LOOKED_AT_MAX = 1 << 18
"""Most offsets that one command asks the units about: some seconds of work."""

_TRIES = 3
_TRY_AGAIN_S = 0.3


@dataclass(frozen=True, slots=True)
class Found:
    """What a search found; `rest` was not looked at."""

    closed_until: Offset
    tail: Offset
    span: Range
    rest: Range
    runs: tuple[HoleRun, ...]
    silent: tuple[UnitId, ...]


@click.command(
    epilog="""\
\b
Examples:
  corfu holes
  corfu holes --older-than 5             those that should be closed by now
  corfu holes --from 1000000 -n 20
  corfu holes -o json

States: hole (empty on all units), half-written (the head holds it, a later unit does not yet),
damaged (a unit holds it damaged or in doubt), unknown (the head does not answer). The age counts
from the grant; "at least": an earlier leader granted it. Everything below closed_until is decided,
so only what lies above it is looked at, at most 262,144 offsets a time. Entries that are being
written show for a moment, too. Readers and the leader close holes by themselves.
"""
)
@click.option(
    "--older-than",
    type=click.FloatRange(min=0),
    default=0.0,
    metavar="SECONDS",
    help="Only those granted at least so long ago.",
)
@click.option("--from", "start", type=OFFSET, metavar="OFFSET", help="[default: closed_until]")
@click.option("--to", "end", type=OFFSET, metavar="OFFSET", help="[default: the tail]")
@click.option("-n", "count", type=click.IntRange(1), metavar="N", help="Print at most N lines.")
@cluster_option
@timeout_option
@output_option
def holes(
    older_than: float,
    start: Offset | None,
    end: Offset | None,
    count: int | None,
    cluster: str,
    timeout: float,
    output: str,
) -> None:
    """List the offsets below the tail that are not whole on their chain."""
    budget_s = min(timeout, STATUS_TIMEOUT_S)
    found = run(_search(cluster, budget_s, round(older_than * 1000), start, end))
    if output == "json":
        click.echo(json.dumps(as_json(found, count)))
    else:
        _print(found, count)


async def _search(
    cluster: str, budget_s: float, older_than_ms: int, start: Offset | None, end: Offset | None
) -> Found:
    async with asking(parse_addresses(cluster)) as asker:
        layout, told = await _ask_leader(asker, cluster, budget_s)
        wanted = wanted_span(told, start, end)
        span = Range(wanted.start, min(wanted.end, Offset(wanted.start + LOOKED_AT_MAX)))
        search = HoleSearch(asker, layout, told.samples, older_than_ms)
        # Only on a terminal: elsewhere it would be noise between the lines of others.
        with Progress(
            console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()
        ) as progress:
            task = progress.add_task("asking the units", total=span.end - span.start)
            runs = await search.run(span, lambda seen: progress.advance(task, seen))
    rest = Range(span.end, wanted.end)
    silent = tuple(sorted(search.silent))
    return Found(told.closed_until, told.tail, span, rest, runs, silent)


async def _ask_leader(asker: Asker, cluster: str, budget_s: float) -> tuple[Layout, HolesAre]:
    """Return the active layout, and what the leader of just this epoch says."""
    for _ in range(_TRIES):
        health = await asker.health(cluster, budget_s)
        for replica in health.replicas:
            if replica.answer is None or replica.answer is not health.leader:
                continue
            reply = await asker.ask(replica.address, GetHoles(asker.new_request()), budget_s)
            # In another epoch offsets may belong to other units than that layout says.
            if isinstance(reply, HolesAre) and reply.epoch == health.best.layout.epoch:
                return health.best.layout, reply
        await asyncio.sleep(_TRY_AGAIN_S)
    raise CommandError("no replica leads, so nobody knows the tail", Status.UNAVAILABLE)


def wanted_span(told: HolesAre, start: Offset | None, end: Offset | None) -> Range:
    """Return what to look at: what the user asked for, within `[closed_until, tail)`."""
    first = told.closed_until if start is None else max(told.closed_until, start)
    last = told.tail if end is None else min(told.tail, end)
    return Range(first, max(first, last))


def as_json(found: Found, count: int | None) -> dict[str, object]:
    """Return what `-o json` prints."""
    shown = found.runs[:count]
    return {
        "closed_until": found.closed_until,
        "tail": found.tail,
        "looked_at": list(found.span),
        "not_looked_at": list(found.rest) if found.rest.start < found.rest.end else None,
        "silent_units": list(found.silent),
        "holes": [
            {
                "start": each.start,
                "end": each.end,
                "count": each.count,
                "chain": each.chain,
                "units": list(each.units),
                "state": each.verdict.state.value,
                "waits_for": each.verdict.waits_for,
                "age_ms": each.age.ms,
                "age_is_at_least": each.age.at_least,
            }
            for each in shown
        ],
        "more": len(found.runs) - len(shown),
    }


def _print(found: Found, count: int | None) -> None:
    console = table_console()
    if found.runs:
        table = plain_table("offsets", "count", "state", "age", "chain", "waits for")
        for each in found.runs[:count]:
            waits = each.verdict.waits_for
            table.add_row(
                f"{each.start:,}" if each.count == 1 else offsets_text(each.start, each.end),
                f"{each.count:,}",
                each.verdict.state.value,
                age_text(each.age),
                f"{each.chain} ({chain_text(each.units)})",
                "its writer, or a fill" if waits is None else f"unit {waits}",
            )
        console.print(table)
        if (more := len(found.runs[count:]) if count is not None else 0) > 0:
            console.print(f"and {more:,} lines more")
    else:
        console.print(f"no holes: closed below {found.closed_until:,}, the tail is {found.tail:,}")
    for id_ in found.silent:
        console.print(f"unit {id_} does not answer", style="red")
    if found.rest.start < found.rest.end:
        console.print(
            f"not looked at: {offsets_text(found.rest.start, found.rest.end)} "
            f"(go on with --from {found.rest.start})",
            soft_wrap=True,
        )


def age_text(age: Age) -> str:
    """Return an age as people say it."""
    seconds = age.ms / 1000
    text = f"{seconds:.1f} s" if seconds < 600 else f"{seconds / 60:,.0f} min"
    return f"at least {text}" if age.at_least else text
