"""Scrub: all that is on disk is read again and checked, now and then, before somebody needs it.

A pass looks at the index files first, then at every record that the index in memory names, block
by block. What it finds is treated as if a request had met it; nothing is repaired here but what
this unit knows for certain by itself. The small records (seals, marks, layouts) need no pass: only
the newest file's opening counts, and that is written anew with each file.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Mapping

from corfu.effects import Effect, Send
from corfu.journal.format import journal_name
from corfu.messages import Scrub, ScrubIs
from corfu.types import Address, Offset, RequestId, State

from .context import Context
from .file_book import FileLog
from .fill_plan import Runs
from .index import INDEX_BLOCK_OFFSETS, SERIAL_AT, STATE_MASK, cell_length, cell_place
from .index_file import JunkRun, index_name, is_sound
from .names import HeldEntry, entry_digest

_FIRST_AFTER_S = 60.0
"""A process that just started has other things to do; and one that crash-loops, too."""

_STEP_BYTES = 256 << 10
_STEP_RECORDS = 128
"""Most that is read and checked at once: one or two milliseconds of a request's waiting."""

_RECORD_COST_BYTES = 4096
"""What a record counts for beside its bytes: many small ones cost time, not bandwidth."""

_BUSY_S = 0.05
"""After that it is looked whether the disk has become free for a step."""

_LISTED_MAX = 1000
"""Most damaged offsets listed in one answer."""


class Scrubbing:
    """The pass under way, and what the passes found."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._running = False
        self._asked = False
        self._asked_by: RequestId | None = None
        self._passes = 0
        self._bytes_done = 0
        self._blocks_done = 0
        self._blocks: deque[int] = deque()
        self._at = 0
        self._indexes: deque[int] = deque()
        self._renewed: dict[int, FileLog] = {}
        self._opened: set[int] = set()
        self._waiting = False
        self._next_at: float | None = None

    @property
    def deadline(self) -> float | None:
        """When the next step is due; None while one is under way, or before the first epoch."""
        return None if self._waiting else self._next_at

    def installed(self, now: float) -> None:
        """Note that an epoch begins: from the first one on, passes are made."""
        if self._next_at is None:
            self._next_at = now + min(_FIRST_AFTER_S, self._context.settings.scrub_rest_s)

    def tick(self, now: float) -> list[Effect]:
        """Begin a pass, or take its next step, if it is time."""
        if self._waiting or self._next_at is None or now < self._next_at:
            return []
        if self._context.loads.full:
            # Requests come first.
            self._next_at = now + _BUSY_S
            return []
        if not self._running:
            self._begin(asked=False)
        return self._step(now)

    def scrub(self, message: Scrub, sender: Address, now: float) -> list[Effect]:
        """Handle a Scrub: begin a pass now if that is asked for, and say how far it is."""
        effects: list[Effect] = []
        if message.start and message.request != self._asked_by:
            # Anew, even if a pass is under way: what that one has looked at may be damaged since.
            self._asked_by = message.request
            self._begin(asked=True)
            self._next_at = now
            effects = self.tick(now)
        return [*effects, Send(sender, self._report(message), ordered=False)]

    def _report(self, message: Scrub) -> ScrubIs:
        standing, suspicion = self._context.standing, self._context.store.suspicion
        left = sorted(offset for offset in suspicion.named if standing.seat_of(offset) is not None)
        return ScrubIs(
            message.request,
            standing.unit,
            standing.incarnation,
            self._running,
            self._passes,
            self._bytes_done,
            self._bytes_total(),
            suspicion.found,
            suspicion.repaired,
            len(left),
            tuple(left[:_LISTED_MAX]),
            suspicion.unknown,
        )

    def _bytes_total(self) -> int:
        """Return what the pass will have checked: a guess from what it has, exact at its end."""
        left = len(self._blocks)
        if not self._running or not left:
            return self._bytes_done
        if self._blocks_done:
            return self._bytes_done * (self._blocks_done + left) // self._blocks_done
        files = 1 + len(self._context.store.journal.live)
        return max(self._bytes_done, files * self._context.settings.journal_file_bytes)

    def _begin(self, *, asked: bool) -> None:
        files = self._context.store.files
        self._running, self._asked = True, asked
        self._bytes_done = self._blocks_done = self._at = 0
        self._blocks = deque(self._context.store.index.numbers())
        self._indexes = deque(sorted(files.indexed))
        self._renewed = {serial: FileLog() for serial in files.without_index()}
        self._opened.clear()

    def _end(self, now: float) -> list[Effect]:
        for serial, log in self._renewed.items():
            self._context.store.files.renew_index(serial, log)
        self._renewed = {}
        self._running = self._asked = False
        self._passes += 1
        self._next_at = now + self._context.settings.scrub_rest_s
        return []

    def _step(self, now: float) -> list[Effect]:
        while self._indexes:
            serial = self._indexes.popleft()
            if serial in self._context.store.files.indexed:
                return self._read_index(serial)
        while self._blocks:
            offsets = self._next_offsets(self._blocks[0])
            if offsets:
                return self._read_records(offsets)
            self._leave_block()
        return self._end(now)

    def _pause(self, size: int, records: int, now: float) -> None:
        """Let the time pass that a step may take; then the next one is due."""
        settings = self._context.settings
        rate = settings.scrub_asked_bytes_s if self._asked else settings.scrub_bytes_s
        self._waiting = False
        self._bytes_done += size
        self._next_at = now + (size + records * _RECORD_COST_BYTES) / rate

    # Index files.

    def _read_index(self, serial: int) -> list[Effect]:
        # An index takes less than the records that it names, whatever their size.
        length = 2 * self._context.settings.journal_file_bytes

        def then(data: bytes | None, now: float) -> list[Effect]:
            self._pause(len(data or b""), 1, now)
            self._take_index(serial, data)
            return []

        self._waiting = True
        return self._context.loads.read_file(index_name(serial), length, then)

    def _take_index(self, serial: int, data: bytes | None) -> None:
        standing, files = self._context.standing, self._context.store.files
        if serial not in files.indexed:
            # Its journal file was freed meanwhile.
            return
        if data is None:
            self._context.log(f"{index_name(serial)} is missing: it is written again")
        elif not is_sound(data, serial, standing.unit, standing.incarnation):
            self._context.log(
                f"{index_name(serial)} is damaged: bytes 0 to {len(data)} fail their digest; "
                "it is written again"
            )
        else:
            return
        # What belongs into it is found on the way through the index in memory.
        self._renewed[serial] = FileLog()

    # Records.

    def _next_offsets(self, number: int) -> list[Offset]:
        """Return what to check next in a block, from where the last step ended."""
        store = self._context.store
        offsets, cells = store.index.block(number) or (range(0), ())
        found: list[Offset] = []
        junk: set[int] = set()
        size = 0
        # The block may have got more cells since the last step.
        first = bisect_left(offsets, self._at)
        for offset, cell in zip(map(Offset, offsets[first:]), cells[first:], strict=True):
            if self._is_on_disk(offset, cell) and cell not in junk:
                size += cell_length(cell)
                if found and (size > _STEP_BYTES or len(found) == _STEP_RECORDS):
                    break
                found.append(offset)
                if cell & STATE_MASK == State.JUNK:
                    # One record for many offsets.
                    junk.add(cell)
            self._at = offset + 1
        return found

    def _is_on_disk(self, offset: Offset, cell: int) -> bool:
        """Tell whether an offset's record must be readable: it counts, and is committed."""
        store, state = self._context.store, cell & STATE_MASK
        if state not in (State.DATA, State.JUNK) or offset < store.standing.trim_mark:
            return False
        # What it stands in no chain for, a unit gives nobody; a rebuild compares it first.
        if store.standing.is_lost(offset) or store.standing.seat_of(offset) is None:
            return False
        return store.others_durable if state == State.JUNK else not store.memory.pending(offset)

    def _read_records(self, offsets: list[Offset]) -> list[Effect]:
        index = self._context.store.index
        cells = {offset: index.get(offset) for offset in offsets}

        def then(values: Mapping[Offset, HeldEntry], now: float) -> list[Effect]:
            self._pause(sum(map(cell_length, cells.values())), len(cells), now)
            for offset in sorted(cells.keys() - values.keys()):
                self._take_damage(offset, cells[offset])
            return []

        self._waiting = True
        return self._context.loads.start(offsets, then, keep_names=False, fresh=self._is_new)

    def _is_new(self, serial: int) -> bool:
        """Tell whether a pass comes to a finished file for the first time.

        Then what the system keeps of it in memory is dropped, or only that would be checked.
        """
        if serial in self._opened or not self._context.store.files.is_finished(serial):
            return False
        self._opened.add(serial)
        return True

    def _take_damage(self, offset: Offset, cell: int) -> None:
        """Heal what needs nobody else; what does was made DAMAGED when it was read."""
        store = self._context.store
        if cell & STATE_MASK != State.JUNK:
            self._rescue(offset)
        elif store.index.get(offset) == cell:
            self._renew_junk(offset, cell)

    def _rescue(self, offset: Offset) -> None:
        """Store a damaged entry again if it is still in memory, whole.

        Safe in any role and epoch: it is what this unit stored here, nothing is decided anew.
        """
        store = self._context.store
        held = store.memory.held(offset)
        if held is None or store.state(offset) is not State.DAMAGED or store.standing.frozen:
            return
        name = held.name
        whole = entry_digest(held.entry) == name.digest
        if whole and store.has_room(name.length, reserve=False):
            epoch = store.standing.sealed
            store.put_data(offset, epoch, name.entry_id, name.digest, held.entry)

    def _renew_junk(self, offset: Offset, cell: int) -> None:
        """Write the record of junk again, for the block's offsets that it stands for.

        The index knows it from that record, or from a sound index file: it is decided, and to
        say it once more decides nothing.
        """
        store, place = self._context.store, cell_place(cell)
        block = store.index.block(offset // INDEX_BLOCK_OFFSETS)
        assert block is not None
        offsets = [Offset(at) for at, each in zip(*block, strict=True) if each == cell]
        self._context.log(
            f"{journal_name(place.serial)} is damaged at byte {place.position}: "
            f"the record of junk from offset {offsets[0]} on; it is written again"
        )
        step = offsets[1] - offsets[0] if len(offsets) > 1 else 1
        runs = Runs(step)
        for each in offsets:
            runs.add(each)
        ranges = runs.ranges()
        if store.has_junk_room(len(ranges)):
            for run in ranges:
                store.put_junk(run, step, store.standing.sealed)

    def _leave_block(self) -> None:
        number = self._blocks.popleft()
        self._at = 0
        self._blocks_done += 1
        block = self._context.store.index.block(number)
        if not self._renewed or block is None:
            return
        for offset, cell in zip(*block, strict=True):
            log = self._renewed.get(cell >> SERIAL_AT)
            if log is None:
                continue
            if cell & STATE_MASK == State.JUNK:
                log.runs.append(JunkRun(offset, offset + 1, 1, cell))
            else:
                log.blocks.add(number)
