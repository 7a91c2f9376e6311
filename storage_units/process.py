"""One storage unit process, over ports: what a server and the simulator both run."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace

from corfu.errors import CorruptionError
from corfu.journal.format import JournalError
from corfu.layout import Unit
from corfu.link import Link
from corfu.ports import (
    Datagrams,
    Disk,
    DiskOperation,
    DiskWorker,
    Sync,
    SyncFolder,
)
from corfu.runtime.driver import Driver
from corfu.types import Address, ClusterId, Incarnation, Offset, SyncMode, UnitId

from .identity import (
    IDENTITY_NAME,
    FolderError,
    LeftError,
    UnitIdentity,
    identity_operations,
    read_identity,
    write_identity,
)
from .recovery import create_journal, recover_store
from .registration import Registrar
from .settings import UnitSettings
from .unit import StorageUnit


def format_unit(
    disk: Disk,
    *,
    cluster: ClusterId,
    unit: UnitId,
    incarnation: Incarnation,
    sync: SyncMode,
    settings: UnitSettings,
) -> None:
    """Make a unit's data folder; durable on return.

    The identity is written last: a format that was cut short leaves a folder nobody starts.

    Raises:
        FolderError: The folder holds a unit, or part of one, already.
        OSError: From the disk.
    """
    if IDENTITY_NAME in disk.names():
        raise FolderError("the folder holds a storage unit already")
    identity = UnitIdentity(cluster, unit, incarnation, (), sync, "", clean=True)
    try:
        create_journal(disk, identity, settings)
    except JournalError as error:
        raise FolderError(f"the folder is not empty: {error}") from error
    write_identity(disk, identity)


class UnsyncedWorker:
    """A `DiskWorker` for `SyncMode.OS`: replies wait for the page cache, not for the disk."""

    def __init__(self, worker: DiskWorker) -> None:
        self._worker = worker

    def run(self, operations: Sequence[DiskOperation], done: Callable[[], None]) -> None:
        """See `DiskWorker`; syncs nothing."""
        kept = [each for each in operations if not isinstance(each, Sync | SyncFolder)]
        self._worker.run(kept, done)

    def background(
        self, operations: Sequence[DiskOperation], done: Callable[[OSError | None], None]
    ) -> None:
        """See `DiskWorker`."""
        self._worker.background(operations, done)

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
        self._worker.fetch(name, position, length, done, fresh=fresh)


class UnitProcess:
    """A storage unit on one data folder. `start`, then `drain` or `kill`; not started again."""

    def __init__(
        self,
        *,
        disk: Disk,
        worker: DiskWorker,
        datagrams: Datagrams,
        loop: asyncio.AbstractEventLoop,
        rng: random.Random,
        entropy: Callable[[int], bytes],
        settings: UnitSettings,
        boot_id: str,
        log: Callable[[str], None],
        on_fatal: Callable[[Exception], None] | None = None,
        on_reborn: Callable[[], None] | None = None,
    ) -> None:
        """Make a process; nothing is done before `start`.

        Args:
            disk: The data folder, used before serving begins and at a clean stop.
            worker: Works on the same folder while the process serves; the caller closes it.
            datagrams: Bound to the address that peers use.
            loop: Where everything runs.
            rng: For jitter.
            entropy: Returns so many bytes that nobody else has.
            settings: Bounds and intervals.
            boot_id: Names the machine's current boot.
            log: Takes a line for an operator.
            on_fatal: Takes what ends the process by itself; None: it is raised in the loop.
            on_reborn: Called when the unit was left out of the layout: it has stopped, and its
                folder has a new incarnation, under which a new `UnitProcess` is to be started.
        """
        self._disk = disk
        self._worker = worker
        self._datagrams = datagrams
        self._loop = loop
        self._rng = rng
        self._entropy = entropy
        self._settings = settings
        self._boot_id = boot_id
        self._log = log
        self._on_fatal = on_fatal
        self._on_reborn = on_reborn
        self._stopped = False
        self._indexing = False
        self._registrar: asyncio.Task[None] | None = None
        self._housekeeping: asyncio.TimerHandle | None = None
        self._identity: UnitIdentity | None = None
        self._core: StorageUnit | None = None
        self._driver: Driver | None = None

    @property
    def serves(self) -> bool:
        """Whether the unit serves; else it only waits until the cluster has dropped it."""
        return self._core is not None

    @property
    def core(self) -> StorageUnit:
        """The unit's logic; there from `start` on, while it `serves`."""
        assert self._core is not None
        return self._core

    @property
    def driver(self) -> Driver:
        """What runs the core; there from `start` on."""
        assert self._driver is not None
        return self._driver

    @property
    def identity(self) -> UnitIdentity:
        """Whose folder it is; there from `start` on."""
        assert self._identity is not None
        return self._identity

    def start(self) -> None:
        """Recover what the folder holds, then serve; or, if it may not be served, wait.

        Raises:
            FolderError: The folder cannot be used as it is.
            CorruptionError: What it holds cannot be used.
            OSError: From the disk.
        """
        identity = self._identity = read_identity(self._disk)
        if identity.may_have_lost(self._boot_id):
            self._start_waiting()
            return
        if identity.sync is SyncMode.OS:
            identity = self._identity = replace(identity, boot_id=self._boot_id, clean=False)
            write_identity(self._disk, identity)
        store = recover_store(self._disk, identity, self._settings)
        core = self._core = StorageUnit(
            store, self._settings, session=self._new_incarnation(), log=self._log
        )
        core.free_bytes = self._disk.free_bytes()
        synced = identity.sync is SyncMode.ALWAYS
        self._start_driver(core, self._worker if synced else UnsyncedWorker(self._worker))
        self._housekeep()
        self._spawn_registrar(self._register())

    def _start_waiting(self) -> None:
        """Serve nothing, and wait to be dropped: the machine may have lost acknowledged entries.

        Rule "after an unclean stop under another boot the unit starts only as a new incarnation":
        what it held last was in the page cache alone. To its peers it is as dead, so no journal
        is read and no probe, seal or read answered; nothing is written before it has left, so a
        restart finds the folder as this one did.
        """
        identity = self.identity
        if not self._settings.sequencers:
            raise FolderError(
                "with --sync os the machine's stop may have lost acknowledged entries, and only "
                "the sequencer can tell when the cluster has dropped the unit: name --sequencers"
            )
        self._log(
            f"with --sync os the machine's stop may have lost acknowledged entries: unit "
            f"{identity.unit} serves nothing until the cluster has dropped it, and comes back as "
            "a spare then"
        )
        self._start_driver(None, None)
        self._spawn_registrar(self._wait())

    def _start_driver(self, core: StorageUnit | None, worker: DiskWorker | None) -> None:
        link = Link(
            cluster=self.identity.cluster,
            session=self._new_incarnation(),
            settings=self._settings.link,
            rng=self._rng,
        )
        self._driver = Driver(
            core=core,
            link=link,
            datagrams=self._datagrams,
            worker=worker,
            loop=self._loop,
            on_fatal=self._fatal if self._on_fatal is not None else None,
        )
        self._driver.start()

    def _spawn_registrar(self, work: Coroutine[object, object, None]) -> None:
        self._registrar = self._loop.create_task(work, name="register")
        self._registrar.add_done_callback(self._registrar_ended)

    def kill(self) -> None:
        """Stop at once; what is not committed is not."""
        self._stop_helpers()
        if self._driver is not None:
            self._driver.stop()

    async def drain(self) -> None:
        """Stop cleanly: commit what was appended, send what waited for it, say so on disk."""
        self._stop_helpers()
        await self.driver.drain()
        if self.serves and self.identity.sync is SyncMode.OS:
            # Only a folder that is all on disk may be started under another boot.
            for name in self._disk.names():
                self._disk.sync(name)
            self._disk.sync_folder()
            write_identity(self._disk, replace(self.identity, clean=True))

    def _new_incarnation(self) -> Incarnation:
        return Incarnation(self._entropy(16))

    def _stop_helpers(self) -> None:
        self._stopped = True
        if self._registrar is not None:
            self._registrar.cancel()
        if self._housekeeping is not None:
            self._housekeeping.cancel()

    def _fatal(self, error: Exception) -> None:
        self._stop_helpers()
        assert self._on_fatal is not None
        self._on_fatal(error)

    # Housekeeping.

    def _housekeep(self) -> None:
        if self._stopped:
            return
        core = self.core
        core.free_bytes = self._disk.free_bytes()
        self.driver.run(core.maintain(self._loop.time()))
        work = None if self._indexing else core.next_index()
        if work is not None:
            serial, operations = work
            self._indexing = True
            self._worker.background(operations, lambda error: self._indexed(serial, error))
        self._housekeeping = self._loop.call_later(self._settings.housekeeping_s, self._housekeep)

    def _indexed(self, serial: int, error: OSError | None) -> None:
        if self._stopped:
            return
        self._indexing = False
        if error is not None:
            self._log(f"index file of journal file {serial}: {error}")
        self.core.index_done(serial, error)

    # Registration.

    def _registrar_ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            if not isinstance(error, Exception) or self._on_fatal is None:
                raise error
            self.kill()
            self._on_fatal(error)

    async def _register(self) -> None:
        """Find out that the unit was left out, and come back as a new incarnation then."""
        core = self.core
        await self._return(await self._new_registrar().until_left(lambda: core.probed_at))

    async def _wait(self) -> None:
        """Wait until the old incarnation has left, or never stood anywhere, and begin anew."""
        await self._return(await self._new_registrar().until_dropped())

    def _new_registrar(self) -> Registrar:
        own = Unit(self.identity.unit, self.identity.incarnation, self._datagrams.address)
        return Registrar(self.driver, self._settings, own, replicas=self._replicas, log=self._log)

    async def _return(self, bound: Offset | None) -> None:
        """Become a new incarnation: the old one was left out, and may hold values that lost."""
        identity = self.identity
        if bound is None:
            raise LeftError(
                f"unit {identity.unit} left the cluster, and nothing that it holds counts any "
                "more: format it anew (corfu-storage format --force)"
            )
        counts = (
            f"what it holds below {bound} need not be copied again"
            if bound
            else ("nothing that it holds counts")
        )
        self._log(
            "the layout goes on without this unit: it becomes a spare, as a new incarnation; "
            f"{counts}"
        )
        self._stopped = True
        if self._housekeeping is not None:
            self._housekeeping.cancel()
        await self.driver.drain()
        # One file, so one step: from here on the bound holds, whatever happens.
        # A folder that was used in this boot must not be taken for one of an earlier boot.
        boot_id = identity.boot_id if identity.sync is SyncMode.ALWAYS else self._boot_id
        reborn = identity.reborn(self._new_incarnation(), bound)
        self._identity = replace(reborn, boot_id=boot_id)
        written: asyncio.Future[OSError | None] = self._loop.create_future()
        self._worker.background(identity_operations(self._identity), written.set_result)
        error = await written
        if error is not None:
            raise error
        if self._on_reborn is not None:
            self._on_reborn()

    def _replicas(self) -> tuple[Address, ...]:
        layout = None if self._core is None else self._core.store.standing.layout
        known = () if layout is None else tuple(replica.address for replica in layout.replicas)
        return (*known, *self._settings.sequencers)


__all__ = [
    "CorruptionError",
    "FolderError",
    "LeftError",
    "UnitIdentity",
    "UnitProcess",
    "UnsyncedWorker",
    "format_unit",
    "read_identity",
]
