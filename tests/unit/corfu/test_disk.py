"""The real disk and its threads, on a temporary folder."""

from __future__ import annotations

import errno
import os
import queue
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from corfu.journal.execute import execute_all
from corfu.journal.format import Place, RecordHeader
from corfu.journal.recovery import create, recover
from corfu.ports import (
    Allocate,
    Disk,
    DiskWorker,
    Remove,
    Rename,
    Sync,
    SyncFolder,
    WriteAt,
)
from corfu.runtime.disk import FileDisk, ThreadDiskWorker
from tests.unit.corfu.fake_disk import FakeDisk
from tests.unit.corfu.journal_folder import IDENTITY, SETTINGS, data_record


class Loop:
    """Stands for an event loop: keeps callbacks from other threads until they are run here."""

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()

    def call_soon_threadsafe(self, call: Callable[[], None]) -> None:
        self._calls.put(call)

    def run(self, count: int) -> None:
        for _ in range(count):
            self._calls.get(timeout=10)()

    def empty(self) -> bool:
        return self._calls.empty()


class FailingDisk(FakeDisk):
    """Fails each sync."""

    def sync(self, name: str) -> None:
        raise OSError(errno.EIO, f"sync of {name}")


@pytest.fixture(params=["file", "fake"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Disk]:
    """Both implementations, so that the fake one stays honest."""
    if request.param == "fake":
        yield FakeDisk()
        return
    real = FileDisk(tmp_path)
    yield real
    real.close()


def test_disk_write_creates_and_reads_back(disk: Disk) -> None:
    disk.write("one", 4, b"data")
    assert disk.names() == ["one"]
    assert disk.size("one") == 8
    assert disk.read("one", 0, 100) == b"\0\0\0\0data"
    assert disk.read("one", 6, 1) == b"t"
    assert disk.read("one", 8, 5) == b""


def test_disk_allocate_makes_zeros_and_replaces(disk: Disk) -> None:
    disk.write("one", 0, b"data" * 3000)
    disk.allocate("one", 5000)
    assert disk.read("one", 0, 9999) == bytes(5000)
    disk.allocate("one", 0)
    assert disk.size("one") == 0


def test_disk_rename_replaces_and_keeps_content(disk: Disk) -> None:
    disk.write("one", 0, b"first")
    disk.write("two", 0, b"second")
    assert disk.read("two", 0, 9) == b"second"
    disk.rename("one", "two")
    assert disk.names() == ["two"]
    assert disk.read("two", 0, 9) == b"first"
    disk.write("one", 0, b"third")
    assert disk.read("two", 0, 9) == b"first"


def test_disk_operations_all_have_their_meaning(disk: Disk) -> None:
    execute_all(
        disk,
        [
            Allocate("a", 10),
            WriteAt("a", 2, b"xy"),
            Sync("a"),
            Rename("a", "b"),
            WriteAt("c", 0, b"c"),
            Remove("c"),
            SyncFolder(),
        ],
    )
    assert disk.names() == ["b"]
    assert disk.read("b", 0, 10) == b"\0\0xy\0\0\0\0\0\0"


@pytest.mark.parametrize(
    "call",
    [
        lambda disk: disk.size("none"),
        lambda disk: disk.read("none", 0, 1),
        lambda disk: disk.sync("none"),
        lambda disk: disk.forget("none"),
        lambda disk: disk.rename("none", "other"),
        lambda disk: disk.remove("none"),
    ],
)
def test_disk_file_that_is_not_there_raises(disk: Disk, call: Callable[[Disk], None]) -> None:
    with pytest.raises(FileNotFoundError):
        call(disk)
    assert disk.names() == []


def test_disk_free_bytes_is_positive(disk: Disk) -> None:
    assert disk.free_bytes() > 0


def test_file_disk_short_writes_are_continued(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = FileDisk(tmp_path)
    write = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, at: write(fd, data[:3], at))
    disk.write("one", 0, b"0123456789")
    assert disk.read("one", 0, 99) == b"0123456789"
    disk.close()


def test_file_disk_full_while_allocating_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = FileDisk(tmp_path)
    write = os.pwrite

    def full(descriptor: int, data: memoryview, position: int) -> int:
        if position >= 2**20:
            raise OSError(errno.ENOSPC, "full")
        return write(descriptor, data, position)

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(OSError, match="full"):
        disk.allocate("one", 3 * 2**20)
    assert disk.names() == []
    disk.close()


def test_file_disk_allocates_in_pieces_each_synced_before_the_next_is_written(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A commit of another file would else wait until all of it has reached the disk."""
    disk, write, sync = FileDisk(tmp_path), os.pwrite, os.fdatasync
    unsynced = most = 0

    def counted_write(descriptor: int, data: memoryview, position: int) -> int:
        nonlocal unsynced, most
        written = write(descriptor, data, position)
        unsynced += written
        most = max(most, unsynced)
        return written

    def counted_sync(descriptor: int) -> None:
        nonlocal unsynced
        sync(descriptor)
        unsynced = 0

    monkeypatch.setattr(os, "pwrite", counted_write)
    monkeypatch.setattr(os, "fdatasync", counted_sync)
    disk.allocate("one", 5 * 2**20 + 1)
    assert (disk.size("one"), most, unsynced) == (5 * 2**20 + 1, 2**20, 0)
    disk.close()


def test_file_disk_open_files_are_bounded(tmp_path: Path) -> None:
    disk = FileDisk(tmp_path)
    before = len(os.listdir("/proc/self/fd"))
    for number in range(400):
        disk.write(f"file-{number}", 0, b"x")
    assert len(os.listdir("/proc/self/fd")) - before < 300
    assert disk.read("file-0", 0, 1) == b"x"
    disk.close()
    assert len(os.listdir("/proc/self/fd")) < before


def test_file_disk_that_forgot_a_file_sees_what_has_its_name_now(tmp_path: Path) -> None:
    disk = FileDisk(tmp_path)
    disk.write("one", 0, b"old")
    (tmp_path / "one").unlink()
    assert disk.read("one", 0, 9) == b"old", "still open"
    with pytest.raises(FileNotFoundError):
        disk.forget("one")
    with pytest.raises(FileNotFoundError):
        disk.read("one", 0, 9)
    (tmp_path / "one").write_bytes(b"new")
    disk.forget("one")
    assert disk.read("one", 0, 9) == b"new"
    disk.close()


def test_worker_runs_in_order_and_calls_back_on_the_loop() -> None:
    loop, disk, order = Loop(), FakeDisk(), list[str]()
    made = ThreadDiskWorker(disk, loop.call_soon_threadsafe, lambda error: order.append("fatal"))
    worker: DiskWorker = made
    worker.run([WriteAt("one", 0, b"1"), Sync("one")], lambda: order.append("first"))
    worker.run([WriteAt("one", 1, b"2"), Sync("one")], lambda: order.append("second"))
    assert order == []
    loop.run(2)
    assert order == ["first", "second"]
    read: list[bytes | None] = []
    worker.fetch("one", 0, 9, read.append)
    worker.fetch("none", 0, 9, read.append)
    worker.fetch("one", 1, 9, read.append, fresh=True)
    worker.fetch("none", 0, 9, read.append, fresh=True)
    loop.run(4)
    assert read == [b"12", None, b"2", None]
    made.close()
    made.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("disk")]


class WatchedDisk(FakeDisk):
    """Says which thread writes; a sync takes until the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.writers: list[str] = []
        self.go_on = threading.Event()

    def write(self, name: str, position: int, data: bytes) -> None:
        self.writers.append(threading.current_thread().name)
        super().write(name, position, data)

    def sync(self, name: str) -> None:
        assert self.go_on.wait(10)
        super().sync(name)


def test_worker_writes_without_sync_at_once_unless_something_is_before_it() -> None:
    loop, disk, order = Loop(), WatchedDisk(), list[str]()
    worker = ThreadDiskWorker(disk, loop.call_soon_threadsafe, lambda _: order.append("fatal"))
    own = threading.current_thread().name
    worker.run([WriteAt("one", 0, b"1")], lambda: order.append("first"))
    assert disk.read("one", 0, 9) == b"1"
    assert order == []
    worker.run([WriteAt("one", 1, b"2"), Sync("one")], lambda: order.append("second"))
    # Behind a commit that is under way: in the order in which they were given.
    worker.run([WriteAt("one", 2, b"3")], lambda: order.append("third"))
    disk.go_on.set()
    loop.run(3)
    assert order == ["first", "second", "third"]
    # Longer than what the loop may wait for.
    worker.run([WriteAt("one", 3, bytes(2 << 20))], lambda: order.append("fourth"))
    loop.run(1)
    assert [writer == own for writer in disk.writers] == [True, False, False, False]
    worker.close()


class SlowAllocation(FakeDisk):
    """Allocating takes until the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.go_on = threading.Event()

    def allocate(self, name: str, length: int) -> None:
        assert self.go_on.wait(10)
        super().allocate(name, length)


def test_worker_that_allocates_a_spare_still_commits_and_reads() -> None:
    loop, disk, order = Loop(), SlowAllocation(), list[str]()
    disk.write("old", 0, b"1")
    worker = ThreadDiskWorker(disk, loop.call_soon_threadsafe, lambda _: order.append("fatal"))
    worker.background([Allocate("spare", 4096)], lambda _: order.append("spare"))
    worker.fetch("old", 0, 1, lambda data: order.append(f"read {data!r}"))
    loop.run(1)
    worker.run([WriteAt("one", 0, b"1"), Sync("one")], lambda: order.append("committed"))
    loop.run(1)
    assert order == ["read b'1'", "committed"]
    disk.go_on.set()
    loop.run(1)
    assert order[-1] == "spare"
    worker.close()


def test_worker_failed_sync_is_fatal_once_and_ends_all_commits() -> None:
    loop, disk = Loop(), FailingDisk()
    done: list[str] = []
    fatal: list[OSError] = []
    worker = ThreadDiskWorker(disk, loop.call_soon_threadsafe, fatal.append)
    worker.run([WriteAt("one", 0, b"1"), Sync("one"), Remove("one")], lambda: done.append("1"))
    worker.run([WriteAt("two", 0, b"2")], lambda: done.append("2"))
    worker.close()
    loop.run(1)
    assert loop.empty()
    assert [error.errno for error in fatal] == [errno.EIO]
    assert done == []
    assert disk.names() == ["one"]


def test_worker_background_error_goes_to_its_caller() -> None:
    loop, disk = Loop(), FakeDisk(capacity=1000)
    fatal: list[OSError] = []
    results: list[OSError | None] = []
    worker = ThreadDiskWorker(disk, loop.call_soon_threadsafe, fatal.append)
    worker.background([Allocate("big", 2000)], results.append)
    worker.background([Allocate("small", 500)], results.append)
    worker.close()
    loop.run(2)
    failed, fine = results
    assert failed is not None
    assert failed.errno == errno.ENOSPC
    assert fine is None
    assert not fatal


def test_journal_on_a_real_folder_comes_back(tmp_path: Path) -> None:
    disk = FileDisk(tmp_path)
    journal = create(disk, IDENTITY, SETTINGS, list)
    for offset in range(8):
        journal.append(data_record(offset))
    execute_all(disk, journal.cut())
    journal.committed()
    disk.close()
    disk = FileDisk(tmp_path)
    offsets: list[int] = []

    def replay(place: Place, header: RecordHeader, body: bytes) -> None:
        offsets.append(header.offset)

    recovered = recover(disk, IDENTITY, SETTINGS, replay=replay, opening=list)
    assert offsets == list(range(8))
    assert not recovered.doubt
    disk.close()
