"""`corfu trim`: deletes a prefix, and says what that freed."""

from __future__ import annotations

import json

import click

import corfu
from corfu.messages import StatusIs, TrimReached
from corfu.types import Offset

from .asking import ask_health
from .connection import cluster_option, output_option, run, timeout_option
from .data import OFFSET, OffsetCommand
from .failure import CommandError, Status
from .status import STATUS_TIMEOUT_S
from .tables import counted, mebibytes


@click.command(
    cls=OffsetCommand,
    epilog="""\
\b
Examples:
  corfu trim 1000                  entries 0 to 999 are gone
  corfu trim 1000 --dry-run        how far it would go; changes nothing
  corfu trim 1000 -o json

Units free whole journal files (32 MiB) once all in them is trimmed, so a small trim may free none.
"at least" is said if a unit goes on freeing, or was not there to be asked.
""",
)
@click.argument("offset", type=OFFSET)
@click.option("--dry-run", is_flag=True, help="Say how far it would go, and change nothing.")
@cluster_option
@timeout_option
@output_option
def trim(offset: int, dry_run: bool, cluster: str, timeout: float, output: str) -> None:
    """Delete every entry below OFFSET, for ever; say what that freed.

    The trim mark goes no higher than the tail, and never back.
    """
    if dry_run:
        status = run(ask_health(cluster, min(timeout, STATUS_TIMEOUT_S))).best
        before, mark = planned(status, Offset(offset))
        told: dict[str, object] = {"dry_run": True, "mark_before": before, "mark": mark}
        sentence = plan_sentence(before, mark)
    else:
        reached = run(_trim(cluster, Offset(offset), timeout))
        told, sentence = as_json(reached), reached_sentence(reached)
    click.echo(json.dumps(told) if output == "json" else sentence)


async def _trim(cluster: str, offset: Offset, timeout_s: float) -> TrimReached:
    async with corfu.connect(cluster, timeout=timeout_s) as log:
        return await log.trim_counting(offset)


def planned(status: StatusIs, offset: Offset) -> tuple[Offset, Offset]:
    """Return the trim mark now, and where a trim would bring it, by the leader's own word.

    Raises:
        CommandError: No leader answered: only it knows the tail.
    """
    if status.tail is None:
        raise CommandError("no replica leads, so nobody knows the tail", Status.UNAVAILABLE)
    return status.trim_mark, max(status.trim_mark, min(offset, status.tail))


def plan_sentence(before: Offset, mark: Offset) -> str:
    """Say what a trim would do."""
    if mark == before:
        return f"would change nothing: trimmed below {before:,} already"
    return (
        f"would trim below {mark:,} (now below {before:,}): {counted(mark - before, 'offset')}, "
        "holes and junk included"
    )


def as_json(reached: TrimReached) -> dict[str, object]:
    """Return what `-o json` prints."""
    return {
        "dry_run": False,
        "mark_before": reached.mark_before,
        "mark": reached.mark,
        "freed_files": reached.freed_files,
        "freed_bytes": reached.freed_bytes,
        "units": reached.units,
        "at_least": reached.at_least,
    }


def reached_sentence(reached: TrimReached) -> str:
    """Say what a trim did."""
    least = "at least " if reached.at_least else ""
    return (
        f"trimmed below {reached.mark:,}: freed {least}"
        f"{counted(reached.freed_files, 'journal file')} ({mebibytes(reached.freed_bytes)}) "
        f"on {counted(reached.units, 'unit')}"
    )
