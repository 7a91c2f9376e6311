"""Each planted bug is found, and the moves that were printed show it again."""

from __future__ import annotations

import pytest

from .explorer import Explorer
from .planted import PLANTED, STATES_MAX

SOON = 20_000
"""All of them are found within so many states."""


@pytest.mark.parametrize("name", PLANTED)
def test_planted_bug_is_found_and_its_moves_show_it_again(name: str) -> None:
    bug = PLANTED[name]
    report = bug.explore(SOON)
    assert report.violation is not None, f"not found: {bug.what}"
    assert report.states <= SOON < STATES_MAX
    with bug.planted() as model:
        assert Explorer(model).follow(report.violation.moves) == report.violation.what
    assert bug.what


def test_planted_bug_is_gone_afterwards() -> None:
    bug = PLANTED["head-acknowledges"]
    report = bug.explore(SOON)
    assert report.violation is not None
    with bug.planted() as model:
        pass
    explorer = Explorer(model)
    # The same moves: the last one is not even possible without the bug.
    with pytest.raises(LookupError, match="Written"):
        explorer.follow([*report.violation.moves, "u1 -> writer: Written"])
