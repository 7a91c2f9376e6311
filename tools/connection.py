"""What every command that talks to a cluster shares: its options, and running its coroutine."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import click

from .failure import Ended, Status

Command = TypeVar("Command", bound=Callable[..., object])
Result = TypeVar("Result")

TIMEOUT_S = 10.0


def cluster_option(command: Command) -> Command:
    """Add `--cluster`, which CORFU_CLUSTER stands in for."""
    return click.option(
        "--cluster",
        envvar="CORFU_CLUSTER",
        required=True,
        show_envvar=True,
        metavar="HOST:PORT,...",
        help="Addresses of the sequencer replicas.",
    )(command)


def timeout_option(command: Command) -> Command:
    """Add `--timeout`."""
    return click.option(
        "--timeout",
        type=click.FloatRange(min=0, min_open=True),
        default=TIMEOUT_S,
        show_default=True,
        metavar="SECONDS",
        help="Longest wait for one answer of the cluster.",
    )(command)


def output_option(command: Command) -> Command:
    """Add `-o`."""
    return click.option(
        "-o",
        "--output",
        type=click.Choice(["text", "json"]),
        default="text",
        show_default=True,
        help="How to print the result.",
    )(command)


def run(procedure: Coroutine[Any, Any, Result]) -> Result:
    """Run a command's coroutine; Ctrl-C and SIGTERM cancel it, and are raised once it has ended."""
    return asyncio.run(_terminable(procedure))


async def _terminable(procedure: Coroutine[Any, Any, Result]) -> Result:
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    terminated = False

    def terminate() -> None:
        nonlocal terminated
        terminated = True
        task.cancel()

    loop.add_signal_handler(signal.SIGTERM, terminate)
    try:
        return await procedure
    except asyncio.CancelledError:
        if not terminated:
            raise
        raise Ended(Status.TERMINATED) from None
    finally:
        loop.remove_signal_handler(signal.SIGTERM)
