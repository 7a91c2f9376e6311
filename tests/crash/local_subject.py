"""The embedded log: a log in one folder, for one process."""

from __future__ import annotations

import asyncio
import random
import struct
from collections.abc import Iterator
from dataclasses import replace

from corfu.embedded.folder import open_store
from corfu.embedded.log import LocalLog
from corfu.embedded.store import KIND_ENTRY, KIND_STATE, LocalStore
from corfu.entry import decode_entry
from corfu.errors import CorruptionError, UsageError
from corfu.journal.format import (
    RECORD_MAGIC,
    JournalSettings,
    Origin,
    RecordHeader,
    body_of,
    decode_record_header,
    file_seed,
    journal_serial,
)
from corfu.ports import Disk, WriteAt
from corfu.tools.sim.disk import Crashed
from corfu.tools.sim.disk_worker import DiskLatency, SimDiskWorker
from corfu.tools.sim.group import Group
from corfu.tools.sim.loop import VirtualLoop
from corfu.types import Offset
from tests.crash.subject import TRIMMED, Ever, Promised, Subject, Value, View
from tests.crash.trace import RecordingDisk, Trace

SETTINGS = JournalSettings(file_bytes=8192, spares_wanted=2)
_RECORD_BYTES = (0, 10, 200, 900, 2500)


def _incarnation(seed: int) -> bytes:
    """Return another one for each seed, so that no two images are equal."""
    return b"%016x" % seed


def _bring_back(disk: Disk, seed: int) -> tuple[LocalStore, View]:
    store = open_store(disk, "folder", SETTINGS, lambda count: _incarnation(seed)[:count])
    values: dict[int, Value] = {}
    lost: set[int] = set()
    for number in range(store.trim_mark, store.next):
        place = store.index.place(Offset(number))
        if place is None:
            lost.add(number)
            continue
        record = store.journal.parse(place, disk.read(*store.journal.locate(place)))
        assert record.offset == number
        values[number] = decode_entry(record.body).records
    marks = {TRIMMED: (store.trim_mark - 1,), "next": (int(store.next),)}
    # Readers are told that an offset is lost, by its number; nobody is told of files.
    return store, View(values, marks, frozenset(lost))


class LocalSubject(Subject):
    """See `Subject`."""

    name = "local"
    refusals = (CorruptionError, UsageError)
    names_files = False
    # Nobody else knows the mark, and a bad record that cannot be named may have been any.
    trim_may_be_forgotten = True

    def __init__(self) -> None:
        self._seed = 0

    def record(self, seed: int) -> Trace:
        """See `Subject`."""
        self._seed = seed
        recorder = _Recorder(seed)
        loop, trace = recorder.loop, recorder.disk.trace
        try:
            loop.run(recorder.live())
        except Exception as error:  # noqa: BLE001 - a finding: no fault explains it
            trace.failure = f"{type(error).__name__}: {error}"
        loop.close()
        trace.ever = _ever(trace, _incarnation(seed))
        return trace

    def recover(self, disk: Disk) -> View:
        """See `Subject`."""
        return _bring_back(disk, self._seed)[1]


def _ever(trace: Trace, incarnation: bytes) -> Ever:
    """Return all that was written, read out of the very bytes that went to the disk."""
    ever = Ever()
    ever.note_mark(TRIMMED, (-1,))
    ever.note_mark("next", (0,))
    for step in trace.steps:
        for header, body in _records_in(step, incarnation) if isinstance(step, WriteAt) else ():
            if header.kind == KIND_ENTRY:
                ever.note(header.offset, decode_entry(body).records)
            elif header.kind == KIND_STATE:
                trim_mark, _, reserved = struct.unpack(">QQQ", body)
                ever.note_mark(TRIMMED, (trim_mark - 1,))
                # So far a log may jump that does not know what it wrote last.
                ever.note_mark("next", (reserved + 256,))
    return ever


def _records_in(step: WriteAt, incarnation: bytes) -> Iterator[tuple[RecordHeader, bytes]]:
    serial = journal_serial(step.name)
    if serial is None:
        return
    view = memoryview(step.data)
    seeds = [file_seed(incarnation, serial, origin) for origin in Origin]
    at = step.data.find(RECORD_MAGIC)
    while at >= 0:
        for seed in seeds:
            header = decode_record_header(view, at, step.position + at, seed)
            body = None if header is None else body_of(view, at, header)
            if header is not None and body is not None:
                yield header, bytes(body)
        at = step.data.find(RECORD_MAGIC, at + 1)


class _Recorder:
    """A user of the log who is killed now and then, or loses power."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(f"local-{seed}")
        self._seed = seed
        self.loop = VirtualLoop()
        self.disk = RecordingDisk()
        self._promised = Promised()
        self._log: LocalLog | None = None

    async def live(self) -> None:
        rng = self.rng
        for life in range(rng.randint(2, 4)):
            group = self.loop.group(f"life {life}")
            worker = group.run(self._open)
            ended: asyncio.Future[None] = self.loop.create_future()
            group.run(self.loop.create_task, self._use(ended))
            if rng.random() < 0.5:
                await asyncio.sleep(rng.uniform(0.0005, 0.03))
            else:
                await ended
            self._kill(group, worker)
            if rng.random() < 0.6:
                self.disk.power_cut(rng)

    def _open(self) -> SimDiskWorker:
        store, found = _bring_back(self.disk, self._seed)
        # All of it can be read from now on, and what is lost stays lost.
        self._promise(
            replace(
                self._promised,
                formatted=True,
                values=found.values,
                marks=found.marks,
                gone=self._promised.gone | found.suspected,
            )
        )
        worker = SimDiskWorker(self.disk, self.loop, self.rng, DiskLatency(), self._fatal)
        self._log = LocalLog(
            store,
            worker,
            loop=self.loop,
            pid=lambda: 1,
            wall_us=lambda: 1_700_000_000_000_000,
            on_close=lambda: None,
        )
        return worker

    def _fatal(self, error: OSError | Crashed) -> None:
        raise error

    def _kill(self, group: Group, worker: SimDiskWorker) -> None:
        worker.stop()
        group.kill()
        self.disk.kill()

    async def _use(self, ended: asyncio.Future[None]) -> None:
        log, rng = self._log, self.rng
        assert log is not None
        for _ in range(rng.randint(2, 6)):
            records = [rng.randbytes(rng.choice(_RECORD_BYTES)) for _ in range(rng.randint(1, 3))]
            appends = [self._append(log, record) for record in records]
            await asyncio.gather(*appends)
            if rng.random() < 0.3:
                mark = await log.trim(rng.randrange(await log.tail() + 1))
                self._note({}, **{TRIMMED: (mark - 1,)})
            if rng.random() < 0.3:
                # Long enough for a mark.
                await asyncio.sleep(0.1)
        if rng.random() < 0.5:
            await log.close()
        ended.set_result(None)

    async def _append(self, log: LocalLog, record: bytes) -> None:
        position = await log.append(record)
        # The entry may hold more than this record; then the last append of it tells.
        entry = await log.read(position.offset)
        self._note(
            {position.offset: tuple(each.data for each in entry)}, next=(position.offset + 1,)
        )

    def _note(self, values: dict[int, Value], **marks: tuple[int, ...]) -> None:
        before = self._promised
        raised = dict(before.marks)
        for name, mark in marks.items():
            raised[name] = max(raised.get(name, mark), mark)
        self._promise(replace(before, values={**before.values, **values}, marks=raised))

    def _promise(self, promised: Promised) -> None:
        if promised != self._promised:
            self._promised = promised
            self.disk.promise(promised)
