"""Five million mutated datagrams a run, spread over the processes of pytest; nothing may crash."""

from __future__ import annotations

import gc
from pathlib import Path

import pytest

from .run import SHARES, run, warm_up

TOTAL = 5_000_000
_PARTS = {"link": 12, "unit": 2, "replica": 3, "client": 1}
"""Items of each target: to build a corpus and to warm up costs each as much as 25,000 datagrams."""


def parts() -> list[tuple[str, int, int]]:
    """Return (target, seed, datagrams) of all items; together they are at least `TOTAL`."""
    return [
        (name, 1000 + number, -(-round(TOTAL * SHARES[name]) // _PARTS[name]))
        for name in _PARTS
        for number in range(_PARTS[name])
    ]


def test_parts_are_five_million_in_all() -> None:
    assert sum(count for _, _, count in parts()) >= TOTAL
    assert set(_PARTS) == set(SHARES)


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("target", "seed", "datagrams"), parts())
def test_mutated_datagrams_when_received_break_no_rule(
    target: str, seed: int, datagrams: int
) -> None:
    """A crash tells how to repeat it. The floors say that the run went deep enough to count."""
    warm_up(target, seed)
    before = resident_bytes()
    outcome = run(target, seed, datagrams)
    grown = resident_bytes() - before
    assert outcome.stages.datagrams == datagrams
    assert outcome.stages.shortfalls(dispatched=_DISPATCHED_MIN[target]) == []
    assert grown <= _GROWTH_BYTES_MAX[target], f"{grown} bytes more are resident"


_DISPATCHED_MIN = {"link": 0.0, "unit": 0.3, "replica": 0.3, "client": 0.05}

_GROWTH_BYTES_MAX = {"link": 10 << 20, "unit": 10 << 20, "replica": 10 << 20, "client": 20 << 20}


def resident_bytes() -> int:
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096
