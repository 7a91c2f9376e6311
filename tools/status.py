"""`corfu status`: who leads, which units are up, how far the log goes."""

from __future__ import annotations

import json
import sys

import click
from rich.table import Table

from corfu.goals import GoalStatus
from corfu.types import Address, UnitId

from .admin.goal_text import goal_as_json
from .asking import ask_health
from .connection import cluster_option, output_option, run, timeout_option
from .failure import Status
from .health import Health, is_up
from .tables import gigabytes, place_text, plain_table, table_console

STATUS_TIMEOUT_S = 2.0


@click.command(
    epilog="""\
\b
Examples:
  corfu status
  corfu status -o json | python -m json.tool

Exit status: 0 healthy, 1 degraded (a replica or unit is down, or no leader), 2 wrong usage,
3 no replica answers. The tail shown is the leader's own word, not confirmed by a majority.
"""
)
@cluster_option
@timeout_option
@output_option
def status(cluster: str, timeout: float, output: str) -> None:
    """Show the leader, the epoch, the chains, which processes are up, and the tail."""
    health = run(ask_health(cluster, min(timeout, STATUS_TIMEOUT_S)))
    if output == "json":
        click.echo(json.dumps(as_json(health), indent=2))
    else:
        _print(health)
    sys.exit(Status.NO if health.problems else Status.OK)


def as_json(health: Health) -> dict[str, object]:
    """Return what `-o json` prints."""
    best, leader = health.best, health.leader
    return {
        "healthy": not health.problems,
        "problems": list(health.problems),
        "cluster_id": best.layout.cluster.hex(),
        "leader": None if leader is None else leader.replica,
        "epoch": best.layout.epoch,
        "sync": str(best.layout.sync),
        "tail": best.tail,
        "trim_mark": best.trim_mark,
        "closed_until": best.closed_until,
        "replicas": [
            {
                "id": replica.id,
                "address": str(replica.address),
                "up": replica.answer is not None,
                "applied": None if replica.answer is None else replica.answer.applied,
            }
            for replica in health.replicas
        ],
        "units": [
            {
                "id": unit.unit,
                "address": str(unit.address),
                "up": is_up(unit),
                "heard_ms": unit.heard_ms,
                "epoch": unit.epoch,
                "local_tail": unit.local_tail,
                "free_bytes": unit.free_bytes,
            }
            for unit in best.units
        ],
        "segments": [
            {
                "start": segment.start,
                "end": segment.end,
                "chains": [list(chain) for chain in segment.chains],
            }
            for segment in best.layout.segments
        ],
        "wanted": {"chains": best.wanted_chains, "replicas": best.wanted_replicas},
        "rebuilds": [
            {"unit": each.unit, "start": each.start, "end": each.end, "reached": each.reached}
            for each in best.rebuilds
        ],
        "lost": [list(lost) for lost in best.lost],
        "goals": [
            goal_as_json(record) for record in best.goals if record.status is GoalStatus.ACTIVE
        ],
        "drained": list(best.drained),
    }


def _print(health: Health) -> None:
    console = table_console()
    best = health.best
    leader = "none" if health.leader is None else f"replica {health.leader.replica}"
    tail = "unknown" if best.tail is None else f"{best.tail:,}"
    console.print(
        f"epoch {best.layout.epoch}, leader: {leader}, tail: {tail}, trimmed below "
        f"{best.trim_mark:,}, closed below {best.closed_until:,}, sync {best.layout.sync}",
        soft_wrap=True,
    )
    console.print(_replica_table(health))
    console.print(_unit_table(health))
    for record in best.goals:
        if record.status is GoalStatus.ACTIVE:
            console.print(f"under way: {record.goal}", style="yellow", soft_wrap=True)
    for problem in health.problems:
        console.print(f"degraded: {problem}", style="red", soft_wrap=True)
    if not health.problems:
        console.print("healthy", style="green")


def _replica_table(health: Health) -> Table:
    table = plain_table("replica", "address", "state", "applied slot")
    for replica in health.replicas:
        answer = replica.answer
        state = "down" if answer is None else "leads" if answer is health.leader else "up"
        table.add_row(
            "?" if replica.id is None else str(replica.id),
            str(replica.address),
            state,
            "" if answer is None else str(answer.applied),
        )
    return table


def _unit_table(health: Health) -> Table:
    table = plain_table("chain", "unit", "address", "state", "holds up to", "free disk")
    units = {unit.unit: unit for unit in health.best.units}
    layout = health.best.layout
    places = [
        (place_text(number, index, chain), id_)
        for number, chain in enumerate(layout.open_segment.chains)
        for index, id_ in enumerate(chain)
    ]
    in_chains = {id_ for _, id_ in places}
    listed = {unit.id for unit in layout.units}
    places += [(_place(id_, listed, health), id_) for id_ in units if id_ not in in_chains]
    for place, id_ in places:
        unit = units.get(id_)
        address: Address = layout.unit(id_).address if unit is None else unit.address
        if unit is None:
            table.add_row(place, str(id_), str(address), "unknown", "", "")
        else:
            table.add_row(
                place,
                str(id_),
                str(address),
                "up" if is_up(unit) else "down",
                f"{unit.local_tail:,}",
                gigabytes(unit.free_bytes),
            )
    return table


def _place(id_: UnitId, listed: set[UnitId], health: Health) -> str:
    """Return what a unit is for that stands in no open chain."""
    if id_ in listed:
        return "old entries"
    return "drained" if id_ in health.best.drained else "spare"
