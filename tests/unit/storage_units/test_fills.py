"""Fill at the head, FillList after it: one test per rule."""

from __future__ import annotations

from dataclasses import replace

import pytest

from corfu.effects import Persist, Send
from corfu.layout import Segment
from corfu.messages import (
    Copy,
    Entries,
    Entry,
    Fill,
    Filled,
    FillList,
    Forward,
    HeldOffset,
    Message,
    NotWritten,
    Reason,
    Refused,
    Write,
    WrongEpoch,
)
from corfu.storage_units.names import entry_digest
from corfu.storage_units.settings import UnitSettings
from corfu.types import JUNK_ID, Digest, Epoch, Offset, Range, State, UnitId
from tests.unit.storage_units.unit_bench import (
    CLIENT,
    LEADER,
    WINDOW_END,
    Bench,
    Chain,
    entry_id,
    fill,
    layout,
    read,
    unit_value,
    write,
)

TWO = layout(1, [1, 2])
THREE = layout(1, [1, 2, 3])
HEAD = unit_value(1).address
SECOND = unit_value(2).address


def held(message: Write) -> HeldOffset:
    return HeldOffset(message.offset, State.DATA, message.entry_id, entry_digest(message.entry))


def ranges(*pairs: tuple[int, int]) -> tuple[Range, ...]:
    return tuple(Range(Offset(start), Offset(end)) for start, end in pairs)


def filled(
    message: Fill,
    end: int,
    junk: tuple[Range, ...] = (),
    values: tuple[HeldOffset, ...] = (),
) -> Filled:
    return Filled(message.request, message.epoch, message.offset, Offset(end), junk, values)


def refused(message: Fill | FillList, reason: Reason) -> Refused:
    return Refused(message.request, message.epoch, message.offset, reason)


@pytest.fixture
def chain() -> Chain:
    return Chain.fresh(THREE)


def test_fill_of_empty_offset_is_junk_on_the_whole_chain(chain: Chain) -> None:
    message = fill(7)
    assert chain.reply(1, message) == filled(message, 8, ranges((7, 8)))
    for id_ in (1, 2, 3):
        assert chain[id_].unit.store.state(Offset(7)) is State.JUNK


def test_fill_of_held_offset_names_its_entry(chain: Chain) -> None:
    entry = write(7, 1)
    chain.give(1, entry)
    message = fill(7)
    assert chain.reply(1, message) == filled(message, 8, values=(held(entry),))


def test_fill_at_head_goes_down_as_a_list(chain: Chain) -> None:
    message = fill(7, 9)
    fill_list = FillList(
        message.request, Epoch(1), Offset(7), Offset(9), CLIENT, ranges((7, 9)), ()
    )
    assert chain[1].effects(message) == [Persist(), Send(SECOND, fill_list)]


def test_only_if_written_fill_at_empty_head_settles_nothing(chain: Chain) -> None:
    message = fill(7, only=True)
    answer = NotWritten(message.request, Epoch(1), Offset(7))
    assert chain.reply(1, message) == answer
    assert chain[1].unit.store.state(Offset(7)) is State.EMPTY


def test_only_if_written_fill_completes_a_half_written_offset(chain: Chain) -> None:
    chain.dropped.add((1, 2))
    entry = write(7, 1)
    assert chain.give(1, entry) == []
    chain.dropped.clear()
    message = fill(7, only=True)
    assert chain.reply(1, message) == filled(message, 8, values=(held(entry),))
    answer = chain.reply(3, read(7))
    assert isinstance(answer, Entries)
    assert answer.entries[0].entry == entry.entry


def test_range_fill_keeps_half_written_values_and_junks_the_rest(chain: Chain) -> None:
    """A later unit never junks where it is EMPTY: it copies what the head named."""
    whole, half = write(2, 1), write(4, 2)
    chain.give(1, whole)
    chain.dropped.add((1, 2))
    chain.give(1, half)
    chain.dropped.clear()
    message = fill(0, 6)
    expected = filled(message, 6, ranges((0, 2), (3, 4), (5, 6)), (held(whole), held(half)))
    assert chain.reply(1, message) == expected
    answer = chain.reply(3, read(0, 6))
    assert isinstance(answer, Entries)
    assert [each.state for each in answer.entries] == [
        *(State.JUNK, State.JUNK, State.DATA, State.JUNK, State.DATA, State.JUNK)
    ]
    assert answer.entries[4].entry == half.entry


def test_records_waiting_for_their_fsync_count_as_held(chain: Chain) -> None:
    entry = write(7, 1)
    chain[1].effects(entry)
    effects = chain[1].effects(fill(6, 9))
    last = effects[-1]
    assert isinstance(last, Send)
    assert isinstance(last.message, FillList)
    assert last.message.held == (held(entry),)
    assert last.ordered


def test_range_fill_ends_before_a_damaged_offset(chain: Chain) -> None:
    chain.give(1, write(2, 1))
    store = chain[1].unit.store
    store.mark_damaged(Offset(2), store.index.get(2), None)
    message = fill(0, 6)
    assert chain.reply(1, message) == filled(message, 2, ranges((0, 2)))
    beyond = fill(2, 6)
    assert chain.reply(1, beyond) == refused(beyond, Reason.DAMAGED)
    single = fill(2, only=True)
    assert chain.reply(1, single) == refused(single, Reason.DAMAGED)


def test_damaged_offset_at_later_unit_is_repaired_by_only_if_written_fill(chain: Chain) -> None:
    entry = write(2, 1)
    chain.give(1, entry)
    store = chain[3].unit.store
    store.mark_damaged(Offset(2), store.index.get(2), None)
    answer = chain.reply(3, read(2))
    assert isinstance(answer, Entries)
    assert answer.entries == (
        Entry(Offset(2), State.DAMAGED, entry.entry_id, entry_digest(entry.entry), b""),
    )
    message = fill(2, only=True)
    assert chain.reply(1, message) == filled(message, 3, values=(held(entry),))
    assert store.state(Offset(2)) is State.DATA


def test_fill_means_the_offsets_of_the_asked_chain() -> None:
    chain = Chain.fresh(layout(1, [1, 2], [3, 4], [5, 6]))
    message = fill(0, 10)
    # Offsets 1, 4 and 7 belong to the second chain: one run, though others lie between.
    assert chain.reply(3, message) == filled(message, 10, ranges((1, 8)))
    assert chain[4].unit.store.state(Offset(4)) is State.JUNK
    assert chain[4].unit.store.state(Offset(5)) is State.EMPTY


def test_run_of_junk_is_one_record(chain: Chain) -> None:
    places = chain[1].unit.store.index
    chain.give(1, fill(0, 500))
    assert len({places.get(offset) for offset in range(500)}) == 1


def test_fill_at_or_above_window_is_refused(chain: Chain) -> None:
    message = fill(0, WINDOW_END + 1)
    assert chain.reply(1, message) == refused(message, Reason.ABOVE_WINDOW)


def test_fill_below_first_offset_is_served() -> None:
    chain = Chain.fresh(layout(1, [1, 2]))
    chain.epoch(layout(2, [1, 2], first_offset=100))
    message = fill(0, 150, epoch=2)
    assert chain.reply(1, message) == filled(message, 150, ranges((0, 150)))


def test_fill_over_two_segments_is_malformed() -> None:
    one = (UnitId(1), UnitId(2))
    segments = (Segment(Offset(0), Offset(10), (one,)), Segment(Offset(10), None, (one, one[:0])))
    both = Segment(Offset(10), None, ((UnitId(1),), (UnitId(2),)))
    chain = Chain.fresh(layout(1, segments=(segments[0], both)))
    message = fill(5, 15)
    assert chain.reply(1, message) == refused(message, Reason.MALFORMED)


@pytest.mark.parametrize(
    "message", [fill(5, 5), fill(6, 5), replace(fill(5, 7), only_if_written=True)]
)
def test_fill_with_impossible_range_is_malformed(chain: Chain, message: Fill) -> None:
    assert chain.reply(1, message) == refused(message, Reason.MALFORMED)


def test_fill_at_later_unit_is_wrong_unit(chain: Chain) -> None:
    message = fill(5)
    assert chain.reply(2, message) == refused(message, Reason.WRONG_UNIT)


def test_trimmed_offsets_are_left_out_of_the_list(chain: Chain) -> None:
    for id_ in (1, 2, 3):
        chain[id_].give(chain[id_].trim_message(3, 4), LEADER)
    message = fill(0, 3)
    assert chain.reply(1, message) == filled(message, 3)


def test_long_fill_is_answered_in_parts() -> None:
    bench = Bench.fresh(1, UnitSettings(journal_file_bytes=16384, fill_offsets_max=10))
    bench.epoch(layout(1, [1]))
    message = fill(0, 25)
    assert bench.reply(message) == filled(message, 10, ranges((0, 10)))


def fill_list(
    junk: tuple[Range, ...] = (), values: tuple[HeldOffset, ...] = (), end: int = 20
) -> FillList:
    return FillList(fill(0).request, Epoch(1), Offset(0), Offset(end), CLIENT, junk, values)


def second() -> Bench:
    bench = Bench.fresh(2)
    bench.epoch(TWO)
    return bench


def test_list_from_another_than_the_unit_before_is_refused() -> None:
    message = fill_list(ranges((0, 5)))
    assert second().reply(message, unit_value(3).address) == refused(message, Reason.WRONG_UNIT)


def test_list_over_another_value_is_conflict() -> None:
    bench = second()
    entry = write(4, 1)
    forward = Forward(entry.request, Epoch(1), Offset(4), entry.entry_id, CLIENT, entry.entry)
    bench.give(forward, HEAD)
    message = fill_list(ranges((0, 5)))
    assert bench.reply(message, HEAD) == refused(message, Reason.CONFLICT)
    assert bench.unit.store.standing.frozen
    # Nothing of the list was applied.
    assert bench.unit.store.state(Offset(0)) is State.EMPTY


@pytest.mark.parametrize(
    "message",
    [
        fill_list(ranges((5, 3))),
        fill_list(ranges((3, 5), (4, 6))),
        fill_list(ranges((15, 25))),
        fill_list(values=(HeldOffset(Offset(3), State.DATA, JUNK_ID, Digest(0)),)),
        fill_list(values=(HeldOffset(Offset(3), State.JUNK, JUNK_ID, Digest(0)),)),
        fill_list(values=(HeldOffset(Offset(30), State.DATA, entry_id(1), Digest(0)),)),
        fill_list(ranges((3, 5)), (HeldOffset(Offset(4), State.LOST, JUNK_ID, Digest(0)),)),
    ],
)
def test_malformed_list_is_refused(message: FillList) -> None:
    assert second().reply(message, HEAD) == refused(message, Reason.MALFORMED)


def lacking() -> tuple[Bench, Write, FillList, Send]:
    """A second unit that has been handed a list with a value it lacks."""
    bench = second()
    entry = write(4, 1)
    message = fill_list(ranges((0, 4)), (held(entry),))
    (ask,) = bench.effects(message, HEAD)
    assert isinstance(ask, Send)
    assert isinstance(ask.message, Copy)
    assert ask.to == HEAD
    assert ask.message.offsets == (4,)
    return bench, entry, message, ask


def entries(ask: Message, *found: Entry) -> Entries:
    assert isinstance(ask, Copy)
    return Entries(ask.request, ask.epoch, ask.offset, Offset(5), Offset(0), found)


def test_value_that_lacks_is_copied_before_anything_is_answered() -> None:
    bench, entry, message, ask = lacking()
    assert bench.unit.store.state(Offset(0)) is State.EMPTY
    name = held(entry)
    found = Entry(Offset(4), State.DATA, name.entry_id, name.digest, entry.entry)
    answer = Filled(message.request, Epoch(1), Offset(0), Offset(20), message.junk, message.held)
    assert bench.effects(entries(ask.message, found), HEAD) == [Persist(), Send(CLIENT, answer)]
    assert bench.unit.store.state(Offset(0)) is State.JUNK


def test_copied_value_with_other_bytes_is_not_taken() -> None:
    bench, entry, _, ask = lacking()
    name = held(entry)
    forged = Entry(Offset(4), State.DATA, name.entry_id, name.digest, b"forged")
    assert bench.effects(entries(ask.message, forged), HEAD) == []
    assert bench.unit.store.state(Offset(4)) is State.EMPTY


def test_pending_fill_dies_unanswered_at_seal() -> None:
    bench, entry, _, ask = lacking()
    bench.give(bench.seal_message(2), LEADER)
    name = held(entry)
    found = Entry(Offset(4), State.DATA, name.entry_id, name.digest, entry.entry)
    assert bench.effects(entries(ask.message, found), HEAD) == []
    assert bench.unit.store.state(Offset(4)) is State.EMPTY


def test_pending_fill_is_given_up_after_its_time() -> None:
    bench, _, _, _ = lacking()
    bench.now = 11.0
    assert bench.unit.deadline == 10.0
    bench.unit.tick(bench.now)
    assert bench.unit.deadline == 60.0, "the first scrub alone"


def test_list_retransmitted_asks_again_for_what_still_lacks() -> None:
    bench, _, message, ask = lacking()
    (again,) = bench.effects(message, HEAD)
    assert isinstance(again, Send)
    assert isinstance(again.message, Copy)
    assert again.message.request != ask.message.request
    assert again.message.offsets == (4,)


def test_late_fill_and_list_of_an_old_epoch_change_nothing() -> None:
    bench = second()
    bench.epoch(layout(3, [2], first_offset=100))
    for message in (fill(5), fill_list(ranges((0, 5)))):
        answer = bench.reply(message, HEAD)
        assert answer == WrongEpoch(message.request, Epoch(3), message.offset)
    assert bench.unit.store.local_tail == 0


def test_fill_of_old_entries_reads_their_names_back() -> None:
    settings = UnitSettings(journal_file_bytes=16384, cache_bytes_max=0)
    bench = Bench.fresh(1, settings)
    bench.epoch(layout(1, [1]))
    stored = [write(offset, offset + 1) for offset in range(20)]
    for entry in stored:
        bench.give(entry)
    bench.give(bench.probe_message(closed_until=20), LEADER)
    message = fill(0, 20)
    answer = bench.reply(message)
    assert answer == filled(message, 20, values=tuple(held(entry) for entry in stored))
