"""Planted bugs in chains: who decides, what a fill means, what is shown when."""

from __future__ import annotations

from corfu.client import settle
from corfu.client.chain_reader import ChainReader
from corfu.storage_units import fill_plan, writes
from corfu.storage_units.fills import Fills
from corfu.storage_units.reads import Reads
from corfu.storage_units.writes import Writes
from corfu.tools.sim.disk_worker import DiskLatency
from corfu.tools.sim.network import NetworkSettings

from .bug import LOSSY, NEVER_S, Bug, run_of
from .planting import edit

_QUIET = run_of(fault_gap_s=NEVER_S, network=LOSSY, seconds=1.5)
"""Nothing fails but the network."""

_POWER_ALONE = run_of(
    units_per_chain=1, fault_gap_s=0.15, kinds=("power_cut", "power_cut_all"), append_gap_s=0.005
)
_POWER = run_of(
    fault_gap_s=0.15,
    kinds=("power_cut", "power_cut_all"),
    append_gap_s=0.005,
    latency=DiskLatency(sync_s_min=2e-3, sync_s_max=30e-3),
)
_ABSENT = run_of(kinds=("long_absence", "cut_between_units"), fault_gap_s=0.3, network=LOSSY)

BUGS = (
    Bug(
        name="fill-starts-mid-chain",
        hazards="H34, H36",
        broken="Clients fill at the tail unit, which decides for itself.",
        edits=(
            edit(
                settle,
                "ask_fill",
                (
                    "endpoint.ask(chain[0].address, message, budget_s)",
                    "endpoint.ask(planted(chain[-1]).address, message, budget_s)",
                ),
            ),
            edit(
                Fills,
                "_seat",
                ("return seat if seat.previous is None else Reason.WRONG_UNIT", "return seat"),
            ),
        ),
        options=_QUIET,
    ),
    Bug(
        name="range-fill-decided-at-each-unit",
        hazards="H34, H36",
        broken="A unit after the head makes junk of what it lacks, whatever the head holds.",
        edits=(
            edit(
                fill_plan,
                "work_of_list",
                (
                    "work.empty = empty.ranges()",
                    "planted.when(bool(work.lacking))\n"
                    "    lacking = [Range(h.offset, Offset(h.offset + 1)) for h in work.lacking]\n"
                    "    work.empty = tuple(sorted((*empty.ranges(), *lacking)))\n"
                    "    work.lacking = []",
                ),
            ),
        ),
        options=_QUIET,
    ),
    Bug(
        name="junk-over-data",
        hazards="H35, H46",
        broken="A fill makes junk of an entry that the head holds.",
        edits=(
            edit(
                fill_plan,
                "plan_at_head",
                (
                    "case State.EMPTY:",
                    "case State.DATA if planted():\n"
                    "                junk.add(offset)\n"
                    "                empty.add(offset)\n"
                    "            case State.EMPTY:",
                ),
            ),
        ),
        options=_QUIET,
    ),
    Bug(
        name="junk-over-what-waits-for-fsync",
        hazards="H24, H35",
        broken="For a fill a record that waits for its fsync counts as unwritten.",
        edits=(
            edit(
                fill_plan,
                "plan_at_head",
                (
                    "case State.EMPTY:",
                    "case State.DATA if planted.when(store.memory.pending(offset)):\n"
                    "                junk.add(offset)\n"
                    "                empty.add(offset)\n"
                    "            case State.EMPTY:",
                ),
            ),
        ),
        options=run_of(
            fault_gap_s=0.15,
            append_gap_s=0.005,
            appenders=4,
            clients=3,
            kinds=("leader_blink", "kill"),
            network=NetworkSettings(loss=0.1, delay_s_max=10e-3),
        ),
    ),
    Bug(
        name="data-over-junk",
        hazards="H35, H46",
        broken="A head stores an entry where it holds junk.",
        edits=(
            edit(
                Writes,
                "_write_at",
                (
                    "match store.state_at_head(offset):",
                    "held = store.state_at_head(offset)\n"
                    "    if planted.when(held is State.JUNK):\n"
                    "        held = State.EMPTY\n"
                    "    match held:",
                ),
            ),
        ),
        options=run_of(
            fault_gap_s=NEVER_S,
            network=NetworkSettings(
                loss=0.2,
                delay_s_max=0.1,
                long_delay=0.1,
                long_delay_s_min=0.2,
                long_delay_s_max=1.0,
            ),
        ),
    ),
    Bug(
        name="already-written-without-identity",
        hazards="H37",
        broken="A writer takes its own entry, sent again, for another one's.",
        edits=(
            edit(
                Writes,
                "_write_at",
                (
                    "if name.entry_id != message.entry_id:",
                    "if name.entry_id != message.entry_id or planted():",
                ),
            ),
            edit(
                settle,
                "judge_write",
                (
                    "(state is State.DATA and entry_id != entry.id)",
                    "state is State.DATA",
                ),
            ),
        ),
        options=_QUIET,
    ),
    Bug(
        name="read-before-fsync",
        hazards="H39",
        broken="A read shows a record that waits for its fsync.",
        edits=(
            edit(
                Reads,
                "_replies",
                (
                    "ordered = not found.durable",
                    "planted.when(not found.durable)\n    ordered = False",
                ),
            ),
        ),
        options=_POWER_ALONE,
    ),
    Bug(
        name="written-before-fsync",
        hazards="H39",
        broken="The tail unit says Written before its own fsync.",
        edits=(
            edit(
                writes,
                "_pass_on",
                (
                    "return [Send(client, Written(request, epoch, offset, entry_id))]",
                    "return [Send(client, Written(request, epoch, offset, entry_id),"
                    " ordered=planted(False))]",
                ),
            ),
        ),
        options=_POWER_ALONE,
    ),
    Bug(
        name="forward-before-fsync",
        hazards="H39, H36",
        broken="A unit passes an entry on before it holds it durably.",
        edits=(
            edit(
                writes,
                "_pass_on",
                (
                    "return [Send(seat.next, forward)]",
                    "return [Send(seat.next, forward, ordered=planted(False))]",
                ),
            ),
        ),
        options=_POWER,
    ),
    Bug(
        name="value-read-at-the-head",
        hazards="H33",
        broken="Readers ask the head, and it answers with what only it may hold.",
        edits=(
            edit(
                ChainReader,
                "read",
                (
                    "reply = await self._ask(span.tail_unit.address, message, wait_s)",
                    "reply = await self._ask(span.head.address, message, wait_s)",
                ),
            ),
            edit(ChainReader, "_read_parts", ("unit = span.tail_unit", "unit = span.head")),
            edit(
                Reads,
                "read",
                ("if seat.next is not None:", "if seat.next is not None and not planted():"),
            ),
        ),
        options=_ABSENT,
    ),
    Bug(
        name="fill-answered-before-copying",
        hazards="H36",
        broken="A later unit answers a fill though it lacks the values that the list names.",
        edits=(
            edit(
                Fills,
                "_apply",
                ("if work.lacking:", "if work.lacking and not planted():"),
            ),
        ),
        options=_ABSENT,
    ),
)
