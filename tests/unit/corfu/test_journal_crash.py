"""Crashes at every disk operation, also inside recovery, on a disk with cache and platter."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from corfu.journal.execute import execute, execute_all
from corfu.journal.format import (
    JournalError,
    JournalIdentity,
    JournalRecord,
    JournalSettings,
    Place,
    RecordHeader,
)
from corfu.journal.planner import Journal
from corfu.journal.recovery import Recovered, create, recover
from corfu.ports import DiskOperation
from corfu.types import ClusterId, Incarnation
from tests.unit.corfu.fake_disk import Crash, FakeDisk

IDENTITY = JournalIdentity(ClusterId(b"cluster1"), 1, 7, Incarnation(b"incarnation-0001"))
SETTINGS = JournalSettings(file_bytes=8192, spares_wanted=2, offset_kinds=frozenset({1}))
DATA, STATE = 1, 2


@dataclass(slots=True)
class Owner:
    """Appends, commits and releases at random, and knows what must be there after a crash."""

    disk: FakeDisk
    rng: random.Random
    journal: Journal | None = None
    next_offset: int = 0
    appended: dict[int, JournalRecord] = field(default_factory=dict)
    places: dict[int, Place] = field(default_factory=dict)
    committed: set[int] = field(default_factory=set)
    released: set[int] = field(default_factory=set)
    gone: set[int] = field(default_factory=set)

    def opening(self) -> list[JournalRecord]:
        return [JournalRecord(STATE, 0, 0, self.next_offset, bytes(16), self._state())]

    def _state(self) -> bytes:
        return b"small state" * self.rng.choice((1, 10, 100))

    def start(self) -> None:
        self.journal = create(self.disk, IDENTITY, SETTINGS, self.opening)

    def step(self) -> None:
        journal = self.journal
        assert journal is not None
        choice = self.rng.random()
        if journal.live and (choice < 0.15 or len(journal.live) > 6):
            serial = self.rng.choice(journal.live)
            journal.release(serial)
            self.released |= {o for o, place in self.places.items() if place.serial == serial}
        if choice > 0.9 and journal.doubt:
            journal.doubt_settled()
        if choice < 0.3 and journal.mark_wanted:
            self._carry_out(journal.mark(clean=self.rng.random() < 0.3))
            return
        for _ in range(self.rng.randrange(1, 5)):
            self._append(journal)
        added = [o for o in self.appended if o not in self.committed and o not in self.gone]
        self._carry_out(journal.cut())
        self.committed |= set(added)
        if (spare := journal.spare_wanted()) is not None:
            execute_all(self.disk, spare)
            journal.spare_ready()

    def _append(self, journal: Journal) -> None:
        size = self.rng.choice((0, 10, 100, 700, 1500, 3300))
        if journal.room(reserve=False) < size + 100:
            return
        offset, self.next_offset = self.next_offset, self.next_offset + 1
        record = JournalRecord(
            DATA, 3, offset, 5, offset.to_bytes(16, "big"), self.rng.randbytes(size)
        )
        self.appended[offset] = record
        self.places[offset] = journal.append(record)

    def _carry_out(self, operations: tuple[DiskOperation, ...]) -> None:
        journal = self.journal
        assert journal is not None
        for operation in operations:
            execute(self.disk, operation)
        if operations:
            journal.committed()

    def recover(self) -> Recovered:
        """Recover and compare with what must be there."""
        seen: dict[int, Place] = {}

        def replay(place: Place, header: RecordHeader, body: bytes) -> None:
            if header.kind == STATE:
                assert body.replace(b"small state", b"") == b""
                return
            assert header.offset not in seen
            wrote = self.appended[header.offset]
            assert (header.kind, header.flags, header.epoch) == (DATA, 3, 5)
            assert header.entry_id == wrote.entry_id
            assert body == wrote.body
            seen[header.offset] = place

        recovered = recover(self.disk, IDENTITY, SETTINGS, replay=replay, opening=self.opening)
        lost = self.committed - self.released - set(seen)
        assert not lost
        assert not self.gone & set(seen)
        assert recovered.damage == ()
        assert recovered.missing == ()
        self._check_places(recovered.journal, seen)
        self.gone |= set(self.appended) - set(seen)
        self.committed = set(seen)
        self.released -= set(seen)
        self.places = seen
        self.journal = recovered.journal
        return recovered

    def recover_keys(self) -> list[int]:
        """Recover and return the offsets that came back."""
        self.recover()
        return sorted(self.places)

    def _check_places(self, journal: Journal, seen: dict[int, Place]) -> None:
        for offset, place in seen.items():
            data = self.disk.read(*journal.locate(place))
            assert journal.parse(place, data) == self.appended[offset]


def highest_name(disk: FakeDisk) -> str:
    return max(name for name in disk.names() if name.startswith("journal-"))


def run_until_crash(owner: Owner, steps: int, crash_in: int | None) -> bool:
    owner.disk.crash_in = crash_in
    try:
        for _ in range(steps):
            owner.step()
    except Crash:
        return True
    return False


def recover_through_crashes(owner: Owner, fault: Callable[[], None], crashes: int) -> Recovered:
    """Recover; the first `crashes` tries end after a few changes, each followed by `fault`."""
    for _ in range(crashes):
        owner.disk.crash_in = owner.rng.randrange(12)
        highest = highest_name(owner.disk)
        try:
            recovered = owner.recover()
        except Crash:
            # Or a serial could be used twice.
            assert highest_name(owner.disk) >= highest
            fault()
            continue
        owner.disk.crash_in = None
        return recovered
    owner.disk.crash_in = None
    return owner.recover()


def fault_of(mode: str, owner: Owner) -> Callable[[], None]:
    match mode:
        case "kill":
            return lambda: None
        case "power":
            return lambda: owner.disk.power_cut(owner.rng)
        case _:
            return lambda: owner.disk.power_cut(owner.rng) if owner.rng.random() < 0.5 else None


@pytest.mark.parametrize("mode", ["kill", "power", "mixed"])
@pytest.mark.parametrize("seed", range(6))
def test_journal_crash_at_each_operation_keeps_what_was_committed(mode: str, seed: int) -> None:
    crash_in = 0
    crashed = True
    while crashed:
        owner = Owner(FakeDisk(), random.Random(seed))
        owner.start()
        crashed = run_until_crash(owner, 12, crash_in)
        fault = fault_of(mode, owner)
        if mode == "power":
            fault()
        recover_through_crashes(owner, fault, owner.rng.randrange(3))
        # What came back is as durable as what was committed: it survives the next power cut.
        owner.disk.power_cut(owner.rng)
        owner.recover()
        crash_in += 1
    assert crash_in > 20


@pytest.mark.parametrize("seed", range(100))
def test_journal_many_crashes_in_one_life_keep_what_was_committed(seed: int) -> None:
    owner = Owner(FakeDisk(), random.Random(seed))
    owner.start()
    for _ in range(8):
        run_until_crash(owner, 20, owner.rng.randrange(90))
        fault = fault_of(owner.rng.choice(("kill", "power", "mixed")), owner)
        fault()
        recover_through_crashes(owner, fault, owner.rng.randrange(4))
    names = [name for name in owner.disk.names() if name.startswith("spare-")]
    assert len(names) <= SETTINGS.spares_wanted + 2


@pytest.mark.parametrize("seed", range(10))
def test_recovery_crash_at_each_of_its_operations_yields_the_same_records(seed: int) -> None:
    owner = Owner(FakeDisk(), random.Random(seed))
    owner.start()
    run_until_crash(owner, 15, 20 + seed * 3)
    crash_in = 0
    crashed = True
    while crashed:
        disk = owner.disk.copy()
        twin = Owner(disk, random.Random(seed), None, owner.next_offset, owner.appended)
        twin.committed = set(owner.committed)
        twin.released = set(owner.released)
        disk.crash_in = crash_in
        try:
            twin.recover()
            crashed = False
        except Crash:
            disk.crash_in = None
            if crash_in % 2:
                disk.power_cut(twin.rng)
            first = set(twin.recover_keys())
            disk.power_cut(twin.rng)
            assert set(twin.recover_keys()) == first
        crash_in += 1


@pytest.mark.parametrize("seed", range(8))
def test_create_crash_at_each_operation_can_be_done_again(seed: int) -> None:
    crash_in = 0
    crashed = True
    while crashed:
        owner = Owner(FakeDisk(), random.Random(seed))
        owner.disk.crash_in = crash_in
        try:
            owner.start()
            crashed = False
        except Crash:
            owner.disk.crash_in = None
            owner.disk.power_cut(owner.rng)
            try:
                owner.start()
            except JournalError:
                # It was complete, although the caller never heard.
                owner.recover()
        owner.disk.crash_in = None
        run_until_crash(owner, 3, None)
        owner.disk.power_cut(owner.rng)
        owner.recover()
        crash_in += 1
