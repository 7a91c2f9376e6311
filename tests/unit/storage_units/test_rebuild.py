"""A unit takes over what a chain holds; and returns with what still counts of its old folder."""

from __future__ import annotations

from corfu.effects import Send
from corfu.layout import Segment
from corfu.messages import (
    Copy,
    Entries,
    Entry,
    Message,
    Read,
    Reason,
    Rebuild,
    RebuildDone,
    RebuildItem,
    Refused,
    WrongEpoch,
)
from corfu.storage_units.identity import write_identity
from corfu.storage_units.names import entry_digest
from corfu.storage_units.settings import UnitSettings
from corfu.types import (
    JUNK_ID,
    Digest,
    Epoch,
    Incarnation,
    Offset,
    Range,
    State,
    UnitId,
)
from tests.unit.storage_units.unit_bench import (
    LEADER,
    Bench,
    entry_id,
    fill,
    layout,
    request,
    unit_value,
    write,
)

SOURCE = unit_value(1).address
ROOMY = UnitSettings(journal_file_bytes=64 << 10)


def segments() -> tuple[Segment, ...]:
    """[0, 100) is of unit 1 alone; unit 2 stands behind it from 100 on."""
    return (
        Segment(Offset(0), Offset(100), ((UnitId(1),),)),
        Segment(Offset(100), None, ((UnitId(1), UnitId(2)),)),
    )


def joined() -> Bench:
    bench = Bench.fresh(2, settings=ROOMY)
    bench.epoch(layout(5, first_offset=100, segments=segments()))
    return bench


def data(offset: int, number: int) -> RebuildItem:
    digest = entry_digest(b"entry %d" % number)
    return RebuildItem(Offset(offset), State.DATA, entry_id(number), digest, SOURCE)


def plain(offset: int, state: State) -> RebuildItem:
    return RebuildItem(Offset(offset), state, JUNK_ID, Digest(0), None)


def rebuild(*items: RebuildItem, epoch: int = 5, trim_mark: int = 0) -> Rebuild:
    own = unit_value(2)
    return Rebuild(
        request(), Epoch(epoch), own.id, own.incarnation, Offset(trim_mark), Offset(100), items
    )


def answered(bench: Bench, copy: Message, numbers: dict[int, int]) -> list[Send]:
    """Answer a Copy with entries, by offset."""
    assert isinstance(copy, Copy)
    entries = tuple(
        Entry(offset, State.DATA, entry_id(n), entry_digest(b"entry %d" % n), b"entry %d" % n)
        for offset in copy.offsets
        if (n := numbers.get(offset)) is not None
    )
    end = Offset(copy.offsets[-1] + 1)
    reply = Entries(copy.request, copy.epoch, copy.offset, end, Offset(0), entries)
    return bench.give(reply, SOURCE)


def state_at(bench: Bench, offset: int) -> State:
    return bench.unit.store.state(Offset(offset))


def test_rebuild_copies_what_lacks_and_is_durable_when_it_says_so() -> None:
    bench = joined()
    items = (data(0, 10), plain(1, State.JUNK), plain(2, State.LOST), data(3, 13))
    (copy,) = bench.give(rebuild(*items), LEADER)
    assert copy.to == SOURCE
    (done,) = answered(bench, copy.message, {0: 10, 3: 13})
    assert isinstance(done.message, RebuildDone)
    assert done.message.copied_bytes > 0
    bench.start()
    states = [state_at(bench, offset) for offset in range(4)]
    assert states == [State.DATA, State.JUNK, State.LOST, State.DATA]


def test_rebuild_of_what_is_held_copies_nothing() -> None:
    bench = joined()
    (copy,) = bench.give(rebuild(data(0, 10)), LEADER)
    answered(bench, copy.message, {0: 10})
    reply = bench.reply(rebuild(data(0, 10)), LEADER)
    assert isinstance(reply, RebuildDone)
    assert reply.copied_bytes == 0


def test_rebuild_replaces_a_value_that_lost() -> None:
    bench = joined()
    (copy,) = bench.give(rebuild(data(0, 66), data(1, 67)), LEADER)
    answered(bench, copy.message, {0: 66, 1: 67})
    (copy,) = bench.give(rebuild(data(0, 10), plain(1, State.JUNK)), LEADER)
    answered(bench, copy.message, {0: 10})
    bench.start()
    name = bench.unit.store.name(Offset(0))
    assert name is None or name.entry_id == entry_id(10)
    assert state_at(bench, 1) is State.JUNK


def test_rebuild_takes_no_other_entry_than_the_one_named() -> None:
    bench = joined()
    (copy,) = bench.give(rebuild(data(0, 10)), LEADER)
    assert answered(bench, copy.message, {0: 11}) == []
    assert state_at(bench, 0) is State.DAMAGED


def test_rebuild_where_the_unit_has_a_seat_is_refused() -> None:
    reply = joined().reply(rebuild(data(100, 10)), LEADER)
    assert isinstance(reply, Refused)
    assert reply.reason is Reason.WRONG_UNIT


def test_rebuild_of_another_epoch_is_refused() -> None:
    assert isinstance(joined().reply(rebuild(data(0, 10), epoch=4), LEADER), WrongEpoch)


def test_rebuild_brings_the_trim_mark() -> None:
    bench = joined()
    assert isinstance(bench.reply(rebuild(trim_mark=40), LEADER), RebuildDone)
    assert bench.unit.store.standing.trim_mark == 40


def test_unit_that_is_being_rebuilt_never_answers_empty_for_old_offsets() -> None:
    bench = joined()
    read = Read(request(), Epoch(5), Offset(0), Offset(1), 1 << 20, 0)
    reply = bench.reply(read)
    assert isinstance(reply, Refused)
    assert reply.reason is Reason.REBUILDING


# The return of a unit that was left out.


def test_reborn_folder_keeps_what_lay_below_the_bound_and_nothing_else() -> None:
    bench = Bench.fresh(1, settings=ROOMY)
    bench.epoch(layout(1, [1]))
    for offset in (0, 1, 9, 12):
        bench.give(write(offset, offset + 1))
    # One record makes the offsets 2 to 8, 10 and 11 junk: it reaches over the bound.
    bench.give(fill(2, 9))
    bench.give(fill(10, 12))
    bench.mark()
    reborn = bench.identity.reborn(Incarnation(b"unit-1-again-000"), Offset(11))
    write_identity(bench.disk, reborn)
    for _ in range(2):  # the second start reads what the first one wrote again
        bench.start()
        held = {o: state_at(bench, o) for o in range(14)}
        assert {o for o, state in held.items() if state is State.DATA} == {0, 1, 9}
        assert {o for o, state in held.items() if state is State.JUNK} == {2, 3, 4, 5, 6, 7, 8, 10}
        assert {held[o] for o in (11, 12, 13)} == {State.EMPTY}


def test_reborn_twice_keeps_the_bound_of_each_incarnation() -> None:
    bench = Bench.fresh(1, settings=ROOMY)
    bench.epoch(layout(1, [1]))
    bench.give(write(5, 5))
    identity = bench.identity.reborn(Incarnation(b"unit-1-again-000"), Offset(3))
    identity = identity.reborn(Incarnation(b"unit-1-again-001"), Offset(50))
    assert [each.bound for each in identity.earlier] == [3, 50]
    write_identity(bench.disk, identity)
    bench.start()
    assert state_at(bench, 5) is State.EMPTY


def test_lost_range_declared_to_the_old_incarnation_is_still_known() -> None:
    bench = Bench.fresh(1, settings=ROOMY)
    bench.epoch(layout(1, [1]))
    bench.unit.store.put_lost([Range(Offset(4), Offset(5))])
    bench.commit()
    bench.mark()
    identity = bench.identity.reborn(Incarnation(b"unit-1-again-000"), Offset(10))
    write_identity(bench.disk, identity)
    bench.start()
    assert state_at(bench, 4) is State.LOST
