"""Values that a client keeps: final ones, so that reading them again asks nobody. Pure."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

from corfu.client.values import Value
from corfu.types import Offset, State

_VALUE_BYTES = 300
"""What a kept value costs beside its records: objects and a dictionary slot."""

_RECORD_BYTES = 50
"""What each of its records costs beside its bytes."""


class ValueCache:
    """Values by offset, bounded in bytes; 0 keeps none.

    Only DATA and JUNK are kept. One offset has one value for ever, so such a value can never
    become wrong; all that can happen to it is that it is trimmed. The rule (design, section 10):
    a read below the trim mark gives the value or TRIMMED, never another value, and once `trim()`
    has returned never the value again *from a unit*. A value from here is not from a unit, so any
    client may still give what it read before; but whoever called `trim()`, or was told of a mark,
    must not see what it knows to be gone. So a mark, wherever it came from (this client's own
    trim, an answer of a unit, a tail, a layout), hides all below it at once: `get` is given the
    mark each time, and drops what it hides.

    Attributes:
        hits: How many look-ups found a value.
        misses: How many did not.
        bytes: What is kept now, overhead included.
    """

    def __init__(self, bytes_max: int) -> None:
        self.hits = 0
        self.misses = 0
        self.bytes = 0
        self._bytes_max = bytes_max
        self._values: OrderedDict[Offset, Value] = OrderedDict()
        self._mark = Offset(0)

    def get(self, offset: Offset, trim_mark: Offset) -> Value | None:
        """Return the value at `offset`, unless it lies below the mark or is not here."""
        self._hide(trim_mark)
        value = self._values.get(offset) if offset >= trim_mark else None
        if value is None:
            self.misses += 1
        else:
            self.hits += 1
            self._values.move_to_end(offset)
        return value

    def among(self, offsets: range, trim_mark: Offset) -> dict[Offset, Value]:
        """Return what is here of many offsets."""
        if not self._values:
            self.misses += len(offsets)
            return {}
        self._hide(trim_mark)
        values = self._values
        found = {Offset(o): values[Offset(o)] for o in offsets if o in values}
        self.hits += len(found)
        self.misses += len(offsets) - len(found)
        return found

    def put(self, value: Value, trim_mark: Offset) -> None:
        """Keep a value; those not looked at for longest give way."""
        self._hide(trim_mark)
        if self._keep(value):
            while self.bytes > self._bytes_max:
                self.bytes -= _cost(self._values.popitem(last=False)[1])

    def offer(self, values: Iterable[Value], trim_mark: Offset) -> None:
        """Keep values while there is room: a scan drives out nothing, least of all itself."""
        if self.bytes >= self._bytes_max:
            return
        self._hide(trim_mark)
        for value in values:
            if self.bytes + _cost(value) > self._bytes_max:
                return
            self._keep(value)

    def _keep(self, value: Value) -> bool:
        final = value.state is State.DATA or value.state is State.JUNK
        if not final or value.offset < self._mark or value.offset in self._values:
            return False
        cost = _cost(value)
        if cost > self._bytes_max:
            return False
        self._values[value.offset] = value
        self.bytes += cost
        return True

    def _hide(self, mark: Offset) -> None:
        """Drop all below a mark, once for each."""
        if mark <= self._mark:
            return
        self._mark = mark
        for offset in [known for known in self._values if known < mark]:
            self.bytes -= _cost(self._values.pop(offset))


def _cost(value: Value) -> int:
    return value.size + _VALUE_BYTES + _RECORD_BYTES * len(value.records)
