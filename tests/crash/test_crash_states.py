"""Every part of the campaign, in portions that spread over processes; each asserts its floor."""

from __future__ import annotations

import pytest

from tests.crash.campaign import Campaign, Effort
from tests.crash.plan import SHARES, SUBJECTS, first_seed

PORTION = 20_000
FLOOR = 500_000


def portions() -> list[tuple[str, str, int, int]]:
    """Return (whose disk, damage, first seed, states) of each test."""
    found: list[tuple[str, str, int, int]] = []
    for (kind, damage), states in SHARES.items():
        count = -(-states // PORTION)
        found += [
            (kind, damage, first_seed(damage, 1 + 1000 * part), -(-states // count))
            for part in range(count)
        ]
    return found


def test_portions_sum_up_to_the_floor() -> None:
    assert sum(states for *_, states in portions()) >= FLOOR
    assert {(kind, damage) for kind, damage, *_ in portions()} == set(SHARES)


@pytest.mark.parametrize(("kind", "damage", "seed", "states"), portions())
def test_state_of_a_damaged_disk_when_recovered_keeps_what_was_acknowledged(
    kind: str, damage: str, seed: int, states: int
) -> None:
    tally = Campaign(SUBJECTS[kind](), damage, Effort()).run(seed, states)
    assert not tally.problems, "\n".join(map(str, tally.problems))
    assert tally.total >= states
    # It was compared with something, and rot was there to be found.
    assert tally.checked > states // 4
    if not damage.startswith("crash"):
        assert tally.detected > states // 10
        assert tally.beyond <= states // 20


def test_problem_is_found_again_by_its_seed_and_number(monkeypatch: pytest.MonkeyPatch) -> None:
    from corfu.journal.folder import JournalFolder

    monkeypatch.setattr(JournalFolder, "_refuse_cut", lambda self, serial: None)
    first = Campaign(SUBJECTS["journal"](), "cut", Effort()).run(1, 500).problems[0]
    again = Campaign(SUBJECTS["journal"](), "cut", Effort(), first.number).run(first.seed, 500)
    assert first in again.problems
    assert {problem.number for problem in again.problems} == {first.number}
