"""The real disk: a folder of files, and the threads that work on it."""

from __future__ import annotations

import errno
import os
import queue
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from corfu.journal.execute import execute
from corfu.ports import Disk, DiskOperation, WriteAt

_ZEROS = bytes(1024 * 1024)

_INLINE_BYTES_MAX = 1 << 20
"""Written in the caller's thread at most: some 0.3 ms."""

_OPEN_FILES_MAX = 256
"""Descriptors kept open; well below the usual limit of 1,024 a process."""

CallSoon = Callable[[Callable[[], None]], object]
"""An event loop's `call_soon_threadsafe`."""


class FileDisk:
    """A folder on the file system as a `Disk`. Safe to use from several threads.

    Threads may work on different files at the same time; what they do to one file at the same
    time is in no order.
    """

    def __init__(self, path: Path) -> None:
        """Use the folder at `path`, which must exist."""
        self._path = path
        self._folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        self._lock = threading.Lock()
        self._open: dict[str, _OpenFile] = {}

    def close(self) -> None:
        """Close all descriptors; nothing is synced."""
        with self._lock:
            files, self._open = list(self._open.values()), {}
        for file in files:
            file.release()
        os.close(self._folder)

    def names(self) -> list[str]:
        """See `Disk`."""
        with os.scandir(self._path) as entries:
            return sorted(entry.name for entry in entries if entry.is_file())

    def size(self, name: str) -> int:
        """See `Disk`."""
        return os.stat(name, dir_fd=self._folder).st_size

    def read(self, name: str, position: int, length: int) -> bytes:
        """See `Disk`."""
        chunks: list[bytes] = []
        with self._file(name, os.O_RDWR) as file:
            while length > 0 and (chunk := os.pread(file.descriptor, length, position)):
                chunks.append(chunk)
                position += len(chunk)
                length -= len(chunk)
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def forget(self, name: str) -> None:
        """See `Disk`."""
        self._forget(name)
        descriptor = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=self._folder)
        try:
            if hasattr(os, "posix_fadvise"):
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)

    def write(self, name: str, position: int, data: bytes) -> None:
        """See `Disk`."""
        with self._file(name, os.O_RDWR | os.O_CREAT) as file:
            _write_all(file.descriptor, position, data)

    def allocate(self, name: str, length: int) -> None:
        """See `Disk`; after an error no file of that name is left."""
        self._forget(name)
        flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        descriptor = os.open(name, flags, 0o640, dir_fd=self._folder)
        try:
            # Really written: a hole, or space that is only promised, costs a metadata commit
            # with every later sync, and may turn out not to be there. Synced piece by piece: a
            # commit that comes meanwhile then waits behind one piece, and not behind the file.
            for position in range(0, length, len(_ZEROS)):
                _write_all(descriptor, position, _ZEROS[: length - position])
                os.fdatasync(descriptor)
        except OSError:
            os.unlink(name, dir_fd=self._folder)
            raise
        finally:
            os.close(descriptor)

    def sync(self, name: str) -> None:
        """See `Disk`. The length counts as content: `fdatasync` keeps it, too."""
        with self._file(name, os.O_RDWR) as file:
            os.fdatasync(file.descriptor)

    def sync_folder(self) -> None:
        """See `Disk`."""
        os.fsync(self._folder)

    def rename(self, old: str, new: str) -> None:
        """See `Disk`."""
        os.rename(old, new, src_dir_fd=self._folder, dst_dir_fd=self._folder)
        self._forget(old)
        self._forget(new)

    def remove(self, name: str) -> None:
        """See `Disk`."""
        os.unlink(name, dir_fd=self._folder)
        self._forget(name)

    def free_bytes(self) -> int:
        """See `Disk`."""
        status = os.fstatvfs(self._folder)
        return status.f_bavail * status.f_frsize

    def _file(self, name: str, flags: int) -> _OpenFile:
        """Return the open file of that name, counted as in use until its `with` ends."""
        with self._lock:
            file = self._open.pop(name, None)
            if file is None:
                descriptor = os.open(name, flags | os.O_CLOEXEC, 0o640, dir_fd=self._folder)
                file = _OpenFile(descriptor)
            # Back at the end: the first one is the one not used for longest.
            self._open[name] = file
            file.hold()
            oldest = next(iter(self._open))
            surplus = self._open.pop(oldest) if len(self._open) > _OPEN_FILES_MAX else None
        if surplus is not None:
            surplus.release()
        return file

    def _forget(self, name: str) -> None:
        with self._lock:
            file = self._open.pop(name, None)
        if file is not None:
            file.release()


class _OpenFile:
    """A descriptor that is closed when the cache and all who use it have let it go."""

    __slots__ = ("_lock", "_users", "descriptor")

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._users = 1
        self._lock = threading.Lock()

    def hold(self) -> None:
        with self._lock:
            self._users += 1

    def release(self) -> None:
        with self._lock:
            self._users -= 1
            last = not self._users
        if last:
            os.close(self.descriptor)

    def __enter__(self) -> _OpenFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def _write_all(descriptor: int, position: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, position)
        if not written:
            raise OSError(errno.EIO, "the disk took nothing of a write")
        position += written
        view = view[written:]


class ThreadDiskWorker:
    """A `DiskWorker` with three threads: for `run`, for `background` and for `fetch`.

    So neither a commit nor a read waits until a spare journal file is written. A commit that
    syncs nothing is carried out at once, by the caller's thread: a write to the page cache takes
    less than to hand it to another thread and back.

    After the first failed operation of `run` nothing that `run` was given is carried out any
    more: what the disk holds is then unknown, and the process has to end.
    """

    def __init__(
        self, disk: Disk, call_soon: CallSoon, on_fatal: Callable[[OSError], None]
    ) -> None:
        """Start the threads.

        Args:
            disk: Where the operations go; must be safe to use from three threads.
            call_soon: Brings a callback to the event loop, from any thread.
            on_fatal: Called once, on the event loop, when an operation of `run` has failed.
        """
        self._disk = disk
        self._call_soon = call_soon
        self._on_fatal = on_fatal
        self._failed = False
        self._closed = False
        # Each counted by one thread alone; equal when the thread of `run` has nothing left.
        self._commits_given = 0
        self._commits_done = 0
        self._commits: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._backgrounds: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._fetches: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._queues = (self._commits, self._backgrounds, self._fetches)
        self._threads = [
            threading.Thread(target=_work, args=(jobs,), name=f"disk-{number}", daemon=True)
            for number, jobs in enumerate(self._queues, 1)
        ]
        for thread in self._threads:
            thread.start()

    def run(self, operations: Sequence[DiskOperation], done: Callable[[], None]) -> None:
        """See `DiskWorker`."""
        assert not self._closed
        if self._commits_given == self._commits_done and _is_short(operations):
            self._run(operations, done)
            return
        self._commits_given += 1

        def work() -> None:
            self._run(operations, done)
            self._commits_done += 1

        self._commits.put(work)

    def background(
        self, operations: Sequence[DiskOperation], done: Callable[[OSError | None], None]
    ) -> None:
        """See `DiskWorker`."""
        assert not self._closed
        self._backgrounds.put(lambda: self._background(operations, done))

    def fetch(
        self,
        name: str,
        position: int,
        length: int,
        done: Callable[[bytes | None], None],
        *,
        fresh: bool = False,
    ) -> None:
        """See `DiskWorker`."""
        assert not self._closed
        self._fetches.put(lambda: self._fetch(name, position, length, done, fresh=fresh))

    def close(self) -> None:
        """Carry out what was given so far, then end the threads; waits for all of them.

        Callbacks of what was given are still handed to the event loop.
        """
        if self._closed:
            return
        self._closed = True
        for jobs in self._queues:
            jobs.put(None)
        for thread in self._threads:
            thread.join()

    def _run(self, operations: Sequence[DiskOperation], done: Callable[[], None]) -> None:
        if self._failed:
            return
        try:
            for operation in operations:
                execute(self._disk, operation)
        except OSError as error:
            # Never tried again: after a failed sync the system may call the lost pages clean.
            self._failed = True
            failure = error
            self._call_soon(lambda: self._on_fatal(failure))
            return
        self._call_soon(done)

    def _background(
        self, operations: Sequence[DiskOperation], done: Callable[[OSError | None], None]
    ) -> None:
        failure: OSError | None = None
        try:
            for operation in operations:
                execute(self._disk, operation)
        except OSError as error:
            failure = error
        self._call_soon(lambda: done(failure))

    def _fetch(
        self,
        name: str,
        position: int,
        length: int,
        done: Callable[[bytes | None], None],
        *,
        fresh: bool,
    ) -> None:
        try:
            if fresh:
                self._disk.forget(name)
            data: bytes | None = self._disk.read(name, position, length)
        except OSError:
            data = None
        self._call_soon(lambda: done(data))


def _is_short(operations: Sequence[DiskOperation]) -> bool:
    """Tell whether these are writes to the page cache alone, and not many bytes."""
    size = 0
    for operation in operations:
        if not isinstance(operation, WriteAt):
            return False
        size += len(operation.data)
    return size <= _INLINE_BYTES_MAX


def _work(jobs: queue.SimpleQueue[Callable[[], None] | None]) -> None:
    while (job := jobs.get()) is not None:
        job()
