"""Compares the history checker with an independent one, and prints how often they agree.

python -m tests.history --histories 20000
"""

from __future__ import annotations

import random
import sys
import time

import click

from .comparison import Comparison, compare

STEP = 500


@click.command(
    epilog="""\b
Examples:
  python -m tests.history                             a few seconds
  python -m tests.history --histories 100000 --seed 7

Exit status 1: the two checkers differ on a history, which is printed. Ctrl-C prints what was
compared so far."""
)
@click.option("--histories", type=click.IntRange(1), default=2_000, show_default=True, metavar="N")
@click.option("--seed", type=click.IntRange(0), default=1, show_default=True, metavar="N")
def main(histories: int, seed: int) -> None:
    """Compare verdicts on small random histories, a third of them sound, the others mutated."""
    total = Comparison()
    began = time.process_time()
    try:
        for first in range(0, histories, STEP):
            count = min(STEP, histories - first)
            rng = random.Random(f"{seed}-{first}")
            for part in (
                compare(rng, count // 3, mutating=False),
                compare(rng, count - count // 3, mutating=True),
            ):
                _join(total, part)
            click.echo(f"{first + count:,} of {histories:,}", err=True)
    except KeyboardInterrupt:
        _tell(total, time.process_time() - began)
        sys.exit(130)
    _tell(total, time.process_time() - began)
    sys.exit(1 if total.differing else 0)


def _join(total: Comparison, part: Comparison) -> None:
    total.sound += part.sound
    total.unsound += part.unsound
    total.given_up += part.given_up
    total.rules.update(part.rules)
    total.differing += part.differing


def _tell(total: Comparison, cpu_s: float) -> None:
    click.echo(
        f"both say sound: {total.sound:,}; both say unsound: {total.unsound:,}; "
        f"they differ: {len(total.differing):,}; not searched to the end: {total.given_up:,} "
        f"({cpu_s:.1f} s of processor)"
    )
    broken = ", ".join(f"{rule} {count:,}" for rule, count in total.rules.most_common())
    click.echo(f"rules broken: {broken}")
    for history, final in total.differing[:3]:
        click.echo("they differ on:")
        for operation in history:
            click.echo(f"  {operation}")
        click.echo(f"  {final}")


if __name__ == "__main__":
    main()
