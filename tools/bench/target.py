"""What is measured: a cluster that runs already, or one of our own, for one benchmark."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

from corfu.addresses import parse_addresses
from corfu.tools.asking import ask_health
from corfu.tools.cluster import LocalCluster, Shape, free_base_port, open_cluster
from corfu.tools.health import Health
from corfu.types import Address, SyncMode

from .usage import Watched, local_processes

ANSWER_S = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which cluster was asked for.

    Attributes:
        cluster: One that runs; None: one of our own, of the shape that follows.
        sequencers: Its replicas.
        chains: Its chains.
        replicas: Units in each chain.
        sync: What an acknowledged append has reached.
        parent: Folder in which its own one is made and removed; None: that of temporary files.
    """

    cluster: str | None
    sequencers: int = 3
    chains: int = 2
    replicas: int = 3
    sync: SyncMode = SyncMode.ALWAYS
    parent: Path | None = None


@dataclass(frozen=True, slots=True)
class Target:
    """A cluster that serves; `local` is ours to stop and start."""

    cluster: str
    local: LocalCluster | None


@dataclass(frozen=True, slots=True)
class Servers:
    """What a look at the cluster showed: its shape, and its processes on this machine."""

    shape: dict[str, object]
    watched: list[Watched]


@contextlib.asynccontextmanager
async def target(wanted: Wanted, say: Callable[[str], None]) -> AsyncIterator[Target]:
    """Provide the cluster; one of our own is stopped and removed in the end.

    Raises:
        CommandError: It cannot be started.
    """
    if wanted.cluster is not None:
        yield Target(wanted.cluster, None)
        return
    shape = Shape(
        base_port=free_base_port(wanted.sequencers + wanted.chains * wanted.replicas),
        sequencers=wanted.sequencers,
        chains=wanted.chains,
        replicas=wanted.replicas,
        sync=wanted.sync,
    )
    folder = Path(tempfile.mkdtemp(prefix="corfu-bench-", dir=wanted.parent))
    try:
        say("starting a cluster")
        local = open_cluster(folder, lambda _known: shape)
        try:
            await local.start()
            await local.serving()
            yield Target(local.cluster, local)
        finally:
            await local.stop()
            local.close()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def look_at(cluster: str) -> Servers:
    """Ask who is who: the leader, the other replicas, the units.

    Raises:
        CommandError: No replica answers.
    """
    health = await ask_health(cluster, ANSWER_S)
    layout = health.best.layout
    chains = layout.open_segment.chains
    shape: dict[str, object] = {
        "cluster": ",".join(str(address) for address in parse_addresses(cluster)),
        "sequencers": len(layout.replicas),
        "chains": len(chains),
        "replicas": max(map(len, chains), default=0),
        "sync": layout.sync.value,
    }
    return Servers(shape, local_processes(_peers(health)))


def _peers(health: Health) -> list[tuple[str, str, Address]]:
    """Return the (role, name, address) of every server that takes part in appends."""
    layout = health.best.layout
    leader = None if health.leader is None else health.leader.replica
    units = {id_ for chain in layout.open_segment.chains for id_ in chain}
    replicas = [
        ("leader" if each.id == leader else "replicas", f"sequencer-{each.id}", each.address)
        for each in layout.replicas
    ]
    return sorted(replicas) + [
        ("units", f"storage-{each.id}", each.address) for each in layout.units if each.id in units
    ]
