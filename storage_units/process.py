"""One storage unit process, over ports: what a server and the simulator both run."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import replace

from corfu.errors import CorruptionError
from corfu.journal.format import JournalError
from corfu.layout import Unit
from corfu.link import Link
from corfu.messages import Register, Registered, Rejected
from corfu.ports import (
    Datagrams,
    Disk,
    DiskOperation,
    DiskWorker,
    Sync,
    SyncFolder,
    UnansweredError,
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
        self._registration: Registered | Rejected | None = None

    @property
    def core(self) -> StorageUnit:
        """The unit's logic; there from `start` on."""
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
        """Recover what the folder holds, then serve.

        Raises:
            FolderError: The folder cannot be used as it is.
            CorruptionError: What it holds cannot be used.
            OSError: From the disk.
        """
        identity = self._identity = self._take_folder()
        store = recover_store(self._disk, identity, self._settings)
        core = self._core = StorageUnit(
            store, self._settings, session=self._new_incarnation(), log=self._log
        )
        core.free_bytes = self._disk.free_bytes()
        link = Link(
            cluster=identity.cluster,
            session=self._new_incarnation(),
            settings=self._settings.link,
            rng=self._rng,
        )
        synced = identity.sync is SyncMode.ALWAYS
        self._driver = Driver(
            core=core,
            link=link,
            datagrams=self._datagrams,
            worker=self._worker if synced else UnsyncedWorker(self._worker),
            loop=self._loop,
            on_fatal=self._fatal if self._on_fatal is not None else None,
        )
        self._driver.start()
        self._housekeep()
        self._registrar = self._loop.create_task(self._register(), name="register")
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
        if self.identity.sync is SyncMode.OS:
            # Only a folder that is all on disk may be started under another boot.
            for name in self._disk.names():
                self._disk.sync(name)
            self._disk.sync_folder()
            write_identity(self._disk, replace(self.identity, clean=True))

    def _take_folder(self) -> UnitIdentity:
        """Read who we are; note that the folder is in use."""
        identity = read_identity(self._disk)
        if identity.sync is SyncMode.ALWAYS:
            return identity
        if not identity.clean and identity.boot_id != self._boot_id:
            raise FolderError(
                "with --sync os the machine's stop may have lost acknowledged entries: "
                "this folder was not stopped cleanly before the last boot. The unit must leave "
                "the cluster and be formatted anew"
            )
        identity = replace(identity, boot_id=self._boot_id, clean=False)
        write_identity(self._disk, identity)
        return identity

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
        """Tell the sequencer who and where we are, until a replica knows; then now and then.

        So an operator hears that the unit is at another address than the layout says, or is in
        no layout at all.
        """
        settings, driver, identity = self._settings, self.driver, self.identity
        own = Unit(identity.unit, identity.incarnation, self._datagrams.address)
        turn = 0
        while True:
            replicas = self._replicas()
            if not replicas:
                await driver.sleep(settings.register_s)
                continue
            to = replicas[turn % len(replicas)]
            turn += 1
            try:
                reply = await driver.ask(
                    to, Register(driver.new_request(), own), settings.register_s
                )
            except UnansweredError:
                # The next one may answer; nothing depends on it yet.
                await driver.sleep(settings.register_s / 4)
                continue
            if isinstance(reply, Registered):
                if reply.left:
                    await self._return(reply.bound)
                    return
                self._tell(reply)
                await self._registered(member=reply.member)
            else:
                if isinstance(reply, Rejected):
                    self._tell(reply)
                await driver.sleep(settings.register_s)

    async def _registered(self, *, member: bool) -> None:
        """Wait until it is time to register again: at once when no replica knows this unit."""
        settings, driver, core = self._settings, self.driver, self.core
        since = driver.now()
        if core.probed_at is None and not member:
            # A follower may have answered, and only the leader makes a new unit known.
            await driver.sleep(settings.register_s / 4)
            return
        while driver.now() - since < settings.register_again_s:
            await driver.sleep(settings.register_s)
            probed_at = since if core.probed_at is None else max(since, core.probed_at)
            if driver.now() - probed_at >= settings.unprobed_s:
                return

    async def _return(self, bound: Offset | None) -> None:
        """Become a new incarnation: the old one was left out, and may hold values that lost."""
        identity = self.identity
        if bound is None:
            raise LeftError(
                f"unit {identity.unit} left the cluster, and nothing that it holds counts any "
                "more: format it anew (corfu-storage format --force)"
            )
        self._log(
            f"the layout goes on without this unit: it becomes a spare, as a new incarnation; "
            f"what it holds below {bound} need not be copied again"
        )
        self._stopped = True
        if self._housekeeping is not None:
            self._housekeeping.cancel()
        await self.driver.drain()
        # One file, so one step: from here on the bound holds, whatever happens.
        self._identity = identity.reborn(self._new_incarnation(), bound)
        written: asyncio.Future[OSError | None] = self._loop.create_future()
        self._worker.background(identity_operations(self._identity), written.set_result)
        error = await written
        if error is not None:
            raise error
        if self._on_reborn is not None:
            self._on_reborn()

    def _replicas(self) -> tuple[Address, ...]:
        layout = self.core.store.standing.layout
        if layout is None:
            return self._settings.sequencers
        return tuple(replica.address for replica in layout.replicas)

    def _tell(self, reply: Registered | Rejected) -> None:
        """Log what a registration brought up, once for each change."""
        before, self._registration = self._registration, reply
        address = self._datagrams.address
        if isinstance(reply, Rejected):
            if not isinstance(before, Rejected) or before.detail != reply.detail:
                self._log(f"the sequencer rejects this unit: {reply.detail}")
            return
        known = (reply.member, reply.address_differs)
        if isinstance(before, Registered) and known == (before.member, before.address_differs):
            return
        if reply.address_differs:
            self._log(
                f"this unit listens at {address}, but the layout has it elsewhere: "
                "start it at the address it was formatted with"
            )
        elif not reply.member and reply.epoch > 0:
            self._log("this unit stands in no chain of the active layout: it is a spare")


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
