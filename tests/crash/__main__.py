"""`python -m tests.crash`: recover from every state that a crash, or rot, may leave on a disk."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import click

from tests.crash.campaign import DAMAGES, Campaign, Effort, Tally
from tests.crash.plan import SHARES, SUBJECTS, first_seed

_EPILOG = """\b
Examples:
  python -m tests.crash                                  # 500,000 states, a few minutes
  python -m tests.crash --states 5000000 --seed 1000     # others, and more of them
  python -m tests.crash --kind unit --damage crash       # one part alone
  python -m tests.crash --kind unit --damage crash --seed 22 --only 521   # one state again

Exit status: 0 all rules held, 1 a rule was broken, 2 wrong arguments.
"""


@click.command(epilog=_EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--states",
    default=500_000,
    show_default=True,
    type=click.IntRange(1),
    help="How many distinct states, over all parts.",
)
@click.option(
    "--seed",
    default=1,
    show_default=True,
    type=click.IntRange(0),
    help="The first recording; the next ones follow.",
)
@click.option(
    "--kind",
    "kinds",
    multiple=True,
    type=click.Choice(sorted(SUBJECTS)),
    help="Whose disk; all by default.",
)
@click.option(
    "--damage",
    "damages",
    multiple=True,
    type=click.Choice(DAMAGES),
    help="What happens to it; all by default.",
)
@click.option(
    "--only",
    type=click.IntRange(1),
    help="Judge this state of the seed alone, as a problem names it.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    help="Write the figures as JSON.",
)
def main(
    states: int,
    seed: int,
    kinds: tuple[str, ...],
    damages: tuple[str, ...],
    only: int | None,
    output: Path | None,
) -> None:
    """Record what real processes do to their disks, and recover from every state that a crash may
    leave of it, and from rot: nothing acknowledged may be lost, and no damage may pass unseen."""
    chosen = {
        (kind, damage): share
        for (kind, damage), share in SHARES.items()
        if (not kinds or kind in kinds) and (not damages or damage in damages)
    }
    if only is not None and len(chosen) != 1:
        raise click.UsageError("--only needs one --kind and one --damage")
    whole = sum(chosen.values())
    began, total = time.monotonic(), Tally()
    parts: list[tuple[str, str, Tally]] = []
    click.echo(f"{'whose disk':<12}{'damage':<14}{'states':>10}{'checked':>12}{'seconds':>9}")
    for (kind, damage), share in chosen.items():
        part_began = time.monotonic()
        campaign = Campaign(SUBJECTS[kind](), damage, Effort(), only)
        wanted = max(1, round(states * share / whole))

        def progress(done: int, what: str = f"{kind}, {damage}", of: int = wanted) -> None:
            if sys.stderr.isatty():
                click.echo(f"\r{what}: {done:,} of {of:,}   ", nl=False, err=True)

        first = seed if only is not None else first_seed(damage, seed)
        tally = campaign.run(first, wanted, progress)
        if sys.stderr.isatty():
            click.echo("\r\033[K", nl=False, err=True)
        seconds = time.monotonic() - part_began
        click.echo(f"{kind:<12}{damage:<14}{tally.total:>10,}{tally.checked:>12,}{seconds:>9.1f}")
        parts.append((kind, damage, tally))
        total.add(tally)
    _summary(total, time.monotonic() - began)
    if output is not None:
        output.write_text(json.dumps(_figures(parts, total, seed), indent=2) + "\n")
    if total.problems:
        click.echo(f"\n{len(total.problems)} problems (a part stops at {Effort().problems})")
        for problem in total.problems:
            click.echo(str(problem))
        raise SystemExit(1)


def _summary(total: Tally, seconds: float) -> None:
    by_file: dict[str, int] = {}
    for (file, _), count in total.states.items():
        by_file[file] = by_file.get(file, 0) + count
    click.echo(f"\n{total.total:,} distinct states in {seconds:.0f} s, by the file in question:")
    for file, count in sorted(by_file.items(), key=lambda each: -each[1]):
        click.echo(f"  {file:<10}{count:>10,}")
    click.echo(f"recordings {total.traces:,}, steps {total.steps:,}, promises {total.promises:,}")
    click.echo(f"acknowledged values and marks compared: {total.checked:,}")
    click.echo(
        f"rot: {total.detected:,} detected, {total.harmless:,} harmless, "
        f"{total.beyond:,} whole sectors of the last write lost (no disk's own files can tell)"
    )
    click.echo(f"problems: {len(total.problems)}")


def _figures(parts: list[tuple[str, str, Tally]], total: Tally, seed: int) -> dict[str, object]:
    return {
        "seed": seed,
        "states": total.total,
        "checked": total.checked,
        "detected": total.detected,
        "harmless": total.harmless,
        "last_sectors_lost": total.beyond,
        "recordings": total.traces,
        "promises": total.promises,
        "problems": [str(problem) for problem in total.problems],
        "parts": [
            {
                "kind": kind,
                "damage": damage,
                "states": tally.total,
                "files": {file: count for (file, _), count in sorted(tally.states.items())},
                "checked": tally.checked,
                "detected": tally.detected,
                "harmless": tally.harmless,
            }
            for kind, damage, tally in parts
        ],
    }


if __name__ == "__main__":
    main()
