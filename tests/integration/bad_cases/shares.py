"""Which of many like cases run in `make test`, and which in `make test-all` only."""

from __future__ import annotations

from collections.abc import Collection, Iterable

import pytest
from _pytest.mark import ParameterSet


def every_second(cases: Iterable[object]) -> list[ParameterSet]:
    """Return the cases, every second one marked `long`: each takes seconds, mostly of waiting."""
    return _shared((case, number % 2 == 0) for number, case in enumerate(cases))


def only(chosen: Collection[object], cases: Iterable[object]) -> list[ParameterSet]:
    """Return the cases, all but the `chosen` ones marked `long`."""
    return _shared((case, case in chosen) for case in cases)


def _shared(cases: Iterable[tuple[object, bool]]) -> list[ParameterSet]:
    return [
        pytest.param(
            *(case if isinstance(case, tuple) else (case,)),
            marks=[] if chosen else [pytest.mark.long],
        )
        for case, chosen in cases
    ]
