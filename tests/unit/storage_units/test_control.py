"""Seal, Install, TrimTo, Probe, Ping, Resolve: one test per rule."""

from __future__ import annotations

from dataclasses import replace

import pytest

from corfu.config import BLOCK_OFFSETS
from corfu.effects import Persist, Send
from corfu.messages import (
    Block,
    Copy,
    Entries,
    Entry,
    Installed,
    Message,
    Ping,
    Pong,
    Probed,
    Reason,
    Refused,
    Resolution,
    Resolve,
    Resolved,
    Sealed,
    SilentUnit,
    Trimmed,
    WrongEpoch,
)
from corfu.storage_units import store
from corfu.storage_units.names import entry_digest, held_digest
from corfu.storage_units.process import format_unit
from corfu.types import (
    JUNK_ID,
    Address,
    Digest,
    EntryId,
    Epoch,
    Incarnation,
    Offset,
    RequestId,
    State,
    SyncMode,
    UnitId,
)
from tests.unit.storage_units.unit_bench import (
    CLUSTER,
    LEADER,
    Bench,
    entry_id,
    fill,
    layout,
    request,
    unit_value,
    write,
)

ONE = layout(1, [1])
OTHER = Incarnation(b"another-incarnat")


@pytest.fixture
def bench() -> Bench:
    made = Bench.fresh(1)
    made.epoch(ONE)
    return made


def refused(message: Message, reason: Reason, epoch: int) -> Refused:
    return Refused(message.request, Epoch(epoch), Offset(0), reason)


def probed(bench: Bench) -> Probed:
    answer = bench.reply(bench.probe_message(), LEADER)
    assert isinstance(answer, Probed)
    return answer


def test_seal_is_journalled_and_tells_what_is_held(bench: Bench) -> None:
    bench.give(write(3, 1))
    bench.effects(write(5, 2))
    message = bench.seal_message(4)
    bitmap = bytearray(128)
    bitmap[0] = 1 << 3 | 1 << 5
    digest = held_digest(Offset(3), entry_id(1)) ^ held_digest(Offset(5), entry_id(2))
    sealed = Sealed(
        message.request,
        Epoch(4),
        UnitId(1),
        unit_value(1).incarnation,
        Epoch(1),
        Offset(6),
        Offset(0),
        Offset(0),
        (Block(0, bytes(bitmap), digest, ()),),
        doubt=False,
    )
    # Ordered behind the pending Write at 5, which it lists.
    assert bench.effects(message, LEADER) == [Persist(), Send(LEADER, sealed, ordered=True)]


def test_blocks_begin_at_closed_until_and_count_junk(bench: Bench) -> None:
    bench.give(write(3, 1))
    bench.give(fill(5))
    answer = bench.seal(4, closed_until=4)
    assert isinstance(answer, Sealed)
    (block,) = answer.blocks
    assert block.digest == held_digest(Offset(5), JUNK_ID)


def test_lower_seal_is_stale(bench: Bench) -> None:
    bench.seal(4)
    message = bench.seal_message(3)
    assert bench.reply(message, LEADER) == refused(message, Reason.STALE_EPOCH, 4)


def test_same_seal_again_tells_the_same_epoch_before(bench: Bench) -> None:
    first = bench.seal(4)
    second = bench.seal(4)
    assert isinstance(first, Sealed)
    assert isinstance(second, Sealed)
    assert (first.epoch_before, second.epoch_before) == (1, 1)


def test_orders_for_another_incarnation_are_refused(bench: Bench) -> None:
    item = Resolution(Offset(0), State.EMPTY, JUNK_ID, Digest(0), None)
    resolve = Resolve(request(), Epoch(1), UnitId(1), OTHER, (item,), all_known=True)
    orders: list[Message] = [
        replace(bench.seal_message(9), incarnation=OTHER),
        replace(bench.install_message(ONE), incarnation=OTHER),
        replace(bench.trim_message(1, 1), incarnation=OTHER),
        replace(bench.probe_message(), incarnation=OTHER),
        resolve,
    ]
    for message in orders:
        answer = bench.reply(message, LEADER)
        assert answer == refused(message, Reason.WRONG_INCARNATION, 1)
    assert bench.unit.store.standing.sealed == 1


def test_install_is_for_exactly_the_sealed_epoch(bench: Bench) -> None:
    bench.seal(4)
    for epoch in (3, 5):
        message = bench.install_message(layout(epoch, [1]))
        assert bench.reply(message, LEADER) == refused(message, Reason.STALE_EPOCH, 4)
    message = bench.install_message(layout(4, [1]))
    own = unit_value(1)
    assert bench.effects(message, LEADER) == [
        Persist(),
        Send(LEADER, Installed(message.request, Epoch(4), own.id, own.incarnation)),
    ]


def test_second_install_of_the_same_layout_is_answered_again(bench: Bench) -> None:
    message = bench.install_message(ONE)
    assert isinstance(bench.reply(message, LEADER), Installed)


def test_second_layout_of_one_epoch_is_refused_and_alarms(bench: Bench) -> None:
    message = bench.install_message(layout(1, [1, 2]))
    assert bench.reply(message, LEADER) == refused(message, Reason.OTHER_LAYOUT, 1)
    assert bench.alarms


def test_install_that_asks_for_more_than_the_own_sync_mode_is_refused() -> None:
    bench = Bench(1)
    own = unit_value(1)
    format_unit(
        bench.disk,
        cluster=CLUSTER,
        unit=own.id,
        incarnation=own.incarnation,
        sync=SyncMode.OS,
        settings=bench.settings,
    )
    bench.start()
    bench.seal(1)
    message = bench.install_message(ONE)
    assert bench.reply(message, LEADER) == refused(message, Reason.SYNC_MODE, 1)
    assert isinstance(bench.install(layout(1, [1], sync=SyncMode.OS)), Installed)


def test_sealed_unit_without_the_layout_serves_nothing(bench: Bench) -> None:
    bench.seal(2)
    message = write(0, 1, epoch=2)
    assert bench.reply(message) == WrongEpoch(message.request, Epoch(2), Offset(0))


def test_layout_with_another_incarnation_gives_no_role() -> None:
    bench = Bench.fresh(1)
    bench.seal(1)
    stranger = replace(ONE.units[0], incarnation=OTHER)
    bench.install(replace(ONE, units=(stranger,)))
    message = write(0, 1)
    answer = Refused(message.request, Epoch(1), Offset(0), Reason.WRONG_UNIT)
    assert bench.reply(message) == answer


def test_trim_goes_no_further_than_closed_until(bench: Bench) -> None:
    bench.maintain()
    # The restart has left a file of its own to be freed.
    freed = _freed(bench, 0).freed_files
    message = bench.trim_message(50, 20)
    own = unit_value(1)
    trimmed = Trimmed(
        message.request, own.id, own.incarnation, Offset(20), freed, 16384 * freed, freeing=False
    )
    assert bench.effects(message, LEADER) == [Persist(), Send(LEADER, trimmed)]
    lower = bench.trim_message(5, 20)
    answer = bench.reply(lower, LEADER)
    assert isinstance(answer, Trimmed)
    assert answer.mark == 20


def test_trim_frees_whole_journal_files(bench: Bench) -> None:
    for offset in range(60):
        bench.give(write(offset, offset + 1, entry=bytes(1000)))
    bench.maintain()
    before = bench.disk.names()
    answer = bench.reply(bench.trim_message(60, 60), LEADER)
    assert isinstance(answer, Trimmed)
    # Released: freed only when the mark, and that they are released, is durable.
    assert (answer.freed_files, answer.freed_bytes, answer.freeing) == (0, 0, True)
    freed = _freed(bench, 60)
    bench.maintain()
    journals = {name for name in before if name.startswith("journal-")}
    gone = journals - set(bench.disk.names())
    assert freed.freed_files == len(gone) >= 3
    assert freed.freed_bytes == 16384 * len(gone)


def _freed(bench: Bench, mark: int) -> Trimmed:
    """Let an idle unit free what it can; return its last answer."""
    for _ in range(20):
        bench.mark()
        answer = bench.reply(bench.trim_message(mark, mark), LEADER)
        assert isinstance(answer, Trimmed)
        if not answer.freeing:
            return answer
    raise AssertionError("it never ends")


def test_trim_counts_files_that_were_finished_since_the_last_housekeeping(bench: Bench) -> None:
    for offset in range(60):
        bench.give(write(offset, offset + 1, entry=bytes(1000)))
    assert _freed(bench, 60).freed_files >= 3


def test_trim_that_frees_no_whole_file_says_so_at_once(bench: Bench) -> None:
    bench.give(write(0, 1, entry=bytes(1000)))
    freed = _freed(bench, 0).freed_files
    answer = bench.reply(bench.trim_message(1, 1), LEADER)
    assert isinstance(answer, Trimmed)
    assert (answer.mark, answer.freed_files, answer.freeing) == (1, freed, False)


def test_trim_of_more_than_one_step_goes_on_freeing(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cells are forgotten in steps, so that requests get their turn: till then it says freeing."""
    monkeypatch.setattr(store, "_RECLAIM_BLOCKS", 1)
    tail = 4 * BLOCK_OFFSETS
    for offset in range(0, tail, 64):
        bench.give(write(offset, offset + 1, entry=bytes(1000)))
    answers = [bench.reply(bench.trim_message(tail, tail), LEADER) for _ in range(3)]
    assert all(isinstance(each, Trimmed) and each.freeing for each in answers)
    assert _freed(bench, tail).freed_files >= 3


def test_probe_tells_state_and_raises_marks(bench: Bench) -> None:
    bench.give(write(3, 1))
    answer = bench.reply(bench.probe_message(closed_until=2), LEADER)
    assert isinstance(answer, Probed)
    assert answer.installed
    assert not answer.restarted
    assert not answer.doubt
    assert (answer.local_tail, answer.closed_until, answer.window_end) == (4, 2, 5000)


def test_probe_waits_for_the_commit_queue(bench: Bench) -> None:
    (send,) = bench.effects(bench.probe_message(), LEADER)
    assert isinstance(send, Send)
    assert send.ordered


def test_next_unit_is_pinged_and_its_silence_reported() -> None:
    bench = Bench.fresh(1)
    bench.epoch(layout(1, [1, 2]))
    second = unit_value(2).address
    (ping,) = bench.unit.tick(0.0)
    assert isinstance(ping, Send)
    assert isinstance(ping.message, Ping)
    assert ping.to == second
    bench.now = 0.4
    bench.give(Pong(ping.message.request, UnitId(2)), second)
    bench.now = 0.8
    assert probed(bench).silent == ()
    # A process that was stopped meanwhile has asked nobody: silence is counted in pings.
    bench.now = 2.0
    assert probed(bench).silent == ()
    for _ in range(3):
        bench.unit.tick(bench.now)
        bench.now += 0.25
    bench.now = 2.4
    assert probed(bench).silent == (SilentUnit(UnitId(2), 2000),)
    # An answer from elsewhere proves nothing.
    bench.give(Pong(ping.message.request, UnitId(2)), Address("10.0.0.9", 1))
    assert probed(bench).silent


def test_ping_is_answered(bench: Bench) -> None:
    asked = RequestId(OTHER, 1)
    assert bench.reply(Ping(asked, UnitId(9))) == Pong(asked, UnitId(1))


def damaged_head() -> Bench:
    bench = Bench.fresh(1)
    bench.epoch(layout(1, [1, 2]))
    bench.give(write(3, 1))
    store = bench.unit.store
    store.mark_damaged(Offset(3), store.index.get(3), None)
    return bench


def resolve(item: Resolution, epoch: int = 1, *, all_known: bool = False) -> Resolve:
    own = unit_value(1)
    return Resolve(request(), Epoch(epoch), own.id, own.incarnation, (item,), all_known)


def resolved(message: Resolve, *, doubt: bool) -> Resolved:
    own = unit_value(1)
    return Resolved(message.request, own.id, own.incarnation, doubt)


def test_resolve_data_copies_and_verifies_before_it_answers() -> None:
    bench = damaged_head()
    assert probed(bench).doubt
    source = unit_value(2).address
    digest = entry_digest(b"entry 1")
    message = resolve(Resolution(Offset(3), State.DATA, entry_id(1), digest, source))
    (ask,) = bench.effects(message, LEADER)
    assert isinstance(ask, Send)
    assert isinstance(ask.message, Copy)
    assert ask.to == source
    found = Entry(Offset(3), State.DATA, entry_id(1), digest, b"entry 1")
    entries = Entries(ask.message.request, Epoch(1), Offset(3), Offset(4), Offset(0), (found,))
    assert bench.effects(entries, source) == [
        Persist(),
        Send(LEADER, resolved(message, doubt=False)),
    ]


@pytest.mark.parametrize(
    ("verdict", "state"), [(State.EMPTY, State.EMPTY), (State.JUNK, State.JUNK)]
)
def test_resolve_settles_a_damaged_offset(verdict: State, state: State) -> None:
    bench = damaged_head()
    message = resolve(Resolution(Offset(3), verdict, JUNK_ID, Digest(0), None))
    assert bench.reply(message, LEADER) == resolved(message, doubt=False)
    assert bench.unit.store.state_at_head(Offset(3)) is state


def test_resolve_lost_is_kept_over_a_restart() -> None:
    bench = damaged_head()
    bench.give(resolve(Resolution(Offset(3), State.LOST, JUNK_ID, Digest(0), None)), LEADER)
    assert bench.unit.store.state(Offset(3)) is State.LOST
    bench.start()
    assert bench.unit.store.state(Offset(3)) is State.LOST


def test_resolve_empty_leaves_a_sound_value_alone() -> None:
    bench = Bench.fresh(1)
    bench.epoch(layout(1, [1, 2]))
    bench.give(write(3, 1))
    bench.give(resolve(Resolution(Offset(3), State.EMPTY, JUNK_ID, Digest(0), None)), LEADER)
    assert bench.unit.store.state(Offset(3)) is State.DATA


def test_resolve_empty_below_closed_until_is_not_empty() -> None:
    bench = damaged_head()
    bench.give(bench.probe_message(closed_until=10), LEADER)
    bench.give(resolve(Resolution(Offset(3), State.EMPTY, JUNK_ID, Digest(0), None)), LEADER)
    assert bench.unit.store.state(Offset(3)) is State.DAMAGED


def test_resolve_of_another_epoch_is_wrong_epoch() -> None:
    bench = damaged_head()
    message = resolve(Resolution(Offset(3), State.EMPTY, JUNK_ID, Digest(0), None), epoch=2)
    assert bench.reply(message, LEADER) == WrongEpoch(message.request, Epoch(1), Offset(0))


def test_resolve_with_another_value_than_the_sound_one_is_conflict() -> None:
    bench = Bench.fresh(1)
    bench.epoch(layout(1, [1, 2]))
    bench.give(write(3, 1))
    other = Resolution(
        Offset(3), State.DATA, EntryId(bytes(15) + b"x"), Digest(5), unit_value(2).address
    )
    message = resolve(other)
    assert bench.reply(message, LEADER) == refused(message, Reason.CONFLICT, 1)
    assert bench.unit.store.standing.frozen
