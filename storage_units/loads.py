"""Reading old entries back from the journal files, for requests that need them.

A load is a set of offsets whose records are all read, and checked, before the request goes on.
Neighbours on disk are read together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from corfu.effects import Effect, Fetch
from corfu.journal.format import DamagedRecordError, journal_name
from corfu.types import Digest, EntryId, Offset, State

from .index import SERIAL_AT, STATE_MASK, cell_place
from .names import JUNK_NAME, HeldEntry, Name
from .records import RecordKind
from .store import Store

Then = Callable[[Mapping[Offset, HeldEntry], float], list[Effect]]
"""Goes on with a request: takes the entries read (those that are sound) and the time."""

ThenFile = Callable[[bytes | None, float], list[Effect]]
"""Takes the bytes of a file, None if it cannot be read, and the time."""

_GAP_BYTES_MAX = 4096
"""A gap up to this size between two records is read over: cheaper than a second read."""

_FETCH_BYTES_MAX = 2 << 20
"""Most bytes in one read: more than the largest record, so progress is never refused."""


def _from_cache(_: int) -> bool:
    """Say of any journal file that the system may answer from its memory."""
    return False


@dataclass(slots=True)
class _Load:
    then: Then
    keep_names: bool
    waiting: int = 0
    values: dict[Offset, HeldEntry] = field(default_factory=dict)


@dataclass(slots=True)
class _Piece:
    """One read: the records in it, as (position, cell, offset)."""

    load: _Load
    serial: int
    start: int
    end: int
    records: list[tuple[int, int, Offset]]


class Loads:
    """The loads under way, bounded in number."""

    def __init__(self, store: Store, loads_max: int) -> None:
        self._store = store
        self._loads_max = loads_max
        self._loads = 0
        self._tickets: dict[int, _Piece] = {}
        self._whole: dict[int, ThenFile] = {}
        self._next_ticket = 1

    @property
    def full(self) -> bool:
        """No further load may be started now."""
        return self._loads >= self._loads_max

    def start(
        self,
        offsets: Iterable[Offset],
        then: Then,
        *,
        keep_names: bool = True,
        fresh: Callable[[int], bool] = _from_cache,
    ) -> list[Effect]:
        """Read the records of `offsets`, each of which has one on disk; then call `then`.

        An entry that fails its digest becomes DAMAGED in the store and is not among the values.
        Junk is among them as an empty entry, if its record is sound.

        Args:
            offsets: What to read.
            then: Goes on.
            keep_names: Remember the names found, for who asks for them again.
            fresh: Whether the file with a serial is to be read past the system's memory.
        """
        load = _Load(then, keep_names)
        effects: list[Effect] = []
        for piece in self._pieces(load, offsets):
            ticket = self._new_ticket()
            self._tickets[ticket] = piece
            load.waiting += 1
            name, length = journal_name(piece.serial), piece.end - piece.start
            effects.append(Fetch(ticket, name, piece.start, length, fresh(piece.serial)))
        assert effects
        self._loads += 1
        return effects

    def read_file(self, name: str, length: int, then: ThenFile) -> list[Effect]:
        """Read up to `length` bytes of a file that is no journal file, past every cache."""
        ticket = self._new_ticket()
        self._whole[ticket] = then
        return [Fetch(ticket, name, 0, length, fresh=True)]

    def _new_ticket(self) -> int:
        self._next_ticket += 1
        return self._next_ticket

    def fetched(self, ticket: int, data: bytes | None, now: float) -> list[Effect]:
        """Take the bytes of one read; None if they cannot be read."""
        whole = self._whole.pop(ticket, None)
        if whole is not None:
            return whole(data, now)
        piece = self._tickets.pop(ticket)
        load = piece.load
        view = memoryview(b"" if data is None else data)
        for position, cell, offset in piece.records:
            # Trimmed or repaired meanwhile: then what was read says nothing.
            if self._store.index.get(offset) == cell:
                self._take(load, offset, cell, view[position - piece.start :])
        load.waiting -= 1
        if load.waiting:
            return []
        self._loads -= 1
        return load.then(load.values, now)

    def _take(self, load: _Load, offset: Offset, cell: int, data: memoryview) -> None:
        is_junk = cell & STATE_MASK == State.JUNK
        try:
            header, body = self._store.parse(cell, data)
        except DamagedRecordError as error:
            # What is junk the index says for certain: there is nothing that could be lost.
            if not is_junk:
                self._store.mark_damaged(offset, cell, error.header)
            return
        if is_junk:
            if header.kind == RecordKind.JUNK:
                load.values[offset] = HeldEntry(JUNK_NAME, b"")
            return
        if header.offset != offset:
            self._store.mark_damaged(offset, cell, None)
            return
        # The digest was checked just now; it is not computed once more. And the body is copied
        # once, out of what was read for many.
        name = Name(EntryId(header.entry_id), Digest(header.body_digest), header.body_bytes)
        load.values[offset] = HeldEntry(name, bytes(body))
        if load.keep_names:
            self._store.memory.remember(offset, name)

    def _pieces(self, load: _Load, offsets: Iterable[Offset]) -> list[_Piece]:
        found: list[tuple[int, int, int, Offset]] = []
        for offset in offsets:
            cell = self._store.index.get(offset)
            assert cell
            found.append((cell >> SERIAL_AT, cell_place(cell).position, cell, offset))
        found.sort()
        pieces: list[_Piece] = []
        for serial, position, cell, offset in found:
            end = position + cell_place(cell).length
            last = pieces[-1] if pieces else None
            if (
                last is not None
                and last.serial == serial
                and position - last.end <= _GAP_BYTES_MAX
                and end - last.start <= _FETCH_BYTES_MAX
            ):
                last.records.append((position, cell, offset))
                last.end = max(last.end, end)
            else:
                pieces.append(_Piece(load, serial, position, end, [(position, cell, offset)]))
        return pieces
