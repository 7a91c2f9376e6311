"""The two-layered disk and its worker in virtual time."""

from __future__ import annotations

import asyncio
import copy
import errno
import random

import pytest

from corfu.ports import Allocate, Disk, DiskOperation, DiskWorker, Sync, SyncFolder, WriteAt
from corfu.tools.sim.disk import SECTOR_BYTES, Crashed, SimDisk
from corfu.tools.sim.disk_worker import DiskLatency, SimDiskWorker
from corfu.tools.sim.loop import VirtualLoop

OLD, NEW = b"o" * SECTOR_BYTES, b"n" * SECTOR_BYTES


def _synced(content: dict[str, bytes]) -> SimDisk:
    disk = SimDisk()
    for name, data in content.items():
        disk.write(name, 0, data)
        disk.sync(name)
    disk.sync_folder()
    return disk


def _after_cuts(disk: SimDisk, name: str, seeds: int = 60) -> list[bytes | None]:
    """What `name` may hold after a power cut now, over many seeds; `disk` is rebuilt each time."""
    found: list[bytes | None] = []
    for seed in range(seeds):
        again = _replayed(disk)
        again.power_cut(random.Random(seed))
        found.append(again.read(name, 0, 1 << 20) if name in again.names() else None)
    return found


def _replayed(disk: SimDisk) -> SimDisk:
    return copy.deepcopy(disk)


def test_disk_and_worker_are_what_the_ports_ask_for() -> None:
    disk: Disk = SimDisk()
    loop = VirtualLoop()
    worker: DiskWorker = SimDiskWorker(
        SimDisk(), loop, random.Random(1), DiskLatency(), on_fatal=print
    )
    assert disk.names() == []
    assert worker is not None
    loop.close()


def test_read_and_size_give_what_was_written() -> None:
    disk = SimDisk()
    disk.write("a", 3, b"xyz")
    assert disk.read("a", 0, 100) == b"\0\0\0xyz"
    assert disk.read("a", 4, 1) == b"y"
    assert disk.size("a") == 6
    with pytest.raises(FileNotFoundError):
        disk.size("b")
    with pytest.raises(FileNotFoundError):
        disk.read("b", 0, 1)


def test_kill_keeps_the_cache() -> None:
    disk = SimDisk()
    disk.write("a", 0, b"unsynced")
    disk.kill()
    assert disk.read("a", 0, 100) == b"unsynced"


def test_power_cut_synced_content_and_names_always_survive() -> None:
    disk = _synced({"a": OLD})
    assert set(_after_cuts(disk, "a")) == {OLD}


def test_power_cut_unsynced_sectors_survive_in_any_subset() -> None:
    disk = _synced({"a": OLD * 2})
    disk.write("a", 0, NEW * 2)
    assert set(_after_cuts(disk, "a")) == {OLD * 2, OLD + NEW, NEW + OLD, NEW * 2}


def test_power_cut_within_a_sector_is_all_or_nothing() -> None:
    disk = _synced({"a": OLD})
    disk.write("a", 100, b"n" * 20)
    both = {OLD, OLD[:100] + b"n" * 20 + OLD[120:]}
    assert set(_after_cuts(disk, "a")) == both


def test_power_cut_grown_file_may_be_short_or_hold_zeros() -> None:
    disk = _synced({"a": OLD})
    disk.write("a", SECTOR_BYTES, NEW * 2)
    found = set(_after_cuts(disk, "a", 200))
    assert OLD in found
    assert OLD + NEW * 2 in found
    assert OLD + bytes(SECTOR_BYTES) + NEW in found
    assert all(each is not None and each.startswith(OLD) for each in found)


def test_power_cut_created_file_without_folder_sync_may_vanish() -> None:
    disk = SimDisk()
    disk.write("a", 0, OLD)
    disk.sync("a")
    assert set(_after_cuts(disk, "a")) == {None, OLD}


def test_power_cut_unsynced_rename_shows_old_or_new_never_neither() -> None:
    disk = _synced({"state": OLD, "fresh": NEW})
    disk.rename("fresh", "state")
    assert set(_after_cuts(disk, "state")) == {OLD, NEW}
    disk.sync_folder()
    assert set(_after_cuts(disk, "state")) == {NEW}


def test_power_cut_unsynced_remove_may_come_back() -> None:
    disk = _synced({"a": OLD})
    disk.remove("a")
    assert disk.names() == []
    assert set(_after_cuts(disk, "a")) == {None, OLD}


def test_power_cut_renames_survive_as_a_prefix() -> None:
    disk = _synced({"a": OLD, "b": NEW})
    disk.rename("a", "a2")
    disk.rename("b", "b2")
    for seed in range(100):
        again = _replayed(disk)
        again.power_cut(random.Random(seed))
        assert again.names() in (["a", "b"], ["a2", "b"], ["a2", "b2"])


def test_power_cut_twice_the_second_loses_nothing_more() -> None:
    disk = _synced({"a": OLD * 8})
    disk.write("a", 0, NEW * 8)
    disk.power_cut(random.Random(3))
    before = disk.copy()
    disk.power_cut(random.Random(4))
    assert disk.copy() == before


def test_sync_fails_once_later_sync_does_not_save_what_was_dirty() -> None:
    """After a failed fsync the kernel calls the pages clean; only a new write saves them."""
    disk = _synced({"a": OLD * 2})
    disk.write("a", 0, NEW * 2)
    disk.fail_next_sync(errno.EIO)
    with pytest.raises(OSError, match="simulated sync failure") as caught:
        disk.sync("a")
    assert caught.value.errno == errno.EIO
    disk.write("a", 0, NEW)
    disk.sync("a")
    assert disk.read("a", 0, 2048) == NEW * 2
    assert set(_after_cuts(disk, "a")) == {NEW * 2, NEW + OLD}


def test_capacity_write_beyond_raises_enospc_after_what_fits() -> None:
    disk = SimDisk(capacity_bytes=10)
    disk.write("a", 0, b"123456")
    with pytest.raises(OSError, match="no space") as caught:
        disk.write("b", 0, b"123456")
    assert caught.value.errno == errno.ENOSPC
    assert disk.read("b", 0, 10) == b"1234"
    assert disk.free_bytes() == 0
    disk.write("a", 0, b"654321")
    disk.remove("b")
    assert disk.free_bytes() == 4


def test_capacity_allocate_beyond_raises_enospc_and_changes_nothing() -> None:
    disk = SimDisk(capacity_bytes=1000)
    disk.allocate("a", 600)
    with pytest.raises(OSError, match="no space"):
        disk.allocate("b", 600)
    assert disk.names() == ["a"]
    disk.allocate("a", 1000)
    assert disk.size("a") == 1000


def test_allocate_over_a_file_zeros_it_and_is_undone_by_luck() -> None:
    disk = _synced({"a": OLD * 2})
    disk.allocate("a", 2 * SECTOR_BYTES)
    zeros = bytes(SECTOR_BYTES)
    assert disk.read("a", 0, 2048) == zeros * 2
    assert set(_after_cuts(disk, "a")) == {OLD * 2, OLD + zeros, zeros + OLD, zeros * 2}


def test_flip_is_on_the_platter_too() -> None:
    disk = _synced({"a": b"\x00"})
    disk.flip("a", 0, 3)
    disk.power_cut(random.Random(1))
    assert disk.read("a", 0, 1) == b"\x08"


def test_copy_restore_and_wipe_are_durable() -> None:
    disk = _synced({"a": b"1"})
    backup = disk.copy()
    disk.write("a", 0, b"2")
    disk.write("b", 0, b"3")
    disk.restore(backup)
    disk.power_cut(random.Random(1))
    assert disk.copy().files == {"a": b"1"}
    disk.wipe()
    disk.power_cut(random.Random(1))
    assert disk.names() == []


def test_hook_raises_crashed_before_the_operation_takes_effect() -> None:
    disk = SimDisk()
    calls: list[tuple[str, str]] = []

    def hook(operation: str, name: str) -> None:
        calls.append((operation, name))
        if len(calls) == 3:
            raise Crashed

    disk.before_operation = hook
    disk.write("a", 0, b"1")
    disk.sync("a")
    with pytest.raises(Crashed):
        disk.rename("a", "b")
    assert calls == [("write", "a"), ("sync", "a"), ("rename", "a")]
    assert disk.names() == ["a"]


BATCH: tuple[DiskOperation, ...] = (
    WriteAt("a", 0, b"1"),
    Sync("a"),
    WriteAt("a", 1, b"2"),
    Sync("a"),
)


class _Machine:
    """One worker on one disk, and what it reported."""

    def __init__(self, seed: int = 1) -> None:
        self.loop = VirtualLoop()
        self.disk = SimDisk()
        self.fatal: list[BaseException] = []
        self.worker = SimDiskWorker(
            self.disk, self.loop, random.Random(seed), DiskLatency(), self.fatal.append
        )
        self.log: list[str] = []

    def say(self, text: str) -> None:
        self.log.append(text)

    def run_for(self, seconds: float) -> None:
        self.loop.run(asyncio.sleep(seconds))


def test_worker_batches_run_in_order_and_report_once() -> None:
    machine = _Machine()
    machine.worker.run(BATCH, lambda: machine.say(f"first {machine.disk.counters.syncs}"))
    machine.worker.run((), lambda: machine.say("empty"))
    machine.worker.run(BATCH, lambda: machine.say(f"second {machine.disk.counters.syncs}"))
    assert machine.disk.names() == []
    machine.run_for(1)
    assert machine.log == ["first 2", "empty", "second 4"]
    machine.loop.close()


def test_worker_submit_from_done_runs_once_and_after() -> None:
    machine = _Machine()
    machine.worker.run(
        BATCH[:1], lambda: machine.worker.run(BATCH[1:2], lambda: machine.say("inner"))
    )
    machine.worker.run(BATCH[2:], lambda: machine.say("queued"))
    machine.run_for(1)
    assert machine.log == ["queued", "inner"]
    assert machine.disk.counters.syncs == 2
    machine.loop.close()


def test_worker_stop_at_any_moment_leaves_a_prefix_and_calls_nobody() -> None:
    prefixes: set[tuple[int, int]] = set()
    for step in range(1, 100):
        machine = _Machine()
        machine.worker.run(BATCH, lambda machine=machine: machine.say("done"))  # type: ignore[misc]
        machine.run_for(step * 1e-4)
        ended = bool(machine.log)
        machine.worker.stop()
        counters = machine.disk.counters
        at_stop = (counters.writes, counters.syncs)
        machine.run_for(10)
        assert (counters.writes, counters.syncs) == at_stop
        assert bool(machine.log) == ended == (at_stop == (2, 2))
        prefixes.add(at_stop)
        machine.loop.close()
    assert prefixes == {(1, 0), (2, 1), (2, 2)}


def test_worker_background_is_a_lane_of_its_own_and_passes_errors() -> None:
    machine = _Machine()
    machine.disk.capacity_bytes = 100
    errors: list[OSError | None] = []
    machine.worker.run(BATCH * 50, lambda: machine.say("run"))
    machine.worker.background((Allocate("spare", 50), SyncFolder()), errors.append)
    machine.worker.background(
        (Allocate("more", 200), SyncFolder()), lambda error: machine.say(f"{error and error.errno}")
    )
    machine.run_for(5)
    assert errors == [None]
    assert machine.log == [f"{errno.ENOSPC}", "run"]
    assert machine.disk.counters.folder_syncs == 1
    machine.loop.close()


def test_worker_failed_sync_stops_it_and_is_fatal_once() -> None:
    machine = _Machine()
    machine.disk.fail_next_sync(errno.EIO, times=2)
    machine.worker.run(BATCH, lambda: machine.say("done"))
    machine.worker.run(BATCH, lambda: machine.say("done"))
    machine.run_for(5)
    assert [isinstance(each, OSError) for each in machine.fatal] == [True]
    assert machine.log == []
    assert machine.disk.counters.writes == 1
    machine.loop.close()


def test_worker_crashed_by_the_hook_stops_before_the_operation() -> None:
    machine = _Machine()

    def hook(operation: str, _name: str) -> None:
        if operation == "sync":
            raise Crashed

    machine.disk.before_operation = hook
    machine.worker.run(BATCH, lambda: machine.say("done"))
    machine.run_for(5)
    assert [type(each) for each in machine.fatal] == [Crashed]
    assert machine.disk.read("a", 0, 9) == b"1"
    machine.loop.close()


def test_worker_fetch_gives_bytes_or_none() -> None:
    machine = _Machine()
    machine.disk.write("a", 0, b"abc")
    found: list[bytes | None] = []
    machine.worker.fetch("a", 1, 2, found.append)
    machine.run_for(1)
    machine.worker.fetch("missing", 0, 2, found.append)
    machine.run_for(1)
    assert found == [b"bc", None]
    machine.loop.close()


def test_worker_paused_does_nothing_until_resumed() -> None:
    machine = _Machine()
    machine.worker.run(BATCH, lambda: machine.say("done"))
    machine.worker.pause()
    machine.run_for(5)
    assert machine.disk.counters.writes == 0
    machine.worker.resume()
    machine.run_for(5)
    assert machine.log == ["done"]
    machine.loop.close()
