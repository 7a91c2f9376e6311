"""From a data folder to a unit's store: what was held before the process began.

The journal brings back its records; here they become an index again. A finished journal file with
a sound index file is not read at all.
"""

from __future__ import annotations

from corfu import schema
from corfu.errors import CorruptionError, WireError
from corfu.journal.format import (
    JournalError,
    JournalLostError,
    JournalRecord,
    JournalSettings,
    Place,
    RecordHeader,
    journal_name,
    journal_serial,
    record_bytes,
)
from corfu.journal.recovery import Damage, Recovered, create, recover
from corfu.layout import Layout
from corfu.ports import Disk
from corfu.types import JUNK_ID, Digest, EntryId, Epoch, Offset, Range, State

from .file_book import FileLog
from .identity import UnitIdentity
from .index import (
    INDEX_BLOCK_OFFSETS,
    SERIAL_AT,
    STATE_MASK,
    TENTATIVE,
    OffsetIndex,
    cell_place,
    pack_cell,
)
from .index_file import JunkRun, decode_index, index_name, index_serial
from .names import Name
from .records import FLAG_TENTATIVE, OFFSET_KINDS, RecordKind, clip_run, run_of
from .settings import UnitSettings
from .standing import Standing
from .store import Store
from .suspicion import Suspicion
from .tentative import TentativeEntry

_DATA = RecordKind.DATA.value


def journal_settings(settings: UnitSettings) -> JournalSettings:
    """Return the journal's part of a unit's settings."""
    return JournalSettings(settings.journal_file_bytes, settings.spares_wanted, OFFSET_KINDS)


def new_standing(identity: UnitIdentity) -> Standing:
    """Return the standing of a unit that was never sealed."""
    return Standing(identity.cluster, identity.unit, identity.incarnation, identity.sync)


def create_journal(disk: Disk, identity: UnitIdentity, settings: UnitSettings) -> None:
    """Write the first journal file of a new folder; durable on return.

    Raises:
        JournalError: The folder holds a journal already.
        OSError: From the disk.
    """
    standing = new_standing(identity)
    create(
        disk,
        identity.journal_identity(),
        journal_settings(settings),
        lambda: [standing.opening()],
    )


def recover_store(disk: Disk, identity: UnitIdentity, settings: UnitSettings) -> Store:
    """Bring back what the unit held; on return all of it is durable.

    Raises:
        CorruptionError: The journal cannot be used as it is.
        OSError: From the disk; recover again, in a new process.
    """
    replay = _Replay(disk, identity)
    try:
        recovered = recover(
            disk,
            identity.journal_identity(),
            journal_settings(settings),
            replay=replay.record,
            opening=replay.opening,
            skip=replay.skip,
            clip=clip_run,
        )
    except JournalLostError as error:
        raise CorruptionError(
            "journal",
            f"{error}: format the unit anew (corfu-storage format --force), and the others of its "
            "chains give back what it held",
        ) from error
    except JournalError as error:
        raise CorruptionError("journal", str(error)) from error
    return replay.store(recovered, settings)


class _Replay:
    """Collects records, oldest first."""

    def __init__(self, disk: Disk, identity: UnitIdentity) -> None:
        self._disk = disk
        self._identity = identity
        self._standing = new_standing(identity)
        self._index = OffsetIndex()
        self._suspicion = Suspicion()
        self._names: dict[Offset, Name] = {}
        self._tentative: dict[Offset, TentativeEntry] = {}
        self._confirmed: list[tuple[Range, int]] = []
        self._logs: dict[int, FileLog] = {}
        self._indexed_names: dict[Offset, tuple[int, Name]] = {}
        self._indexed: set[int] = set()

    def skip(self, serial: int) -> bool:
        """Take a finished file's index file instead of its records, if it is sound."""
        name = index_name(serial)
        try:
            data = self._disk.read(name, 0, self._disk.size(name))
        except OSError:
            # Missing, or unreadable: the journal file itself tells all.
            return False
        identity = self._identity
        index = decode_index(data, serial, identity.unit, identity.incarnation)
        if index is None:
            # As well after a return under a new incarnation: then it is merely of no use.
            self._suspicion.tell(
                f"{name} is damaged or foreign: {journal_name(serial)} is read instead"
            )
            return False
        self._standing.closed_until = max(self._standing.closed_until, index.closed_until)
        for run in index.runs:
            self._junk(run)
        self._index.load(serial, index.offsets, index.cells)
        for offset, known_as in index.names.items():
            self._indexed_names[offset] = (self._index.get(offset), known_as)
        self._indexed.add(serial)
        return True

    def record(self, place: Place, header: RecordHeader, body: bytes) -> None:
        """Take one record. See `corfu.journal.recovery.Replay`."""
        offset = Offset(header.offset)
        # Nearly all records are of this kind, and a start waits for each of them.
        if header.kind == _DATA:
            self._take_data(offset, place, header)
            return
        match RecordKind(header.kind):
            case RecordKind.JUNK:
                run, step = run_of(header)
                cell = pack_cell(State.JUNK, place)
                junk = JunkRun(run.start, run.end, step, cell)
                self._junk(junk)
                self._log(place.serial).runs.append(junk)
            case RecordKind.CONFIRMED:
                self._take_confirmed(*run_of(header))
            case RecordKind.LOST:
                self._standing.add_lost(run_of(header)[0])
            case RecordKind.LAYOUT:
                self._take_layout(place, body)
            case RecordKind.STANDING:
                self._take_standing(place, body)
            case RecordKind.SEAL | RecordKind.TRIM | RecordKind.CLOSED | RecordKind.FROZEN:
                self._take_small(header)
            case RecordKind.DATA:
                raise AssertionError("taken above")

    def opening(self) -> list[JournalRecord]:
        """Return what opens a journal file now."""
        return [self._standing.opening()]

    def store(self, recovered: Recovered, settings: UnitSettings) -> Store:
        """Return the store, once all records were taken."""
        self._take_names()
        for damage in recovered.damage:
            self._take_damage(damage)
        self._take_doubt(recovered)
        standing, index = self._standing, self._index
        standing.restart()
        index.drop_below(standing.trim_mark, 2**63)
        self._remove_stale_indexes(recovered)
        first = max(standing.closed_until, standing.trim_mark)
        names = {offset: name for offset, name in self._names.items() if offset >= first}
        named = self._suspicion.named
        # What is trimmed or lost nobody is given any more; as damage it would never end.
        for offset in [o for o in named if o < standing.trim_mark or standing.is_lost(o)]:
            self._suspicion.drop(offset)
        return Store(
            recovered.journal,
            standing,
            index,
            self._suspicion,
            names=names,
            tentative=self._still_tentative(),
            logs=self._logs,
            indexed=self._indexed,
            cache_bytes_max=settings.cache_bytes_max,
            names_loaded_max=settings.names_loaded_max,
        )

    def _log(self, serial: int) -> FileLog:
        log = self._logs.get(serial)
        if log is None:
            log = self._logs[serial] = FileLog()
        return log

    def _take_data(self, offset: Offset, place: Place, header: RecordHeader) -> None:
        tentative = bool(header.flags & FLAG_TENTATIVE)
        self._index.set(offset, pack_cell(TENTATIVE if tentative else State.DATA, place))
        log = self._logs.get(place.serial) or self._log(place.serial)
        log.blocks.add(offset // INDEX_BLOCK_OFFSETS)
        if offset >= self._standing.closed_until:
            self._names[offset] = _name(header)
        if tentative:
            # All that a recovery reads is durable before the process begins.
            epoch = Epoch(header.epoch)
            self._tentative[offset] = TentativeEntry(_name(header), epoch, place.serial, -1)

    def _take_confirmed(self, run: Range, step: int) -> None:
        self._confirmed.append((run, step))
        for number in range(run.start, run.end, step):
            cell = self._index.get(number)
            if cell & STATE_MASK == TENTATIVE:
                self._index.set(number, cell & ~STATE_MASK | State.DATA)
                self._tentative.pop(Offset(number), None)

    def _was_confirmed(self, offset: Offset) -> bool:
        return any(offset in range(run.start, run.end, step) for run, step in self._confirmed)

    def _suspect(self, header: RecordHeader) -> Name | None:
        """Return the name that a bad record's offset is known by to others.

        None for a tentative entry: with a name a reader would take another unit's copy, which may
        be as tentative, for a held value.
        """
        tentative = header.flags & FLAG_TENTATIVE and not self._was_confirmed(Offset(header.offset))
        return None if tentative else _name(header)

    def _still_tentative(self) -> dict[Offset, TentativeEntry]:
        """Return what no later record confirmed, replaced, trimmed or declared lost."""
        found: dict[Offset, TentativeEntry] = {}
        for offset, entry in self._tentative.items():
            if self._index.get(offset) & STATE_MASK != TENTATIVE:
                continue
            if self._standing.is_lost(offset):
                self._index.set(offset, 0)
            else:
                found[offset] = entry
        return found

    def _junk(self, run: JunkRun) -> None:
        for offset in range(run.start, run.end, run.step):
            self._index.set(offset, run.cell)

    def _take_layout(self, place: Place, body: bytes) -> None:
        try:
            layout = schema.unpack(Layout, body)
        except WireError as error:
            raise CorruptionError(journal_name(place.serial), str(error)) from error
        self._standing.layout = layout
        self._index.expect_step(self._standing.step)

    def _take_standing(self, place: Place, body: bytes) -> None:
        try:
            self._standing.take_opening(body)
        except WireError as error:
            raise CorruptionError(journal_name(place.serial), str(error)) from error
        self._index.expect_step(self._standing.step)

    def _take_small(self, header: RecordHeader) -> None:
        standing = self._standing
        if header.kind == RecordKind.SEAL and header.epoch > standing.sealed:
            standing.sealed = Epoch(header.epoch)
            standing.epoch_before = Epoch(header.offset)
        elif header.kind == RecordKind.TRIM:
            standing.trim_mark = max(standing.trim_mark, Offset(header.offset))
            # A trim mark is never above closed_until, which is journalled lazily.
            standing.closed_until = max(standing.closed_until, standing.trim_mark)
        elif header.kind == RecordKind.CLOSED:
            standing.closed_until = max(standing.closed_until, Offset(header.offset))
            # Now, and not at the end: a file of small entries has names for 60 MB of memory.
            first = standing.closed_until
            self._names = {known: name for known, name in self._names.items() if known >= first}
        elif header.kind == RecordKind.FROZEN:
            standing.frozen = True

    def _take_names(self) -> None:
        """Take the names in the index files, of records that still count."""
        for offset, (cell, name) in self._indexed_names.items():
            if self._index.get(offset) != cell:
                continue
            if cell & STATE_MASK == State.DAMAGED:
                self._suspicion.add(offset, None if name.entry_id == JUNK_ID else name)
            elif offset >= self._standing.closed_until:
                self._names[offset] = name
        self._indexed_names.clear()

    def _take_damage(self, damage: Damage) -> None:
        """Take a bad record from before a mark: it was durable, so perhaps acknowledged."""
        serial = journal_serial(damage.file)
        assert serial is not None
        header = damage.header
        if header is None:
            # Any offset that seems EMPTY may be it.
            self._suspicion.tell(
                f"{damage.file} is damaged at byte {damage.position}: "
                "what stood there cannot be told"
            )
            self._suspicion.unknown = True
            self._suspicion.serials.add(serial)
            return
        if header.kind != RecordKind.DATA:
            self._take_headline(header)
            return
        place = Place(serial, damage.position, record_bytes(header.body_bytes))
        known = self._index.get(header.offset)
        if known and _after(known, place):
            # A sound record came later: it was repaired.
            return
        offset = Offset(header.offset)
        if offset < self._standing.trim_mark or self._standing.is_lost(offset):
            # Nobody is given it any more; as damage it would be reported for ever.
            return
        self._suspicion.tell(
            f"{damage.file} is damaged at byte {damage.position}: "
            f"the entry at offset {offset} fails its digest"
        )
        self._index.set(offset, pack_cell(State.DAMAGED, place))
        self._log(serial).blocks.add(offset // INDEX_BLOCK_OFFSETS)
        self._names.pop(offset, None)
        self._suspicion.add(offset, self._suspect(header))

    def _take_doubt(self, recovered: Recovered) -> None:
        """Take what was never marked and is not whole: it may have been durable, or not."""
        suspicion = self._suspicion
        suspicion.unknown = suspicion.unknown or recovered.doubt.unknown or bool(recovered.missing)
        suspicion.missing = recovered.missing
        for torn in recovered.torn:
            suspicion.tell(
                f"{torn.file} is torn at byte {torn.position}: what was written last is not whole"
            )
        for serial in recovered.missing:
            suspicion.tell(f"{journal_name(serial)} is missing: what it held cannot be told")
        for header in recovered.doubt.named:
            if header.kind != RecordKind.DATA:
                self._take_headline(header)
            elif not self._index.get(header.offset):
                # With a sound record of the offset it is settled: that is what counts.
                suspicion.add(Offset(header.offset), self._suspect(header))
                suspicion.doubtful.add(Offset(header.offset))

    def _take_headline(self, header: RecordHeader) -> None:
        """Take what the header alone says of a layout or standing whose body is bad.

        The body needs no repair: a unit serves nothing before the next epoch's layout comes.
        """
        standing = self._standing
        standing.sealed = max(standing.sealed, Epoch(header.epoch))
        if header.kind == RecordKind.STANDING:
            standing.trim_mark = max(standing.trim_mark, Offset(header.offset))
            standing.closed_until = max(standing.closed_until, standing.trim_mark)

    def _remove_stale_indexes(self, recovered: Recovered) -> None:
        live = set(recovered.journal.live)
        for name in self._disk.names():
            serial = index_serial(name)
            if serial is not None and (serial not in live or serial not in self._indexed):
                self._disk.remove(name)


def _name(header: RecordHeader) -> Name:
    return Name(EntryId(header.entry_id), Digest(header.body_digest), header.body_bytes)


def _after(cell: int, place: Place) -> bool:
    return (cell >> SERIAL_AT, cell_place(cell).position) > (place.serial, place.position)
