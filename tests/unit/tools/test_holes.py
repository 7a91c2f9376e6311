"""Finding what is not whole, from what units say that are played by tables."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from corfu.config import BLOCK_OFFSETS
from corfu.layout import Layout, Segment, Unit
from corfu.messages import HolesAre, Inspect, Inspected, InspectedOffset, Message, TailSample
from corfu.tools.asking import Asker
from corfu.tools.hole_search import (
    Age,
    HoleRun,
    HoleSearch,
    HoleState,
    Verdict,
    age_of,
    judge,
)
from corfu.tools.holes import age_text, wanted_span
from corfu.types import (
    JUNK_ID,
    NO_INCARNATION,
    Address,
    Digest,
    Epoch,
    Incarnation,
    Offset,
    Range,
    RequestId,
    State,
    UnitId,
)
from tests.unit.tools.test_health import LAYOUT

A, B, C = UnitId(1), UnitId(2), UnitId(3)
EMPTY, DATA, JUNK, TRIMMED, DAMAGED, LOST = (
    State.EMPTY,
    State.DATA,
    State.JUNK,
    State.TRIMMED,
    State.DAMAGED,
    State.LOST,
)


@pytest.mark.parametrize(
    ("states", "verdict"),
    [
        ((DATA, DATA, DATA), None),
        ((JUNK, JUNK, TRIMMED), None),
        ((LOST, LOST, LOST), None),
        ((EMPTY, EMPTY, EMPTY), Verdict(HoleState.HOLE, None)),
        ((EMPTY, None, EMPTY), Verdict(HoleState.HOLE, None)),
        ((DATA, EMPTY, EMPTY), Verdict(HoleState.HALF_WRITTEN, B)),
        ((DATA, DATA, EMPTY), Verdict(HoleState.HALF_WRITTEN, C)),
        ((DATA, None, EMPTY), Verdict(HoleState.HALF_WRITTEN, B)),
        ((DATA, DATA, None), Verdict(HoleState.HALF_WRITTEN, C)),
        ((None, EMPTY, EMPTY), Verdict(HoleState.UNKNOWN, A)),
        ((None, DATA, DATA), Verdict(HoleState.UNKNOWN, A)),
        ((DATA, DAMAGED, DATA), Verdict(HoleState.DAMAGED, B)),
        ((DAMAGED, None, EMPTY), Verdict(HoleState.DAMAGED, A)),
        ((EMPTY, DATA, DATA), Verdict(HoleState.DAMAGED, A)),
    ],
)
def test_verdict_on_an_offset_names_the_unit_it_waits_for(
    states: tuple[State | None, ...], verdict: Verdict | None
) -> None:
    assert judge((A, B, C), states) == verdict


def test_age_counts_from_the_last_sample_before_the_grant() -> None:
    samples = (TailSample(Offset(10), 900), TailSample(Offset(20), 300))
    assert age_of(samples, Offset(25)) == Age(300, at_least=False)
    assert age_of(samples, Offset(20)) == Age(300, at_least=False)
    assert age_of(samples, Offset(19)) == Age(900, at_least=False)
    assert age_of(samples, Offset(9)) == Age(900, at_least=True)
    assert age_of((), Offset(9)) == Age(0, at_least=True)


def test_age_is_said_as_people_say_it() -> None:
    assert age_text(Age(1500, at_least=False)) == "1.5 s"
    assert age_text(Age(7_200_000, at_least=True)) == "at least 120 min"


def test_span_is_what_is_asked_for_between_closed_until_and_tail() -> None:
    told = HolesAre(RequestId(NO_INCARNATION, 1), Epoch(1), Offset(100), Offset(200), ())
    assert wanted_span(told, None, None) == (100, 200)
    assert wanted_span(told, Offset(5), Offset(1000)) == (100, 200)
    assert wanted_span(told, Offset(150), Offset(160)) == (150, 160)
    assert wanted_span(told, Offset(500), None) == (500, 500)
    assert wanted_span(told, None, Offset(7)) == (100, 100)


class Units(Asker):
    """Units that say what a table says; one without a table is silent."""

    def __init__(self, held: dict[UnitId, dict[int, State]], trim_mark: int = 0) -> None:
        self.held = held
        self.trim_mark = Offset(trim_mark)
        self.asked: list[Address] = []
        self.answer_max = BLOCK_OFFSETS
        self.incarnation = NO_INCARNATION

    def new_request(self) -> RequestId:
        return RequestId(NO_INCARNATION, 1)

    async def ask(self, to: Address, message: Message, budget_s: float) -> Message | None:
        assert isinstance(message, Inspect)
        self.asked.append(to)
        unit = next(unit for unit in UNITS if unit.address == to)
        if unit.id not in self.held:
            return None
        end = Offset(min(message.end, message.start + self.answer_max))
        offsets = tuple(
            InspectedOffset(Offset(offset), state, JUNK_ID, Digest(0), 0)
            for offset, state in sorted(self.held[unit.id].items())
            if message.start <= offset < end and offset >= self.trim_mark
        )
        return Inspected(
            message.request, unit.id, self.incarnation, Epoch(4), message.start, end,
            self.trim_mark, offsets,
        )  # fmt: skip


UNITS = tuple(
    Unit(UnitId(id_), NO_INCARNATION, Address("127.0.0.1", 9100 + id_)) for id_ in range(1, 7)
)


def _layout(*segments: Segment) -> Layout:
    return replace(LAYOUT, units=UNITS, segments=segments)


ONE = _layout(Segment(Offset(0), None, ((A, B),)))
TWO = _layout(Segment(Offset(0), None, ((A, B), (C, UnitId(4)))))


def _search(
    units: Units,
    layout: Layout,
    start: int,
    end: int,
    samples: tuple[TailSample, ...] = (TailSample(Offset(0), 500),),
    older_than_ms: int = 0,
) -> tuple[tuple[HoleRun, ...], HoleSearch]:
    search = HoleSearch(units, layout, samples, older_than_ms)
    seen: list[int] = []
    found = asyncio.run(search.run(Range(Offset(start), Offset(end)), seen.append))
    assert sum(seen) == max(0, end - start)
    return found, search


def _brief(runs: tuple[HoleRun, ...]) -> list[tuple[int, int, int, int, HoleState, int | None]]:
    return [(r.start, r.end, r.count, r.chain, r.verdict.state, r.verdict.waits_for) for r in runs]


def test_search_finds_nothing_where_all_is_whole() -> None:
    held = dict.fromkeys(range(40), DATA)
    units = Units({A: held, B: held})
    assert _search(units, ONE, 0, 40)[0] == ()
    assert _search(units, ONE, 40, 40)[0] == ()


def test_search_joins_neighbours_of_a_chain_that_wait_for_the_same() -> None:
    head = {0: DATA, 1: DATA, 2: DATA, 5: JUNK}
    units = Units({A: head, B: {0: DATA}})
    assert _brief(_search(units, ONE, 0, 8)[0]) == [
        (1, 3, 2, 0, HoleState.HALF_WRITTEN, B),
        (3, 5, 2, 0, HoleState.HOLE, None),
        (5, 6, 1, 0, HoleState.HALF_WRITTEN, B),
        (6, 8, 2, 0, HoleState.HOLE, None),
    ]


def test_search_of_two_chains_gives_a_run_for_each() -> None:
    units = Units({A: {}, B: {}, C: {101: DATA}, UnitId(4): {101: DATA}})
    assert _brief(_search(units, TWO, 100, 300)[0]) == [
        (100, 299, 100, 0, HoleState.HOLE, None),
        (103, 300, 99, 1, HoleState.HOLE, None),
    ]


def test_search_over_blocks_and_short_answers_joins_its_runs() -> None:
    units = Units({A: {}, B: {}})
    units.answer_max = 100
    found, _ = _search(units, ONE, 5, 3 * BLOCK_OFFSETS + 7)
    assert _brief(found) == [
        (5, 3 * BLOCK_OFFSETS + 7, 3 * BLOCK_OFFSETS + 2, 0, HoleState.HOLE, None)
    ]


def test_search_asks_a_silent_unit_only_once_and_names_it() -> None:
    held = dict.fromkeys(range(3 * BLOCK_OFFSETS), DATA)
    units = Units({A: held})
    found, search = _search(units, ONE, 0, 3 * BLOCK_OFFSETS)
    assert _brief(found) == [
        (0, 3 * BLOCK_OFFSETS, 3 * BLOCK_OFFSETS, 0, HoleState.HALF_WRITTEN, B)
    ]
    assert search.silent == {B}
    assert units.asked.count(UNITS[1].address) == 1


def test_search_believes_no_other_incarnation() -> None:
    units = Units({A: {}, B: {}})
    units.incarnation = Incarnation(bytes(15) + b"\x01")
    found, search = _search(units, ONE, 0, 1)
    assert [run.verdict.state for run in found] == [HoleState.UNKNOWN]
    assert search.silent == {A, B}


def test_search_uses_each_segments_chains_and_leaves_out_what_is_lost_or_trimmed() -> None:
    layout = _layout(
        Segment(Offset(0), Offset(10), ((A, B), ())),
        Segment(Offset(10), None, ((C,),)),
    )
    units = Units({A: {}, B: {}, C: {}}, trim_mark=4)
    assert _brief(_search(units, layout, 0, 12)[0]) == [
        (4, 9, 3, 0, HoleState.HOLE, None),
        (10, 12, 2, 0, HoleState.HOLE, None),
    ]


def test_search_leaves_out_what_is_too_young() -> None:
    samples = (TailSample(Offset(3), 5000), TailSample(Offset(6), 200))
    found, _ = _search(Units({A: {}, B: {}}), ONE, 0, 9, samples, older_than_ms=1000)
    assert [(run.start, run.end, run.age) for run in found] == [(0, 6, Age(5000, at_least=True))]
