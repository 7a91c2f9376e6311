"""What a history shows: operations by kind, how long they took, and every rule broken. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from rich.table import Table

from corfu.tools.nemesis.measures import percentile
from corfu.tools.operations import Append, Fill, Operation, Outcome, Read, Scan, Tail, Trim
from corfu.tools.sightings import RULES, Violation, describe

SOUND = "every rule holds"
TABLE_COLUMNS = 100
"""The figures are never cut to the width of a terminal."""

TOLD_MAX = 10
"""Of operations that one violation names."""


@dataclass(frozen=True, slots=True)
class Kind:
    """All operations of one kind.

    Attributes:
        name: Of the kind.
        calls: How many there were.
        answered: How many of them were answered; not_appended is an answer, too.
        records: How many records were acknowledged, or given.
        p50_s: How long the answered ones took; None: there are none, or they are follows, whose
            parts end when something comes.
        p99_s: The same.
        max_s: The same.
    """

    name: str
    calls: int
    answered: int
    records: int
    p50_s: float | None
    p99_s: float | None
    max_s: float | None


@dataclass(frozen=True, slots=True)
class Summary:
    """A history in figures.

    Attributes:
        operations: How many.
        seconds: From the first call to the last answer.
        kinds: By kind.
    """

    operations: int
    seconds: float
    kinds: tuple[Kind, ...]


def kind_of(operation: Operation) -> str:
    """Return the name of an operation's kind; a batch is one of its own."""
    match operation:
        case Append(records=records):
            return "append" if len(records) == 1 else "append_many"
        case Scan(followed=True):
            return "follow"
        case Tail(confirmed=False):
            return "cheap tail"
        case _:
            return type(operation).__name__.lower()


KINDS = ("append", "append_many", "read", "scan", "follow", "tail", "cheap tail", "fill", "trim")


def summary_of(history: Sequence[Operation]) -> Summary:
    """Count and measure a history."""
    groups: dict[str, list[Operation]] = {name: [] for name in KINDS}
    for operation in history:
        groups[kind_of(operation)].append(operation)
    begun = min((each.invoked for each in history), default=0.0)
    ended = max((each.completed or each.invoked for each in history), default=0.0)
    kinds = tuple(_measured(name, group) for name, group in groups.items() if group)
    return Summary(len(history), ended - begun, kinds)


def _measured(name: str, group: Sequence[Operation]) -> Kind:
    answered = [each for each in group if _is_answered(each)]
    took = [
        each.completed - each.invoked
        for each in answered
        if each.completed is not None and name != "follow"
    ]
    figures = [percentile(took, share) for share in (0.5, 0.99, 1.0)] if took else [None] * 3
    return Kind(name, len(group), len(answered), sum(map(_records, group)), *figures)


def _is_answered(operation: Operation) -> bool:
    match operation:
        case Append(outcome=outcome):
            return outcome is not Outcome.UNKNOWN
        case Read(seen=seen) | Fill(seen=seen):
            return seen is not None
        case Tail(offset=offset):
            return offset is not None
        case Trim(reached=reached):
            return reached is not None
        case Scan():
            return True


def _records(operation: Operation) -> int:
    match operation:
        case Append(places=places):
            return sum(place is not None for place in places)
        case Read(seen=tuple(records)):
            return len(records)
        case Scan(items=items):
            return len(items)
        case _:
            return 0


def table_of(summary: Summary) -> Table:
    """Return the figures by kind, latencies in milliseconds."""
    table = Table(box=None, pad_edge=False)
    table.add_column("operation", no_wrap=True)
    for heading in ("calls", "answered", "records", "calls/s", "p50 ms", "p99 ms", "max ms"):
        table.add_column(heading, justify="right", no_wrap=True)
    for kind in summary.kinds:
        rate = kind.calls / summary.seconds if summary.seconds else 0.0
        took = (kind.p50_s, kind.p99_s, kind.max_s)
        table.add_row(
            kind.name,
            *(f"{number:,}" for number in (kind.calls, kind.answered, kind.records)),
            f"{rate:,.1f}",
            *("-" if seconds is None else f"{seconds * 1e3:,.1f}" for seconds in took),
        )
    return table


def account_of(
    violation: Violation, history: Sequence[Operation], where: Callable[[int], str | None]
) -> Iterator[str]:
    """Yield the lines that tell of one violation: the rule, what was seen, and who saw it.

    Args:
        violation: What was found.
        history: What it was found in.
        where: Tells where an operation was recorded, by its index.
    """
    yield f"VIOLATION of {violation.rule}: {RULES[violation.rule]}"
    yield f"  {violation.finding}"
    for index in islice(dict.fromkeys(violation.operations), TOLD_MAX):
        place = where(index)
        yield f"  {describe(history, index)}{'' if place is None else f'  ({place})'}"


def violation_json(violation: Violation) -> dict[str, object]:
    """Return what `-o json` says of one violation."""
    return {
        "rule": violation.rule,
        "finding": violation.finding,
        "operations": list(violation.operations),
        "message": violation.message,
    }


def summary_json(summary: Summary) -> dict[str, object]:
    """Return what `-o json` says of a history."""
    return {
        "operations": summary.operations,
        "seconds": round(summary.seconds, 3),
        "kinds": [
            {
                "kind": kind.name,
                "calls": kind.calls,
                "answered": kind.answered,
                "records": kind.records,
                "p50_ms": _ms(kind.p50_s),
                "p99_ms": _ms(kind.p99_s),
                "max_ms": _ms(kind.max_s),
            }
            for kind in summary.kinds
        ],
    }


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1e3, 3)
