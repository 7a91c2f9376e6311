"""Opening an embedded log: the real folder, its lock, the threads that work on it."""

from __future__ import annotations

import asyncio
import fcntl
import os
import time
from collections.abc import Generator, Sequence
from pathlib import Path
from types import TracebackType

from corfu.compression import CodecName, Compression, EntryCodec, compression_of
from corfu.embedded.folder import LOCK_NAME, open_store
from corfu.embedded.log import LocalLog
from corfu.embedded.store import LocalStore
from corfu.errors import UnavailableError, UsageError
from corfu.journal.format import JournalSettings
from corfu.runtime.dictionaries import Dictionary, dictionaries_of
from corfu.runtime.disk import FileDisk, ThreadDiskWorker

_FILE_BYTES_MIN = 4 << 20
"""The largest entry and the opening of a journal file fit well into one."""

_SPARES = 2
"""One for the entries to go on in, one kept so that a trim can be noted on a full disk."""


class OpeningLocal:
    """A log being opened: `async with local(...) as log`, or `log = await local(...)`."""

    def __init__(self, path: Path, settings: JournalSettings, codec: EntryCodec) -> None:
        self._path = path
        self._settings = settings
        self._codec = codec
        self._log: LocalLog | None = None

    def __await__(self) -> Generator[object, None, LocalLog]:
        return self._open().__await__()

    async def __aenter__(self) -> LocalLog:
        self._log = await self._open()
        return self._log

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._log is not None:
            await self._log.close()

    async def _open(self) -> LocalLog:
        loop = asyncio.get_running_loop()
        lock, disk, store = await asyncio.to_thread(_open_folder, self._path, self._settings)
        log: LocalLog | None = None

        def broke(error: OSError) -> None:
            assert log is not None
            log.broke(error)

        worker = ThreadDiskWorker(disk, loop.call_soon_threadsafe, broke)

        def release() -> None:
            worker.close()
            disk.close()
            os.close(lock)

        log = LocalLog(
            store,
            worker,
            loop=loop,
            pid=os.getpid,
            wall_us=lambda: time.time_ns() // 1000,
            on_close=release,
            codec=self._codec,
        )
        return log


def local(
    path: str | os.PathLike[str],
    *,
    file_bytes: int = 32 << 20,
    compression: CodecName | Compression | None = None,
    dictionary: Dictionary | Sequence[Dictionary] | None = None,
) -> OpeningLocal:
    """Open the embedded log in a folder, for this process alone; make it if it is not there.

    The same API as a cluster's log, without a cluster: an append returns when it is durable in
    the folder. It is as safe as that one disk.

    Args:
        path: The folder.
        file_bytes: Length of a journal file; a trim frees space by whole files.
        compression: See `corfu.connect`.
        dictionary: See `corfu.connect`.

    Raises:
        UsageError: `file_bytes` is too small; a library for `compression` is missing, or a
            dictionary is none. From awaiting: another process has the log open,
            or the folder holds something else.
        CorruptionError: From awaiting: the folder's files do not belong together.
        UnavailableError: From awaiting: the folder cannot be read or written.
    """
    if file_bytes < _FILE_BYTES_MIN or file_bytes % 4096:
        raise UsageError(f"file_bytes must be a multiple of 4096, at least {_FILE_BYTES_MIN}")
    chosen = compression_of(Compression(), compression, dictionaries_of(dictionary))
    settings = JournalSettings(file_bytes=file_bytes, spares_wanted=_SPARES)
    return OpeningLocal(Path(path), settings, EntryCodec(chosen))


def _open_folder(path: Path, settings: JournalSettings) -> tuple[int, FileDisk, LocalStore]:
    """Lock and recover the folder; returns the lock's descriptor, the disk and the store."""
    try:
        _make_folder(path)
        lock = os.open(path / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    except OSError as error:
        raise UnavailableError(f"{path}: {error.strerror}") from error
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(f"{path} is open in another process, or twice in this one") from None
        disk = FileDisk(path)
        try:
            return lock, disk, open_store(disk, str(path), settings, os.urandom)
        except BaseException:
            disk.close()
            raise
    except OSError as error:
        os.close(lock)
        raise UnavailableError(f"{path}: {error.strerror}") from error
    except BaseException:
        os.close(lock)
        raise


def _make_folder(path: Path) -> None:
    """Make the folder and those above it; that they are there is durable."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    for folder in reversed(missing):
        folder.mkdir(exist_ok=True)
        above = os.open(folder.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(above)
        finally:
            os.close(above)
