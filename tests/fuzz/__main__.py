"""`python -m tests.fuzz`: mutated datagrams into every receive path, and what became of them."""

from __future__ import annotations

import dataclasses
import json
import os
import resource
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed

import click

from .run import SHARES, TARGETS, CrashError, Outcome, replay, run, warm_up

PART = 50_000
"""Datagrams of one seed; a run of millions is many seeds."""

_MIB = 1 << 20


def rss_bytes() -> int:
    """Return the most memory that this process has had resident."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@dataclasses.dataclass(frozen=True, slots=True)
class Part:
    """One target and seed: what came of it, or the crash; and how much memory it added."""

    target: str
    outcome: Outcome | None
    crash: str = ""
    grown_bytes: int = 0


def run_part(target: str, seed: int, datagrams: int) -> Part:
    """Run one part in this process; the first one here has all memory to itself that it needs."""
    warm_up(target, seed)
    before = rss_bytes()
    try:
        outcome = run(target, seed, datagrams, timed=True)
    except CrashError as error:
        return Part(target, None, str(error))
    return Part(target, outcome, "", rss_bytes() - before)


def parts(target: str, datagrams: int, seed: int) -> Iterator[tuple[str, int, int]]:
    """Yield (target, seed, datagrams): for `all` in the shares of `make test`."""
    shares = SHARES if target == "all" else {target: 1.0}
    for name, share in shares.items():
        left, number = round(datagrams * share), 0
        while left > 0:
            yield name, seed + number, min(PART, left)
            left -= PART
            number += 1


@click.command(
    epilog="""\
\b
Examples:
  python -m tests.fuzz                                   5 million datagrams, all targets
  python -m tests.fuzz --datagrams 200000 --target unit
  python -m tests.fuzz --replay unit:7:1234              that datagram again, with what led to it

The same seed gives the same datagrams. Exit status 1: something crashed or broke a rule.
"""
)
@click.option("--datagrams", type=click.IntRange(1), default=5_000_000, show_default=True)
@click.option("--seed", type=click.IntRange(0), default=1, show_default=True, help="First seed.")
@click.option("--target", type=click.Choice([*TARGETS, "all"]), default="all", show_default=True)
@click.option("--jobs", type=click.IntRange(1), help="Processes (default: one a processor).")
@click.option("--replay", "again", metavar="TARGET:SEED:NUMBER", help="Repeat one crash.")
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text")
def main(
    datagrams: int, seed: int, target: str, jobs: int | None, again: str | None, output: str
) -> None:
    """Mutate valid datagrams of every message and hand them to the real receive paths."""
    if again is not None:
        _replay(again)
        return
    work = list(parts(target, datagrams, seed))
    done: list[Part] = []
    with (
        ProcessPoolExecutor(jobs or os.cpu_count()) as pool,
        click.progressbar(length=datagrams, label="datagrams", file=sys.stderr) as bar,
    ):
        futures = {pool.submit(run_part, *each): each[2] for each in work}
        for future in as_completed(futures):
            done.append(future.result())
            bar.update(futures[future])
    _report(done, output)
    if any(part.crash for part in done):
        sys.exit(1)


def _replay(again: str) -> None:
    try:
        name, seed, number = again.split(":")
        numbers = int(seed), int(number)
        known = TARGETS[name]
    except (ValueError, KeyError):
        raise click.UsageError(f"{again!r} is not TARGET:SEED:NUMBER") from None
    assert known is not None
    try:
        datagram = replay(name, *numbers)
    except CrashError as error:
        click.echo(str(error))
        sys.exit(1)
    click.echo(f"no crash; the datagram was {datagram.hex()}")


def _report(done: list[Part], output: str) -> None:
    report = {name: _figures([p for p in done if p.target == name]) for name in TARGETS}
    report = {name: figures for name, figures in report.items() if figures}
    if output == "json":
        click.echo(json.dumps(report, indent=2))
        return
    for name, figures in report.items():
        click.echo(name)
        for what, value in figures.items():
            click.echo(f"  {what:<20} {value}")


def _figures(done: list[Part]) -> dict[str, object]:
    outcomes = [part.outcome for part in done if part.outcome is not None]
    crashes = [part.crash for part in done if part.crash]
    if not outcomes:
        return {"crashes": crashes} if crashes else {}
    total, *rest = (outcome.stages for outcome in outcomes)
    for stages in rest:
        total.add(stages)
    cpu_s = sum(outcome.cpu_s for outcome in outcomes)
    worst = max(outcomes, key=lambda outcome: outcome.worst_s)
    counts = {
        each.name: getattr(total, each.name)
        for each in dataclasses.fields(total)
        if each.name != "kinds"
    }
    return {
        **counts,
        "bodies": total.bodies,
        "crashes": crashes,
        "worst_ms": round(worst.worst_s * 1000, 3),
        "worst_hex": worst.worst.hex(),
        "cpu_s": round(cpu_s, 1),
        "rate": round(total.datagrams / cpu_s),
        "rss_growth_mib": round(max(part.grown_bytes for part in done) / _MIB, 1),
    }


if __name__ == "__main__":
    main()
