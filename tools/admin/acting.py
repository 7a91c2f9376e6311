"""What the commands that state a goal share: the plan first, then the act, then the wait."""

from __future__ import annotations

import contextlib
import json
import os
import random
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import TypeVar

import click
from rich.console import Console

from corfu.addresses import parse_addresses
from corfu.client.cluster import Cluster
from corfu.client.settings import ClientSettings
from corfu.goals import Goal, GoalKind, GoalRecord, GoalStatus
from corfu.messages import GoalIs, StatusIs
from corfu.tools.asking import asking
from corfu.tools.connection import cluster_option, output_option, run, timeout_option
from corfu.tools.failure import CommandError, Status
from corfu.types import ClusterId, GoalId, UnitId

from .goal_text import goal_as_json, progress
from .goals import newest_status, set_goal, watch

Command = TypeVar("Command", bound=Callable[..., object])

PATIENCE_S = 30.0
"""So long a wait goes on though no replica answers: elections take less."""

GOAL_HELP = """\
Exit status: 0 done (of a dry run: it can be done), 1 refused, or lifted by somebody, 2 wrong usage,
3 no leader answers and nothing was done, 4 no leader answers and it may have been asked for."""


@dataclass(frozen=True, slots=True)
class Wishes:
    """How a command that states a goal is to go about it."""

    cluster: str
    timeout: float
    dry_run: bool
    undo: bool
    no_wait: bool
    output: str

    @property
    def json(self) -> bool:
        """Whether to print one JSON object, and nothing else."""
        return self.output == "json"


def goal_options(command: Command) -> Command:
    """Add the options of every command that states a goal."""
    options = (
        cluster_option,
        timeout_option,
        click.option("--dry-run", is_flag=True, help="Print the plan, and do nothing."),
        click.option("--no-wait", is_flag=True, help="Return once the cluster has it as its goal."),
        output_option,
    )
    for option in reversed(options):
        command = option(command)
    return command


def new_goal(kind: GoalKind, *units: int) -> Goal:
    """Return a goal of our own."""
    return Goal(GoalId(os.urandom(16)), kind, tuple(UnitId(id_) for id_ in units))


def act(goal: Goal, wishes: Wishes, confirm: Callable[[], None] = lambda: None) -> None:
    """Print the plan of a goal, carry it out, and wait for its end; raises what went wrong."""
    plan = run(_ask(goal, wishes, dry_run=True))
    if not plan.accepted:
        _refuse(plan, wishes)
    if not wishes.json:
        _print_plan(goal, plan, wishes)
    if wishes.dry_run:
        _report(plan, wishes)
        return
    if plan.record is None or wishes.undo:
        confirm()
        plan = _state(goal, wishes)
        if not plan.accepted:
            _refuse(plan, wishes)
    record = plan.record
    assert record is not None
    if record.status is GoalStatus.ACTIVE and not (wishes.no_wait or wishes.undo):
        record = _wait(record, wishes)
    _report(plan, wishes, record)
    if record.status is GoalStatus.CANCELLED and not wishes.undo:
        raise CommandError(f"{record.goal}: called off: {record.detail}", Status.NO)


@contextlib.asynccontextmanager
async def opened(wishes: Wishes) -> AsyncIterator[Cluster]:
    """Yield the way to the replicas, with a first layout."""
    replicas = parse_addresses(wishes.cluster)
    async with asking(replicas) as asker:

        def learn(cluster: ClusterId) -> None:
            asker.driver.link.cluster = cluster

        rng = random.Random()  # noqa: S311 - jitter
        cluster = Cluster(asker.driver, ClientSettings(), rng, replicas, learn)
        try:
            await cluster.open(wishes.timeout)
            yield cluster
        finally:
            cluster.close()


async def _ask(goal: Goal, wishes: Wishes, *, dry_run: bool) -> GoalIs:
    async with opened(wishes) as cluster:
        return await set_goal(cluster, goal, wishes.timeout, dry_run=dry_run, undo=wishes.undo)


def wanted_replicas(wishes: Wishes) -> int:
    """Return how many units a chain is to have."""

    async def ask() -> int:
        async with opened(wishes) as cluster:
            status = await newest_status(cluster)
            if status is None:
                raise CommandError("no replica answers", Status.UNAVAILABLE)
            return status.wanted_replicas

    return run(ask())


def _state(goal: Goal, wishes: Wishes) -> GoalIs:
    try:
        return run(_ask(goal, wishes, dry_run=False))
    except KeyboardInterrupt:
        click.echo(
            f"the {goal} may have been asked for; `corfu status` shows whether it was, "
            "and the same command waits for it",
            err=True,
        )
        raise


def _wait(record: GoalRecord, wishes: Wishes) -> GoalRecord:
    console = Console(stderr=True)
    shown = console.status("...") if console.is_terminal and not wishes.json else None

    def tell(status: StatusIs) -> None:
        if shown is not None:
            shown.update(f"{record.goal}: {progress(status)}")

    async def wait() -> GoalRecord:
        async with opened(wishes) as cluster:
            return await watch(cluster, record.goal.id, tell, PATIENCE_S)

    try:
        with shown or contextlib.nullcontext():
            return run(wait())
    except KeyboardInterrupt:
        click.echo(
            f"the cluster goes on with the {record.goal}; `corfu status` shows how far it is, "
            "the same command waits again, and --undo lifts it where that is possible",
            err=True,
        )
        raise


def _print_plan(goal: Goal, plan: GoalIs, wishes: Wishes) -> None:
    record = plan.record
    if wishes.undo:
        click.echo("plan:")
    elif record is None:
        click.echo(f"plan for the {goal}:")
    elif record.status is GoalStatus.ACTIVE:
        click.echo(f"the {record.goal} is under way; what is left:")
    else:
        return
    for number, step in enumerate(plan.steps, 1):
        click.echo(f"  {number}. {step}")


def _refuse(plan: GoalIs, wishes: Wishes) -> None:
    if wishes.json:
        click.echo(json.dumps(_as_json(plan, None), indent=2))
    raise CommandError(f"refused: {plan.reason}", Status.NO)


def _report(plan: GoalIs, wishes: Wishes, record: GoalRecord | None = None) -> None:
    if wishes.json:
        click.echo(json.dumps(_as_json(plan, record), indent=2))
    elif record is not None:
        click.echo(
            {
                GoalStatus.ACTIVE: f"the {record.goal} is under way",
                GoalStatus.DONE: f"done: the {record.goal} ({record.detail})",
                GoalStatus.CANCELLED: f"lifted: the {record.goal}",
            }[record.status]
        )


def _as_json(plan: GoalIs, record: GoalRecord | None) -> dict[str, object]:
    return {
        "accepted": plan.accepted,
        "reason": plan.reason or None,
        "steps": list(plan.steps),
        "goal": None if record is None else goal_as_json(record),
    }
