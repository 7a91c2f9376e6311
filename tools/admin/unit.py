"""`corfu unit`: looking at the storage units, and putting others in their place."""

from __future__ import annotations

import json
from dataclasses import dataclass

import click

from corfu.goals import GoalKind
from corfu.messages import RebuildStatus, StatusIs, UnitStatus
from corfu.tools.asking import ask_health
from corfu.tools.connection import cluster_option, output_option, run, timeout_option
from corfu.tools.health import is_up, percent
from corfu.tools.status import STATUS_TIMEOUT_S
from corfu.tools.tables import gigabytes, place_text, plain_table, short, table_console
from corfu.types import Offset, UnitId

from .acting import GOAL_HELP, Wishes, act, goal_options, new_goal

_ID = click.IntRange(0)


@click.group(
    epilog="""\
\b
Examples:
  corfu unit ls                    where each stands, and how it is
  corfu unit drain 3               bring what unit 3 holds to others
  corfu unit replace 3 7           the same, and unit 7 takes its place
"""
)
def unit() -> None:
    """Look at the storage units, take them out of use, or put others in their place."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a unit stands: place `index` of the chain `number` of one segment."""

    start: Offset
    end: Offset | None
    number: int
    index: int
    chain: tuple[UnitId, ...]


def places_of(status: StatusIs, id_: UnitId) -> tuple[Place, ...]:
    """Return the places of a unit, in the order of their offsets."""
    return tuple(
        Place(segment.start, segment.end, number, chain.index(id_), chain)
        for segment in status.layout.segments
        for number, chain in enumerate(segment.chains)
        if id_ in chain
    )


def state_of(status: StatusIs, each: UnitStatus) -> str:
    """Return what a unit is doing, in one word or two; the worst first."""
    if not is_up(each):
        return "down"
    if each.frozen:
        return "conflict"
    if all(listed.id != each.unit for listed in status.layout.units):
        # Before what only matters in a chain: a spare that came back is sealed when it is used.
        return "drained" if each.unit in status.drained else "spare"
    if each.restarted:
        return "restarted"
    if each.doubt:
        return "in doubt"
    rebuilds = [rebuild for rebuild in status.rebuilds if rebuild.unit == each.unit]
    return f"rebuilding {_done(rebuilds)} %" if rebuilds else "up"


def _done(rebuilds: list[RebuildStatus]) -> int:
    """Return how many of a hundred offsets are copied, over all the ranges that are to be."""
    return percent(
        sum(each.reached - each.start for each in rebuilds),
        sum(each.end - each.start for each in rebuilds),
    )


@unit.command(
    "ls",
    epilog="""\
\b
Examples:
  corfu unit ls
  corfu unit ls -o json | python -m json.tool

A unit's place is the number of its chain in the open segment and its role there; "+2 old" says that
it holds old entries in two closed segments besides. States: up, down (silent for 2 s), spare,
drained (a spare that is not used before an --undo), rebuilding, restarted (waits for a new epoch),
in doubt (holds records that must be settled), conflict (takes no writes), left (left the layout and
has not come back).
""",
)
@cluster_option
@timeout_option
@output_option
def ls(cluster: str, timeout: float, output: str) -> None:
    """List the storage units: where they stand, what they hold, how they are."""
    status = run(ask_health(cluster, min(timeout, STATUS_TIMEOUT_S))).best
    if output == "json":
        click.echo(json.dumps(as_json(status), indent=2))
    else:
        _print(status)


def as_json(status: StatusIs) -> list[dict[str, object]]:
    """Return what `-o json` prints."""
    rows: list[dict[str, object]] = [
        {
            "id": each.unit,
            "incarnation": each.incarnation.hex(),
            "address": str(each.address),
            "state": state_of(status, each),
            "places": [
                {
                    "start": place.start,
                    "end": place.end,
                    "chain": place.number,
                    "index": place.index,
                    "units": list(place.chain),
                }
                for place in places_of(status, each.unit)
            ],
            "holds_up_to": each.local_tail,
            "free_bytes": each.free_bytes,
            "epoch": each.epoch,
            "sync": None if each.sync is None else str(each.sync),
            "heard_ms": each.heard_ms,
        }
        for each in sorted(status.units, key=lambda each: each.unit)
    ]
    return rows + [{"id": id_, "state": "left", "places": []} for id_ in status.gone]


def _print(status: StatusIs) -> None:
    table = plain_table(
        *("unit", "incarnation", "address", "state", "chain", "holds up to", "free disk"),
        *("epoch", "sync"),
    )
    for each in sorted(status.units, key=lambda each: each.unit):
        heard = each.heard_ms is not None
        table.add_row(
            str(each.unit),
            short(each.incarnation),
            str(each.address),
            state_of(status, each),
            _places_text(places_of(status, each.unit)),
            f"{each.local_tail:,}" if heard else "",
            gigabytes(each.free_bytes) if heard else "",
            str(each.epoch) if heard else "",
            "" if each.sync is None else str(each.sync),
        )
    for id_ in status.gone:
        table.add_row(str(id_), "", "", "left")
    table_console().print(table)


def _places_text(places: tuple[Place, ...]) -> str:
    opened = [place_text(p.number, p.index, p.chain) for p in places if p.end is None]
    old = sum(place.end is not None for place in places)
    return " ".join([*opened, *([f"+{old} old"] if old else [])])


@unit.command(
    short_help="Bring all that a unit holds to others.",
    epilog=f"""\
\b
Examples:
  corfu unit drain 3 --dry-run     what would happen
  corfu unit drain 3               wait until unit 3 holds nothing that is needed
  corfu unit drain 3 --undo        let unit 3 be used again

{GOAL_HELP}
""",
)
@click.argument("unit_id", type=_ID, metavar="UNIT")
@click.option("--undo", is_flag=True, help="Let the unit be used again, drained or not yet.")
@goal_options
def drain(
    unit_id: int,
    undo: bool,
    cluster: str,
    timeout: float,
    dry_run: bool,
    no_wait: bool,
    output: str,
) -> None:
    """Bring all that a unit holds to others, so that it can be switched off.

    A spare takes its place for new entries at once; it keeps serving its old entries until others
    have copied them. It is not used again, also when it comes back with an empty disk, before
    --undo.
    """
    wishes = Wishes(cluster, timeout, dry_run, undo, no_wait, output)
    act(new_goal(GoalKind.DRAIN_UNIT, unit_id), wishes)


@unit.command(
    short_help="Put a spare in the place of a unit.",
    epilog=f"""\
\b
Examples:
  corfu unit replace 3 7 --dry-run
  corfu unit replace 3 7           unit 7, a spare, takes the place of unit 3
  corfu unit replace 3 7 --undo    leave it, and let unit 3 be used again

{GOAL_HELP}
""",
)
@click.argument("old", type=_ID)
@click.argument("new", type=_ID)
@click.option("--undo", is_flag=True, help="Let OLD be used again, replaced or not yet.")
@goal_options
def replace(
    old: int,
    new: int,
    undo: bool,
    cluster: str,
    timeout: float,
    dry_run: bool,
    no_wait: bool,
    output: str,
) -> None:
    """Put the spare NEW in the place of OLD: as `drain`, but with a unit of your choice.

    If NEW is needed elsewhere meanwhile, as a unit has died there, another spare takes the place.
    """
    wishes = Wishes(cluster, timeout, dry_run, undo, no_wait, output)
    act(new_goal(GoalKind.REPLACE_UNIT, old, new), wishes)
