"""`corfu bench follow`: from an append in one process to its delivery in another."""

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

INFLIGHT = 64

EPILOG = f"""\
\b
Examples:
  corfu bench follow                        one append after the other, one follower
  corfu bench follow --rate 2000            2,000 appends a second, however long each takes
  corfu bench follow --clients 4 --sync os  four followers

Each record carries the moment in which `append` was called; a follower, in a process of its own on
the same machine, takes the time again when it gets the record. `append` in the table is what the
producer waited for its acknowledgement; the ratio compares the two medians.

{STATUS_HELP}"""


@click.command(epilog=EPILOG)
@size_option(least=STAMPED_BYTES_MIN)
@clients_option("Followers, each a process.")
@rate_option
@inflight_option("With --rate: appends under way at most; what waits for that is late.", INFLIGHT)
@set_option
@span_options
@target_options
def follow(output: str, plot: Path | None, **given: Any) -> None:
    """Measure how soon a follower has what was appended."""
    wanted = wanted_of(given)
    chosen = given["set"] = parse_settings(given.pop("chosen"))
    if not given["rate"]:
        given["inflight"] = 1
    plan = plan_of("follow", given)

    async def work(found: Target, say: Say) -> Outcome:
        tag = secrets.token_hex(TAG_BYTES)
        appending = Assignment(
            kind=Kind.APPEND,
            cluster=found.cluster,
            size=given["size"],
            inflight=given["inflight"],
            rate=given["rate"],
            settings=chosen,
            tag=tag,
        )
        following = Assignment(kind=Kind.FOLLOW, cluster=found.cluster, tag=tag, settings=chosen)
        followers = [("follower", following)] * given["clients"]
        outcome = await measure(plan, found, [("producer", appending), *followers], say)
        return with_delay_ratio(outcome)

    finish(wanted, work, output, plot)


def with_delay_ratio(outcome: Outcome) -> Outcome:
    """Return an outcome that tells how the follower's median compares with the append's."""
    rows = {row.what: row.latency for row in outcome.figures}
    append, delivered = rows["append"], rows["follow"]
    if not (append.count and delivered.count):
        return outcome
    ratio = delivered.percentile(50) / append.percentile(50)
    return replace(outcome, ratios={"follow p50 / append p50": ratio})
