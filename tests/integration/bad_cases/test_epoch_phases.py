"""kill -9 of each role at each phase of a seal and of a reconfiguration.

A new epoch begins with the death of the leader. A phase of it is held open by dropping the one
message that it waits for; that something was dropped shows that it is open. Then a role is killed,
and everything is let go.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from pathlib import Path

import pytest

from corfu.addresses import parse_addresses
from corfu.messages import (
    Accept,
    Accepted,
    Fill,
    Install,
    Installed,
    Message,
    Prepare,
    ReplicaRole,
    Seal,
    Sealed,
)
from corfu.tools.asking import ask_replicas
from corfu.tools.check_options import CheckOptions
from corfu.tools.cluster import LocalCluster
from corfu.tools.processes import Process
from tests.integration.bad_cases.clients import ClientProcess, Clients, judge
from tests.integration.bad_cases.network import Cut, OwnNetwork
from tests.integration.bad_cases.shares import only
from tests.integration.redundancy import appended_to, leader_process
from tests.integration.running import DEADLINE_S, local_cluster

pytestmark = [pytest.mark.processes, pytest.mark.timeout(400)]

UNITS = {"head": 1, "middle": 2, "tail": 3}
ROLES = ("client", "leader", "tail", "head", "middle")


@dataclass(frozen=True, slots=True)
class Phase:
    """What is dropped so that a phase lasts: a message, from whom, to whom."""

    message: type[Message]
    source: str
    target: str


PHASES = {
    "promises asked": Phase(Prepare, "followers", "replicas"),
    "intent proposed": Phase(Accept, "followers", "replicas"),
    "intent accepted": Phase(Accepted, "followers", "replicas"),
    "two of three sealed": Phase(Seal, "followers", "middle"),
    "all sealed": Phase(Sealed, "middle", "followers"),
    "two of three installed": Phase(Install, "followers", "middle"),
    "all installed": Phase(Installed, "middle", "followers"),
    "active, not closed": Phase(Fill, "followers", "head"),
}


def _ports(cluster: LocalCluster, name: str, leader: Process) -> Iterable[int]:
    replicas = {address.port for address in cluster.shape.sequencer_addresses().values()}
    if name == "replicas":
        return replicas
    if name == "followers":
        # Who leads now must not be held up: not its messages are to be seen.
        return replicas - {leader.program.address.port}
    return (cluster.process("storage", UNITS[name]).program.address.port,)


async def _next_leader(cluster: LocalCluster) -> Process:
    """Return who is about to lead: not all phases have one that says that it does."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            answers = await ask_replicas(parse_addresses(cluster.cluster), 0.2)
            for role in (ReplicaRole.LEADS, ReplicaRole.ELECTING):
                for answer in answers:
                    if answer.role is role:
                        return cluster.process("sequencer", answer.replica)
            await asyncio.sleep(0.02)


async def _open(cut: Cut) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while cut.dropped == 0:  # noqa: ASYNC110 - nft sets no event
            await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def _held(
    cluster: LocalCluster, network: OwnNetwork, phase: Phase
) -> AsyncIterator[list[Process]]:
    """Kill the leader, and have the next one in `phase` for as long as the block lasts.

    Gives a list for what is killed meanwhile: it is started again, too, and all at once, for a
    unit that is away for a second is left out of the layout.
    """
    leader = await leader_process(cluster)
    await leader.kill()
    # The election takes far longer than this.
    cut = network.cut(
        sources=_ports(cluster, phase.source, leader),
        targets=_ports(cluster, phase.target, leader),
        message=phase.message,
    )
    await _open(cut)
    killed = [leader]
    yield killed
    cut.heal()
    await asyncio.gather(*(cluster.restart(process) for process in killed))


async def _victim(cluster: LocalCluster, role: str) -> Process:
    if role == "leader":
        return await _next_leader(cluster)
    return cluster.process("storage", UNITS[role])


# The simulator kills every process between any two datagrams; here stand one phase of Paxos and one
# of the units, the others are in make test-all.
@pytest.mark.parametrize("name", only(("promises asked", "all sealed"), PHASES))
async def test_every_role_killed_in_a_phase_of_a_new_epoch(
    tmp_path: Path, network: OwnNetwork, name: str
) -> None:
    async with local_cluster(tmp_path / "log", chains=1, replicas=3) as cluster:
        client = ClientProcess(cluster, "killed", tmp_path)
        async with Clients(cluster) as clients:
            for role in ROLES:
                await appended_to(cluster, {UNITS["head"], UNITS["middle"], UNITS.get(role, 1)})
                if role == "client":
                    await client.start()
                    async with _held(cluster, network, PHASES[name]):
                        await client.kill()
                else:
                    async with _held(cluster, network, PHASES[name]) as killed:
                        victim = await _victim(cluster, role)
                        await victim.kill()
                        killed.append(victim)
                await clients.more()
        # What the killed client did last stands in no history.
        await judge(
            cluster,
            clients.history + client.history(),
            options=CheckOptions(appends_complete=False, trims_complete=False),
        )
