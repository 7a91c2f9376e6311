"""Write at the head, Forward after it: one test per rule."""

from __future__ import annotations

from dataclasses import replace

import pytest

from corfu.effects import Persist, Send
from corfu.journal.execute import execute_all
from corfu.messages import (
    AlreadyWritten,
    Entries,
    Forward,
    Inspected,
    Message,
    Reason,
    Refused,
    Write,
    Written,
    WrongEpoch,
)
from corfu.messages.units import Inspect
from corfu.storage_units.settings import UnitSettings
from corfu.types import JUNK_ID, OFFSET_MAX, Address, Digest, Epoch, Offset, State
from tests.unit.storage_units.unit_bench import (
    CLIENT,
    LEADER,
    SETTINGS,
    Bench,
    Chain,
    entry_id,
    fill,
    layout,
    read,
    request,
    unit_value,
    write,
)

ONE = layout(1, [1])
TWO = layout(1, [1, 2])
THREE = layout(1, [1, 2, 3])
HEAD = unit_value(1).address
SECOND = unit_value(2).address


def forward(message: Write) -> Forward:
    return Forward(
        message.request, message.epoch, message.offset, message.entry_id, CLIENT, message.entry
    )


def written(message: Write) -> Written:
    return Written(message.request, message.epoch, message.offset, message.entry_id)


def refused(message: Write, reason: Reason) -> Refused:
    return Refused(message.request, message.epoch, message.offset, reason)


@pytest.fixture
def head() -> Bench:
    bench = Bench.fresh(1)
    bench.epoch(TWO)
    return bench


@pytest.fixture
def second() -> Bench:
    bench = Bench.fresh(2)
    bench.epoch(TWO)
    return bench


def test_write_at_head_is_stored_then_forwarded(head: Bench) -> None:
    message = write(7, 1)
    assert head.effects(message) == [Persist(), Send(SECOND, forward(message))]


def test_forward_at_tail_unit_is_stored_then_answered_to_client(second: Bench) -> None:
    message = write(7, 1)
    assert second.effects(forward(message), HEAD) == [Persist(), Send(CLIENT, written(message))]


def test_write_in_chain_of_one_is_answered_by_the_only_unit() -> None:
    bench = Bench.fresh(1)
    bench.epoch(ONE)
    message = write(0, 1)
    assert bench.effects(message) == [Persist(), Send(CLIENT, written(message))]


def test_write_through_chain_of_three_is_held_by_all() -> None:
    chain = Chain.fresh(THREE)
    message = write(3, 9)
    assert chain.reply(1, message) == written(message)
    for id_ in (1, 2, 3):
        inspected = chain[id_].reply(Inspect(request(), Offset(0), Offset(10)))
        assert isinstance(inspected, Inspected)
        assert [each.offset for each in inspected.offsets] == [3]
        assert inspected.offsets[0].entry_id == entry_id(9)
        assert inspected.offsets[0].length == len(b"entry 9")


def test_same_entry_again_is_forwarded_again_and_waits_for_the_pending_record(
    head: Bench,
) -> None:
    message = write(7, 1)
    head.effects(message)
    again = head.effects(message)
    # Ordered: the first one's record is not committed yet.
    assert again == [Send(SECOND, forward(message), ordered=True)]


def test_other_entry_at_held_offset_is_already_written_ordered(head: Bench) -> None:
    head.effects(write(7, 1))
    other = write(7, 2)
    answer = AlreadyWritten(other.request, Epoch(1), Offset(7), entry_id(1), State.DATA)
    assert head.effects(other) == [Send(CLIENT, answer, ordered=True)]


def test_same_id_with_other_bytes_is_conflict_and_alarms(head: Bench) -> None:
    head.give(write(7, 1))
    other = write(7, 1, entry=b"forged")
    assert head.reply(other) == refused(other, Reason.CONFLICT)
    assert head.alarms


def test_write_at_junk_is_already_written_junk(head: Bench) -> None:
    head.give(fill(7))
    message = write(7, 1)
    assert head.reply(message) == AlreadyWritten(
        message.request, Epoch(1), Offset(7), JUNK_ID, State.JUNK
    )


def test_write_below_trim_mark_is_already_written_trimmed(head: Bench) -> None:
    head.give(write(3, 1))
    head.give(head.trim_message(5, 10), LEADER)
    message = write(3, 1)
    assert head.reply(message) == AlreadyWritten(
        message.request, Epoch(1), Offset(3), JUNK_ID, State.TRIMMED
    )


def test_write_of_other_epoch_is_wrong_epoch_before_anything_else(head: Bench) -> None:
    head.give(write(7, 1))
    late = write(7, 2, epoch=3)
    assert head.reply(late) == WrongEpoch(late.request, Epoch(1), Offset(7))


def test_write_at_later_unit_is_wrong_unit(second: Bench) -> None:
    message = write(7, 1)
    assert second.reply(message) == refused(message, Reason.WRONG_UNIT)


def test_write_for_another_chain_is_wrong_unit() -> None:
    bench = Bench.fresh(1)
    bench.epoch(layout(1, [1, 2], [3, 4]))
    message = write(7, 1)
    assert bench.reply(message) == refused(message, Reason.WRONG_UNIT)
    assert isinstance(bench.give(write(8, 2))[0].message, Forward)


def test_write_below_first_offset_is_refused() -> None:
    bench = Bench.fresh(1)
    bench.epoch(layout(2, [1], first_offset=10))
    message = write(9, 1, epoch=2)
    assert bench.reply(message) == refused(message, Reason.BELOW_FIRST_OFFSET)


def test_write_above_window_is_refused(head: Bench) -> None:
    message = replace(write(6000, 1), window_end=Offset(100))
    assert head.reply(message) == refused(message, Reason.ABOVE_WINDOW)


def test_window_of_a_token_is_believed_one_window_ahead_only(head: Bench) -> None:
    far = replace(write(2**40, 1), window_end=Offset(2**41))
    assert head.reply(far) == refused(far, Reason.ABOVE_WINDOW)
    near = replace(write(6000, 1), window_end=Offset(6001))
    assert isinstance(head.reply(near), Forward)


def test_write_with_impossible_fields_is_malformed(head: Bench) -> None:
    for message in (
        replace(write(0, 1), entry_id=JUNK_ID),
        replace(write(0, 1), offset=OFFSET_MAX),
        replace(write(0, 1), entry=bytes(SETTINGS.journal_file_bytes)),
    ):
        assert head.reply(message) == refused(message, Reason.MALFORMED)


def test_forward_from_another_than_the_unit_before_is_refused(second: Bench) -> None:
    message = write(7, 1)
    for sender in (CLIENT, unit_value(3).address, Address("10.0.1.1", 1)):
        answer = second.give(forward(message), sender)
        assert answer == [Send(CLIENT, refused(message, Reason.WRONG_UNIT), ordered=False)]


def test_forward_of_other_value_freezes_and_keeps_serving_reads(second: Bench) -> None:
    first = write(7, 1)
    second.give(forward(first), HEAD)
    other = write(7, 2)
    assert second.reply(forward(other), HEAD) == refused(other, Reason.CONFLICT)
    assert second.alarms
    later = write(8, 3)
    assert second.reply(forward(later), HEAD) == refused(later, Reason.CONFLICT)
    entries = second.reply(read(7))
    assert isinstance(entries, Entries)
    assert entries.entries[0].entry == first.entry
    # A retransmission of what it holds is no new value.
    assert second.reply(forward(first), HEAD) == written(first)


def test_frozen_unit_is_frozen_after_restart(second: Bench) -> None:
    second.give(forward(write(7, 1)), HEAD)
    second.give(forward(write(7, 2)), HEAD)
    second.start()
    assert second.unit.store.standing.frozen


def test_forward_of_same_value_again_is_answered_again(second: Bench) -> None:
    message = write(7, 1)
    second.give(forward(message), HEAD)
    assert second.effects(forward(message), HEAD) == [Send(CLIENT, written(message))]


def test_late_forward_of_old_epoch_over_junk_changes_nothing(second: Bench) -> None:
    second.epoch(layout(2, [2], first_offset=100))
    second.give(fill(7, epoch=2))
    late = write(7, 1, epoch=1)
    assert second.reply(forward(late), HEAD) == WrongEpoch(late.request, Epoch(2), Offset(7))
    assert not second.unit.store.standing.frozen


def test_forward_and_reply_keep_the_epoch_and_layout_that_admitted_them(head: Bench) -> None:
    """Admitted in epoch 1, committed after epoch 2 made this unit the tail unit."""
    message = write(7, 1)
    effects = head.effects(message)
    head.give(head.seal_message(2), LEADER)
    head.install(layout(2, [1], first_offset=100))
    assert effects == [Persist(), Send(SECOND, forward(message))]


def test_write_handled_after_seal_is_refused(head: Bench) -> None:
    head.effects(head.seal_message(2), LEADER)
    message = write(7, 1)
    assert head.effects(message)[-1] == Send(
        CLIENT, WrongEpoch(message.request, Epoch(2), Offset(7))
    )


def test_backlog_above_its_bound_is_busy_and_held_entries_are_forwarded() -> None:
    bench = Bench.fresh(1, replace(SETTINGS, backlog_bytes_max=1500))
    bench.epoch(TWO)
    first = write(0, 1, entry=bytes(1000))
    bench.effects(first)
    second = write(1, 2, entry=bytes(1000))
    assert bench.effects(second) == [Send(CLIENT, refused(second, Reason.BUSY), ordered=False)]
    assert bench.effects(first) == [Send(SECOND, forward(first))]
    bench.commit()
    assert bench.effects(second)[-1] == Send(SECOND, forward(second))


def fill_up(bench: Bench) -> tuple[list[Write], Message]:
    """Write until the unit refuses; no spare is allocated any more."""
    bench.unit.free_bytes = 0
    stored: list[Write] = []
    for number in range(1, 200):
        message = write(number, number, entry=bytes(1000))
        effects = bench.effects(message)
        execute_commit(bench)
        last = effects[-1]
        assert isinstance(last, Send)
        if isinstance(last.message, Refused):
            return stored, last.message
        stored.append(message)
    raise AssertionError("never full")


def execute_commit(bench: Bench) -> None:
    operations = bench.unit.journal.cut()
    if operations:
        execute_all(bench.disk, operations)
        bench.unit.journal.committed()


def test_full_disk_refuses_writes_one_file_early_and_still_settles(head: Bench) -> None:
    stored, refusal = fill_up(head)
    assert isinstance(refusal, Refused)
    assert refusal.reason is Reason.NO_SPACE
    # What is held is forwarded also when full.
    assert head.effects(stored[0])[-1] == Send(SECOND, forward(stored[0]))
    # Junk, trim marks, seals and installs use the reserve.
    assert head.effects(fill(1000, 1010))[0] == Persist()
    assert head.effects(head.trim_message(1, 1), LEADER)[0] == Persist()
    assert head.effects(head.seal_message(2), LEADER)[0] == Persist()
    assert head.effects(head.install_message(layout(2, [1])), LEADER)[0] == Persist()
    execute_commit(head)


def test_missing_spare_alone_is_busy_not_no_space(head: Bench) -> None:
    fill_up(head)
    head.unit.free_bytes = 1 << 30
    message = write(4000, 9, entry=bytes(1000))
    assert head.effects(message)[-1] == Send(CLIENT, refused(message, Reason.BUSY), ordered=False)


def test_names_of_closed_entries_are_read_back_for_late_retransmissions() -> None:
    bench = Bench.fresh(1, UnitSettings(journal_file_bytes=16384, cache_bytes_max=0))
    bench.epoch(TWO)
    message = write(7, 1)
    bench.give(message)
    bench.give(bench.probe_message(closed_until=100), LEADER)
    bench.give(write(200, 2))
    assert [send.message for send in bench.give(message)] == [forward(message)]
    other = write(7, 3)
    answer = AlreadyWritten(other.request, Epoch(1), Offset(7), entry_id(1), State.DATA)
    assert bench.reply(other) == answer


def test_write_at_empty_offset_below_closed_until_is_damaged(head: Bench) -> None:
    head.give(head.probe_message(closed_until=100), LEADER)
    message = write(7, 1)
    assert head.reply(message) == refused(message, Reason.DAMAGED)


def test_inspect_names_id_digest_and_length(head: Bench) -> None:
    head.give(write(7, 1, entry=b""))
    inspected = head.reply(Inspect(request(), Offset(7), Offset(8)))
    assert isinstance(inspected, Inspected)
    assert inspected.offsets[0].digest != Digest(0)
    assert inspected.offsets[0].length == 0
