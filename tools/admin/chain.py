"""`corfu chain`: more chains for the log, and giving one up whose disks are gone."""

from __future__ import annotations

import click

from corfu.goals import GoalKind
from corfu.tools.failure import CommandError, Status

from .acting import GOAL_HELP, Wishes, act, goal_options, new_goal, wanted_replicas

_ID = click.IntRange(0)


@click.group(
    epilog="""\
\b
Examples:
  corfu chain add 7 8 9            one more chain, of these spares
  corfu chain abandon 4 5 6        their disks are gone: what they held is lost
"""
)
def chain() -> None:
    """Add a chain of units to the log, or give one up whose disks are gone."""


@chain.command(
    short_help="Spread new entries over one more chain.",
    epilog=f"""\
\b
Examples:
  corfu chain add 7 8 9 --dry-run
  corfu chain add 7 8 9            entries go to one more chain from now on

{GOAL_HELP}
""",
)
@click.argument("units", type=_ID, nargs=-1, required=True, metavar="UNIT...")
@click.option("--force", is_flag=True, help="Also with fewer units than the other chains have.")
@click.option("--undo", is_flag=True, help="Want the chain no more, while it is not there yet.")
@goal_options
def add(
    units: tuple[int, ...],
    force: bool,
    undo: bool,
    cluster: str,
    timeout: float,
    dry_run: bool,
    no_wait: bool,
    output: str,
) -> None:
    """Spread new entries over one more chain, made of these spares.

    Entries that are there stay where they are. The first unit named becomes the head, the last one
    answers reads.
    """
    wishes = Wishes(cluster, timeout, dry_run, undo, no_wait, output)
    wanted = len(units) if force or undo else wanted_replicas(wishes)
    if len(units) < wanted:
        raise CommandError(
            f"refused: a chain has {wanted} units here; with --force also fewer", Status.NO
        )
    act(new_goal(GoalKind.ADD_CHAIN, *units), wishes)


@chain.command(
    short_help="Give up a chain whose disks are gone.",
    epilog=f"""\
\b
Examples:
  corfu chain abandon 4 5 6 --dry-run     which offsets would be lost
  corfu chain abandon 4 5 6               asks for the ids once more
  corfu chain abandon 4 5 6 --yes

{GOAL_HELP}
""",
)
@click.argument("units", type=_ID, nargs=-1, required=True, metavar="UNIT...")
@click.option("--yes", is_flag=True, help="The units are off and their disks gone: do not ask.")
@goal_options
def abandon(
    units: tuple[int, ...],
    yes: bool,
    cluster: str,
    timeout: float,
    dry_run: bool,
    no_wait: bool,
    output: str,
) -> None:
    """Give up what these units alone held: their disks are gone.

    For a chain of which no unit will ever come back. Its entries read as LOST from then on, and
    the log goes on over the other chains, or over spares. You vouch that the units are off: one
    that still serves a client would not know that it is given up. They come back only formatted.
    """
    named = " ".join(map(str, units))

    def confirm() -> None:
        if yes:
            return
        try:
            said = click.prompt(
                f"What they held is LOST for ever. To confirm that the units are off and will not "
                f"come back, type their ids ({named})",
                err=True,
                default="",
                show_default=False,
            )
        except click.Abort as aborted:
            if isinstance(aborted.__context__, KeyboardInterrupt):
                raise KeyboardInterrupt from None
            said = ""
        if str(said).split() != named.split():
            raise CommandError("not confirmed: nothing was done", Status.NO)

    wishes = Wishes(cluster, timeout, dry_run, False, no_wait, output)
    act(new_goal(GoalKind.ABANDON_CHAIN, *units), wishes, confirm)
