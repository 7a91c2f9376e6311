"""What a comparison found: ratios with their spread, as tables and as JSON. Pure but for rich."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.table import Table

from corfu.tools.tables import counted, plain_table

from .compare import Findings, Plan, Trial
from .figures import latency_json
from .peers.base import Work
from .peers.contenders import CONTENDERS, OURS
from .report import count_text, duration_text

HEADINGS = {
    "producer": "one producer process, many records outstanding",
    "serial": "one append at a time",
    "read": "one reader, from the beginning to the end and again",
}


@dataclass(frozen=True, slots=True)
class Spread:
    """Least, middle and greatest of what the rounds gave."""

    least: float
    median: float
    most: float

    def text(self, digits: int = 2) -> str:
        """Return all three, the middle one first."""
        return f"{self.median:.{digits}f} ({self.least:.{digits}f} to {self.most:.{digits}f})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratio:
    """How one of ours compares with a peer: each round's own figures, ours by the peer's.

    `what` is "records/s", where more is better, or "p50", where less is.
    """

    work: Work
    size: int
    ours: str
    peer: str
    what: str
    rounds: int
    spread: Spread


def spread(values: Sequence[float]) -> Spread:
    """Return the spread of at least one value."""
    return Spread(min(values), statistics.median(values), max(values))


def trials_of(trials: Sequence[Trial], work: Work, size: int) -> dict[str, dict[int, Trial]]:
    """Return the trials of a work and size, by contender and round."""
    found: dict[str, dict[int, Trial]] = {}
    for trial in trials:
        if (trial.work, trial.size) == (work, size):
            found.setdefault(trial.contender, {})[trial.round] = trial
    return found


def ratios(plan: Plan, trials: Sequence[Trial]) -> list[Ratio]:
    """Return every ratio; a round counts only if both have done it."""
    return [
        Ratio(
            work=work,
            size=size,
            ours=ours,
            peer=peer,
            what="p50" if work == "serial" else "records/s",
            rounds=len(values),
            spread=spread(values),
        )
        for size in plan.sizes
        for work in plan.works
        for ours, peer, values in _pairs(plan, trials, work, size)
    ]


def _pairs(
    plan: Plan, trials: Sequence[Trial], work: Work, size: int
) -> Iterator[tuple[str, str, list[float]]]:
    found = trials_of(trials, work, size)
    for ours in (name for name in plan.contenders if name in OURS):
        for peer in (name for name in plan.contenders if name not in OURS):
            mine, theirs = found.get(ours, {}), found.get(peer, {})
            values = [_value(mine[n]) / _value(theirs[n]) for n in sorted(mine.keys() & theirs)]
            if values:
                yield ours, peer, values


def _value(trial: Trial) -> float:
    """Return what is compared of a trial."""
    if trial.work == "serial":
        return trial.measured.latency.percentile(50)
    return trial.measured.rate


def durability_table(plan: Plan, findings: Findings) -> Table:
    """Return what each contender was, and what its acknowledgements meant."""
    table = plain_table("", "servers and durability", "producer's call")
    for name in plan.contenders:
        if name in findings.durability:
            table.add_row(name, findings.durability[name], CONTENDERS[name].call)
    return table


def heading(plan: Plan, work: Work, size: int) -> str:
    """Return the line above the figures of a work and size."""
    return f"{size:,} B records, {HEADINGS[work]}, --sync {plan.sync}"


def work_table(plan: Plan, trials: Sequence[Trial], work: Work, size: int) -> Table | None:
    """Return the figures of one work and size, a line for each contender; None without any."""
    found = trials_of(trials, work, size)
    if not found:
        return None
    table = Table(box=None, pad_edge=False)
    table.add_column("")
    for heading in ("records/s", "least", "most", "MB/s", "p50", "p99", "CPU client", "servers"):
        table.add_column(heading, justify="right")
    for name in (name for name in plan.contenders if name in found):
        table.add_row(name, *_cells(list(found[name].values()), size))
    return table


def _cells(trials: list[Trial], size: int) -> tuple[str, ...]:
    rates = spread([trial.measured.rate for trial in trials])
    servers = [_per_record(trial, trial.servers_cpu_s) for trial in trials]
    known = [value for value in servers if value is not None]
    client = [_per_record(trial, trial.measured.cpu_s) or 0.0 for trial in trials]
    return (
        *(count_text(value) for value in (rates.median, rates.least, rates.most)),
        f"{rates.median * size / 1e6:,.1f}",
        *(_latency_text(trials, percent) for percent in (50, 99)),
        f"{statistics.median(client):.1f} us",
        f"{statistics.median(known):.1f} us" if known else "-",
    )


def _latency_text(trials: Sequence[Trial], percent: float) -> str:
    known = [trial.measured.latency for trial in trials if trial.measured.latency.count]
    return (
        duration_text(statistics.median(latency.percentile(percent) for latency in known))
        if known
        else "-"
    )


def _per_record(trial: Trial, seconds: float | None) -> float | None:
    """Return microseconds a record."""
    return None if seconds is None else seconds * 1e6 / trial.measured.total


def ratio_table(found: Sequence[Ratio]) -> Table:
    """Return the ratios, a line each."""
    table = plain_table("ratio", "work", "size", "of", "median", "least", "most", "rounds")
    for ratio in found:
        table.add_row(
            f"{ratio.ours} / {ratio.peer}",
            ratio.work,
            f"{ratio.size:,} B",
            ratio.what,
            *(f"{v:.2f}" for v in (ratio.spread.median, ratio.spread.least, ratio.spread.most)),
            str(ratio.rounds),
        )
    return table


def complaints(findings: Findings) -> list[str]:
    """Return a line for each peer that has no figures, or not all."""
    return [
        *(f"{name}: left out: {reason}" for name, reason in findings.left_out.items()),
        *(f"{name}: failed: {reason}" for name, reason in findings.failed.items()),
    ]


def load_text(before: float, after: float, processors: int) -> str:
    """Say how busy the machine was: figures taken on a busy one mean little."""
    return (
        f"load {before:.1f} at the beginning, {after:.1f} at the end, on "
        f"{counted(processors, 'processor')}"
    )


def as_json(plan: Plan, findings: Findings, load: tuple[float, float]) -> dict[str, Any]:
    """Return what `-o json` prints."""
    return {
        "sync": plan.sync.value,
        "chains": plan.chains,
        "rounds": plan.rounds,
        "seconds": plan.seconds,
        "inflight": plan.inflight,
        "load": list(load),
        "contenders": [
            {"name": name, "durability": text, "call": CONTENDERS[name].call}
            for name, text in findings.durability.items()
        ],
        "left_out": dict(findings.left_out),
        "failed": dict(findings.failed),
        "trials": [_trial_json(trial) for trial in findings.trials],
        "ratios": [asdict(ratio) for ratio in ratios(plan, findings.trials)],
    }


def _trial_json(trial: Trial) -> dict[str, Any]:
    return {
        "round": trial.round,
        "contender": trial.contender,
        "work": trial.work,
        "size": trial.size,
        "records": trial.measured.records,
        "seconds": trial.measured.seconds,
        "records_per_s": round(trial.measured.rate, 3),
        "latency_us": latency_json(trial.measured.latency),
        "client_cpu_us_per_record": _per_record(trial, trial.measured.cpu_s),
        "servers_cpu_us_per_record": _per_record(trial, trial.servers_cpu_s),
    }
