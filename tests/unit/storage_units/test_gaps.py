"""A head that lacks old entries which nothing can name: it says so, until they are copied."""

from __future__ import annotations

from corfu.journal.format import journal_name
from corfu.messages import Probed
from corfu.storage_units.index import SERIAL_AT, OffsetIndex
from corfu.storage_units.settings import UnitSettings
from corfu.types import Offset, State
from tests.unit.storage_units.unit_bench import LEADER, Bench, Chain, layout, write

SMALL = UnitSettings(journal_file_bytes=16384)


def written(chain: tuple[int, ...]) -> Chain:
    units = Chain({id_: Bench.fresh(id_, SMALL) for id_ in chain})
    units.epoch(layout(1, chain))
    for offset in range(40):
        units.give(chain[0], write(offset, offset + 1, entry=b"%d" % offset * 500))
    return units


def lose_file_of(bench: Bench, offset: int) -> set[int]:
    """Remove the journal file that holds an offset; returns all offsets that were in it."""
    index = bench.unit.store.index
    serial = index.get(offset) >> SERIAL_AT
    lost = {other for other in range(40) if index.get(other) >> SERIAL_AT == serial}
    bench.disk.remove(journal_name(serial))
    bench.start()
    return lost


def in_doubt(bench: Bench) -> bool:
    reply = bench.reply(bench.probe_message(40), LEADER)
    assert isinstance(reply, Probed)
    return reply.doubt


def test_head_names_what_it_lacks_below_closed_until() -> None:
    head = written((1, 2))[1]
    lost = lose_file_of(head, 5)
    head.epoch(layout(2, [1, 2], first_offset=40), closed_until=40)
    assert not head.unit.store.suspicion.unknown
    assert set(head.unit.store.suspicion.named) == lost
    assert in_doubt(head)
    # The file is released by now: a later process sees no damage, and still what is lacking.
    head.commit()
    head.mark()
    head.start()
    head.epoch(layout(3, [1, 2], first_offset=40), closed_until=40)
    assert set(head.unit.store.suspicion.named) == lost


def test_later_unit_that_becomes_head_names_what_it_lacks() -> None:
    tail = written((1, 2))[2]
    lost = lose_file_of(tail, 5)
    tail.epoch(layout(2, [1, 2], first_offset=40), closed_until=40)
    assert not in_doubt(tail)
    tail.epoch(layout(3, [2], first_offset=40), closed_until=40)
    assert set(tail.unit.store.suspicion.named) == lost
    assert in_doubt(tail)


def test_head_names_nothing_above_closed_until_nor_below_the_trim_mark() -> None:
    head = written((1, 2))[1]
    lost = lose_file_of(head, 5)
    low, high = min(lost) + 1, max(lost)
    head.epoch(layout(2, [1, 2], first_offset=40), trim_mark=low, closed_until=high)
    assert set(head.unit.store.suspicion.named) == lost - {low - 1, high}
    assert head.unit.store.state(Offset(low - 1)) is State.TRIMMED


def test_offsets_without_a_cell_are_found_across_blocks() -> None:
    index = OffsetIndex()
    for offset in range(1, 3000, 2):
        index.set(offset, 1 << SERIAL_AT | 1)
    index.set(1025, 0)
    assert list(index.without_cell(range(1, 3000, 2))) == [1025]
    assert list(index.without_cell(range(2999, 5001, 1000))) == [3999, 4999]
    assert list(index.without_cell(range(7, 7, 2))) == []
