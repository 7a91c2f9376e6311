"""Planted bugs in what a unit keeps on disk, and in what it says of damage."""

from __future__ import annotations

from corfu.journal import format as journal_format
from corfu.journal.recovery import _Recovery
from corfu.storage_units.process import UnitProcess
from corfu.storage_units.recovery import _Replay
from corfu.storage_units.scrub import Scrubbing
from corfu.storage_units.store import Store

from .bug import Bug, run_of
from .planting import edit

_ROT = run_of(kinds=("rot",), fault_gap_s=0.3, settle_s=30.0, unit_cache_bytes=0)

BUGS = (
    Bug(
        name="acknowledged-from-the-page-cache",
        hazards="H39",
        broken="Units write and reply, and never sync.",
        edits=(
            edit(
                UnitProcess,
                "start",
                ("synced = identity.sync is SyncMode.ALWAYS", "synced = planted(False)"),
            ),
        ),
        options=run_of(kinds=("power_cut_all", "power_cut"), fault_gap_s=0.4),
    ),
    Bug(
        name="restart-trusts-the-page-cache",
        hazards="H55",
        broken="What a restart reads stays in the old file, which is not synced again.",
        edits=(
            edit(
                _Recovery,
                "run",
                ("LiveFile(pieces[-1].start, base.seed", "LiveFile(None, base.seed"),
            ),
            edit(_Recovery, "_keep", ("if not header.opening:", "if planted(False):")),
        ),
        options=run_of(
            replicas=1,
            units_per_chain=1,
            kinds=("failed_sync", "power_cut", "power_cut_all"),
            fault_gap_s=0.3,
            seconds=4.0,
            append_gap_s=0.005,
        ),
    ),
    Bug(
        name="damage-called-unwritten",
        hazards="H59",
        broken="A damaged record is answered as EMPTY, so that a reader fills it with junk.",
        edits=(
            edit(
                Store,
                "state",
                (
                    "return _STATES[cell & STATE_MASK]",
                    "damaged = planted.when(cell & STATE_MASK == State.DAMAGED)\n"
                    "        return State.EMPTY if damaged else _STATES[cell & STATE_MASK]",
                ),
            ),
            edit(
                Store,
                "state_at_head",
                (
                    "if state is State.EMPTY and self.suspicion.may_be_at(offset):",
                    "if state is not State.EMPTY and self.suspicion.may_be_at(offset):",
                ),
            ),
        ),
        options=run_of(
            kinds=("rot",),
            fault_gap_s=0.2,
            settle_s=30.0,
            unit_cache_bytes=0,
            append_gap_s=0.2,
            read_gap_s=0.003,
            clients=3,
            seconds=3.0,
        ),
    ),
    Bug(
        name="damage-dropped-at-restart",
        hazards="H59, H11",
        broken="A restart forgets a damaged record: the offset is unwritten then.",
        edits=(
            edit(
                _Replay,
                "_take_damage",
                ("assert serial is not None", "return planted(None)"),
            ),
        ),
        options=run_of(kinds=("rot",), fault_gap_s=0.2, settle_s=30.0, append_gap_s=0.01),
    ),
    Bug(
        name="digest-not-checked",
        hazards="H58",
        broken="An entry that was read from disk is served though its digest fails.",
        edits=(
            edit(
                journal_format,
                "body_of",
                (
                    "if len(body) < header.body_bytes "
                    "or xxh3_64_intdigest(body) != header.body_digest:",
                    "if planted.when(xxh3_64_intdigest(body) != header.body_digest):\n"
                    "        return body\n"
                    "    if len(body) < header.body_bytes:",
                ),
            ),
        ),
        options=_ROT,
    ),
    Bug(
        name="scrub-reads-nothing",
        hazards="H58",
        broken="A scrub ends at once, and rot stays until somebody happens to read it.",
        edits=(
            edit(Scrubbing, "_step", ("while self._blocks:", "while self._blocks and planted(0):")),
        ),
        options=_ROT,
    ),
)
