"""A journal on a fake disk for the tests: writes, and collects what a recovery brings back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from corfu.journal.execute import execute_all
from corfu.journal.format import (
    JournalIdentity,
    JournalRecord,
    JournalSettings,
    Place,
    RecordHeader,
)
from corfu.journal.planner import Journal
from corfu.journal.recovery import Recovered, create, recover
from corfu.types import ClusterId, Incarnation
from tests.unit.corfu.fake_disk import FakeDisk

IDENTITY = JournalIdentity(ClusterId(b"cluster1"), 1, 7, Incarnation(b"incarnation-0001"))
SETTINGS = JournalSettings(file_bytes=4096, spares_wanted=2, offset_kinds=frozenset({1}))
DATA, STATE = 1, 2


def data_record(offset: int, size: int = 100) -> JournalRecord:
    body = bytes((offset * 7 + i) % 256 for i in range(size))
    return JournalRecord(DATA, offset % 5, offset, 4, offset.to_bytes(16, "big"), body)


@dataclass(slots=True)
class Back:
    """What a recovery brought back: records by offset, in order, and how often the opening."""

    recovered: Recovered
    records: dict[int, JournalRecord]
    places: dict[int, Place]
    openings: int
    skip_asked: list[int]

    @property
    def journal(self) -> Journal:
        return self.recovered.journal


@dataclass(slots=True)
class Folder:
    disk: FakeDisk = field(default_factory=FakeDisk)
    identity: JournalIdentity = IDENTITY
    settings: JournalSettings = SETTINGS
    opening_bytes: int = 11

    def opening(self) -> Sequence[JournalRecord]:
        return [JournalRecord(STATE, 0, 0, 0, bytes(16), bytes(self.opening_bytes))]

    def create(self) -> Journal:
        return create(self.disk, self.identity, self.settings, self.opening)

    def commit(self, journal: Journal, *records: JournalRecord) -> list[Place]:
        places = [journal.append(record) for record in records]
        operations = journal.cut()
        execute_all(self.disk, operations)
        if operations:
            journal.committed()
        return places

    def mark(self, journal: Journal, *, clean: bool = False) -> None:
        execute_all(self.disk, journal.mark(clean=clean))
        journal.committed()

    def spare(self, journal: Journal) -> None:
        operations = journal.spare_wanted()
        if operations is not None:
            execute_all(self.disk, operations)
            journal.spare_ready()

    def recover(self, skip: Callable[[int], bool] = lambda serial: False) -> Back:
        records: dict[int, JournalRecord] = {}
        places: dict[int, Place] = {}
        openings = 0
        asked: list[int] = []

        def replay(place: Place, header: RecordHeader, body: bytes) -> None:
            nonlocal openings
            if header.kind == STATE:
                openings += 1
                return
            assert header.offset not in records, "replayed twice"
            records[header.offset] = JournalRecord(
                header.kind, header.flags, header.offset, header.epoch, header.entry_id, body
            )
            places[header.offset] = place

        def asked_skip(serial: int) -> bool:
            asked.append(serial)
            return skip(serial)

        recovered = recover(
            self.disk,
            self.identity,
            self.settings,
            replay=replay,
            opening=self.opening,
            skip=asked_skip,
        )
        return Back(recovered, records, places, openings, asked)

    def copy_and_recover(self) -> Back:
        """Recover a copy of the folder, so that the journal at hand can go on."""
        return Folder(self.disk.copy(), self.identity, self.settings).recover()

    def as_incarnation(
        self, incarnation: bytes, earlier: Mapping[Incarnation, int | None]
    ) -> Folder:
        identity = replace(
            self.identity, incarnation=Incarnation(incarnation), incarnations=earlier
        )
        return Folder(self.disk, identity, self.settings)
