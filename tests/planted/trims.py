"""Planted bugs in closing, trimming and rebuilding."""

from __future__ import annotations

from corfu.sequencer.closing import Closer
from corfu.sequencer.rebuild import Rebuilder
from corfu.sequencer.trimming import Trimming
from corfu.storage_units.control import Control
from corfu.storage_units.identity import UnitIdentity
from corfu.storage_units.rebuild import Rebuilds
from corfu.tools.sim.network import NetworkSettings

from .bug import LOSSY, Bug, run_of
from .planting import edit

REBUILDS = run_of(
    spares=1,
    kinds=("long_absence", "wipe", "cut_between_units"),
    fault_gap_s=0.5,
    seconds=4.0,
    network=LOSSY,
)
_TRIMS = run_of(
    spares=1,
    trim_clients=1.0,
    trim_share=0.9,
    kinds=("long_absence", "wipe"),
    fault_gap_s=0.5,
    seconds=4.0,
)
_NO_MARK = (
    "store.raise_marks(message.trim_mark, message.closed_until)",
    "store.raise_marks(planted(Offset(0)), message.closed_until)",
)

BUGS = (
    Bug(
        name="closed-before-decided",
        hazards="H49, H41",
        broken="closed_until moves on though nobody has settled the offsets below.",
        edits=(
            edit(
                Closer,
                "_close",
                (
                    "await asyncio.gather(*fills)",
                    "planted()\n    for fill in fills:\n        fill.close()",
                ),
            ),
        ),
        options=run_of(kinds=("kill", "leader_blink"), network=LOSSY),
    ),
    Bug(
        name="trim-mark-lost-on-rebuild",
        hazards="H47",
        broken="Only TrimTo raises a unit's mark: one that comes later never hears of it.",
        edits=(
            edit(Control, "seal", _NO_MARK),
            edit(Control, "install", _NO_MARK),
            edit(Control, "probe", _NO_MARK),
            edit(Rebuilds, "rebuild", _NO_MARK),
        ),
        options=_TRIMS,
    ),
    Bug(
        name="trim-answered-early",
        hazards="H46",
        broken="trim() returns before any unit has the mark.",
        edits=(
            edit(
                Trimming,
                "run",
                (
                    "while lacking := "
                    "[u for u in context.state.active.units if u not in self._after]:",
                    "while lacking := planted([]):",
                ),
            ),
        ),
        options=run_of(
            trim_clients=1.0,
            trim_share=0.9,
            kinds=("pause",),
            clients=3,
            read_gap_s=0.005,
            network=NetworkSettings(loss=0.2, delay_s_max=20e-3),
        ),
    ),
    Bug(
        name="rebuilt-without-copying",
        hazards="H51",
        broken="A rebuild is recorded as done, and nothing was copied.",
        edits=(
            edit(
                Rebuilder,
                "_copy",
                ("copied = await self._piece(goal, at, until)", "copied = planted(0)"),
            ),
        ),
        options=REBUILDS,
    ),
    Bug(
        name="returned-with-what-lost",
        hazards="H52",
        broken="All that a unit held before it left counts, and is compared with nobody.",
        edits=(
            edit(
                UnitIdentity,
                "reborn",
                (
                    "EarlierIncarnation(self.incarnation, bound)",
                    "EarlierIncarnation(self.incarnation, Offset(2**62))",
                ),
            ),
            edit(
                Rebuilds,
                "_take",
                (
                    "name[:2] != (item.entry_id, item.digest):",
                    "(name[:2] != (item.entry_id, item.digest) and not planted()):",
                ),
                (
                    "if state is not State.JUNK:",
                    "if state is not State.JUNK and not planted.when(state is State.DATA):",
                ),
            ),
        ),
        options=run_of(
            kinds=("long_absence", "cut_between_units"),
            fault_gap_s=0.3,
            seconds=3.0,
            append_gap_s=0.005,
            network=LOSSY,
        ),
    ),
)
