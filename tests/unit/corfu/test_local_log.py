"""The embedded log as users hold it, in a real folder."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

import corfu
from corfu.embedded.folder import open_store
from corfu.embedded.log import LocalLog
from corfu.embedded.opening import local
from corfu.errors import (
    AppendUnknownError,
    LostError,
    NotAppendedError,
    TrimmedError,
    UnavailableError,
    UnwrittenError,
    UsageError,
)
from corfu.journal.execute import execute_all
from corfu.journal.format import JournalSettings
from corfu.ports import DiskOperation
from corfu.types import Offset, Position, State
from tests.unit.corfu.fake_disk import FakeDisk


class StallingWorker:
    """A worker whose commits end only when the test says so."""

    def __init__(self, disk: FakeDisk) -> None:
        self.disk = disk
        self.stalled: list[Callable[[], None]] | None = None
        self.stalled_one = asyncio.Event()
        self.runs = 0

    def run(self, operations: Sequence[DiskOperation], done: Callable[[], None]) -> None:
        self.runs += 1

        def work() -> None:
            execute_all(self.disk, operations)
            done()

        if self.stalled is None:
            asyncio.get_running_loop().call_soon(work)
        else:
            self.stalled.append(work)
            self.stalled_one.set()

    def background(
        self, operations: Sequence[DiskOperation], done: Callable[[OSError | None], None]
    ) -> None:
        failure: OSError | None = None
        try:
            execute_all(self.disk, operations)
        except OSError as error:
            failure = error
        asyncio.get_running_loop().call_soon(done, failure)

    def fetch(
        self,
        name: str,
        position: int,
        length: int,
        done: Callable[[bytes | None], None],
        *,
        fresh: bool = False,
    ) -> None:
        data = self.disk.read(name, position, length)
        asyncio.get_running_loop().call_soon(done, data)


def fake_log(disk: FakeDisk) -> tuple[LocalLog, StallingWorker]:
    settings = JournalSettings(file_bytes=1 << 16, spares_wanted=2)
    store = open_store(disk, "folder", settings, lambda count: bytes(range(count)))
    worker = StallingWorker(disk)
    log = LocalLog(
        store,
        worker,
        loop=asyncio.get_running_loop(),
        pid=lambda: 1,
        wall_us=lambda: 0,
        on_close=lambda: None,
    )
    return log, worker


async def test_local_append_read_scan_and_reopen(tmp_path: Path) -> None:
    async with corfu.local(tmp_path / "log") as log:
        assert await log.append(b"a") == Position(Offset(0), 0)
        assert await log.append_many([b"b", b"", b"c"]) == [
            Position(Offset(1), i) for i in range(3)
        ]
        assert (await log.read(Position(Offset(1), 2))).data == b"c"
        with pytest.raises(UnwrittenError):
            await log.read(2)
    log = await corfu.local(tmp_path / "log")
    assert await log.tail() == 2
    assert [r.data async for r in log.scan()] == [b"a", b"b", b"", b"c"]
    start, end = Position(Offset(1), 1), Position(Offset(1), 2)
    assert [r.data async for r in log.scan(start, end)] == [b""]
    assert await log.fill(1) is State.DATA
    with pytest.raises(UsageError, match="not below the tail"):
        await log.fill(2)
    await log.close()
    with pytest.raises(UsageError, match="closed"):
        await log.tail()


async def test_local_appends_of_one_turn_share_a_commit() -> None:
    log, worker = fake_log(FakeDisk())
    positions = await asyncio.gather(*(log.append(b"%d" % i) for i in range(100)))
    assert positions == [Position(Offset(0), i) for i in range(100)]
    assert worker.runs == 1
    await log.close()


async def test_local_append_is_not_visible_before_its_sync() -> None:
    log, worker = fake_log(FakeDisk())
    worker.stalled = []
    task = asyncio.create_task(log.append(b"x"))
    await worker.stalled_one.wait()
    assert await log.tail() == 0
    with pytest.raises(UnwrittenError):
        await log.read(0)
    worker.stalled.pop()()
    assert (await task).offset == 0
    assert await log.tail() == 1
    worker.stalled = None
    await log.close()


async def test_local_append_timeout_is_certain_only_while_queued() -> None:
    log, worker = fake_log(FakeDisk())
    worker.stalled = []
    first = asyncio.create_task(log.append(b"first", timeout=0.05))
    await worker.stalled_one.wait()
    with pytest.raises(NotAppendedError):
        await log.append(b"queued", timeout=0.001)
    with pytest.raises(AppendUnknownError):
        await first
    worker.stalled.pop()()
    worker.stalled = None
    await log.append(b"third")
    assert [r.data async for r in log.scan()] == [b"first", b"third"]
    await log.close()


async def test_local_failed_disk_ends_everything_honestly() -> None:
    log, worker = fake_log(FakeDisk())
    worker.stalled = []
    written = asyncio.create_task(log.append(b"written"))
    await worker.stalled_one.wait()
    queued = asyncio.create_task(log.append(b"queued"))
    follower = asyncio.create_task(anext(log.follow(0)))
    await asyncio.sleep(0)
    log.broke(OSError(5, "Input/output error"))
    with pytest.raises(AppendUnknownError, match="disk failed"):
        await written
    with pytest.raises(NotAppendedError, match="disk failed"):
        await queued
    with pytest.raises(UnavailableError, match="disk failed"):
        await follower
    with pytest.raises(UnavailableError):
        await log.append(b"more")
    await log.close()


async def test_local_full_disk_refuses_appends_and_still_trims() -> None:
    disk = FakeDisk(capacity=5 << 16)
    log, _ = fake_log(disk)
    full = [log.append(bytes(8000), timeout=0.2) for _ in range(100)]
    ends = await asyncio.gather(*full, return_exceptions=True)
    positions = [end for end in ends if isinstance(end, Position)]
    refused = [end for end in ends if isinstance(end, NotAppendedError)]
    count = await log.tail()
    assert len(positions) + len(refused) == 100
    assert len(refused) > 10
    assert len(positions) > 10
    assert await log.trim(count - 1) == count - 1
    # The trim frees files, and with them appends go on.
    assert (await log.append(b"again", timeout=5)).offset == count
    await log.close()


async def test_local_trim_frees_files_and_ends_old_places(tmp_path: Path) -> None:
    folder = tmp_path / "log"
    async with local(folder, file_bytes=4 << 20) as log:
        for _ in range(40):
            await log.append(bytes(1 << 19))
        before = len(list(folder.glob("journal-*")))
        assert await log.trim(39) == 39
        assert await log.trim(5) == 39
        # Freed a commit after the trim is durable; the next appends bring those commits.
        for _ in range(4):
            await log.append(b"x")
        with pytest.raises(TrimmedError, match="begins at 39"):
            await log.read(38)
    assert len(list(folder.glob("journal-*"))) < before / 2
    async with local(folder, file_bytes=4 << 20) as log:
        assert [r.position.offset async for r in log.scan()] == [39, 40, 41, 42, 43]
        with pytest.raises(TrimmedError):
            await anext(log.scan(0))


async def test_local_damage_is_lost_never_unwritten(tmp_path: Path) -> None:
    folder = tmp_path / "log"
    async with corfu.local(folder) as log:
        for i in range(10):
            await log.append(b"record %d" % i * 100)
    (path,) = [p for p in folder.glob("journal-*") if b"record 4" in p.read_bytes()]
    damaged = bytearray(path.read_bytes())
    damaged[damaged.index(b"record 4") + 50] ^= 1
    path.write_bytes(damaged)
    async with corfu.local(folder) as log:
        with pytest.raises(LostError, match="offset 4"):
            await log.read(4)
        assert len([r async for r in log.scan(on_lost="skip")]) == 9
        assert await log.fill(4) is State.LOST
        assert await log.tail() == 10


async def test_local_damage_while_open_is_lost(tmp_path: Path) -> None:
    folder = tmp_path / "log"
    async with corfu.local(folder) as log:
        await log.append(b"soon bad" * 100)
    async with corfu.local(folder) as log:
        (path,) = [p for p in folder.glob("journal-*") if b"soon bad" in p.read_bytes()]
        damaged = bytearray(path.read_bytes())
        damaged[damaged.index(b"soon bad")] ^= 1
        path.write_bytes(damaged)
        with pytest.raises(LostError):
            await log.read(0)


async def test_local_follow_sees_old_and_new_and_ends_when_closed() -> None:
    log, _ = fake_log(FakeDisk())
    await log.append(b"old")
    follower = log.follow(corfu.EARLIEST)
    assert (await anext(follower)).data == b"old"
    waiting = asyncio.create_task(anext(follower))
    await log.append(b"new")
    assert (await waiting).data == b"new"
    waiting = asyncio.create_task(anext(follower))
    await asyncio.sleep(0)
    await log.close()
    with pytest.raises(UsageError, match="closed"):
        await waiting


async def test_local_opened_twice_is_refused_by_name(tmp_path: Path) -> None:
    async with corfu.local(tmp_path / "log"):
        with pytest.raises(UsageError, match="log is open"):
            await corfu.local(tmp_path / "log")
    async with corfu.local(tmp_path / "log"):
        pass


async def test_local_file_instead_of_folder_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("a file")
    with pytest.raises(UnavailableError, match="log"):
        await corfu.local(tmp_path / "log")
    with pytest.raises(UsageError, match="file_bytes"):
        corfu.local(tmp_path / "x", file_bytes=1000)
