"""The fast checker and an independent one give the same verdict on every small history."""

from __future__ import annotations

import random

import pytest

from tests.history.comparison import compare


@pytest.mark.parametrize("seed", range(8))
def test_check_and_detangle_call_every_made_history_sound(seed: int) -> None:
    found = compare(random.Random(f"sound-{seed}"), 60, mutating=False)
    assert found.differing == []
    assert (found.sound, found.unsound) == (60, 0)


@pytest.mark.parametrize("seed", range(16))
def test_check_and_detangle_agree_on_mutated_histories(seed: int) -> None:
    found = compare(random.Random(f"mutated-{seed}"), 80, mutating=True)
    assert found.differing == []
    # Both kinds must be there in numbers, and all be judged, or the comparison says little.
    assert min(found.sound, found.unsound) > 15
    assert found.given_up <= 1
