"""`corfu bench tokens`: how many grants a second one leader makes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from corfu.tools.failure import STATUS_HELP

from .assignment import Assignment, Kind
from .options import (
    clients_option,
    finish,
    inflight_option,
    span_options,
    target_options,
    wanted_of,
)
from .outcome import Outcome
from .run import Say, measure, plan_of
from .target import Target

EPILOG = f"""\
\b
Examples:
  corfu bench tokens                                64 clients, one request each at a time
  corfu bench tokens --clients 200 --processes 4
  corfu bench tokens --clients 8 --inflight 32      fewer clients, each with many requests

Each client has a socket of its own and asks for one token with each request, in the words of an
appending client; no entry follows. --processes spreads the clients. The offsets are holes that the
leader closes meanwhile, as it does when clients die: on a cluster in service, do not.

{STATUS_HELP}"""


@click.command(epilog=EPILOG)
@clients_option("Clients, each with a socket of its own.", 64)
@click.option(
    "--processes",
    type=click.IntRange(1, 64),
    default=2,
    show_default=True,
    metavar="N",
    help="Processes over which they are spread.",
)
@inflight_option("Requests that each client keeps under way.", 1)
@span_options
@target_options
def tokens(processes: int, output: str, plot: Path | None, **given: Any) -> None:
    """Ask the leader for tokens, one at a time."""
    wanted = wanted_of(given)
    settings = {**given, "processes": processes}
    plan = plan_of("tokens", settings)

    async def work(found: Target, say: Say) -> Outcome:
        clients = [
            (
                "client",
                Assignment(
                    kind=Kind.TOKENS,
                    cluster=found.cluster,
                    inflight=given["inflight"],
                    sessions=sessions,
                ),
            )
            for sessions in spread(given["clients"], processes)
        ]
        return await measure(plan, found, clients, say)

    finish(wanted, work, output, plot)


def spread(count: int, processes: int) -> list[int]:
    """Return how many of `count` each process has; nobody has none."""
    processes = min(processes, count)
    return [count // processes + (number < count % processes) for number in range(processes)]
