"""Appending: what is queued, what is in flight, and when the one becomes the other.

Records that are queued while entries are in flight go together; when nothing is, nothing waits.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable, Coroutine, Sequence

from corfu.client.cluster import Cluster
from corfu.client.packing import Call, OutgoingEntry, Queue, Submitted
from corfu.client.settle import Trouble, Writer, ask_fill
from corfu.client.tokens import Granted, TokenDesk
from corfu.config import ENTRY_BYTES_MAX
from corfu.errors import AppendError, AppendUnknownError, NotAppendedError
from corfu.types import EntryId, Position

_FILL_TRIES = 3
"""The leader sweeps what a client leaves unfilled, so a client does not try for ever."""

_DEADLINES_KEPT_MIN = 1024


class Appender:
    """The append side of a client. Every call ends in one of three ways.

    Its positions, `NotAppendedError` (certain), or `AppendUnknownError`.
    """

    def __init__(
        self,
        cluster: Cluster,
        new_entry_id: Callable[[], EntryId],
        wall_us: Callable[[], int],
    ) -> None:
        self._cluster = cluster
        self._settings = cluster.settings
        self._encode = cluster.codec.encode
        self._endpoint = cluster.endpoint
        self._new_entry_id = new_entry_id
        self._wall_us = wall_us
        self._queue = Queue()
        self._entries: dict[OutgoingEntry, int] = {}
        """What is in flight, with the bytes that it counts for."""
        self._bytes_in_flight = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._desk = TokenDesk(cluster, self._spawn, self._fill_unused)
        self._writer = Writer(cluster, self._desk)
        self._pump_timer: asyncio.Handle | None = None
        self._pump_at = 0.0
        self._pump_soon = False
        self._deadlines: list[tuple[float, int, Call]] = []
        self._calls = 0
        self._deadlines_max = _DEADLINES_KEPT_MIN
        self._expiry: asyncio.TimerHandle | None = None
        self._idle: asyncio.Future[None] | None = None
        self._room: asyncio.Future[None] | None = None

    async def append(self, records: tuple[bytes, ...], deadline: float) -> tuple[Position, ...]:
        """Append records that fit one entry, all in one entry; return their positions.

        Cancelling ends the waiting, not the entry: a record that is not frozen yet is taken out
        of the queue, a frozen one goes on with its entry.

        Raises:
            NotAppendedError: Certainly not in the log, now or ever.
            AppendUnknownError: The time was over before the fate was known.
        """
        call = self._enqueue(records, deadline)
        self._schedule_pump()
        return await call.positions()

    def submit(self, record: bytes, patience_s: float) -> Submitted:
        """Queue a record, to be appended like those of `append`; return what to await.

        Records submitted one shortly after another share a call, and the first one's deadline: a
        future and a timer for each would cost more than packing them.
        """
        queue, target = self._queue, self._settings.entry_bytes_target
        deadline = self._endpoint.now() + patience_s
        submitted = queue.submit(record, deadline, target, self._begin_collecting)
        # While a pump is due, only a full entry has a reason to leave earlier, and once.
        if self._pump_timer is None or (queue.packed >= target and not self._pump_soon):
            self._schedule_pump()
        return submitted

    async def drain(self) -> None:
        """Wait until fewer than `queue_bytes_max` bytes of records have no verdict yet."""
        while self._unsettled_bytes >= self._settings.queue_bytes_max:
            if self._room is None:
                self._room = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._room)

    async def close(self, timeout_s: float) -> None:
        """Bring what is queued and in flight to its verdict, then end what has none.

        The caller lets nothing new in. What is unsettled after `timeout_s` ends as
        AppendUnknownError, what certainly stands nowhere as NotAppendedError.
        """
        if self._queue or self._entries:
            self._idle = asyncio.get_running_loop().create_future()
            self._pump()
            try:
                async with asyncio.timeout(timeout_s):
                    await self._idle
            except TimeoutError:
                self._end_all()
        for handle in (self._pump_timer, self._expiry):
            if handle is not None:
                handle.cancel()
        self._note_room()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _end_all(self) -> None:
        self._queue.fail_all(lambda: NotAppendedError("the log was closed"))
        for entry in list(self._entries):
            for call in list(entry.calls):
                call.fail(self._verdict(entry, "the log was closed"))

    # From the queue into flight.

    @property
    def _unsettled_bytes(self) -> int:
        return self._queue.packed + self._bytes_in_flight

    def _enqueue(
        self, records: Sequence[bytes], deadline: float, *, collecting: bool = False
    ) -> Call:
        future: asyncio.Future[Position] = asyncio.get_running_loop().create_future()
        call = Call(records, deadline, future, collecting=collecting)
        self._queue.put(call)
        self._watch(call)
        return call

    def _begin_collecting(self, deadline: float) -> Call:
        return self._enqueue((), deadline, collecting=True)

    def _wait_for_company_s(self) -> float:
        if self._queue.packed >= self._settings.entry_bytes_target:
            return 0.0
        return self._settings.gather_s if self._entries else self._settings.linger_s

    def _schedule_pump(self) -> None:
        loop = asyncio.get_running_loop()
        delay_s = self._wait_for_company_s()
        at = loop.time() + delay_s
        if self._pump_timer is not None:
            if self._pump_at <= at:
                return
            self._pump_timer.cancel()
        self._pump_at = at
        self._pump_soon = delay_s <= 0
        # Even with no delay one turn later: what is queued in the same turn goes together.
        if delay_s > 0:
            self._pump_timer = loop.call_at(at, self._pump)
        else:
            self._pump_timer = loop.call_soon(self._pump)

    def _pump(self) -> None:
        """Freeze all that may leave now: tokens are only asked for what could leave at once."""
        if self._pump_timer is not None:
            self._pump_timer.cancel()
            self._pump_timer = None
        while self._queue and self._has_room():
            calls = self._queue.take(self._settings.entry_bytes_target)
            if calls:
                self._launch(calls)

    def _has_room(self) -> bool:
        if not self._entries:
            return True
        settings = self._settings
        if settings.ordered:
            # One entry without verdict at a time: whatever happens to it, what is called later
            # gets a later token.
            return False
        return (
            len(self._entries) < settings.entries_in_flight_max
            and self._bytes_in_flight < settings.bytes_in_flight_max
        )

    def _launch(self, calls: list[Call]) -> None:
        entry = OutgoingEntry(
            calls,
            self._new_entry_id(),
            self._wall_us(),
            ordered=self._settings.ordered,
            encode=self._encode,
        )
        assert len(entry.body) <= ENTRY_BYTES_MAX
        self._entries[entry] = len(entry.body)
        self._bytes_in_flight += len(entry.body)
        entry.task = self._spawn(self._carry(entry))

    async def _carry(self, entry: OutgoingEntry) -> None:
        entry.started = True
        try:
            offset = await self._writer.append(entry)
        except AppendError as error:
            self._fail(entry, error)
        except asyncio.CancelledError:
            self._fail(entry, self._verdict(entry, entry.trouble))
            raise
        except BaseException:
            self._fail(entry, AppendUnknownError("the client broke; see the traceback"))
            raise
        else:
            self._cluster.saw(offset)
            entry.appended(offset)
        finally:
            self._land(entry)

    def _land(self, entry: OutgoingEntry) -> None:
        """Take an entry out of flight: it has its verdict."""
        self._bytes_in_flight -= self._entries.pop(entry)
        self._pump()
        self._note_room()
        self._note_idle()

    def _note_room(self) -> None:
        room = self._room
        if room is not None and self._unsettled_bytes < self._settings.queue_bytes_max:
            self._room = None
            room.set_result(None)

    def _fail(self, entry: OutgoingEntry, error: AppendError) -> None:
        kind = type(error)
        for call in entry.calls:
            # One exception object for each: a traceback belongs to one caller.
            call.fail(kind(str(error)))
        if self._settings.ordered and not entry.failed:
            entry.failed = True
            self._fail_queued(None)

    def _fail_queued(self, behind: Call | None) -> None:
        """In ordered mode: what was called after a failed append is not appended before it."""
        self._queue.fail_all(
            lambda: NotAppendedError("an append that was called before it failed"), behind=behind
        )

    def _note_idle(self) -> None:
        idle = not self._queue and not self._entries
        if idle and self._idle is not None and not self._idle.done():
            self._idle.set_result(None)

    # Deadlines.

    def _watch(self, call: Call) -> None:
        self._calls += 1
        heapq.heappush(self._deadlines, (call.deadline, self._calls, call))
        kept = self._deadlines
        if len(kept) > self._deadlines_max:
            # Mostly calls that ended long before their deadline. Looked for each time their number
            # has doubled, so that it costs each call a constant.
            kept[:] = [item for item in kept if not item[2].future.done()]
            heapq.heapify(kept)
            self._deadlines_max = max(_DEADLINES_KEPT_MIN, 2 * len(kept))
        if self._expiry is None or kept[0][2] is call:
            self._set_expiry()

    def _set_expiry(self) -> None:
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None
        if self._deadlines:
            delay = max(0.0, self._deadlines[0][0] - self._endpoint.now())
            self._expiry = asyncio.get_running_loop().call_later(delay, self._expire_due)

    def _expire_due(self) -> None:
        now = self._endpoint.now()
        self._expiry = None
        while self._deadlines and self._deadlines[0][0] <= now:
            call = heapq.heappop(self._deadlines)[2]
            if not call.future.done():
                self._expire(call)
        self._set_expiry()
        self._note_room()

    def _expire(self, call: Call) -> None:
        entry = call.entry
        if entry is None:
            if self._settings.ordered:
                self._fail_queued(call)
            call.fail(NotAppendedError(f"not sent in time{self._why_queued()}"))
            return
        call.fail(self._verdict(entry, entry.trouble))
        if self._settings.ordered and not entry.failed:
            entry.failed = True
            for other in entry.calls:
                other.fail(self._verdict(entry, "an append in the same entry failed"))
            self._fail_queued(None)
        if entry.unsettled is None:
            # Nothing of the entry is under way, so it may still leave without this call.
            entry.withdraw(call, self._new_entry_id(), self._wall_us(), self._encode)
            if entry.task is not None and (self._settings.ordered or not entry.calls):
                entry.task.cancel()
                if not entry.started:
                    # Cancelled before its first step, the task runs none of its code, and nobody
                    # else would take the entry out: in ordered mode all would wait for ever. No
                    # Write of it has left, so its calls' end, not appended, stays true.
                    self._land(entry)

    def _why_queued(self) -> str:
        return "".join(f": {entry.trouble}" for entry in list(self._entries)[:1])

    def _verdict(self, entry: OutgoingEntry, why: str) -> AppendError:
        """Return the honest end of a call whose entry is still on its way.

        Certain only if no offset is unsettled at which a Write of it has left.
        """
        if entry.unsettled is None:
            return NotAppendedError(f"not appended in time: {why}")
        return AppendUnknownError(
            f"time ran out while offset {entry.unsettled} was unsettled: {why}"
        )

    # Tokens that nobody needs.

    def _fill_unused(self, granted: Granted) -> None:
        self._spawn(self._fill(granted))

    async def _fill(self, granted: Granted) -> None:
        for _ in range(_FILL_TRIES):
            answer = await ask_fill(
                self._cluster, granted.token.offset, self._settings.unit_budget_s
            )
            if not isinstance(answer, Trouble):
                return
            await self._cluster.refresh()

    def _spawn(self, work: Coroutine[object, object, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
