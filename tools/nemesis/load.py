"""The clients of a run as processes, and what can be seen of their appends meanwhile."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from dataclasses import dataclass, field
from pathlib import Path

from corfu.tools.failure import CommandError, Status
from corfu.tools.history import Operation, Outcome, decode_history
from corfu.tools.processes import dying_with_us, ending, last_line

from .measures import Sample

WATCH_S = 0.05
APPEND_PREFIX = b'{"op":"append"'
"""How the line of an append begins; the others are not looked at before the end."""


@dataclass(slots=True)
class Client:
    """One client process, its history, and how much of that was seen."""

    name: str
    process: asyncio.subprocess.Process
    history: Path
    log: Path
    position: int = 0
    rest: bytes = b""
    acknowledged_at: float = field(default=0.0)
    """When the newest of its acknowledged appends had been begun."""

    def new_lines(self) -> list[bytes]:
        """Return the whole lines written since the last call."""
        if not self.history.exists():
            return []
        with self.history.open("rb") as file:
            file.seek(self.position)
            data = file.read()
        self.position += len(data)
        *lines, self.rest = (self.rest + data).split(b"\n")
        return lines


class Load:
    """Clients that append, read, follow, fill and trim until they are told to end."""

    def __init__(self, folder: Path, cluster: str, seed: int, count: int) -> None:
        self.samples: list[Sample] = []
        self._folder = folder
        self._cluster = cluster
        self._seed = seed
        self._count = count
        self._clients: list[Client] = []
        self._watching: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start all clients; every second one keeps log order equal to call order."""
        for number in range(1, self._count + 1):
            name = f"c{number}"
            history = self._folder / f"history-{name}.jsonl"
            log_path = self._folder / f"client-{name}.log"
            more = ("ordered",) if number % 2 == 0 else ()
            module = ("-m", "corfu.tools.nemesis.client")
            with log_path.open("wb") as log:
                process = await asyncio.create_subprocess_exec(
                    *(sys.executable, *module, self._cluster, name, str(self._seed)),
                    *(str(history), *more),
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    # Ctrl-C at the terminal reaches us alone.
                    start_new_session=True,
                    preexec_fn=dying_with_us(),
                )
            self._clients.append(Client(name, process, history, log_path))
        self._watching = asyncio.create_task(self._watch())

    async def resumed(self, since: float) -> None:
        """Wait until every client had an append acknowledged that was begun after `since`.

        Raises:
            CommandError: A client has ended.
        """
        while any(client.acknowledged_at <= since for client in self._clients):
            self._require_all()
            await asyncio.sleep(WATCH_S)  # other processes set no event

    async def end(self, budget_s: float) -> list[str]:
        """Let every operation end; return which clients did not end well, and why."""
        for client in self._clients:
            if client.process.returncode is None:
                client.process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(budget_s):
                for client in self._clients:
                    await client.process.wait()
        except TimeoutError:
            pass  # who is left is killed below, and told of
        found = [_complaint(client, budget_s) for client in self._clients]
        await self.kill()
        self._look()
        return [complaint for complaint in found if complaint is not None]

    async def kill(self) -> None:
        """End what is left of the clients."""
        if self._watching is not None:
            self._watching.cancel()
        for client in self._clients:
            if client.process.returncode is None:
                client.process.kill()
            await client.process.wait()

    def history(self) -> list[Operation]:
        """Return what all clients did, by the time of the call; after their end."""
        history: list[Operation] = []
        for client in self._clients:
            if client.history.exists():
                with client.history.open() as lines:
                    # A client that was killed may have written half a line.
                    whole = (line for line in lines if line.endswith("\n"))
                    history += decode_history(whole)[0]
        history.sort(key=lambda operation: operation.invoked)
        return history

    async def _watch(self) -> None:
        while True:
            self._look()
            await asyncio.sleep(WATCH_S)

    def _look(self) -> None:
        for client in self._clients:
            for line in client.new_lines():
                if line.startswith(APPEND_PREFIX):
                    self._see(client, line)

    def _see(self, client: Client, line: bytes) -> None:
        fields = json.loads(line)
        acknowledged = fields["outcome"] == Outcome.APPENDED.value
        sample = Sample(client.name, fields["invoked"], fields["completed"], acknowledged)
        self.samples.append(sample)
        if acknowledged:
            client.acknowledged_at = max(client.acknowledged_at, sample.invoked)

    def _require_all(self) -> None:
        for client in self._clients:
            status = client.process.returncode
            if status is not None:
                raise CommandError(
                    f"client {client.name} {ending(status)}: {last_line(client.log.read_text())}",
                    Status.NO,
                )


def _complaint(client: Client, budget_s: float) -> str | None:
    status = client.process.returncode
    if status is None:
        return f"client {client.name}: an operation had not ended after {budget_s:.0f} s"
    if status != 0:
        return f"client {client.name} {ending(status)}: {last_line(client.log.read_text())}"
    return None
