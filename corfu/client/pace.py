"""How much a scan reads ahead: a budget of bytes, spent on offsets of unknown size. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from corfu.client.settings import ClientSettings
from corfu.client.values import Value
from corfu.config import HELD_MAX

_LISTED_BYTES = 64
"""What a unit counts for one listed offset beside its entry."""

_SIZE_FIRST = 60_000
"""An entry is believed to be so large before one was seen: a first window must not be too much."""

_REPLY_FIRST = 60_000
"""Bytes of each chain in the first window; each one after it takes twice as many, up to what one
Read may ask for. So the first records come soon."""

_NEW_SHARE = 0.25
"""How much a new window counts against all that came before, in the mean size of an entry."""

_REFILL_SHARE = 0.75
"""Once the budget is used up, so much of it is left before more is asked for: several requests
leave in one datagram, and wake a unit once."""

_WINDOWS_MIN = 2
_WINDOWS_MAX = 256


class Pace:
    """Sizes the windows of one scan and says whether one more may be asked for.

    A window takes what one Read of each chain may bring, by the mean size of the entries seen. So
    one trip brings all of it, and there is little that could come too early.
    """

    def __init__(self, settings: ClientSettings) -> None:
        self._settings = settings
        self._size = float(_SIZE_FIRST)
        self._known = False
        self._reply = _REPLY_FIRST
        self._offsets = 0
        self._windows = 0
        self._full = False

    @property
    def has_room(self) -> bool:
        """Whether one more window may be asked for ahead of what was yielded."""
        if self._windows < _WINDOWS_MIN:
            return True
        ahead = self._offsets * (self._size + _LISTED_BYTES)
        most = self._settings.ahead_bytes
        if self._windows >= _WINDOWS_MAX or ahead >= most:
            self._full = True
        elif ahead < most * _REFILL_SHARE:
            self._full = False
        return not self._full

    def window_offsets(self, chains: int) -> int:
        """Return how many offsets the next window has, over so many chains."""
        settings = self._settings
        # Two windows are always under way, so each may be half of the budget at most.
        most = min(settings.window_bytes, settings.ahead_bytes // _WINDOWS_MIN) // chains
        reply = min(settings.read_bytes, most, self._reply)
        each = int(reply / (self._size + _LISTED_BYTES))
        return chains * max(1, min(each, HELD_MAX))

    def launched(self, offsets: int) -> None:
        """Note that a window of so many offsets was asked for."""
        self._offsets += offsets
        self._windows += 1
        self._reply *= 2

    def arrived(self, offsets: int, values: Sequence[Value]) -> None:
        """Note that so many offsets of the first window are there, with these values."""
        self._offsets -= offsets
        self._windows -= 1
        if values:
            size = sum(value.size for value in values) / len(values)
            share = _NEW_SHARE if self._known else 1.0
            self._size += (size - self._size) * share
            self._known = True

    def relaunched(self) -> None:
        """Note that what a window left over was asked for again: its offsets count already."""
        self._windows += 1
