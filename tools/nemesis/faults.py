"""Making faults: signals to the processes of a local cluster, and new disks for its units.

What is killed here is started again here, and what is wiped is formatted; nothing else is done
for the cluster.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Iterable

from corfu.tools.cluster import LocalCluster
from corfu.tools.failure import CommandError, Status
from corfu.tools.formatting import format_unit_anew
from corfu.tools.processes import Process, dying_with_us, ending, last_line
from corfu.types import UnitId

from .plan import Cycle, Kind
from .safety import Victims

UNSURE_S = 1.5
"""So long after a process goes on, what the cluster says of it may be of before."""

CLUSTER_DOWN_S_MAX = 1.0


class Faults:
    """Makes the faults of one run, one at a time."""

    def __init__(self, cluster: LocalCluster) -> None:
        self._cluster = cluster
        self._down: set[UnitId] = set()
        self._touched: dict[UnitId, float] = {}
        self.at = 0.0
        """When the first process of the fault was hit."""

    @property
    def unsure(self) -> frozenset[UnitId]:
        """Units that are down, or were hit so lately that the cluster may not know it."""
        now = time.monotonic()
        lately = {id_ for id_, at in self._touched.items() if now - at < UNSURE_S}
        return frozenset(self._down | lately)

    async def make(self, cycle: Cycle, victims: Victims) -> None:
        """Make a fault and undo it; on return every process runs.

        Raises:
            CommandError: A process did not start again, or did not stop when it was told to.
        """
        self._down.update(self._hit(victims, cycle.kind))
        self.at = time.monotonic()
        try:
            await self._carry_out(cycle, victims)
        finally:
            now = time.monotonic()
            self._touched.update(dict.fromkeys(self._down, now))
            self._down.clear()

    def _hit(self, victims: Victims, kind: Kind) -> Iterable[UnitId]:
        if kind is Kind.KILL_CLUSTER:
            return map(UnitId, self._cluster.shape.unit_addresses())
        return victims.units if victims.spare is None else (*victims.units, victims.spare)

    async def _carry_out(self, cycle: Cycle, victims: Victims) -> None:
        match cycle.kind:
            case Kind.KILL_CLUSTER:
                down_s = min(cycle.seconds, CLUSTER_DOWN_S_MAX)
                await self._kill_and_restart(list(self._cluster.processes), down_s)
            case Kind.STOP_LEADER | Kind.STOP_REPLICA:
                await self._stop(self._targets(victims), cycle.seconds)
            case Kind.STOP_HEAD | Kind.STOP_MIDDLE | Kind.STOP_TAIL:
                await self._stop(self._targets(victims), cycle.seconds)
            case Kind.WIPE:
                (unit,) = self._targets(victims)
                await self._wipe(unit, cycle.seconds)
            case Kind.WIPE_TWICE:
                await self._wipe_twice(cycle, victims)
            case Kind.RESTART_REPLICA | Kind.RESTART_UNIT:
                await self._restart_in_order(self._targets(victims), cycle.seconds)
            case Kind.REPLACE:
                assert victims.spare is not None
                await replace_unit(self._cluster.cluster, victims.units[0], victims.spare)
            case _:
                await self._kill_and_restart(self._targets(victims), cycle.seconds)

    def _targets(self, victims: Victims) -> list[Process]:
        found: list[Process] = []
        if victims.replica is not None:
            found.append(self._cluster.process("sequencer", victims.replica))
        found += [self._cluster.process("storage", id_) for id_ in victims.units]
        if victims.spare is not None:
            found.append(self._cluster.process("storage", victims.spare))
        return found

    async def _kill_and_restart(self, processes: list[Process], down_s: float) -> None:
        await asyncio.gather(*(process.kill() for process in processes))
        await asyncio.sleep(down_s)
        await asyncio.gather(*(self._cluster.restart(process) for process in processes))

    async def _stop(self, processes: list[Process], stopped_s: float) -> None:
        for process in processes:
            process.pause()
        try:
            await asyncio.sleep(stopped_s)
        finally:
            for process in processes:
                process.resume()

    async def _wipe(self, process: Process, down_s: float) -> Process:
        """Kill a unit, give it an empty folder, and start it; returns the new process."""
        await process.kill()
        await asyncio.to_thread(format_unit_anew, process.program.data)
        await asyncio.sleep(down_s)
        return await self._cluster.restart(process)

    async def _wipe_twice(self, cycle: Cycle, victims: Victims) -> None:
        leader, unit = self._targets(victims)
        again = await self._wipe(unit, 0.0)
        # The new unit is just about to be met by this leader: the next one meets another.
        await leader.kill()
        await self._wipe(again, 0.0)
        await asyncio.sleep(cycle.seconds)
        await self._cluster.restart(leader)

    async def _restart_in_order(self, processes: list[Process], down_s: float) -> None:
        for process in processes:
            status = await process.terminate()
            if status != 0:
                raise CommandError(
                    f"{process.program.name} was told to stop and {ending(status)}: "
                    f"{last_line(process.output())}",
                    Status.NO,
                )
        await asyncio.sleep(down_s)
        await asyncio.gather(*(self._cluster.restart(process) for process in processes))


async def replace_unit(cluster: str, old: UnitId, new: UnitId) -> None:
    """Give `old`'s place to the spare `new`, as an operator does; then `old` is a spare.

    Raises:
        CommandError: The command failed.
    """
    await _command(cluster, "unit", "replace", str(old), str(new))
    # What was taken out of use stays so until the operator says otherwise.
    await _command(cluster, "unit", "replace", str(old), str(new), "--undo")


async def _command(cluster: str, *arguments: str) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "corfu.tools.cli", *arguments),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "CORFU_CLUSTER": cluster},
        preexec_fn=dying_with_us(),
    )
    try:
        _, said = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode != 0:
        raise CommandError(f"corfu {' '.join(arguments)}: {last_line(said.decode())}", Status.NO)


_TEXTS = {
    Kind.KILL_LEADER: "kill -9 leader {replica} {down}",
    Kind.KILL_REPLICA: "kill -9 replica {replica} {down}",
    Kind.KILL_HEAD: "kill -9 {place} unit {units} {down}",
    Kind.KILL_MIDDLE: "kill -9 {place} unit {units} {down}",
    Kind.KILL_TAIL: "kill -9 {place} unit {units} {down}",
    Kind.KILL_SPARE: "kill -9 spare unit {spare} {down}",
    Kind.KILL_CLUSTER: "kill -9 the whole cluster",
    Kind.KILL_TWO: "kill -9 units {units} of one chain {down}",
    Kind.STOP_LEADER: "SIGSTOP leader {replica} {down}",
    Kind.STOP_REPLICA: "SIGSTOP replica {replica} {down}",
    Kind.STOP_HEAD: "SIGSTOP {place} unit {units} {down}",
    Kind.STOP_MIDDLE: "SIGSTOP {place} unit {units} {down}",
    Kind.STOP_TAIL: "SIGSTOP {place} unit {units} {down}",
    Kind.WIPE: "wipe {place} unit {units}, back {after}",
    Kind.WIPE_TWICE: "wipe {place} unit {units}, kill -9 leader {replica} {down}, wipe again",
    Kind.LEADER_AND_UNIT: "kill -9 leader {replica} and {place} unit {units} {down}",
    Kind.LONG_ABSENCE: "kill -9 {place} unit {units} {down}",
    Kind.RESTART_REPLICA: "SIGTERM replica {replica} {down}",
    Kind.RESTART_UNIT: "SIGTERM {place} unit {units} {down}",
    Kind.REPLACE: "replace {place} unit {units} by unit {spare}",
}


def describe(cycle: Cycle, victims: Victims) -> str:
    """Say in words what a fault does."""
    return _TEXTS[cycle.kind].format(
        replica=victims.replica,
        place=victims.place,
        units=" and ".join(map(str, victims.units)),
        spare=victims.spare,
        down=f"for {cycle.seconds:.1f} s",
        after=f"after {cycle.seconds:.1f} s",
    )
