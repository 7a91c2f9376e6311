"""The journal's planner: gives every record its place and says which disk operations keep it.

No I/O: `Journal` returns operations, somebody else carries them out, strictly in order, and tells
the journal when they are durable. One batch is on its way at a time and the next is laid out only
after the sync of the one before. Therefore a batch header on disk says that all before it, in this
file and in all files before, was synced: it is the mark, and costs nothing of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from corfu.journal.files import JournalStart, LiveFile, Part, Releases, Spares
from corfu.journal.format import (
    BATCH_HEADER_BYTES,
    KIND_OWN_MIN,
    SECTOR_BYTES,
    BatchHeader,
    DamagedRecordError,
    FileHeader,
    JournalFullError,
    JournalIdentity,
    JournalRecord,
    JournalSettings,
    Origin,
    Place,
    RecordHeader,
    align_sector,
    body_of,
    body_padding,
    decode_record_header,
    encode_batch_header,
    encode_file_header,
    encode_record_header,
    file_seed,
    journal_name,
    record_bytes,
)
from corfu.journal.state import (
    KIND_STATE,
    KIND_STATE_COPY,
    Doubt,
    JournalState,
    encode_doubt,
    encode_state,
    state_bytes_max,
)
from corfu.ports import DiskOperation, Sync, WriteAt

Opening = Callable[[], Sequence[JournalRecord]]
"""Gives the owner's small state as it is now, to open a new journal file with."""


class Journal:
    """Lays out records in journal files. Single-threaded; made by `create` or `recover`.

    Use: `append` some records, then `cut` and have its operations carried out in order, then
    `committed`; only then are the records durable. Records appended meanwhile wait for the next
    cut. Operations that fail must end the process: what they did is unknown.
    """

    def __init__(
        self,
        identity: JournalIdentity,
        settings: JournalSettings,
        opening: Opening,
        start: JournalStart,
    ) -> None:
        self._identity = identity
        self._settings = settings
        self._file_bytes = settings.file_bytes
        self._opening = opening
        self._live = dict(start.live)
        self._spares = Spares(settings, start.spares, start.next_spare)
        self._releases = Releases()
        self._next_serial = start.next_serial
        self._doubt = start.doubt
        self._doubt_serials = start.doubt_serials
        self._held: list[int] = []

        self._recovering = True
        self._serial = 0
        self._seed = 0
        self._position = 0
        self._head_bytes = 0
        self._margin_live = -1
        self._margin_bytes = 0
        self._parts: list[Part] = []
        self._committing = False
        self._commits_begun = 0
        self._commits_done = 0
        self._unmarked = False

        self._closing: list[int] = []
        self._closing_in_commit: list[int] = []
        self._finished: list[int] = []

    # What is appended.

    def append(self, record: JournalRecord) -> Place:
        """Lay out a record for the next cut; returns its final place.

        May begin a new journal file, which calls `opening`: what that returns is committed
        together with this record.

        Raises:
            ValueError: The record can never fit a journal file.
            JournalFullError: It needs a new file and there is no spare; nothing was appended.
        """
        assert record.kind < KIND_OWN_MIN
        return self._append(record, opening=False)

    def record_bytes_max(self) -> int:
        """Return the most that `record_bytes` of one record may be, with an opening as now."""
        head = SECTOR_BYTES + BATCH_HEADER_BYTES + self._head_bytes
        return self._settings.file_bytes - head - self._margin()

    def fits(self, size: int, *, reserve: bool) -> bool:
        """Tell whether a record of `size` bytes (`record_bytes` of its body) may be appended.

        Args:
            size: Of the record.
            reserve: False leaves one whole spare untouched.
        """
        if size <= self._remaining() and (reserve or len(self._spares)):
            # As nearly always.
            return True
        return size <= self.room(reserve=reserve) and size <= self.record_bytes_max()

    def room(self, *, reserve: bool) -> int:
        """Return how many bytes of records may still be appended without a new spare.

        A single record fits if `record_bytes` of its body is no more than this and than
        `record_bytes_max()`.

        Args:
            reserve: False leaves one whole spare untouched.
        """
        usable = len(self._spares) - (0 if reserve else 1)
        if usable < 0:
            # A restart has taken the spare that is to stay: what is left of this file is it now.
            return 0
        return max(0, self._remaining()) + usable * self.record_bytes_max()

    @property
    def dirty(self) -> bool:
        """Something was appended, or a file released, that no cut has taken yet."""
        return bool(self._parts) or (self._releases.stale and self._state_fits())

    @property
    def committing(self) -> bool:
        """A cut or mark is on its way to the disk."""
        return self._committing

    @property
    def commits_begun(self) -> int:
        """How many cuts and marks were handed out: what is appended now goes with the next one."""
        return self._commits_begun

    @property
    def commits_done(self) -> int:
        """How many of them are durable: a record appended at `commits_begun` n is when n < this."""
        return self._commits_done

    def cut(self) -> tuple[DiskOperation, ...]:
        """Return the operations that make all that was appended so far durable.

        Carry them out in order, then call `committed()`. Empty if there is nothing to do; then
        there is nothing to call either. Must not be called while committing.
        """
        assert not self._committing
        if self._releases.stale and self._state_fits():
            self._append_state()
        if not self._parts:
            return ()
        operations = [operation for part in self._parts for operation in part.operations()]
        operations += self._releases.free(self._settings, self._spares)
        self._position = align_sector(self._parts[-1].end)
        self._parts = []
        self._unmarked = True
        self._begin_commit()
        return tuple(operations)

    def committed(self) -> None:
        """Note that all operations of the last cut or mark are done."""
        assert self._committing
        self._committing = False
        self._commits_done += 1
        self._releases.committed()
        self._finished += self._closing_in_commit
        self._closing_in_commit = []

    # Marks.

    @property
    def mark_wanted(self) -> bool:
        """Nothing is going on, and a mark would spare the next restart work (or free files)."""
        if self._committing or self.dirty:
            return False
        return bool(self._releases) or (self._unmarked and self._mark_fits())

    def mark(self, *, clean: bool = False) -> tuple[DiskOperation, ...]:
        """Return the operations that write a mark alone; then call `committed()`.

        Empty (and then nothing is to be called) if there is nothing to do or the file has no
        room: a mark is never needed, the next restart only has more to write again.

        Args:
            clean: It is the last thing before a clean stop.
        """
        assert not self._committing
        assert not self._parts
        operations: list[DiskOperation] = []
        if (self._unmarked or clean) and self._mark_fits():
            batch = BatchHeader(self._position, BATCH_HEADER_BYTES, 0, clean)
            data = encode_batch_header(batch, self._serial, self._seed).ljust(SECTOR_BYTES, b"\0")
            name = journal_name(self._serial)
            operations += [WriteAt(name, self._position, data), Sync(name)]
            self._position += SECTOR_BYTES
            self._unmarked = False
        operations += self._releases.free(self._settings, self._spares)
        if operations:
            self._begin_commit()
        return tuple(operations)

    # Files.

    @property
    def serial(self) -> int:
        """Serial of the file that is appended to."""
        return self._serial

    @property
    def live(self) -> tuple[int, ...]:
        """Serials of the finished files that are not released, ascending."""
        return tuple(sorted(self._live))

    def drain_finished(self) -> list[int]:
        """Return the serials of files finished, and durable, since the last call."""
        finished, self._finished = self._finished, []
        return finished

    def release(self, serial: int) -> None:
        """Give back a finished file in which no record is needed any more.

        That it is free is journalled with the next cut; the cut or mark after that one renames
        it to a spare or removes it. Doubt records pin their files until the doubt is settled.

        Raises:
            ValueError: No finished live file has that serial.
        """
        if serial not in self._live:
            raise ValueError(f"serial {serial} is not a finished live file")
        if self._pinned(serial):
            if serial not in self._held:
                self._held.append(serial)
            return
        self._releases.add(serial, self._live.pop(serial).file_bytes)

    @property
    def freed_files(self) -> int:
        """How many released files were removed, or made spares, since the start."""
        return self._releases.freed_files

    @property
    def freed_bytes(self) -> int:
        """The length of those files."""
        return self._releases.freed_bytes

    @property
    def freeing(self) -> bool:
        """Files were released that are not freed yet."""
        return self._releases.pending

    @property
    def spares(self) -> int:
        """How many empty files are ready."""
        return len(self._spares)

    def spare_wanted(self) -> tuple[DiskOperation, ...] | None:
        """Return the operations that allocate one more spare, None if none is wanted now.

        They may run beside the others, in another thread. Then call `spare_ready` or
        `spare_failed`; until then no other is wanted.
        """
        return self._spares.wanted()

    def spare_ready(self) -> None:
        """Note that the spare last wanted is durable."""
        self._spares.ready()

    def spare_failed(self) -> None:
        """Note that the spare last wanted could not be made; the next try uses the same name."""
        self._spares.failed()

    @property
    def spare_refused(self) -> bool:
        """The disk had no space for the spare last wanted."""
        return self._spares.refused

    # Doubt.

    @property
    def doubt(self) -> Doubt:
        """What recovery found in doubt and nobody has settled since."""
        return self._doubt

    def doubt_settled(self) -> None:
        """Forget the doubt; durable with the next cut, until then a restart reports it again."""
        self._doubt = Doubt()
        self._doubt_serials = None
        self._releases.stale = True
        held, self._held = self._held, []
        for serial in held:
            self.release(serial)

    # Reading back.

    def locate(self, place: Place) -> tuple[str, int, int]:
        """Return (file name, position, length) of the bytes that `parse` needs."""
        return journal_name(place.serial), place.position, place.length

    def parse(self, place: Place, data: bytes) -> JournalRecord:
        """Return the record in the bytes read from `locate(place)`.

        Raises:
            DamagedRecordError: A digest fails, bytes lack, or the file was released meanwhile.
        """
        header, body = self.parse_prefix(place.serial, place.position, memoryview(data))
        if record_bytes(header.body_bytes) != place.length:
            raise DamagedRecordError(journal_name(place.serial), place.position, header)
        return JournalRecord(
            header.kind, header.flags, header.offset, header.epoch, header.entry_id, bytes(body)
        )

    def parse_prefix(
        self, serial: int, position: int, data: memoryview
    ) -> tuple[RecordHeader, memoryview]:
        """Return header and body of the record that `data`, from `position` on, begins with.

        Both are checked; the body's digest is the one in the header.

        Raises:
            DamagedRecordError: A digest fails, bytes lack, or the file was released meanwhile.
        """
        seed = self._seed_of(serial)
        header = None if seed is None else decode_record_header(data, 0, position, seed)
        body = None if header is None else body_of(data, 0, header)
        if header is None or body is None:
            raise DamagedRecordError(journal_name(serial), position, header)
        return header, body

    # For recovery only.

    def keep_doubt(self, header: RecordHeader) -> None:
        """Journal that `header`, one of the doubt that the journal started with, is in doubt."""
        place = self._append(encode_doubt(header), opening=False)
        first, _ = self._doubt_serials or (place.serial, 0)
        self._doubt_serials = (first, place.serial)

    def finish_recovery(self) -> None:
        """Append the opening and the state record that completes the recovery.

        All of the opening stands in one file, so a later recovery that reads the newest file
        has the owner's small state.

        Raises:
            ValueError: The opening does not fit a journal file.
            JournalFullError: See `append`.
        """
        assert self._recovering
        opening = list(self._opening())
        state = record_bytes(state_bytes_max(len(self._live) + 1))
        needed = sum(record_bytes(len(record.body)) for record in opening) + state
        if needed > self._remaining():
            self._begin(needed)
        self._head_bytes = needed + state
        for record in opening:
            self._put(record, opening=True)
        self._put(encode_state(self._state(), KIND_STATE), opening=False)
        self._recovering = False

    def recovered_from(self, serial: int, *, empty: bool) -> None:
        """Count the file that the recovery ended with as finished, or release it if empty.

        It is freed only by a later commit: until the fresh file holds a second batch, one bad
        byte in it makes the next recovery fall back to the old file.
        """
        if empty:
            self.release(serial)
        else:
            self._finished.append(serial)

    def add_spare(self, name: str) -> None:
        """Take a file of the right length as a spare; its name is durable."""
        self._spares.add(name)

    # Inside.

    def _begin_commit(self) -> None:
        self._committing = True
        self._commits_begun += 1
        self._releases.committing()
        self._closing_in_commit, self._closing = self._closing, []

    def _append(self, record: JournalRecord, *, opening: bool) -> Place:
        needed = record_bytes(len(record.body))
        if needed > self._remaining():
            self._begin(needed)
        return self._put(record, opening=opening)

    def _put(self, record: JournalRecord, *, opening: bool) -> Place:
        """Lay out a record in the current file, in which it is known to fit."""
        if not self._parts:
            self._parts.append(Part(self._serial, self._seed, self._position, None, b""))
        part = self._parts[-1]
        position, body = part.start + part.length, record.body
        size = len(body)
        length = record_bytes(size)
        chunks = part.chunks
        chunks.append(encode_record_header(record, position, self._seed, opening=opening))
        if size:
            chunks.append(body)
            if size % 8:
                chunks.append(body_padding(size))
        part.count += 1
        part.length += length
        assert position + length <= self._settings.file_bytes
        return Place(self._serial, position, length)

    def _end(self) -> int:
        """Return where the next record's header would lie in the current file."""
        return self._parts[-1].end if self._parts else self._position + BATCH_HEADER_BYTES

    def _remaining(self) -> int:
        if not self._serial:
            return -1
        if len(self._live) != self._margin_live:
            self._margin()
        if self._parts:
            part = self._parts[-1]
            end = part.start + part.length
        else:
            end = self._position + BATCH_HEADER_BYTES
        return self._file_bytes - self._margin_bytes - end

    def _margin(self) -> int:
        """Return what is kept at the end of each file for two state records and two marks.

        Without it a journal that is full could not note that a file was released, and so could
        never become less full.
        """
        live = len(self._live)
        # It is asked for with each record, and changes with the number of files alone.
        if live != self._margin_live:
            state = record_bytes(state_bytes_max(live + 1))
            self._margin_live = live
            self._margin_bytes = align_sector(BATCH_HEADER_BYTES + 2 * state) + 2 * SECTOR_BYTES
        return self._margin_bytes

    def _begin(self, needed: int) -> None:
        """Begin a new file in which `needed` more bytes will fit."""
        opening = [] if self._recovering else list(self._opening())
        state = record_bytes(state_bytes_max(len(self._live) + 1))
        head = 2 * state + sum(record_bytes(len(record.body)) for record in opening)
        first = SECTOR_BYTES + BATCH_HEADER_BYTES + head
        if first + needed + self._margin() > self._settings.file_bytes:
            raise ValueError(
                f"{needed} bytes do not fit a journal file of {self._settings.file_bytes}"
            )
        if not self._spares:
            raise JournalFullError("no spare journal file")
        if self._serial:
            self._close_current()
        self._head_bytes = head
        self._begin_part(self._spares.take())
        self._put(encode_state(self._state(), KIND_STATE_COPY), opening=False)
        for record in opening:
            self._put(record, opening=True)
        if not self._recovering:
            self._put(encode_state(self._state(), KIND_STATE), opening=False)
        self._releases.stated()

    def _close_current(self) -> None:
        end = align_sector(self._parts[-1].end) if self._parts else self._position
        self._live[self._serial] = LiveFile(end, self._seed, self._settings.file_bytes)
        self._closing.append(self._serial)

    def _begin_part(self, spare: str) -> None:
        origin = Origin.RECOVERED if self._recovering else Origin.ROTATED
        self._serial = self._next_serial
        self._next_serial += 1
        self._seed = file_seed(self._identity.incarnation, self._serial, origin)
        self._position = SECTOR_BYTES
        header = FileHeader(
            self._identity.owner_kind,
            self._identity.owner_id,
            self._identity.cluster,
            self._identity.incarnation,
            self._serial,
            origin,
            self._settings.file_bytes,
        )
        self._parts.append(
            Part(self._serial, self._seed, SECTOR_BYTES, spare, encode_file_header(header))
        )

    def _state(self) -> JournalState:
        live = {serial: file.end for serial, file in self._live.items()}
        return JournalState(live, self._doubt.unknown, self._doubt_serials)

    def _state_fits(self) -> bool:
        return bool(self._spares) or self._state_fits_here()

    def _state_fits_here(self) -> bool:
        state = record_bytes(state_bytes_max(len(self._live)))
        # A sector stays free for the mark that lets the released files go.
        return align_sector(self._end() + 2 * state) + SECTOR_BYTES <= self._settings.file_bytes

    def _append_state(self) -> None:
        if not self._state_fits_here():
            self._begin(0)
            return
        self._put(encode_state(self._state(), KIND_STATE_COPY), opening=False)
        self._put(encode_state(self._state(), KIND_STATE), opening=False)
        self._releases.stated()

    def _mark_fits(self) -> bool:
        return self._position + SECTOR_BYTES <= self._settings.file_bytes

    def _pinned(self, serial: int) -> bool:
        if self._doubt_serials is None:
            return False
        first, last = self._doubt_serials
        return first <= serial <= last

    def _seed_of(self, serial: int) -> int | None:
        if serial == self._serial:
            return self._seed
        file = self._live.get(serial)
        return None if file is None else file.seed
