"""Read and Copy: one test per rule."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from corfu.config import PART_BYTES_MAX
from corfu.effects import Effect, Fetch, Persist, Send
from corfu.messages import Copy, Entries, Entry, Reason, Refused, Write, WrongEpoch
from corfu.storage_units.names import entry_digest
from corfu.storage_units.settings import UnitSettings
from corfu.types import JUNK_ID, Digest, Epoch, Offset, Range, State
from tests.unit.storage_units.unit_bench import (
    CLIENT,
    LEADER,
    Bench,
    fill,
    layout,
    read,
    request,
    unit_value,
    write,
)

ONE = layout(1, [1])
COLD = UnitSettings(journal_file_bytes=65536, cache_bytes_max=0)


def value(message: Write) -> Entry:
    return Entry(
        message.offset,
        State.DATA,
        message.entry_id,
        entry_digest(message.entry),
        message.entry,
    )


def plain(offset: int, state: State) -> Entry:
    return Entry(Offset(offset), state, JUNK_ID, Digest(0), b"")


def entries_of(bench: Bench, start: int, end: int, epoch: int = 1) -> tuple[Entry, ...]:
    answer = bench.reply(read(start, end, epoch))
    assert isinstance(answer, Entries)
    return answer.entries


@pytest.fixture
def bench() -> Bench:
    made = Bench.fresh(1)
    made.epoch(ONE)
    return made


def test_read_lists_values_and_junk_and_leaves_empty_out(bench: Bench) -> None:
    first, second = write(1, 1), write(4, 2)
    bench.give(first)
    bench.give(second)
    bench.give(fill(2))
    message = read(0, 10)
    answer = Entries(
        message.request,
        Epoch(1),
        Offset(0),
        Offset(10),
        Offset(0),
        (value(first), plain(2, State.JUNK), value(second)),
    )
    assert bench.effects(message) == [Send(CLIENT, answer, ordered=False)]


def entries_sent(effects: Sequence[Effect]) -> list[Entries]:
    messages = [effect.message for effect in effects if isinstance(effect, Send)]
    assert len(messages) == len(effects)
    return [message for message in messages if isinstance(message, Entries)]


@pytest.mark.parametrize("settings", [UnitSettings(), COLD], ids=["memory", "file"])
def test_read_of_more_than_a_burst_is_answered_in_parts_that_join(settings: UnitSettings) -> None:
    settings = replace(settings, journal_file_bytes=4 << 20)
    bench = Bench.fresh(1, settings)
    bench.epoch(ONE)
    sizes = (30_000, 30_000, 30_000, 1, 200_000, 30_000, 7)
    written = [write(2 * i, i + 1, entry=bytes([i]) * n) for i, n in enumerate(sizes)]
    for message in written:
        bench.give(message)
    parts = entries_sent(bench.run(bench.effects(read(0, 100))))
    assert [entry for part in parts for entry in part.entries] == [value(m) for m in written]
    assert [part.offset for part in parts] == [0, *(part.end for part in parts[:-1])]
    assert parts[-1].end == 100
    bodies = [sum(len(entry.entry) + 64 for entry in part.entries) for part in parts]
    # Only an entry that is larger than a burst by itself makes a larger part.
    assert all(body <= PART_BYTES_MAX for body in bodies if body < 200_000)
    assert [len(part.entries) for part in parts] == [2, 2, 1, 2]


def test_answer_in_parts_that_ends_before_the_range_says_so() -> None:
    bench = Bench.fresh(1, UnitSettings(journal_file_bytes=4 << 20))
    bench.epoch(ONE)
    for number in range(4):
        bench.give(write(number, number + 1, entry=bytes(60_000)))
    message = replace(read(0, 9), bytes_max=130_000)
    parts = entries_sent(bench.effects(message))
    assert [(part.offset, part.end) for part in parts] == [(0, 1), (1, 2), (2, 2)]
    assert parts[-1].entries == ()
    # One that fits a burst is one message, whole or not.
    (part,) = entries_sent(bench.effects(replace(read(0, 9), bytes_max=60_000)))
    assert (part.offset, part.end) == (0, 1)


def test_read_of_pending_value_waits_for_its_commit(bench: Bench) -> None:
    bench.effects(write(1, 1))
    (send,) = bench.effects(read(1))
    assert isinstance(send, Send)
    assert send.ordered
    bench.commit()
    (send,) = bench.effects(read(1))
    assert isinstance(send, Send)
    assert not send.ordered


def test_read_at_another_than_the_tail_unit_is_wrong_unit() -> None:
    head = Bench.fresh(1)
    head.epoch(layout(1, [1, 2]))
    message = read(0, 5)
    answer = Refused(message.request, Epoch(1), Offset(0), Reason.WRONG_UNIT)
    assert head.reply(message) == answer


def test_read_of_cold_values_fetches_neighbours_together() -> None:
    bench = Bench.fresh(1, COLD)
    bench.epoch(ONE)
    stored = [write(offset, offset + 1, entry=bytes(300 + offset)) for offset in range(10)]
    for message in stored:
        bench.give(message)
    effects = bench.effects(read(0, 10))
    assert [type(effect) for effect in effects] == [Fetch]
    (send,) = bench.run(effects)
    assert isinstance(send.message, Entries)
    assert send.message.entries == tuple(value(message) for message in stored)


def test_cold_value_that_fails_its_digest_is_damaged_never_empty() -> None:
    bench = Bench.fresh(1, COLD)
    bench.epoch(ONE)
    message = write(3, 1, entry=bytes(range(200)))
    bench.give(message)
    (fetch,) = bench.effects(read(3))
    assert isinstance(fetch, Fetch)
    bench.disk.flip(fetch.name, fetch.position + 100, 1)
    (send,) = bench.run([fetch])
    assert isinstance(send.message, Entries)
    damaged = value(message)._replace(state=State.DAMAGED, entry=b"")
    assert send.message.entries == (damaged,)
    # The only unit is the head, too: a new epoch should settle it.
    probed = bench.reply(bench.probe_message(), LEADER)
    assert getattr(probed, "doubt", None) is True


def test_unreadable_cold_value_is_damaged() -> None:
    bench = Bench.fresh(1, COLD)
    bench.epoch(ONE)
    bench.give(write(3, 1))
    (fetch,) = bench.effects(read(3))
    assert isinstance(fetch, Fetch)
    (send,) = bench.run(bench.unit.fetched(fetch.ticket, None, 0.0))
    assert isinstance(send.message, Entries)
    assert [each.state for each in send.message.entries] == [State.DAMAGED]


def test_read_ends_where_its_bytes_are_used_up(bench: Bench) -> None:
    for offset in range(5):
        bench.give(write(offset, offset + 1, entry=bytes(1000)))
    answer = bench.reply(replace(read(0, 100), bytes_max=2500))
    assert isinstance(answer, Entries)
    assert [each.offset for each in answer.entries] == [0, 1]
    assert answer.end == 2


def test_read_returns_at_least_one_value(bench: Bench) -> None:
    bench.give(write(0, 1, entry=bytes(5000)))
    answer = bench.reply(replace(read(0, 100), bytes_max=1))
    assert isinstance(answer, Entries)
    assert len(answer.entries) == 1


def test_trimmed_offsets_are_told_by_the_mark(bench: Bench) -> None:
    bench.give(write(0, 1))
    bench.give(bench.trim_message(1, 1), LEADER)
    answer = bench.reply(read(0, 3))
    assert isinstance(answer, Entries)
    assert (answer.trim_mark, answer.entries) == (1, ())


def test_nothing_below_closed_until_is_empty(bench: Bench) -> None:
    bench.give(write(1, 1))
    bench.give(bench.probe_message(closed_until=3), LEADER)
    states = [each.state for each in entries_of(bench, 0, 10)]
    assert states == [State.DAMAGED, State.DATA, State.DAMAGED]


def test_lost_offset_is_lost_whatever_is_held(bench: Bench) -> None:
    bench.give(write(1, 1))
    seal = replace(bench.seal_message(2), lost=(Range(Offset(1), Offset(2)),))
    bench.give(seal, LEADER)
    bench.install(layout(2, [1], first_offset=100))
    assert entries_of(bench, 0, 10, epoch=2) == (plain(1, State.LOST),)


def test_parked_read_is_answered_by_the_next_value_in_the_same_turn(bench: Bench) -> None:
    parked = read(5, 1000, wait_ms=1000)
    assert bench.effects(parked) == []
    message = write(7, 1)
    effects = bench.effects(message)
    answer = Entries(
        parked.request, Epoch(1), Offset(5), Offset(1000), Offset(0), (value(message),)
    )
    assert effects[0] == Persist()
    # Ordered: not before the value's own fsync.
    assert effects[-1] == Send(CLIENT, answer, ordered=True)


def test_parked_read_of_another_range_stays_parked(bench: Bench) -> None:
    bench.effects(read(5, 7, wait_ms=1000))
    effects = bench.effects(write(7, 1))
    assert len([effect for effect in effects if isinstance(effect, Send)]) == 1


def test_parked_read_wakes_for_junk(bench: Bench) -> None:
    parked = read(5, 1000, wait_ms=1000)
    bench.effects(parked)
    sends = [send.message for send in bench.give(fill(5, 7))]
    (entries,) = [message for message in sends if isinstance(message, Entries)]
    assert entries.entries == (plain(5, State.JUNK), plain(6, State.JUNK))


def test_parked_read_ends_without_a_value_after_its_wait(bench: Bench) -> None:
    parked = read(5, 10, wait_ms=500)
    bench.effects(parked)
    assert bench.unit.deadline == 0.5
    assert bench.unit.tick(0.4) == []
    answer = Entries(parked.request, Epoch(1), Offset(5), Offset(10), Offset(0), ())
    assert bench.unit.tick(0.5) == [Send(CLIENT, answer, ordered=False)]
    assert bench.unit.deadline == 60.0, "the first scrub alone"


def test_seal_answers_parked_reads_with_the_new_epoch(bench: Bench) -> None:
    parked = read(5, 10, wait_ms=500)
    bench.effects(parked)
    sends = bench.give(bench.seal_message(2), LEADER)
    assert sends[0].message == WrongEpoch(parked.request, Epoch(2), Offset(5))


def test_parked_reads_are_bounded() -> None:
    bench = Bench.fresh(1, UnitSettings(journal_file_bytes=16384, parked_max=1))
    bench.epoch(ONE)
    assert bench.effects(read(5, 10, wait_ms=500)) == []
    assert len(bench.effects(read(5, 10, wait_ms=500))) == 1


def test_read_admitted_before_seal_is_answered_in_its_own_epoch() -> None:
    bench = Bench.fresh(1, COLD)
    bench.epoch(ONE)
    bench.give(write(1, 1))
    message = read(1)
    fetches = bench.effects(message)
    bench.give(bench.seal_message(2), LEADER)
    (send,) = bench.run(fetches)
    assert isinstance(send.message, Entries)
    assert send.message.epoch == 1


def test_too_many_cold_reads_are_busy() -> None:
    bench = Bench.fresh(1, replace(COLD, loads_max=1))
    bench.epoch(ONE)
    bench.give(write(1, 1))
    bench.effects(read(1))
    message = read(1)
    answer = Refused(message.request, Epoch(1), Offset(1), Reason.BUSY)
    assert bench.effects(message) == [Send(CLIENT, answer, ordered=False)]


def copy(*offsets: int, epoch: int = 1) -> Copy:
    asked = tuple(Offset(offset) for offset in offsets)
    return Copy(request(), Epoch(epoch), asked[0], asked)


def test_copy_returns_exactly_what_is_asked_from_any_unit_of_the_chain() -> None:
    head = Bench.fresh(1)
    head.epoch(layout(1, [1, 2]))
    stored = [write(offset, offset + 1) for offset in range(4)]
    for message in stored:
        head.give(message)
    answer = head.reply(copy(1, 3), unit_value(2).address)
    assert isinstance(answer, Entries)
    assert answer.entries == (value(stored[1]), value(stored[3]))


def test_copy_for_another_chain_is_wrong_unit() -> None:
    bench = Bench.fresh(1)
    bench.epoch(layout(1, [1], [2]))
    message = copy(0, 1)
    answer = Refused(message.request, Epoch(1), Offset(0), Reason.WRONG_UNIT)
    assert bench.reply(message) == answer


def test_copy_of_an_old_epoch_is_wrong_epoch(bench: Bench) -> None:
    bench.epoch(layout(2, [1], first_offset=10))
    message = copy(0)
    assert bench.reply(message) == WrongEpoch(message.request, Epoch(2), Offset(0))
