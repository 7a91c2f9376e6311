"""`corfu bench append`: how many records a second, and how long each takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from corfu.tools.failure import STATUS_HELP

from .assignment import Assignment, Kind
from .client_options import parse_settings
from .options import (
    clients_option,
    finish,
    inflight_option,
    rate_option,
    set_option,
    size_option,
    span_options,
    target_options,
    wanted_of,
)
from .outcome import Outcome
from .run import Say, measure, plan_of
from .target import Target

INFLIGHT = 4096

EPILOG = f"""\
\b
Examples:
  corfu bench append                              1 KiB records, one producer, as fast as it goes
  corfu bench append --serial --sync os           how long one append takes
  corfu bench append --size 100 --clients 4       four producers, each a process of its own
  corfu bench append --rate 5000                  how long each takes at 5,000 a second
  corfu bench append --chains 4 --plot append.svg
  corfu bench append --cluster 10.0.0.1:9700,10.0.0.2:9700 -o json

Each client is one Python process with one connection. It keeps --inflight calls of `log.append`
under way, each with one record of random bytes that was made before the clock started. What ends
within the span counts; CPU is that of all processes of a role in the span, for one record.

{STATUS_HELP}"""


@click.command(epilog=EPILOG)
@size_option()
@clients_option("Producers, each a process.")
@inflight_option("Appends that each client keeps under way.", INFLIGHT)
@rate_option
@click.option("--serial", is_flag=True, help="One append at a time: as --inflight 1.")
@click.option(
    "--batch",
    type=click.IntRange(1, 100_000),
    default=1,
    show_default=True,
    metavar="N",
    help="Records in each call: above 1 by `append_many`.",
)
@set_option
@span_options
@target_options
def append(
    serial: bool,
    batch: int,
    output: str,
    plot: Path | None,
    **given: Any,
) -> None:
    """Append records as fast as they are acknowledged."""
    wanted = wanted_of(given)
    chosen = given["set"] = parse_settings(given.pop("chosen"))
    if serial:
        given["inflight"] = 1
    plan = plan_of("append", {**given, "batch": batch})

    async def work(found: Target, say: Say) -> Outcome:
        assignment = Assignment(
            kind=Kind.APPEND,
            cluster=found.cluster,
            size=given["size"],
            inflight=given["inflight"],
            batch=batch,
            rate=given["rate"],
            settings=chosen,
        )
        clients = [("client", assignment)] * given["clients"]
        return await measure(plan, found, clients, say)

    finish(wanted, work, output, plot)
