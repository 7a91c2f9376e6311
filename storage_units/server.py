"""The `corfu-storage` command: formats a data folder, and runs a unit on it."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import ipaddress
import math
import os
import random
import secrets
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from corfu.errors import CorfuError, CorruptionError
from corfu.runtime.disk import FileDisk, ThreadDiskWorker
from corfu.runtime.serving import link_settings, locked, new_loop
from corfu.runtime.udp import bind_udp
from corfu.types import Address, ClusterId, Incarnation, SyncMode, UnitId

from .identity import FolderError, LeftError, read_identity
from .process import UnitProcess, format_unit
from .settings import UnitSettings

STATUS_CLEAN = 0
STATUS_REFUSED = 1
STATUS_USAGE = 2
STATUS_FOLDER = 3
STATUS_LEFT = 4
STATUS_DISK_FAILED = 75

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")

_EPILOG = f"""exit status:
  {STATUS_CLEAN}   stopped cleanly (SIGTERM, SIGINT), or formatted
  {STATUS_REFUSED}   refused: the address is in use, or the process failed
  {STATUS_USAGE}   wrong arguments
  {STATUS_FOLDER}   the data folder cannot be used: not formatted, in use, damaged, foreign,
      of a newer format, or not writable
  {STATUS_LEFT}   the unit left the cluster and nothing that the folder holds counts any more:
      format it anew; the new one registers itself as a spare
  {STATUS_DISK_FAILED}  a write or fsync failed; nothing that waited for it was acknowledged

examples:
  corfu-storage format /data/unit-1 --id 1 --cluster 8f3a6c11d2e94b07
  corfu-storage start /data/unit-1 --listen 10.0.0.5:9710 --sequencers 10.0.0.1:9700,10.0.0.2:9700
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    options = _parser().parse_args(arguments)
    try:
        if options.command == "format":
            return _format(options)
        return _start(options)
    except LeftError as error:
        return _complain(f"{options.folder}: {error}", STATUS_LEFT)
    except (FolderError, CorruptionError) as error:
        return _complain(f"{options.folder}: {error}", STATUS_FOLDER)
    except CorfuError as error:
        return _complain(str(error), STATUS_REFUSED)
    except OSError as error:
        return _complain(f"{options.folder}: {error.strerror or error}", STATUS_FOLDER)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="corfu-storage",
        description="One storage unit: holds entries, each at its offset, write-once.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    make = commands.add_parser("format", help="make a data folder for a new unit")
    make.add_argument("folder", type=Path, metavar="DIR")
    make.add_argument("--id", type=_unit_id, required=True, help="the unit's number, from 1")
    make.add_argument(
        "--cluster", type=_cluster_id, required=True, help="the cluster id, 16 hex digits"
    )
    make.add_argument(
        "--sync",
        choices=[mode.value for mode in SyncMode],
        default=SyncMode.ALWAYS.value,
        help="what an acknowledged entry has reached: the disk (always, the default) or the "
        "system's page cache (os: a power cut may lose it)",
    )
    make.add_argument(
        "--force", action="store_true", help="move what is in DIR aside instead of refusing"
    )
    start = commands.add_parser("start", help="run the unit of a data folder")
    start.add_argument("folder", type=Path, metavar="DIR")
    start.add_argument(
        "--listen", type=_address, required=True, metavar="HOST:PORT", help="numeric host"
    )
    start.add_argument(
        "--sequencers",
        type=_addresses,
        default=(),
        metavar="A,B,C",
        help="replicas to register with before the first layout names them",
    )
    start.add_argument(
        "--datagram-bytes",
        type=int,
        default=None,
        help="largest UDP payload; by default 1200, and 32768 on loopback",
    )
    start.add_argument(
        "--scrub-mb-s",
        type=_rate,
        default=UnitSettings().scrub_bytes_s / 1e6,
        metavar="MB",
        help="how fast all that is held is read again and checked in the background, in MB a "
        "second (default %(default)g)",
    )
    start.add_argument(
        "--parallel-persist",
        action=argparse.BooleanOptionalAction,
        default=UnitSettings().parallel_persist,
        help="pass an entry on before its own fsync, so that a chain costs one fsync time; units "
        "of one chain may differ",
    )
    return parser


def _settings(options: argparse.Namespace) -> UnitSettings:
    rate = options.scrub_mb_s * 1e6
    return UnitSettings(
        sequencers=options.sequencers,
        link=link_settings(options.listen.host, options.datagram_bytes),
        parallel_persist=options.parallel_persist,
        scrub_bytes_s=rate,
        scrub_asked_bytes_s=max(rate, UnitSettings().scrub_asked_bytes_s),
    )


def _rate(text: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        rate = 0.0
    if not 0 < rate < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is no rate above 0")
    return rate


def _unit_id(text: str) -> UnitId:
    if not text.isdecimal() or not 0 < int(text) < 2**32:
        raise argparse.ArgumentTypeError(f"{text!r} is no unit id (1 or more)")
    return UnitId(int(text))


def _cluster_id(text: str) -> ClusterId:
    try:
        cluster = bytes.fromhex(text)
    except ValueError:
        cluster = b""
    if len(cluster) != 8:
        raise argparse.ArgumentTypeError(f"{text!r} is no cluster id (16 hex digits)")
    return ClusterId(cluster)


def _address(text: str) -> Address:
    host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    try:
        ipaddress.ip_address(host)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: the host must be numeric") from None
    if not port.isdecimal() or int(port) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} has no port from 0 to 65535")
    return Address(host, int(port))


def _addresses(text: str) -> tuple[Address, ...]:
    return tuple(_address(part.strip()) for part in text.split(",") if part.strip())


def _complain(text: str, status: int) -> int:
    print(f"corfu-storage: {text}", file=sys.stderr, flush=True)  # noqa: T201
    return status


def _warn(text: str) -> None:
    print(text, file=sys.stderr, flush=True)  # noqa: T201


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201


def _format(options: argparse.Namespace) -> int:
    folder: Path = options.folder
    if folder.is_dir() and any(folder.iterdir()):
        if not options.force:
            raise FolderError("the folder is not empty (--force moves it aside)")
        aside = folder.with_name(f"{folder.name}.{time.strftime('%Y%m%d-%H%M%S')}")
        with _locked(folder):
            folder.rename(aside)
        _say(f"what was in {folder} is now in {aside}")
    folder.mkdir(parents=True, exist_ok=True)
    incarnation = Incarnation(secrets.token_bytes(16))
    disk = FileDisk(folder)
    try:
        format_unit(
            disk,
            cluster=options.cluster,
            unit=options.id,
            incarnation=incarnation,
            sync=SyncMode(options.sync),
            settings=UnitSettings(),
        )
    finally:
        disk.close()
    _say(f"formatted {folder}: unit {options.id}, incarnation {incarnation.hex()}")
    return STATUS_CLEAN


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keep every other process off the folder of a unit."""
    if not folder.is_dir():
        raise FolderError("no such folder; `corfu-storage format` makes one")
    with locked(folder, FolderError("in use by another process")):
        yield


def _start(options: argparse.Namespace) -> int:
    folder: Path = options.folder
    if folder.is_dir() and not (folder / "identity").exists():
        raise FolderError("no storage unit was formatted in this folder")
    boot_id = _BOOT_ID.read_text().strip() if _BOOT_ID.exists() else ""
    with _locked(folder), asyncio.Runner(loop_factory=new_loop) as runner:
        # A unit that the layout left out goes on in place, as a new incarnation.
        while (status := runner.run(_serve(options, boot_id))) is None:
            pass
        return status


class _Reborn(Exception):  # noqa: N818 - no failure
    """The folder has a new incarnation; the unit is to be started again on it."""


async def _serve(options: argparse.Namespace, boot_id: str) -> int | None:
    """Run the unit to its end; returns the exit status, None to run it again."""
    loop = asyncio.get_running_loop()
    try:
        datagrams = await bind_udp(options.listen.host, options.listen.port, warn=_warn)
    except OSError as error:
        return _complain(f"{options.listen}: {error.strerror or error}", STATUS_REFUSED)
    disk = FileDisk(options.folder)
    ended: asyncio.Future[BaseException | None] = loop.create_future()

    def end(error: BaseException | None) -> None:
        if not ended.done():
            ended.set_result(error)

    worker = ThreadDiskWorker(disk, loop.call_soon_threadsafe, end)
    process = UnitProcess(
        disk=disk,
        worker=worker,
        datagrams=datagrams,
        loop=loop,
        rng=random.SystemRandom(),
        entropy=os.urandom,
        settings=_settings(options),
        boot_id=boot_id,
        log=_warn,
        on_fatal=end,
        on_reborn=lambda: end(_Reborn()),
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end, None)
    try:
        process.start()
    except BaseException:
        datagrams.close()
        worker.close()
        raise
    # What recovery made stays; going through it again and again would only cost pauses.
    gc.freeze()
    identity = process.identity
    idle = "" if process.serves else ", serving nothing until the cluster has dropped it"
    _say(
        f"ready: unit {identity.unit} of cluster {identity.cluster.hex()} "
        f"at {datagrams.address}{idle}"
    )
    failure = await ended
    if failure is None:
        await process.drain()
        worker.close()
        disk.close()
        return STATUS_CLEAN
    process.kill()
    if isinstance(failure, _Reborn):
        worker.close()
        disk.close()
        return None
    if isinstance(failure, OSError):
        # Never tried again: after a failed sync the system may call the lost pages clean.
        return _complain(f"{options.folder}: the disk failed: {failure}", STATUS_DISK_FAILED)
    raise failure


__all__ = ["main", "read_identity"]
