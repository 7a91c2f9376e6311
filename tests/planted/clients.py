"""Planted bugs in clients: what settles an offset, when a token may be used, what EMPTY means."""

from __future__ import annotations

from corfu.client import settle
from corfu.client.append import Appender
from corfu.client.read import Reader
from corfu.client.settle import Writer
from corfu.client.tokens import TokenDesk
from corfu.tools.sim.network import NetworkSettings

from .bug import LOSSY, NEVER_S, Bug, run_of
from .planting import edit

_SLOW = run_of(
    clients=3,
    fault_gap_s=NEVER_S,
    network=NetworkSettings(delay_s_max=20e-3),
    ordered_share=1.0,
    append_gap_s=0.005,
)
"""Messages overtake each other, and what begins is long under way."""

BUGS = (
    Bug(
        name="blind-retry",
        hazards="H38",
        broken="After silence an entry is appended again, with the first offset unsettled.",
        edits=(
            edit(
                Writer,
                "_attempt",
                ("fate = await self._settle(entry, token)", "fate = planted(Fate.OTHER)"),
            ),
        ),
        options=run_of(kinds=("kill", "pause"), network=LOSSY),
    ),
    Bug(
        name="wrong-epoch-taken-for-an-answer",
        hazards="H38",
        broken="WrongEpoch counts as: the entry is not there, and never will be.",
        edits=(
            edit(
                settle,
                "judge_write",
                (
                    "case _:",
                    "case WrongEpoch():\n            return planted(Fate.OTHER)\n        case _:",
                ),
            ),
        ),
        options=run_of(kinds=("kill",), fault_gap_s=0.15, append_gap_s=0.005, network=LOSSY),
    ),
    Bug(
        name="no-space-taken-for-an-answer",
        hazards="H38, H61",
        broken="NoSpace and Busy count as: the entry is not there, and never will be.",
        edits=(
            edit(
                settle,
                "judge_write",
                (
                    "case _:",
                    "case Refused(reason=Reason.NO_SPACE | Reason.BUSY):\n"
                    "            return planted(Fate.OTHER)\n"
                    "        case _:",
                ),
            ),
        ),
        options=run_of(
            kinds=("disk_full",),
            fault_gap_s=0.2,
            append_gap_s=0.005,
            appenders=4,
            record_bytes_max=4000,
            entry_bytes_target=16_000,
            unit_journal_bytes=64 << 10,
            network=NetworkSettings(loss=0.1, delay_s_max=2e-3),
            seconds=3.0,
        ),
    ),
    Bug(
        name="packed-into-a-counted-entry",
        hazards="H18",
        broken="Records join an entry after its token was asked for.",
        edits=(
            edit(
                Appender,
                "__init__",
                (
                    "self._writer = Writer(cluster, self._desk)",
                    "self._writer = Writer(cluster, self._desk)\n\n"
                    "    def late(entry):\n"
                    "        calls = self._queue.take(self._settings.entry_bytes_target)\n"
                    "        if planted.when(bool(calls)):\n"
                    "            entry.calls += calls\n"
                    "            for call in calls:\n"
                    "                call.entry = entry\n"
                    "            entry._form(new_entry_id(), wall_us(), cluster.codec.encode)\n\n"
                    "    self._writer.late = late",
                ),
            ),
            edit(
                Writer,
                "append",
                (
                    "fate = await self._attempt(entry, granted)",
                    "self.late(entry)\n        fate = await self._attempt(entry, granted)",
                ),
            ),
        ),
        options=_SLOW,
    ),
    Bug(
        name="tokens-kept-for-later",
        hazards="H18",
        broken="A client asks for more tokens than it has entries, and keeps them.",
        edits=(
            edit(
                TokenDesk,
                "take",
                (
                    "future: asyncio.Future[Granted | None] =",
                    "stock = self.__dict__.setdefault('stock', [])\n"
                    "    while stock and stock[-1].token.epoch != self._cluster.layout.epoch:\n"
                    "        self.give_back(stock.pop())\n"
                    "    if stock:\n"
                    "        return planted(stock.pop())\n"
                    "    future: asyncio.Future[Granted | None] =",
                ),
            ),
            edit(
                TokenDesk,
                "_ask",
                ("layout, len(entries))", "layout, len(entries) + 1)"),
                ("reply.count == len(entries)", "reply.count == len(entries) + 1"),
            ),
            edit(
                TokenDesk,
                "_get",
                (
                    "self.give_back(granted)",
                    "self.__dict__.setdefault('stock', []).append(granted)",
                ),
            ),
        ),
        options=_SLOW,
    ),
    Bug(
        name="not-appended-though-unsettled",
        hazards="H38",
        broken="A call whose time is over is told that its records are certainly not in the log.",
        edits=(
            edit(
                Appender,
                "_verdict",
                ("if entry.unsettled is None:", "if entry.unsettled is None or planted():"),
            ),
        ),
        options=run_of(kinds=("pause", "kill"), network=LOSSY),
    ),
    Bug(
        name="cached-tail-taken-for-the-tail",
        hazards="H27",
        broken="A read above the last tail that the client saw is called unwritten.",
        edits=(
            edit(
                Reader,
                "_try_offset",
                (
                    "tail = await self._cluster.confirmed_tail(deadline)",
                    "raise planted(UnwrittenError(offset))",
                ),
                ("if offset >= tail.tail:", "if offset:"),
            ),
        ),
        options=run_of(clients=3, fault_gap_s=NEVER_S, read_gap_s=0.005, network=LOSSY),
    ),
    Bug(
        name="read-above-the-tail-fills",
        hazards="H40",
        broken="A read at or above the tail makes a hole of the future.",
        edits=(
            edit(
                Reader,
                "_try_offset",
                (
                    "if offset >= tail.tail:",
                    "if planted.when(offset >= tail.tail) and offset < tail.tail:",
                ),
            ),
        ),
        options=run_of(clients=3, fault_gap_s=NEVER_S, read_gap_s=0.005, append_gap_s=0.2),
    ),
    Bug(
        name="order-not-kept",
        hazards="H18",
        broken="An ordered client has several entries without verdict at a time.",
        edits=(
            edit(
                Appender,
                "_has_room",
                ("if settings.ordered:", "if settings.ordered and not planted():"),
            ),
        ),
        options=run_of(
            ordered_share=1.0,
            kinds=("kill", "pause"),
            append_gap_s=0.003,
            appenders=4,
            network=LOSSY,
        ),
    ),
)
