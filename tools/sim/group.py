"""One simulated process as the event loop sees it: what belongs to it, and its clock."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar, TypeVarTuple, Unpack

if TYPE_CHECKING:
    from corfu.tools.sim.loop import VirtualLoop

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


ROUNDING_S = 1e-9
"""Times turned from one clock to another and back differ by less."""


class Timer(asyncio.TimerHandle):
    """A timer that knows whether it waits in the heap: only then its cancelling is counted."""

    __slots__ = ("queued",)
    queued: bool


class Clock:
    """A monotonic clock that shows `local` at the virtual time `real`, and goes `rate` times on."""

    __slots__ = ("_local", "_real", "rate")

    def __init__(self, real: float, local: float, rate: float) -> None:
        self._real = real
        self._local = local
        self.rate = rate

    def local(self, real: float) -> float:
        """Return what this clock shows at a virtual time."""
        return self._local + (real - self._real) * self.rate

    def real(self, local: float) -> float:
        """Return a virtual time at which this clock, which is not frozen, shows `local` or more.

        Never a moment too early, not by rounding either: who sleeps until a time of its own clock
        would be woken before it, and sleep again, for ever, at one and the same virtual time.
        """
        return self._real + (local - self._local) / self.rate + ROUNDING_S


class Group:
    """All callbacks and tasks of one simulated process, which can be stopped and killed at once.

    What is scheduled from within a group belongs to it (it travels in the context, as context
    variables do). Paused, nothing of it runs: what falls due is held, as for a process under
    SIGSTOP. Killed, nothing of it ever runs again, not even a `finally`, as for SIGKILL.
    """

    __slots__ = ("_loop", "clock", "context", "frozen", "held", "killed", "name", "paused")

    def __init__(self, loop: VirtualLoop, name: str) -> None:
        self._loop = loop
        self.name = name
        self.paused = False
        self.killed = False
        self.clock: Clock | None = None
        self.held: list[asyncio.Handle] = []
        self.frozen: list[Timer] = []
        self.context = contextvars.Context()
        self.context.run(GROUP.set, self)

    def run(self, function: Callable[[Unpack[Ts]], T], *args: *Ts) -> T:
        """Call `function` as a part of this process. Not from within the process itself."""
        return self.context.copy().run(function, *args)

    def pause(self) -> None:
        """Hold everything that falls due from now on."""
        self.paused = True

    def resume(self) -> None:
        """Go on after `pause`: what fell due meanwhile is ready now, in its order."""
        self.paused = False
        held, self.held = self.held, []
        self._loop.requeue(held)

    def set_clock(self, rate: float) -> None:
        """Let the process's monotonic clock go `rate` times as fast from now on; 0 freezes it.

        Its timers follow its clock: while that is frozen none of them falls due.
        """
        now = self._loop.now
        local = now if self.clock is None else self.clock.local(now)
        self.clock = Clock(now, local, rate)
        self._loop.skewed = True
        if rate:
            frozen, self.frozen = self.frozen, []
            for timer in frozen:
                self._loop.push(timer, self.clock.real(timer.when()))

    def kill(self) -> None:
        """End the process between two of its callbacks."""
        self.killed = True
        self.held.clear()
        self.frozen.clear()
        self._loop.abandon(self)


GROUP: contextvars.ContextVar[Group | None] = contextvars.ContextVar("group", default=None)
