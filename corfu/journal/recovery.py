"""Starts a journal: from an empty folder (`create`) or from what a folder holds (`recover`).

The only part of the journal that works a `Disk` directly: it runs before the process serves. It
may be cut short at any call, and again while it repeats: a recovery changes nothing that counts
until its last sync is done, and what it leaves behind earlier counts for nobody.

What is read may be in the page cache only. What stands before a mark was synced when the mark was
written. All else (the last batch) is written again to a fresh file and synced there. The old file
is never synced for that: after a failed sync the system may call lost pages clean.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from corfu.journal.execute import execute_all
from corfu.journal.files import JournalStart, LiveFile
from corfu.journal.folder import READ_BYTES, JournalFolder, StoredFile, abandoned, body_in
from corfu.journal.format import (
    KIND_OWN_MIN,
    SECTOR_BYTES,
    JournalError,
    JournalFullError,
    JournalIdentity,
    JournalLostError,
    JournalRecord,
    JournalSettings,
    Place,
    RecordHeader,
    journal_name,
)
from corfu.journal.planner import Journal, Opening
from corfu.journal.scan import FoundRecord, Piece, scan_file
from corfu.journal.state import (
    KIND_DOUBT,
    KIND_STATE,
    KIND_STATE_COPY,
    Doubt,
    JournalState,
    decode_doubt,
    decode_state,
)
from corfu.ports import Disk
from corfu.types import Incarnation

T = TypeVar("T")

Replay = Callable[[Place, RecordHeader, bytes], None]
"""Takes one recovered record: its place (final), its header, its body. Called oldest first."""


@dataclass(frozen=True, slots=True)
class Damage:
    """A bad record before a mark, so it was durable once; no header: it cannot be named."""

    file: str
    position: int
    header: RecordHeader | None


@dataclass(frozen=True, slots=True)
class Recovered:
    """A journal and how it was found.

    Attributes:
        journal: Ready to append to.
        damage: Reported by every recovery while the file is live and not skipped.
        doubt: Reported by every recovery until `Journal.doubt_settled` is durable.
        torn: What of the doubt was found just now, and where.
        missing: Serials of files that were never freed and are not there; release them when
            what they held is restored.
        clean: The last thing written was the mark of a clean stop.
    """

    journal: Journal
    damage: tuple[Damage, ...]
    doubt: Doubt
    missing: tuple[int, ...]
    clean: bool
    torn: tuple[Damage, ...] = ()


def create(
    disk: Disk, identity: JournalIdentity, settings: JournalSettings, opening: Opening
) -> Journal:
    """Format a folder: the first journal file, with the opening, and the wanted spares, synced.

    What an earlier `create` left that was cut short is removed.

    Raises:
        JournalError: The folder holds a journal already.
        OSError: From the disk, among them ENOSPC.
    """
    folder = JournalFolder(disk, identity, settings)
    if folder.find_newest() is not None:
        raise JournalError("the folder holds a journal already")
    next_serial = max(folder.files, default=0) + 1
    # Removed and not recycled: with no file left that counts, a later `create` may come to the
    # same serial again, and must not find bytes that were bound to it.
    for name in [*folder.files.values(), *folder.spares]:
        disk.remove(name)
    disk.sync_folder()
    start = JournalStart(next_serial, {}, (), folder.next_spare)
    journal = Journal(identity, settings, opening, start)
    allocate_spares(disk, journal)
    journal.finish_recovery()
    execute_all(disk, journal.cut())
    journal.committed()
    # A second batch: from here on the file counts also if a byte of the first one goes bad.
    execute_all(disk, journal.mark())
    journal.committed()
    allocate_spares(disk, journal)
    disk.sync_folder()
    return journal


def allocate_spares(disk: Disk, journal: Journal) -> None:
    """Allocate all wanted spares now; an OSError ends it and is raised."""
    while _allocate_spare(disk, journal):
        pass


def _allocate_spare(disk: Disk, journal: Journal) -> bool:
    operations = journal.spare_wanted()
    if operations is None:
        return False
    try:
        execute_all(disk, operations)
    except OSError:
        journal.spare_failed()
        raise
    journal.spare_ready()
    return True


def recover(
    disk: Disk,
    identity: JournalIdentity,
    settings: JournalSettings,
    *,
    replay: Replay,
    opening: Opening,
    skip: Callable[[int], bool] = lambda serial: False,
    clip: Callable[[RecordHeader, int], RecordHeader] = lambda header, bound: header,
) -> Recovered:
    """Bring back every record that counts, durably, each exactly once.

    Every committed record that is sound is replayed. So are records of the last batch that was
    not known to be committed; from now on they are. What is not sound is in `damage` or `doubt`.

    Args:
        disk: The folder.
        identity: Whose it must be.
        settings: Sizes of new files; the files present keep theirs.
        replay: Called for each record, oldest first. Records of an opening come once for each
            file, with a place that must not be kept.
        opening: Called once, after all calls of `replay`.
        skip: Whether the owner has an index of the finished file with that serial and does not
            need its records. Not asked when the newest file's start is damaged: then the owner's
            small state is taken from the older files, too.
        clip: Shortens a record that an earlier incarnation wrote, and that begins below its
            bound, to what of it lies below.

    Raises:
        JournalLostError: No journal file counts.
        CutFileError: The newest journal file lacks its end; nothing that counts was changed.
        ForeignFileError: A file belongs to another cluster, owner or unknown incarnation.
        OSError: From the disk; recover again, in a new process.
    """
    return _Recovery(disk, identity, settings, replay, opening, skip, clip).run()


class _Recovery:
    def __init__(
        self,
        disk: Disk,
        identity: JournalIdentity,
        settings: JournalSettings,
        replay: Replay,
        opening: Opening,
        skip: Callable[[int], bool],
        clip: Callable[[RecordHeader, int], RecordHeader],
    ) -> None:
        self._disk = disk
        self._identity = identity
        self._settings = settings
        self._replay = replay
        self._opening = opening
        self._skip = skip
        self._clip = clip
        self._folder = JournalFolder(disk, identity, settings)
        self._bounds: Mapping[Incarnation, int | None] = identity.bounds()
        self._live: dict[int, LiveFile] = {}
        self._damage: list[Damage] = []
        self._missing: list[int] = []
        self._torn: list[Damage] = []
        self._doubted: list[RecordHeader] = []
        self._doubt_unknown = False
        self._doubt_serials: tuple[int, int] | None = None

    def run(self) -> Recovered:
        newest = self._folder.find_newest()
        if newest is None:
            raise JournalLostError("no journal file counts although the folder was formatted")
        base, pieces = newest
        highest = max(self._folder.files)
        state = self._newest_state(base, pieces)
        self._doubt_unknown = state.doubt_unknown
        self._doubt_serials = state.doubt_serials
        may_skip = pieces[0].whole
        for serial in sorted(state.live):
            self._replay_finished(serial, state.live[serial], may_skip=may_skip)
        for piece in pieces[:-1]:
            self._replay_marked(base, piece)
        self._live[base.serial] = LiveFile(pieces[-1].start, base.seed, len(base.data))

        # What lies above `base` counts for no recovery, so it may go at once; but the highest
        # name stays until a higher one is durable, or its serial could come again. What lies
        # below may have been released by a record that is in the page cache only.
        above = [serial for serial in self._folder.files if base.serial < serial < highest]
        self._folder.spares += self._folder.free(above)
        # One that was being allocated when the process was killed may have its length in the page
        # cache only. Rule "a file has all its length, synced, before it gets its name": a journal
        # file that is shorter is then known to have lost its end.
        for spare in self._folder.spares:
            self._disk.sync(spare)
        journal = self._write_again(base, pieces[-1], highest)
        dead = [serial for serial in self._folder.files if serial not in self._live]
        spares = self._folder.free(dead)
        self._disk.sync_folder()
        for spare in spares:
            journal.add_spare(spare)
        journal.recovered_from(base.serial, empty=pieces[-1].start == SECTOR_BYTES)
        clean = pieces[-1].framed and pieces[-1].clean
        return Recovered(
            journal,
            tuple(self._damage),
            journal.doubt,
            tuple(self._missing),
            clean,
            tuple(self._torn),
        )

    def _newest_state(self, base: StoredFile, pieces: list[Piece]) -> JournalState:
        """Return the newest sound state; files between it and `base` count, too.

        Usually it stands in `base`. It does not when that file was being begun, by rotation:
        then what is there of it came after the sync of the file before.
        """
        state = _last_state(base, pieces)
        below: dict[int, int | None] = {}
        for serial in sorted(self._folder.files, reverse=True):
            if state is not None:
                break
            if serial >= base.serial:
                continue
            file = self._folder.open(serial)
            found = [] if file is None else scan_file(file.data, file.seed, None)
            if file is None or not found or abandoned(file, found):
                continue
            below[serial] = None
            state = _last_state(file, found)
        if state is None:
            # Nothing tells what was freed: all that is there counts.
            return JournalState(below)
        # Serials have no gap, so what lacks between is missing (or, at worst, was an unfinished
        # recovery: two damaged state records are the price for a false alarm).
        for serial in range(min(below, default=base.serial), base.serial):
            if serial not in self._folder.files:
                below[serial] = None
        return JournalState(state.live | below, state.doubt_unknown, state.doubt_serials)

    def _replay_finished(self, serial: int, end: int | None, *, may_skip: bool) -> None:
        if end == SECTOR_BYTES:
            # All of it was written again by an earlier recovery.
            return
        if serial not in self._folder.files:
            self._missing.append(serial)
            self._live[serial] = LiveFile(end, 0, 0)
            return
        skipped = may_skip and end is not None and self._skip(serial)
        if skipped and not self._holds_doubt(serial):
            header = self._folder.header_of(serial)
            if header is not None:
                self._live[serial] = LiveFile(end, header.seed, header.file_bytes)
                return
        name = self._folder.files[serial]
        file = self._folder.open(serial)
        if file is None:
            self._live[serial] = LiveFile(end, 0, self._disk.size(name))
            if not skipped:
                self._damage.append(Damage(name, 0, None))
            return
        self._live[serial] = LiveFile(end, file.seed, len(file.data))
        for piece in scan_file(file.data, file.seed, end):
            self._replay_marked(file, piece, doubt_only=skipped)

    def _replay_marked(self, file: StoredFile, piece: Piece, *, doubt_only: bool = False) -> None:
        """Replay what stands before a mark; all that is bad there is damage."""
        name = journal_name(file.serial)
        for record in piece.records:
            header = record.header
            if header.kind >= KIND_OWN_MIN:
                self._take_own(file, record)
            elif doubt_only or not self._counts(file, header):
                continue
            elif record.sound:
                place = Place(file.serial, record.position, record.length)
                self._replay(place, self._clipped(file, header), body_in(file, record))
            else:
                self._damage.append(Damage(name, record.position, header))
        if not doubt_only:
            self._damage += [Damage(name, position, None) for position in piece.gaps]

    def _take_own(self, file: StoredFile, record: FoundRecord) -> None:
        if record.header.kind != KIND_DOUBT or not self._holds_doubt(file.serial):
            return
        if record.sound:
            self._doubted.append(decode_doubt(record.header, body_in(file, record)))
        else:
            self._doubt_unknown = True

    def _write_again(self, base: StoredFile, last: Piece, highest: int) -> Journal:
        """Write what is not known to be durable to a fresh file, and what is in doubt.

        Returns when all is synced. The state record at the very end makes it count.
        """
        kept = len(self._doubted)
        self._find_doubt(base, last)
        doubt = Doubt(tuple(self._doubted), self._doubt_unknown)
        start = JournalStart(
            max(highest, *self._live) + 1,
            self._live,
            self._folder.spares,
            self._folder.next_spare,
            doubt,
            self._doubt_serials,
        )
        journal = Journal(self._identity, self._settings, self._opening, start)
        for record in last.records:
            header = record.header
            if record.sound and header.kind < KIND_OWN_MIN and self._counts(base, header):
                self._keep(journal, base, record)
        for header in self._doubted[kept:]:
            self._with_room(journal, partial(journal.keep_doubt, header))
        self._with_room(journal, journal.finish_recovery)
        execute_all(self._disk, journal.cut())
        journal.committed()
        return journal

    def _find_doubt(self, base: StoredFile, last: Piece) -> None:
        """Find what is in doubt: all that is bad in a batch that no mark follows."""
        name = journal_name(base.serial)
        for record in last.records:
            header = record.header
            if header.kind >= KIND_OWN_MIN:
                self._take_own(base, record)
            elif not record.sound and not header.opening and self._counts(base, header):
                self._doubted.append(header)
                self._torn.append(Damage(name, record.position, header))
        beyond = any(position + READ_BYTES > last.start for position in base.unreadable)
        # With a bad batch header there is no telling how many records there were.
        if last.gaps or not last.framed or beyond:
            self._doubt_unknown = True
            self._torn.append(Damage(name, min(last.gaps, default=last.start), None))

    def _keep(self, journal: Journal, base: StoredFile, record: FoundRecord) -> None:
        header = self._clipped(base, record.header)
        body = body_in(base, record)
        place = Place(base.serial, record.position, record.length)
        if not header.opening:
            # An opening is not copied: the owner gives a new one, after it was replayed this.
            copied = JournalRecord(
                header.kind, header.flags, header.offset, header.epoch, header.entry_id, body
            )
            place = self._with_room(journal, partial(journal.append, copied))
        self._replay(place, header, body)

    def _with_room(self, journal: Journal, step: Callable[[], T]) -> T:
        """Append something; allocate the file that it needs only if no spare is left for it.

        A full disk has one spare, the reserve, and mostly it takes all: a process must be able to
        start there, or nothing could ever be trimmed.
        """
        try:
            return step()
        except JournalFullError:
            _allocate_spare(self._disk, journal)
            return step()

    def _holds_doubt(self, serial: int) -> bool:
        if self._doubt_serials is None:
            return False
        first, last = self._doubt_serials
        return first <= serial <= last

    def _clipped(self, file: StoredFile, header: RecordHeader) -> RecordHeader:
        bound = self._bounds[file.incarnation]
        return header if bound is None else self._clip(header, bound)

    def _counts(self, file: StoredFile, header: RecordHeader) -> bool:
        """Return whether a record is below the bound of the incarnation that wrote it."""
        bound = self._bounds[file.incarnation]
        if bound is None or header.kind not in self._settings.offset_kinds:
            return True
        return header.offset < bound


def _last_state(file: StoredFile, pieces: list[Piece]) -> JournalState | None:
    for piece in reversed(pieces):
        for record in reversed(piece.records):
            if record.sound and record.header.kind in (KIND_STATE, KIND_STATE_COPY):
                return decode_state(body_in(file, record))
    return None
