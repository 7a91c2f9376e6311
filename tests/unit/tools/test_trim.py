"""What `corfu trim` says."""

from __future__ import annotations

from dataclasses import replace

import pytest

from corfu.messages import TrimReached
from corfu.tools.failure import CommandError
from corfu.tools.trim import as_json, plan_sentence, planned, reached_sentence
from corfu.types import NO_INCARNATION, Epoch, Offset, RequestId
from tests.unit.tools.test_health import HEALTHY

REACHED = TrimReached(
    RequestId(NO_INCARNATION, 1),
    Epoch(1),
    Offset(1000),
    Offset(10),
    3,
    3 << 25,
    6,
    at_least=False,
)


def test_sentence_tells_files_bytes_and_units() -> None:
    assert reached_sentence(REACHED) == (
        "trimmed below 1,000: freed 3 journal files (96.0 MiB) on 6 units"
    )
    one = replace(REACHED, freed_files=1, freed_bytes=1 << 25, units=1, at_least=True)
    assert reached_sentence(one) == (
        "trimmed below 1,000: freed at least 1 journal file (32.0 MiB) on 1 unit"
    )
    assert as_json(REACHED)["freed_bytes"] == 3 << 25


def test_plan_goes_no_further_than_the_tail_and_never_back() -> None:
    status = replace(HEALTHY[0], trim_mark=Offset(50), tail=Offset(120))
    assert planned(status, Offset(100)) == (50, 100)
    assert planned(status, Offset(10_000)) == (50, 120)
    assert planned(status, Offset(7)) == (50, 50)
    assert plan_sentence(*planned(status, Offset(100))) == (
        "would trim below 100 (now below 50): 50 offsets, holes and junk included"
    )
    assert plan_sentence(Offset(50), Offset(50)) == (
        "would change nothing: trimmed below 50 already"
    )


def test_plan_needs_a_leader() -> None:
    with pytest.raises(CommandError, match="no replica leads"):
        planned(replace(HEALTHY[0], tail=None), Offset(1))
