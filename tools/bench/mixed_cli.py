"""`corfu bench mixed`: producers, followers and readers side by side."""

from __future__ import annotations

import secrets
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from corfu.tools.failure import STATUS_HELP

from .assignment import STAMPED_BYTES_MIN, TAG_BYTES, Assignment, Kind
from .client_options import parse_settings
from .options import (
    clients_option,
    finish,
    inflight_option,
    set_option,
    size_option,
    span_options,
    target_options,
    wanted_of,
)
from .outcome import Outcome
from .read_cli import filling
from .run import Clients, Say, measure, plan_of, prepare
from .target import Target

INFLIGHT = 256
PREPARED_MEGABYTES = 4
"""So that the readers find something from the first moment on."""

EPILOG = f"""\
\b
Examples:
  corfu bench mixed                              one producer, one follower, one reader
  corfu bench mixed --clients 2 --followers 3 --readers 4 --inflight 32

A producer keeps --inflight appends under way, a follower gets every record, a reader reads one
entry after the other at random offsets. Each is a process. `append` is timed up to its
acknowledgement, `follow` from the append's call to the delivery, `read` for each entry. CPU is for
one record appended.

{STATUS_HELP}"""


@click.command(epilog=EPILOG)
@size_option(least=STAMPED_BYTES_MIN)
@clients_option("Producers, each a process.")
@inflight_option("Appends that each producer keeps under way.", INFLIGHT)
@click.option(
    "--followers",
    type=click.IntRange(0, 64),
    default=1,
    show_default=True,
    metavar="N",
    help="Processes that follow the log.",
)
@click.option(
    "--readers",
    type=click.IntRange(0, 64),
    default=1,
    show_default=True,
    metavar="N",
    help="Processes that read single entries.",
)
@set_option
@span_options
@target_options
def mixed(followers: int, readers: int, output: str, plot: Path | None, **given: Any) -> None:
    """Append, follow and read at the same time."""
    wanted = wanted_of(given)
    chosen = given["set"] = parse_settings(given.pop("chosen"))
    settings = {**given, "followers": followers, "readers": readers}
    plan = plan_of("mixed", settings)

    async def work(found: Target, say: Say) -> Outcome:
        first = filling(found, given["size"], PREPARED_MEGABYTES)
        await prepare(found, [("producer", first)], say)
        tag = secrets.token_hex(TAG_BYTES)
        producer = Assignment(
            kind=Kind.APPEND,
            cluster=found.cluster,
            size=given["size"],
            inflight=given["inflight"],
            tag=tag,
            settings=chosen,
        )
        follower = replace(producer, kind=Kind.FOLLOW)
        reader = replace(producer, kind=Kind.READ, inflight=1)
        clients: Clients = [
            *[("producer", producer)] * given["clients"],
            *[("follower", follower)] * followers,
            *[("reader", reader)] * readers,
        ]
        return await measure(plan, found, clients, say)

    finish(wanted, work, output, plot)
