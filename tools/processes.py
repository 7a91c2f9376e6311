"""Starting, watching and stopping the server processes of a local cluster, each by its id.

Knows nothing of what the servers do: a process is a command line that prints a line beginning
with "ready" once it serves.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import functools
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from corfu.types import Address

from .failure import CommandError, Status

Role = Literal["sequencer", "storage"]

READY_S_MAX = 30.0
"""Longest wait for a process to serve: a storage unit reads its journal first."""

STOP_S_MAX = 10.0
"""Time a process has, after SIGTERM, to commit what is dirty; then it is killed."""

POLL_S = 0.02

_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True)
class Program:
    """One server process as it can be started at any time: `argv` is all it takes."""

    role: Role
    id: int
    address: Address
    data: Path
    argv: tuple[str, ...]

    @property
    def name(self) -> str:
        """The name people see, which is also that of its log file."""
        return f"{self.role}-{self.id}"


class Process:
    """One started program; its output goes to `log_path`, after what an earlier run left there."""

    def __init__(self, program: Program, log_path: Path) -> None:
        self.program = program
        self.log_path = log_path
        self._log_start = log_path.stat().st_size if log_path.exists() else 0
        self.death_reported = False
        with log_path.open("ab") as log:
            self._popen = subprocess.Popen(  # noqa: S603 - our own command line
                program.argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # Its own session: Ctrl-C at the terminal reaches us alone, and we stop it in order.
                start_new_session=True,
                preexec_fn=dying_with_us(),
            )

    @property
    def pid(self) -> int:
        """The process id, also after its end."""
        return self._popen.pid

    @property
    def status(self) -> int | None:
        """Exit status, minus the signal that killed it, or None while it runs."""
        return self._popen.poll()

    def output(self) -> str:
        """Return what this run has printed so far."""
        with self.log_path.open("rb") as log:
            log.seek(self._log_start)
            return log.read().decode(errors="replace")

    def signal(self, number: signal.Signals) -> None:
        """Send a signal; does nothing once the process has ended."""
        self._popen.send_signal(number)

    async def ready(self, budget_s: float = READY_S_MAX) -> None:
        """Wait until the process serves.

        Raises:
            CommandError: it ended, or is not ready in time.
        """
        loop = asyncio.get_running_loop()
        give_up = loop.time() + budget_s
        while not any(line.startswith("ready") for line in self.output().splitlines()):
            if self.status is not None:
                self.death_reported = True
                raise CommandError(
                    f"{self.program.name} {ending(self.status)}: {last_line(self.output())}",
                    Status.LOCAL,
                )
            if loop.time() > give_up:
                raise CommandError(
                    f"{self.program.name} is not ready after {budget_s:.0f} s, see {self.log_path}",
                    Status.LOCAL,
                )
            await asyncio.sleep(POLL_S)

    async def ended(self) -> int:
        """Wait for the end; return the exit status as `status` does."""
        while (status := self.status) is None:  # noqa: ASYNC110 - a process sets no event
            await asyncio.sleep(POLL_S)
        return status

    async def kill(self) -> None:
        """End the process with SIGKILL and wait until it is gone."""
        # Its end is our doing: no death to report, unless it ended before.
        self.death_reported = self.death_reported or self.status is None
        self.signal(signal.SIGKILL)
        await self.ended()

    async def terminate(self) -> int:
        """End the process with SIGTERM, as an operator does; return its exit status."""
        self.death_reported = self.death_reported or self.status is None
        self.signal(signal.SIGTERM)
        return await self.ended()

    def pause(self) -> None:
        """Stop the process with SIGSTOP: it is there, and does nothing."""
        self.signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a paused process go on."""
        self.signal(signal.SIGCONT)


async def stop_all(processes: Sequence[Process], budget_s: float = STOP_S_MAX) -> list[Process]:
    """Stop processes with SIGTERM, those still there after `budget_s` with SIGKILL.

    Returns:
        Those that had to be killed. None of `processes` runs any more.
    """
    for process in processes:
        process.signal(signal.SIGTERM)
        # A paused one hears of it only when it goes on.
        process.resume()
    try:
        async with asyncio.timeout(budget_s):
            for process in processes:
                await process.ended()
    except TimeoutError:
        pass  # the rest is killed below, and returned
    finally:
        # Also when we are cancelled while waiting: nobody is left behind.
        stubborn = [process for process in processes if process.status is None]
        for process in stubborn:
            process.signal(signal.SIGKILL)
    for process in stubborn:
        await process.ended()
    return stubborn


def ending(status: int) -> str:
    """Say in words how a process ended."""
    if status >= 0:
        return f"exited with status {status}"
    with contextlib.suppress(ValueError):
        return f"was killed by {signal.Signals(-status).name}"
    return f"was killed by signal {-status}"


def last_line(text: str) -> str:
    """Return the last line that says something."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "it printed nothing"


def dying_with_us() -> Callable[[], None]:
    """Return a `preexec_fn` for a child that gets SIGTERM when this process dies."""
    return functools.partial(_die_with_parent, os.getpid())


_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


def _die_with_parent(parent: int) -> None:
    """In the child, before its program starts: ask for SIGTERM when the parent dies."""
    if _libc is not None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent:  # it died before the line above took effect
        os._exit(1)
