"""What a run found: its verdict, its measures, and how they are shown. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from rich.table import Table

from corfu.tools.check import check
from corfu.tools.check_options import CheckOptions
from corfu.tools.failure import Status
from corfu.tools.operations import Append, FinalLog, Operation, Scan

from .measures import Waits, percentile
from .plan import LEADER_KINDS, UNIT_KINDS, Kind

PERCENTILE = 0.99

STRICT = CheckOptions()
"""Nothing may be lost: no fault takes the last sound copy of anything."""


@dataclass(frozen=True, slots=True)
class Made:
    """One fault as it was made.

    Attributes:
        number: Of its cycle.
        kind: What was done.
        text: The same in words, with who was hit.
        clock: The time of day.
        waits: What it cost.
        whole_s: Until redundancy was full; None if the next fault did not wait for that.
    """

    number: int
    kind: Kind
    text: str
    clock: str
    waits: Waits
    whole_s: float | None


@dataclass(frozen=True, slots=True)
class Totals:
    """How much was done, and how much of it is in the log in the end."""

    operations: int
    appended: int
    """Records that were acknowledged."""

    found: int
    """Records in the final log."""

    read: int
    """Records that scans and followers gave, each as often as it was given."""

    trimmed_below: int
    tail: int


@dataclass(frozen=True, slots=True)
class Report:
    """A whole run; `violations` is empty if every rule held."""

    seed: int
    cycles: int
    seconds: float
    faults: tuple[Made, ...]
    totals: Totals | None
    violations: tuple[str, ...]
    kept: str | None
    """The folder that was left for a look."""

    @property
    def status(self) -> Status:
        """The exit status that says it all."""
        return Status.NO if self.violations else Status.OK


def judge(history: Sequence[Operation], final: FinalLog) -> list[str]:
    """Return every rule that a history breaks; [] if it is sound."""
    return [str(violation) for violation in check(history, final, options=STRICT)]


def count(history: Sequence[Operation], final: FinalLog) -> Totals:
    """Count what was done."""
    appends = (each for each in history if isinstance(each, Append))
    scans = (each for each in history if isinstance(each, Scan))
    return Totals(
        operations=len(history),
        appended=sum(place is not None for each in appends for place in each.places),
        found=sum(len(records) for records in final.entries.values()),
        read=sum(len(scan.items) for scan in scans),
        trimmed_below=final.trimmed_below,
        tail=final.tail,
    )


def too_slow(
    faults: Sequence[Made], *, leader_s: float | None, unit_s: float | None
) -> Iterator[str]:
    """Yield each bound on how long appends may take to resume that was exceeded."""
    for name, kinds, bound in (("leader", LEADER_KINDS, leader_s), ("unit", UNIT_KINDS, unit_s)):
        resumed = [made.waits.resumed_s for made in faults if made.kind in kinds]
        if bound is None or not resumed:
            continue
        worst = percentile(resumed, PERCENTILE)
        if worst > bound:
            yield (
                f"appends resumed {worst:.2f} s (p99) after the loss of a {name}: "
                f"more than {bound:g} s"
            )


def line_of(made: Made, cycles: int) -> str:
    """Return the line that is printed once a cycle is over."""
    head = f"cycle {made.number:>{len(str(cycles))}}/{cycles}  {made.clock}  {made.text:<50}"
    parts = [
        "no append since"
        if made.waits.next_s is None
        else f"next append after {made.waits.next_s:.2f} s",
        f"all resumed after {made.waits.resumed_s:.2f} s",
    ]
    if made.whole_s is not None:
        parts.append(f"redundancy after {made.whole_s:.1f} s")
    return f"{head}  {', '.join(parts)}"


def totals_line(totals: Totals) -> str:
    """Return the sums in words."""
    return (
        f"{totals.operations:,} operations; {totals.appended:,} records acknowledged, "
        f"{totals.found:,} found in the end ({totals.trimmed_below:,} of {totals.tail:,} offsets "
        f"trimmed), {totals.read:,} read on the way"
    )


def table_of(faults: Sequence[Made]) -> Table:
    """Return how long appends waited, by kind of fault.

    "next" is the first acknowledgement of an append begun after the fault; "resumed" the longest
    wait of any append that was under way or begun soon after; "longest" up to the next fault.
    """
    table = Table(title="seconds from a fault on", title_justify="left", box=None, pad_edge=False)
    table.add_column("fault", no_wrap=True)
    for heading in ("count", "next p50", "max", "resumed p50", "p99", "max", "longest"):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, group in _groups(faults).items():
        following = [each.waits.next_s for each in group if each.waits.next_s is not None]
        resumed = [each.waits.resumed_s for each in group]
        longest = max(each.waits.longest_s for each in group)
        table.add_row(
            name,
            str(len(group)),
            *(
                (f"{percentile(following, 0.5):.2f}", f"{max(following):.2f}")
                if following
                else ("-", "-")
            ),
            *(f"{percentile(resumed, share):.2f}" for share in (0.5, PERCENTILE, 1.0)),
            f"{longest:.2f}",
        )
    return table


def _groups(faults: Sequence[Made]) -> Mapping[str, list[Made]]:
    """Return the faults by kind, and then the two sums that have goals."""
    groups: dict[str, list[Made]] = {}
    for kind in Kind:
        groups[kind.value] = [made for made in faults if made.kind is kind]
    groups["all of leaders"] = [made for made in faults if made.kind in LEADER_KINDS]
    groups["all of units"] = [made for made in faults if made.kind in UNIT_KINDS]
    return {name: group for name, group in groups.items() if group}


def as_json(report: Report) -> dict[str, object]:
    """Return what `-o json` prints."""
    totals = report.totals
    return {
        "seed": report.seed,
        "cycles": report.cycles,
        "seconds": round(report.seconds, 1),
        "sound": not report.violations,
        "violations": list(report.violations),
        "kept": report.kept,
        "faults": [
            {
                "cycle": made.number,
                "kind": made.kind.value,
                "text": made.text,
                "clock": made.clock,
                "next_append_s": _rounded(made.waits.next_s),
                "resumed_s": _rounded(made.waits.resumed_s),
                "longest_s": _rounded(made.waits.longest_s),
                "redundancy_s": _rounded(made.whole_s),
            }
            for made in report.faults
        ],
        "resumed_s": {
            name: {
                "count": len(group),
                "p50": _rounded(percentile([each.waits.resumed_s for each in group], 0.5)),
                "p99": _rounded(percentile([each.waits.resumed_s for each in group], PERCENTILE)),
                "max": _rounded(max(each.waits.resumed_s for each in group)),
            }
            for name, group in _groups(report.faults).items()
        },
        "operations": None if totals is None else totals.operations,
        "records_appended": None if totals is None else totals.appended,
        "records_found": None if totals is None else totals.found,
        "records_read": None if totals is None else totals.read,
        "trimmed_below": None if totals is None else totals.trimmed_below,
        "tail": None if totals is None else totals.tail,
    }


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)
