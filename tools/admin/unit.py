"""`corfu unit`: taking storage units out of use, and putting others in their place."""

from __future__ import annotations

import click

from corfu.goals import GoalKind

from .acting import GOAL_HELP, Wishes, act, goal_options, new_goal

_ID = click.IntRange(0)


@click.group(
    epilog="""\
\b
Examples:
  corfu unit drain 3               bring what unit 3 holds to others
  corfu unit replace 3 7           the same, and unit 7 takes its place
"""
)
def unit() -> None:
    """Take storage units out of use, or put others in their place."""


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
