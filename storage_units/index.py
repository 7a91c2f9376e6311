"""Where each offset's record lies: 8 bytes an entry, in blocks of 8,192 offsets.

A unit that holds one of n chains holds every n-th offset: its blocks have cells for those alone.
A cell packs the state, a rounded-up length, the position in the journal file, and that file's
serial number; 0 means that no record is known.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Iterator
from math import gcd
from operator import sub

from corfu.journal.format import RECORD_HEADER_BYTES, Place
from corfu.types import Offset

_STATE_BITS = 3
_LENGTH_BITS = 6
_POSITION_BITS = 24
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

FILE_BYTES_MAX = _GRAIN << _POSITION_BITS
"""Journal files of a unit are at most so long; 2^31 serials of 32 MiB files outlast any disk."""

INDEX_BLOCK_OFFSETS = 8192
"""What a block costs beside its cells, some 300 bytes, counts little even with many chains."""

_BLOCK_BITS = 13
_WITHIN = INDEX_BLOCK_OFFSETS - 1

assert INDEX_BLOCK_OFFSETS == 1 << _BLOCK_BITS
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
    assert place.position < FILE_BYTES_MAX
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


_Block = tuple[int, int, "array[int]"]
"""(first, step, cells): cell i is of the offset `first + i * step` of the block."""


class OffsetIndex:
    """Offset -> cell, and how many cells point into each journal file."""

    def __init__(self) -> None:
        self._blocks: dict[int, _Block] = {}
        self._numbers: list[int] = []
        self._step = 1
        self.live: Counter[int] = Counter()
        self.emptied: set[int] = set()
        """Serials of files whose count in `live` fell to 0 since this was last emptied."""
        self.end = Offset(0)
        """1 + the highest offset that ever had a cell."""

    def expect_step(self, step: int) -> None:
        """Make new blocks for every `step`-th offset, from the first one set in each.

        Only a hint: a block that gets any other offset becomes one of all its offsets.
        """
        self._step = max(1, min(step, INDEX_BLOCK_OFFSETS))

    def get(self, offset: int) -> int:
        """Return the cell of `offset`; 0 if there is none."""
        block = self._blocks.get(offset >> _BLOCK_BITS)
        if block is None:
            return 0
        first, step, cells = block
        if step == 1:
            return cells[offset & _WITHIN]
        # What lies before `first` lies less than a step before it, so it leaves a rest.
        at, rest = divmod((offset & _WITHIN) - first, step)
        return 0 if rest else cells[at]

    def set(self, offset: int, cell: int) -> int:
        """Replace the cell of `offset` (0: forget it); returns what was there."""
        number, within = offset >> _BLOCK_BITS, offset & _WITHIN
        block = self._blocks.get(number)
        if block is None:
            if not cell:
                return 0
            block = self._begin(number, within, self._step)
        first, step, cells = block
        at, rest = divmod(within - first, step)
        if rest:
            if not cell:
                return 0
            cells, at = self._widen(number), within
        before = cells[at]
        cells[at] = cell
        if cell:
            self.live[cell >> SERIAL_AT] += 1
            if offset >= self.end:
                self.end = Offset(offset + 1)
        if before:
            self._less(before >> SERIAL_AT, 1)
        return before

    def load(self, serial: int, offsets: array[int], cells: array[int]) -> None:
        """Set many cells, none of them 0, all of one journal file; quick if they ascend evenly."""
        start, count = 0, len(offsets)
        while start < count:
            number = offsets[start] >> _BLOCK_BITS
            end = bisect_left(offsets, (number + 1) << _BLOCK_BITS, start)
            # Only ascending offsets are cut right; any others are taken one by one.
            end = max(end, start + 1)
            part = offsets[start:end]
            if not self._load_evenly(serial, part, cells[start:end]):
                if number not in self._blocks:
                    step = gcd(*map(sub, part[1:], part)) or self._step
                    self._begin(number, part[0] & _WITHIN, step)
                for offset, cell in zip(part, cells[start:end], strict=True):
                    self.set(offset, cell)
            start = end

    def _load_evenly(self, serial: int, offsets: array[int], cells: array[int]) -> bool:
        """Set the cells of evenly spaced, new offsets of one block; False: nothing was done."""
        count = len(offsets)
        low, high = offsets[0], offsets[-1]
        spacing = (high - low) // (count - 1) if count > 1 else self._step
        number = low >> _BLOCK_BITS
        if spacing < 1 or high >> _BLOCK_BITS != number:
            return False
        if offsets != array("Q", range(low, high + 1, spacing)):
            return False
        known = self._blocks.get(number)
        step = min(spacing, INDEX_BLOCK_OFFSETS) if known is None else known[1]
        first, step, block = known or self._begin(number, low & _WITHIN, step)
        at, rest = divmod((low & _WITHIN) - first, step)
        if rest or spacing % step:
            return False
        where = slice(at, at + (count - 1) * (spacing // step) + 1, spacing // step)
        if any(block[where]):
            return False
        block[where] = cells
        self.live[serial] += count
        self.end = max(self.end, Offset(high + 1))
        return True

    def numbers(self) -> list[int]:
        """Return the number of each block, ascending, for `block`."""
        return self._numbers.copy()

    def block(self, number: int) -> tuple[range, array[int]] | None:
        """Return the offsets of a block and their cells, None if there is none (any more)."""
        block = self._blocks.get(number)
        if block is None:
            return None
        first, step, cells = block
        start = number << _BLOCK_BITS
        return range(start + first, start + INDEX_BLOCK_OFFSETS, step), cells

    def items(self, start: Offset) -> Iterator[tuple[Offset, int]]:
        """Return (offset, cell) of each offset from `start` on that has a cell, ascending."""
        for number in self._numbers[bisect_left(self._numbers, start >> _BLOCK_BITS) :]:
            offsets, cells = self.block(number) or (range(0), array("Q"))
            for offset, cell in zip(offsets, cells, strict=True):
                if cell and offset >= start:
                    yield Offset(offset), cell

    def without_cell(self, offsets: range) -> Iterator[Offset]:
        """Return which of the offsets have no cell; quick where all of them have one."""
        at = offsets.start
        while at < offsets.stop:
            number = at >> _BLOCK_BITS
            end = min(offsets.stop, (number + 1) << _BLOCK_BITS)
            part = range(at, end, offsets.step)
            block = self._blocks.get(number)
            if block is None:
                yield from map(Offset, part)
            else:
                yield from self._without_cell_in(block, part)
            at = part[-1] + offsets.step

    def _without_cell_in(self, block: _Block, part: range) -> Iterator[Offset]:
        first, step, cells = block
        at, rest = divmod((part[0] & _WITHIN) - first, step)
        if rest or part.step % step:
            yield from (Offset(offset) for offset in part if not self.get(offset))
            return
        stride = part.step // step
        held = cells[at : at + (len(part) - 1) * stride + 1 : stride]
        if 0 in held:
            yield from (Offset(o) for o, c in zip(part, held, strict=True) if not c)

    def drop_below(self, mark: Offset, blocks_max: int) -> bool:
        """Forget cells below `mark`, of at most so many blocks; tells whether all are done."""
        number, rest = mark >> _BLOCK_BITS, mark & _WITHIN
        below = bisect_left(self._numbers, number)
        dropped = self._numbers[:blocks_max] if below > blocks_max else self._numbers[:below]
        for known in dropped:
            self._forget(self._blocks.pop(known)[2])
        del self._numbers[: len(dropped)]
        partly = self._blocks.get(number)
        if partly is not None:
            first, step, cells = partly
            count = max(0, -(-(rest - first) // step))
            self._forget(cells[:count])
            cells[:count] = array("Q", bytes(8 * count))
        return below <= blocks_max

    def _forget(self, cells: array[int]) -> None:
        for serial, count in Counter(cell >> SERIAL_AT for cell in cells if cell).items():
            self._less(serial, count)

    def _less(self, serial: int, count: int) -> None:
        self.live[serial] -= count
        if not self.live[serial]:
            self.emptied.add(serial)

    def _begin(self, number: int, within: int, step: int) -> _Block:
        """Add a block for every `step`-th offset of it, `within` being one of them."""
        first = within % step
        cells = array("Q", bytes(8 * -(-(INDEX_BLOCK_OFFSETS - first) // step)))
        block = self._blocks[number] = (first, step, cells)
        if not self._numbers or number > self._numbers[-1]:
            self._numbers.append(number)
        else:
            insort(self._numbers, number)
        return block

    def _widen(self, number: int) -> array[int]:
        """Give every offset of a block a cell; returns all of them."""
        first, step, cells = self._blocks[number]
        wide = array("Q", bytes(8 * INDEX_BLOCK_OFFSETS))
        wide[first::step] = cells
        self._blocks[number] = (0, 1, wide)
        return wide
