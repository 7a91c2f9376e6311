"""`corfu layout`: the configuration of an epoch, and how it came to be."""

from __future__ import annotations

import json

import click

from corfu.addresses import parse_addresses
from corfu.layout import Layout
from corfu.messages import GetHistory, HistoryIs, StatusIs
from corfu.tools.asking import Asker, asking
from corfu.tools.connection import cluster_option, output_option, run, timeout_option
from corfu.tools.failure import CommandError, Status
from corfu.tools.health import Health
from corfu.tools.status import STATUS_TIMEOUT_S
from corfu.tools.tables import (
    chain_text,
    lost_text,
    offsets_text,
    plain_table,
    short,
    table_console,
)
from corfu.types import Epoch

from .layout_changes import changes


@click.group(
    epilog="""\
\b
Examples:
  corfu layout show
  corfu layout history -n 5
"""
)
def layout() -> None:
    """Look at the layout: which units hold which offsets."""


@layout.command(
    "show",
    epilog="""\
\b
Examples:
  corfu layout show
  corfu layout show --epoch 3      an earlier one, if the sequencer still has it
  corfu layout show -o json

A chain lists its units from head to tail unit; an offset belongs to chain (offset modulo the number
of chains) of its segment. LOST: the chain was abandoned, with all that it held.
""",
)
@click.option("--epoch", type=click.IntRange(1), metavar="N", help="[default: the active one]")
@cluster_option
@timeout_option
@output_option
def show(epoch: int | None, cluster: str, timeout: float, output: str) -> None:
    """Show the segments and chains of the active layout, or of an earlier one."""
    budget_s = min(timeout, STATUS_TIMEOUT_S)
    health, past = run(_look(cluster, budget_s, wants_past=epoch is not None))
    best = health.best
    shown = best.layout if epoch is None else _find(past, best.layout, Epoch(epoch))
    told = best if shown is best.layout else None
    if output == "json":
        click.echo(json.dumps(layout_json(shown) | ({} if told is None else status_json(told))))
    else:
        _print(shown, told)


@layout.command(
    "history",
    epilog="""\
\b
Examples:
  corfu layout history
  corfu layout history -n 5
  corfu layout history -o json

Oldest first. The sequencer keeps the last 64 layouts, and fewer of large clusters.
""",
)
@click.option("-n", "count", type=click.IntRange(1), metavar="N", help="The newest N only.")
@cluster_option
@timeout_option
@output_option
def history(count: int | None, cluster: str, timeout: float, output: str) -> None:
    """List the layouts that were active, and what each changed."""
    health, past = run(_look(cluster, min(timeout, STATUS_TIMEOUT_S), wants_past=True))
    rows = [
        (each, ("the oldest that is kept",) if before is None else changes(before, each))
        for before, each in zip((None, *past), past, strict=False)
    ]
    rows = rows if count is None else rows[-count:]
    if output == "json":
        said = [layout_json(each) | {"changes": list(what)} for each, what in rows]
        click.echo(json.dumps(said))
        return
    table = plain_table("epoch", "T", "leader", "changes")
    for each, what in rows:
        table.add_row(
            str(each.epoch), f"{each.first_offset:,}", _leader(each), "; ".join(what)
        )  # fmt: skip
    console = table_console()
    console.print(table)
    if health.best.pending_epoch is not None:
        console.print(f"epoch {health.best.pending_epoch} is being made", style="red")


async def _look(
    cluster: str, budget_s: float, *, wants_past: bool
) -> tuple[Health, tuple[Layout, ...]]:
    """Return the health of a cluster and, if wanted, its activated layouts, ascending."""
    async with asking(parse_addresses(cluster)) as asker:
        health = await asker.health(cluster, budget_s)
        return health, await _past(asker, health, budget_s) if wants_past else ()


async def _past(asker: Asker, health: Health, budget_s: float) -> tuple[Layout, ...]:
    # Of the replica that the rest is taken from: another one may have applied less.
    best = health.best.replica
    for replica in sorted(health.replicas, key=lambda each: each.id != best):
        if replica.answer is None:
            continue
        reply = await asker.ask(replica.address, GetHistory(asker.new_request()), budget_s)
        if isinstance(reply, HistoryIs):
            return reply.layouts
    raise CommandError("no replica tells the past layouts", Status.UNAVAILABLE)


def _find(past: tuple[Layout, ...], active: Layout, epoch: Epoch) -> Layout:
    for each in (active, *past):
        if each.epoch == epoch:
            return each
    kept = ", ".join(str(each.epoch) for each in past) or "none"
    raise CommandError(f"no layout of epoch {epoch} is kept (epochs: {kept})", Status.NO)


def layout_json(shown: Layout) -> dict[str, object]:
    """Return what `-o json` prints of a layout alone."""
    return {
        "epoch": shown.epoch,
        "first_offset": shown.first_offset,
        "leader": shown.leader.replica,
        "ballot": [shown.leader.ballot.round, shown.leader.ballot.replica],
        "sync": str(shown.sync),
        "min_replicas": shown.min_replicas,
        "segments": [
            {
                "start": segment.start,
                "end": segment.end,
                "chains": [list(chain) for chain in segment.chains],
                "abandoned": [n for n, chain in enumerate(segment.chains) if not chain],
            }
            for segment in shown.segments
        ],
        "units": [
            {"id": each.id, "incarnation": each.incarnation.hex(), "address": str(each.address)}
            for each in shown.units
        ],
        "replicas": [
            {"id": each.id, "incarnation": each.incarnation.hex(), "address": str(each.address)}
            for each in shown.replicas
        ],
    }


def status_json(told: StatusIs) -> dict[str, object]:
    """Return what `-o json` adds to the active layout."""
    return {
        "wanted": {"chains": told.wanted_chains, "replicas": told.wanted_replicas},
        "pending_epoch": told.pending_epoch,
        "trim_mark": told.trim_mark,
        "closed_until": told.closed_until,
        "lost": [list(lost) for lost in told.lost],
    }


def _leader(shown: Layout) -> str:
    ballot = shown.leader.ballot
    return f"replica {shown.leader.replica}, ballot {ballot.round}.{ballot.replica}"


def _print(shown: Layout, told: StatusIs | None) -> None:
    console = table_console()
    console.print(
        f"epoch {shown.epoch}, from offset {shown.first_offset:,} on, leader: {_leader(shown)}, "
        f"sync {shown.sync}, at least {shown.min_replicas} units a chain",
        soft_wrap=True,
    )
    if told is not None:
        console.print(
            f"wanted: {told.wanted_chains} chains of {told.wanted_replicas} units; trimmed below "
            f"{told.trim_mark:,}, closed below {told.closed_until:,}",
            soft_wrap=True,
        )
    segments = plain_table("offsets", "chains, head to tail unit")
    for segment in shown.segments:
        chains = "  ".join(map(chain_text, segment.chains)) or "none: nothing can be appended"
        segments.add_row(offsets_text(segment.start, segment.end), chains)
    console.print(segments)
    units = plain_table("unit", "incarnation", "address")
    for each in shown.units:
        units.add_row(str(each.id), short(each.incarnation), str(each.address))
    console.print(units)
    if told is None:
        return
    if told.pending_epoch is not None:
        console.print(f"epoch {told.pending_epoch} is being made", style="red")
    for lost in told.lost:
        console.print(f"lost: {lost_text(lost.start, lost.end)}", style="red")
