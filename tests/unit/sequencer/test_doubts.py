"""How an offset in doubt at a head is settled: the four rules, in their order."""

from __future__ import annotations

from corfu.messages import InspectedOffset, Resolution
from corfu.sequencer.doubts import Witness, resolution
from corfu.types import JUNK_ID, Digest, EntryId, Offset, State
from tests.unit.sequencer.test_machine import unit

ID = EntryId(b"entry-entry-entr")
AT = Offset(7)


def held(state: State) -> InspectedOffset:
    if state is State.DATA:
        return InspectedOffset(AT, state, ID, Digest(5), 10)
    return InspectedOffset(AT, state, JUNK_ID, Digest(0), 0)


def witness(
    number: int, state: State | None = None, *, certain: bool = True, names: bool = False
) -> Witness:
    return Witness(unit(number), held(state) if state is not None else None, certain, names)


DOUBT = witness(1, None, certain=False)
NAMED = witness(1, State.DAMAGED, names=True)


def settled(*witnesses: Witness, closed: bool = False) -> State | None:
    result = resolution(AT, list(witnesses), closed=closed)
    return None if result is None else result.state


def test_doubt_at_an_offset_that_the_head_holds_soundly_needs_nothing() -> None:
    assert settled(witness(1, State.DATA), witness(2)) is None
    assert settled(witness(1, State.JUNK), witness(2)) is None


def test_doubt_at_an_offset_that_the_head_never_held_needs_nothing() -> None:
    assert settled(witness(1), witness(2, certain=False)) is None


def test_doubt_with_a_sound_copy_anywhere_is_restored_from_it() -> None:
    result = resolution(AT, [DOUBT, witness(2), witness(3, State.DATA)], closed=False)
    assert result == Resolution(AT, State.DATA, ID, Digest(5), unit(3).address)


TENTATIVE = InspectedOffset(AT, State.DATA, ID, Digest(5), 10, tentative=True)


def test_tentative_copy_restores_a_head_in_doubt() -> None:
    tentative = Witness(unit(3), TENTATIVE, certain=True, names_damage=True)
    result = resolution(AT, [DOUBT, witness(2), tentative], closed=False)
    assert result == Resolution(AT, State.DATA, ID, Digest(5), unit(3).address)


def test_what_a_unit_holds_goes_before_a_tentative_copy() -> None:
    tentative = Witness(unit(2), TENTATIVE, certain=True, names_damage=True)
    result = resolution(AT, [NAMED, tentative, witness(3, State.JUNK)], closed=False)
    assert result == Resolution(AT, State.JUNK, JUNK_ID, Digest(0), None)


def test_doubt_with_junk_at_another_unit_becomes_junk_without_a_source() -> None:
    result = resolution(AT, [NAMED, witness(2, State.JUNK)], closed=False)
    assert result == Resolution(AT, State.JUNK, JUNK_ID, Digest(0), None)


def test_doubt_with_another_unit_soundly_empty_was_never_acknowledged() -> None:
    assert settled(DOUBT, witness(2)) is State.EMPTY
    assert settled(NAMED, witness(2, certain=False), witness(3)) is State.EMPTY


def test_doubt_in_a_chain_of_one_is_lost() -> None:
    assert settled(DOUBT) is State.LOST
    assert settled(NAMED) is State.LOST


def test_doubt_everywhere_with_a_damaged_record_that_is_named_is_lost() -> None:
    assert settled(NAMED, witness(2, certain=False)) is State.LOST
    assert settled(DOUBT, witness(2, State.DAMAGED, names=True)) is State.LOST


def test_doubt_everywhere_that_nobody_can_name_is_empty() -> None:
    """An acknowledged record would have to be unreadable on all units at once."""
    assert settled(DOUBT, witness(2, certain=False)) is State.EMPTY
    assert settled(DOUBT, witness(2, State.DAMAGED, certain=False)) is State.EMPTY


def test_doubt_below_closed_until_is_restored_or_lost_never_empty() -> None:
    assert settled(NAMED, witness(2), closed=True) is State.LOST
    assert settled(NAMED, witness(2, State.DATA), closed=True) is State.DATA
