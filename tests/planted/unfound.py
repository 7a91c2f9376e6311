"""Planted bugs that nothing has found yet within 500 seeds or 60 s: gaps of the suite.

docs/evidence.md says what is known of each. One that is found belongs with the others:
`python -m tests.planted NAME` runs these, too, if they are named.
"""

from __future__ import annotations

from corfu.sequencer import machine, succession
from corfu.sequencer.acceptor import Acceptor
from corfu.sequencer.epochs import EpochMaker
from corfu.sequencer.leader import ServedEpoch
from corfu.sequencer.rebuild import Rebuilder
from corfu.storage_units.context import Context
from corfu.storage_units.standing import Standing
from corfu.storage_units.writes import Writes
from corfu.tools.sim.disk_worker import DiskLatency

from .bug import LOSSY, Bug, run_of
from .epochs import BELOW_T, BELOW_T_NOW, STALE_WRITERS
from .group_run import GroupRun
from .planting import edit
from .trims import REBUILDS

UNFOUND = (
    Bug(
        name="accepted-and-not-promised",
        hazards="H4",
        broken="Accepting at a ballot does not promise it.",
        edits=(edit(Acceptor, "accept", ("self.promised = ballot", "planted()")),),
        options=GroupRun(replicas=5, loss=0.4, kinds=("isolate", "cut", "cut"), fault_gap_s=0.1),
    ),
    Bug(
        name="active-before-it-is-sealed",
        hazards="H22",
        broken="An epoch is activated, and offsets are granted, with no unit sealed.",
        edits=(
            edit(
                EpochMaker,
                "_seal",
                (
                    "units = layout.chain_units(self._context.state.closed_until)",
                    "units = planted(())",
                ),
            ),
            edit(
                succession,
                "activate",
                ("if (unit.id, unit.incarnation) not in sealed:", "if False:"),
            ),
            edit(
                ServedEpoch,
                "run",
                ("await self._wait_for_installs(installs)", "await asyncio.sleep(0)"),
            ),
        ),
        options=STALE_WRITERS,
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
        options=STALE_WRITERS,
    ),
    Bug(
        name="rebuilt-above-closed-until",
        hazards="H49",
        broken="Offsets are copied, and their rebuild is recorded, while they can still change.",
        edits=(
            edit(
                Rebuilder,
                "_copy",
                (
                    "if context.state.closed_until < end:",
                    "if planted.when(context.state.closed_until < end) and False:",
                ),
            ),
            edit(
                machine,
                "_record_rebuilt",
                ("<= state.closed_until:", "<= state.reserved_until:"),
            ),
        ),
        options=REBUILDS,
    ),
)
