"""Bad histories, each beside the nearest one that is legal: the checker must tell them apart.

A checker that flags everything would find every bad history; one that flags nothing would let
every legal one pass. The two of a pair differ in one answer, one time or one place.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

from corfu.tools.check import check
from corfu.tools.check_options import CheckOptions
from corfu.tools.operations import (
    Append,
    Fill,
    FinalLog,
    Mark,
    Operation,
    Outcome,
    Place,
    Read,
    Scan,
    Tail,
    Trim,
)
from corfu.tools.sightings import RULES

FINAL = FinalLog({0: ("a",), 1: ("b", "c"), 3: ("d",)}, 4, frozenset({2}))
SOUND: tuple[Operation, ...] = (
    Append(1, 2, "w", ("a",), ((0, 0),)),
    Append(3, 4, "w", ("b", "c"), ((1, 0), (1, 1)), entries=(2,)),
    Append(5, 6, "w", ("d",), ((3, 0),)),
)
JUNK_LATER = replace(FINAL, tail=6, junk=frozenset({2, 4, 5}))
TRIMMED = replace(FINAL, entries={3: ("d",)}, junk=frozenset(), trimmed_below=3)
ENDED = replace(FINAL, entries={0: ("a",), 1: ("b", "c"), 3: ("d",), 4: ("e",)}, tail=5)
PAIR = replace(FINAL, entries={**FINAL.entries, 4: ("e", "f")}, tail=5)


def unknown(
    start: float, end: float | None, *records: str, entries: tuple[int, ...] = ()
) -> Append:
    nowhere = (None,) * len(records)
    return Append(start, end, "u", records, nowhere, Outcome.UNKNOWN, entries=entries)


def refused(start: float, end: float, record: str) -> Append:
    return Append(start, end, "u", (record,), (None,), Outcome.NOT_APPENDED)


def ordered(start: float, end: float, record: str, place: Place | None) -> Append:
    outcome = Outcome.UNKNOWN if place is None else Outcome.APPENDED
    return Append(start, end, "o", (record,), (place,), outcome, ordered=True)


def follow(start: Place, end: Place, *items: tuple[Place, str]) -> Scan:
    return Scan(1, 7 + end[0] / 10, "f", start, end, items, cached=True)


@dataclass(frozen=True)
class Pair:
    """What is added to the sound history; the legal additions come with the log that they leave."""

    name: str
    rule: str
    bad: tuple[Operation, ...]
    legal: tuple[Operation, ...]
    bad_final: FinalLog = FINAL
    legal_final: FinalLog = FINAL


A, B, C, D = ((0, 0), "a"), ((1, 0), "b"), ((1, 1), "c"), ((3, 0), "d")

PAIRS = (
    Pair("acknowledged_append_is_lost", "durable",
        (Append(7, 8, "w", ("e",), ((4, 0),)),), (unknown(7, 8, "e"),),
        replace(FINAL, tail=5, lost=((4, 5),)),
        replace(FINAL, tail=5, junk=frozenset({2, 4}))),
    Pair("acknowledged_append_became_junk", "one-value",
        (Append(7, 8, "w", ("e",), ((4, 0),)),), (unknown(7, 8, "e"),),
        replace(FINAL, tail=5, junk=frozenset({2, 4})),
        replace(FINAL, tail=5, junk=frozenset({2, 4}))),
    Pair("data_that_a_fill_met_is_lost", "durable",
        (unknown(7, None, "e"), Fill(8, 9, "q", 4, Mark.DATA)),
        (unknown(7, None, "e"), Fill(8, 9, "q", 4, Mark.JUNK)),
        replace(FINAL, tail=5, lost=((4, 5),)), replace(FINAL, tail=5, junk=frozenset({2, 4}))),
    Pair("value_changes", "one-value",
        (unknown(4, 8, "x"), Read(9, 10, "r", 3, ("x",))),
        (unknown(4, 8, "x"), Read(9, 10, "r", 3, ("d",)))),
    Pair("entry_is_shorter_once", "one-value",
        (Read(9, 10, "r", 1, ("b",)),), (Read(9, 10, "r", 1, ("b",), 0),)),
    Pair("junk_where_data_is", "one-value",
        (Fill(9, 10, "q", 3, Mark.JUNK),), (Fill(9, 10, "q", 3, Mark.DATA),)),
    Pair("record_is_there_twice", "once",
        (unknown(7, 8, "e"),), (unknown(7, 8, "e"),),
        replace(FINAL, entries={**FINAL.entries, 4: ("e",), 5: ("e",)}, tail=6),
        replace(FINAL, entries={**FINAL.entries, 5: ("e",)}, tail=6, junk=frozenset({2, 4}))),
    Pair("refused_record_is_there", "refused",
        (refused(7, 8, "e"),), (unknown(7, 8, "e"),), ENDED, ENDED),
    Pair("nobody_appended_it", "invented", (), (unknown(9, None, "e"),), ENDED, ENDED),
    Pair("later_append_lies_lower", "real-time",
        (Append(7, 8, "w", ("e",), ((2, 0),)),), (Append(5.9, 8, "w", ("e",), ((2, 0),)),),
        replace(FINAL, entries={**FINAL.entries, 2: ("e",)}, junk=frozenset()),
        replace(FINAL, entries={**FINAL.entries, 2: ("e",)}, junk=frozenset())),
    Pair("append_that_gave_up_lies_lower", "real-time",
        (unknown(7, 8, "e"),), (unknown(5.9, 8, "e"),),
        replace(FINAL, entries={**FINAL.entries, 2: ("e",)}, junk=frozenset()),
        replace(FINAL, entries={**FINAL.entries, 2: ("e",)}, junk=frozenset())),
    Pair("tail_misses_an_append", "tail", (Tail(7, 8, "t", 3),), (Tail(5.5, 8, "t", 3),)),
    Pair("confirmed_tail_falls", "tail",
        (Tail(7, 8, "t", 4, confirmed=False), Tail(9, 10, "t", 3)),
        (Tail(7, 8, "t", 4), Tail(9, 10, "t", 3, confirmed=False))),
    Pair("unwritten_after_the_answer", "unwritten",
        (Read(6.1, 7, "r", 3, Mark.UNWRITTEN),), (Read(5.9, 7, "r", 3, Mark.UNWRITTEN),)),
    Pair("unwritten_after_another_read_it", "unwritten",
        (Read(5.1, 5.2, "r", 3, ("d",)), Read(5.3, 5.4, "s", 3, Mark.UNWRITTEN)),
        (Read(5.1, 5.35, "r", 3, ("d",)), Read(5.3, 5.4, "s", 3, Mark.UNWRITTEN))),
    Pair("records_of_a_call_swapped", "many-order",
        (Append(7, 9, "w", ("e", "f"), ((5, 0), (4, 0))),),
        (Append(7, 9, "w", ("e", "f"), ((4, 0), (5, 0))),),
        replace(FINAL, entries={**FINAL.entries, 4: ("f",), 5: ("e",)}, tail=6),
        replace(FINAL, entries={**FINAL.entries, 4: ("e",), 5: ("f",)}, tail=6)),
    Pair("half_of_an_entry_is_there", "batch",
        (unknown(7, 8, "e", "f", entries=(2,)),), (unknown(7, 8, "e", "f", entries=(1, 1)),),
        ENDED, ENDED),
    Pair("an_entry_is_torn_apart", "batch",
        (Append(7, 8, "w", ("e", "f"), ((4, 0), (5, 0)), entries=(2,)),),
        (Append(7, 8, "w", ("e", "f"), ((4, 0), (5, 0)), entries=(1, 1)),),
        replace(FINAL, entries={**FINAL.entries, 4: ("e",), 5: ("f",)}, tail=6),
        replace(FINAL, entries={**FINAL.entries, 4: ("e",), 5: ("f",)}, tail=6)),
    Pair("an_entry_follows_one_that_failed", "batch",
        (unknown(7, 8, "x", "e", entries=(1, 1)),), (unknown(7, 8, "e", "x", entries=(1, 1)),),
        ENDED, ENDED),
    Pair("ordered_calls_swapped", "call-order",
        (ordered(7, 9, "e", (5, 0)), ordered(8, 9, "f", (4, 0))),
        (ordered(8, 9, "e", (5, 0)), ordered(7, 9, "f", (4, 0))),
        replace(FINAL, entries={**FINAL.entries, 4: ("f",), 5: ("e",)}, tail=6),
        replace(FINAL, entries={**FINAL.entries, 4: ("f",), 5: ("e",)}, tail=6)),
    Pair("ordered_call_that_gave_up_comes_late", "call-order",
        (ordered(7, 9, "e", None), ordered(8, 9, "f", (4, 0))),
        (ordered(7, 9, "e", None), replace(ordered(8, 9, "f", (4, 0)), ordered=False)),
        replace(FINAL, entries={**FINAL.entries, 4: ("f",), 5: ("e",)}, tail=6),
        replace(FINAL, entries={**FINAL.entries, 4: ("f",), 5: ("e",)}, tail=6)),
    Pair("scan_misses_one", "scan",
        (Scan(7, 8, "s", (0, 0), (4, 0), (A, B, D)),),
        (Scan(7, 8, "s", (0, 0), (4, 0), (A, B, C, D)),)),
    Pair("scan_gives_one_twice", "scan",
        (Scan(7, 8, "s", (0, 0), (1, 0), (A, A)),), (Scan(7, 8, "s", (0, 0), (1, 0), (A,)),)),
    Pair("scan_gives_them_out_of_order", "scan",
        (Scan(7, 8, "s", (0, 0), (1, 1), (B, A)),), (Scan(7, 8, "s", (0, 0), (1, 1), (A, B)),)),
    Pair("scan_to_the_tail_ends_early", "scan",
        (Scan(6.1, 8, "s", (0, 0), (1, 2), (A, B, C), to_tail=True),),
        (Scan(5.9, 8, "s", (0, 0), (1, 2), (A, B, C), to_tail=True),)),
    Pair("follow_leaves_a_gap_between_calls", "scan",
        (follow((0, 0), (1, 1), A, B), follow((1, 1), (3, 1), D)),
        (follow((0, 0), (1, 1), A, B), follow((1, 1), (3, 1), C, D))),
    Pair("follow_gives_one_again", "scan",
        (follow((0, 0), (1, 1), A, B), follow((1, 1), (3, 1), B, C, D)),
        (follow((0, 0), (1, 1), A, B), follow((1, 0), (3, 1), B, C, D))),
    Pair("value_after_trim_returned", "trim",
        (Trim(7, 8, "q", 3, 3), Read(8.1, 9, "r", 0, ("a",))),
        (Trim(7, 8, "q", 3, 3), Read(7.9, 9, "r", 0, ("a",))), TRIMMED, TRIMMED),
    Pair("own_cache_after_own_trim", "trim",
        (Trim(7, 8, "q", 3, 3), Read(8.1, 9, "q", 0, ("a",), cached=True)),
        (Trim(7, 8, "q", 3, 3), Read(8.1, 9, "r", 0, ("a",), cached=True)), TRIMMED, TRIMMED),
    Pair("mark_falls", "trim",
        (Trim(7, 8, "q", 3, 3), Trim(9, 10, "q", 2, 2)),
        (Trim(7, 8, "q", 3, 3), Trim(9, 10, "q", 2, 3)), TRIMMED, TRIMMED),
    Pair("trim_goes_not_far_enough", "trim",
        (Trim(7, 8, "q", 4, 3),), (Trim(5.5, 8, "q", 4, 3),), TRIMMED, TRIMMED),
    Pair("trimmed_unasked", "untrimmed",
        (Read(7, 8, "r", 0, Mark.TRIMMED), Trim(8.1, 9, "q", 3, 3)),
        (Read(7, 8, "r", 0, Mark.TRIMMED), Trim(7.9, 9, "q", 3, 3)), TRIMMED, TRIMMED),
    Pair("trim_goes_too_far", "untrimmed",
        (Trim(7, 8, "q", 2, 3),), (Trim(7, 8, "q", 2, 3), Trim(7, 8, "p", 3, None)),
        TRIMMED, TRIMMED),
    Pair("filled_and_unwritten", "fill",
        (Fill(7, 8, "q", 4, Mark.UNWRITTEN),), (Fill(7, 8, "q", 4, Mark.JUNK),),
        JUNK_LATER, JUNK_LATER),
    Pair("lost_unexpectedly", "lost",
        (Read(7, 8, "r", 2, Mark.LOST),), (Read(7, 8, "r", 2, Mark.JUNK),)),
    Pair("hole_in_the_end", "final", (), (), replace(FINAL, junk=frozenset())),
    Pair("acknowledged_without_position", "history",
        (Append(7, 8, "w", ("e",), (None,)),), (unknown(7, 8, "e"),)),
)  # fmt: skip


def _rules(added: tuple[Operation, ...], final: FinalLog) -> set[str]:
    return {violation.rule for violation in check((*SOUND, *added), final)}


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair.name)
def test_check_bad_history_is_flagged_and_its_legal_neighbour_passes(pair: Pair) -> None:
    found = _rules(pair.bad, pair.bad_final)
    assert pair.rule in found
    # A loss breaks two promises, an entry torn apart may break another: no more than that.
    assert found <= {pair.rule, "lost", "durable"}
    assert _rules(pair.legal, pair.legal_final) == set()


def test_pairs_cover_every_rule() -> None:
    assert {pair.rule for pair in PAIRS} == set(RULES)


def test_check_records_of_others_are_allowed_where_said_so() -> None:
    """A log that others append to: the same bytes twice, and no account of who put them there."""
    final = replace(FINAL, trimmed_below=1, start=1)
    seen = (Read(7, 8, "r", 0, ("x", "x")), Read(7, 8, "r", 0, Mark.TRIMMED))
    history = (*SOUND[1:], *seen)
    options = CheckOptions(appends_complete=False, trims_complete=False, own_prefix="mine-")
    others = replace(final, entries={1: ("b", "c"), 3: ("d",), 4: ("x",), 5: ("x",)}, tail=6)
    assert check(history, others, options=options) == []
    own = replace(others, entries={**others.entries, 4: ("mine-1",), 5: ("mine-1",)})
    assert {v.rule for v in check(history, own, options=options)} == {"invented", "once"}
    # What others hold is one value for ever, too.
    changed = Read(9, 10, "r", 4, ("y",))
    found = {v.rule for v in check((*history, changed), others, options=options)}
    assert found == {"one-value", "durable"}


def test_check_what_others_trimmed_is_excused_and_the_rest_is_not() -> None:
    options = CheckOptions(trims_complete=False)
    scan = Scan(7, 8, "s", (0, 0), (4, 0), (D,))
    assert check((*SOUND, scan), TRIMMED, options=options) == []
    short = replace(scan, items=())
    assert {v.rule for v in check((*SOUND, short), TRIMMED, options=options)} == {"scan"}
