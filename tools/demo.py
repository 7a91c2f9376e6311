"""The demo: a cluster, the standard library's sources as records, a killed leader, a proof.

    python -m corfu.tools.demo        (make demo)

Two producers append every line of every `.py` file of the standard library, each its share, while
a follower reads. Half-way the leader is killed. At the end what was read must be, for each
producer, exactly what it appended: same count, same digest, same order. Exit status 0 only then.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from corfu.addresses import parse_addresses

from .asking import ask_replicas
from .cluster import LocalCluster, Shape, free_base_port, open_cluster
from .demo_worker import lines_of, sources
from .failure import CommandError, Status
from .health import leader_of
from .processes import Process, dying_with_us, last_line

PRODUCERS = 2
SECONDS_MAX = 240.0
"""The demo fails rather than run longer; on two cores it takes well under 90 s."""

REFRESH_S = 0.2
PLAIN_REFRESH_S = 3.0
"""How often progress is printed where no terminal is looking."""


@dataclass(slots=True)
class Worker:
    """One client process and what it last reported."""

    name: str
    process: asyncio.subprocess.Process
    report: dict[str, Any] = field(default_factory=dict)

    @property
    def records(self) -> int:
        """Records appended (or read) so far."""
        return int(self.report.get("records", 0))

    async def listen(self) -> None:
        """Take its reports until it ends.

        Raises:
            CommandError: it failed.
        """
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        complaint = asyncio.create_task(self.process.stderr.read())
        async for line in self.process.stdout:
            self.report = json.loads(line)
        said = (await complaint).decode(errors="replace")
        status = await self.process.wait()
        if status != 0 or not self.report.get("done"):
            raise CommandError(f"{self.name} failed ({status}): {last_line(said)}", Status.NO)


class Demo:
    """One run."""

    def __init__(self, console: Console, cluster: LocalCluster, lines: int) -> None:
        self.console = console
        self.cluster = cluster
        self.lines = lines
        self.workers: list[Worker] = []
        self.killed: str | None = None
        self.begun = time.monotonic()

    @property
    def producers(self) -> list[Worker]:
        """The two that append."""
        return self.workers[:PRODUCERS]

    @property
    def follower(self) -> Worker:
        """The one that reads."""
        return self.workers[PRODUCERS]

    async def run(self) -> None:
        """Append, kill, read, and compare.

        Raises:
            CommandError: a client failed, or what was read differs.
        """
        try:
            await self._spawn_all()
            async with asyncio.TaskGroup() as tasks:
                showing = tasks.create_task(self._show())
                killing = tasks.create_task(self._kill_leader_half_way())
                listening = [tasks.create_task(worker.listen()) for worker in self.workers]
                await asyncio.wait({*listening}, return_when=asyncio.ALL_COMPLETED)
                await killing
                showing.cancel()
        except ExceptionGroup as failures:
            # Clients fail together when the cluster does; the first one says why.
            raise failures.exceptions[0] from failures
        finally:
            for worker in self.workers:
                if worker.process.returncode is None:
                    worker.process.kill()
                await worker.process.wait()

    async def _spawn_all(self) -> None:
        cluster, producers = self.cluster.cluster, str(PRODUCERS)
        for number in range(PRODUCERS):
            await self._spawn(f"producer {number}", "produce", cluster, str(number), producers)
        await self._spawn("follower", "follow", cluster, producers)

    async def _spawn(self, name: str, *arguments: str) -> None:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "corfu.tools.demo_worker", *arguments),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
            preexec_fn=dying_with_us(),
        )
        self.workers.append(Worker(name, process))

    async def _kill_leader_half_way(self) -> None:
        while sum(worker.records for worker in self.producers) < self.lines / 2:  # noqa: ASYNC110
            await asyncio.sleep(0.02)  # reports of other processes set no event
        leader = leader_of(await ask_replicas(parse_addresses(self.cluster.cluster), 5))
        if leader is None:
            raise CommandError("no leader half-way", Status.NO)
        await self._process_of(leader.replica).kill()
        self.killed = f"replica {leader.replica}, the leader of epoch {leader.layout.epoch}"
        self.console.print(f"killed {self.killed} with SIGKILL", style="bold red")

    def _process_of(self, replica: int) -> Process:
        return self.cluster.process("sequencer", replica)

    async def _show(self) -> None:
        if not self.console.is_terminal:
            while True:
                await asyncio.sleep(PLAIN_REFRESH_S)
                self.console.print(
                    ", ".join(f"{worker.name} {worker.records:,}" for worker in self.workers)
                )
        with Live(console=self.console, refresh_per_second=1 / REFRESH_S) as live:
            while True:
                live.update(self._picture())
                await asyncio.sleep(REFRESH_S)

    def _picture(self) -> Group:
        table = Table.grid(padding=(0, 2))
        elapsed = time.monotonic() - self.begun
        for worker in self.workers:
            total = self.lines if worker is self.follower else self.lines / PRODUCERS
            table.add_row(
                worker.name,
                ProgressBar(total=total, completed=worker.records, width=40),
                f"{worker.records:>9,} records",
                f"{worker.records / max(elapsed, 0.001):>9,.0f}/s",
            )
        state = f"killed {self.killed}" if self.killed else "the leader is killed half-way"
        return Group(table, Text(state, style="dim"))

    def verdict(self) -> list[str]:
        """Return every difference between what was appended and what was read; [] if none."""
        found: list[str] = []
        for producer, read in zip(self.producers, self.follower.report["streams"], strict=True):
            found.extend(
                f"{producer.name} appended {what} {producer.report[what]}, read back {read[what]}"
                for what in ("records", "digest")
                if producer.report[what] != read[what]
            )
        if self.follower.records != self.lines:
            found.append(f"{self.lines} lines to append, {self.follower.records} read back")
        if self.killed is None:
            found.append("the leader was never killed")
        return found

    def summary(self) -> Table:
        """Return the table that ends the demo."""
        table = Table(title="appended and read back", title_justify="left")
        for heading in ("client", "records", "MB", "longest wait", "SHA-256"):
            table.add_column(heading, justify="left" if heading == "client" else "right")
        for producer in self.producers:
            report = producer.report
            table.add_row(
                producer.name,
                f"{report['records']:,}",
                f"{report['bytes'] / 1e6:.1f}",
                f"{report['longest_s']:.2f} s",
                report["digest"][:16],
            )
        for number, stream in enumerate(self.follower.report["streams"]):
            table.add_row(
                f"follower, of {number}", f"{stream['records']:,}", "", "", stream["digest"][:16]
            )
        return table


async def _demo(console: Console, cluster: LocalCluster) -> Status:
    lines = sum(1 for _ in lines_of(sources()))
    shape = cluster.shape
    console.print(
        f"starting {shape.sequencers} replicas and {shape.chains} chains of {shape.replicas} "
        f"storage units in {cluster.folder}"
    )
    try:
        async with asyncio.timeout(SECONDS_MAX):
            await cluster.start()
            await cluster.serving()
            console.print(f"appending {lines:,} lines from {PRODUCERS} producers")
            demo = Demo(console, cluster, lines)
            await demo.run()
            seconds = time.monotonic() - demo.begun
            await _print_chains(console, cluster)
    except TimeoutError as error:
        raise CommandError(f"not done after {SECONDS_MAX:.0f} s", Status.UNAVAILABLE) from error
    finally:
        await cluster.stop()
    console.print(demo.summary())
    differences = demo.verdict()
    for difference in differences:
        console.print(f"MISMATCH: {difference}", style="bold red")
    if differences:
        return Status.NO
    console.print(
        f"{lines:,} records appended, followed and found equal in {seconds:.1f} s "
        f"({lines / seconds:,.0f} records/s), across the death of {demo.killed}",
        style="bold green",
    )
    return Status.OK


async def _print_chains(console: Console, cluster: LocalCluster) -> None:
    leader = leader_of(await ask_replicas(parse_addresses(cluster.cluster), 5))
    if leader is None:
        raise CommandError("no leader at the end", Status.NO)
    tails = {unit.unit: unit.local_tail for unit in leader.units}
    for number, chain in enumerate(leader.layout.open_segment.chains):
        units = " -> ".join(f"unit {id_} (to {tails.get(id_, 0):,})" for id_ in chain)
        console.print(f"chain {number}: {units}")
    console.print(f"epoch {leader.layout.epoch}, tail {leader.tail:,} entries")


def main() -> None:
    """Run the demo in a temporary folder, which is removed; exit with its verdict."""
    # SIGTERM ends like Ctrl-C: through the clean-up below.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    console = Console(highlight=False)
    folder = Path(tempfile.mkdtemp(prefix="corfu-demo-"))
    try:
        status = _with_cluster(folder, lambda cluster: asyncio.run(_demo(console, cluster)))
    except CommandError as error:
        click.echo(f"demo: {error}", err=True)
        status = error.status
    except KeyboardInterrupt:
        status = Status.INTERRUPTED
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    sys.exit(status)


def _with_cluster(folder: Path, body: Callable[[LocalCluster], Status]) -> Status:
    base_port = free_base_port(Shape().sequencers + len(Shape().unit_addresses()))
    cluster = open_cluster(folder, lambda _: Shape(base_port=base_port))
    try:
        return body(cluster)
    finally:
        cluster.close()


if __name__ == "__main__":
    main()
