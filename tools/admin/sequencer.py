"""`corfu sequencer`: the replicas that own the configuration: looking at them, changing them."""

from __future__ import annotations

import asyncio
import json
import os
from dataclasses import dataclass

import click

from corfu.addresses import parse_addresses
from corfu.errors import UsageError
from corfu.goals import Goal, GoalKind
from corfu.layout import Replica
from corfu.messages import ReplicaRole, ReplicaStatus, StatusIs, Transfer
from corfu.tools.asking import ask_health, ask_replicas, asking
from corfu.tools.connection import cluster_option, output_option, run, timeout_option
from corfu.tools.failure import CommandError, Status
from corfu.tools.health import Health, leader_of
from corfu.tools.status import STATUS_TIMEOUT_S
from corfu.tools.tables import plain_table, short, table_console
from corfu.types import Address, Epoch, GoalId, ReplicaId, Slot

from .acting import GOAL_HELP, Wishes, act, goal_options

_TRANSFER_ASK_S = 0.5
_TRANSFER_LOOK_S = 0.1

_ROLES = {
    ReplicaRole.LEADS: "leads",
    ReplicaRole.FOLLOWS: "follows",
    ReplicaRole.ELECTING: "electing",
    ReplicaRole.IN_DOUBT: "in doubt",
}


class AddressType(click.ParamType[Address]):
    """One HOST:PORT."""

    name = "address"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> Address:
        """Parse what the user typed."""
        try:
            (address,) = parse_addresses(str(value))
        except (UsageError, ValueError):
            self.fail(f"{value!r} is no address (such as 10.0.0.4:9700)", param, ctx)
        return address


@click.group(
    epilog="""\
\b
Examples:
  corfu sequencer status                     who leads, how far each has come
  corfu sequencer transfer 2                 have replica 2 lead
  corfu sequencer replace 3 10.0.0.4:9700    the replica at that address takes the place of 3
"""
)
def sequencer() -> None:
    """Look at the sequencer's replicas, have another one lead, or replace one."""


@dataclass(frozen=True, slots=True)
class ReplicaLine:
    """One member of the group, and what it answered to us (None: it is down)."""

    member: ReplicaStatus
    answer: StatusIs | None
    role: str
    behind: int | None
    """How many chosen slots it has yet to apply."""


def lines_of(health: Health) -> tuple[ReplicaLine, ...]:
    """Return a line for each member, by what it says of itself.

    The folder counts, not only the id: what answers in the place of a member and is none of the
    group may say anything.
    """
    answers = {
        (replica.answer.replica, replica.answer.incarnation): replica.answer
        for replica in health.replicas
        if replica.answer is not None
    }
    chosen = max((answer.chosen_until for answer in answers.values()), default=Slot(0))
    lines: list[ReplicaLine] = []
    for member in health.best.replicas:
        answer = answers.get((member.replica, member.incarnation))
        behind = None if answer is None else chosen - answer.applied
        role = "down" if answer is None else _ROLES[answer.role]
        lines.append(ReplicaLine(member, answer, role, behind))
    return tuple(lines)


@sequencer.command(
    "status",
    epilog="""\
\b
Examples:
  corfu sequencer status
  corfu sequencer status -o json | python -m json.tool

Roles: leads, follows, electing (it asks for promises), in doubt (its journal may lack votes: it
votes for nobody until it has fetched what the others hold), down. "behind" counts chosen slots
that it has yet to apply.
""",
)
@cluster_option
@timeout_option
@output_option
def status(cluster: str, timeout: float, output: str) -> None:
    """Show each replica: its role, its ballot, and how far it has come."""
    health = run(ask_health(cluster, min(timeout, STATUS_TIMEOUT_S)))
    if output == "json":
        click.echo(json.dumps(as_json(health), indent=2))
    else:
        _print(health)


def as_json(health: Health) -> dict[str, object]:
    """Return what `-o json` prints."""
    leader = health.leader
    return {
        "leader": None if leader is None else leader.replica,
        "epoch": health.best.layout.epoch,
        "members": [member.replica for member in health.best.replicas],
        "majority": len(health.best.replicas) // 2 + 1,
        "replicas": [_line_json(line) for line in lines_of(health)],
    }


def _line_json(line: ReplicaLine) -> dict[str, object]:
    member, answer = line.member, line.answer
    told: dict[str, object] = {
        "id": member.replica,
        "incarnation": member.incarnation.hex(),
        "address": str(member.address),
        "role": line.role,
    }
    if answer is None:
        return told
    return told | {
        "grants": answer.granting,
        "votes": answer.votes,
        "ballot": [answer.ballot.round, answer.ballot.replica],
        "leader": answer.leader,
        "leader_heard_ms": answer.leader_heard_ms,
        "chosen": answer.chosen_until,
        "applied": answer.applied,
        "behind": line.behind,
        "snapshot": answer.snapshot,
    }


def _print(health: Health) -> None:
    console = table_console()
    lines = lines_of(health)
    up = sum(line.answer is not None for line in lines)
    leader = "none" if health.leader is None else f"replica {health.leader.replica}"
    console.print(
        f"leader: {leader}, epoch {health.best.layout.epoch}, {up} of {len(lines)} members answer "
        f"(a majority is {len(lines) // 2 + 1})",
        soft_wrap=True,
    )
    table = plain_table(
        *("replica", "incarnation", "address", "role", "ballot", "chosen", "applied", "behind"),
        *("snapshot", "hears"),
    )
    for line in lines:
        member, answer = line.member, line.answer
        row = [str(member.replica), short(member.incarnation), str(member.address), line.role]
        if answer is not None:
            row += [
                f"{answer.ballot.round}.{answer.ballot.replica}",
                str(answer.chosen_until),
                str(answer.applied),
                str(line.behind),
                str(answer.snapshot),
                _hears(answer.leader, answer.leader_heard_ms, member.replica),
            ]
        table.add_row(*row)
    console.print(table)
    for line in lines:
        if line.answer is not None and not line.answer.votes:
            console.print(f"replica {line.member.replica} does not vote", style="red")


def _hears(leader: ReplicaId | None, heard_ms: int | None, own: ReplicaId) -> str:
    if leader is None or heard_ms is None:
        return "nobody"
    return "itself" if leader == own else f"{leader}, {heard_ms} ms ago"


@sequencer.command(
    "replace",
    epilog=f"""\
\b
Examples:
  corfu-sequencer format /data/replica-4 --id 4 --join 10.0.0.1:9700,10.0.0.2:9700
  corfu-sequencer start /data/replica-4 --listen 10.0.0.4:9700
  corfu sequencer replace 3 10.0.0.4:9700 --dry-run
  corfu sequencer replace 3 10.0.0.4:9700

The new replica must run already, formatted with --join and an id that was never used. One is
replaced at a time. The old one, dead or alive, is a member no more: if it runs it ends by itself,
with status 4. Give clients and units that name the old address in their options the new one.

{GOAL_HELP}
""",
)
@click.argument("old", type=click.IntRange(1))
@click.argument("address", type=AddressType(), metavar="NEW-ADDRESS")
@click.option("--undo", is_flag=True, help="Leave it, as long as the new one is no member yet.")
@goal_options
def replace(
    old: int,
    address: Address,
    undo: bool,
    cluster: str,
    timeout: float,
    dry_run: bool,
    no_wait: bool,
    output: str,
) -> None:
    """Put the replica that runs at NEW-ADDRESS in the place of the replica OLD."""
    answer = run(_newcomer(address, min(timeout, STATUS_TIMEOUT_S)))
    new = Replica(answer.replica, answer.incarnation, address)
    goal = Goal(GoalId(os.urandom(16)), GoalKind.REPLACE_REPLICA, (), new, ReplicaId(old))
    act(goal, Wishes(cluster, timeout, dry_run, undo, no_wait, output))


async def _newcomer(address: Address, budget_s: float) -> StatusIs:
    answers = await ask_replicas((address,), budget_s)
    if not answers:
        raise CommandError(
            f"no replica answers at {address}: format one with --join and start it (see --help)",
            Status.UNAVAILABLE,
        )
    return answers[0]


@sequencer.command(
    "transfer",
    epilog="""\
\b
Examples:
  corfu sequencer transfer 2 --dry-run
  corfu sequencer transfer 2

The leader asks replica 2 to begin an election, and goes on until that one has won: appends pause
for one change of the epoch. Before you stop a leader's machine this is quicker than its death.

Exit status: 0 it leads (of a dry run: it can be asked), 1 refused, 2 wrong usage, 3 no leader
answers, 4 it was asked and does not lead in time.
""",
)
@click.argument("replica", type=click.IntRange(1))
@click.option("--dry-run", is_flag=True, help="Print the plan, and do nothing.")
@cluster_option
@timeout_option
@output_option
def transfer(replica: int, dry_run: bool, cluster: str, timeout: float, output: str) -> None:
    """Have REPLICA lead."""
    before, epoch = run(_transfer(cluster, ReplicaId(replica), timeout, dry_run=dry_run))
    if output == "json":
        told = {"leader_before": before, "leader": before if dry_run else replica, "epoch": epoch}
        click.echo(json.dumps(told, indent=2))
    elif before == replica:
        click.echo(f"replica {replica} leads already")
    elif dry_run:
        click.echo(f"plan: replica {before} asks replica {replica} to lead; a new epoch is made")
    else:
        click.echo(f"replica {replica} leads, epoch {epoch}; before it was {before}")


async def _transfer(
    cluster: str, to: ReplicaId, timeout_s: float, *, dry_run: bool
) -> tuple[ReplicaId, Epoch]:
    """Return who led before, and the epoch now.

    Raises:
        CommandError: It is no member, does not answer, or did not come to lead in time.
    """
    loop = asyncio.get_running_loop()
    until = loop.time() + timeout_s
    async with asking(parse_addresses(cluster)) as asker:
        health = await asker.health(cluster, min(timeout_s, STATUS_TIMEOUT_S))
        leader = health.leader
        if leader is None:
            raise CommandError("no replica leads", Status.UNAVAILABLE)
        before = leader.replica
        if before == to:
            return before, leader.layout.epoch
        line = next((each for each in lines_of(health) if each.member.replica == to), None)
        if line is None:
            raise CommandError(f"replica {to} is no member", Status.NO)
        if line.answer is None or not line.answer.votes:
            raise CommandError(f"replica {to} does not answer, or does not vote", Status.NO)
        if dry_run:
            return before, leader.layout.epoch
        while loop.time() < until:
            # Asked of each leader that there is on the way: another one may have been faster.
            if leader is not None and leader.replica == to:
                return before, leader.layout.epoch
            if leader is not None:
                at = leader.layout.replica(leader.replica).address
                await asker.ask(at, Transfer(asker.new_request(), to), _TRANSFER_ASK_S)
            await asyncio.sleep(_TRANSFER_LOOK_S)
            leader = leader_of(await asker.statuses(parse_addresses(cluster), _TRANSFER_ASK_S))
    raise CommandError(f"replica {to} does not lead after {timeout_s:g} s", Status.UNKNOWN)
