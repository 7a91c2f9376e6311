"""Server processes of peers: started in a folder, watched, and stopped by their ids."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from corfu.tools.processes import dying_with_us, ending, last_line

from .base import PeerError

HOST = "127.0.0.1"
START_S_MAX = 30.0
STOP_S_MAX = 10.0
POLL_S = 0.02


class PeerProcess:
    """One server of a peer; its output goes to a file beside its data."""

    def __init__(self, name: str, argv: Sequence[str], log: Path) -> None:
        self.name = name
        self.log = log
        with log.open("wb") as output:
            self._popen = subprocess.Popen(  # noqa: S603 - our own command line
                argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=log.parent,
                # Its own session: Ctrl-C at the terminal reaches us alone, and we stop it in order.
                start_new_session=True,
                preexec_fn=dying_with_us(),
            )

    @property
    def pid(self) -> int:
        """The process id."""
        return self._popen.pid

    def require(self) -> None:
        """Raise PeerError if the process has ended."""
        status = self._popen.poll()
        if status is not None:
            said = last_line(self.log.read_text(errors="replace"))
            raise PeerError(f"{self.name} {ending(status)}: {said}")

    def terminate(self) -> None:
        """Ask the process to end."""
        if self._popen.poll() is None:
            self._popen.terminate()

    async def ended(self, budget_s: float) -> None:
        """Wait for the end; a process that is there after `budget_s` is killed."""
        loop = asyncio.get_running_loop()
        give_up = loop.time() + budget_s
        while self._popen.poll() is None:
            if loop.time() > give_up:
                self._popen.send_signal(signal.SIGKILL)
            await asyncio.sleep(POLL_S)


async def stop(processes: Sequence[PeerProcess]) -> None:
    """End all processes; none is left, also if this is cancelled while it waits."""
    for process in processes:
        process.terminate()
    try:
        for process in processes:
            await process.ended(STOP_S_MAX)
    except asyncio.CancelledError:
        for process in processes:
            await process.ended(0)
        raise


async def until(
    ready: Callable[[], Awaitable[bool]], processes: Sequence[PeerProcess], what: str
) -> None:
    """Wait until `ready` is true.

    Raises:
        PeerError: One of `processes` ended, or it took too long; `what` names what was awaited.
    """
    loop = asyncio.get_running_loop()
    give_up = loop.time() + START_S_MAX
    while not await ready():
        for process in processes:
            process.require()
        if loop.time() > give_up:
            raise PeerError(f"{what} after {START_S_MAX:.0f} s")
        await asyncio.sleep(POLL_S)


def free_ports(count: int) -> list[int]:
    """Return TCP ports of the loopback interface that are free now."""
    with ExitStack() as held:
        ports = []
        for _ in range(count):
            probe = held.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
            probe.bind((HOST, 0))
            ports.append(int(probe.getsockname()[1]))
        return ports


def program(name: str) -> str | None:
    """Return where a program is: beside this Python, as pip puts it, or in PATH."""
    beside = Path(sys.executable).parent
    return shutil.which(name, path=os.pathsep.join([str(beside), os.environ.get("PATH", "")]))
