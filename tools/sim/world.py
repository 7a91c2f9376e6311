"""A whole cluster in one thread: the processes that production runs, on simulated machines.

The one construction site of every process in simulations. What is random comes from generators
that follow from the seed; nothing here reads a clock or the system's randomness.
"""

from __future__ import annotations

import random
from dataclasses import replace

from corfu.client.cluster import Cluster
from corfu.client.log import LogClient
from corfu.client.settings import ClientSettings
from corfu.config import LinkSettings
from corfu.journal.format import JournalSettings
from corfu.layout import Replica, Unit
from corfu.link import Link
from corfu.runtime.driver import Driver
from corfu.sequencer.bootstrap import Bootstrap
from corfu.sequencer.identity import ReplicaIdentity
from corfu.sequencer.process import ReplicaProcess, format_joining, format_replica
from corfu.sequencer.replica import Replica as ReplicaCore
from corfu.sequencer.settings import SequencerSettings
from corfu.sequencer.state import State
from corfu.storage_units.process import UnitProcess, format_unit
from corfu.storage_units.settings import UnitSettings
from corfu.tools.sim.disk import SimDisk
from corfu.tools.sim.disk_worker import SimDiskWorker
from corfu.tools.sim.group import Group
from corfu.tools.sim.host import Host, RuleBroken
from corfu.tools.sim.invariants import unit_without_mark
from corfu.tools.sim.loop import VirtualLoop
from corfu.tools.sim.network import SimDatagrams, SimNetwork
from corfu.tools.sim.options import CALM, Options
from corfu.types import (
    Address,
    ClusterId,
    Incarnation,
    Offset,
    ReplicaId,
    SyncMode,
    UnitId,
)


class World:
    """Replicas, units and clients on one network, all from one seed."""

    def __init__(self, seed: int, options: Options) -> None:
        self.seed = seed
        self.options = options
        self.loop = VirtualLoop()
        self.rng = random.Random(f"world-{seed}")  # noqa: S311
        self._entropy = random.Random(f"entropy-{seed}")  # noqa: S311
        self.network = SimNetwork(self.loop, random.Random(f"network-{seed}"), CALM)  # noqa: S311
        self.failure: BaseException | None = None
        self.faults: dict[str, int] = {}
        self.events: list[str] = []
        self.cluster = ClusterId(self.entropy(8))
        self.joining: list[Host] = []
        self._replica_ids = options.replicas
        self.replicas = [self._replica_host(n) for n in range(1, options.replicas + 1)]
        count = options.chains * options.units_per_chain + options.spares
        self.units = [self._unit_host(n) for n in range(1, count + 1)]
        self._clients = 0
        self.client_addresses: list[Address] = []
        self._format()

    @property
    def hosts(self) -> list[Host]:
        """All machines of the cluster."""
        return [*self.replicas, *self.joining, *self.units]

    @property
    def sequencers(self) -> tuple[Address, ...]:
        """The replicas' addresses."""
        return tuple(host.address for host in self.replicas)

    def entropy(self, count: int) -> bytes:
        """Return "random" bytes that follow from the seed; never the same twice in a run."""
        return self._entropy.randbytes(count)

    def disks_stay(self) -> bool:
        """Tell whether no disk lost anything so far, and what is acknowledged is on disk."""
        wiped = not self.faults.keys().isdisjoint(("wipe", "restore", "lost chain"))
        return self.options.sync is SyncMode.ALWAYS and not wiped

    def note(self, *parts: str) -> None:
        """Write a line of the run's event list, and feed the trace hash."""
        self.loop.note(*parts)
        self.events.append(f"{self.loop.now:12.6f}  {'  '.join(parts)}")

    def count(self, kind: str) -> None:
        """Count a fault."""
        self.faults[kind] = self.faults.get(kind, 0) + 1

    def fail(self, error: BaseException) -> None:
        """Keep the first thing that went wrong; `check` raises it."""
        if self.failure is None:
            self.failure = error

    def check(self) -> None:
        """Raise what went wrong, if anything."""
        if isinstance(self.failure, RuleBroken):
            raise self.failure
        if self.failure is not None:
            raise RuleBroken(f"{self.failure!r}") from self.failure

    def trimmed(self, mark: Offset) -> None:
        """A trim has returned: no unit that serves the newest epoch is without its mark.

        Only looked at while every process runs: the newest epoch may else be known to nobody here.
        """
        if not all(host.running for host in self.hosts):
            return
        standings = [
            (host.name, host.process.core.store.standing)
            for host in self.units
            if isinstance(host.process, UnitProcess) and host.process.serves
        ]
        late = unit_without_mark(mark, (state.active.epoch for state in self.states()), standings)
        if late is not None:
            self.fail(RuleBroken(f"trim: {late}"))

    def start(self) -> None:
        """Start every process."""
        for host in self.hosts:
            host.start()

    def link_settings(self) -> LinkSettings:
        """Return the link settings of this run."""
        return LinkSettings(datagram_bytes_max=self.options.datagram_bytes_max)

    def client(self, *, ordered: bool = False) -> tuple[LogClient, Driver, Group]:
        """Make a client, not opened yet, on a machine of its own, and its process group."""
        self._clients += 1
        name = f"client{self._clients}"
        group = self.loop.group(name)
        log, driver = group.run(self._open_client, self._clients, ordered)
        return log, driver, group

    def admin(self) -> tuple[Cluster, Group]:
        """Make what an admin command works with, on a machine of its own, and its process group."""
        self._clients += 1
        group = self.loop.group(f"admin{self._clients}")
        return group.run(self._open_admin, self._clients), group

    def _open_admin(self, number: int) -> Cluster:
        driver = self._open_driver(number)

        def learn(cluster: ClusterId) -> None:
            driver.link.cluster = cluster

        return Cluster(driver, ClientSettings(), self.rng, self.sequencers, learn)

    def _open_driver(self, number: int) -> Driver:
        self.client_addresses.append(Address(f"10.0.3.{number}", 7000))
        link = Link(
            cluster=None,
            session=Incarnation(self.entropy(16)),
            settings=self.link_settings(),
            rng=self.rng,
        )
        driver = Driver(
            core=None,
            link=link,
            datagrams=self.network.endpoint(self.client_addresses[-1]),
            worker=None,
            loop=self.loop,
            on_fatal=self.fail,
        )
        driver.start()
        return driver

    def _open_client(self, number: int, ordered: bool) -> tuple[LogClient, Driver]:
        driver = self._open_driver(number)
        settings = replace(
            self.options.client,
            ordered=ordered,
            entry_bytes_target=max(1024, self.options.entry_bytes_target),
        )

        def learn(cluster: ClusterId) -> None:
            driver.link.cluster = cluster

        async def stop() -> None:
            driver.stop()

        log = LogClient(
            driver,
            settings,
            rng=self.rng,
            entropy=self.entropy,
            sequencers=self.sequencers,
            on_cluster=learn,
            on_close=stop,
        )
        return log, driver

    def _replica_host(self, number: int) -> Host:
        address = Address(f"10.0.1.{number}", 9700)
        return Host(self, f"replica{number}", address, SimDisk(), self._build_replica)

    def _unit_host(self, number: int) -> Host:
        address = Address(f"10.0.2.{number}", 9800)
        return Host(self, f"unit{number}", address, SimDisk(), self._build_unit)

    def _build_replica(
        self, host: Host, datagrams: SimDatagrams, worker: SimDiskWorker
    ) -> ReplicaProcess:
        return ReplicaProcess(
            disk=host.disk,
            worker=worker,
            datagrams=datagrams,
            loop=self.loop,
            rng=self.rng,
            entropy=self.entropy,
            settings=self._sequencer_settings(),
            log=host.say,
            on_fatal=host.fatal,
        )

    def _build_unit(
        self, host: Host, datagrams: SimDatagrams, worker: SimDiskWorker
    ) -> UnitProcess:
        return UnitProcess(
            disk=host.disk,
            worker=worker,
            datagrams=datagrams,
            loop=self.loop,
            rng=self.rng,
            entropy=self.entropy,
            settings=self._unit_settings(),
            boot_id=f"{host.name}-boot-{host.boot}",
            log=host.say,
            on_fatal=host.fatal,
            on_reborn=host.reborn,
        )

    def wipe(self, host: Host) -> None:
        """Empty a unit's disk and format it anew, as an operator does with a new disk."""
        host.kill()
        self.note(host.name, "is wiped and formatted")
        host.disk = SimDisk()
        format_unit(
            host.disk,
            cluster=self.cluster,
            unit=UnitId(self.units.index(host) + 1),
            incarnation=Incarnation(self.entropy(16)),
            sync=self.options.sync,
            settings=self._unit_settings(),
        )

    def join_replica(self, source: ReplicaCore) -> Replica:
        """Format and start a replica that is to join, with the state of a running one."""
        self._replica_ids += 1
        host = self._replica_host(self._replica_ids)
        group = source.group
        incarnation = Incarnation(self.entropy(16))
        identity = ReplicaIdentity(self.cluster, ReplicaId(self._replica_ids), incarnation)
        format_joining(host.disk, identity, group.applied, group.state, self._sequencer_settings())
        self.joining.append(host)
        host.start()
        return Replica(identity.replica, incarnation, host.address)

    def promote(self) -> None:
        """Count the replicas that were admitted among the others."""
        for host in list(self.joining):
            process = host.process
            if isinstance(process, ReplicaProcess) and process.core.group.admitted:
                self.joining.remove(host)
                self.replicas.append(host)

    def retire(self, host: Host) -> None:
        """A replica was replaced: its machine is nobody's any more."""
        if host in self.replicas:
            self.replicas.remove(host)

    def states(self) -> list[State]:
        """Return the applied states of the replicas that run."""
        return [
            host.process.core.state
            for host in self.replicas
            if isinstance(host.process, ReplicaProcess)
        ]

    def _sequencer_settings(self) -> SequencerSettings:
        options = self.options
        return replace(
            options.sequencer,
            journal=JournalSettings(file_bytes=options.replica_journal_bytes),
            link=self.link_settings(),
            window_offsets_min=options.window_offsets_min,
            change_gap_s=options.change_gap_s,
            boot_grace_s=options.boot_grace_s,
            snapshot_slots=options.snapshot_slots,
        )

    def _unit_settings(self) -> UnitSettings:
        return replace(
            self.options.unit,
            journal_file_bytes=self.options.unit_journal_bytes,
            cache_bytes_max=self.options.unit_cache_bytes,
            scrub_rest_s=self.options.scrub_rest_s,
            parallel_persist=self.options.parallel_persist,
            link=self.link_settings(),
            sequencers=self.sequencers,
        )

    def _format(self) -> None:
        """Format every folder, as an operator does before the first start."""
        options = self.options
        units = tuple(
            Unit(UnitId(n), Incarnation(self.entropy(16)), host.address)
            for n, host in enumerate(self.units, 1)
        )
        replicas = tuple(
            Replica(ReplicaId(n), Incarnation(self.entropy(16)), host.address)
            for n, host in enumerate(self.replicas, 1)
        )
        width = options.units_per_chain
        chains = tuple(
            tuple(unit.id for unit in units[first : first + width])
            for first in range(0, options.chains * width, width)
        )
        members = units[: options.chains * width]
        bootstrap = Bootstrap(
            cluster=self.cluster,
            replicas=replicas,
            units=members,
            chains=chains,
            sync=options.sync,
            min_replicas=min(2, width),
        )
        for unit, host in zip(units, self.units, strict=True):
            format_unit(
                host.disk,
                cluster=self.cluster,
                unit=unit.id,
                incarnation=unit.incarnation,
                sync=options.sync,
                settings=self._unit_settings(),
            )
        for replica, host in zip(replicas, self.replicas, strict=True):
            format_replica(
                host.disk,
                replica=replica.id,
                incarnation=replica.incarnation,
                bootstrap=bootstrap,
                settings=self._sequencer_settings(),
            )
