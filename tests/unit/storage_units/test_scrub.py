"""The scrub of one unit: what it reads, how fast, and what it does with what it finds."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest

from corfu.effects import Effect, Fetch, Send
from corfu.journal.format import journal_name
from corfu.messages import Copy, Entries, Fill, Inspect, Inspected, Reason, Refused, Scrub, ScrubIs
from corfu.storage_units.index import SERIAL_AT, cell_place
from corfu.storage_units.index_file import index_name
from corfu.storage_units.settings import UnitSettings
from corfu.types import Incarnation, Offset, Range, RequestId, State
from tests.unit.storage_units.unit_bench import (
    LEADER,
    Bench,
    Chain,
    fill,
    layout,
    read,
    request,
    unit_value,
    write,
)

SMALL = UnitSettings(journal_file_bytes=16384, scrub_rest_s=100.0)
COUNT = 60


def scrub(bench: Bench, *, start: bool = True, id_: RequestId | None = None) -> Scrub:
    own = unit_value(bench.id)
    return Scrub(id_ or request(), own.id, own.incarnation, start)


def told(bench: Bench, *, start: bool = False) -> ScrubIs:
    answer = bench.reply(scrub(bench, start=start), LEADER)
    assert isinstance(answer, ScrubIs)
    return answer


def tick(bench: Bench) -> list[Effect]:
    """Let the time come that the unit waits for; returns what it wants done."""
    deadline = bench.unit.deadline
    assert deadline is not None
    bench.now = max(bench.now, deadline)
    return bench.unit.tick(bench.now)


def passed(bench: Bench) -> list[Fetch]:
    """Let a pass that is asked for go to its end; returns all that was read for it."""
    fetches: list[Fetch] = []
    effects = bench.effects(scrub(bench), LEADER)
    while True:
        fetches += [effect for effect in effects if isinstance(effect, Fetch)]
        bench.run(effects)
        if not told(bench).running:
            return fetches
        effects = tick(bench)


def one(count: int = COUNT, size: int = 900) -> Bench:
    """A unit that is a chain of its own, with some finished and indexed files."""
    bench = Bench.fresh(1, SMALL)
    bench.epoch(layout(1, [1]))
    for offset in range(count):
        bench.give(write(offset, offset + 1, entry=bytes([offset]) * size))
    bench.maintain()
    return bench


def chain(size: int = 900) -> Chain:
    units = Chain({id_: Bench.fresh(id_, SMALL) for id_ in (1, 2, 3)})
    units.epoch(layout(1, [1, 2, 3]))
    for offset in range(COUNT):
        units.give(1, write(offset, offset + 1, entry=bytes([offset]) * size))
    for bench in units.benches.values():
        bench.maintain()
    return units


def flip(bench: Bench, offset: int, at: int = 100) -> str:
    """Flip bits in the record of an offset, of which nothing stays in memory."""
    store = bench.unit.store
    place = cell_place(store.index.get(offset))
    bench.disk.flip(journal_name(place.serial), place.position + at, 1)
    store.memory._cache.pop(Offset(offset), None)
    return f"{journal_name(place.serial)} is damaged at byte {place.position}"


# What a pass does.


def test_pass_reads_every_index_file_and_every_record_once() -> None:
    bench = one()
    store = bench.unit.store
    indexed = sorted(store.files.indexed)
    assert len(indexed) > 2
    fetches = passed(bench)
    names = [fetch.name for fetch in fetches]
    assert [name for name in names if name.startswith("index-")] == list(map(index_name, indexed))
    read_bytes = {(f.name, at) for f in fetches for at in range(f.position, f.position + f.length)}
    for offset in range(COUNT):
        place = cell_place(store.index.get(offset))
        assert (journal_name(place.serial), place.position) in read_bytes
    report = told(bench)
    assert (report.passes, report.damaged, report.left, report.doubt) == (1, 0, 0, False)
    assert report.bytes_done == report.bytes_total >= COUNT * 900


def test_finished_files_are_read_past_the_cache_once_and_the_newest_from_it() -> None:
    bench = one()
    finished = {journal_name(serial) for serial in bench.unit.store.journal.live}
    fetches = [f for f in passed(bench) if f.name.startswith("journal-")]
    fresh = [f.name for f in fetches if f.fresh]
    assert sorted(fresh) == sorted(finished)
    assert {f.name for f in fetches} > finished


def test_record_that_is_not_committed_yet_is_not_looked_for() -> None:
    bench = one(3)
    bench.effects(write(3, 4, entry=b"late"))
    effects = [*bench.unit.handle(scrub(bench), LEADER, 0.0)]
    for _ in range(9):
        for effect in effects:
            if isinstance(effect, Fetch):
                data = bench.disk.read(effect.name, effect.position, effect.length)
                effects = bench.unit.fetched(effect.ticket, data, bench.now)
                break
        else:
            break
    assert bench.unit.store.state(Offset(3)) is State.DATA
    assert bench.unit.store.suspicion.found == 0


def test_names_read_by_a_pass_push_no_others_out() -> None:
    bench = one()
    bench.give(bench.probe_message(closed_until=COUNT), LEADER)
    bench.unit.store.memory._cache.clear()
    passed(bench)
    assert all(bench.unit.store.name(Offset(offset)) is None for offset in range(COUNT))


def test_same_request_again_begins_no_new_pass_and_another_one_does() -> None:
    bench = one()
    id_ = request()
    first = bench.effects(scrub(bench, id_=id_), LEADER)
    assert any(isinstance(effect, Fetch) for effect in first)
    assert [type(effect) for effect in bench.effects(scrub(bench, id_=id_), LEADER)] == [Send]
    bench.run(first)
    for _ in range(3):
        bench.run(tick(bench))
    half = told(bench)
    assert 0 < half.bytes_done < half.bytes_total
    assert told(bench, start=True).bytes_done < half.bytes_done
    while told(bench).running:
        bench.run(tick(bench))
    assert told(bench).passes == 1


def test_scrub_for_another_incarnation_is_refused() -> None:
    bench = one(1)
    other = replace(scrub(bench), incarnation=Incarnation(b"another-incarnat"))
    answer = bench.reply(other, LEADER)
    assert isinstance(answer, Refused)
    assert answer.reason is Reason.WRONG_INCARNATION


def test_background_passes_keep_to_their_rate_and_rest_between() -> None:
    bench = one()
    begin = bench.unit.deadline
    assert begin == 60.0, "a process that has just started has other things to do"
    while not told(bench).passes:
        bench.run(tick(bench))
    report = told(bench)
    # Each record counts for more than its bytes, and so does each index file.
    cost = report.bytes_done + (COUNT + len(bench.unit.store.files.indexed)) * 4096
    assert bench.now - begin == pytest.approx(cost / SMALL.scrub_bytes_s)
    assert bench.unit.deadline == pytest.approx(bench.now + SMALL.scrub_rest_s)
    bench.run(tick(bench))
    assert told(bench).running


def test_step_waits_while_requests_wait_for_the_disk() -> None:
    bench = Bench.fresh(1, replace(SMALL, loads_max=1))
    bench.epoch(layout(1, [1]))
    bench.give(write(0, 1))
    bench.unit.store.memory._cache.clear()
    reading = bench.effects(read(0))
    effects = bench.effects(scrub(bench), LEADER)
    assert not any(isinstance(effect, Fetch) for effect in effects)
    bench.run(reading)
    assert any(isinstance(effect, Fetch) for effect in tick(bench))


# What it finds.


def test_damaged_record_is_told_with_file_and_byte_and_is_damaged_as_if_read() -> None:
    bench = chain()[3]
    line = flip(bench, 5)
    passed(bench)
    assert any(line in alarm and "offset 5" in alarm for alarm in bench.alarms)
    assert bench.unit.store.state(Offset(5)) is State.DAMAGED
    report = told(bench)
    assert (report.damaged, report.repaired, report.left, report.offsets) == (1, 0, 1, (5,))


def test_damaged_record_that_is_still_in_memory_is_written_again_at_once() -> None:
    bench = one()
    held = bench.unit.store.memory.held(Offset(5))
    assert held is not None
    flip(bench, 5)
    bench.unit.store.memory._cache[Offset(5)] = held
    passed(bench)
    assert (told(bench).damaged, told(bench).repaired) == (1, 1)
    bench.unit.store.memory._cache.clear()
    answer = bench.reply(read(5))
    assert isinstance(answer, Entries)
    assert answer.entries[0].entry == bytes([5]) * 900


@pytest.mark.parametrize("harm", ["flip", "remove", "cut"])
def test_bad_or_missing_index_file_is_told_and_written_again_as_it_was(harm: str) -> None:
    bench = one()
    bench.give(fill(COUNT, COUNT + 5))
    for offset in range(COUNT + 5, COUNT + 30):
        bench.give(write(offset, offset + 1, entry=bytes([offset]) * 900))
    bench.maintain()
    before = {
        serial: bench.disk.read(index_name(serial), 0, 1 << 20)
        for serial in bench.unit.store.files.indexed
    }
    for serial in before:
        if harm == "flip":
            bench.disk.flip(index_name(serial), 200, 1)
        else:
            bench.disk.remove(index_name(serial))
            if harm == "cut":
                bench.disk.write(index_name(serial), 0, before[serial][:100])
    passed(bench)
    bench.maintain()
    word = "missing" if harm == "remove" else "damaged"
    for serial in before:
        assert any(index_name(serial) in alarm and word in alarm for alarm in bench.alarms)
    held = {o: bench.unit.store.index.get(o) for o in range(COUNT + 30)}
    bench.mark()
    bench.start()
    assert bench.unit.store.files.indexed == before.keys()
    assert {o: bench.unit.store.index.get(o) for o in range(COUNT + 30)} == held
    assert not any("foreign" in alarm for alarm in bench.alarms)


def test_damaged_record_of_junk_is_written_again_for_all_its_offsets() -> None:
    bench = one(20)
    bench.give(fill(20, 50))
    bench.give(write(50, 51))
    before = bench.unit.store.index.get(25)
    line = flip(bench, 25, at=20)
    passed(bench)
    assert any(line in alarm and "junk" in alarm for alarm in bench.alarms)
    cells = {bench.unit.store.index.get(offset) for offset in range(20, 50)}
    assert len(cells) == 1
    assert before not in cells
    assert told(bench).left == 0
    bench.mark()
    bench.start()
    assert {bench.unit.store.state(Offset(o)) for o in range(20, 50)} == {State.JUNK}


def test_what_is_trimmed_or_lost_is_not_looked_at() -> None:
    bench = one()
    bench.give(bench.trim_message(10, 10), LEADER)
    lost = (Range(Offset(20), Offset(21)),)
    bench.give(replace(bench.seal_message(2), lost=lost), LEADER)
    bench.install(layout(2, [1]))
    index = bench.unit.store.index
    if index.get(9):
        flip(bench, 9)
    flip(bench, 20)
    passed(bench)
    assert told(bench).damaged == 0


def test_what_a_unit_stands_in_no_chain_for_is_not_looked_at() -> None:
    bench = one(20)
    bench.epoch(layout(2, [1], [2], first_offset=20))
    flip(bench, 6)
    flip(bench, 7)
    passed(bench)
    assert told(bench).offsets == (6,), "the others are of another chain now"


# What is damaged stays so until it is settled, and not longer.


def test_damage_at_an_offset_that_is_lost_is_not_reported_again_after_a_restart() -> None:
    bench = Bench.fresh(1, UnitSettings(journal_file_bytes=65536))
    bench.epoch(layout(1, [1]))
    for offset in range(9):
        bench.give(write(offset, offset + 1, entry=bytes([offset]) * 900))
    bench.mark()
    flip(bench, 5)
    bench.start()
    assert set(bench.unit.store.suspicion.named) == {5}
    lost = (Range(Offset(5), Offset(6)),)
    bench.give(replace(bench.seal_message(2), lost=lost), LEADER)
    bench.install(layout(2, [1]))
    assert not bench.unit.store.suspicion.named
    bench.start()
    assert not bench.unit.store.suspicion.named
    assert bench.unit.store.state(Offset(5)) is State.LOST


def test_name_of_an_entry_that_was_replaced_does_not_come_back() -> None:
    bench = one(9)
    store = bench.unit.store
    bench.give(bench.probe_message(closed_until=9), LEADER)
    store.memory._cache.clear()
    inspect = Inspect(request(), Offset(5), Offset(6))
    before = bench.reply(inspect, LEADER)
    assert isinstance(before, Inspected)
    new = write(5, 99, entry=b"rebuilt")
    store.put_data(Offset(5), new.epoch, new.entry_id, before.offsets[0].digest, new.entry)
    bench.commit()
    store.memory._cache.clear()
    after = bench.reply(inspect, LEADER)
    assert isinstance(after, Inspected)
    assert after.offsets[0].entry_id == new.entry_id


def test_torn_end_is_told_with_file_and_byte() -> None:
    bench = Bench.fresh(1, UnitSettings(journal_file_bytes=65536))
    bench.epoch(layout(1, [1]))
    for offset in range(3):
        bench.give(write(offset, offset + 1, entry=bytes([offset]) * 900))
    name = journal_name(bench.unit.store.index.get(2) >> SERIAL_AT)
    position = cell_place(bench.unit.store.index.get(2)).position
    bench.disk.write(name, position + 500, bytes(500))
    bench.start()
    bench.seal(2)
    assert any(f"{name} is torn at byte {position}" in alarm for alarm in bench.alarms)


# Who is asked for what is damaged.


def asked(bench: Bench) -> list[Send]:
    """Return what the unit asks others for, now that it may."""
    sends = [effect for effect in tick(bench) if isinstance(effect, Send)]
    return [send for send in sends if isinstance(send.message, Fill | Copy)]


def damage(bench: Bench, *offsets: int, named: bool = True) -> None:
    store = bench.unit.store
    for number in offsets:
        offset = Offset(number)
        if not named:
            store.memory.forget_name(offset)
            store.memory._cache.pop(offset)
        store.mark_damaged(offset, store.index.get(offset), None)


@pytest.mark.parametrize("id_", [2, 3])
@pytest.mark.parametrize("named", [True, False])
def test_later_unit_asks_its_head_for_what_it_lost(id_: int, named: bool) -> None:
    units = chain()
    bench = units[id_]
    damage(bench, 7, named=named)
    (send,) = asked(bench)
    message = send.message
    assert send.to == units[1].address
    assert isinstance(message, Fill)
    assert (message.offset, message.end, message.only_if_written) == (7, 8, True)
    units.give(1, message, bench.address)
    assert bench.unit.store.state(Offset(7)) is State.DATA
    assert bench.unit.store.suspicion.repaired == 1


def test_head_copies_exactly_what_it_lost_from_the_units_after_it_in_turn() -> None:
    units = chain()
    head = units[1]
    damage(head, 7)
    (send,) = asked(head)
    message = send.message
    assert isinstance(message, Copy)
    assert message.offsets == (7,)
    first = send.to
    # That one's copy is bad, too: after a while the other one is asked.
    bad = 2 if first == units[2].address else 3
    flip(units[bad], 7)
    units.give(bad, message, head.address)
    assert head.unit.store.state(Offset(7)) is State.DAMAGED
    sends: list[Send] = []
    while not sends:
        sends = asked(head)
    assert sends[0].to != first
    units.give(5 - bad, sends[0].message, head.address)
    assert head.unit.store.state(Offset(7)) is State.DATA


def test_head_that_cannot_name_what_it_lost_asks_nobody_and_says_so() -> None:
    units = chain()
    damage(units[1], 7, named=False)
    assert asked(units[1]) == []
    assert told(units[1]).left == 1


def test_frozen_unit_asks_nobody() -> None:
    bench = chain()[3]
    damage(bench, 7)
    bench.unit.store.standing.frozen = True
    assert bench.unit.deadline == 60.0, "the first scrub alone"


def test_restarted_unit_asks_nobody_before_it_serves_again() -> None:
    units = chain()
    bench = units[3]
    bench.mark()
    bench.commit()
    flip(bench, COUNT - 1)
    bench.start()
    assert set(bench.unit.store.suspicion.named) == {COUNT - 1}
    assert bench.unit.deadline is None
    units.epoch(layout(2, [1, 2, 3], first_offset=COUNT))
    (send,) = asked(bench)
    units.give(1, send.message, bench.address)
    assert bench.unit.store.state(Offset(COUNT - 1)) is State.DATA


def test_few_are_under_way_at_a_time_and_rounds_over_hopeless_damage_become_rare() -> None:
    bench = chain()[3]
    damage(bench, *range(40))
    rounds: list[float] = []
    seen: list[int] = []
    for _ in range(40):
        sends = asked(bench)
        if sends and isinstance(sends[0].message, Fill) and sends[0].message.offset == 0:
            rounds.append(bench.now)
        seen.append(len(sends))
    assert max(seen) == 16
    gaps = [later - earlier for earlier, later in pairwise(rounds)]
    assert len(gaps) > 2
    assert gaps == sorted(gaps)
    assert gaps[-1] > 2 * gaps[0]


def test_lost_file_below_closed_until_comes_back_to_a_later_unit_without_a_reader() -> None:
    units = chain()
    bench = units[3]
    bench.give(bench.probe_message(closed_until=COUNT), LEADER)
    serial = bench.unit.store.index.get(5) >> SERIAL_AT
    bench.mark()
    bench.disk.remove(journal_name(serial))
    bench.start()
    units.epoch(layout(2, [1, 2, 3], first_offset=COUNT), closed_until=COUNT)
    while bench.unit.store.suspicion.named:
        for send in asked(bench):
            units.give(1, send.message, bench.address)
    assert {bench.unit.store.state(Offset(o)) for o in range(COUNT)} == {State.DATA}
