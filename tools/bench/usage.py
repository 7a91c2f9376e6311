"""What processes use: their CPU time, and the datagrams that the kernel dropped before them.

Read from /proc, so only of processes on this machine, and only on Linux; elsewhere nothing is told.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from corfu.types import Address

PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class UdpSocket:
    """One line of the kernel's table."""

    address: Address
    inode: int
    drops: int


@dataclass(frozen=True, slots=True)
class Watched:
    """A server process on this machine, and its socket."""

    role: str
    name: str
    pid: int
    address: Address


@dataclass(frozen=True, slots=True)
class Use:
    """What one process has used up to a moment."""

    cpu_s: float
    drops: int


@dataclass(frozen=True, slots=True)
class RoleUse:
    """What all processes of one role used in a span; `drops` of their sockets, None: not known."""

    role: str
    processes: int = 0
    cpu_s: float = 0.0
    drops: int | None = None

    def plus(self, cpu_s: float, drops: int | None) -> RoleUse:
        """Return it with one process more."""
        if drops is not None:
            drops += self.drops or 0
        return RoleUse(self.role, self.processes + 1, self.cpu_s + cpu_s, drops)


def cpu_s(pid: int) -> float | None:
    """Return the processor time that a process has used, in seconds; None if it is gone."""
    try:
        stat = (PROC / str(pid) / "stat").read_text()
    except OSError:
        return None
    # The name stands in brackets and may hold anything.
    fields = stat.rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def udp_sockets(proc: Path = PROC) -> list[UdpSocket]:
    """Return all UDP sockets of this machine's network; none where there is no such table."""
    found: list[UdpSocket] = []
    for name in ("udp", "udp6"):
        try:
            lines = (proc / "net" / name).read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            columns = line.split()
            found.append(UdpSocket(_address(columns[1]), int(columns[9]), int(columns[-1])))
    return found


def udp_drops(addresses: Sequence[Address]) -> int | None:
    """Return how many datagrams to these sockets were dropped; None if one is not in the table."""
    table = {each.address: each.drops for each in udp_sockets()}
    if not all(address in table for address in addresses):
        return None
    return sum(table[address] for address in addresses)


def local_processes(peers: Iterable[tuple[str, str, Address]]) -> list[Watched]:
    """Return the processes of this machine behind (role, name, address), those that are found.

    A process of another user is not found: its descriptors cannot be looked at.
    """
    wanted = {address: (role, name) for role, name, address in peers if _is_here(address)}
    sockets = {each.address: each for each in udp_sockets()}
    by_inode: dict[int, Address] = {}
    for address in wanted:
        any_host = "::" if ":" in address.host else "0.0.0.0"  # noqa: S104 - looked up, not bound
        for candidate in (address, Address(any_host, address.port)):
            if candidate in sockets:
                by_inode[sockets[candidate].inode] = address
                break
    pids = _owners(set(by_inode))
    return [
        Watched(*wanted[address], pids[inode], address)
        for inode, address in by_inode.items()
        if inode in pids
    ]


def uses(watched: Iterable[Watched]) -> dict[Watched, Use]:
    """Return what each process has used up to now; one that is gone is left out."""
    # By the port: a server that listens everywhere stands in the table with another host.
    drops = {each.address.port: each.drops for each in udp_sockets()}
    found: dict[Watched, Use] = {}
    for each in watched:
        used = cpu_s(each.pid)
        if used is not None:
            found[each] = Use(used, drops.get(each.address.port, 0))
    return found


def by_role(before: dict[Watched, Use], after: dict[Watched, Use]) -> list[RoleUse]:
    """Return what was used between two looks, role by role, in the order of `before`."""
    rows: dict[str, RoleUse] = {}
    for each, first in before.items():
        last = after.get(each)
        if last is not None:
            row = rows.get(each.role, RoleUse(each.role))
            rows[each.role] = row.plus(last.cpu_s - first.cpu_s, last.drops - first.drops)
    return list(rows.values())


def _address(text: str) -> Address:
    """Return the address of the kernel's form: words of 32 bits, each in the machine's order."""
    host, port = text.split(":")
    raw = b"".join(bytes.fromhex(host[i : i + 8])[::-1] for i in range(0, len(host), 8))
    family = socket.AF_INET if len(raw) == 4 else socket.AF_INET6
    return Address(socket.inet_ntop(family, raw), int(port, 16))


def _is_here(address: Address) -> bool:
    """Tell whether an address is this machine's: only such a one can be bound."""
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((address.host, 0))
        except OSError:
            return False
    return True


def _owners(inodes: set[int]) -> dict[int, int]:
    """Return which process holds each of these sockets."""
    names = {f"socket:[{inode}]": inode for inode in inodes}
    found: dict[int, int] = {}
    for folder in PROC.iterdir() if PROC.is_dir() else ():
        if not (folder.name.isdigit() and names):
            continue
        try:
            descriptors = os.listdir(folder / "fd")
        except OSError:
            # Another user's, or it has ended meanwhile.
            continue
        for descriptor in descriptors:
            with contextlib.suppress(OSError):  # closed meanwhile
                link = os.readlink(folder / "fd" / descriptor)
                if link in names:
                    found[names[link]] = int(folder.name)
    return found
