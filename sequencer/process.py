"""A sequencer replica as a process: its folder, its core, its driver and its procedures.

The same for production and simulator; the ports, the loop and all randomness are passed in.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from typing import Any

from corfu.errors import UsageError
from corfu.link import Link
from corfu.messages import SetGoal, Trim
from corfu.ports import Datagrams, Disk, DiskWorker
from corfu.runtime.driver import Driver
from corfu.types import Address, Ballot, Incarnation, ReplicaId, Slot

from .acceptor import Doubt
from .bootstrap import Bootstrap
from .context import Context
from .identity import ExpelledError, ReplicaIdentity, read_identity
from .leader import LeaderTerm
from .prober import Prober
from .replica import Replica
from .settings import SequencerSettings
from .state import State, first_state
from .storage import format_folder, restore, snapshot_operations

_SNAPSHOT_POLL_S = 0.05
_SNAPSHOT_RETRY_S = 1.0
_HAND_OVER_S = 0.5
_HAND_OVER_POLL_S = 0.02

_DOUBT_TEXTS = {
    Doubt.BLANK: "a new folder: it asks the other replicas before it votes",
    Doubt.JOINING: "a new folder: it votes once it is a member (corfu sequencer replace)",
    Doubt.TORN: "its journal does not end whole: it asks the other replicas before it votes",
}


def format_replica(
    disk: Disk,
    *,
    replica: ReplicaId,
    incarnation: Incarnation,
    bootstrap: Bootstrap,
    settings: SequencerSettings,
) -> None:
    """Make an empty folder that of a replica of a new cluster.

    Raises:
        UsageError: The bootstrap is none that a cluster could start from, or does not list it.
        CorruptionError: The folder was formatted before.
        OSError: From the disk.
    """
    bootstrap.check_member(replica, incarnation)
    identity = ReplicaIdentity(bootstrap.cluster, replica, incarnation)
    state = first_state(bootstrap.layout())
    format_folder(disk, identity, Slot(0), state, settings.journal, Doubt.BLANK)


def format_joining(
    disk: Disk, identity: ReplicaIdentity, slot: Slot, state: State, settings: SequencerSettings
) -> None:
    """Make an empty folder that of a replica which is to take the place of a member.

    `state` is what a member has applied at `slot`. The identity's incarnation must be new: it is
    what tells this folder from all that ever voted.

    Raises:
        UsageError: The id is, or was, a member's.
        CorruptionError: The folder was formatted before.
        OSError: From the disk.
    """
    if identity.replica in {member.id for member in (*state.replicas, *state.removed)}:
        raise UsageError(f"replica id {identity.replica} was used before: choose a new one")
    format_folder(disk, identity, slot, state, settings.journal, Doubt.JOINING)


class ReplicaProcess:
    """One replica; `start` once, then `drain` or `kill` once."""

    def __init__(
        self,
        *,
        disk: Disk,
        worker: DiskWorker,
        datagrams: Datagrams,
        loop: asyncio.AbstractEventLoop,
        rng: random.Random,
        entropy: Callable[[int], bytes],
        settings: SequencerSettings,
        log: Callable[[str], None],
        on_fatal: Callable[[BaseException], None],
    ) -> None:
        """Make a process; nothing happens before `start`.

        Args:
            disk: Its folder.
            worker: Runs the disk operations of the driver.
            datagrams: Bound to the address that the members list names.
            loop: Where everything runs.
            rng: For jitter.
            entropy: Gives random bytes that never come again.
            settings: Times and sizes.
            log: Takes one line of text for the operator.
            on_fatal: Called once when the process cannot go on; it has stopped by then.
        """
        self._disk = disk
        self._worker = worker
        self._datagrams = datagrams
        self._loop = loop
        self._rng = rng
        self._entropy = entropy
        self._settings = settings
        self._log = log
        self._on_fatal = on_fatal
        self._tasks: dict[asyncio.Task[None], None] = {}
        self._term: LeaderTerm | None = None
        self._term_task: asyncio.Task[None] | None = None
        self._core: Replica | None = None
        self._driver: Driver | None = None
        self._stopped = False

    @property
    def core(self) -> Replica:
        """The core, to look at; only after `start`."""
        assert self._core is not None
        return self._core

    def start(self) -> None:
        """Recover from the folder, then take part.

        Raises:
            CorruptionError: The folder is none of a replica, or damaged: it must be replaced.
            OSError: From the disk.
        """
        identity = read_identity(self._disk)
        restored = restore(self._disk, identity, self._settings)
        session = Incarnation(self._entropy(16))
        self._core = Replica(
            identity=identity,
            session=session,
            settings=self._settings,
            restored=restored,
            rng=self._rng,
            listener=self,
            now=self._loop.time(),
        )
        if not restored.acceptor.votes:
            self._log(_DOUBT_TEXTS[restored.acceptor.doubt])
        # The link has a session of its own: Paxos messages are not asks, and a reply to one
        # must never be taken for a reply to the other.
        link = Link(
            cluster=identity.cluster,
            session=Incarnation(self._entropy(16)),
            settings=self._settings.link,
            rng=self._rng,
        )
        self._driver = Driver(
            core=self._core,
            link=link,
            datagrams=self._datagrams,
            worker=self._worker,
            loop=self._loop,
            on_fatal=self._failed,
        )
        self._driver.start()
        self._spawn(Prober(self._context()).run(), "prober")
        self._spawn(self._save_snapshots(), "snapshots")

    async def drain(self) -> None:
        """Stop cleanly: hand over, make durable what is under way, then end.

        A leader goes on until its successor has a majority, or a short time is over: so clients
        wait for one election less than when it just vanished.
        """
        await self._hand_over()
        self._cancel_tasks()
        if self._driver is not None and not self._stopped:
            await self._driver.drain()
        self._stopped = True

    async def _hand_over(self) -> None:
        if self._driver is None or self._core is None or self._stopped:
            return
        core, driver = self._core, self._driver
        ends = driver.now() + _HAND_OVER_S
        while core.leads and driver.now() < ends and len(core.state.replicas) > 1:
            driver.run(core.hand_over(driver.now()))
            await driver.sleep(_HAND_OVER_POLL_S)

    def kill(self) -> None:
        """Stop at once, as a crash would."""
        self._stopped = True
        self._cancel_tasks()
        if self._driver is not None:
            self._driver.stop()

    # The core's listener.

    def leading(self, ballot: Ballot) -> None:
        """A term begins: run its procedures."""
        self._log(f"leads with ballot {ballot.round}.{ballot.replica}")
        assert self._term_task is None
        self._term = LeaderTerm(self._context())
        self._term_task = self._spawn(self._term.run(), "term")

    def deposed(self) -> None:
        """The term ended: nothing of it may go on."""
        self._log("leads no more")
        if self._term_task is not None:
            self._term_task.cancel()
        self._term = self._term_task = None

    def trim(self, request: Trim, sender: Address) -> None:
        """A client asks to trim."""
        if self._term is not None:
            self._term.trim(request, sender)

    def set_goal(self, request: SetGoal, sender: Address) -> None:
        """An operator states a goal."""
        if self._term is not None:
            self._term.set_goal(request, sender)

    def expelled(self) -> None:
        """This replica is a member no more: the process ends."""
        self._loop.call_soon(self._failed, ExpelledError())

    def alarm(self, text: str) -> None:
        """Tell the operator."""
        self._log(f"ALARM: {text}")

    # Inside.

    def _context(self) -> Context:
        assert self._core is not None
        assert self._driver is not None
        return Context(self._core, self._driver, self._settings, self._rng, self._spawn, self._log)

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = self._loop.create_task(work, name=name)
        self._tasks[task] = None
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.pop(task, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failed(error)

    def _failed(self, error: BaseException) -> None:
        # A broken invariant or a broken disk: going on could do harm.
        if not self._stopped:
            self.kill()
            self._on_fatal(error)

    def _cancel_tasks(self) -> None:
        for task in list(self._tasks):
            task.cancel()

    async def _save_snapshots(self) -> None:
        """Write the snapshot file whenever the core wants it."""
        assert self._core is not None
        assert self._driver is not None
        core, driver = self._core, self._driver
        while True:
            wanted = core.group.snapshot_wanted()
            if wanted is None:
                await driver.sleep(_SNAPSHOT_POLL_S)
                continue
            slot, state = wanted
            saved: asyncio.Future[OSError | None] = self._loop.create_future()

            def done(error: OSError | None, to: asyncio.Future[OSError | None] = saved) -> None:
                if not to.done():
                    to.set_result(error)

            self._worker.background(snapshot_operations(slot, state), done)
            error = await saved
            if error is None:
                # Only now: the votes up to the slot are needed until the snapshot is durable.
                driver.run(core.snapshot_saved(slot, driver.now()))
            else:
                self._log(f"the snapshot could not be written: {error}")
                await driver.sleep(_SNAPSHOT_RETRY_S)
