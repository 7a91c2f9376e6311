"""The disk that loses power and the hostile path, themselves: what they do, and that they bite."""

from __future__ import annotations

import errno
import os
import random
import socket
import struct
from pathlib import Path

import pytest

from tests.integration.hostile.power_disk import SECTOR, File, PowerDisk
from tests.integration.hostile.proxy import Chaos
from tests.integration.hostile.proxy import Path as HostilePath


@pytest.fixture
def disk(tmp_path: Path) -> PowerDisk:
    disk = PowerDisk(tmp_path)
    disk.make_folder("a")
    disk.settle()
    return disk


def _contents(file: File) -> bytes:
    return file.read(0, file.size)


def test_power_cut_loses_names_and_sectors_that_were_not_synced(disk: PowerDisk) -> None:
    kept = disk.make_file("a/kept")
    kept.write(0, b"x" * 3 * SECTOR)
    disk.sync(kept)
    disk.sync(disk.folder("a"))
    kept.write(SECTOR - 1, b"yy")
    kept.write(3 * SECTOR, b"more")
    disk.rename("a/kept", "a/renamed")
    disk.make_file("a/new")
    did = disk.cut(["a"], None)
    disk.restore_power()
    assert list(disk.folder("a").names) == ["kept"]
    assert _contents(disk.file("a/kept")) == b"x" * 3 * SECTOR
    assert did == {"steps": 2, "sectors": 2}


def test_power_cut_keeps_what_was_synced_and_gives_back_what_was_cut_off(disk: PowerDisk) -> None:
    file = disk.make_file("a/file")
    file.write(0, b"old" * SECTOR)
    disk.sync(file)
    disk.sync(disk.folder("a"))
    file.truncate(0)
    file.write(0, b"new")
    disk.remove("a/file")
    disk.cut(["a"], None)
    disk.restore_power()
    assert _contents(disk.file("a/file")) == b"old" * SECTOR


def test_file_synced_in_a_folder_that_was_not_has_no_name_after_a_power_cut(
    disk: PowerDisk,
) -> None:
    disk.sync(disk.make_file("a/new"))
    disk.cut(["a"], None)
    disk.restore_power()
    assert not disk.folder("a").names


def test_torn_power_cut_leaves_some_sectors_and_only_first_steps(disk: PowerDisk) -> None:
    outcomes = set()
    for seed in range(40):
        file = disk.make_file(f"a/{seed}")
        file.write(0, b"x" * 2 * SECTOR)
        disk.settle()
        file.write(0, b"y" * 4 * SECTOR)
        disk.rename(f"a/{seed}", f"a/{seed}-second")
        disk.rename(f"a/{seed}-second", f"a/{seed}-third")
        disk.cut(["a"], random.Random(seed))
        disk.restore_power()
        (name,) = (name for name in disk.folder("a").names if name.split("-")[0] == str(seed))
        data = _contents(disk.file(f"a/{name}"))
        assert 2 * SECTOR <= len(data) <= 4 * SECTOR
        for start in range(0, len(data), SECTOR):
            assert len(set(data[start : start + SECTOR])) == 1, "a sector is old or new"
        outcomes.add((name.partition("-")[2], data[:1], data[SECTOR : SECTOR + 1]))
    assert {each[0] for each in outcomes} == {"", "second", "third"}
    assert {each[1:] for each in outcomes} == {(a, b) for a in (b"x", b"y") for b in (b"x", b"y")}


def test_disk_without_power_does_nothing(disk: PowerDisk) -> None:
    disk.make_file("a/file")
    disk.cut(["a"], None)
    for wish in (lambda: disk.make_file("a/x"), lambda: disk.require_power("a/file")):
        with pytest.raises(OSError, match=os.strerror(errno.EIO)):
            wish()
    disk.restore_power()
    disk.make_file("a/x")


def test_disk_that_lies_loses_what_was_synced(tmp_path: Path) -> None:
    disk = PowerDisk(tmp_path, lies=True)
    disk.make_folder("a")
    disk.settle()
    file = disk.make_file("a/file")
    disk.sync(file)
    disk.sync(disk.folder("a"))
    disk.cut(["a"], None)
    disk.restore_power()
    assert not disk.folder("a").names


def _packet(payload: bytes, port: int = 5000) -> bytes:
    end = socket.inet_aton("127.0.0.1")
    udp = struct.pack("!HHHH", port, 9700, 8 + len(payload), 0xFFFF)
    head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 28 + len(payload), 0, 0, 64, 17, 0, end, end)
    return head + udp + payload


def test_hostile_path_does_each_thing_in_about_its_share() -> None:
    chaos = Chaos(
        seed=1,
        delay_s=(0.0, 0.01),
        late=0.1,
        late_s=5.0,
        lost=0.1,
        doubled=0.2,
        damaged=0.3,
        cut_short=0.1,
    )
    path = HostilePath(chaos)
    for number in range(2000):
        path.take(_packet(b"%06d" % number), number / 1000)
    arrived = path.due(100.0)
    assert path.deadline is None
    did = path.did
    assert did["taken"] == 2000
    assert did["taken"] - did["lost"] + did["doubled"] == len(arrived)
    for what, share in (("lost", 0.1), ("doubled", 0.18), ("damaged", 0.32), ("late", 0.11)):
        assert 0.7 * share < did[what] / 2000 < 1.4 * share, what
    assert did["overtaken"] > 1000
    lengths = [struct.unpack("!H", packet[24:26])[0] for packet in arrived]
    assert lengths == [len(packet) - 20 for packet in arrived]
    assert sum(length < 14 for length in lengths) == did["cut short"]
    sent = {b"%06d" % number for number in range(2000)}
    assert len({packet[28:] for packet in arrived} - sent) > 400, "damage is there to be found"


def test_hostile_path_without_chaos_is_a_path() -> None:
    path = HostilePath(Chaos(seed=1, delay_s=(0.5, 0.5)))
    path.take(_packet(b"one"), 1.0)
    path.take(_packet(b"two"), 1.1)
    assert path.due(1.4) == []
    assert [packet[28:] for packet in path.due(1.55)] == [b"one"]
    assert [packet[28:] for packet in path.due(1.65)] == [b"two"]
    assert path.did == {"taken": 2}
