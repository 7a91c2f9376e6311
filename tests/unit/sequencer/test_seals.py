"""What a seal's answers show of lost state."""

from __future__ import annotations

from dataclasses import replace

from corfu.messages import Block, Sealed
from corfu.sequencer.commands import CloseUntil
from corfu.sequencer.seals import seal_problems
from corfu.sequencer.state import State
from corfu.types import Epoch, Offset, RequestId, UnitId
from tests.unit.sequencer.group_bench import incarnation
from tests.unit.sequencer.test_machine import activated, fresh, good, proposal


def block(*offsets: int, named: tuple[int, ...] = (), digest: int = 0, number: int = 0) -> Block:
    bits = sum(1 << (offset - 1024 * number) for offset in offsets)
    return Block(
        number, bits.to_bytes(128, "little"), digest, tuple(Offset(offset) for offset in named)
    )


def answer(
    unit: int,
    *blocks: Block,
    before: int = 1,
    tail: int = 0,
    closed: int = 0,
    trimmed: int = 0,
    doubt: bool = False,
) -> Sealed:
    return Sealed(
        RequestId(incarnation(1), 1), Epoch(2), UnitId(unit), incarnation(100 + unit),
        Epoch(before), Offset(tail), Offset(trimmed), Offset(closed), blocks, doubt,
    )  # fmt: skip


def found(*answers: Sealed, state: State | None = None) -> list[str]:
    state = state if state is not None else activated(fresh(((1, 2), (3, 4))))
    pending = good(state, proposal(state))
    assert pending.intent is not None
    found = seal_problems(pending, pending.intent.layout, {a.unit: a for a in answers})
    return [problem.text for problem in found]


def test_seal_of_units_that_hold_the_same_shows_nothing() -> None:
    assert found(answer(1, block(0, 2)), answer(2, block(0, 2)), answer(3), answer(4)) == []


def test_seal_half_written_at_the_head_shows_nothing() -> None:
    assert found(answer(1, block(0, 2)), answer(2, block(0))) == []


def test_seal_of_a_head_that_lacks_what_a_later_unit_holds_shows_lost_state() -> None:
    (problem,) = found(answer(1, block(0)), answer(2, block(0, 2)))
    assert "unit 1 does not hold offset 2" in problem


def test_seal_of_a_head_with_an_empty_report_shows_lost_state() -> None:
    (problem,) = found(answer(1), answer(2, block(1030, number=1)))
    assert "offset 1030" in problem or "unit 1" in problem


def test_seal_ignores_offsets_of_other_chains() -> None:
    assert found(answer(1), answer(2, block(1, 3))) == []


def test_seal_of_a_head_that_can_name_the_damaged_offset_shows_nothing() -> None:
    assert found(answer(1, block(0, named=(2,))), answer(2, block(0, 2))) == []


def test_seal_of_a_head_in_doubt_shows_nothing() -> None:
    assert found(answer(1, doubt=True), answer(2, block(0, 2))) == []


def test_seal_below_what_is_closed_or_trimmed_is_not_compared() -> None:
    assert found(answer(1, closed=4), answer(2, block(0, 2))) == []
    assert found(answer(1, trimmed=4), answer(2, block(0, 2))) == []
    state = good(activated(fresh(((1, 2), (3, 4)))), CloseUntil(Epoch(1), Offset(4)))
    assert found(answer(1), answer(2, block(0, 2)), state=state) == []


def test_seal_with_equal_offsets_and_other_values_shows_a_conflict() -> None:
    (problem,) = found(answer(1, block(0, digest=1)), answer(2, block(0, digest=2)))
    assert "different values" in problem


def test_seal_of_a_unit_that_knew_a_later_epoch_shows_lost_state() -> None:
    (problem,) = found(answer(1, before=0), answer(2))
    assert "was sealed for epoch 1 and now says 0" in problem


def test_seal_of_another_incarnation_is_not_measured_by_the_old_one() -> None:
    other = replace(answer(1, before=0), incarnation=incarnation(5))
    assert found(other, answer(2)) == []


def test_seal_of_one_unit_above_the_reserve_shows_damage() -> None:
    (problem,) = found(answer(1, tail=101), answer(2))
    assert "unit 1 holds offsets above 100: damaged" in problem


def test_seal_of_units_of_two_chains_above_the_reserve_means_lost_paxos_state() -> None:
    (problem,) = found(answer(1, tail=101), answer(3, tail=101))
    assert "the sequencer has lost its own state" in problem
