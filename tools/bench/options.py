"""The options that the commands of `corfu bench` share, and how each of them ends."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import click
from rich.console import Console

from corfu.tools.connection import run
from corfu.tools.failure import CommandError, Status
from corfu.tools.tables import table_console
from corfu.types import SyncMode

from .outcome import Outcome
from .plot import write_plot
from .run import Say
from .target import Target, Wanted, target

Command = TypeVar("Command", bound=Callable[..., object])

Work = Callable[[Target, Say], Coroutine[Any, Any, Outcome]]
"""What is done with the cluster."""

SIZE_MAX = 1_000_000
"""Bytes of one record: an entry has 1 MiB, and its head."""


def _all(*options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    def add(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return add


def target_options(command: Command) -> Command:
    """Add the options that say which cluster is measured."""
    return _all(
        click.option(
            "--cluster",
            metavar="HOST:PORT,...",
            help="A cluster that runs (CORFU_CLUSTER is not looked at: no load falls upon a log in "
            "service by mistake).  [one of its own, removed afterwards]",
        ),
        click.option("--sequencers", type=int, metavar="N", help="Replicas of its own cluster: "
                     "1, 3 or 5.  [default: 3]"),
        click.option("--chains", type=int, metavar="N", help="Its chains.  [default: 2]"),
        click.option("--replicas", type=int, metavar="N", help="Units in each of its chains.  "
                     "[default: 3]"),
        click.option(
            "--sync",
            type=click.Choice([mode.value for mode in SyncMode]),
            help="What an acknowledged append has reached: fsynced disks, or page caches (os).  "
            "[default: always]",
        ),
        click.option(
            "--data",
            type=click.Path(path_type=Path, file_okay=False, exists=True),
            metavar="DIR",
            help="Where the folder of its own cluster is made.  [that of temporary files]",
        ),
    )(command)  # fmt: skip


def span_options(command: Command) -> Command:
    """Add the options that say how long it is measured, and where the result goes."""
    return _all(
        click.option(
            "--seconds",
            type=click.FloatRange(min=0.1),
            default=10.0,
            show_default=True,
            metavar="N",
            help="How long is measured.",
        ),
        click.option(
            "--warmup",
            type=click.FloatRange(min=0),
            default=2.0,
            show_default=True,
            metavar="N",
            help="Seconds of the same work before, not counted.",
        ),
        result_options,
    )(command)


def result_options(command: Command) -> Command:
    """Add the options that say where the result goes."""
    return _all(
        click.option(
            "-o",
            "--output",
            type=click.Choice(["text", "json"]),
            default="text",
            show_default=True,
            help="How to print the result.",
        ),
        click.option(
            "--plot",
            type=click.Path(path_type=Path, dir_okay=False),
            metavar="FILE.svg",
            help="Draw rates over time, and latencies by percentile.",
        ),
    )(command)


def size_option(default: int = 1024, least: int = 1) -> Callable[[Command], Command]:
    """Return what adds `--size`."""
    return click.option(
        "--size",
        type=click.IntRange(least, SIZE_MAX),
        default=default,
        show_default=True,
        metavar="BYTES",
        help="Length of each record, random bytes.",
    )


def clients_option(text: str, default: int = 1) -> Callable[[Command], Command]:
    """Return what adds `--clients`."""
    return click.option(
        "--clients",
        type=click.IntRange(1, 256),
        default=default,
        show_default=True,
        metavar="N",
        help=text,
    )


def inflight_option(text: str, default: int) -> Callable[[Command], Command]:
    """Return what adds `--inflight`."""
    return click.option(
        "--inflight",
        type=click.IntRange(1, 1_000_000),
        default=default,
        show_default=True,
        metavar="N",
        help=text,
    )


def rate_option(command: Command) -> Command:
    """Add `--rate`."""
    return click.option(
        "--rate",
        type=click.FloatRange(min=0),
        default=0.0,
        show_default=True,
        metavar="N",
        help="Calls a second of each producer, however long each takes (as far as --inflight "
        "lets it); 0: the next one as soon as one is acknowledged.",
    )(command)


def set_option(command: Command) -> Command:
    """Add `--set`, as `chosen`."""
    return click.option(
        "--set",
        "chosen",
        multiple=True,
        metavar="NAME=VALUE",
        help="A setting of the clients, such as entry_bytes_target=30000; may be given again.",
    )(command)


def wanted_of(given: dict[str, Any]) -> Wanted:
    """Take the options of `target_options` out of `given`.

    Raises:
        CommandError: A cluster was named and another one described.
    """
    names = ("sequencers", "chains", "replicas", "sync", "data")
    described = {name: value for name in names if (value := given.pop(name)) is not None}
    cluster = given.pop("cluster")
    if cluster is not None and described:
        option = "--" + next(iter(described))
        raise CommandError(f"{option} says how to make a cluster: not with --cluster", Status.USAGE)
    if "sync" in described:
        described["sync"] = SyncMode(described["sync"])
    parent = described.pop("data", None)
    return Wanted(cluster=cluster, parent=parent, **described)


def finish(wanted: Wanted, work: Work, output: str, plot: Path | None) -> None:
    """Provide the cluster, run a benchmark on it, print what it came to, and exit.

    Exit status 1 if anything failed meanwhile, 130 if Ctrl-C ended it early.
    """

    async def measuring(say: Say) -> Outcome:
        async with target(wanted, say) as found:
            return await work(found, say)

    conclude(measuring, output, plot)


def conclude(
    measuring: Callable[[Say], Coroutine[Any, Any, Outcome]], output: str, plot: Path | None
) -> None:
    """Run a benchmark, print what it came to, and exit; see `finish`."""
    if plot is not None:
        # Not found out only after an hour.
        plot.open("w").close()
    with Console(stderr=True).status("", refresh_per_second=4) as status:
        outcome = run(measuring(status.update))
    if output == "json":
        click.echo(json.dumps(outcome.as_json(), indent=2))
    else:
        outcome.show(table_console())
    if plot is not None:
        write_plot(plot, outcome)
    if outcome.errors:
        sys.exit(Status.NO)
    sys.exit(Status.INTERRUPTED if outcome.interrupted else Status.OK)
