"""Planted bugs in parallel persistence: what is tentative, and who may say that it is no more."""

from __future__ import annotations

from corfu.storage_units.notices import Notices
from corfu.storage_units.reads import Reads
from corfu.storage_units.recovery import _Replay
from corfu.storage_units.store import Store
from corfu.storage_units.writes import Writes
from corfu.tools.sim.disk_worker import DiskLatency

from .bug import Bug, run_of
from .planting import edit

_POWER = run_of(
    parallel_persist=True,
    fault_gap_s=0.12,
    kinds=("power_cut", "power_cut_all"),
    append_gap_s=0.005,
    read_gap_s=0.003,
    latency=DiskLatency(sync_s_min=2e-3, sync_s_max=30e-3),
)
_POWER_OF_THREE = run_of(
    parallel_persist=True,
    units_per_chain=3,
    fault_gap_s=0.12,
    kinds=("power_cut",),
    append_gap_s=0.005,
    latency=DiskLatency(sync_s_min=2e-3, sync_s_max=30e-3),
)

BUGS = (
    Bug(
        name="tentative-entry-read",
        hazards="H33, H39",
        broken="A read shows an entry that is not known to be durable above.",
        edits=(
            edit(
                Reads,
                "_choose",
                (
                    "State.DATA if offset in tentative else state_of(offset)",
                    "State.DATA if planted.when(offset in store.tentative) else state_of(offset)",
                ),
            ),
            edit(
                Reads,
                "_entry",
                (
                    "if offset in tentative and offset in store.tentative:",
                    "if offset in store.tentative:",
                ),
            ),
        ),
        options=_POWER,
    ),
    Bug(
        name="notice-before-own-fsync",
        hazards="H39",
        broken="A unit passes a notice on, or answers, before its own fsync has finished.",
        edits=(
            edit(
                Notices,
                "_pass_on",
                (
                    "self._owed.setdefault(entry.commit, [])",
                    "self._owed.setdefault(planted(-1), [])",
                ),
            ),
        ),
        options=_POWER_OF_THREE,
    ),
    Bug(
        name="flag-of-the-sender-alone",
        hazards="H39, H36",
        broken="A unit calls an entry durable above that is durable at itself.",
        edits=(
            edit(
                Writes,
                "_take_tentative",
                (
                    "digest = entry_digest(message.entry)",
                    "if planted.when(seat.next is not None):\n"
                    "        self._notices.owe(message, seat)\n"
                    "    digest = entry_digest(message.entry)",
                ),
            ),
        ),
        options=_POWER_OF_THREE,
    ),
    Bug(
        name="tentative-taken-for-held-at-restart",
        hazards="H55",
        broken="A restart takes an entry for held that was tentative.",
        edits=(
            edit(
                _Replay,
                "_take_data",
                (
                    "tentative = bool(header.flags & FLAG_TENTATIVE)",
                    "tentative = not planted.when(bool(header.flags & FLAG_TENTATIVE)) and False",
                ),
            ),
        ),
        options=_POWER,
    ),
    Bug(
        name="tentative-not-told-to-the-leader",
        hazards="H36",
        broken="A restarted unit tells the leader nothing of entries that it had confirmed.",
        edits=(
            edit(
                Store,
                "blocks",
                (
                    "self.suspicion.named.keys() | self.tentative.entries.keys()",
                    "self.suspicion.named.keys() | planted(set())",
                ),
            ),
        ),
        options=_POWER_OF_THREE,
    ),
)
