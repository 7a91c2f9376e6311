"""Persisting along the chain in parallel: one test per rule of design section 13."""

from __future__ import annotations

from dataclasses import replace

import pytest

from corfu.config import NOTICE_ENTRIES_MAX
from corfu.effects import Effect, Persist, Send
from corfu.journal.execute import execute_all
from corfu.messages import (
    Copy,
    Durable,
    Entries,
    Entry,
    Filled,
    FillList,
    Forward,
    HeldOffset,
    Inspect,
    Inspected,
    InspectedOffset,
    Reason,
    Refused,
    Sealed,
    Write,
    Written,
)
from corfu.storage_units.index import cell_place
from corfu.storage_units.index_file import index_name
from corfu.storage_units.names import entry_digest
from corfu.types import Address, Epoch, Incarnation, Offset, Range, RequestId, State
from tests.unit.storage_units.unit_bench import (
    CLIENT,
    LEADER,
    SETTINGS,
    Bench,
    Chain,
    fill,
    layout,
    read,
    request,
    unit_value,
    write,
)

PARALLEL = replace(SETTINGS, parallel_persist=True)
THREE = layout(1, [1, 2, 3])
HEAD, MIDDLE, TAIL = (unit_value(number).address for number in (1, 2, 3))


def bench(number: int) -> Bench:
    made = Bench.fresh(number, PARALLEL)
    made.epoch(THREE)
    return made


@pytest.fixture
def head() -> Bench:
    return bench(1)


@pytest.fixture
def middle() -> Bench:
    return bench(2)


@pytest.fixture
def tail() -> Bench:
    return bench(3)


def forward(message: Write, *, durable_above: bool = False) -> Forward:
    return Forward(
        message.request,
        message.epoch,
        message.offset,
        message.entry_id,
        CLIENT,
        message.entry,
        durable_above,
    )


def at_once(to: Address, message: Write) -> Send:
    return Send(to, forward(message), ordered=False)


def notice(*messages: Write, epoch: int = 1) -> Durable:
    entries = tuple((each.offset, each.entry_id) for each in messages)
    return Durable(request(), Epoch(epoch), entries[0][0], entries)


def written(message: Write) -> Written:
    return Written(message.request, message.epoch, message.offset, message.entry_id)


def acknowledged(message: Write) -> Send:
    return Send(CLIENT, written(message), ordered=False)


def same(sends: list[Effect], *wanted: tuple[Address, Durable]) -> bool:
    """Tell whether exactly these notices leave, whatever their request ids."""
    assert all(isinstance(send, Send) and not send.ordered for send in sends)
    told = [
        (send.to, replace(send.message, request=_ANY))
        for send in sends
        if isinstance(send, Send) and isinstance(send.message, Durable)
    ]
    return len(told) == len(sends) and told == [
        (to, replace(each, request=_ANY)) for to, each in wanted
    ]


_ANY = RequestId(Incarnation(b"any-------------"), 0)


def commit(unit: Bench) -> list[Effect]:
    """Make durable what was appended; returns what the unit does then."""
    operations = unit.unit.journal.cut()
    if operations:
        execute_all(unit.disk, operations)
        unit.unit.journal.committed()
    return unit.unit.durable(0.0)


def state(unit: Bench, offset: int) -> State:
    return unit.unit.store.state(Offset(offset))


def crash(unit: Bench) -> None:
    """Start anew from what is on disk: what no commit has taken is gone."""
    unit.start()


# The way of an entry.


def test_write_at_head_is_forwarded_at_once_and_noted_when_durable(head: Bench) -> None:
    message = write(7, 1)
    assert head.effects(message) == [Persist(), at_once(MIDDLE, message)]
    assert head.unit.durable(0.0) == []
    assert same(commit(head), (MIDDLE, notice(message)))
    assert head.unit.durable(0.0) == []


def test_one_notice_tells_of_all_that_one_commit_made_durable(head: Bench) -> None:
    messages = [write(offset, offset + 1) for offset in range(NOTICE_ENTRIES_MAX + 2)]
    for message in messages:
        head.effects(message)
    first, rest = messages[:NOTICE_ENTRIES_MAX], messages[NOTICE_ENTRIES_MAX:]
    assert same(commit(head), (MIDDLE, notice(*first)), (MIDDLE, notice(*rest)))


def test_tentative_entry_is_passed_on_at_once_and_noted_after_notice_and_own_fsync(
    middle: Bench,
) -> None:
    first, second = write(7, 1), write(8, 2)
    assert middle.effects(forward(first), HEAD) == [Persist(), at_once(TAIL, first)]
    assert commit(middle) == []
    assert middle.effects(forward(second), HEAD) == [Persist(), at_once(TAIL, second)]
    # Of the two only the first is durable here.
    assert same(middle.effects(notice(first, second), HEAD), (TAIL, notice(first)))
    assert same(commit(middle), (TAIL, notice(second)))


def test_commit_under_way_is_not_the_own_fsync_of_what_came_after_it(middle: Bench) -> None:
    first, second = write(7, 1), write(8, 2)
    middle.effects(forward(first), HEAD)
    operations = middle.unit.journal.cut()
    middle.effects(forward(second), HEAD)
    assert middle.effects(notice(first, second), HEAD) == []
    execute_all(middle.disk, operations)
    middle.unit.journal.committed()
    assert same(middle.unit.durable(0.0), (TAIL, notice(first)))
    assert same(commit(middle), (TAIL, notice(second)))


def test_tail_unit_answers_after_notice_and_own_fsync_in_either_order(tail: Bench) -> None:
    first, second = write(7, 1), write(8, 2)
    assert tail.effects(forward(first), MIDDLE) == [Persist()]
    assert commit(tail) == []
    assert tail.effects(notice(first), MIDDLE) == [acknowledged(first)]
    assert tail.effects(forward(second), MIDDLE) == [Persist()]
    assert tail.effects(notice(second), MIDDLE) == []
    assert commit(tail) == [acknowledged(second)]


def test_notice_that_comes_before_its_entry_counts_once_it_is_here(tail: Bench) -> None:
    message, other = write(7, 1), write(8, 2)
    assert tail.effects(notice(message, other), MIDDLE) == []
    assert tail.effects(forward(message), MIDDLE) == [Persist(), Send(CLIENT, written(message))]
    assert state(tail, 7) is State.DATA
    # Of another entry at that offset it says nothing.
    tail.effects(forward(write(8, 3)), MIDDLE)
    assert state(tail, 8) is State.EMPTY


def test_chain_of_three_acknowledges_and_shows_the_entry() -> None:
    chain = Chain({number: bench(number) for number in (1, 2, 3)})
    message = write(0, 1)
    assert chain.give(1, message) == [written(message)]
    reply = chain.reply(3, read(0))
    assert isinstance(reply, Entries)
    assert [entry.entry for entry in reply.entries] == [message.entry]
    assert all(state(chain[number], 0) is State.DATA for number in (1, 2, 3))


def test_lost_forward_is_made_good_by_the_retransmitted_write() -> None:
    chain = Chain({number: bench(number) for number in (1, 2, 3)})
    chain.dropped = {(2, 3)}
    message = write(0, 1)
    assert chain.give(1, message) == []
    chain.dropped = set()
    assert chain.give(1, message) == [written(message)]


def test_retransmitted_write_carries_the_flag_as_it_is_when_it_leaves(head: Bench) -> None:
    message = write(7, 1)
    head.effects(message)
    # Ordered: it leaves after the own fsync, and then the flag is true.
    again = Send(MIDDLE, forward(message, durable_above=True))
    assert head.effects(message) == [again]
    commit(head)
    assert head.effects(message) == [again]


def test_flagged_forward_of_a_tentative_entry_confirms_it_and_goes_on_once_durable(
    middle: Bench, tail: Bench
) -> None:
    message = write(7, 1)
    flagged = forward(message, durable_above=True)
    middle.effects(forward(message), HEAD)
    assert middle.effects(flagged, HEAD) == [Send(TAIL, flagged)]
    assert state(middle, 7) is State.DATA
    tail.effects(forward(message), MIDDLE)
    commit(tail)
    assert tail.effects(flagged, MIDDLE) == [acknowledged(message)]


def test_forward_again_without_the_flag_goes_on_without_it(middle: Bench) -> None:
    message = write(7, 1)
    middle.effects(forward(message), HEAD)
    assert middle.effects(forward(message), HEAD) == [at_once(TAIL, message)]
    assert state(middle, 7) is State.EMPTY


def test_unit_that_persists_in_a_row_takes_tentative_entries_as_such() -> None:
    serial = Bench.fresh(2)
    serial.epoch(THREE)
    message = write(7, 1)
    assert serial.effects(forward(message), HEAD) == [Persist(), at_once(TAIL, message)]
    assert commit(serial) == []
    assert same(serial.effects(notice(message), HEAD), (TAIL, notice(message)))
    other = write(8, 2)
    assert serial.effects(forward(other, durable_above=True), HEAD) == [
        Persist(),
        Send(TAIL, forward(other, durable_above=True)),
    ]


# Whose word counts.


@pytest.mark.parametrize("case", ["other epoch", "other sender", "other entry", "other chain"])
def test_notice_that_is_not_the_unit_aboves_of_this_entry_changes_nothing(
    tail: Bench, case: str
) -> None:
    message = write(7, 1)
    tail.effects(forward(message), MIDDLE)
    commit(tail)
    told, sender = notice(message), MIDDLE
    match case:
        case "other epoch":
            told = notice(message, epoch=2)
        case "other sender":
            sender = HEAD
        case "other entry":
            told = notice(write(7, 2))
        case _:
            told = notice(write(6, 1))
    assert tail.effects(told, sender) == []
    assert state(tail, 7) is State.EMPTY


def test_late_notice_and_late_forward_of_an_old_epoch_change_nothing(middle: Bench) -> None:
    message, late = write(7, 1), write(8, 2)
    middle.effects(forward(message), HEAD)
    commit(middle)
    middle.epoch(layout(2, [1, 2, 3], first_offset=10))
    assert middle.effects(notice(message), HEAD) == []
    replies = middle.give(forward(late), HEAD)
    assert [type(send.message).__name__ for send in replies] == ["WrongEpoch"]
    assert state(middle, 7) is state(middle, 8) is State.EMPTY
    assert Offset(8) not in middle.unit.store.tentative


def test_late_forward_without_the_flag_over_what_is_settled_is_ignored(tail: Bench) -> None:
    held = write(7, 1)
    tail.give(forward(held, durable_above=True), MIDDLE)
    tail.give(_list(8, junk=(8, 9)), MIDDLE)
    assert tail.effects(forward(write(7, 2)), MIDDLE) == []
    assert tail.effects(forward(write(8, 3)), MIDDLE) == []
    assert not tail.unit.store.standing.frozen
    # With the flag it says that the head has decided otherwise: a rule was broken.
    (reply,) = tail.give(forward(write(8, 3), durable_above=True), MIDDLE)
    assert isinstance(reply.message, Refused)
    assert reply.message.reason is Reason.CONFLICT


def test_other_entry_of_the_same_epoch_over_a_tentative_one_is_a_conflict(tail: Bench) -> None:
    tail.give(forward(write(7, 1)), MIDDLE)
    (reply,) = tail.give(forward(write(7, 2)), MIDDLE)
    assert isinstance(reply.message, Refused)
    assert tail.unit.store.standing.frozen


def test_damage_is_repaired_by_what_is_certain_alone(tail: Bench) -> None:
    message = write(7, 1)
    tail.give(forward(message, durable_above=True), MIDDLE)
    store = tail.unit.store
    store.mark_damaged(Offset(7), store.index.get(7), None)
    assert tail.effects(forward(message), MIDDLE) == []
    assert state(tail, 7) is State.DAMAGED
    tail.give(forward(message, durable_above=True), MIDDLE)
    assert state(tail, 7) is State.DATA


# Fills.


def _list(
    start: int,
    *held: Write,
    junk: tuple[int, int] | None = None,
    epoch: int = 1,
    end: int | None = None,
) -> FillList:
    named = tuple(
        HeldOffset(each.offset, State.DATA, each.entry_id, entry_digest(each.entry))
        for each in held
    )
    runs = () if junk is None else (Range(Offset(junk[0]), Offset(junk[1])),)
    stop = end or max([start + 1, *(each.offset + 1 for each in held), *(r.end for r in runs)])
    return FillList(request(), Epoch(epoch), Offset(start), Offset(stop), CLIENT, runs, named)


def test_list_that_names_a_tentative_entry_confirms_it(tail: Bench) -> None:
    message = write(7, 1)
    tail.effects(forward(message), MIDDLE)
    commit(tail)
    told = tail.give(_list(7, message), MIDDLE)
    assert told[0] == acknowledged(message)
    assert isinstance(told[1].message, Filled)
    assert state(tail, 7) is State.DATA


def test_junk_of_a_newer_epoch_takes_the_place_of_a_tentative_entry(tail: Bench) -> None:
    message = write(7, 1)
    tail.give(forward(message), MIDDLE)
    tail.epoch(layout(2, [1, 2, 3], first_offset=10))
    (reply,) = tail.give(_list(7, junk=(7, 8), epoch=2), MIDDLE)
    assert isinstance(reply.message, Filled)
    assert state(tail, 7) is State.JUNK
    assert not tail.unit.store.tentative.entries
    crash(tail)
    assert state(tail, 7) is State.JUNK


def test_junk_of_the_same_epoch_over_a_tentative_entry_is_a_conflict(tail: Bench) -> None:
    tail.give(forward(write(7, 1)), MIDDLE)
    (reply,) = tail.give(_list(7, junk=(7, 8)), MIDDLE)
    assert isinstance(reply.message, Refused)
    assert tail.unit.store.standing.frozen


def test_fill_counts_what_waits_for_its_fsync_as_occupied_and_waits_with_it(head: Bench) -> None:
    message = write(7, 1)
    head.effects(message)
    filling = fill(6, 8)
    (send,) = (each for each in head.effects(filling) if isinstance(each, Send))
    assert send.ordered
    assert isinstance(send.message, FillList)
    assert [held.entry_id for held in send.message.held] == [message.entry_id]


# Never shown.


def test_tentative_entry_is_shown_by_nothing(tail: Bench) -> None:
    message = write(7, 1)
    tail.give(forward(message), MIDDLE)
    for question in (read(7), Copy(request(), Epoch(1), Offset(7), (Offset(7),))):
        reply = tail.reply(question)
        assert isinstance(reply, Entries)
        assert reply.entries == ()
    sealed = tail.seal(2)
    assert isinstance(sealed, Sealed)
    (block,) = sealed.blocks
    assert block.bitmap == bytes(128)
    assert block.named == (7,)
    assert sealed.local_tail == 8


def test_inspection_says_that_an_entry_is_tentative(tail: Bench) -> None:
    message = write(7, 1)
    tail.give(forward(message), MIDDLE)
    reply = tail.reply(Inspect(request(), Offset(0), Offset(10)), LEADER)
    assert isinstance(reply, Inspected)
    digest, length = entry_digest(message.entry), len(message.entry)
    assert reply.offsets == (
        InspectedOffset(Offset(7), State.DATA, message.entry_id, digest, length, tentative=True),
    )


def test_head_of_the_chain_alone_may_copy_a_tentative_entry(tail: Bench) -> None:
    message = write(7, 1)
    tail.give(forward(message), MIDDLE)
    question = Copy(request(), Epoch(1), Offset(7), (Offset(7),))
    digest = entry_digest(message.entry)
    copied = Entry(Offset(7), State.DATA, message.entry_id, digest, message.entry)
    for sender, seen in ((CLIENT, ()), (MIDDLE, ()), (HEAD, (copied,))):
        reply = tail.reply(question, sender)
        assert isinstance(reply, Entries)
        assert reply.entries == seen


def test_held_read_is_answered_when_the_notice_comes(tail: Bench) -> None:
    message = write(7, 1)
    assert tail.effects(read(7, wait_ms=1000)) == []
    assert tail.effects(forward(message), MIDDLE) == [Persist()]
    commit(tail)
    effects = tail.effects(notice(message), MIDDLE)
    assert effects[0] == acknowledged(message)
    shown = [each.message for each in effects[1:] if isinstance(each, Send)]
    assert [type(each).__name__ for each in shown] == ["Entries"]


def test_seal_waits_for_the_fsync_of_what_was_admitted_before_it(tail: Bench) -> None:
    assert tail.effects(forward(write(7, 1)), MIDDLE) == [Persist()]
    *_, last = tail.effects(tail.seal_message(2), LEADER)
    assert isinstance(last, Send)
    assert last.ordered
    assert isinstance(last.message, Sealed)


def test_seal_ends_the_waiting_and_keeps_the_tentative_entry(tail: Bench) -> None:
    message = write(7, 1)
    tail.give(forward(message), MIDDLE)
    tail.epoch(layout(2, [1, 2, 3], first_offset=10))
    assert tail.unit.store.tentative.entries[Offset(7)].waiter is None
    told = tail.give(_list(7, message, epoch=2), MIDDLE)
    assert [type(send.message).__name__ for send in told] == ["Filled"]


# A new head.


def test_unit_that_becomes_head_holds_what_was_tentative(middle: Bench) -> None:
    message = write(7, 1)
    middle.give(forward(message), HEAD)
    middle.epoch(layout(2, [2, 3], first_offset=10))
    assert state(middle, 7) is State.DATA
    reply = middle.reply(fill(7, epoch=2))
    assert isinstance(reply, FillList)
    assert [held.entry_id for held in reply.held] == [message.entry_id]
    crash(middle)
    assert state(middle, 7) is State.DATA


def test_later_unit_does_not_hold_what_is_tentative_in_a_new_epoch(tail: Bench) -> None:
    tail.give(forward(write(7, 1)), MIDDLE)
    tail.epoch(layout(2, [2, 3], first_offset=10))
    assert state(tail, 7) is State.EMPTY


# Restarts, and the journal.


def test_tentative_entry_is_tentative_after_a_restart(tail: Bench) -> None:
    message = write(7, 1)
    tail.give(forward(message), MIDDLE)
    crash(tail)
    assert state(tail, 7) is State.EMPTY
    (kept,) = tail.unit.store.tentative.entries.values()
    assert kept.name.entry_id == message.entry_id
    # As head it reads it back from the disk.
    tail.epoch(layout(2, [3], first_offset=10))
    reply = tail.reply(read(7, epoch=2))
    assert isinstance(reply, Entries)
    assert [entry.entry for entry in reply.entries] == [message.entry]


def test_confirmation_goes_with_the_next_commit_and_not_with_one_of_its_own(tail: Bench) -> None:
    first, second = write(7, 1), write(8, 2)
    tail.give(forward(first), MIDDLE)
    tail.give(notice(first), MIDDLE)
    assert not tail.unit.journal.dirty
    copy = replace(tail, disk=tail.disk.copy(), _unit=None)
    copy.start()
    assert state(copy, 7) is State.EMPTY
    tail.give(forward(second), MIDDLE)
    crash(tail)
    assert (state(tail, 7), state(tail, 8)) == (State.DATA, State.EMPTY)


def test_confirmations_of_a_run_are_one_record_and_of_an_idle_unit_written_alone(
    tail: Bench,
) -> None:
    messages = [write(offset, offset + 1) for offset in range(5)]
    for message in messages:
        tail.give(forward(message), MIDDLE)
    tail.give(notice(*messages), MIDDLE)
    # The first look may find other work, and has nothing to compare with.
    tail.run(tail.unit.maintain(0.0))
    tail.run(tail.unit.maintain(0.05))
    assert not tail.unit.journal.dirty
    tail.unit.maintain(0.1)
    assert tail.unit.journal.dirty
    tail.commit()
    crash(tail)
    assert {state(tail, offset) for offset in range(5)} == {State.DATA}


def test_file_with_a_tentative_entry_gets_no_index_file_before_it_is_settled(
    tail: Bench,
) -> None:
    message = write(0, 1)
    tail.give(forward(message), MIDDLE)
    serial = cell_place(tail.unit.store.index.get(0)).serial
    for offset in range(1, 30):
        tail.give(forward(write(offset, offset, entry=bytes(1000)), durable_above=True), MIDDLE)
    tail.maintain()
    assert index_name(serial) not in tail.disk.names()
    tail.give(notice(message), MIDDLE)
    tail.maintain()
    assert index_name(serial) in tail.disk.names()
    crash(tail)
    assert state(tail, 0) is State.DATA


def test_trim_and_loss_end_tentative_entries(tail: Bench) -> None:
    for offset in (3, 7):
        tail.give(forward(write(offset, offset)), MIDDLE)
    tail.give(tail.trim_message(5, 5), LEADER)
    assert set(tail.unit.store.tentative.entries) == {7}
    seal = replace(tail.seal_message(2), lost=(Range(Offset(7), Offset(8)),))
    tail.give(seal, LEADER)
    assert not tail.unit.store.tentative.entries
    crash(tail)
    assert not tail.unit.store.tentative.entries
    assert (state(tail, 3), state(tail, 7)) == (State.TRIMMED, State.LOST)


def test_damaged_tentative_record_is_told_without_its_name(tail: Bench) -> None:
    message = write(7, 1)
    tail.give(forward(message), MIDDLE)
    tail.mark()
    place = cell_place(tail.unit.store.index.get(7))
    name = f"journal-{place.serial:016x}"
    at = place.position + 64
    tail.disk.flip(name, at, 1)
    crash(tail)
    assert state(tail, 7) is State.DAMAGED
    assert tail.unit.store.suspicion.named == {Offset(7): None}


def test_tentative_entry_below_closed_until_is_asked_of_the_head_after_a_restart(
    tail: Bench,
) -> None:
    message = write(7, 1)
    tail.give(forward(message), MIDDLE)
    tail.give(notice(message), MIDDLE)
    crash(tail)
    tail.epoch(layout(2, [1, 2, 3], first_offset=10), closed_until=8)
    assert state(tail, 7) is State.DAMAGED
    tail.now = 1.0
    asked = tail.run(tail.unit.tick(tail.now))
    assert any(send.to == HEAD and type(send.message).__name__ == "Fill" for send in asked)
    tail.give(_list(7, message, epoch=2), MIDDLE)
    assert state(tail, 7) is State.DATA
    assert Offset(7) not in tail.unit.store.suspicion.named


def test_power_cut_at_the_head_alone_ends_in_junk_everywhere() -> None:
    chain = Chain({number: bench(number) for number in (1, 2, 3)})
    message = write(7, 1)
    # The head loses it before its fsync; the others have it.
    chain[1].effects(message)
    for number, above in ((2, HEAD), (3, MIDDLE)):
        chain[number].give(forward(message), above)
    crash(chain[1])
    chain.epoch(layout(2, [1, 2, 3], first_offset=10))
    reply = chain.reply(1, fill(0, 10, epoch=2))
    assert isinstance(reply, Filled)
    assert reply.junk == (Range(Offset(0), Offset(10)),)
    assert [state(chain[number], 7) for number in (1, 2, 3)] == [State.JUNK] * 3


def test_power_cut_of_all_after_the_answer_keeps_the_entry_everywhere() -> None:
    chain = Chain({number: bench(number) for number in (1, 2, 3)})
    message = write(7, 1)
    assert chain.give(1, message) == [written(message)]
    for number in (1, 2, 3):
        crash(chain[number])
    assert [state(chain[number], 7) for number in (1, 2, 3)] == [
        State.DATA,
        State.EMPTY,
        State.EMPTY,
    ]
    chain.epoch(layout(2, [1, 2, 3], first_offset=10))
    reply = chain.reply(1, fill(0, 10, epoch=2))
    assert isinstance(reply, Filled)
    assert [held.entry_id for held in reply.held] == [message.entry_id]
    assert [state(chain[number], 7) for number in (1, 2, 3)] == [State.DATA] * 3
