"""What the procedures of a leading term work with: the core, the ports, and a way to decide.

Async over ports only: no socket, clock or randomness of its own.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from corfu.effects import Effect
from corfu.messages import Message
from corfu.ports import Clock, Network, UnansweredError
from corfu.types import Address

from .commands import Command
from .replica import Replica
from .settings import SequencerSettings
from .state import Outcome, State

_FULL_S = 0.01
_LOOK_S = 0.1
"""How often it is looked whether a wait may end early."""


class Shell(Network, Clock, Protocol):
    """The driver, as procedures see it."""

    def run(self, effects: Sequence[Effect]) -> None:
        """Carry out a core's effects."""
        ...


Spawn = Callable[[Coroutine[Any, Any, None], str], "asyncio.Task[None]"]
"""Starts a task whose failure ends the process."""


@dataclass(frozen=True, slots=True)
class Context:
    """Handed to each procedure; the process cancels them all when the term ends."""

    core: Replica
    shell: Shell
    settings: SequencerSettings
    rng: random.Random
    spawn: Spawn
    log: Callable[[str], None]

    @property
    def state(self) -> State:
        """The applied state."""
        return self.core.state

    def now(self) -> float:
        """Return the time."""
        return self.shell.now()

    async def ask(self, to: Address, message: Message, budget_s: float) -> Message | None:
        """Ask; None if nobody answered in time."""
        try:
            return await self.shell.ask(to, message, budget_s)
        except UnansweredError:
            return None

    async def decide(self, command: Command) -> Outcome:
        """Propose a command and wait for its applied outcome.

        A term that ends meanwhile ends the waiting by cancelling the caller.
        """
        while True:
            future: asyncio.Future[Outcome | None] = asyncio.get_running_loop().create_future()

            def done(outcome: Outcome | None, to: asyncio.Future[Outcome | None] = future) -> None:
                if not to.done():
                    to.set_result(outcome)

            self.shell.run(self.core.propose(command, done, self.now()))
            outcome = await future
            if outcome is not None:
                return outcome
            # Not proposed, as too much is under way; or the term is over, and this ends here.
            await self.shell.sleep(_FULL_S)


class Backoff:
    """Doubling waits with jitter: none before the first retry if `eager`."""

    def __init__(self, context: Context, *, eager: bool = False) -> None:
        self._context = context
        self._eager = eager
        self._next_s = 0.0 if eager else context.settings.backoff_s_min

    def reset(self) -> None:
        """Begin again with the shortest wait."""
        self._next_s = 0.0 if self._eager else self._context.settings.backoff_s_min

    async def wait(self, until: Callable[[], bool] | None = None) -> bool:
        """Wait, and double the next wait; ends early, with True, once `until` is true."""
        settings = self._context.settings
        wait_s = self._next_s * self._context.rng.uniform(0.75, 1.0)
        self._next_s = min(max(2 * self._next_s, settings.backoff_s_min), settings.backoff_s_max)
        shell = self._context.shell
        if until is None:
            await shell.sleep(wait_s)
            return False
        ends = shell.now() + wait_s
        while not until():
            if shell.now() >= ends:
                return False
            await shell.sleep(min(_LOOK_S, max(0.0, ends - shell.now())))
        return True
