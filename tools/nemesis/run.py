"""One run: a cluster under load, fault after fault, the wait for redundancy, and the verdict."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import corfu
from corfu.addresses import parse_addresses
from corfu.errors import CorfuError
from corfu.tools.asking import ask_replicas, asking
from corfu.tools.cluster import LocalCluster
from corfu.tools.failure import CommandError
from corfu.tools.final_read import FinalLogError, compare_units, read_whole
from corfu.tools.health import Health, assess
from corfu.tools.history import encode_history
from corfu.tools.operations import FinalLog, Operation
from corfu.tools.processes import ending, last_line

from .faults import Faults, describe
from .load import Clients, Load
from .measures import waits
from .plan import Cycle
from .report import Made, Report, Totals, count, judge, line_of, too_slow
from .safety import Situation, Victims, conflicts, lacking, victims

FIRST_APPENDS_S_MAX = 30.0
APPENDS_S_MAX = 60.0
"""Appends that have not gone on so long after a fault was undone never will."""

WHOLE_S_MAX = 180.0
"""The same for redundancy: chains are merged 10 s after the last change at the soonest."""

END_S_MAX = 60.0
"""An operation of a client takes at most 30 s."""

FINAL_READ_S_MAX = 300.0
STATUS_S = 0.5
LOOK_S = 0.25


class Violated(Exception):  # noqa: N818 - a finding, not an error of the nemesis
    """The cluster broke a rule, or did not heal; the run goes no further."""


@dataclass(slots=True)
class _Hit:
    """A fault that was made, not yet measured to its end.

    What was seen of appends before `first_sample` had ended before the fault.
    """

    cycle: Cycle
    text: str
    clock: str
    at: float
    first_sample: int
    whole_s: float | None = None


class Run:
    """One run on a cluster that is not started yet."""

    def __init__(
        self,
        cluster: LocalCluster,
        cycles: Sequence[Cycle],
        *,
        seed: int,
        clients: int,
        say: Callable[[str], None],
    ) -> None:
        self.faults: list[Made] = []
        self.violations: list[str] = []
        self.totals: Totals | None = None
        self.history: list[Operation] = []
        self.final: FinalLog | None = None
        self._cluster = cluster
        self._cycles = cycles
        self._seed = seed
        self._say = say
        self._load = Load(cluster.folder, cluster.cluster, seed, Clients(clients))
        self._maker = Faults(cluster)
        self._hits: list[_Hit] = []

    async def run(self) -> None:
        """Do all of it; what was found is in `violations`. No process is left."""
        try:
            await self._cluster.start()
            await self._cluster.serving()
            await self._load.start()
            try:
                await self._torment()
            except Violated as found:
                self.violations.append(str(found))
            self.violations += await self._load.end(END_S_MAX)
            self._measure()
            await self._conclude()
        finally:
            await self._load.kill()
            await self._cluster.stop()

    def report(self, *, seconds: float, leader_s: float | None, unit_s: float | None) -> Report:
        """Return the report of the run, once it has ended.

        Args:
            seconds: How long it took.
            leader_s: Bound on how long appends may take to resume when a leader is lost.
            unit_s: The same for a storage unit.
        """
        return Report(
            seed=self._seed,
            cycles=len(self._cycles),
            seconds=seconds,
            faults=tuple(self.faults),
            totals=self.totals,
            violations=(
                *self.violations,
                *too_slow(self.faults, leader_s=leader_s, unit_s=unit_s),
            ),
            kept=None,
        )

    async def _torment(self) -> None:
        """Make every fault, then wait for full redundancy.

        Raises:
            Violated: Appends or redundancy did not come back, or a process died by itself.
        """
        await self._appending(0.0, FIRST_APPENDS_S_MAX)
        for cycle in self._cycles:
            await self._go_through(cycle)
        await self._whole()

    async def _go_through(self, cycle: Cycle) -> None:
        hit_whom = await self._victims(cycle)
        hit = _Hit(
            cycle,
            describe(cycle, hit_whom),
            time.strftime("%H:%M:%S"),
            time.monotonic(),
            len(self._load.samples),
        )
        self._hits.append(hit)
        try:
            await self._maker.make(cycle, hit_whom)
        except CommandError as error:
            raise Violated(f"cycle {cycle.number}, {hit.text}: {error}") from error
        finally:
            hit.at = self._maker.at
        await self._appending(hit.at, APPENDS_S_MAX)
        if not cycle.overlap:
            await self._whole()
            hit.whole_s = time.monotonic() - hit.at
        self._say(line_of(self._made(hit, time.monotonic()), len(self._cycles)))

    async def _victims(self, cycle: Cycle) -> Victims:
        """Wait until something may be hit, and choose it."""
        give_up = time.monotonic() + WHOLE_S_MAX
        while time.monotonic() < give_up:
            now = await self._situation()
            found = victims(cycle.kind, now) if now is not None else ()
            if found:
                return found[int(cycle.draw * len(found))]
            await asyncio.sleep(LOOK_S)
        raise Violated(
            f"no {cycle.kind} was possible for {WHOLE_S_MAX:.0f} s: {await self._lack()}"
        )

    async def _appending(self, since: float, budget_s: float) -> None:
        try:
            async with asyncio.timeout(budget_s):
                await self._load.resumed(since)
        except TimeoutError:
            raise Violated(f"a client's appends had not gone on after {budget_s:.0f} s") from None
        except CommandError as error:
            raise Violated(str(error)) from error

    async def _whole(self) -> None:
        """Wait for full redundancy."""
        give_up = time.monotonic() + WHOLE_S_MAX
        while time.monotonic() < give_up:
            now = await self._situation()
            if now is not None and now.whole:
                return
            await asyncio.sleep(LOOK_S)
        raise Violated(f"redundancy was not full after {WHOLE_S_MAX:.0f} s: {await self._lack()}")

    async def _situation(self) -> Situation | None:
        """Look at the cluster; None if no replica answers.

        Raises:
            Violated: What is seen cannot be.
        """
        health = await self._health()
        for process in self._cluster.deaths():
            assert process.status is not None
            raise Violated(
                f"{process.program.name} {ending(process.status)}: {last_line(process.output())}"
            )
        if health is None:
            return None
        for conflict in conflicts(health):
            raise Violated(conflict)
        unsure = self._maker.unsure
        whole = not unsure and self._lacking(health) is None
        return Situation(health, unsure, whole)

    async def _health(self) -> Health | None:
        asked = parse_addresses(self._cluster.cluster)
        answers = await ask_replicas(asked, STATUS_S)
        return assess(asked, answers) if answers else None

    def _lacking(self, health: Health) -> str | None:
        shape = self._cluster.shape
        return lacking(health, units=shape.units, chains=shape.chains, replicas=shape.replicas)

    async def _lack(self) -> str:
        health = await self._health()
        return "no replica answers" if health is None else self._lacking(health) or "nothing lacks"

    def _made(self, hit: _Hit, until: float) -> Made:
        """Return a fault with what it has cost up to `until`."""
        samples = self._load.samples[hit.first_sample :]
        cost = waits(samples, hit.at, until)
        return Made(hit.cycle.number, hit.cycle.kind, hit.text, hit.clock, cost, hit.whole_s)

    def _measure(self) -> None:
        """Measure every fault again: appends that it delayed may have ended only now."""
        nexts = [hit.at for hit in self._hits[1:]]
        ends = [*nexts, time.monotonic()]
        # With no fault made there is an end too many.
        self.faults = [self._made(hit, until) for hit, until in zip(self._hits, ends, strict=False)]

    async def _conclude(self) -> None:
        """Read the whole log, compare it with all units, and check the history."""
        self.history = self._load.history()
        try:
            async with asyncio.timeout(FINAL_READ_S_MAX):
                self.final = await self._read()
        except TimeoutError:
            self.violations.append(f"the log was not read in {FINAL_READ_S_MAX:.0f} s")
        except (CorfuError, FinalLogError) as error:
            self.violations.append(f"reading the whole log: {error}")
        if self.final is not None:
            self.totals = count(self.history, self.final)
            self.violations += await asyncio.to_thread(judge, self.history, self.final)

    async def _read(self) -> FinalLog:
        async with corfu.connect(self._cluster.cluster) as log:
            final = await read_whole(log)
        # Units are compared only where redundancy is there to be compared.
        if not self.violations:
            self.final = final
            health = await self._health()
            if health is None:
                raise FinalLogError("no replica answers")
            layout = health.best.layout
            async with asking(parse_addresses(self._cluster.cluster), layout.cluster) as asker:
                await compare_units(asker.driver, layout, final)
        return final


def write_history(path: Path, history: Sequence[Operation], final: FinalLog | None) -> None:
    """Keep a history in the form that `corfu nemesis --check` reads."""
    with path.open("w") as file:
        for line in encode_history(history, final):
            file.write(line + "\n")
