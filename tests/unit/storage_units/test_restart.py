"""What a unit is after a crash: nothing acknowledged is gone, and doubt is never EMPTY."""

from __future__ import annotations

import contextlib
import random
from dataclasses import replace

import pytest

from corfu.errors import CorruptionError
from corfu.journal.execute import execute_all
from corfu.journal.format import journal_name
from corfu.messages import (
    AlreadyWritten,
    Entries,
    Forward,
    Inspect,
    Inspected,
    Probed,
    Reason,
    Refused,
    Resolution,
    Resolve,
    Resolved,
    Sealed,
    Write,
    WrongEpoch,
)
from corfu.storage_units.index import SERIAL_AT
from corfu.storage_units.index_file import index_name
from corfu.storage_units.settings import UnitSettings
from corfu.types import JUNK_ID, Digest, Epoch, Offset, Range, State
from tests.unit.corfu.fake_disk import Crash, FakeDisk
from tests.unit.storage_units.unit_bench import (
    CLIENT,
    LEADER,
    Bench,
    entry_id,
    fill,
    layout,
    read,
    request,
    unit_value,
    write,
)

ONE = layout(1, [1])
ROOMY = UnitSettings(journal_file_bytes=65536)


def serving(id_: int = 1, settings: UnitSettings = ROOMY) -> Bench:
    bench = Bench.fresh(id_, settings)
    bench.epoch(layout(1, [1, 2]) if id_ != 1 else ONE)
    return bench


def again(bench: Bench, epoch: int = 2, first_offset: int = 1000) -> Bench:
    """Restart and make a new epoch of the same chain."""
    bench.start()
    bench.epoch(layout(epoch, [1], first_offset=first_offset))
    return bench


def states(bench: Bench, start: int, end: int, epoch: int = 2) -> dict[int, State]:
    answer = bench.reply(read(start, end, epoch))
    assert isinstance(answer, Entries)
    return {int(each.offset): each.state for each in answer.entries}


def probed(bench: Bench) -> Probed:
    answer = bench.reply(bench.probe_message(), LEADER)
    assert isinstance(answer, Probed)
    return answer


def position_of(bench: Bench, entry: bytes) -> tuple[str, int]:
    """Return the file and position of an entry's bytes."""
    for name in bench.disk.names():
        found = bench.disk.read(name, 0, bench.disk.size(name)).rfind(entry)
        if name.startswith("journal-") and found >= 0:
            return name, found
    raise AssertionError("not on disk")


def test_committed_values_are_back_after_a_power_cut() -> None:
    bench = serving()
    stored = [write(offset, offset + 1) for offset in range(10)]
    for message in stored:
        bench.give(message)
    bench.give(fill(10, 15))
    bench.disk.power_cut(random.Random(1))
    again(bench)
    answer = bench.reply(read(0, 20, epoch=2))
    assert isinstance(answer, Entries)
    assert [each.entry for each in answer.entries[:10]] == [m.entry for m in stored]
    assert [each.state for each in answer.entries[10:]] == [State.JUNK] * 5


def test_restarted_unit_serves_nothing_before_a_newer_epoch() -> None:
    bench = serving()
    bench.start()
    assert probed(bench).restarted
    message = write(0, 1)
    assert bench.reply(message) == WrongEpoch(message.request, Epoch(1), Offset(0))
    # The same Seal, and its layout, again: its epoch is not served again.
    again_sealed = bench.seal(1)
    assert isinstance(again_sealed, Sealed)
    assert again_sealed.epoch_before == 0
    bench.install(ONE)
    assert isinstance(bench.reply(write(0, 1)), WrongEpoch)
    assert probed(bench).restarted
    bench.seal(2)
    assert probed(bench).restarted
    bench.install(layout(2, [1]))
    assert not probed(bench).restarted
    assert not isinstance(bench.reply(write(0, 1, epoch=2)), WrongEpoch)


def test_freshly_formatted_unit_is_not_restarted() -> None:
    assert not probed(Bench.fresh(1)).restarted


def test_seal_survives_a_power_cut() -> None:
    bench = serving()
    bench.seal(7)
    bench.disk.power_cut(random.Random(2))
    bench.start()
    message = bench.seal_message(6)
    answer = Refused(message.request, Epoch(7), Offset(0), Reason.STALE_EPOCH)
    assert bench.reply(message, LEADER) == answer


def test_restored_old_folder_shows_in_sealed() -> None:
    bench = serving()
    bench.give(write(0, 1))
    old: FakeDisk = bench.disk.copy()
    bench.give(write(1, 2))
    fresh = bench.seal(2)
    bench.disk = old
    bench.start()
    stale = bench.seal(2)
    assert isinstance(fresh, Sealed)
    assert isinstance(stale, Sealed)
    assert stale.blocks != fresh.blocks
    assert stale.local_tail == 1


def test_restored_folder_of_an_older_epoch_tells_its_epoch() -> None:
    bench = serving()
    old = bench.disk.copy()
    bench.epoch(layout(5, [1]))
    bench.disk = old
    bench.start()
    answer = bench.seal(6)
    assert isinstance(answer, Sealed)
    assert answer.epoch_before == 1


def test_restored_folder_is_never_sealed_forward_however_often_it_is_asked() -> None:
    """A seal that raised its epoch would make the next one look as if nothing were lost."""
    bench = serving()
    old = bench.disk.copy()
    bench.epoch(layout(5, [1]))
    bench.disk = old
    bench.start()
    for epoch in (6, 7):
        answer = bench.reply(bench.seal_message(epoch, sealed_for=5), LEADER)
        assert isinstance(answer, Refused)
        assert (answer.epoch, answer.reason) == (1, Reason.LOST_STATE)


def test_trim_mark_survives_and_trimmed_values_do_not_come_back() -> None:
    bench = serving()
    bench.give(write(0, 1))
    bench.give(bench.trim_message(1, 1), LEADER)
    bench.disk.power_cut(random.Random(3))
    again(bench)
    answer = bench.reply(read(0, 5, epoch=2))
    assert isinstance(answer, Entries)
    assert (answer.trim_mark, answer.entries) == (1, ())


def test_everything_trimmed_keeps_the_local_tail_after_restart() -> None:
    bench = serving()
    for offset in range(30):
        bench.give(write(offset, offset + 1, entry=bytes(3000)))
    bench.maintain()
    bench.give(bench.trim_message(30, 30), LEADER)
    bench.maintain()
    bench.start()
    answer = bench.seal(2)
    assert isinstance(answer, Sealed)
    assert (answer.local_tail, answer.trim_mark) == (30, 30)


def damaged(*, mark: bool) -> Bench:
    """A chain of one whose entry at 3 went bad on disk; with `mark`, before the last mark."""
    bench = serving()
    bench.give(write(3, 1, entry=b"precious" * 20))
    if mark:
        bench.give(write(4, 2))
        bench.mark()
    name, position = position_of(bench, b"precious" * 20)
    bench.disk.flip(name, position + 3, 4)
    bench.start()
    return bench


@pytest.mark.parametrize("mark", [True, False])
def test_bad_record_is_damaged_and_named_never_empty(mark: bool) -> None:
    bench = damaged(mark=mark)
    answer = bench.seal(2)
    assert isinstance(answer, Sealed)
    assert answer.blocks[0].named == (3,)
    bench.install(layout(2, [1], first_offset=1000))
    assert states(bench, 0, 10)[3] is State.DAMAGED
    assert probed(bench).doubt
    message = fill(3, epoch=2)
    assert bench.reply(message) == Refused(message.request, Epoch(2), Offset(3), Reason.DAMAGED)
    inspected = bench.reply(Inspect(request(), Offset(0), Offset(10)))
    assert isinstance(inspected, Inspected)
    assert inspected.offsets[0].state is State.DAMAGED
    assert inspected.offsets[0].entry_id == entry_id(1)
    # And so it stays, until it is settled.
    bench.start()
    assert bench.unit.store.state(Offset(3)) is State.DAMAGED


def resolve(*items: Resolution, all_known: bool = True) -> Resolve:
    own = unit_value(1)
    return Resolve(request(), Epoch(2), own.id, own.incarnation, items, all_known)


def test_named_doubt_settled_as_empty_is_forgotten_for_good() -> None:
    bench = damaged(mark=False)
    bench.epoch(layout(2, [1], first_offset=1000))
    item = Resolution(Offset(3), State.EMPTY, JUNK_ID, Digest(0), None)
    answer = bench.reply(resolve(item), LEADER)
    assert isinstance(answer, Resolved)
    assert not answer.doubt
    assert bench.unit.store.state_at_head(Offset(3)) is State.EMPTY
    bench.start()
    assert bench.unit.store.state_at_head(Offset(3)) is State.EMPTY


def doubtful_head() -> Bench:
    """A head whose last batch lost a whole record header: no telling which offset it was."""
    bench = serving()
    bench.give(write(0, 1))
    bench.give(write(3, 2, entry=b"precious" * 20))
    name, position = position_of(bench, b"precious" * 20)
    for at in range(position - 64, position):
        bench.disk.flip(name, at, 0xFF)
    bench.start()
    return bench


def test_head_in_unnamed_doubt_answers_damaged_below_the_next_first_offset() -> None:
    bench = doubtful_head()
    answer = bench.seal(2)
    assert isinstance(answer, Sealed)
    assert answer.doubt
    bench.install(layout(2, [1], first_offset=10))
    assert probed(bench).doubt
    assert states(bench, 0, 20) == {0: State.DATA} | dict.fromkeys(range(1, 10), State.DAMAGED)
    message = fill(5, epoch=2)
    assert bench.reply(message) == Refused(message.request, Epoch(2), Offset(5), Reason.DAMAGED)
    # Offsets of the new epoch cannot be it.
    assert not isinstance(bench.reply(write(10, 9, epoch=2)), Refused)


def test_unnamed_doubt_ends_with_all_known_and_not_before() -> None:
    bench = doubtful_head()
    bench.epoch(layout(2, [1], first_offset=10))
    answer = bench.reply(resolve(all_known=False), LEADER)
    assert isinstance(answer, Resolved)
    assert answer.doubt
    bench.start()
    assert bench.unit.store.suspicion.unknown
    bench.epoch(layout(3, [1], first_offset=10))
    bench.give(replace(resolve(), epoch=Epoch(3)), LEADER)
    assert bench.unit.store.state_at_head(Offset(5)) is State.EMPTY
    bench.start()
    assert not bench.unit.store.suspicion.unknown


def test_unnamed_doubt_ends_when_all_it_may_be_about_is_closed() -> None:
    bench = doubtful_head()
    bench.epoch(layout(2, [1], first_offset=10))
    bench.give(bench.probe_message(closed_until=10), LEADER)
    assert not probed(bench).doubt


def test_later_unit_in_doubt_is_repaired_by_the_forwarded_value() -> None:
    bench = Bench.fresh(2, ROOMY)
    two = layout(1, [1, 2])
    bench.epoch(two)
    head = unit_value(1).address

    def forward(message: Write) -> Forward:
        fields = (message.request, message.epoch, message.offset, message.entry_id)
        return Forward(*fields, CLIENT, message.entry)

    first = write(3, 1, entry=b"precious" * 20)
    bench.give(forward(first), head)
    name, position = position_of(bench, b"precious" * 20)
    bench.disk.flip(name, position, 1)
    bench.start()
    bench.epoch(layout(2, [1, 2], first_offset=3))
    assert states(bench, 0, 10)[3] is State.DAMAGED
    # It is not the head for it: no new epoch is called for.
    assert not probed(bench).doubt
    bench.give(forward(replace(first, epoch=Epoch(2))), head)
    assert states(bench, 0, 10)[3] is State.DATA
    bench.start()
    assert bench.unit.store.state(Offset(3)) is State.DATA
    assert not bench.unit.store.suspicion.named


def many(bench: Bench, count: int = 100) -> list[Write]:
    stored = [write(offset, offset + 1, entry=bytes([offset]) * 1000) for offset in range(count)]
    for message in stored:
        bench.give(message)
    return stored


def test_index_files_stand_in_for_finished_journal_files() -> None:
    bench = serving(settings=UnitSettings(journal_file_bytes=16384))
    stored = many(bench)
    bench.give(fill(100, 140))
    bench.maintain()
    indexed = sorted(bench.unit.store.files.indexed)
    assert len(indexed) > 4
    before = bench.unit.store
    bench.start()
    after = bench.unit.store
    assert after.files.indexed >= set(indexed) - set(range(indexed[0]))
    for offset in range(140):
        assert after.index.get(offset) == before.index.get(offset)
        assert after.name(Offset(offset)) == before.name(Offset(offset))
    bench.epoch(layout(2, [1], first_offset=1000))
    answer = bench.reply(read(50, 60, epoch=2))
    assert isinstance(answer, Entries)
    assert [each.entry for each in answer.entries] == [m.entry for m in stored[50:60]]
    other = write(60, 999, epoch=2)
    bench.unit.store.standing.layout = replace(layout(2, [1]), first_offset=Offset(0))
    assert isinstance(bench.reply(other), AlreadyWritten)


@pytest.mark.parametrize("harm", ["flip", "remove"])
def test_bad_or_missing_index_file_costs_nothing_but_time(harm: str) -> None:
    bench = serving(settings=UnitSettings(journal_file_bytes=16384))
    many(bench)
    bench.maintain()
    before = bench.unit.store
    for serial in before.files.indexed:
        if harm == "flip":
            bench.disk.flip(index_name(serial), 200, 1)
        else:
            bench.disk.remove(index_name(serial))
    bench.start()
    assert not bench.unit.store.files.indexed
    for offset in range(100):
        assert bench.unit.store.name(Offset(offset)) == before.name(Offset(offset))


def test_index_files_of_freed_journal_files_are_removed() -> None:
    bench = serving(settings=UnitSettings(journal_file_bytes=16384))
    many(bench)
    bench.maintain()
    bench.give(bench.trim_message(90, 90), LEADER)
    bench.maintain()
    serials = {name[6:] for name in bench.disk.names() if name.startswith("index-")}
    assert len(serials) <= 2


def test_damage_nobody_can_name_keeps_its_file_from_being_indexed_until_settled() -> None:
    bench = serving(settings=UnitSettings(journal_file_bytes=16384))
    many(bench, 40)
    place = bench.unit.store.index.get(5) >> SERIAL_AT
    name, position = position_of(bench, bytes([5]) * 1000)
    for at in range(position - 64, position):
        bench.disk.flip(name, at, 0xFF)
    for _ in range(2):
        bench.start()
        assert bench.unit.store.suspicion.unknown
        bench.maintain()
        assert name == journal_name(place)
        assert place not in bench.unit.store.files.indexed
    bench.epoch(layout(2, [1], first_offset=1000))
    assert bench.unit.store.state_at_head(Offset(5)) is State.DAMAGED
    bench.give(resolve(), LEADER)
    bench.maintain()
    assert place in bench.unit.store.files.indexed
    bench.start()
    assert not bench.unit.store.suspicion.unknown


def test_index_file_waits_for_a_repair_that_is_not_durable() -> None:
    """Else, after a power cut, neither the damaged record nor the repaired one would be found."""
    bench = Bench.fresh(2, UnitSettings(journal_file_bytes=16384))
    bench.epoch(layout(1, [1, 2]))
    head = unit_value(1).address
    stored = [write(offset, offset + 1, entry=bytes([offset]) * 1000) for offset in range(30)]
    for each in stored:
        fields = (each.request, each.epoch, each.offset, each.entry_id)
        bench.give(Forward(*fields, CLIENT, each.entry), head)
    store = bench.unit.store
    store.mark_damaged(Offset(3), store.index.get(3), None)
    fields = (stored[3].request, Epoch(1), Offset(3), stored[3].entry_id)
    bench.unit.handle(Forward(*fields, CLIENT, stored[3].entry), head, 0.0)
    bench.unit.maintain(0.0)
    assert bench.unit.next_index() is None
    bench.commit()
    assert bench.unit.next_index() is not None
    bench.maintain()
    bench.start()
    assert bench.unit.store.state(Offset(3)) is State.DATA


def test_index_file_waits_for_a_trim_that_is_not_durable() -> None:
    """Else, after a power cut, what it was to trim would be gone and the mark as well."""
    bench = Bench.fresh(1, UnitSettings(journal_file_bytes=16384))
    bench.epoch(layout(1, [1]))
    for offset in range(30):
        bench.give(write(offset, offset + 1, entry=bytes([offset]) * 1000))
    bench.unit.handle(bench.trim_message(5, 10), LEADER, 0.0)
    bench.unit.maintain(0.0)
    assert bench.unit.next_index() is None
    before = bench.disk.twin()
    bench.commit()
    assert bench.unit.next_index() is not None
    bench.disk = before
    bench.start()
    assert bench.unit.store.standing.trim_mark == 0
    assert bench.unit.store.state(Offset(3)) is State.DATA


def test_missing_journal_file_is_doubt() -> None:
    bench = serving(settings=UnitSettings(journal_file_bytes=16384))
    many(bench, 40)
    bench.disk.remove(journal_name(bench.unit.store.index.get(5) >> SERIAL_AT))
    bench.start()
    bench.epoch(layout(2, [1], first_offset=1000))
    assert bench.unit.store.state_at_head(Offset(5)) is State.DAMAGED
    assert probed(bench).doubt


def test_lost_ranges_survive_a_restart() -> None:
    bench = serving()
    bench.give(replace(bench.seal_message(2), lost=(Range(Offset(5), Offset(7)),)), LEADER)
    bench.start()
    assert [bench.unit.store.state(Offset(o)) for o in (4, 5, 6, 7)] == [
        *(State.EMPTY, State.LOST, State.LOST, State.EMPTY)
    ]


def test_folder_without_journal_is_refused() -> None:
    bench = serving()
    for name in bench.disk.names():
        if name.startswith("journal-"):
            bench.disk.remove(name)
    with pytest.raises(CorruptionError):
        bench.start()


@pytest.mark.parametrize("seed", range(30))
def test_random_crashes_lose_nothing_committed_and_show_nothing_false(seed: int) -> None:
    """Writes, fills and trims with crashes at random disk operations, power cuts included."""
    rng = random.Random(seed)
    bench = serving(settings=UnitSettings(journal_file_bytes=8192))
    epoch, offset, mark = 1, 0, 0
    known: dict[int, bytes] = {}
    junk: set[int] = set()
    for _ in range(6):
        for _ in range(rng.randrange(1, 25)):
            if rng.random() < 0.2:
                end = offset + rng.randrange(1, 5)
                bench.give(fill(offset, end, epoch))
                junk |= set(range(offset, end))
                offset = end
            else:
                body = rng.randbytes(rng.randrange(0, 900))
                bench.give(write(offset, offset + 1, epoch, entry=body))
                known[offset] = body
                offset += 1
        if rng.random() < 0.3:
            mark = max(mark, rng.randrange(offset + 1))
            bench.give(bench.trim_message(mark, mark), LEADER)
        if rng.random() < 0.5:
            bench.maintain()
        pending = [write(offset + i, offset + i + 1, epoch, entry=b"late") for i in range(3)]
        for message in pending:
            bench.effects(message)
        crash(bench, rng)
        epoch += 1
        bench.epoch(layout(epoch, [1], first_offset=offset + 100), trim_mark=mark)
        for found in sorted(junk | known.keys()):
            sound = State.JUNK if found in junk else State.DATA
            expected = State.TRIMMED if found < mark else sound
            assert bench.unit.store.state(Offset(found)) is expected
        settle(bench, epoch, offset)
        check_values(bench, known, mark, epoch)
        offset += 100


def crash(bench: Bench, rng: random.Random) -> None:
    """Let the process die in the middle of its last commit, then in its recovery, now and then."""
    bench.disk.rng = rng
    bench.disk.crash_in = rng.randrange(4)
    with contextlib.suppress(Crash):
        execute_all(bench.disk, bench.unit.journal.cut())
    for _ in range(rng.randrange(3)):
        if rng.random() < 0.5:
            bench.disk.power_cut(rng)
        bench.disk.crash_in = rng.randrange(12)
        with contextlib.suppress(Crash):
            bench.start()
    bench.disk.crash_in = None
    bench.start()


def settle(bench: Bench, epoch: int, offset: int) -> None:
    """What was never committed may be there, be gone, or be in doubt: settle it as empty."""
    named = sorted(bench.unit.store.suspicion.named)
    items = tuple(Resolution(o, State.EMPTY, JUNK_ID, Digest(0), None) for o in named)
    assert all(o >= offset for o in named)
    own = unit_value(1)
    message = Resolve(request(), Epoch(epoch), own.id, own.incarnation, items, all_known=True)
    answer = bench.reply(message, LEADER)
    assert isinstance(answer, Resolved)
    assert not answer.doubt


def check_values(bench: Bench, known: dict[int, bytes], mark: int, epoch: int) -> None:
    for offset, body in known.items():
        if offset >= mark:
            answer = bench.reply(read(offset, offset + 1, epoch))
            assert isinstance(answer, Entries)
            assert answer.entries[0].entry == body
