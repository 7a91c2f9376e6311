"""`corfu sequencer`: the replicas that own the configuration."""

from __future__ import annotations

import json
from dataclasses import dataclass

import click

from corfu.messages import ReplicaRole, ReplicaStatus, StatusIs
from corfu.tools.asking import ask_health
from corfu.tools.connection import cluster_option, output_option, run, timeout_option
from corfu.tools.health import Health
from corfu.tools.status import STATUS_TIMEOUT_S
from corfu.tools.tables import plain_table, short, table_console
from corfu.types import ReplicaId, Slot

_ROLES = {
    ReplicaRole.LEADS: "leads",
    ReplicaRole.FOLLOWS: "follows",
    ReplicaRole.ELECTING: "electing",
    ReplicaRole.IN_DOUBT: "in doubt",
}


@click.group(
    epilog="""\
\b
Examples:
  corfu sequencer status
  corfu sequencer status -o json
"""
)
def sequencer() -> None:
    """Look at the sequencer's replicas."""


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
