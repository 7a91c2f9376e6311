"""Which of many like cases run in `make test`, and which in `make test-all` only."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from _pytest.mark import ParameterSet


def every_second(cases: Iterable[object]) -> list[ParameterSet]:
    """Return the cases, every second one marked `long`: each takes seconds, mostly of waiting."""
    return [
        pytest.param(
            *(case if isinstance(case, tuple) else (case,)),
            marks=[pytest.mark.long] if number % 2 else [],
        )
        for number, case in enumerate(cases)
    ]
