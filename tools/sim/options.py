"""What one seed stands for: the cluster, its knobs, and how much goes wrong."""

from __future__ import annotations

import dataclasses
import random
from dataclasses import dataclass, field

from corfu.tools.sim.disk_worker import DiskLatency
from corfu.tools.sim.network import NetworkSettings
from corfu.types import SyncMode


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """One simulated run. Times are virtual seconds; `*_gap_s` are means of exponential gaps."""

    replicas: int = 3
    chains: int = 2
    units_per_chain: int = 3
    spares: int = 1
    clients: int = 3
    appenders: int = 2
    """Concurrent appending tasks of each client."""

    seconds: float = 6.0
    """How long the workload runs with faults, before everything is healed."""

    settle_s: float = 120.0
    """How long the healed cluster may take to finish every operation, to have its full redundancy
    back, and to be read whole."""

    change_gap_s: float = 10.0
    boot_grace_s: float = 30.0

    append_gap_s: float = 0.02
    read_gap_s: float = 0.05
    append_timeout_s: float = 4.0
    record_bytes_max: int = 300
    large_share: float = 0.01
    large_bytes_max: int = 150_000
    ordered_share: float = 0.4
    trims: bool = True

    fault_gap_s: float = 0.7
    kinds: tuple[str, ...] = (
        "kill",
        "crash_in_disk_operation",
        "power_cut",
        "power_cut_all",
        "kill_then_power_cut",
        "pause",
        "one_way",
        "partition",
        "isolate",
        "weather",
        "disk_full",
        "late",
        "leader_blink",
        "failed_sync",
        "long_absence",
        "wipe",
        "cut_between_units",
    )
    goals: tuple[str, ...] = ()
    """What an operator asks for meanwhile: drain, replace, add_chain, abandon."""

    goal_gap_s: float = 1.5
    goal_load_s: float = 4.0
    """How long clients go on while the last goals come true."""

    network: NetworkSettings = field(default_factory=NetworkSettings)
    latency: DiskLatency = field(default_factory=DiskLatency)
    sync: SyncMode = SyncMode.ALWAYS
    unit_journal_bytes: int = 512 << 10
    replica_journal_bytes: int = 64 << 10
    entry_bytes_target: int = 4096
    datagram_bytes_max: int = 1200
    window_offsets_min: int = 32
    snapshot_slots: int = 64


CALM = NetworkSettings()

GOALS = ("drain", "replace", "add_chain", "abandon")


def draw(seed: int) -> Options:
    """Return the options of a seed: its knobs are as random as its faults."""
    rng = random.Random(f"options-{seed}")  # noqa: S311 - a repeatable run is the point
    stormy = rng.random() < 0.8
    network = NetworkSettings(
        loss=rng.choice((0.0, 0.001, 0.02, 0.1)) if stormy else 0.0,
        duplicate=rng.choice((0.0, 0.01, 0.1)) if stormy else 0.0,
        delay_s_max=rng.choice((200e-6, 1e-3, 20e-3)),
        long_delay=rng.choice((0.0, 0.001, 0.01)) if stormy else 0.0,
        long_delay_s_max=rng.choice((3.0, 20.0)),
        corrupt=rng.choice((0.0, 0.005)),
        truncate=rng.choice((0.0, 0.005)),
    )
    every = Options().kinds
    kinds = every if rng.random() < 0.5 else tuple(rng.sample(every, rng.randint(1, 4)))
    options = Options(
        replicas=rng.choice((1, 3, 3, 3, 5)),
        chains=rng.choice((1, 2, 2, 3)),
        units_per_chain=rng.choice((1, 2, 3, 3)),
        spares=rng.choice((0, 0, 1, 2)),
        clients=rng.randint(1, 3),
        appenders=rng.randint(1, 3),
        append_gap_s=rng.choice((0.01, 0.03, 0.1)),
        fault_gap_s=rng.choice((0.3, 0.7, 2.0)),
        kinds=kinds,
        network=network,
        latency=DiskLatency(stall_probability=rng.choice((0.0, 0.001, 0.02))),
        unit_journal_bytes=rng.choice((256 << 10, 512 << 10, 2 << 20)),
        replica_journal_bytes=rng.choice((64 << 10, 256 << 10)),
        entry_bytes_target=rng.choice((1, 400, 4096, 60_000)),
        datagram_bytes_max=rng.choice((1200, 1200, 32 << 10)),
        window_offsets_min=rng.choice((4, 32, 256)),
        snapshot_slots=rng.choice((8, 64, 1000)),
        change_gap_s=rng.choice((0.5, 3.0, 10.0)),
        boot_grace_s=rng.choice((3.0, 30.0)),
    )
    # Drawn apart: a seed without goals stays what it was before there were any.
    rng = random.Random(f"goals-{seed}")  # noqa: S311
    if rng.random() < 0.75:
        return options
    return with_goals(options, seed, tuple(rng.sample(GOALS, rng.randint(1, len(GOALS)))))


def with_goals(options: Options, seed: int, goals: tuple[str, ...]) -> Options:
    """Return the options with an operator who asks for such goals, and spares to reach them."""
    rng = random.Random(f"spares-{seed}")  # noqa: S311
    spares = options.spares + rng.randint(1, options.units_per_chain + 1)
    return dataclasses.replace(
        options,
        goals=goals,
        spares=spares,
        goal_gap_s=rng.choice((0.5, 1.5, 3.0)),
        settle_s=3 * options.settle_s,
    )
