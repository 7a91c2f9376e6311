"""Planted bugs in epochs: windows, T, seals, activation, and who is fenced."""

from __future__ import annotations

from dataclasses import replace

from corfu.sequencer import machine, succession
from corfu.sequencer.epochs import EpochMaker
from corfu.sequencer.replica import Replica
from corfu.sequencer.settings import SequencerSettings
from corfu.sequencer.tokens import TokenDesk
from corfu.storage_units.context import Context
from corfu.storage_units.control import Control
from corfu.storage_units.recovery import _Replay
from corfu.storage_units.settings import UnitSettings
from corfu.storage_units.standing import Standing
from corfu.storage_units.writes import Writes
from corfu.tools.sim.disk_worker import DiskLatency
from corfu.tools.sim.network import NetworkSettings

from .bug import LOSSY, Bug, run_of
from .planting import edit

_DEPOSED = run_of(
    chains=2,
    units_per_chain=1,
    clients=3,
    fault_gap_s=0.15,
    seconds=3.0,
    append_gap_s=0.01,
    kinds=("pause", "partition", "partition", "isolate"),
    network=NetworkSettings(delay_s_max=5e-3),
)
"""Leaders that are cut off, and do not know yet that they are deposed."""

_STALE_CLIENTS = run_of(
    units_per_chain=1,
    clients=6,
    appenders=1,
    append_gap_s=0.1,
    fault_gap_s=1.0,
    seconds=5.0,
    kinds=("stale_side",),
    network=NetworkSettings(delay_s_max=5e-3),
)
"""Clients that hear late of a new epoch, as they seldom append, and still reach the old leader."""

STALE_WRITERS = run_of(
    chains=2,
    units_per_chain=1,
    clients=4,
    appenders=2,
    append_gap_s=0.02,
    read_gap_s=0.1,
    fault_gap_s=1.0,
    seconds=5.0,
    window_offsets_min=256,
    kinds=("stale_side",),
    network=NetworkSettings(loss=0.3),
)
"""The same, and they write; what seals and closes is lost now and then."""

_RESTARTS = run_of(
    fault_gap_s=0.1,
    kinds=("kill", "late", "leader_blink"),
    network=NetworkSettings(loss=0.02, duplicate=0.2, delay_s_max=5e-3, long_delay=0.05,
                            long_delay_s_min=0.05, long_delay_s_max=1.0),
)  # fmt: skip

BELOW_T = "if offset < standing.layout.first_offset:"
BELOW_T_NOW = (
    "if offset < standing.layout.first_offset and message.epoch == context.standing.sealed:"
)

BUGS = (
    Bug(
        name="reserved-while-an-intent-is-pending",
        hazards="H5, H17",
        broken="Offsets are reserved, and granted, after T of the coming epoch was taken.",
        edits=(
            edit(
                machine,
                "_reserve",
                ("if state.intent is not None:", "if state.intent is not None and not planted():"),
            ),
        ),
        options=run_of(
            replicas=1,
            chains=3,
            units_per_chain=1,
            clients=3,
            appenders=12,
            append_gap_s=0.01,
            read_gap_s=0.05,
            fault_gap_s=0.5,
            seconds=3.0,
            window_offsets_min=4,
            network=NetworkSettings(loss=0.3),
            latency=DiskLatency(sync_s_min=5e-3, sync_s_max=30e-3),
        ),
    ),
    Bug(
        name="t-below-what-was-granted",
        hazards="H17",
        broken="A new epoch begins at closed_until, not at the end of what was reserved.",
        edits=(
            edit(
                succession,
                "successor",
                (
                    "first = state.reserved_until",
                    "first = planted(max(state.closed_until, state.active.first_offset))",
                ),
            ),
        ),
        options=_DEPOSED,
    ),
    Bug(
        name="window-used-before-it-is-chosen",
        hazards="H18, H5",
        broken="The leader grants from a window that it has only proposed.",
        edits=(
            edit(
                TokenDesk,
                "reserve",
                (
                    "return Offset(max(self.window_end, "
                    "min(wanted, self.window_end + WINDOW_OFFSETS_MAX)))",
                    "self.window_end = planted(Offset(max(self.window_end, wanted)))\n"
                    "    return self.window_end",
                ),
            ),
        ),
        options=run_of(
            window_offsets_min=4,
            append_gap_s=0.005,
            appenders=4,
            fault_gap_s=0.15,
            kinds=("leader_blink", "isolate", "partition"),
            network=NetworkSettings(delay_s_max=5e-3),
        ),
    ),
    Bug(
        name="tail-from-memory",
        hazards="H12, H14",
        broken="tail() is answered with no round that confirms the leader.",
        edits=(
            edit(
                Replica,
                "_on_get_tail",
                ("elif not message.linearizable:", "elif not message.linearizable or planted():"),
            ),
        ),
        options=_STALE_CLIENTS,
    ),
    Bug(
        name="installed-before-it-is-active",
        hazards="H29",
        broken="Units get the layout of an intent, and may serve it, before it is active.",
        edits=(
            edit(
                EpochMaker,
                "_activate",
                (
                    "first = layout.first_offset",
                    "for unit in layout.units:\n"
                    "        await install(context, unit, planted(layout))\n"
                    "    first = layout.first_offset",
                ),
            ),
        ),
        options=_DEPOSED,
    ),
    Bug(
        name="only-one-unit-sealed",
        hazards="H22",
        broken="The leader seals one unit of the new layout, and activates.",
        edits=(
            edit(
                EpochMaker,
                "_seal",
                (
                    "units = layout.chain_units(self._context.state.closed_until)",
                    "units = planted(layout.chain_units(self._context.state.closed_until)[:1])",
                ),
            ),
        ),
        options=run_of(kinds=("leader_blink",)),
    ),
    Bug(
        name="seal-forgotten-on-restart",
        hazards="H23",
        broken="A restarted unit does not know what it was sealed for last.",
        edits=(
            edit(
                _Replay,
                "_take_small",
                (
                    "if header.kind == RecordKind.SEAL and header.epoch > standing.sealed:",
                    "if header.kind == RecordKind.SEAL and not planted():",
                ),
            ),
        ),
        options=_RESTARTS,
    ),
    Bug(
        name="sealed-before-fsync",
        hazards="H23, H24",
        broken="Sealed leaves before the seal, and what was admitted before it, is durable.",
        edits=(
            edit(
                Control,
                "seal",
                (
                    "return [*effects, Send(sender, sealed)]",
                    "return [*effects, Send(sender, sealed, ordered=planted(False))]",
                ),
            ),
        ),
        options=run_of(
            units_per_chain=1,
            fault_gap_s=0.1,
            kinds=("power_cut", "power_cut_all", "kill_then_power_cut", "leader_blink"),
            latency=DiskLatency(sync_s_min=20e-3, sync_s_max=80e-3),
        ),
    ),
    Bug(
        name="late-forward-obeyed",
        hazards="H25, H31",
        broken="A Forward of an older epoch is stored and goes on by the newer layout.",
        edits=(
            edit(
                Writes,
                "forward",
                (
                    "if refused is not None:",
                    "late = message.epoch < context.standing.sealed and context.standing.serving\n"
                    "    if refused is not None and not planted.when(late):",
                ),
                (
                    "seat.previous is None or seat.previous != sender:",
                    "not late and seat.previous != sender:",
                ),
                (BELOW_T, BELOW_T_NOW),
            ),
        ),
        options=run_of(
            fault_gap_s=0.8,
            seconds=6.0,
            append_gap_s=0.005,
            kinds=("long_absence",),
            network=NetworkSettings(
                delay_s_max=2e-3, long_delay=0.2, long_delay_s_min=1.0, long_delay_s_max=6.0
            ),
        ),
    ),
    Bug(
        name="served-at-restart",
        hazards="H23, H25",
        broken="A restarted unit goes on in the epoch that it was sealed for before.",
        edits=(
            edit(
                Standing,
                "serving",
                (
                    "and self.sealed > self.recovered_epoch",
                    "and (self.sealed > self.recovered_epoch or planted())",
                ),
            ),
        ),
        options=run_of(
            fault_gap_s=0.15,
            append_gap_s=0.005,
            kinds=("restore",),
            network=LOSSY,
            latency=DiskLatency(sync_s_min=2e-3, sync_s_max=30e-3),
        ),
    ),
    Bug(
        name="old-epoch-served",
        hazards="H12, H25",
        broken="Units take Writes of older epochs: a deposed leader's tokens are good.",
        edits=(
            edit(
                Context,
                "not_served",
                (
                    "if message.epoch == self.standing.sealed and self.standing.serving:",
                    "if self.standing.serving and (message.epoch == self.standing.sealed"
                    " or planted.when(message.epoch < self.standing.sealed)):",
                ),
            ),
            edit(Writes, "write", (BELOW_T, BELOW_T_NOW)),
            edit(Writes, "forward", (BELOW_T, BELOW_T_NOW)),
        ),
        options=replace(
            STALE_WRITERS,
            append_gap_s=0.005,
            appenders=3,
            entry_bytes_target=1,
            network=NetworkSettings(delay_s_max=20e-3, loss=0.1),
            # Many offsets are left of the old window, and it takes long to close them.
            sequencer=SequencerSettings(window_s=1.0),
            unit=UnitSettings(fill_offsets_max=3),
        ),
    ),
)
