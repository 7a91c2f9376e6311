"""Clients that do every kind of operation, trims among them, and the judge of what they saw."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import corfu
from corfu.addresses import parse_addresses
from corfu.config import LinkSettings
from corfu.errors import AppendUnknownError, NotAppendedError
from corfu.tools.asking import asking
from corfu.tools.check import check
from corfu.tools.check_options import CheckOptions
from corfu.tools.cluster import LocalCluster
from corfu.tools.final_read import compare_units, read_whole
from corfu.tools.history import decode_history
from corfu.tools.operations import Append, FinalLog, Operation, Outcome
from corfu.tools.processes import dying_with_us
from corfu.tools.recording import Recorder
from corfu.tools.records import make_record
from corfu.tools.workload import Workload, WorkloadOptions
from tests.integration.appending import GOES_ON_S
from tests.integration.redundancy import status_of
from tests.integration.running import DEADLINE_S

OPTIONS = WorkloadOptions(
    append_gap_s=0.05,
    read_gap_s=0.1,
    append_timeout_s=10.0,
    trim_clients=1.0,
    trimmed_share=0.25,
)
"""All clients trim, but leave most of the log there to be found or missed."""


class Clients:
    """Two clients, one of them ordered, that work for as long as the block lasts."""

    def __init__(
        self,
        cluster: LocalCluster,
        *,
        working: bool = True,
        trims: bool = True,
        link: LinkSettings | None = None,
    ) -> None:
        """Make the clients.

        Args:
            cluster: Where they work.
            working: Whether they do anything by themselves.
            trims: Whether they trim.
            link: How they send; None: as fits loopback.
        """
        self.history: list[Operation] = []
        self._cluster = cluster
        self._link = link
        self._recorder = Recorder(time.monotonic, self.history.append)
        self._numbers = 0
        self._log: corfu.Log | None = None
        options = OPTIONS if trims else replace(OPTIONS, trim_clients=0.0)
        names = (("plain", False), ("ordered", True)) if working else ()
        self._workloads = [
            Workload(
                name,
                partial(corfu.connect, cluster.cluster, ordered=ordered, link=link),
                self._recorder,
                options,
                seed=1,
                ordered=ordered,
            )
            for name, ordered in names
        ]
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Clients:
        self._log = await corfu.connect(self._cluster.cluster, link=self._link)
        self._tasks = [asyncio.create_task(each.run()) for each in self._workloads]
        if self._tasks:
            await self.more(10)
        return self

    async def __aexit__(self, *_: object) -> None:
        for workload in self._workloads:
            workload.end()
        await asyncio.gather(*self._tasks)
        assert self._log is not None
        await self._log.close()

    async def more(self, count: int = 10, budget_s: float = GOES_ON_S) -> float:
        """Wait until `count` appends begun after now were acknowledged; return the seconds."""
        since = time.monotonic()
        async with asyncio.timeout(budget_s):
            while sum(map(_is_success, self._begun_after(since))) < count:
                for task in self._tasks:
                    if task.done():
                        task.result()
                await asyncio.sleep(0.01)
        return time.monotonic() - since

    def _begun_after(self, since: float) -> list[Operation]:
        return [each for each in self.history if each.invoked > since]

    async def append(
        self, budget_s: float = DEADLINE_S, *, length: int = 100
    ) -> corfu.Position | None:
        """Append one record more, and take that down; None: it has no position known."""
        assert self._log is not None
        self._numbers += 1
        key, data = make_record("single", self._numbers, length)
        invoked = self._recorder.now()
        position: corfu.Position | None = None
        outcome = Outcome.APPENDED
        try:
            position = await self._log.append(data, timeout=budget_s)
        except NotAppendedError:
            outcome = Outcome.NOT_APPENDED
        except AppendUnknownError:
            outcome = Outcome.UNKNOWN
        place = None if position is None else (position.offset, position.index)
        self._recorder.keep(
            Append(invoked, self._recorder.now(), "single", (key,), (place,), outcome)
        )
        return position


def _is_success(operation: Operation) -> bool:
    return isinstance(operation, Append) and operation.outcome is Outcome.APPENDED


class ClientProcess:
    """One client that is a process, so that it can be stopped and killed."""

    def __init__(self, cluster: LocalCluster, name: str, folder: Path) -> None:
        self._cluster = cluster
        self._name = name
        self._history = folder / f"history-{name}.jsonl"
        self._log_path = folder / f"client-{name}.log"
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start it, and wait until it appends."""
        with self._log_path.open("wb") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "corfu.tools.nemesis.client", self._cluster.cluster),
                *(self._name, "1", str(self._history)),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=dying_with_us(),
            )
        await self.more(5)

    async def more(self, count: int, budget_s: float = DEADLINE_S) -> None:
        """Wait until `count` appends begun after now were acknowledged."""
        assert self._process is not None
        since = time.monotonic()
        async with asyncio.timeout(budget_s):
            while sum(_is_success(each) and each.invoked > since for each in self.history()) < (
                count
            ):
                assert self._process.returncode is None, self._log_path.read_text()
                await asyncio.sleep(0.05)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        assert self._process is not None
        os.kill(self._process.pid, number)

    async def kill(self) -> None:
        """End it with SIGKILL, whatever it does."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()

    async def end(self) -> None:
        """Let it end its operations; fails if it does not, or complains."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(DEADLINE_S):
            assert await self._process.wait() == 0, self._log_path.read_text()

    def history(self) -> list[Operation]:
        """Return what it has done so far."""
        if not self._history.exists():
            return []
        with self._history.open() as lines:
            # One that was killed may have written half a line.
            return decode_history(line for line in lines if line.endswith("\n"))[0]


async def findings(
    cluster: LocalCluster, history: list[Operation], *, options: CheckOptions | None = None
) -> tuple[FinalLog, list[str]]:
    """Return the log as it is now, and which rules a history breaks with it."""
    async with corfu.connect(cluster.cluster) as log, asyncio.timeout(DEADLINE_S):
        final = await read_whole(log)
    history.sort(key=lambda operation: operation.invoked)
    violations = check(history, final, options=options or CheckOptions())
    return final, [str(violation) for violation in violations]


async def judge(
    cluster: LocalCluster,
    history: list[Operation],
    *,
    options: CheckOptions | None = None,
    units: bool = True,
) -> None:
    """Check a history against the log as it is now; every operation must have ended.

    Args:
        cluster: It must serve.
        history: What the clients did.
        options: What is known of the run.
        units: Whether all units are there, to be compared with the log.
    """
    final, violations = await findings(cluster, history, options=options)
    assert violations == []
    assert final.entries, "something must be left to be judged"
    keys = [key for records in final.entries.values() for key in records]
    assert len(set(keys)) == len(keys), "every record is there once"
    if units:
        layout = (await status_of(cluster)).layout
        async with asking(parse_addresses(cluster.cluster), layout.cluster) as asker:
            await compare_units(asker.driver, layout, final)
