"""What looks like a bug and is none, as another rule makes it harmless: docs/evidence.md says why.

No run may fail with one of these planted. If one does, it belongs among the bugs.
"""

from __future__ import annotations

from corfu.sequencer import answers
from corfu.sequencer.tokens import TokenDesk
from corfu.tools.sim.disk_worker import DiskLatency
from corfu.tools.sim.network import NetworkSettings

from .bug import Bug, run_of
from .planting import edit

_DEPOSED = run_of(
    chains=2,
    units_per_chain=1,
    clients=3,
    fault_gap_s=0.15,
    seconds=3.0,
    append_gap_s=0.01,
    kinds=("pause", "partition", "partition", "isolate"),
    network=NetworkSettings(duplicate=0.2, delay_s_max=5e-3),
)

_SLOW_EPOCHS = run_of(
    clients=3,
    fault_gap_s=0.2,
    append_gap_s=0.01,
    kinds=("kill", "leader_blink"),
    latency=DiskLatency(sync_s_min=20e-3, sync_s_max=80e-3),
)
"""Intents are long pending, and clients ask for layouts meanwhile."""

HARMLESS = (
    Bug(
        name="intent-shown-to-clients",
        hazards="H29",
        broken="Layout requests are answered with a layout that is not active yet.",
        edits=(
            edit(
                answers,
                "layout_is",
                (
                    "layout = state.activated",
                    "layout = state.activated\n"
                    "    if planted.when(state.intent is not None):\n"
                    "        layout = state.intent.layout",
                ),
            ),
        ),
        options=_SLOW_EPOCHS,
    ),
    Bug(
        name="granted-twice-for-one-request",
        hazards="H15",
        broken="A token request that comes again gets a second grant.",
        edits=(
            edit(
                TokenDesk,
                "ask",
                ("if known is not None:", "if known is not None and not planted():"),
                ("if sequence < client.floor:", "if sequence < client.floor and not planted():"),
            ),
        ),
        options=_DEPOSED,
    ),
)
