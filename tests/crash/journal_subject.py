"""The journal alone, with an owner as small as can be: most states are looked at here.

All roles keep what they hold in this journal. The owner appends, releases files, marks, stops
cleanly, is killed in the middle of its writes, and loses power.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from corfu.journal.execute import execute, execute_all
from corfu.journal.format import (
    CutFileError,
    ForeignFileError,
    JournalIdentity,
    JournalLostError,
    JournalRecord,
    JournalSettings,
    Place,
    RecordHeader,
    record_bytes,
)
from corfu.journal.planner import Journal
from corfu.journal.recovery import Damage, Recovered, create, recover
from corfu.ports import Disk, DiskOperation
from corfu.types import ClusterId, Incarnation
from tests.crash.subject import Ever, Promised, Subject, Value, View
from tests.crash.trace import RecordingDisk, Trace

DATA, STATE = 1, 2
_FILE_BYTES = (4096, 8192)
"""Short files roll and are recycled often; in longer ones a batch has more sectors to lose."""
_LIVE_MAX = 2
_READ_BACK = 3
"""Of what came back so many are read by their place, the newest: those were written again."""
_BODY_BYTES = (0, 10, 60, 500, 1400, 2600)


def settings(seed: int) -> JournalSettings:
    """Return the settings of the recording of a seed."""
    size = _FILE_BYTES[seed % len(_FILE_BYTES)]
    return JournalSettings(file_bytes=size, spares_wanted=2, offset_kinds=frozenset({DATA}))


def identity(seed: int) -> JournalIdentity:
    """Return whose journal it is; another one for each seed, so that no two images are equal."""
    return JournalIdentity(ClusterId(b"cluster1"), 1, 7, Incarnation(b"%016x" % seed))


def opening() -> list[JournalRecord]:
    """Return an owner's small state."""
    return [JournalRecord(STATE, 0, 0, 0, bytes(16), b"small state")]


def bring_back(
    disk: Disk, own: JournalIdentity, sizes: JournalSettings
) -> tuple[Recovered, dict[int, Value], dict[int, Place]]:
    """Recover; returns what came back, and where it lies."""
    values: dict[int, Value] = {}
    places: dict[int, Place] = {}

    def replay(place: Place, header: RecordHeader, body: bytes) -> None:
        if header.kind == STATE:
            if body != b"small state":
                raise AssertionError(f"the small state is {body!r}")
            return
        if header.offset in values:
            raise AssertionError(f"the record of {header.offset} is replayed twice")
        values[header.offset] = (header.flags, header.epoch, header.entry_id, body)
        places[header.offset] = place

    recovered = recover(disk, own, sizes, replay=replay, opening=opening)
    return recovered, values, places


def _lines(found: Iterable[Damage], what: str) -> tuple[str, ...]:
    return tuple(f"{damage.file} is {what} at byte {damage.position}" for damage in found)


class JournalSubject(Subject):
    """See `Subject`."""

    name = "journal"
    refusals = (JournalLostError, CutFileError, ForeignFileError)

    def __init__(self) -> None:
        self._settings, self._identity = settings(0), identity(0)

    def record(self, seed: int) -> Trace:
        """See `Subject`."""
        self._settings, self._identity = settings(seed), identity(seed)
        owner = _Owner(random.Random(f"journal-{seed}"), self._identity, self._settings)
        trace = owner.disk.trace
        trace.ever = owner.ever
        try:
            owner.live()
        except Exception as error:  # noqa: BLE001 - a finding: no fault explains it
            trace.failure = f"{type(error).__name__}: {error}"
        return trace

    def recover(self, disk: Disk) -> View:
        """See `Subject`."""
        recovered, values, places = bring_back(disk, self._identity, self._settings)
        journal = recovered.journal
        for offset, place in itertools.islice(reversed(places.items()), _READ_BACK):
            record = journal.parse(place, disk.read(*journal.locate(place)))
            if record.body != values[offset][3]:
                raise AssertionError(f"what is read back at {offset} is not what was replayed")
        doubt = recovered.doubt
        named = [damage.header for damage in recovered.damage]
        suspected = [header.offset for header in (*named, *doubt.named) if header is not None]
        damaged = _lines(recovered.damage, "damaged")
        damaged += tuple(f"journal-{serial:016x} is missing" for serial in recovered.missing)
        return View(
            values,
            {},
            frozenset(suspected),
            doubt.unknown or None in named or bool(recovered.missing),
            damaged,
            _lines(recovered.torn, "torn"),
        )


@dataclass(slots=True)
class _Owner:
    """Appends, commits and releases at random, and notes what it may count on."""

    rng: random.Random
    identity: JournalIdentity
    settings: JournalSettings
    disk: RecordingDisk = field(default_factory=RecordingDisk)
    ever: Ever = field(default_factory=Ever)
    promised: Promised = field(default_factory=Promised)
    places: dict[int, Place] = field(default_factory=dict)
    next_offset: int = 0
    _journal: Journal | None = None

    @property
    def journal(self) -> Journal:
        assert self._journal is not None
        return self._journal

    def live(self) -> None:
        self._journal = create(self.disk, self.identity, self.settings, opening)
        self._promise(replace(self.promised, formatted=True))
        for _ in range(self.rng.randint(1, 3)):
            for _ in range(self.rng.randint(2, 6)):
                self._step(None)
            ending = self.rng.random()
            if ending < 0.4:
                self._step(self.rng.randrange(8))
            elif ending < 0.6 and not self.journal.dirty:
                self._carry_out(self.journal.mark(clean=True), None)
            if self.rng.random() < 0.6:
                self.disk.power_cut(self.rng)
            self._restart()
        self._step(None)

    def _restart(self) -> None:
        recovered, values, places = bring_back(self.disk, self.identity, self.settings)
        self._journal = recovered.journal
        gone = {*self.ever.values} - {*values}
        # What it brought back is served from now on, acknowledged before or not.
        self._promise(replace(self.promised, values=values, gone=frozenset(gone)))
        self.places = places

    def _step(self, ends_after: int | None) -> None:
        """Append and commit something; killed after so many disk operations, if any are told."""
        journal, rng = self.journal, self.rng
        if journal.live and (len(journal.live) > _LIVE_MAX or rng.random() < 0.4):
            self._release(rng.choice(journal.live))
        if journal.doubt and rng.random() < 0.3:
            journal.doubt_settled()
        if rng.random() < 0.25 and journal.mark_wanted:
            self._carry_out(journal.mark(), ends_after)
            return
        added: dict[int, Value] = {}
        for _ in range(rng.randint(1, 3)):
            added |= self._append(rng.choice(_BODY_BYTES))
        if self._carry_out(journal.cut(), ends_after):
            self._promise(replace(self.promised, values={**self.promised.values, **added}))

    def _append(self, size: int) -> dict[int, Value]:
        journal, needed = self.journal, record_bytes(size)
        if needed > min(journal.room(reserve=False), journal.record_bytes_max()):
            return {}
        offset, self.next_offset = self.next_offset, self.next_offset + 1
        flags, epoch, entry_id = offset % 7, 5, offset.to_bytes(16, "big")
        body = self.rng.randbytes(size)
        value = (flags, epoch, entry_id, body)
        self.ever.note(offset, value)
        record = JournalRecord(DATA, flags, offset, epoch, entry_id, body)
        self.places[offset] = journal.append(record)
        return {offset: value}

    def _release(self, serial: int) -> None:
        self.journal.release(serial)
        kept = {
            offset: value
            for offset, value in self.promised.values.items()
            if self.places[offset].serial != serial
        }
        self._promise(replace(self.promised, values=kept))

    def _carry_out(self, operations: tuple[DiskOperation, ...], ends_after: int | None) -> bool:
        """Carry operations out, with those for a spare between; False if killed on the way."""
        wanted = self.journal.spare_wanted()
        spare = list(wanted or ())
        if ends_after is not None:
            execute_all(self.disk, operations[:ends_after])
            execute_all(self.disk, spare[: self.rng.randint(0, len(spare))])
            return False
        for operation in operations:
            while spare and self.rng.random() < 0.3:
                execute(self.disk, spare.pop(0))
            execute(self.disk, operation)
        if operations:
            self.journal.committed()
        if wanted is not None:
            execute_all(self.disk, spare)
            self.journal.spare_ready()
        return True

    def _promise(self, promised: Promised) -> None:
        self.promised = promised
        self.disk.promise(promised)
