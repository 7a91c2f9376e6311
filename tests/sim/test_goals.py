"""An operator drains, replaces, adds, abandons amid faults: all comes true, nothing else is lost.

More seeds of each kind: `with_goals(draw(seed), seed, kinds)`.
"""

from __future__ import annotations

import pytest

from corfu.tools.sim.options import GOALS, draw, with_goals
from corfu.tools.sim.run import simulate

SEEDS = 6


@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", GOALS)
def test_simulate_goals_of_one_kind_come_true_and_break_no_rule(kind: str) -> None:
    reached = 0
    for seed in range(SEEDS):
        report = simulate(seed, with_goals(draw(seed), seed, (kind,)))
        assert report.problem is None, f"seed {seed}: {report.problem}"
        reached += report.faults.get("lost chain", 0) if kind == "abandon" else 0
        reached += sum(n for name, n in report.faults.items() if name.startswith("goal "))
    assert reached > 0


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("seed", "kinds"),
    [
        (51, ("drain",)),
        (116, GOALS),
        (202, GOALS),
        (221, GOALS),
    ],
)
def test_simulate_goals_that_once_failed_break_no_rule(seed: int, kinds: tuple[str, ...]) -> None:
    """What was found there.

    51: a unit whose drain was undone held what others held as well, and was no spare.
    202, 221: an abandoned unit that was back, formatted, before its goal had ended was foreseen to
    be given up again, so that the abandon was refused.
    """
    report = simulate(seed, with_goals(draw(seed), seed, kinds))
    assert report.problem is None
