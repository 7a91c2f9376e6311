"""The driver: runs a core over a link, a socket and a disk, in production and in the simulator.

It keeps one rule for every core: what a core appended to its journal is durable before any later
ordered send leaves (external synchrony). All else is plumbing. It reads no clock but the loop's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol, assert_never, runtime_checkable

from corfu.effects import Effect, Fetch, Persist, Send
from corfu.link import Link
from corfu.messages import REPLIES, Message
from corfu.ports import Datagrams, DiskWorker, Take, UnansweredError
from corfu.runtime.committer import CommitLog, Committer
from corfu.types import Address, RequestId

TIMER_SLACK_S = 0.0005
"""uvloop rounds timers to milliseconds; so none fires before its deadline."""


class Core(Protocol):
    """A synchronous state machine: events and the time in, effects out, in order."""

    @property
    def journal(self) -> CommitLog | None:
        """Where it appends what must be durable; None for a core without a disk."""
        ...

    @property
    def deadline(self) -> float | None:
        """When `tick` has something to do; None: never."""
        ...

    def handle(self, message: Message, sender: Address, now: float) -> list[Effect]:
        """Take a message."""
        ...

    def tick(self, now: float) -> list[Effect]:
        """Do what is due; afterwards `deadline` is above `now`, or None."""
        ...


@runtime_checkable
class FetchingCore(Core, Protocol):
    """A core that asks for `Fetch`."""

    def fetched(self, ticket: int, data: bytes | None, now: float) -> list[Effect]:
        """Take what a `Fetch` read; None if it could not be read."""
        ...


@runtime_checkable
class CommittedCore(Core, Protocol):
    """A core that has something to do when its journal has committed."""

    def durable(self, now: float) -> list[Effect]:
        """Do what waited for a commit."""
        ...


class _Parts:
    """The replies of one `ask_parts`: how many came, and whether the last one did."""

    __slots__ = ("_take", "ended", "seen")

    def __init__(self, take: Take, ended: asyncio.Future[bool]) -> None:
        self._take = take
        self.ended = ended
        self.seen = 0

    def take(self, message: Message) -> None:
        if not self.ended.done():
            self.seen += 1
            if self._take(message):
                self.ended.set_result(True)


class Driver:
    """Runs one core, and is the `Network` and the `Clock` of the procedures beside it.

    After `stop()` nothing happens any more: no callback, no datagram, no disk operation is begun,
    and what awaits `ask` or `sleep` stays so. Who started such a task cancels it.
    """

    def __init__(
        self,
        *,
        core: Core | None,
        link: Link,
        datagrams: Datagrams,
        worker: DiskWorker | None,
        loop: asyncio.AbstractEventLoop,
        on_fatal: Callable[[Exception], None] | None = None,
    ) -> None:
        """Make a driver; `start` begins.

        Args:
            core: The core; None for a client: then only replies are taken.
            link: The link; the driver is its only user.
            datagrams: The socket, listened to from `start` on and closed by `stop`.
            worker: For the core's journal and fetches; the caller closes it, after `stop`.
            loop: Where everything runs; its `time()` is the clock.
            on_fatal: Called, once and after `stop()`, with what the core or the link raised.
                None: it is raised out of the loop's callback.
        """
        self.link = link
        self._core = core
        self._fetching = core if isinstance(core, FetchingCore) else None
        self._committed = core if isinstance(core, CommittedCore) else None
        journal = None if core is None else core.journal
        self._committer = None
        if journal is not None:
            assert worker is not None
            self._committer = Committer(
                journal,
                worker,
                loop,
                release=self._transmit,
                durable=None if self._committed is None else self._durable,
                flush=self._flush,
                guarded=self._guarded,
            )
        self._datagrams = datagrams
        self._worker = worker
        self._loop = loop
        self._on_fatal = on_fatal
        self._asks: dict[RequestId, asyncio.Future[Message | None]] = {}
        self._parts: dict[RequestId, _Parts] = {}
        self._started = self._stopped = False
        self._drained: asyncio.Future[None] | None = None
        self._flush_handle: asyncio.Handle | None = None
        self._timer: asyncio.Handle | None = None
        # uvloop's handle of a timer that is due at once does not know its time.
        self._timer_at = 0.0

    @property
    def sends_dropped(self) -> int:
        """Sends dropped because too many waited for their commit."""
        return 0 if self._committer is None else self._committer.sends_dropped

    def start(self) -> None:
        """Listen, and do what the core and its journal want done."""
        assert not self._started
        self._started = True
        self._datagrams.listen(self._received)
        self._wake()

    def stop(self) -> None:
        """Stop at once, as a kill does. What the worker has begun may still reach the disk."""
        self._stopped = True
        for handle in (self._flush_handle, self._timer):
            if handle is not None:
                handle.cancel()
        if self._committer is not None:
            self._committer.stop()
        self._datagrams.close()

    async def drain(self) -> None:
        """Take no more messages; commit what is appended, send what waited, mark it clean; stop."""
        if self._stopped:
            return
        assert self._drained is None
        self._drained = self._loop.create_future()
        if self._committer is not None:
            self._committer.finish()
        self._wake()
        await self._drained
        self.stop()

    # The ports of procedures.

    @property
    def address(self) -> Address:
        """The own address, as peers reach it."""
        return self._datagrams.address

    def now(self) -> float:
        """Return the loop's time in seconds."""
        return self._loop.time()

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(seconds)

    def new_request(self) -> RequestId:
        """Return a request id never used before, by this process or any other."""
        return self.link.new_request()

    def send(self, to: Address, message: Message) -> None:
        """Send once, best effort, without waiting for any commit."""
        if not self._stopped:
            self.link.send(to, message, self._loop.time())
            self._wake()

    async def ask(self, to: Address, message: Message, budget_s: float) -> Message:
        """Send a request, repeat it with backoff, return the first reply with its request id.

        Raises:
            UnansweredError: No reply within `budget_s` seconds, or too many requests wait. The
                request may have been executed.
        """
        request = message.request
        # Its result is None if time ran out: an exception that a cancelled task never takes from
        # its future would be reported as lost.
        future: asyncio.Future[Message | None] = self._loop.create_future()
        if not self._stopped:
            if not self.link.ask(to, message, self._loop.time(), budget_s):
                raise UnansweredError("too many requests wait for an answer")
            self._asks[request] = future
            self._wake()
        try:
            reply = await future
        finally:
            if self._asks.get(request) is future:
                del self._asks[request]
                if not self._stopped:
                    self.link.cancel(request, self._loop.time())
                    self._wake()
        if reply is None:
            raise UnansweredError(f"no answer from {to} within {budget_s} s")
        return reply

    async def ask_parts(
        self, to: Address, message: Message, budget_s: float, gap_s: float, take: Take
    ) -> bool:
        """Send a request as `ask` does, and hand each reply to `take` until it returns True.

        Raises:
            UnansweredError: No reply at all within `budget_s` seconds; see `ask`.
        """
        request = message.request
        parts = self._parts[request] = _Parts(take, self._loop.create_future())
        try:
            # The first reply ends the repeating; it and all others go to `take`.
            await self.ask(to, message, budget_s)
            while not parts.ended.done():
                seen = parts.seen
                await asyncio.wait({parts.ended}, timeout=gap_s)
                if parts.seen == seen:
                    break
            return parts.ended.done() and parts.ended.result()
        finally:
            del self._parts[request]

    # Effects.

    def run(self, effects: Sequence[Effect]) -> None:
        """Carry out effects in order; sends wait for the commit that covers them."""
        if self._stopped:
            return
        committer = self._committer
        for effect in effects:
            match effect:
                case Send():
                    if committer is None or not effect.ordered:
                        self._transmit(effect)
                    else:
                        committer.send_when_durable(effect)
                case Persist():
                    assert committer is not None
                case Fetch():
                    self._fetch(effect)
                case _:
                    assert_never(effect)
        self._wake()

    def _durable(self) -> None:
        assert self._committed is not None
        self.run(self._committed.durable(self._loop.time()))

    def _transmit(self, send: Send) -> None:
        self.link.send(send.to, send.message, self._loop.time())

    def _fetch(self, fetch: Fetch) -> None:
        assert self._worker is not None
        assert self._fetching is not None
        core, ticket = self._fetching, fetch.ticket

        def done(data: bytes | None) -> None:
            self._guarded(lambda: self.run(core.fetched(ticket, data, self._loop.time())))

        self._worker.fetch(fetch.name, fetch.position, fetch.length, done, fresh=fetch.fresh)

    # Events.

    def _received(self, datagram: bytes, sender: Address) -> None:
        if self._stopped or self._drained is not None:
            return
        try:
            now = self._loop.time()
            for message, origin in self.link.receive(datagram, sender, now):
                self._deliver(message, origin, now)
            self._wake()
        except Exception as error:  # noqa: BLE001 - reported; the process ends
            self._fail(error)

    def _deliver(self, message: Message, sender: Address, now: float) -> None:
        if self._stopped:
            return
        if type(message) in REPLIES:
            future = self._asks.pop(message.request, None)
            parts = self._parts.get(message.request) if self._parts else None
            if parts is not None:
                parts.take(message)
            if future is not None:
                self.link.complete(message.request, now)
                if not future.done():
                    future.set_result(message)
                return
            if parts is not None:
                return
        if self._core is not None:
            self.run(self._core.handle(message, sender, now))

    def _timer_fired(self) -> None:
        self._timer = None
        self._guarded(self._tick)

    def _tick(self) -> None:
        now = self._loop.time()
        deadline = self.link.deadline
        if deadline is not None and deadline <= now:
            for request in self.link.tick(now):
                future = self._asks.pop(request, None)
                if future is not None and not future.done():
                    future.set_result(None)
        core = self._core
        if core is not None and core.deadline is not None and core.deadline <= now:
            self.run(core.tick(now))
        self._wake()

    def _wake(self) -> None:
        """Flush at the end of this loop turn: what comes until then leaves and syncs together."""
        if self._flush_handle is None and self._started and not self._stopped:
            self._flush_handle = self._loop.call_soon(self._flushed)

    def _flushed(self) -> None:
        self._flush_handle = None
        self._guarded(self._flush)

    def _flush(self) -> None:
        committer = self._committer
        if committer is not None:
            committer.work()
        if (
            self._drained is not None
            and not self._drained.done()
            and (committer is None or committer.finished)
        ):
            self._drained.set_result(None)
        datagrams = self.link.outgoing()
        if datagrams:
            self._datagrams.send(datagrams)
        self._arm()

    def _arm(self) -> None:
        """Let the timer fire no later than the first deadline."""
        deadline = self.link.deadline
        if self._core is not None and self._drained is None:
            due = self._core.deadline
            if due is not None and (deadline is None or due < deadline):
                deadline = due
        if deadline is None:
            return
        if self._timer is not None:
            # One that fires too early costs less than cancelling one for each message.
            if self._timer_at <= deadline + TIMER_SLACK_S:
                return
            self._timer.cancel()
        self._timer_at = deadline + TIMER_SLACK_S
        self._timer = self._loop.call_at(self._timer_at, self._timer_fired)

    # Failures.

    def _guarded(self, step: Callable[[], None]) -> None:
        """Run a callback's work: not after `stop`, and an exception ends it all."""
        if self._stopped:
            return
        try:
            step()
        except Exception as error:  # noqa: BLE001 - reported; the process ends
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        self.stop()
        if self._on_fatal is None:
            raise error
        self._on_fatal(error)
