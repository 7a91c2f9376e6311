"""One benchmark from its cluster to its outcome."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from corfu.tools.failure import CommandError, Status

from .assignment import Assignment
from .crew import Crew, Measured, Report
from .figures import Figures, together
from .machine import machine
from .outcome import Outcome
from .target import Target, look_at
from .usage import RoleUse, by_role

Clients = Sequence[tuple[str, Assignment]]
"""The role of each client process, and what it does."""

Say = Callable[[str], None]

PREPARE_S_MAX = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to measure.

    Attributes:
        command: Its name.
        settings: What was asked for, by the options' names.
        warmup_s: Work that is not counted, before.
        seconds: The span.
    """

    command: str
    settings: Mapping[str, object]
    warmup_s: float
    seconds: float


def plan_of(command: str, settings: Mapping[str, object]) -> Plan:
    """Return the plan of a command with `--warmup` and `--seconds` among its settings."""
    warmup_s, seconds = settings["warmup"], settings["seconds"]
    assert isinstance(warmup_s, float)
    assert isinstance(seconds, float)
    return Plan(command=command, settings=settings, warmup_s=warmup_s, seconds=seconds)


class Interrupts:
    """The first Ctrl-C ends the measuring early, the second one everything."""

    def __init__(self) -> None:
        self.stop = asyncio.Event()

    @contextlib.contextmanager
    def heard(self) -> Iterator[asyncio.Event]:
        """Hear Ctrl-C in here."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGINT, self._interrupt)
        try:
            yield self.stop
        finally:
            loop.remove_signal_handler(signal.SIGINT)

    def _interrupt(self) -> None:
        self.stop.set()
        asyncio.get_running_loop().remove_signal_handler(signal.SIGINT)


async def measure(plan: Plan, target: Target, clients: Clients, say: Say) -> Outcome:
    """Let clients work on a cluster for a while; one row for each kind of work.

    Raises:
        CommandError: A client failed, or no record was done without an error.
    """
    before = machine()
    say("starting clients")
    async with Crew(clients) as crew:
        servers = await look_at(target.cluster)
        interrupts = Interrupts()
        with interrupts.heard() as stop:
            measured = await crew.measure(
                plan.warmup_s, plan.seconds, servers.watched, stop, progress_of(plan, say)
            )
    return Outcome(
        command=plan.command,
        settings=plan.settings,
        target=servers.shape,
        machine=before,
        figures=rows_of(measured.reports),
        uses=(*client_uses(measured.reports), *by_role(measured.before, measured.after)),
        counters=counters_of(measured),
        interrupted=interrupts.stop.is_set(),
    )


async def prepare(target: Target, clients: Clients, say: Say) -> None:
    """Let clients do work that has an end and is not measured.

    Raises:
        CommandError: A client failed, or the work took longer than `PREPARE_S_MAX`.
    """
    say("starting clients")
    stop = asyncio.Event()

    def progress(passed: float, records: int) -> None:
        say(f"preparing: {records:,} records after {passed:.0f} s")

    async with Crew(clients) as crew:
        measured = await crew.measure(0.0, PREPARE_S_MAX, (), stop, progress)
    for report in measured.reports:
        if report.figures.errors:
            text = next(iter(report.figures.errors))
            raise CommandError(f"preparing {target.cluster}: {text}", Status.NO)
        if report.figures.records < report.assignment.limit:
            raise CommandError(
                f"preparing took longer than {PREPARE_S_MAX:.0f} s", Status.UNAVAILABLE
            )


def rows_of(reports: Sequence[Report]) -> tuple[Figures, ...]:
    """Return one row for each kind of work, in the order in which they come first."""
    kinds = dict.fromkeys(report.figures.what for report in reports)
    return tuple(
        together(kind, (each.figures for each in reports if each.figures.what == kind))
        for kind in kinds
    )


def client_uses(reports: Sequence[Report]) -> tuple[RoleUse, ...]:
    """Return what the client processes used, role by role."""
    rows: dict[str, RoleUse] = {}
    for report in reports:
        row = rows.get(report.role, RoleUse(report.role))
        rows[report.role] = row.plus(report.cpu_s, report.counters.get("kernel_drops"))
    return tuple(rows.values())


def progress_of(plan: Plan, say: Say) -> Callable[[float, int], None]:
    """Return what tells a person how far it is."""

    def progress(passed: float, records: int) -> None:
        if not passed:
            say(f"{plan.command}: warming up")
            return
        rate = records / passed
        say(f"{plan.command}: {passed:.0f} of {plan.seconds:g} s, {rate:,.0f} records/s")

    return progress


def counters_of(measured: Measured) -> dict[str, int]:
    """Return the sums of what the processes counted in the span."""
    total: dict[str, int] = {}
    for report in measured.reports:
        for name, value in report.counters.items():
            total[name] = total.get(name, 0) + value
    return total
