"""kill -9 of each role at each phase of an append.

A phase is held open by stopping the process that would do the next step. What is killed is started
again at once, so that one cluster goes through all roles.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import corfu
from corfu.tools.check_options import CheckOptions
from corfu.tools.cluster import LocalCluster
from corfu.tools.operations import Operation
from corfu.tools.processes import Process
from tests.integration.bad_cases.clients import ClientProcess, Clients, judge
from tests.integration.bad_cases.holdings import above
from tests.integration.bad_cases.shares import every_second
from tests.integration.redundancy import appended_to, leader_process
from tests.integration.running import DEADLINE_S, local_cluster

pytestmark = [pytest.mark.processes, pytest.mark.timeout(400)]

HEAD, MIDDLE, TAIL = 1, 2, 3
UNITS = {"head": HEAD, "middle": MIDDLE, "tail": TAIL}
ROLES = ("client", "leader", "tail", "middle", "head")

PHASES = {
    "no token": "leader",
    "token, nothing written": "head",
    "only the head has it": "middle",
    "all but the tail unit have it": "tail",
}
"""Each phase, and who must be stopped for it to last."""

HELD_S = 0.2
"""Two appenders of a client that append every 50 ms are both in the phase by then."""


@contextlib.asynccontextmanager
async def _held(process: Process) -> AsyncIterator[None]:
    process.pause()
    try:
        yield
    finally:
        process.resume()


async def _role(cluster: LocalCluster, role: str) -> Process:
    if role == "leader":
        return await leader_process(cluster)
    return cluster.process("storage", UNITS[role])


async def _open(
    cluster: LocalCluster, log: corfu.Log, clients: Clients, stopped: str
) -> asyncio.Task[corfu.Position | None]:
    """Begin an append that comes as far as the stopped process lets it; return it there."""
    if stopped == "leader":
        appending = asyncio.create_task(clients.append())
        await asyncio.sleep(HELD_S / 2)
        return appending
    # Tokens up to here were granted before or just after the stop: what lies above is new.
    granted = await log.tail(timeout=DEADLINE_S)
    appending = asyncio.create_task(clients.append())
    if stopped == "head":
        async with asyncio.timeout(DEADLINE_S):
            while await log.tail(timeout=DEADLINE_S) <= granted:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
    else:
        await above(cluster, {"middle": HEAD, "tail": MIDDLE}[stopped], granted, DEADLINE_S)
    return appending


@pytest.mark.parametrize("phase", every_second(PHASES))
async def test_every_role_killed_in_a_phase_of_an_append(tmp_path: Path, phase: str) -> None:
    stopped = PHASES[phase]
    lost: list[Operation] = []
    async with local_cluster(tmp_path / "log", chains=1, replicas=3) as cluster:
        async with corfu.connect(cluster.cluster) as log, Clients(cluster) as clients:
            chain = tuple(UNITS)
            needed = set(chain[: chain.index(stopped) + 1]) if stopped in UNITS else set()
            for role in ROLES:
                await appended_to(cluster, {UNITS[name] for name in (needed | {role}) & set(UNITS)})
                client = ClientProcess(cluster, "killed", tmp_path)
                if role == "client":
                    await client.start()
                held = await _role(cluster, stopped)
                victim = None if role == "client" else await _role(cluster, role)
                async with _held(held):
                    appending = await _open(cluster, log, clients, stopped)
                    assert not appending.done() or stopped == "leader", "the phase is open"
                    if victim is None:
                        await asyncio.sleep(HELD_S)
                        await client.kill()
                        lost += client.history()
                    else:
                        await victim.kill()
                if victim is not None:
                    await cluster.restart(victim)
                await clients.more()
                await appending
        # What the killed client did last stands in no history.
        await judge(
            cluster,
            clients.history + lost,
            options=CheckOptions(appends_complete=False, trims_complete=False),
        )


async def test_every_role_killed_while_a_client_has_not_read_that_it_was_written(
    tmp_path: Path,
) -> None:
    async with local_cluster(tmp_path / "log", chains=1, replicas=3) as cluster:
        async with corfu.connect(cluster.cluster) as log:
            client = ClientProcess(cluster, "alone", tmp_path)
            await client.start()
            for role in ROLES[1:]:
                await appended_to(cluster, {HEAD, MIDDLE, TAIL})
                victim = await _role(cluster, role)
                async with _held(cluster.process("storage", TAIL)):
                    granted = await log.tail(timeout=DEADLINE_S)
                    await above(cluster, MIDDLE, granted, DEADLINE_S)
                    client.signal(signal.SIGSTOP)
                # The tail unit's answer is sent, and nobody reads it.
                try:
                    await above(cluster, TAIL, granted, DEADLINE_S)
                    await victim.kill()
                    await cluster.restart(victim)
                finally:
                    client.signal(signal.SIGCONT)
                await client.more(5)
            await client.end()
        await judge(cluster, client.history())
