"""The clients of a run as processes, and what can be seen of their appends meanwhile."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from dataclasses import dataclass, field
from pathlib import Path

from corfu.compression import CodecName
from corfu.tools.failure import CommandError, Status
from corfu.tools.history import decode_history
from corfu.tools.operations import Operation, Outcome
from corfu.tools.processes import dying_with_us, ending, last_line
from corfu.tools.workload import WorkloadOptions

from .client import OPTIONS, Settings
from .measures import Sample

WATCH_S = 0.05
APPEND_PREFIX = b'{"op":"append"'
"""How the line of an append begins; the others are not looked at before the end."""


@dataclass(frozen=True, slots=True)
class Clients:
    """Who works.

    Attributes:
        count: How many; every second one keeps log order equal to call order.
        processes: Over how many processes they are spread; None: one each.
        prefix: What their names, and so the keys of their records, begin with.
        options: What each of them does.
        compression: By which codec they compress what they append.
        dictionaries: Paths of the dictionaries that they have.
    """

    count: int
    processes: int | None = None
    prefix: str = "c"
    options: WorkloadOptions = OPTIONS
    compression: CodecName | None = None
    dictionaries: tuple[str, ...] = ()

    def groups(self) -> list[list[str]]:
        """Return the names of the clients of each process."""
        names = [f"{self.prefix}{number}" for number in range(1, self.count + 1)]
        processes = min(self.processes or self.count, self.count)
        return [names[first::processes] for first in range(processes)]

    def settings(self) -> Settings:
        """Return what each process is told."""
        ordered = tuple(f"{self.prefix}{number}" for number in range(2, self.count + 1, 2))
        return Settings(self.options, ordered, self.compression, self.dictionaries)


@dataclass(slots=True)
class Client:
    """One process of clients, its history, and how much of that was seen."""

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

    def __init__(
        self, folder: Path, cluster: str, seed: int, clients: Clients, *, sampling: bool = True
    ) -> None:
        """Make the load.

        Args:
            folder: For histories and logs of the processes.
            cluster: Where they work.
            seed: Draws what they do.
            clients: Who works.
            sampling: Keep how long each append took, while they run.
        """
        self.samples: list[Sample] = []
        self.operations = 0
        """How many operations have ended, as far as was seen."""

        self._sampling = sampling
        self._folder = folder
        self._cluster = cluster
        self._seed = seed
        self._who = clients
        self._clients: list[Client] = []
        self._watching: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start all clients."""
        settings = self._who.settings().encode()
        for names in self._who.groups():
            name = names[0]
            history = self._folder / f"history-{name}.jsonl"
            log_path = self._folder / f"client-{name}.log"
            module = ("-m", "corfu.tools.nemesis.client")
            with log_path.open("wb") as log:
                process = await asyncio.create_subprocess_exec(
                    *(sys.executable, *module, self._cluster, ",".join(names), str(self._seed)),
                    *(str(history), settings),
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
            self.require_all()
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
            lines = client.new_lines()
            self.operations += len(lines)
            for line in lines if self._sampling else ():
                if line.startswith(APPEND_PREFIX):
                    self._see(client, line)

    def _see(self, client: Client, line: bytes) -> None:
        fields = json.loads(line)
        acknowledged = fields["outcome"] == Outcome.APPENDED.value
        sample = Sample(client.name, fields["invoked"], fields["completed"], acknowledged)
        self.samples.append(sample)
        if acknowledged:
            client.acknowledged_at = max(client.acknowledged_at, sample.invoked)

    def require_all(self) -> None:
        """Raise CommandError if a client has ended."""
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
