"""What one seed stands for: the cluster, its knobs, and how much goes wrong."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace

from corfu.client.settings import ClientSettings
from corfu.config import HELD_MAX
from corfu.sequencer.settings import SequencerSettings
from corfu.storage_units.settings import UnitSettings
from corfu.tools.sim.disk_worker import DiskLatency
from corfu.tools.sim.network import NetworkSettings
from corfu.tools.workload import WorkloadOptions
from corfu.types import SyncMode

FIRST_KINDS = (
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
LATER_KINDS = (
    "crash_in_send",
    "slow_disk",
    "skewed_clock",
    "frozen_clock",
    "flapping",
    "swizzle",
    "least_majority",
    "stale_side",
)
"""Kinds of fault that were added later: they are drawn apart."""

RESTORE_KINDS = ("restore", "late", "weather")
"""A unit that forgets goes with nothing that takes another one of its chain away: what the first
forgot and the second takes along is rightly lost."""


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
    trim_clients: float = 0.4
    """Share of clients that trim at all."""

    trim_share: float = 0.2
    """How often such a client, when it is its turn to trim, does."""

    cancel_share: float = 0.0
    visits: bool = False
    client: ClientSettings = field(default_factory=ClientSettings)
    unit: UnitSettings = field(default_factory=UnitSettings)
    sequencer: SequencerSettings = field(default_factory=SequencerSettings)
    """What `unit_journal_bytes` and the like below set is set over these."""

    parallel_persist: bool = UnitSettings().parallel_persist
    """Whether units forward before their own fsync."""

    minority_stops: bool = False
    """Whether a minority stops once all is healed, and clients have to go on (liveness)."""

    fault_gap_s: float = 0.7
    kinds: tuple[str, ...] = (*FIRST_KINDS, "rot", *LATER_KINDS)
    only_faults: frozenset[int] | None = None
    """Numbers of the faults that are let happen; None: all."""

    goals: tuple[str, ...] = ()
    """What an operator asks for meanwhile: drain, replace, add_chain, abandon."""

    goal_gap_s: float = 1.5
    goal_load_s: float = 4.0
    """How long clients go on while the last goals come true."""

    network: NetworkSettings = field(default_factory=NetworkSettings)
    latency: DiskLatency = field(default_factory=DiskLatency)
    sync: SyncMode = SyncMode.ALWAYS
    unit_journal_bytes: int = 512 << 10
    unit_cache_bytes: int = 64 << 20
    scrub_rest_s: float = 3600.0
    replica_journal_bytes: int = 64 << 10
    entry_bytes_target: int = 4096
    datagram_bytes_max: int = 1200
    window_offsets_min: int = 32
    snapshot_slots: int = 64

    @property
    def workload(self) -> WorkloadOptions:
        """What each client does."""
        return WorkloadOptions(
            appenders=self.appenders,
            append_gap_s=self.append_gap_s,
            read_gap_s=self.read_gap_s,
            append_timeout_s=self.append_timeout_s,
            record_bytes_max=self.record_bytes_max,
            large_share=self.large_share,
            large_bytes_max=self.large_bytes_max,
            trim_clients=self.trim_clients,
            trim_share=self.trim_share,
            cancel_share=self.cancel_share,
            visits=self.visits,
            to_tail_share=0.2,
        )


CALM = NetworkSettings()

ROT_SHARE = 0.35
"""Share of the seeds in which disks rot."""
GOALS = ("drain", "replace", "add_chain", "abandon")
"""What an operator asks for of units and chains."""

MEMBER_GOALS = ("replace_replica", "transfer")
"""What an operator asks for of the replicas."""

MEMBER_SHARE = 0.15
"""Share of the seeds in which replicas are replaced."""

LONG_SHARE = 0.02
"""Share of the seeds that go on for long."""

RESTORE_SHARE = 0.06
"""Share of the seeds in which old copies of a unit's folder are put back, if nothing forbids it."""

LIVENESS_SHARE = 0.1
"""Share of the seeds in which clients have to go on with a minority stopped."""


PARALLEL_SHARE = 0.7
"""Share of the seeds in which units forward before their own fsync."""


def draw(seed: int) -> Options:
    """Return the options of a seed: its knobs are as random as its faults."""
    options = _with_restores(seed, _with_knobs(seed, _with_length(seed, draw_first(seed))))
    # Drawn apart: all else of a seed is as it was when chains could only persist in a row.
    rng = random.Random(f"parallel-{seed}")  # noqa: S311
    return replace(options, parallel_persist=rng.random() < PARALLEL_SHARE)


def draw_first(seed: int) -> Options:
    """Return the options of a seed as they were before lengths and more knobs were drawn."""
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
    # Drawn apart, so that the other knobs of a seed stay what they were.
    trims_much = random.Random(f"trims-{seed}").random() < 0.2  # noqa: S311 - repeatable, too
    every = FIRST_KINDS
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
        sync=rng.choice((SyncMode.ALWAYS,) * 5 + (SyncMode.OS,)),
        # Trims in nearly every rebuild and failover of the seed.
        trim_clients=1.0 if trims_much else 0.4,
        trim_share=0.9 if trims_much else 0.2,
    )
    return _with_members(seed, _with_goals(seed, _with_rot(seed, options)))


def _with_length(seed: int, options: Options) -> Options:
    """Make most runs short: more clusters are seen in the same time, each with as many faults."""
    rng = random.Random(f"length-{seed}")  # noqa: S311
    if rng.random() < LONG_SHARE:
        return options
    return replace(
        options,
        seconds=rng.uniform(0.4, 1.2),
        fault_gap_s=options.fault_gap_s / 6,
        clients=min(2, options.clients),
        appenders=min(2, options.appenders),
        append_gap_s=max(0.03, options.append_gap_s),
        large_bytes_max=rng.choice((10_000, 10_000, 10_000, options.large_bytes_max)),
        goal_load_s=0.7,
        # What takes long are not the faults but the calm after them, until all is redundant.
        replicas=min(3, options.replicas),
        chains=min(2, options.chains),
        change_gap_s=rng.choice((0.2, 0.5, 1.0)),
        boot_grace_s=rng.choice((1.0, 3.0)),
    )


def _with_knobs(seed: int, options: Options) -> Options:
    """Draw what was drawn last: later kinds of fault, and the knobs of every role."""
    rng = random.Random(f"knobs-{seed}")  # noqa: S311
    later: tuple[str, ...] = LATER_KINDS if set(FIRST_KINDS) <= set(options.kinds) else ()
    if not later and rng.random() < 0.5:
        later = tuple(rng.sample(LATER_KINDS, rng.randint(1, 3)))
    return replace(
        options,
        kinds=(*options.kinds, *later),
        cancel_share=rng.choice((0.0, 0.05, 0.3)),
        visits=rng.random() < 0.3,
        minority_stops=rng.random() < LIVENESS_SHARE,
        client=_client_knobs(rng) if rng.random() < 0.5 else ClientSettings(),
        unit=_unit_knobs(rng) if rng.random() < 0.5 else UnitSettings(),
        sequencer=_sequencer_knobs(rng) if rng.random() < 0.5 else SequencerSettings(),
    )


def _with_restores(seed: int, options: Options) -> Options:
    """Let a unit of some seeds get old copies of its folder back; drawn apart, too."""
    rng = random.Random(f"restores-{seed}")  # noqa: S311
    forbidden = options.goals or options.minority_stops or options.units_per_chain == 1
    if forbidden or rng.random() >= RESTORE_SHARE:
        return options
    return replace(options, kinds=RESTORE_KINDS)


def _client_knobs(rng: random.Random) -> ClientSettings:
    return ClientSettings(
        linger_s=rng.choice((0.0, 0.01)),
        gather_s=rng.choice((0.0, 0.005, 0.05)),
        entries_in_flight_max=rng.choice((1, 2, 64)),
        bytes_in_flight_max=rng.choice((1 << 20, 8 << 20)),
        tokens_per_request_max=rng.choice((1, 2, 64)),
        write_budget_s=rng.choice((0.2, 1.0, 3.0)),
        write_look_s=rng.choice((0.05, 0.25, 1.0)),
        unit_budget_s=rng.choice((0.1, 0.5, 2.0)),
        replica_budget_s=rng.choice((0.1, 0.4, 1.0)),
        hole_timeout_s=rng.choice((0.01, 0.25, 1.0)),
        gap_grace_s=rng.choice((0.0, 0.01, 0.2)),
        read_bytes=rng.choice((1, 5_000, 60_000)),
        window_bytes=rng.choice((2_000, 1 << 20)),
        ahead_bytes=rng.choice((2_000, 2 << 20)),
        follow_wait_s=rng.choice((0.05, 1.0)),
        follow_bytes=rng.choice((10_000, 8 << 20)),
        cache_bytes=rng.choice((0, 4 << 20)),
    )


def _unit_knobs(rng: random.Random) -> UnitSettings:
    return UnitSettings(
        loads_max=rng.choice((1, 64)),
        names_loaded_max=rng.choice((HELD_MAX, 65536)),
        parked_max=rng.choice((1, 4096)),
        copies_max=rng.choice((1, 64)),
        copy_s_max=rng.choice((0.5, 10.0)),
        fill_offsets_max=rng.choice((3, 16384)),
        read_offsets_max=rng.choice((1024, 4096)),
        ping_interval_s=rng.choice((0.1, 0.25, 1.0)),
        unprobed_s=rng.choice((0.5, 2.0)),
    )


def _sequencer_knobs(rng: random.Random) -> SequencerSettings:
    return SequencerSettings(
        probe_s=rng.choice((0.1, 0.25)),
        unit_dead_s=rng.choice((0.5, 1.0, 3.0)),
        second_dead_s=rng.choice((1.0, 5.0)),
        mend_s=rng.choice((0.5, 3.0)),
        seal_s=rng.choice((0.3, 1.0)),
        hole_sweep_s=rng.choice((0.1, 1.0)),
        window_s=rng.choice((0.01, 0.1)),
        clients_max=rng.choice((1, 4096)),
        answers_max=rng.choice((1, 1024)),
        waiting_max=rng.choice((2, 4096)),
        catchup_bytes_max=rng.choice((2_000, 256 << 10)),
        rebuild_bytes_s=rng.choice((1e6, 64e6)),
    )


def _with_rot(seed: int, options: Options) -> Options:
    """Let the disks of some seeds rot; drawn apart, so that the others stay what they were."""
    rng = random.Random(f"rot-{seed}")  # noqa: S311
    if rng.random() >= ROT_SHARE:
        return options
    return replace(
        options,
        # Of equal weight with several others: it waits for a quiet moment, and often finds none.
        kinds=(*options.kinds, *["rot"] * max(1, len(options.kinds) // 4)),
        unit_cache_bytes=rng.choice((0, 64 << 10, 64 << 20)),
        scrub_rest_s=rng.choice((1.0, 3600.0)),
    )


def _with_goals(seed: int, options: Options) -> Options:
    # Drawn apart: a seed without goals stays what it was before there were any.
    rng = random.Random(f"goals-{seed}")  # noqa: S311
    if rng.random() < 0.75:
        return options
    return with_goals(options, seed, tuple(rng.sample(GOALS, rng.randint(1, len(GOALS)))))


def _with_members(seed: int, options: Options) -> Options:
    """Let replicas be replaced in some seeds; drawn apart, too."""
    rng = random.Random(f"members-{seed}")  # noqa: S311
    return options if rng.random() >= MEMBER_SHARE else with_members(options)


def with_members(options: Options) -> Options:
    """Return the options with an operator who replaces replicas, and has them hand over, too."""
    if options.replicas == 1:
        return options
    return replace(options, goals=(*options.goals, *MEMBER_GOALS), settle_s=2 * options.settle_s)


def with_goals(options: Options, seed: int, goals: tuple[str, ...]) -> Options:
    """Return the options with an operator who asks for such goals, and spares to reach them."""
    rng = random.Random(f"spares-{seed}")  # noqa: S311
    spares = options.spares + rng.randint(1, options.units_per_chain + 1)
    return replace(
        options,
        goals=goals,
        spares=spares,
        goal_gap_s=rng.choice((0.5, 1.5, 3.0)),
        settle_s=3 * options.settle_s,
    )
