"""`corfu dev`: a whole cluster as local processes, for as long as the command runs."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import click

from corfu.types import SyncMode

from .cluster import LocalCluster, Shape, open_cluster
from .failure import CommandError, Status
from .processes import ending, last_line

DEFAULT_FOLDER = Path("corfu-dev")
COMMAND_INTERRUPT_S = 3.0
"""Ctrl-C reaches the command from the terminal too: it has this long to end by itself."""
COMMAND_TERMINATE_S = 5.0
WATCH_S = 0.1

EPILOG = """\
\b
Examples:
  corfu dev                               3 replicas, 2 chains of 3 units, data in ./corfu-dev
  corfu dev --data /tmp/log --sync os     faster: acknowledged from the page cache
  corfu dev --spares 2                    a dead unit's place is taken without your doing
  corfu dev --sequencers 1 --chains 1 --replicas 1
  corfu dev -- python my_program.py       run a program with CORFU_CLUSTER set, then stop

Ctrl-C (or SIGTERM) stops every process in order and exits with 0. With a COMMAND the exit status
is the command's (128 + the signal that ended it). A second run on the same folder continues with
its data. DIR/cluster.json tells each process's id, address, folder, pid and command line; the
output of each goes to DIR/<role>-<id>.log.
"""


@click.command(epilog=EPILOG)
@click.option(
    "--data",
    "folder",
    type=click.Path(path_type=Path, file_okay=True),
    default=DEFAULT_FOLDER,
    show_default=True,
    metavar="DIR",
    help="Folder of the cluster; made if it is not there.",
)
@click.option(
    "--base-port",
    type=click.IntRange(1, 65535),
    metavar="N",
    help="First UDP port: replicas, then units, listen from here on.  [default: 9700]",
)
@click.option("--sequencers", type=int, metavar="N", help="Replicas: 1, 3 or 5.  [default: 3]")
@click.option("--chains", type=int, metavar="N", help="Chains.  [default: 2]")
@click.option("--replicas", type=int, metavar="N", help="Units in each chain.  [default: 3]")
@click.option(
    "--spares",
    type=int,
    metavar="N",
    help="Units that take the place of those that fail.  [default: 0]",
)
@click.option(
    "--sync",
    type=click.Choice([mode.value for mode in SyncMode]),
    help="What an acknowledged append has reached: fsynced disks, or page caches (os).  "
    "[default: always]",
)
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
def dev(
    folder: Path,
    base_port: int | None,
    sequencers: int | None,
    chains: int | None,
    replicas: int | None,
    spares: int | None,
    sync: str | None,
    command: tuple[str, ...],
) -> None:
    """Run a development cluster of local processes, until Ctrl-C or until COMMAND ends."""
    asked: dict[str, object] = {
        "base_port": base_port,
        "sequencers": sequencers,
        "chains": chains,
        "replicas": replicas,
        "spares": spares,
        "sync": None if sync is None else SyncMode(sync),
    }
    if command and shutil.which(command[0]) is None:
        raise CommandError(f"cannot run {command[0]}: there is no such command", Status.USAGE)
    cluster = open_cluster(folder.absolute(), lambda known: _shape(folder, known, _given(asked)))
    try:
        status = asyncio.run(_run(cluster, command))
    finally:
        cluster.close()
    sys.exit(status)


def _given(asked: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in asked.items() if value is not None}


def _shape(folder: Path, known: Shape | None, given: dict[str, object]) -> Shape:
    """Return the shape to run with: what is there decides, and what was asked for must fit."""
    if known is None:
        return Shape(**given)  # type: ignore[arg-type]
    for name, value in given.items():
        there = getattr(known, name)
        if there != value:
            option = "--" + name.replace("_", "-")
            raise CommandError(
                f"{folder} holds a cluster made with {option} {there}: "
                f"{option} {value} needs another --data",
                Status.USAGE,
            )
    return known


async def _run(cluster: LocalCluster, command: tuple[str, ...]) -> int:
    """Run the cluster until a signal comes or `command` ends; returns the exit status."""
    stopped: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, _stop_once, stopped, number)
    work = asyncio.create_task(_serve(cluster, command, stopped))
    try:
        # While it starts a signal just ends it; from then on `_serve` looks at `stopped` itself.
        return await work
    finally:
        for process in await cluster.stop():
            click.echo(f"{process.program.name} did not stop and was killed", err=True)


def _stop_once(stopped: asyncio.Future[int], number: signal.Signals) -> None:
    if not stopped.done():
        stopped.set_result(number)


async def _serve(
    cluster: LocalCluster, command: tuple[str, ...], stopped: asyncio.Future[int]
) -> int:
    watching = asyncio.create_task(_watch(cluster))
    try:
        return await _start_and_run(cluster, command, stopped)
    finally:
        watching.cancel()


async def _start_and_run(
    cluster: LocalCluster, command: tuple[str, ...], stopped: asyncio.Future[int]
) -> int:
    starting = asyncio.create_task(_start(cluster))
    await asyncio.wait({starting, stopped}, return_when=asyncio.FIRST_COMPLETED)
    if not starting.done():
        starting.cancel()
        await asyncio.wait({starting})
        return 128 + stopped.result() if command else 0
    starting.result()
    _announce(cluster, quiet=bool(command))
    if command:
        return await _run_command(cluster, command, stopped)
    await stopped
    return Status.OK


async def _start(cluster: LocalCluster) -> int:
    await cluster.start()
    await cluster.serving()
    return Status.OK


def _announce(cluster: LocalCluster, *, quiet: bool) -> None:
    shape = cluster.shape
    spares = f" and {shape.spares} spares" if shape.spares else ""
    # A command's own output must stay alone on stdout.
    click.echo(
        f"cluster {cluster.cluster}: {shape.sequencers} replicas, {shape.chains} chains of "
        f"{shape.replicas} units{spares}, sync {shape.sync}, data in {cluster.folder}",
        err=quiet,
    )
    if not quiet:
        click.echo(f"export CORFU_CLUSTER={cluster.cluster}")
        click.echo("Ctrl-C stops it")


async def _watch(cluster: LocalCluster) -> None:
    """Report each process that ends by itself; nothing is restarted."""
    while True:
        for process in cluster.deaths():
            status = process.status
            assert status is not None
            said = f": {last_line(process.output())}" if status > 0 else ""
            click.echo(
                f"{process.program.name} (pid {process.pid}) {ending(status)}{said}", err=True
            )
        await asyncio.sleep(WATCH_S)


async def _run_command(
    cluster: LocalCluster, command: tuple[str, ...], stopped: asyncio.Future[int]
) -> int:
    """Run the command to its end, or until we are told to stop; returns its exit status."""
    try:
        popen = _spawn(command, {**os.environ, "CORFU_CLUSTER": cluster.cluster})
    except OSError as error:
        raise CommandError(f"cannot run {command[0]}: {error.strerror}", Status.USAGE) from error
    ending_ = asyncio.create_task(_wait(popen))
    try:
        await asyncio.wait({ending_, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if not ending_.done() and stopped.result() == signal.SIGINT:
            await asyncio.wait({ending_}, timeout=COMMAND_INTERRUPT_S)
        if not ending_.done():
            popen.terminate()
            await asyncio.wait({ending_}, timeout=COMMAND_TERMINATE_S)
    finally:
        if popen.poll() is None:
            popen.kill()
    status = await ending_
    return status if status >= 0 else 128 - status


def _spawn(command: tuple[str, ...], environment: dict[str, str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command, env=environment)  # noqa: S603 - the user's own command


async def _wait(popen: subprocess.Popen[bytes]) -> int:
    while (status := popen.poll()) is None:  # noqa: ASYNC110 - a process sets no event
        await asyncio.sleep(0.02)
    return status
