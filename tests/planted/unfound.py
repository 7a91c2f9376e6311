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

from .bug import Bug
from .epochs import STALE_WRITERS
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
