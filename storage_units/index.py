"""Where each offset's record lies: 8 bytes an offset, in blocks of 1,024 offsets.

A unit that holds one of n chains fills one cell in n, so an entry costs 8 n bytes.
A cell packs the state, a rounded-up length, the position in the journal file, and that file's
serial number; 0 means that no record is known.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterator

from corfu.config import BLOCK_OFFSETS
from corfu.journal.format import RECORD_HEADER_BYTES, Place
from corfu.types import Offset

_STATE_BITS = 3
_LENGTH_BITS = 6
_POSITION_BITS = 29
_LENGTH_AT = _STATE_BITS
_POSITION_AT = _LENGTH_AT + _LENGTH_BITS
SERIAL_AT = _POSITION_AT + _POSITION_BITS
SERIAL_MAX = 2 ** (64 - SERIAL_AT) - 1
STATE_MASK = 2**_STATE_BITS - 1
_LENGTH_MASK = 2**_LENGTH_BITS - 1
_POSITION_MASK = 2**_POSITION_BITS - 1

TENTATIVE = 6
"""In a cell, instead of a state: an entry that is not known to be durable above (see `tentative`).
To all but that module's book the offset is as if it had no cell."""

_GRAIN = 8
"""Records lie at, and take, whole multiples of this."""

_CODE_MIN = 8
"""Code of the shortest record, a header alone: codes are counted from it."""

_NEW_BLOCK = bytes(8 * BLOCK_OFFSETS)

assert RECORD_HEADER_BYTES // _GRAIN == _CODE_MIN


def length_code(length: int) -> int:
    """Return a code of 6 bits for a record's length; lengths are rounded up by at most 25 %."""
    units = length // _GRAIN
    exponent = units.bit_length() - 1
    step = exponent - 2
    return 4 * (exponent - 1) + -(-(units - (1 << exponent)) >> step) - _CODE_MIN


def length_bound(code: int) -> int:
    """Return the greatest length that has this code."""
    code += _CODE_MIN
    exponent = code // 4 + 1
    return ((1 << exponent) + (code % 4 << exponent - 2)) * _GRAIN


def pack_cell(state: int, place: Place) -> int:
    """Return the cell of a record at `place`; `state` is a State, or `TENTATIVE`."""
    assert 0 < place.serial <= SERIAL_MAX
    return (
        state
        | length_code(place.length) << _LENGTH_AT
        | place.position // _GRAIN << _POSITION_AT
        | place.serial << SERIAL_AT
    )


def cell_place(cell: int) -> Place:
    """Return the place in a cell; its length is an upper bound."""
    return Place(
        cell >> SERIAL_AT,
        (cell >> _POSITION_AT & _POSITION_MASK) * _GRAIN,
        length_bound(cell >> _LENGTH_AT & _LENGTH_MASK),
    )


def cell_length(cell: int) -> int:
    """Return the upper bound of the record's length."""
    return length_bound(cell >> _LENGTH_AT & _LENGTH_MASK)


class OffsetIndex:
    """Offset -> cell, and how many cells point into each journal file."""

    def __init__(self) -> None:
        self._blocks: dict[int, array[int]] = {}
        self.live: Counter[int] = Counter()
        self.end = Offset(0)
        """1 + the highest offset that ever had a cell."""

    def get(self, offset: int) -> int:
        """Return the cell of `offset`; 0 if there is none."""
        block = self._blocks.get(offset // BLOCK_OFFSETS)
        return block[offset % BLOCK_OFFSETS] if block is not None else 0

    def set(self, offset: int, cell: int) -> int:
        """Replace the cell of `offset` (0: forget it); returns what was there."""
        block = self._blocks.get(offset // BLOCK_OFFSETS)
        if block is None:
            block = self._blocks[offset // BLOCK_OFFSETS] = array("Q", _NEW_BLOCK)
        before = block[offset % BLOCK_OFFSETS]
        block[offset % BLOCK_OFFSETS] = cell
        if cell:
            self.live[cell >> SERIAL_AT] += 1
            if offset >= self.end:
                self.end = Offset(offset + 1)
        if before:
            self.live[before >> SERIAL_AT] -= 1
        return before

    def load(self, serial: int, offsets: array[int], cells: array[int]) -> None:
        """Set many cells, all of one journal file."""
        if not offsets:
            return
        blocks, live = self._blocks, self.live
        for offset, cell in zip(offsets, cells, strict=True):
            block = blocks.get(offset // BLOCK_OFFSETS)
            if block is None:
                block = blocks[offset // BLOCK_OFFSETS] = array("Q", _NEW_BLOCK)
            before = block[offset % BLOCK_OFFSETS]
            if before:
                live[before >> SERIAL_AT] -= 1
            block[offset % BLOCK_OFFSETS] = cell
        live[serial] += len(offsets)
        self.end = max(self.end, Offset(max(offsets) + 1))

    def numbers(self) -> list[int]:
        """Return the number of each block, ascending: it holds `[1024 n, 1024 (n + 1))`."""
        return sorted(self._blocks)

    def block(self, number: int) -> array[int] | None:
        """Return the cells of a block, None if there is none (any more)."""
        return self._blocks.get(number)

    def blocks(self, start: Offset) -> Iterator[tuple[int, array[int]]]:
        """Return (number, cells) of each block that reaches above `start`, ascending."""
        for number in sorted(self._blocks):
            if (number + 1) * BLOCK_OFFSETS > start:
                yield number, self._blocks[number]

    def without_cell(self, offsets: range) -> Iterator[Offset]:
        """Return which of the offsets have no cell; quick where all of them have one."""
        at = offsets.start
        while at < offsets.stop:
            number, first = divmod(at, BLOCK_OFFSETS)
            end = min(offsets.stop, (number + 1) * BLOCK_OFFSETS)
            part = range(at, end, offsets.step)
            block = self._blocks.get(number)
            if block is None:
                yield from map(Offset, part)
            else:
                cells = block[first : end - number * BLOCK_OFFSETS : offsets.step]
                if 0 in cells:
                    yield from (Offset(o) for o, c in zip(part, cells, strict=True) if not c)
            at = part[-1] + offsets.step

    def drop_below(self, mark: Offset, blocks_max: int) -> bool:
        """Forget cells below `mark`, of at most so many blocks; tells whether all are done."""
        number, rest = divmod(mark, BLOCK_OFFSETS)
        below = sorted(known for known in self._blocks if known < number)
        for known in below[:blocks_max]:
            cells = self._blocks.pop(known)
            self.live.subtract(cell >> SERIAL_AT for cell in cells if cell)
        partly = self._blocks.get(number)
        if partly is not None:
            self.live.subtract(cell >> SERIAL_AT for cell in partly[:rest] if cell)
            partly[:rest] = array("Q", bytes(8 * rest))
        return len(below) <= blocks_max
