"""An asyncio event loop in virtual time: one thread, no I/O, the same order in every run.

What runs here is real asyncio code (tasks, futures, timeouts, queues); only the clock and the
selector are gone. When nothing is ready, time jumps to the next timer. Everything that would need
a thread, a socket or a subprocess is refused.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import heapq
import struct
import threading
import warnings
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from typing import TypeVar, TypeVarTuple, Unpack

import xxhash

from corfu.tools.sim.group import GROUP, ROUNDING_S, Group, Timer

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

Part = bytes | str | int | float | None
"""What `VirtualLoop.note` takes: values whose text is the same in every run."""

Trace = Callable[[float, str, str], None]
"""Called with the virtual time in seconds, a short kind and a text."""

FAILURE_GRACE_S = 30.0
"""How long, in virtual seconds, a failed task may wait for somebody to take its exception."""

_COMPACT_MIN = 256
_pack_time = struct.Struct("<d").pack


class SimulationError(RuntimeError):
    """The simulated program did what cannot be simulated, or never ends."""


class SimulationStalled(SimulationError):  # noqa: N818 - a state of the program, named as such
    """Nothing is scheduled any more and the main task is not done.

    Attributes:
        pending: Names of the tasks that wait, in the order in which they were made.
    """

    def __init__(self, now: float, pending: list[str]) -> None:
        super().__init__(f"at {now:.6f} s nothing can happen; waiting tasks: {', '.join(pending)}")
        self.pending = pending


class VirtualLoop(asyncio.BaseEventLoop):
    """A deterministic event loop whose `time()` is virtual and starts at 0.

    Timers fire in order of (time, call), so ties keep the order in which they were made. An
    exception that escapes from a callback ends `run` and is raised there; so is that of a task
    which nobody awaited for `FAILURE_GRACE_S`, or until the run ended or stalled.

    Attributes:
        events: How many callbacks have run.
        events_max: When so many have run, `run` raises SimulationError; None: no bound.
        now: The virtual time; `time()` is the same, but on the clock of the process that asks.
        skewed: Whether some process has a clock of its own.
        trace: Hook for a readable trace; None: no trace.
    """

    def __init__(self, *, events_max: int | None = None) -> None:
        super().__init__()
        self.events = 0
        self.events_max = events_max
        self.trace: Trace | None = None
        self.now = 0.0
        self.skewed = False
        self._own_thread = threading.get_ident()
        self._queue: deque[asyncio.Handle] = deque()
        self._timers: list[tuple[float, int, Timer]] = []
        self._calls = 0
        self._cancelled_timers = 0
        self._task_count = 0
        # A dict for its order: asyncio's own WeakSet of tasks has none.
        self._live: dict[asyncio.Task[object], Group | None] = {}
        self._abandoned: list[asyncio.Task[object]] = []
        self._failed: dict[asyncio.Task[object], Group | None] = {}
        self._failure: BaseException | None = None
        self._digest = xxhash.xxh3_64()
        self.set_debug(False)
        self.set_exception_handler(_keep_failure)

    def run(self, main: Coroutine[object, object, T]) -> T:
        """Run `main` to its end and return its result; other tasks stay as they are then.

        Raises:
            SimulationStalled: `main` can never end.
            BaseException: What `main`, a callback or an un-awaited task raised.
        """
        result = self.run_until_complete(self.create_task(main, name="main"))
        self._raise_failures()
        return result

    def finish(self) -> None:
        """Cancel every task, oldest first, run until all have ended, and close the loop."""
        if self._live:
            self.run(self._cancel_all())
        self.close()

    def note(self, *parts: Part) -> None:
        """Feed the trace hash with the time and `parts`; two equal runs note the same."""
        digest = self._digest
        digest.update(_pack_time(self.now))
        for part in parts:
            if isinstance(part, bytes):
                digest.update(part)
            else:
                digest.update(repr(part).encode())

    def trace_hash(self) -> int:
        """Return the 64-bit hash of all that was noted so far."""
        return self._digest.intdigest()

    def pending(self) -> list[str]:
        """Return the names of the tasks that have not ended, oldest first."""
        return [task.get_name() for task in self._live]

    def group(self, name: str) -> Group:
        """Return a new process group."""
        return Group(self, name)

    # What asyncio calls.

    def time(self) -> float:
        """Return the virtual time in seconds, as the clock of the running process shows it."""
        return self._time_of(None)

    def call_soon(
        self,
        callback: Callable[[Unpack[Ts]], object],
        *args: *Ts,
        context: contextvars.Context | None = None,
    ) -> asyncio.Handle:
        """Run `callback` in the next turn, after what is ready already."""
        self._require_open()
        handle = asyncio.Handle(callback, args, self, context)
        self._queue.append(handle)
        return handle

    def call_soon_threadsafe(
        self,
        callback: Callable[[Unpack[Ts]], object],
        *args: *Ts,
        context: contextvars.Context | None = None,
    ) -> asyncio.Handle:
        """Like `call_soon`; another thread is refused."""
        if self._own_thread != threading.get_ident():
            raise SimulationError("another thread calls into a simulation")
        return self.call_soon(callback, *args, context=context)

    def call_later(
        self,
        delay: float,
        callback: Callable[[Unpack[Ts]], object],
        *args: *Ts,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        """Run `callback` in `delay` seconds, by the clock of the process it belongs to."""
        return self.call_at(self._time_of(context) + delay, callback, *args, context=context)

    def call_at(
        self,
        when: float,
        callback: Callable[[Unpack[Ts]], object],
        *args: *Ts,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        """Run `callback` at `when`, by the clock of the process it belongs to.

        A time in the past means the next turn.
        """
        self._require_open()
        handle = Timer(when, callback, args, self, context)
        if self.skewed:
            self._push_local(handle)
        else:
            self.push(handle, when)
        return handle

    def push(self, timer: Timer, when: float) -> None:
        """Let a timer fall due at the virtual time `when`."""
        timer.queued = True
        self._calls += 1
        heapq.heappush(self._timers, (when, self._calls, timer))

    def requeue(self, handles: list[asyncio.Handle]) -> None:
        """Run held callbacks in the next turn."""
        self._queue.extend(handles)

    def _push_local(self, timer: Timer) -> None:
        """Let a timer fall due when its process's clock shows its time."""
        group = timer._context.get(GROUP)  # type: ignore[attr-defined]
        clock = None if group is None else group.clock
        if clock is None:
            self.push(timer, timer.when())
        elif clock.rate:
            self.push(timer, clock.real(timer.when()))
        elif not timer.cancelled():
            timer.queued = False
            group.frozen.append(timer)

    def _time_of(self, context: contextvars.Context | None) -> float:
        """Return the time as a process's clock shows it; None: of the process that runs."""
        if not self.skewed:
            return self.now
        group = GROUP.get() if context is None else context.get(GROUP)
        return self.now if group is None or group.clock is None else group.clock.local(self.now)

    def create_task(
        self,
        coro: Generator[asyncio.Future[object] | None, None, T] | Coroutine[object, object, T],
        *,
        name: object = None,
        context: contextvars.Context | None = None,
    ) -> asyncio.Task[T]:
        """Start a task; unnamed ones are numbered per loop, so names do not differ by run."""
        self._require_open()
        self._task_count += 1
        label = f"task-{self._task_count}" if name is None else str(name)
        task: asyncio.Task[T] = asyncio.Task(coro, loop=self, name=label, context=context)
        self._live[task] = GROUP.get() if context is None else context.get(GROUP)
        task.add_done_callback(self._task_ended)
        return task

    def close(self) -> None:
        """Drop all that is scheduled; tasks that have not ended are never resumed."""
        left = [*self._live, *self._abandoned]
        self._live.clear()
        self._abandoned.clear()
        self._queue.clear()
        self._timers.clear()
        super().close()
        for task in left:
            task._log_destroy_pending = False  # type: ignore[attr-defined]
            coroutine = task.get_coro()
            if asyncio.iscoroutine(coroutine):
                # Here and now, not when the collector comes: what a `finally` of an abandoned
                # task wants of a closed loop is nobody's failure.
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", RuntimeWarning)
                    # The error keeps what was made on the way: gone before warnings count again.
                    with contextlib.suppress(RuntimeError):
                        coroutine.close()

    # The turns.

    def _run_once(self) -> None:
        """Run turn after turn until `stop()`; replaces asyncio's one turn per call."""
        queue = self._queue
        while True:
            self._collect_due()
            events_max = self.events_max
            if events_max is not None and self.events >= events_max:
                raise SimulationError(f"{self.events} events have run, at {self.now:.6f} s")
            # As in asyncio: what this turn's callbacks schedule belongs to the next turn.
            for _ in range(len(queue)):
                handle = queue.popleft()
                if handle._cancelled:
                    continue
                group = handle._context.get(GROUP)  # type: ignore[attr-defined]
                if group is not None and (group.paused or group.killed):
                    if not group.killed:
                        group.held.append(handle)
                    continue
                self.events += 1
                # Not handle._run(): that one logs an exception and goes on.
                handle._context.run(handle._callback, *handle._args)  # type: ignore[attr-defined]
            if self._failure is not None:
                self._raise_failures()
            if self._stopping:  # type: ignore[attr-defined]
                return

    def _collect_due(self) -> None:
        """Move due timers to the queue; jump to the next timer if nothing else is ready."""
        timers = self._timers
        while timers and timers[0][2].cancelled():
            self._cancelled_timers -= 1
            heapq.heappop(timers)[2].queued = False
        if not self._queue and not self._stopping:  # type: ignore[attr-defined]
            if not timers:
                self._raise_failures()
                raise SimulationStalled(self.now, self.pending())
            self.now = max(self.now, timers[0][0])
        while timers and timers[0][0] <= self.now:
            handle = heapq.heappop(timers)[2]
            handle.queued = False
            if handle.cancelled():
                self._cancelled_timers -= 1
            elif self.skewed and self._is_early(handle):
                # Its process's clock was slowed, or stopped, after the timer was set.
                self._push_local(handle)
            else:
                self._queue.append(handle)

    def _is_early(self, timer: Timer) -> bool:
        group = timer._context.get(GROUP)  # type: ignore[attr-defined]
        clock = None if group is None else group.clock
        return clock is not None and clock.local(self.now) < timer.when() - ROUNDING_S

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        if not (isinstance(handle, Timer) and handle.queued):
            return
        self._cancelled_timers += 1
        timers = self._timers
        if self._cancelled_timers > _COMPACT_MIN and self._cancelled_timers * 2 > len(timers):
            # In place: the turn holds this list. Keys are unique, so heapify keeps the order.
            timers[:] = [timer for timer in timers if not timer[2].cancelled()]
            heapq.heapify(timers)
            # The one being cancelled says so only after this call, so it is still in there.
            self._cancelled_timers = 1

    def abandon(self, group: Group) -> None:
        """Forget the tasks of a killed process, but keep them: a collected one would run on."""
        gone = [task for task, owner in self._live.items() if owner is group]
        for task in gone:
            del self._live[task]
        self._abandoned += gone

    def _task_ended(self, task: asyncio.Task[object]) -> None:
        group = self._live.pop(task, None)
        if not task.cancelled() and task._log_traceback:
            # Held here: when the collector would find it depends on what ran before. The grace is
            # long: who gathers several tasks looks at the first failure when the last has ended.
            self._failed[task] = group
            self.call_later(FAILURE_GRACE_S, self._judge, task)

    def _judge(self, task: asyncio.Task[object]) -> None:
        """Raise what a failed task raised, unless somebody has taken it by now."""
        group = self._failed.pop(task, None)
        if group is not None and group.killed:
            return
        if task._log_traceback:
            failure = task.exception()
            if failure is not None:
                raise failure

    def _raise_failures(self) -> None:
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure
        for task in list(self._failed):
            self._judge(task)

    def _require_open(self) -> None:
        if self.is_closed():
            raise RuntimeError("Event loop is closed")

    async def _cancel_all(self) -> None:
        own = asyncio.current_task()
        tasks = [task for task in self._live if task is not own]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _keep_failure(loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
    """Exception handler: remember the first report; the turn it happened in ends with it."""
    if isinstance(loop, VirtualLoop) and loop._failure is None:
        failure = context.get("exception")
        if not isinstance(failure, BaseException):
            failure = SimulationError(str(context.get("message")))
        loop._failure = failure


def _refusal(name: str) -> Callable[..., None]:
    def refuse(*_args: object, **_options: object) -> None:
        raise SimulationError(f"{name}: a simulation has no threads, sockets or subprocesses")

    return refuse


for _name in (
    "add_reader",
    "add_signal_handler",
    "add_writer",
    "connect_accepted_socket",
    "connect_read_pipe",
    "connect_write_pipe",
    "create_connection",
    "create_datagram_endpoint",
    "create_server",
    "create_unix_connection",
    "create_unix_server",
    "getaddrinfo",
    "getnameinfo",
    "remove_reader",
    "remove_signal_handler",
    "remove_writer",
    "run_in_executor",
    "sendfile",
    "set_default_executor",
    "shutdown_asyncgens",
    "sock_accept",
    "sock_connect",
    "sock_recv",
    "sock_recv_into",
    "sock_recvfrom",
    "sock_recvfrom_into",
    "sock_sendall",
    "sock_sendfile",
    "sock_sendto",
    "start_tls",
    "subprocess_exec",
    "subprocess_shell",
):
    setattr(VirtualLoop, _name, _refusal(_name))
