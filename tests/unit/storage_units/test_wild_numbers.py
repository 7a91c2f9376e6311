"""Orders with numbers far beyond all that exists: bounded work, nothing above the window."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from corfu.messages import Installed, Reason, Rebuild, RebuildItem, Refused, Resolution, Resolve
from corfu.storage_units import store as store_module
from corfu.storage_units.index import OffsetIndex
from corfu.types import Address, Digest, Epoch, Offset, State
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


def serving(*chain: int) -> Bench:
    bench = Bench.fresh(1)
    bench.epoch(layout(1, list(chain)))
    bench.give(write(0, 1))
    return bench


def test_install_whose_closed_until_is_far_above_all_names_a_bounded_number_of_gaps(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The search went over every offset up to it: the unit never answered anything again."""
    monkeypatch.setattr(store_module, "_GAPS_MAX", 3000)
    looked = 0
    search = OffsetIndex.without_cell

    def counted(index: OffsetIndex, offsets: range) -> Iterator[Offset]:
        nonlocal looked
        for offset in search(index, offsets):
            looked += 1
            assert looked < 10_000
            yield offset

    monkeypatch.setattr(OffsetIndex, "without_cell", counted)
    bench = serving(1)
    bench.seal(2)
    reply = bench.install(layout(2, [1]), closed_until=FAR)
    assert isinstance(reply, Installed)
    store = bench.unit.store
    assert len(store.suspicion.named) == 3000
    assert store.state(Offset(5000)) is State.DAMAGED
    # The next epoch goes on where this one stopped.
    bench.seal(3)
    bench.install(layout(3, [1]))
    assert max(store.suspicion.named) == 6000


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
