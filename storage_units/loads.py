"""Reading old entries back from the journal files, for requests that need them.

A load is a set of offsets whose records are all read, and checked, before the request goes on.
Neighbours on disk are read together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from corfu.effects import Effect, Fetch
from corfu.journal.format import DamagedRecordError, journal_name
from corfu.types import EntryId, Offset

from .index import SERIAL_AT, cell_place
from .names import HeldEntry, Name, entry_digest
from .store import Store

Then = Callable[[Mapping[Offset, HeldEntry], float], list[Effect]]
"""Goes on with a request: takes the entries read (those that are sound) and the time."""

_GAP_BYTES_MAX = 4096
"""A gap up to this size between two records is read over: cheaper than a second read."""

_FETCH_BYTES_MAX = 2 << 20
"""Most bytes in one read: more than the largest record, so progress is never refused."""


@dataclass(slots=True)
class _Load:
    then: Then
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
        self._next_ticket = 1

    @property
    def full(self) -> bool:
        """No further load may be started now."""
        return self._loads >= self._loads_max

    def start(self, offsets: Iterable[Offset], then: Then) -> list[Effect]:
        """Read the records of `offsets`, each of which has one on disk; then call `then`.

        A record that fails its digest becomes DAMAGED in the store and is not among the values.
        """
        load = _Load(then)
        effects: list[Effect] = []
        for piece in self._pieces(load, offsets):
            ticket = self._next_ticket
            self._next_ticket += 1
            self._tickets[ticket] = piece
            load.waiting += 1
            name = journal_name(piece.serial)
            effects.append(Fetch(ticket, name, piece.start, piece.end - piece.start))
        assert effects
        self._loads += 1
        return effects

    def fetched(self, ticket: int, data: bytes | None, now: float) -> list[Effect]:
        """Take the bytes of one read; None if they cannot be read."""
        piece = self._tickets.pop(ticket)
        load = piece.load
        for position, cell, offset in piece.records:
            # Trimmed or repaired meanwhile: then what was read says nothing.
            if self._store.index.get(offset) == cell:
                start = position - piece.start
                end = start + cell_place(cell).length
                self._take(load, offset, cell, b"" if data is None else data[start:end])
        load.waiting -= 1
        if load.waiting:
            return []
        self._loads -= 1
        return load.then(load.values, now)

    def _take(self, load: _Load, offset: Offset, cell: int, data: bytes) -> None:
        try:
            record = self._store.parse(cell, data)
        except DamagedRecordError as error:
            self._store.mark_damaged(offset, cell, error.header)
            return
        if record.offset != offset:
            self._store.mark_damaged(offset, cell, None)
            return
        name = Name(EntryId(record.entry_id), entry_digest(record.body), len(record.body))
        load.values[offset] = HeldEntry(name, record.body)
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
