"""The command line of `corfu-sequencer`: what it takes, and how its words are read."""

from __future__ import annotations

import argparse
import ipaddress
from pathlib import Path

from corfu.layout import Unit
from corfu.types import Address, ClusterId, Incarnation, ReplicaId, SyncMode, UnitId

STATUS_CLEAN = 0
STATUS_REFUSED = 1
STATUS_USAGE = 2
STATUS_FOLDER = 3
STATUS_REPLACED = 4
STATUS_DISK_FAILED = 75

_EPILOG = f"""A new cluster: format the storage units first (each prints its incarnation), write the
bootstrap once, then format every replica with the same file.

exit status:
  {STATUS_CLEAN}   stopped cleanly (SIGTERM, SIGINT), formatted, or written
  {STATUS_REFUSED}   refused: the address is in use, the bootstrap is wrong, or the process failed
  {STATUS_USAGE}   wrong arguments
  {STATUS_FOLDER}   the data folder cannot be used: not formatted, in use, damaged, foreign,
      of a newer format, or not writable
  {STATUS_REPLACED}   another replica has taken the place of this one: its folder is of no more use
  {STATUS_DISK_FAILED}  a write or fsync failed; nothing that waited for it was answered

examples:
  corfu-sequencer bootstrap --cluster 8f3a6c11d2e94b07 \\
      --replica 1=10.0.0.1:9700 --replica 2=10.0.0.2:9700 --replica 3=10.0.0.3:9700 \\
      --unit 1:00112233445566778899aabbccddeeff=10.0.0.5:9710 ... \\
      --chain 1,2,3 --chain 4,5,6 > bootstrap.json
  corfu-sequencer format /data/replica-1 --id 1 --bootstrap bootstrap.json
  corfu-sequencer start /data/replica-1

In place of a replica of a running cluster:
  corfu-sequencer format /data/replica-4 --id 4 --join 10.0.0.1:9700,10.0.0.2:9700
  corfu-sequencer start /data/replica-4 --listen 10.0.0.4:9700
  corfu sequencer replace 3 10.0.0.4:9700
"""


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    top = argparse.ArgumentParser(
        prog="corfu-sequencer",
        description="One sequencer replica: takes part in granting offsets and in keeping the "
        "configuration. It never sees the data.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = top.add_subparsers(dest="command", required=True)
    _add_bootstrap(commands.add_parser("bootstrap", help="print what a new cluster starts from"))
    make = commands.add_parser("format", help="make a data folder for a replica")
    make.add_argument("folder", type=Path, metavar="DIR")
    make.add_argument("--id", type=_replica_id, required=True, help="the replica's number, from 1")
    kind = make.add_mutually_exclusive_group(required=True)
    kind.add_argument(
        "--bootstrap", type=Path, metavar="FILE", help="of a new cluster: the same for all replicas"
    )
    kind.add_argument(
        "--join",
        type=addresses,
        metavar="HOST:PORT,...",
        help="replicas of a running cluster, in which it is to replace one; the id must be new",
    )
    start = commands.add_parser("start", help="run the replica of a data folder")
    start.add_argument("folder", type=Path, metavar="DIR")
    start.add_argument(
        "--listen",
        type=address,
        metavar="HOST:PORT",
        help="where to listen; by default the address that the members know",
    )
    start.add_argument(
        "--datagram-bytes",
        type=int,
        help="largest UDP payload; by default 1200, and 32768 on loopback",
    )
    return top


def _add_bootstrap(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--cluster", type=_cluster_id, required=True, help="the cluster id, 16 hex digits"
    )
    command.add_argument(
        "--replica",
        type=_replica,
        action="append",
        required=True,
        metavar="ID=HOST:PORT",
        help="a replica; 1, 3 or 5 of them",
    )
    command.add_argument(
        "--unit",
        type=_unit,
        action="append",
        required=True,
        metavar="ID:INCARNATION=HOST:PORT",
        help="a storage unit, as its format printed it",
    )
    command.add_argument(
        "--chain",
        type=_chain,
        action="append",
        required=True,
        metavar="ID,ID,...",
        help="a chain, from head to tail unit",
    )
    command.add_argument(
        "--sync",
        choices=[mode.value for mode in SyncMode],
        default=SyncMode.ALWAYS.value,
        help="what an acknowledged entry has reached on each unit: the disk, or the page cache",
    )
    command.add_argument(
        "--min-replicas",
        type=int,
        help="fewest units with which a chain takes appends; 2, or fewer if a chain has fewer",
    )


def address(text: str) -> Address:
    """Read HOST:PORT with a numeric host."""
    host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    try:
        ipaddress.ip_address(host)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: the host must be numeric") from None
    if not port.isdecimal() or not 0 < int(port) <= 65535:
        raise argparse.ArgumentTypeError(f"{text!r} has no port from 1 to 65535")
    return Address(host, int(port))


def addresses(text: str) -> tuple[Address, ...]:
    """Read HOST:PORT,HOST:PORT..."""
    return tuple(address(part.strip()) for part in text.split(","))


def _number(text: str, what: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 2**32:
        raise argparse.ArgumentTypeError(f"{text!r} is no {what} (1 or more)")
    return int(text)


def _replica_id(text: str) -> ReplicaId:
    return ReplicaId(_number(text, "replica id"))


def _hex(text: str, length: int, what: str) -> bytes:
    try:
        data = bytes.fromhex(text)
    except ValueError:
        data = b""
    if len(data) != length:
        raise argparse.ArgumentTypeError(f"{text!r} is no {what} ({2 * length} hex digits)")
    return data


def _cluster_id(text: str) -> ClusterId:
    return ClusterId(_hex(text, 8, "cluster id"))


def _replica(text: str) -> tuple[ReplicaId, Address]:
    id_, _, where = text.partition("=")
    return _replica_id(id_), address(where)


def _unit(text: str) -> Unit:
    who, _, where = text.partition("=")
    id_, _, incarnation = who.partition(":")
    return Unit(
        UnitId(_number(id_, "unit id")),
        Incarnation(_hex(incarnation, 16, "incarnation")),
        address(where),
    )


def _chain(text: str) -> tuple[UnitId, ...]:
    return tuple(UnitId(_number(part.strip(), "unit id")) for part in text.split(","))
