"""The history checker: sound histories pass, every planted kind of bad one is flagged."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest

from corfu.tools.check import check
from corfu.tools.check_options import CheckOptions, LostChain
from corfu.tools.history import HistoryFormatError, decode_history, encode_history
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
    Stamps,
    Tail,
    Trim,
)
from corfu.tools.sightings import RULES

FINAL = FinalLog(
    entries={4: ("e0", "e1"), 5: ("f",), 7: ("h",), 9: ("j",)},
    tail=10,
    junk=frozenset({6, 8}),
    trimmed_below=4,
)


def append(
    start: float,
    end: float | None,
    places: dict[str, Place | None],
    client: str = "w",
    **more: bool,
) -> Append:
    outcome = Outcome.UNKNOWN if None in places.values() else Outcome.APPENDED
    where = tuple(places.values())
    return Append(start, end, client, tuple(places), where, outcome, more.get("ordered", False))


def refused(start: float, end: float, record: str) -> Append:
    return Append(start, end, "w", (record,), (None,), Outcome.NOT_APPENDED)


def read(start: float, end: float, offset: int, seen: tuple[str, ...] | Mark) -> Read:
    return Read(start, end, "r", offset, seen)


def tail(start: float, end: float, offset: int) -> Tail:
    return Tail(start, end, "t", offset)


SOUND: tuple[Operation, ...] = (
    append(1, 2, {"a": (0, 0)}),
    append(1, 2.5, {"b": (1, 0)}, "v"),
    read(1.5, 1.9, 2, Mark.UNWRITTEN),
    tail(3, 3.1, 2),
    append(3.2, 4, {"c": (2, 0), "d": (3, 0)}),
    append(5, 6, {"e0": (4, 0)}),
    append(5, 6, {"e1": (4, 1)}, "v"),
    append(6.1, None, {"f": None}),
    read(7, 7.5, 5, ("f",)),
    Read(7, 7.5, "r", 4, ("e1",), 1),
    append(8, 9, {"gone": None}),
    Fill(8, 9, "q", 6, Mark.JUNK),
    append(9.5, 10, {"h": (7, 0)}, ordered=True),
    refused(10.5, 11, "i"),
    append(11.5, 12, {"j": (9, 0)}, ordered=True),
    read(12, 13, 8, Mark.JUNK),
    Scan(13, 14, "r", (0, 0), (10, 0), (
        ((0, 0), "a"), ((1, 0), "b"), ((2, 0), "c"), ((3, 0), "d"), ((4, 0), "e0"),
        ((4, 1), "e1"), ((5, 0), "f"), ((7, 0), "h"), ((9, 0), "j"),
    )),
    Trim(14, 15, "q", 4, 4),
    read(15.5, 16, 3, Mark.TRIMMED),
    Read(15.5, 16, "r", 3, ("d",), cached=True),
    Scan(15.5, 16, "r", (0, 0), (6, 0), (((4, 0), "e0"), ((4, 1), "e1"), ((5, 0), "f"))),
    tail(17, 18, 10),
    Tail(17, 18, "t", 3, confirmed=False),
)  # fmt: skip


@dataclass(frozen=True)
class Bad:
    """A sound history with one thing wrong, and the rule that must flag it."""

    name: str
    rule: str
    add: tuple[Operation, ...] = ()
    final: dict[str, object] = field(default_factory=dict)


def _with(entries: dict[int, tuple[str, ...]]) -> dict[str, object]:
    return {"entries": {**FINAL.entries, **entries}}


def _without(offset: int) -> dict[str, object]:
    return {"entries": {at: each for at, each in FINAL.entries.items() if at != offset}}


PLANTED = (
    Bad("acked_append_missing", "durable", final=_without(7) | {"junk": frozenset({6, 7, 8})}),
    Bad("acked_append_elsewhere", "one-value", final=_with({7: ("j",), 9: ("h",)})),
    Bad("acked_append_beyond_the_tail", "tail", final=_without(9) | {"tail": 9}),
    Bad("hole_at_the_end", "final", final=_without(7)),
    Bad("entry_past_the_tail", "final", final=_with({12: ("x",)})),
    Bad("junk_read_where_data_is", "one-value", (read(8, 9, 5, Mark.JUNK),)),
    Bad("data_read_where_junk_is", "one-value", (append(8, 9, {"x": (6, 0)}),)),
    Bad("other_value_read", "one-value", (append(8, 9, {"x": None}), read(8, 9, 5, ("x",)))),
    Bad("other_value_read_trimmed_since", "one-value",
        (append(2, 9, {"x": None}), read(8, 9, 2, ("x",)))),
    Bad("entry_shorter", "one-value", (read(8, 9, 4, ("e0",)),)),
    Bad("junk_seen_then_data", "one-value", (read(5, 5.5, 7, Mark.JUNK),)),
    Bad("unknown_append_twice", "once",
        (append(8, None, {"g": None}),), _with({6: ("g",), 8: ("g",)}) | {"junk": frozenset()}),
    Bad("refused_append_in_the_log", "refused",
        (refused(7, 9, "g"),), _with({6: ("g",)}) | {"junk": frozenset({8})}),
    Bad("record_nobody_appended", "invented", (), _with({8: ("x",)}) | {"junk": frozenset({6})}),
    Bad("later_append_at_lower_offset", "real-time",
        (append(12.5, 13, {"g": (8, 0)}),), _with({8: ("g",)}) | {"junk": frozenset({6})}),
    Bad("later_append_joins_a_written_entry", "real-time",
        (append(12.5, 13, {"k": (9, 1)}),), _with({9: ("j", "k")})),
    Bad("later_unknown_append_at_lower_offset", "real-time",
        (append(12.5, 13, {"g": None}),), _with({8: ("g",)}) | {"junk": frozenset({6})}),
    Bad("value_seen_before_its_append_began", "real-time", (read(5, 5.5, 9, ("j",)),)),
    Bad("records_of_one_call_swapped", "many-order",
        (append(9, 12, {"y": (10, 0), "x": (8, 0)}),),
        _with({8: ("x",), 10: ("y",)}) | {"junk": frozenset({6}), "tail": 11}),
    Bad("half_of_an_entry", "batch",
        (Append(8, 9, "w", ("g", "x"), (None, None), Outcome.UNKNOWN, entries=(2,)),),
        _with({8: ("g",)}) | {"junk": frozenset({6})}),
    Bad("ordered_client_swapped", "call-order",
        (append(9.2, 13, {"k": None}, ordered=True), append(9.3, 14, {"l": None}, ordered=True)),
        _with({10: ("l",), 11: ("k",)}) | {"tail": 12}),
    Bad("tail_below_an_acked_append", "tail", (tail(13, 14, 9),)),
    Bad("tail_falls", "tail", (tail(3.11, 3.12, 3), tail(3.15, 3.16, 2))),
    Bad("append_below_a_tail", "tail",
        (tail(6.9, 7, 9), append(8, 9, {"x": (8, 0)})), _with({8: ("x",)}) | {
            "junk": frozenset({6})}),
    Bad("tail_above_the_final_one", "tail", (tail(13, 14, 11),)),
    Bad("tail_below_a_trim_mark", "tail", (tail(15.1, 15.2, 3),)),
    Bad("unwritten_after_the_ack", "unwritten", (read(12.5, 13, 9, Mark.UNWRITTEN),)),
    Bad("unwritten_after_it_was_seen", "unwritten", (read(7.6, 8, 5, Mark.UNWRITTEN),)),
    Bad("unwritten_below_a_tail", "unwritten",
        (tail(6.15, 6.2, 6), read(6.3, 6.4, 5, Mark.UNWRITTEN))),
    Bad("fill_leaves_it_unwritten", "fill", (Fill(8, 9, "q", 9, Mark.UNWRITTEN),)),
    Bad("fill_says_junk_of_data", "one-value", (Fill(8, 9, "q", 5, Mark.JUNK),)),
    Bad("scan_with_a_gap", "scan",
        (Scan(13, 14, "r", (4, 1), (8, 0), (((4, 1), "e1"), ((7, 0), "h"))),)),
    Bad("scan_without_the_end", "scan", (Scan(13, 14, "r", (5, 0), (8, 0), (((5, 0), "f"),)),)),
    Bad("scan_out_of_order", "scan",
        (Scan(13, 14, "r", (5, 0), (8, 0), (((7, 0), "h"), ((5, 0), "f"))),)),
    Bad("scan_gives_one_twice", "scan",
        (Scan(13, 14, "r", (5, 0), (6, 0), (((5, 0), "f"), ((5, 0), "f"))),)),
    Bad("scan_beyond_its_bounds", "scan",
        (Scan(13, 14, "r", (5, 0), (6, 0), (((5, 0), "f"), ((7, 0), "h"))),)),
    Bad("scan_skips_before_any_trim", "scan", (Scan(12, 13, "r", (3, 0), (4, 0), ()),)),
    Bad("value_after_trim_returned", "trim", (read(15.5, 16, 3, ("d",)),)),
    Bad("value_scanned_after_trim_returned", "trim",
        (Scan(15.5, 16, "r", (3, 0), (4, 0), (((3, 0), "d"),)),)),
    Bad("mark_falls", "trim", (Trim(16, 17, "q", 3, 3),)),
    Bad("mark_fallen_at_the_end", "trim", final=_with(
        {3: ("d",)}) | {"trimmed_below": 3}),
    Bad("trimmed_though_no_trim", "untrimmed", (read(13, 14, 5, Mark.TRIMMED),)),
    Bad("trimmed_before_the_trim_began", "untrimmed", (read(13, 13.5, 3, Mark.TRIMMED),)),
    Bad("final_log_trimmed_too_far", "untrimmed", final=_without(4) | {"trimmed_below": 5}),
    Bad("lost_not_allowed", "lost", (read(13, 14, 6, Mark.LOST),)),
    Bad("lost_in_the_final_log", "lost", final={"junk": frozenset({6}), "lost": ((8, 9),)}),
    Bad("junk_vanished", "durable", (), _with({}) | {"junk": frozenset({8}), "lost": ((6, 7),)}),
    Bad("appended_without_position", "history",
        (Append(1, 2, "w", ("x",), (None,), Outcome.APPENDED),)),
    Bad("record_appended_twice", "history", (append(1, 2, {"a": (0, 0)}),)),
)  # fmt: skip


def test_check_sound_history_passes() -> None:
    assert check(SOUND, FINAL) == []


def test_check_empty_history_passes() -> None:
    assert check((), FinalLog({}, 0)) == []


@pytest.mark.parametrize("bad", PLANTED, ids=lambda bad: bad.name)
def test_check_planted_history_is_flagged_by_its_rule(bad: Bad) -> None:
    found = check((*SOUND, *bad.add), replace(FINAL, **bad.final))  # type: ignore[arg-type]
    assert bad.rule in {each.rule for each in found}
    assert all(str(each).startswith(f"{each.rule}: ") for each in found)


def test_planted_histories_cover_every_rule() -> None:
    assert {bad.rule for bad in PLANTED} == set(RULES)


def test_check_violation_names_the_operations() -> None:
    (found,) = check((*SOUND, tail(13, 14, 9)), FINAL)
    assert found.operations == (14, len(SOUND))
    assert str(found) == (
        "tail: the tail was 10 before, 9 is too low: "
        f"#14 append of j at 9.0 by w [11.500000, 12.000000]; "
        f"#{len(SOUND)} tail -> 9 by t [13.000000, 14.000000]"
    )


def test_check_overlapping_operations_may_take_either_order() -> None:
    history = (
        append(1, 5, {"a": (1, 0)}),
        append(2, 4, {"b": (0, 0)}),
        tail(1, 3, 2),
        read(1, 5, 0, Mark.UNWRITTEN),
        tail(2, 3, 0),
    )
    assert check(history, FinalLog({0: ("b",), 1: ("a",)}, 2)) == []


def test_check_follow_from_above_the_tail_that_gave_nothing_shows_nothing() -> None:
    waiting = Scan(0, 20, "f", (99, 0), (99, 0), ())
    assert check((*SOUND, waiting), FINAL) == []
    given = replace(waiting, items=(((99, 0), "a"),))
    assert "scan" in {each.rule for each in check((*SOUND, given), FINAL)}


def test_check_lost_when_allowed_excuses_exactly_those_offsets() -> None:
    options = CheckOptions(allow_lost=True)
    final = replace(FINAL, entries={4: ("e0", "e1"), 5: ("f",), 7: ("h",)}, lost=((9, 10),))
    lost = read(15, 16, 9, Mark.LOST)
    assert check((*SOUND, lost), final, options=options) == []
    back = read(17, 18, 9, ("j",))
    assert [v.rule for v in check((*SOUND, lost, back), final, options=options)] == ["lost"]
    assert [v.rule for v in check((*SOUND, lost), FINAL, options=options)] == ["lost"]
    also = replace(final, entries={4: ("e0", "e1"), 7: ("h",)}, junk=frozenset({5, 6, 8}))
    assert "durable" in {v.rule for v in check(SOUND, also, options=options)}


def test_check_lost_with_an_abandoned_chain_excuses_its_offsets_from_then_on() -> None:
    gone = LostChain(start=0, end=8, chains=2, chain=1, since=20.0)
    options = CheckOptions(lost_chains=(gone,))
    kept = {4: ("e0", "e1"), 9: ("j",)}
    final = replace(FINAL, entries=kept, lost=((5, 6), (7, 8)))
    later = Scan(30, 31, "s", (4, 0), (10, 0), tuple((p, r) for p, r in _places(kept)))
    assert check((*SOUND, read(25, 26, 5, Mark.LOST), later), final, options=options) == []
    # What is lost may be trimmed by the end.
    trimmed = replace(final, entries={9: ("j",)}, junk=frozenset({8}), trimmed_below=8, lost=())
    trim = Trim(40, 41, "s", 8, 8)
    assert check((*SOUND, later, trim), trimmed, options=options) == []
    # Before the disks went, and of other chains, nothing may lack.
    sooner = replace(later, invoked=18, completed=19)
    assert {v.rule for v in check((*SOUND, sooner), final, options=options)} == {"scan"}
    other = replace(final, entries={9: ("j",)}, lost=((4, 6), (7, 8)))
    assert "durable" in {v.rule for v in check(SOUND, other, options=options)}
    assert "durable" in {v.rule for v in check(SOUND, final)}


def _places(entries: dict[int, tuple[str, ...]]) -> list[tuple[Place, str]]:
    return [((o, i), r) for o, records in entries.items() for i, r in enumerate(records)]


def test_check_partial_history_options_excuse_the_unrecorded() -> None:
    history = (read(1, 2, 0, ("a",)), read(1, 2, 1, Mark.TRIMMED))
    final = FinalLog({5: ("x",)}, 7, trimmed_below=4)
    options = CheckOptions(appends_complete=False, trims_complete=False, holes_closed=False)
    assert check(history, final, options=options) == []
    assert {each.rule for each in check(history, final)} == {"invented", "untrimmed", "final"}


def test_check_many_violations_of_one_rule_are_bounded() -> None:
    history = [read(2, 3, 0, Mark.JUNK) for _ in range(2)]
    history += [read(4, 5, 0, Mark.UNWRITTEN) for _ in range(100)]
    found = check(history, FinalLog({}, 1, frozenset({0})), options=CheckOptions(each_max=7))
    assert [each.rule for each in found] == ["unwritten"] * 7


def test_history_encoded_and_decoded_is_the_same() -> None:
    lines = list(encode_history((*SOUND, *(each for bad in PLANTED for each in bad.add)), FINAL))
    assert all("\n" not in line for line in lines)
    history, final = decode_history(lines)
    assert tuple(history) == (*SOUND, *(each for bad in PLANTED for each in bad.add))
    assert final == FINAL
    assert decode_history(encode_history(SOUND, None)) == (list(SOUND), None)


def test_history_long_final_log_is_split_and_joined() -> None:
    final = FinalLog({offset: (f"r{offset}",) for offset in range(2500)}, 2500, lost=((1, 2),))
    lines = list(encode_history((), final))
    assert len(lines) == 4
    assert decode_history(lines) == ([], final)


@pytest.mark.parametrize(
    "line",
    [
        "not json",
        "[]",
        '{"op":"jump","invoked":1,"completed":2,"client":"c"}',
        '{"op":"tail","invoked":1,"completed":2,"client":"c"}',
        '{"op":"tail","invoked":NaN,"completed":2,"client":"c","offset":1,"confirmed":true}',
        '{"op":"tail","invoked":3,"completed":2,"client":"c","offset":1,"confirmed":true}',
        '{"op":"read","invoked":1,"completed":2,"client":"c","offset":1,"seen":"gone",'
        '"index":null,"cached":false}',
        '{"op":"append","invoked":1,"completed":2,"client":"c","records":["a"],"places":[],'
        '"outcome":"appended","ordered":false}',
    ],
)
def test_history_bad_line_raises_with_its_number(line: str) -> None:
    with pytest.raises(HistoryFormatError, match="line 2"):
        decode_history(["", line])


def test_history_entries_without_final_raises() -> None:
    with pytest.raises(HistoryFormatError, match="missing"):
        decode_history(['{"op":"entries","entries":[[1,["a"]]]}'])


def test_stamps_of_equal_times_rise() -> None:
    stamps = Stamps()
    given = [stamps.stamp(now) for now in (0.0, 1.0, 1.0, 1.0, 0.5, 2.0)]
    assert given == sorted(set(given))
    assert given[-1] == 2.0


def test_lost_offset_never_shown_is_allowed_where_said_so() -> None:
    """A torn write that nobody was told of may be lost; an acknowledged one may not."""
    unknown = Append(1.0, 2.0, "a", ("r",), (None,), Outcome.UNKNOWN)
    acknowledged = Append(1.0, 2.0, "a", ("r",), ((0, 0),))
    final = FinalLog(entries={}, tail=1, lost=((0, 1),))
    options = CheckOptions(allow_lost_unshown=True)
    assert check([unknown], final, options=options) == []
    assert check([unknown], final) != []
    assert {v.rule for v in check([acknowledged], final, options=options)} == {"durable"}


def test_check_scan_to_the_tail_may_step_over_what_was_lost_with_a_chain_trimmed_later() -> None:
    one = Append(1, 2, "a", ("x",), ((0, 0),))
    two = Append(3, 4, "a", ("y",), ((1, 0),))
    scan = Scan(10, 11, "s", (0, 0), (0, 1), (((0, 0), "x"),), to_tail=True)
    trim = Trim(12, 13, "t", 2, 2)
    final = FinalLog(entries={}, tail=2, trimmed_below=2)
    gone = LostChain(start=0, end=4, chains=2, chain=1, since=5.0)
    history = (one, two, scan, trim)
    assert check(history, final, options=CheckOptions(lost_chains=(gone,))) == []
    assert {v.rule for v in check(history, final)} == {"scan"}
