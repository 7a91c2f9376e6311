"""The storage unit: one synchronous core that takes messages and time, and returns effects.

The order of `handle` calls is the queue: Writes, fills, reads and seals take their turn in it, and
every check is made at that turn. What a handler notes in memory runs ahead of the disk; the replies
that tell of it are ordered, so the driver sends them when the journal has committed it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from corfu.effects import Effect, Persist, Send
from corfu.journal.files import replace_file
from corfu.journal.planner import Journal
from corfu.messages import (
    Copy,
    Durable,
    Entries,
    Fill,
    Filled,
    FillList,
    Forward,
    Inspect,
    Install,
    Message,
    NotWritten,
    Ping,
    Pong,
    Probe,
    Read,
    Rebuild,
    Refused,
    Resolve,
    Scrub,
    Seal,
    TrimTo,
    Write,
    WrongEpoch,
)
from corfu.ports import DiskOperation, Remove
from corfu.types import Address, Incarnation

from .context import Context
from .control import Control, ControlRequest
from .copies import Copies
from .fills import Fills
from .index_file import encode_index, index_name
from .loads import Loads
from .mending import Mending
from .neighbours import Neighbours
from .notices import Notices
from .reads import Reads
from .rebuild import Rebuilds
from .repair import Repair
from .scrub import Scrubbing
from .settings import UnitSettings
from .store import Store
from .writes import Writes

_STEP_PAUSE_S = 0.1
"""Between two steps of forgetting what was trimmed, or of a search: requests get their turn."""


class StorageUnit:
    """One unit's logic. Made from what recovery found; see `corfu.runtime.driver` for its use.

    `free_bytes` is to be set, from time to time, to what the file system would still take.
    """

    def __init__(
        self,
        store: Store,
        settings: UnitSettings,
        *,
        session: Incarnation,
        log: Callable[[str], None],
    ) -> None:
        """Start serving from `store`.

        Args:
            store: What recovery made.
            settings: Bounds and intervals.
            session: 16 bytes that no other process has; part of this unit's own request ids.
            log: Takes alarms, a line each.
        """
        loads = Loads(store, settings.loads_max)
        context = Context(store.standing, store, loads, settings, log)
        self._context = context
        self._store = store
        self._loads = loads
        self._copies = Copies(store, settings, session)
        self._notices = Notices(context, self._copies)
        self._writes = Writes(context, self._notices)
        self._fills = Fills(context, self._copies, self._notices)
        self._reads = Reads(context)
        self._neighbours = Neighbours(
            store.standing, settings.ping_interval_s, self._copies.new_request
        )
        self._control = Control(
            context,
            on_seal=self._end_epoch,
            on_install=self._installed,
            silent=self._neighbours.silent,
        )
        self._repair = Repair(context, self._control, self._copies)
        self._rebuilds = Rebuilds(context, self._copies)
        self._mending = Mending(context, self._copies)
        self._scrubbing = Scrubbing(context)
        self._step_at = 0.0
        self._commits_at_rest = -1
        self.probed_at: float | None = None
        """When a replica last probed this unit: a layout, or the list of spares, has it."""
        self.ignored = 0
        """Messages that no unit takes: late replies, and what was sent to the wrong process."""

    @property
    def journal(self) -> Journal:
        """What the driver commits."""
        return self._store.journal

    @property
    def store(self) -> Store:
        """What the unit holds."""
        return self._store

    @property
    def free_bytes(self) -> int:
        """What the file system would still take, as last set."""
        return self._context.free_bytes

    @free_bytes.setter
    def free_bytes(self, value: int) -> None:
        self._context.free_bytes = value

    @property
    def deadline(self) -> float | None:
        """When `tick` is due; None if nothing waits for time."""
        step = self._step_at if self._store.reclaiming or self._store.gaps.goes_on else None
        times = (
            step,
            self._neighbours.deadline,
            self._reads.deadline,
            self._copies.deadline,
            self._mending.deadline,
            self._scrubbing.deadline,
        )
        return min((time for time in times if time is not None), default=None)

    def handle(self, message: Message, sender: Address, now: float) -> list[Effect]:
        """Take a message at its turn."""
        self._store.settle()
        return self._finish(self._dispatch(message, sender, now), now)

    def fetched(self, ticket: int, data: bytes | None, now: float) -> list[Effect]:
        """Take what a `Fetch` has read; None if it cannot be read."""
        self._store.settle()
        return self._finish(self._loads.fetched(ticket, data, now), now)

    def tick(self, now: float) -> list[Effect]:
        """Do what is due."""
        self._store.settle()
        self._copies.expire(now)
        if self._store.reclaiming or self._store.gaps.goes_on:
            if self._store.reclaiming:
                self._store.reclaim()
            self._store.gaps.step()
            self._step_at = now + _STEP_PAUSE_S
        effects = [*self._neighbours.tick(now), *self._reads.expire(now)]
        effects += [*self._mending.tick(now), *self._scrubbing.tick(now)]
        return self._finish(effects, now)

    def durable(self, now: float) -> list[Effect]:
        """Do what waits for a commit; to be called after each one."""
        self._store.settle()
        return self._finish(self._notices.durable(), now)

    def maintain(self, now: float) -> list[Effect]:
        """Look after journal files that were finished; to be called some times a second."""
        self._store.settle()
        self._store.files.drain_finished()
        self._store.release_dead()
        journal = self._store.journal
        if not journal.dirty and journal.commits_done == self._commits_at_rest:
            # Nothing is appended that confirmations could go with.
            self._store.record_confirmed()
        self._commits_at_rest = journal.commits_done
        return self._finish([], now)

    def next_index(self) -> tuple[int, Sequence[DiskOperation]] | None:
        """Return (serial, operations) of background work on index files; None if there is none.

        Call `index_done` when it is done, and only then this again.
        """
        stale = self._store.files.stale_indexes()
        if stale:
            return stale[0], (Remove(index_name(stale[0])),)
        serial = self._store.files.next_to_index()
        if serial is None:
            return None
        standing = self._store.standing
        data = encode_index(
            self._store.files.file_index(serial, standing.closed_until),
            standing.unit,
            standing.incarnation,
        )
        return serial, replace_file(index_name(serial), data)

    def index_done(self, serial: int, error: OSError | None) -> None:
        """Note how the work of `next_index` ended; a failure costs the next start some time."""
        if serial in self._store.files.indexed:
            self._store.files.indexed.discard(serial)
        elif error is None:
            self._store.files.index_written(serial)
        else:
            self._store.files.give_up_index(serial)

    def _finish(self, effects: list[Effect], now: float) -> list[Effect]:
        """Wake who waits for what was stored; say first that something was appended."""
        suspicion = self._store.suspicion
        for line in suspicion.told:
            self._context.log(line)
        suspicion.told.clear()
        if self._store.fresh:
            effects += self._reads.wake(now)
            self._store.fresh.clear()
        if self._store.appended:
            self._store.appended = False
            return [Persist(), *effects]
        return effects

    def _end_epoch(self) -> list[Effect]:
        self._copies.sealed()
        self._notices.sealed()
        return self._reads.sealed(self._store.standing.sealed)

    def _installed(self, now: float) -> None:
        self._notices.installed()
        self._neighbours.installed(now)
        self._mending.installed()
        self._scrubbing.installed(now)

    def _dispatch(self, message: Message, sender: Address, now: float) -> list[Effect]:
        match message:
            case Write():
                return self._writes.write(message, sender, now)
            case Forward():
                return self._writes.forward(message, sender, now)
            case Durable():
                return self._notices.take(message, sender)
            case Read():
                return self._reads.read(message, sender, now)
            case Fill():
                return self._fills.fill(message, sender, now)
            case FillList():
                return self._fills.fill_list(message, sender, now)
            case Copy():
                return self._reads.copy(message, sender, now)
            case Inspect():
                return self._repair.inspect(message, sender)
            case Seal() | Install() | TrimTo() | Probe() | Resolve() | Rebuild() | Scrub():
                misdirected = self._control.misdirected(message, sender)
                return misdirected or self._order(message, sender, now)
            case _:
                return self._between_units(message, sender, now)

    def _between_units(self, message: Message, sender: Address, now: float) -> list[Effect]:
        """Take what units say to each other, and what answers this unit's own requests."""
        match message:
            case Entries():
                return self._copies.received(message, sender, now)
            case Ping():
                own = self._store.standing.unit
                return [Send(sender, Pong(message.request, own), ordered=False)]
            case Pong():
                self._neighbours.pong(message, sender, now)
            case Filled() | NotWritten() | Refused() | WrongEpoch():
                self._mending.answered(message.request)
            case _:
                self.ignored += 1
        return []

    def _order(self, message: ControlRequest, sender: Address, now: float) -> list[Effect]:
        # Whoever settles what is damaged asks, settles and asks again, until nothing is left: an
        # answer in between must not look as if all of it were found.
        self._store.gaps.step()
        match message:
            case Seal():
                return self._control.seal(message, sender)
            case Install():
                return self._control.install(message, sender, now)
            case TrimTo():
                return self._control.trim(message, sender)
            case Probe():
                self.probed_at = now
                return self._control.probe(message, sender, now)
            case Resolve():
                return self._repair.resolve(message, sender, now)
            case Rebuild():
                return self._rebuilds.rebuild(message, sender, now)
            case Scrub():
                return self._scrubbing.scrub(message, sender, now)
