"""`corfu scrub`: have units read all they hold again, and watch what they find and heal."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

import click
from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

from corfu.addresses import parse_addresses
from corfu.messages import Scrub, ScrubIs, StatusIs, UnitStatus
from corfu.types import Address, Range

from .asking import Asker, asking
from .connection import cluster_option, output_option, run, timeout_option
from .failure import CommandError, Status
from .health import leader_of
from .tables import lost_text

_POLL_S = 0.25
_ASK_S = 2.0
_PLAIN_LINE_S = 5.0
"""Without a terminal: a line that often."""

_HEAL_S = 20.0
"""A unit whose damage has not become less for so long does not heal by itself."""


@dataclass(slots=True)
class Watch:
    """What one unit has answered, and how its pass goes."""

    unit: UnitStatus
    patience_s: float
    told: ScrubIs | None = None
    passes_before: int = -1
    heard_at: float = 0.0
    better_at: float = 0.0
    silent: bool = False

    @property
    def checked(self) -> bool:
        """The pass that was asked for has ended."""
        told = self.told
        return told is not None and not told.running and told.passes > self.passes_before

    @property
    def sound(self) -> bool:
        """Nothing is damaged at the unit now, as far as it knows."""
        return self.told is not None and not self.told.left and not self.told.doubt

    def over(self, now: float) -> bool:
        """Tell whether there is nothing to wait for any more."""
        healed = self.sound or now - self.better_at >= _HEAL_S
        return self.silent or (self.checked and healed)

    async def look(self, asker: Asker) -> None:
        """Ask the unit once; begin its pass if none was begun, or the unit has restarted since."""
        told = self.told
        start = told is None or (not told.running and told.passes <= self.passes_before)
        request = Scrub(asker.new_request(), self.unit.unit, self.unit.incarnation, start)
        answer = await asker.ask(self.unit.address, request, min(_ASK_S, self.patience_s))
        now = time.monotonic()
        if not isinstance(answer, ScrubIs):
            # Down, or another incarnation by now.
            self.silent = now - self.heard_at >= self.patience_s
            return
        if start:
            self.passes_before = answer.passes if answer.running else answer.passes - 1
        if told is None or (answer.left, answer.repaired) != (told.left, told.repaired):
            self.better_at = now
        self.told, self.heard_at, self.silent = answer, now, False


@click.command(
    epilog="""\
\b
Examples:
  corfu scrub                  all units, and wait until they are through
  corfu scrub 2 5              only the units 2 and 5
  corfu scrub --no-wait        begin; the units do it in the background
  corfu scrub -o json

A unit reads everything again in the background anyway, slowly. Damage is healed from the other
units of the chain; what no unit holds soundly is declared lost. Ctrl-C ends the watching, not the
scrub.

Exit status: 0 all is sound or was repaired, 1 damage is left or records are lost, 2 wrong usage,
3 no replica answers, or a unit does not.
"""
)
@click.argument("units", nargs=-1, type=click.IntRange(min=1), metavar="[UNIT]...")
@click.option("--no-wait", is_flag=True, help="Begin the scrub, and do not watch it.")
@cluster_option
@timeout_option
@output_option
def scrub(units: tuple[int, ...], no_wait: bool, cluster: str, timeout: float, output: str) -> None:
    """Have the units read and check all that they hold, and heal what is damaged."""
    asked = parse_addresses(cluster)
    try:
        watches, lost = run(_scrub(asked, units, timeout, wait=not no_wait))
    except KeyboardInterrupt:
        click.echo("corfu: the units go on with the scrub; `corfu scrub` shows it", err=True)
        raise
    if output == "json":
        click.echo(json.dumps(as_json(watches, lost), indent=2))
    else:
        _print(watches, lost, begun=no_wait)
    sys.exit(_status(watches, lost))


async def _scrub(
    replicas: tuple[Address, ...], wanted: Sequence[int], patience_s: float, *, wait: bool
) -> tuple[list[Watch], tuple[Range, ...]]:
    async with asking(replicas) as asker:
        best = await _best_status(asker, replicas)
        known = {unit.unit: unit for unit in best.units}
        for number in wanted:
            if number not in known:
                raise CommandError(f"the cluster has no unit {number}", Status.USAGE)
        chosen = [unit for id_, unit in sorted(known.items()) if not wanted or id_ in wanted]
        begun = time.monotonic()
        watches = [Watch(unit, patience_s, heard_at=begun) for unit in chosen]
        await asyncio.gather(*(watch.look(asker) for watch in watches))
        if wait:
            await _watch(asker, watches)
        else:
            for watch in watches:
                watch.silent = watch.told is None
        return watches, (await _best_status(asker, replicas)).lost


async def _best_status(asker: Asker, replicas: tuple[Address, ...]) -> StatusIs:
    answers = await asker.statuses(replicas, _ASK_S)
    if not answers:
        raise CommandError(
            f"no replica answers at {', '.join(map(str, replicas))}", Status.UNAVAILABLE
        )
    return leader_of(answers) or max(answers, key=lambda answer: answer.applied)


async def _watch(asker: Asker, watches: list[Watch]) -> None:
    """Follow all units to the end, and show it on stderr."""
    console = Console(stderr=True, highlight=False)
    with Live(console=console, transient=True, auto_refresh=False) as live:
        line_at = time.monotonic() + _PLAIN_LINE_S
        while left := [watch for watch in watches if not watch.over(time.monotonic())]:
            await asyncio.gather(*(watch.look(asker) for watch in left))
            if console.is_terminal:
                live.update(_picture(watches), refresh=True)
            elif time.monotonic() >= line_at:
                line_at += _PLAIN_LINE_S
                click.echo(", ".join(map(_plain, watches)), err=True)
            await asyncio.sleep(_POLL_S)


def _plain(watch: Watch) -> str:
    told = watch.told
    if told is None:
        return f"unit {watch.unit.unit} does not answer"
    share = 100 if watch.checked else 100 * told.bytes_done // max(1, told.bytes_total)
    return f"unit {watch.unit.unit} {share} %, {told.left} damaged"


def _picture(watches: Sequence[Watch]) -> Table:
    table = Table.grid(padding=(0, 2))
    for watch in watches:
        told = watch.told
        if told is None:
            table.add_row(f"unit {watch.unit.unit}", "", "does not answer", "")
            continue
        total = max(1, told.bytes_total)
        table.add_row(
            f"unit {watch.unit.unit}",
            ProgressBar(total=total, completed=total if watch.checked else told.bytes_done),
            f"{told.bytes_done / 1e6:,.1f} MB",
            f"{told.left:,} damaged" if told.left else "",
        )
    return table


def as_json(watches: Sequence[Watch], lost: Sequence[Range]) -> dict[str, object]:
    """Return what `-o json` prints."""
    return {
        "sound": _status(watches, lost) is Status.OK,
        "units": [
            {"id": watch.unit.unit, "address": str(watch.unit.address), **_counts(watch)}
            for watch in watches
        ],
        "lost": [list(each) for each in lost],
    }


def _counts(watch: Watch) -> dict[str, object]:
    told = watch.told
    if told is None or watch.silent:
        return {"answers": False}
    return {
        "answers": True,
        "checked": watch.checked,
        "bytes": told.bytes_done,
        "damaged": told.damaged,
        "repaired": told.repaired,
        "left": told.left,
        "offsets": list(told.offsets),
        "doubt": told.doubt,
    }


def _print(watches: Sequence[Watch], lost: Sequence[Range], *, begun: bool) -> None:
    console = Console(highlight=False)
    table = Table(box=None, pad_edge=False)
    for heading in ("unit", "checked", "damaged", "repaired", "still damaged"):
        table.add_column(heading)
    for watch in watches:
        told, number = watch.told, str(watch.unit.unit)
        if told is None or watch.silent:
            table.add_row(number, "does not answer", "", "", "")
            continue
        size = f"{told.bytes_done / 1e6:,.1f} MB"
        checked = size if watch.checked else "begun" if begun else f"{size}, not all"
        left = f"{told.left:,}{_listed(told)}" + (" and what cannot be named" * told.doubt)
        table.add_row(number, checked, f"{told.damaged:,}", f"{told.repaired:,}", left)
    console.print(table)
    for each in lost:
        console.print(f"lost: {lost_text(each.start, each.end)}", style="red")
    if not begun and _status(watches, lost) is Status.OK:
        console.print("all is sound", style="green")


def _listed(told: ScrubIs) -> str:
    if not told.left:
        return ""
    shown = ", ".join(map(str, told.offsets[:5]))
    return f" (offsets {shown}{', ...' if told.left > 5 else ''})"


def _status(watches: Sequence[Watch], lost: Sequence[Range]) -> Status:
    if any(watch.silent for watch in watches):
        return Status.UNAVAILABLE
    damaged = any(not watch.sound for watch in watches)
    return Status.NO if damaged or lost else Status.OK
