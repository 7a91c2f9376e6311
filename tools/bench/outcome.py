"""What a benchmark of a cluster came to, as a JSON document and as text. Pure but for printing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from .figures import Figures, figures_json
from .report import count_text, figures_table
from .usage import RoleUse

SHOWN_COUNTERS = ("retransmits", "probes", "deferred", "expired", "unusable", "kernel_drops")
"""What the links of the clients counted that tells of trouble."""


ALL = "all"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The result of one command.

    Attributes:
        command: Its name.
        settings: What was asked for, by the options' names.
        target: What was measured.
        machine: Where.
        figures: One for each kind of work; what is told for a record, is for one of the first.
        uses: What the processes of each role used in the span.
        counters: What the links of all clients counted in the span.
        ratios: More figures, each with its name.
        interrupted: The span was ended early.
    """

    command: str
    settings: Mapping[str, object]
    target: Mapping[str, object]
    machine: Mapping[str, object]
    figures: tuple[Figures, ...]
    uses: tuple[RoleUse, ...] = ()
    counters: Mapping[str, int] | None = None
    ratios: Mapping[str, float] | None = None
    interrupted: bool = False

    @property
    def errors(self) -> dict[str, int]:
        """What failed, by its text."""
        found: dict[str, int] = {}
        for each in self.figures:
            for text, times in each.errors.items():
                found[text] = found.get(text, 0) + times
        return found

    def as_json(self) -> dict[str, object]:
        """Return what `-o json` prints."""
        return {
            "command": self.command,
            "settings": dict(self.settings),
            "target": dict(self.target),
            "machine": dict(self.machine),
            "interrupted": self.interrupted,
            "results": [figures_json(each) for each in self.figures],
            "cpu": [_use_json(use, self.figures[0]) for use in self.uses],
            "cpu_all": _use_json(all_of(self.uses), self.figures[0]) if self.uses else None,
            "counters": None if self.counters is None else dict(self.counters),
            "ratios": dict(self.ratios or {}),
        }

    def show(self, console: Console) -> None:
        """Print it for a person."""
        for facts in (self.settings, self.target, self.machine):
            told = ", ".join(f"{name} {value}" for name, value in facts.items() if value != {})
            console.print(told, soft_wrap=True, markup=False)
        if self.interrupted:
            console.print(f"interrupted after {self.figures[0].seconds:.1f} s")
        console.print(figures_table(self.figures))
        if self.uses:
            console.print(_uses_table(self.uses, self.figures[0]))
        if self.counters is not None:
            links = _counters_text(self.counters, self.figures[0])
            console.print(f"links of the clients: {links}", soft_wrap=True)
        for name, value in (self.ratios or {}).items():
            console.print(f"{name}: {value:.2f}", markup=False)
        for text, times in self.errors.items():
            console.print(f"ERROR ({times:,} times): {text}", markup=False, soft_wrap=True)


def all_of(uses: Sequence[RoleUse]) -> RoleUse:
    """Return what all roles used together."""
    drops = [use.drops for use in uses if use.drops is not None]
    return RoleUse(
        ALL,
        sum(use.processes for use in uses),
        sum(use.cpu_s for use in uses),
        sum(drops) if drops else None,
    )


def _use_json(use: RoleUse, figures: Figures) -> dict[str, object]:
    return {
        "role": use.role,
        "processes": use.processes,
        "seconds": round(use.cpu_s, 3),
        "us_per_record": _us_per_record(use, figures),
        "cores": _cores(use, figures),
        "kernel_drops": use.drops,
    }


def _us_per_record(use: RoleUse, figures: Figures) -> float | None:
    return round(use.cpu_s * 1e6 / figures.records, 3) if figures.records else None


def _cores(use: RoleUse, figures: Figures) -> float:
    return round(use.cpu_s / figures.seconds, 3) if figures.seconds else 0.0


def _uses_table(uses: Sequence[RoleUse], figures: Figures) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("CPU")
    for heading in ("processes", "us/record", "cores", "kernel drops"):
        table.add_column(heading, justify="right")
    for use in (*uses, *([all_of(uses)] if len(uses) > 1 else [])):
        cost = _us_per_record(use, figures)
        table.add_row(
            use.role,
            str(use.processes),
            "-" if cost is None else count_text(cost),
            f"{_cores(use, figures):.2f}",
            "-" if use.drops is None else f"{use.drops:,}",
        )
    return table


def _counters_text(counters: Mapping[str, int], figures: Figures) -> str:
    told = [f"{counters[name]:,} {_noun(name)}" for name in SHOWN_COUNTERS if name in counters]
    if figures.records:
        for name, noun in (("datagrams_out", "sent"), ("datagrams_in", "received")):
            told.append(f"{counters.get(name, 0) / figures.records:.3f} datagrams {noun} a record")
    return ", ".join(told)


def _noun(name: str) -> str:
    return name.replace("_", " ")
