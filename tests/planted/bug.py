"""What a planted bug is, and the runs it is looked for in."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from corfu.tools.sim.disk_worker import DiskLatency
from corfu.tools.sim.network import NetworkSettings
from corfu.tools.sim.options import Options
from corfu.types import SyncMode

from .group_run import GroupRun
from .planting import Edit

NEVER_S = 1e6
"""As the mean gap between faults: there is none."""

LOSSY = NetworkSettings(loss=0.1, duplicate=0.05, delay_s_max=2e-3)

_BASE = Options(
    replicas=3,
    chains=1,
    units_per_chain=2,
    spares=0,
    clients=2,
    appenders=2,
    seconds=2.0,
    settle_s=60.0,
    change_gap_s=0.5,
    boot_grace_s=3.0,
    append_gap_s=0.02,
    read_gap_s=0.03,
    append_timeout_s=2.0,
    record_bytes_max=100,
    parallel_persist=False,
    large_share=0.0,
    large_bytes_max=10_000,
    ordered_share=0.3,
    trim_clients=0.0,
    trim_share=0.2,
    fault_gap_s=0.25,
    kinds=("kill",),
    goals=(),
    goal_gap_s=1.5,
    goal_load_s=1.0,
    network=NetworkSettings(),
    latency=DiskLatency(),
    sync=SyncMode.ALWAYS,
    unit_journal_bytes=256 << 10,
    unit_cache_bytes=64 << 20,
    scrub_rest_s=3600.0,
    replica_journal_bytes=64 << 10,
    entry_bytes_target=400,
    datagram_bytes_max=1200,
    window_offsets_min=32,
    snapshot_slots=64,
)


def run_of(**changes: Any) -> Options:
    """Return the options of a short run. Built from nothing that a seed draws."""
    return replace(_BASE, **changes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bug:
    """A rule of the protocol, broken on purpose.

    Attributes:
        name: What it is called.
        hazards: The rows of the hazard catalogue that it stands for.
        broken: What the code does then, in one sentence.
        edits: What is replaced in the production code.
        options: Runs in which it matters: of whole clusters, or of replicas alone.
    """

    name: str
    hazards: str
    broken: str
    edits: tuple[Edit, ...]
    options: Options | GroupRun

    @property
    def finder(self) -> str:
        """What the runs are of."""
        return "replicas" if isinstance(self.options, GroupRun) else "cluster"
