"""A unit against a small model: what was answered stays true, through seals, trims and power cuts.

The model is a dict of what each offset holds, and a few numbers. The unit is the real core on a
fake disk; a reply leaves only once what it tells is on the platter, so what was told survives.
"""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from corfu.messages import (
    AlreadyWritten,
    Entries,
    Filled,
    Message,
    NotWritten,
    Reason,
    Refused,
    Sealed,
    Trimmed,
    Written,
    WrongEpoch,
)
from corfu.storage_units.context import Context
from corfu.storage_units.store import Store
from corfu.storage_units.writes import Writes
from corfu.types import EntryId, Offset, State
from tests.unit.machines import Plant, explore
from tests.unit.storage_units.unit_bench import (
    CLIENT,
    LEADER,
    SETTINGS,
    Bench,
    entry_id,
    fill,
    layout,
    read,
    write,
)

OFFSETS = st.integers(0, 30)
IDS = st.integers(1, 4)


class UnitModel(RuleBasedStateMachine):
    """A chain of one: the unit is head and tail unit at once, and answers everything itself."""

    def __init__(self) -> None:
        super().__init__()
        self.bench = Bench.fresh(1, SETTINGS)
        self.epoch = 0
        self.served = False
        self.first = 0
        self.trim = 0
        self.closed = 0
        self.values: dict[int, EntryId | None] = {}
        """What each offset holds; None is junk."""
        self.advance(0)

    # What the leader does.

    @rule(first=st.integers(0, 20))
    def advance(self, first: int) -> None:
        """Seal and install the next epoch. T never falls."""
        self.epoch += 1
        self.first = max(self.first, first)
        sealed = self.bench.seal(self.epoch, self.trim, self.closed)
        assert isinstance(sealed, Sealed)
        assert sealed.epoch_before == self.epoch - 1
        assert sealed.local_tail == max([self.trim, *(offset + 1 for offset in self.values)])
        self.bench.install(layout(self.epoch, [1], first_offset=self.first), self.trim, self.closed)
        self.served = True

    @rule()
    def seal_only(self) -> None:
        """Seal: from here on nothing is served before the next install."""
        self.epoch += 1
        assert isinstance(self.bench.seal(self.epoch), Sealed)
        self.served = False

    @precondition(lambda self: self.epoch > 1)
    @rule(back=st.integers(1, 3))
    def seal_of_the_past(self, back: int) -> None:
        """Seal with an older epoch: refused, nothing changes."""
        reply = self.bench.seal(max(0, self.epoch - back))
        assert isinstance(reply, Refused)
        assert reply.reason is Reason.STALE_EPOCH

    @rule(mark=OFFSETS)
    def trim_to(self, mark: int) -> None:
        """Close what is decided without a gap, and trim up to there at most."""
        whole = self.closed
        while whole in self.values:
            whole += 1
        self.closed = whole
        self.trim = max(self.trim, min(mark, self.closed))
        (send,) = self.bench.give(self.bench.trim_message(mark, self.closed), LEADER)
        assert isinstance(send.message, Trimmed)
        assert send.message.mark == self.trim

    # What clients do.

    @rule(offset=OFFSETS, number=IDS, late=st.integers(0, 1))
    def write(self, offset: int, number: int, late: int) -> None:
        """Write, sometimes in the epoch before."""
        reply = self._ask(write(offset, number, self.epoch - late))
        if self._fenced(reply, late):
            return
        held = self.values.get(offset)
        if offset < self.first:
            assert isinstance(reply, Refused)
            assert reply.reason is Reason.BELOW_FIRST_OFFSET
        elif offset < self.trim:
            assert isinstance(reply, AlreadyWritten)
            assert reply.state is State.TRIMMED
        elif offset not in self.values or held == entry_id(number):
            assert isinstance(reply, Written)
            self.values[offset] = entry_id(number)
        else:
            assert isinstance(reply, AlreadyWritten)
            assert reply.state is (State.JUNK if held is None else State.DATA)
            assert held is None or reply.entry_id == held

    @rule(start=OFFSETS, count=st.integers(1, 6), late=st.integers(0, 1))
    def fill(self, start: int, count: int, late: int) -> None:
        """Fill a range: what is held stays, all else becomes junk."""
        reply = self._ask(fill(start, start + count, self.epoch - late))
        if self._fenced(reply, late):
            return
        assert isinstance(reply, Filled)
        assert reply.end == start + count
        for offset in range(max(start, self.trim), start + count):
            self.values.setdefault(offset, None)
        junk = {o for run in reply.junk for o in range(run.start, run.end)}
        held = {h.offset: h.entry_id for h in reply.held}
        for offset in range(max(start, self.trim), start + count):
            value = self.values[offset]
            assert (offset in junk) == (value is None)
            assert held.get(Offset(offset)) == value

    @rule(offset=OFFSETS)
    def fill_if_written(self, offset: int) -> None:
        """Ask for what is held, if anything is."""
        reply = self._ask(fill(offset, None, self.epoch, only=True))
        if self._fenced(reply, 0):
            return
        empty = offset >= self.trim and offset not in self.values
        assert isinstance(reply, NotWritten if empty else Filled)

    @rule(start=OFFSETS, count=st.integers(1, 12), late=st.integers(0, 1))
    def read(self, start: int, count: int, late: int) -> None:
        """Read a range: exactly what the model has."""
        reply = self._ask(read(start, start + count, self.epoch - late))
        if self._fenced(reply, late):
            return
        assert isinstance(reply, Entries)
        assert reply.trim_mark == self.trim
        told = {e.offset: (e.state, e.entry_id) for e in reply.entries}
        for offset in range(max(start, self.trim), min(start + count, reply.end)):
            if offset not in self.values:
                assert Offset(offset) not in told
                continue
            value = self.values[offset]
            state, id_ = told[Offset(offset)]
            assert state is (State.JUNK if value is None else State.DATA)
            assert value is None or id_ == value

    # What machines do.

    @rule(seed=st.integers(0, 2**16), power=st.booleans())
    def restart(self, seed: int, power: bool) -> None:
        """Stop at once, perhaps with the power; all that was answered must be there again."""
        if power:
            self.bench.disk.power_cut(random.Random(seed))
        self.bench.start()
        self.served = False
        # The epoch that it was sealed for before is not served again, even if installed anew.
        assert self.bench.unit.store.standing.restarted

    @rule()
    def maintain(self) -> None:
        """Write index files, free what is trimmed."""
        self.bench.maintain()

    @rule()
    def mark(self) -> None:
        """Write a mark, as an idle process does."""
        self.bench.mark()

    @invariant()
    def nothing_is_forgotten(self) -> None:
        """The unit holds what the model says, seals and marks as well."""
        store = self.bench.unit.store
        assert store.standing.sealed == self.epoch
        assert store.standing.trim_mark == self.trim
        assert self.bench.alarms == []
        for offset, value in self.values.items():
            if offset < self.trim:
                assert store.state(Offset(offset)) is State.TRIMMED
                continue
            assert store.state(Offset(offset)) is (State.JUNK if value is None else State.DATA)
            name = store.name(Offset(offset))
            assert value is None or name is None or name.entry_id == value

    def _ask(self, message: Message) -> Message:
        (send,) = self.bench.give(message, CLIENT)
        return send.message

    def _fenced(self, reply: Message, late: int) -> bool:
        if self.served and not late:
            return False
        assert isinstance(reply, WrongEpoch)
        assert reply.epoch == self.epoch
        return True


def test_unit_after_any_row_of_requests_holds_what_the_model_holds() -> None:
    explore(UnitModel, 70, 40)


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_unit_after_very_many_rows_of_requests_holds_what_the_model_holds() -> None:
    explore(UnitModel, 2500, 50)


def seal_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    put = Store.put_other
    monkeypatch.setattr(
        Store, "put_other", lambda self, record: put(self, record) if record.kind > 90 else None
    )


def fence_is_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests of every epoch are served."""
    monkeypatch.setattr(Context, "not_served", lambda self, message, to: None)


def second_writer_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    state = Store.state_at_head

    def state_at_head(self: Store, offset: Offset) -> State:
        return State.EMPTY if state(self, offset) is State.DATA else state(self, offset)

    write_at = Writes._write_at

    def planted(self, *args):  # type: ignore[no-untyped-def]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Store, "state_at_head", state_at_head)
            return write_at(self, *args)

    monkeypatch.setattr(Writes, "_write_at", planted)


def trim_passes_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    raised = Store.raise_marks

    def raise_marks(self: Store, trim_mark: Offset, closed_until: Offset) -> bool:
        return raised(self, trim_mark, max(closed_until, trim_mark))

    monkeypatch.setattr(Store, "raise_marks", raise_marks)


def restart_forgets_the_last_record(monkeypatch: pytest.MonkeyPatch) -> None:
    put = Store.put_data
    kept: list[int] = []

    def put_data(self: Store, offset: Offset, *args: Any) -> None:
        put(self, offset, *args)
        kept.append(offset)

    begin = Bench.start

    def start(self: Bench) -> None:
        begin(self)
        if kept:
            self.unit.store.index.set(kept[-1], 0)

    monkeypatch.setattr(Store, "put_data", put_data)
    monkeypatch.setattr(Bench, "start", start)


@pytest.mark.parametrize(
    "plant",
    [
        seal_is_forgotten,
        fence_is_open,
        second_writer_wins,
        trim_passes_closed,
        restart_forgets_the_last_record,
    ],
)
def test_unit_model_finds_a_planted_bug(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch)
    with pytest.raises(AssertionError):
        explore(UnitModel, 300, 30, shrink=False)
