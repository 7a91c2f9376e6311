"""What processes use: read from the system's tables."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

import pytest

from corfu.tools.bench.usage import (
    Use,
    Watched,
    by_role,
    cpu_s,
    local_processes,
    udp_drops,
    udp_sockets,
)
from corfu.types import Address

LINE = (
    "  123: {address} 00000000:0000 07 00000000:00000000 00:00000000 00000000"
    "  1000        0 {inode} 2 0000000000000000 {drops}\n"
)

linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def _table(folder: Path, name: str, *lines: tuple[str, int, int]) -> None:
    (folder / "net").mkdir(exist_ok=True)
    text = "".join(LINE.format(address=a, inode=i, drops=d) for a, i, d in lines)
    (folder / "net" / name).write_text("  sl  local_address ...\n" + text)


def test_table_of_sockets_is_read_with_both_families(tmp_path: Path) -> None:
    _table(tmp_path, "udp", ("0100007F:25E4", 77, 5), ("00000000:0035", 78, 0))
    _table(tmp_path, "udp6", ("00000000000000000000000001000000:25E4", 79, 6))
    found = {each.address: (each.inode, each.drops) for each in udp_sockets(tmp_path)}
    assert found == {
        Address("127.0.0.1", 9700): (77, 5),
        Address("0.0.0.0", 53): (78, 0),
        Address("::1", 9700): (79, 6),
    }


def test_no_table_no_sockets(tmp_path: Path) -> None:
    assert udp_sockets(tmp_path) == []


@linux
def test_own_socket_is_found_with_its_process_and_its_drops() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as own:
        own.bind(("127.0.0.1", 0))
        own.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        address = Address(*own.getsockname())
        assert local_processes([("units", "storage-1", address)]) == [
            Watched("units", "storage-1", os.getpid(), address)
        ]
        assert udp_drops([address]) == 0
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
            for _ in range(100):
                other.sendto(bytes(1000), address)
        dropped = udp_drops([address])
        assert dropped is not None
        assert 50 < dropped < 100


@linux
def test_socket_that_listens_everywhere_is_found() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as own:
        own.bind(("0.0.0.0", 0))
        address = Address("127.0.0.1", own.getsockname()[1])
        assert [each.pid for each in local_processes([("leader", "x", address)])] == [os.getpid()]


def test_peers_elsewhere_or_gone_are_left_out() -> None:
    peers = [
        ("units", "elsewhere", Address("192.0.2.1", 9700)),
        ("units", "gone", Address("127.0.0.1", 1)),
    ]
    assert local_processes(peers) == []
    assert udp_drops([Address("127.0.0.1", 1)]) is None


@linux
def test_cpu_of_a_process_is_about_what_it_says_itself() -> None:
    used = cpu_s(os.getpid())
    times = os.times()
    assert used == pytest.approx(times.user + times.system, abs=0.1)
    assert cpu_s(2**22 + 1) is None


def test_roles_are_summed_and_who_is_gone_is_left_out() -> None:
    head, tail, leader = (
        Watched(role, name, pid, Address("127.0.0.1", pid))
        for role, name, pid in (("units", "a", 1), ("units", "b", 2), ("leader", "c", 3))
    )
    before = {head: Use(1.0, 5), tail: Use(2.0, 0), leader: Use(1.0, 0)}
    rows = by_role(before, {head: Use(1.5, 7), tail: Use(2.25, 1)})
    assert [(row.role, row.processes, row.cpu_s, row.drops) for row in rows] == [
        ("units", 2, 0.75, 3)
    ]
