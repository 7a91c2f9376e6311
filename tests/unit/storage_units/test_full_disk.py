"""A full disk that clients go on knocking at: it can still be trimmed."""

from __future__ import annotations

import errno

import pytest

from corfu.journal import recovery
from corfu.messages import (
    Copy,
    Entries,
    Entry,
    Filled,
    FillList,
    Forward,
    HeldOffset,
    Installed,
    Reason,
    Refused,
    Sealed,
    Trimmed,
    Write,
    Written,
)
from corfu.storage_units.names import entry_digest
from corfu.types import Offset, State
from tests.unit.storage_units import unit_bench
from tests.unit.storage_units.unit_bench import (
    CLIENT,
    LEADER,
    Bench,
    fill,
    layout,
    unit_value,
    write,
)


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> tuple[Bench, int]:
    """Return a unit that takes neither entries nor junk any more, and its local tail."""
    bench = Bench.fresh(1)
    bench.epoch(layout(1, [1]))
    monkeypatch.setattr(unit_bench, "allocate_spares", lambda disk, journal: None)
    bench.unit.free_bytes = 0
    offset = 0
    while isinstance(bench.reply(write(offset, offset + 1, entry=bytes(400))), Written):
        offset += 1
    # Each append that is refused ends as junk at its offset.
    while isinstance(bench.reply(fill(offset)), Filled):
        offset += 1
    refusal = bench.reply(fill(offset))
    assert isinstance(refusal, Refused)
    assert refusal.reason is Reason.NO_SPACE
    return bench, offset


def test_unit_full_of_junk_is_sealed_and_gets_its_layout(full: tuple[Bench, int]) -> None:
    bench, _ = full
    assert isinstance(bench.seal(2), Sealed)
    assert isinstance(bench.install(layout(2, [1])), Installed)


def test_unit_full_of_junk_and_seals_is_trimmed_and_takes_entries_again(
    full: tuple[Bench, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    bench, tail = full
    epoch = 2
    while isinstance(bench.seal(epoch), Sealed):
        epoch += 1
    reply = bench.reply(bench.trim_message(tail, tail), LEADER)
    assert isinstance(reply, Trimmed)
    assert reply.mark == Offset(tail)
    assert reply.freeing
    monkeypatch.undo()
    bench.mark()
    assert bench.unit.journal.freed_bytes > 0
    bench.commit()
    bench.epoch(layout(epoch, [1], first_offset=tail), trim_mark=tail, closed_until=tail)
    again = write(tail, 999, epoch=epoch, entry=bytes(400))
    assert isinstance(bench.reply(again), Written)


def test_unit_restarted_on_a_full_disk_starts_and_keeps_room_to_be_trimmed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench = Bench.fresh(1)
    bench.epoch(layout(1, [1]))

    def no_space(*_: object) -> bool:
        raise OSError(errno.ENOSPC, "no space")

    monkeypatch.setattr(unit_bench, "allocate_spares", lambda disk, journal: None)
    monkeypatch.setattr(recovery, "_allocate_spare", no_space)
    bench.unit.free_bytes = 0
    tail = 0
    while isinstance(bench.reply(write(tail, tail + 1, entry=bytes(400))), Written):
        tail += 1
    assert bench.unit.journal.spares == 1
    # The fresh file of the recovery is the reserve: entries take none of it.
    bench.start()
    bench.unit.free_bytes = 0
    bench.epoch(layout(2, [1], first_offset=tail), closed_until=tail)
    assert bench.unit.journal.spares == 0
    refusal = bench.reply(write(tail, tail + 1, epoch=2))
    assert isinstance(refusal, Refused)
    assert refusal.reason is Reason.NO_SPACE
    assert isinstance(bench.reply(bench.trim_message(tail, tail), LEADER), Trimmed)
    bench.mark()
    assert bench.unit.journal.spares > 0
    assert isinstance(bench.reply(write(tail, tail + 1, epoch=2)), Written)


def test_later_unit_takes_what_the_head_took_last(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else what a head took last stays half written, and readers stop there till a trim."""
    monkeypatch.setattr(unit_bench, "allocate_spares", lambda disk, journal: None)
    taken: dict[int, int] = {}
    for own in (1, 2):
        bench = Bench.fresh(own)
        bench.epoch(layout(1, [1, 2]))
        bench.unit.free_bytes = 0
        offset = 0
        while True:
            message: Write | Forward = write(offset, offset + 1, entry=bytes(400))
            sender = CLIENT
            if own == 2:
                sent = message
                message = Forward(
                    sent.request, sent.epoch, sent.offset, sent.entry_id, CLIENT, sent.entry
                )
                sender = unit_value(1).address
            if isinstance(bench.reply(message, sender), Refused):
                break
            offset += 1
        taken[own] = offset
    assert taken[2] > taken[1] > 0


def test_unit_that_gets_no_new_file_says_so_whatever_is_free(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two units on one disk make a file at the same time: it has room for one, neither gets it."""
    monkeypatch.setattr(unit_bench, "allocate_spares", lambda disk, journal: None)
    bench = Bench.fresh(1)
    bench.epoch(layout(1, [1]))
    bench.unit.free_bytes = 1 << 30
    offset = 0
    while isinstance(refusal := bench.reply(write(offset, offset + 1, entry=bytes(400))), Written):
        offset += 1
    assert isinstance(refusal, Refused)
    assert refusal.reason is Reason.BUSY, "the next file is on its way"
    journal = bench.unit.journal
    assert journal.spare_wanted() is not None
    journal.spare_failed()
    refusal = bench.reply(write(offset, offset + 1, entry=bytes(400)))
    assert isinstance(refusal, Refused)
    assert refusal.reason is Reason.NO_SPACE
    assert journal.spare_wanted() is not None
    journal.spare_ready()
    assert isinstance(bench.reply(write(offset, offset + 1, entry=bytes(400))), Written)


def test_later_unit_without_room_for_what_it_copied_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its silence would leave the writer waiting for an answer that never comes."""
    monkeypatch.setattr(unit_bench, "allocate_spares", lambda disk, journal: None)
    bench = Bench.fresh(2)
    bench.epoch(layout(1, [1, 2]))
    bench.unit.free_bytes = 0
    head, store = unit_value(1).address, bench.unit.store
    large = write(1000, 1000, entry=bytes(3000))
    offset = 0
    while store.has_completion_room(len(large.entry)):
        small = write(offset, offset + 1, entry=bytes(400))
        forward = Forward(
            small.request, small.epoch, small.offset, small.entry_id, CLIENT, small.entry
        )
        assert isinstance(bench.reply(forward, head), Written)
        offset += 1
    assert store.has_completion_room(0)
    name = HeldOffset(large.offset, State.DATA, large.entry_id, entry_digest(large.entry))
    end = Offset(large.offset + 1)
    message = FillList(large.request, large.epoch, large.offset, end, CLIENT, (), (name,))
    (ask,) = bench.give(message, head)
    assert isinstance(ask.message, Copy)
    found = Entry(name.offset, name.state, name.entry_id, name.digest, large.entry)
    copied = Entries(ask.message.request, ask.message.epoch, name.offset, end, Offset(0), (found,))
    (told,) = bench.give(copied, head)
    assert told.to == CLIENT
    assert told.message == Refused(message.request, message.epoch, message.offset, Reason.NO_SPACE)
    assert store.state(name.offset) is State.EMPTY


def test_full_disk_is_said_once_in_the_log(full: tuple[Bench, int]) -> None:
    bench, tail = full
    bench.reply(write(tail, tail + 1, entry=bytes(400)))
    assert sum("the disk is full" in line for line in bench.alarms) == 1
