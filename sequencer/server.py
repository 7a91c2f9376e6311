"""The `corfu-sequencer` command: writes a bootstrap, formats a data folder, runs a replica."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import random
import secrets
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from corfu import schema
from corfu.errors import CorfuError, CorruptionError, UsageError, WireError
from corfu.layout import Replica
from corfu.messages import GetState, StateIs
from corfu.ports import Disk, UnansweredError
from corfu.runtime.asking import asking_driver
from corfu.runtime.disk import FileDisk, ThreadDiskWorker
from corfu.runtime.serving import LOCK_NAME, link_settings, locked, new_loop
from corfu.runtime.udp import bind_udp
from corfu.types import Address, Incarnation, ReplicaId, SyncMode

from .arguments import (
    STATUS_CLEAN,
    STATUS_DISK_FAILED,
    STATUS_FOLDER,
    STATUS_REFUSED,
    STATUS_REPLACED,
    parser,
)
from .bootstrap import Bootstrap, decode_bootstrap, encode_bootstrap
from .identity import IDENTITY_NAME, ExpelledError, ReplicaIdentity, read_identity
from .process import ReplicaProcess, format_joining, format_replica
from .settings import SequencerSettings
from .state import State
from .storage import read_snapshot

_MIN_REPLICAS = 2
_ASK_S = 3.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    options = parser().parse_args(arguments)
    try:
        match options.command:
            case "bootstrap":
                return _bootstrap(options)
            case "format":
                return _format(options)
            case _:
                return _start(options)
    except CorruptionError as error:
        return _complain(f"{options.folder}/{error}", STATUS_FOLDER)
    except ExpelledError as error:
        return _complain(str(error), STATUS_REPLACED)
    except CorfuError as error:
        return _complain(str(error), STATUS_REFUSED)
    except OSError as error:
        where = error.filename or options.folder
        return _complain(f"{where}: {error.strerror or error}", STATUS_FOLDER)


def _complain(text: str, status: int) -> int:
    print(f"corfu-sequencer: {text}", file=sys.stderr, flush=True)  # noqa: T201
    return status


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201


def _bootstrap(options: argparse.Namespace) -> int:
    shortest = min(_MIN_REPLICAS, *(len(chain) for chain in options.chain))
    bootstrap = Bootstrap(
        cluster=options.cluster,
        replicas=tuple(
            Replica(id_, Incarnation(secrets.token_bytes(16)), where)
            for id_, where in options.replica
        ),
        units=tuple(options.unit),
        chains=tuple(options.chain),
        sync=SyncMode(options.sync),
        min_replicas=options.min_replicas or shortest,
    )
    bootstrap.check()
    _say(encode_bootstrap(bootstrap))
    return STATUS_CLEAN


def _format(options: argparse.Namespace) -> int:
    folder: Path = options.folder
    # What is there might be the memory of a replica that has voted.
    if folder.is_dir() and any(folder.iterdir()):
        return _complain(f"{folder}: the folder is not empty", STATUS_FOLDER)
    if options.join:
        return _format_joining(options)
    try:
        text = options.bootstrap.read_text()
    except OSError as error:
        raise UsageError(f"{options.bootstrap}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{options.bootstrap}: it is no text") from error
    bootstrap = decode_bootstrap(text)
    incarnation = _incarnation(bootstrap, options.id)
    folder.mkdir(parents=True, exist_ok=True)
    disk = FileDisk(folder)
    try:
        format_replica(
            disk,
            replica=options.id,
            incarnation=incarnation,
            bootstrap=bootstrap,
            settings=SequencerSettings(),
        )
    finally:
        disk.close()
    _say(f"formatted {folder}: replica {options.id} of cluster {bootstrap.cluster.hex()}")
    return STATUS_CLEAN


def _format_joining(options: argparse.Namespace) -> int:
    folder: Path = options.folder
    found = asyncio.run(_newest_state(options.join))
    if found is None:
        where = ", ".join(map(str, options.join))
        return _complain(f"no replica answers at {where}", STATUS_REFUSED)
    try:
        state = schema.unpack(State, found.state)
    except WireError as error:
        raise UsageError(f"the cluster runs another version: {error}") from error
    folder.mkdir(parents=True, exist_ok=True)
    disk = FileDisk(folder)
    # Never given twice: it is what tells this folder from all that ever voted.
    incarnation = Incarnation(secrets.token_bytes(16))
    identity = ReplicaIdentity(found.cluster, options.id, incarnation)
    try:
        format_joining(disk, identity, found.slot, state, SequencerSettings())
    finally:
        disk.close()
    _say(
        f"formatted {folder}: replica {options.id} of cluster {found.cluster.hex()}, which is to "
        "take the place of another (start it, then corfu sequencer replace)"
    )
    return STATUS_CLEAN


async def _newest_state(replicas: tuple[Address, ...]) -> StateIs | None:
    """Return the newest state that a replica has applied; None if none answers."""
    async with asking_driver(replicas) as driver:

        async def ask(to: Address) -> StateIs | None:
            try:
                answer = await driver.ask(to, GetState(driver.new_request()), _ASK_S)
            except UnansweredError:
                return None
            return answer if isinstance(answer, StateIs) else None

        answers = await asyncio.gather(*(ask(to) for to in replicas))
    known = [answer for answer in answers if answer is not None]
    return max(known, key=lambda answer: answer.slot, default=None)


def _incarnation(bootstrap: Bootstrap, id_: ReplicaId) -> Incarnation:
    for replica in bootstrap.replicas:
        if replica.id == id_:
            return replica.incarnation
    raise UsageError(f"the bootstrap lists no replica {id_}")


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keep every other process off the folder of a replica."""
    if not (folder / IDENTITY_NAME).exists():
        # Never made anew here: a replica that forgot its votes would make two majorities possible.
        raise CorruptionError(IDENTITY_NAME, "no sequencer replica was formatted in this folder")
    with locked(folder, CorruptionError(LOCK_NAME, "in use by another process")):
        yield


def _start(options: argparse.Namespace) -> int:
    with _locked(options.folder), asyncio.Runner(loop_factory=new_loop) as runner:
        return runner.run(_serve(options))


def own_address(disk: Disk) -> Address:
    """Return the address at which the other members expect the replica of this folder.

    Raises:
        CorruptionError: The folder is none of a replica, or is damaged.
        UsageError: It is no member, as far as the folder knows.
    """
    identity = read_identity(disk)
    _, state = read_snapshot(disk)
    for member in state.replicas:
        if (member.id, member.incarnation) == (identity.replica, identity.incarnation):
            return member.address
    raise UsageError("this replica is no member (yet): say where to listen (--listen HOST:PORT)")


async def _serve(options: argparse.Namespace) -> int:
    loop = asyncio.get_running_loop()
    disk = FileDisk(options.folder)
    listen: Address = options.listen or own_address(disk)
    try:
        datagrams = await bind_udp(listen.host, listen.port, warn=_warn)
    except OSError as error:
        return _complain(f"{listen}: {error.strerror or error}", STATUS_REFUSED)
    ended: asyncio.Future[BaseException | None] = loop.create_future()

    def end(error: BaseException | None) -> None:
        if not ended.done():
            ended.set_result(error)

    worker = ThreadDiskWorker(disk, loop.call_soon_threadsafe, end)
    process = ReplicaProcess(
        disk=disk,
        worker=worker,
        datagrams=datagrams,
        loop=loop,
        rng=random.SystemRandom(),
        entropy=os.urandom,
        settings=SequencerSettings(link=link_settings(listen.host, options.datagram_bytes)),
        log=_warn,
        on_fatal=end,
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end, None)
    try:
        process.start()
    except BaseException:
        datagrams.close()
        worker.close()
        raise
    identity = process.core.identity
    _say(
        f"ready: replica {identity.replica} of cluster {identity.cluster.hex()} "
        f"at {datagrams.address}"
    )
    failure = await ended
    if failure is None:
        await process.drain()
        worker.close()
        disk.close()
        return STATUS_CLEAN
    process.kill()
    if isinstance(failure, OSError):
        # Never tried again: after a failed sync the system may call the lost pages clean.
        return _complain(f"{options.folder}: the disk failed: {failure}", STATUS_DISK_FAILED)
    raise failure


def _warn(text: str) -> None:
    print(text, file=sys.stderr, flush=True)  # noqa: T201


__all__ = ["main"]
