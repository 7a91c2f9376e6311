"""Orders with numbers far beyond all that exists: bounded work, nothing above the window."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from corfu.messages import (
    Installed,
    Reason,
    Rebuild,
    RebuildItem,
    Refused,
    Resolution,
    Resolve,
    Scrub,
    ScrubIs,
)
from corfu.storage_units import gaps
from corfu.storage_units.index import OffsetIndex
from corfu.types import Address, Digest, Epoch, Offset, Range, State
from tests.unit.storage_units.unit_bench import (
    LEADER,
    WINDOW_END,
    Bench,
    entry_id,
    layout,
    request,
    unit_value,
    write,
)

FAR = Offset(2**62)
STEP = gaps._GAPS_STEP


def serving(*chain: int) -> Bench:
    bench = Bench.fresh(1)
    bench.epoch(layout(1, list(chain)))
    bench.give(write(0, 1))
    return bench


def tick_when_due(bench: Bench) -> None:
    deadline = bench.unit.deadline
    if deadline is not None:
        bench.now = max(bench.now, deadline)
    bench.run(bench.unit.tick(bench.now))


def count_looks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list whose only item grows by one with each gap that the search looks at."""
    looks = [0]
    search = OffsetIndex.without_cell

    def counted(index: OffsetIndex, offsets: range) -> Iterator[Offset]:
        for offset in search(index, offsets):
            looks[0] += 1
            assert looks[0] < 50_000, "the search never ends"
            yield offset

    monkeypatch.setattr(OffsetIndex, "without_cell", counted)
    return looks


def test_install_whose_closed_until_is_far_above_all_names_a_bounded_number_of_gaps(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The search went over every offset up to it: the unit never answered anything again."""
    looks = count_looks(monkeypatch)
    bench = serving(1)
    bench.seal(2)
    reply = bench.install(layout(2, [1]), closed_until=FAR)
    assert isinstance(reply, Installed)
    store = bench.unit.store
    # An order costs a step, no more; and so does each tick, until as many are named as may be.
    assert looks[0] <= STEP + 1
    assert len(store.suspicion.named) <= STEP
    for _ in range(10):
        before = looks[0]
        tick_when_due(bench)
        assert looks[0] - before <= STEP + 1
    assert len(store.suspicion.named) == gaps._NAMED_MAX
    assert not store.gaps.goes_on
    # What has no name is answered DAMAGED all the same.
    assert store.state(Offset(5000)) is State.DAMAGED
    # Further epochs and orders change nothing of that.
    for epoch in (3, 4, 5):
        bench.seal(epoch)
        bench.install(layout(epoch, [1]))
    bench.give(bench.probe_message(40), LEADER)
    assert len(store.suspicion.named) == gaps._NAMED_MAX


def test_gaps_beyond_the_bound_are_named_when_others_are_settled() -> None:
    bench = serving(1)
    bench.seal(2)
    bench.install(layout(2, [1]), closed_until=3 * gaps._NAMED_MAX)
    store, seen = bench.unit.store, set[Offset]()
    for _ in range(10):
        named = set(store.suspicion.named)
        assert len(named) <= gaps._NAMED_MAX
        seen |= named
        if named:
            store.put_lost([Range(min(named), Offset(max(named) + 1))])
        tick_when_due(bench)
    assert seen == set(range(1, 3 * gaps._NAMED_MAX))
    assert not store.gaps.goes_on
    assert not store.suspicion.named


def test_gaps_of_a_lost_range_without_an_end_are_passed_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looks = count_looks(monkeypatch)
    bench = serving(1)
    bench.seal(2)
    bench.unit.store.put_lost([Range(Offset(3), Offset(FAR - 5))])
    bench.install(layout(2, [1]), closed_until=FAR)
    tick_when_due(bench)
    assert looks[0] < 20
    assert not bench.unit.store.gaps.goes_on
    assert set(bench.unit.store.suspicion.named) == {1, 2, *range(FAR - 5, FAR)}


def test_gaps_in_a_long_sound_log_are_searched_in_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """A restart beside a million entries must not keep the unit's other work waiting."""
    monkeypatch.setattr(gaps, "_SPAN_STEP", 10)
    bench = serving(1)
    for offset in range(1, 40):
        bench.give(write(offset, 1 + offset % 8))
    store = bench.unit.store
    store.index.set(Offset(35), 0)
    bench.seal(2)
    bench.install(layout(2, [1]), closed_until=40)
    assert not store.suspicion.named
    ticks = 0
    while store.gaps.goes_on:
        tick_when_due(bench)
        ticks += 1
    assert ticks == 3
    assert set(store.suspicion.named) == {35}


def test_order_that_asks_what_is_damaged_takes_a_step_of_the_search_first() -> None:
    """Else a settler that comes between two steps would believe that nothing is left."""
    bench = serving(1)
    bench.seal(2)
    bench.install(layout(2, [1]), closed_until=3 * STEP)
    store = bench.unit.store
    store.put_lost([Range(Offset(0), Offset(max(store.suspicion.named) + 1))])
    own = unit_value(1)
    reply = bench.reply(Scrub(request(), own.id, own.incarnation, start=False), LEADER)
    assert isinstance(reply, ScrubIs)
    assert reply.left == STEP


@pytest.mark.parametrize("state", [State.JUNK, State.LOST, State.DATA, State.EMPTY])
def test_resolve_above_the_window_is_refused(state: State) -> None:
    bench = serving(1, 2)
    own = unit_value(1)
    source = unit_value(2).address
    item = Resolution(WINDOW_END, state, entry_id(3), Digest(7), source)
    resolve = Resolve(request(), Epoch(1), own.id, own.incarnation, (item,), all_known=False)
    reply = bench.reply(resolve, LEADER)
    assert isinstance(reply, Refused)
    assert reply.reason is Reason.ABOVE_WINDOW
    assert bench.unit.store.local_tail == 1
    below = replace(item, offset=Offset(WINDOW_END - 1), state=State.JUNK)
    bench.give(replace(resolve, items=(below,)), LEADER)
    assert bench.unit.store.local_tail == WINDOW_END


def test_rebuild_above_the_window_is_refused() -> None:
    bench = Bench.fresh(1)
    bench.epoch(layout(1, [2]))
    own = unit_value(1)
    item = RebuildItem(WINDOW_END, State.JUNK, entry_id(3), Digest(7), Address("10.0.1.2", 9710))
    rebuild = Rebuild(
        request(), Epoch(1), own.id, own.incarnation, Offset(0), Offset(0), (item,)
    )  # fmt: skip
    reply = bench.reply(rebuild, LEADER)
    assert isinstance(reply, Refused)
    assert reply.reason is Reason.ABOVE_WINDOW
    assert bench.unit.store.local_tail == 0
