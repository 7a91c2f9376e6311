"""Taking down what a client under test does and is told, as the history checker reads it."""

from __future__ import annotations

from collections.abc import Callable

from corfu.errors import TrimmedError
from corfu.types import Offset, Record

from .operations import Mark, Operation, Place, Read, Scan, Stamps
from .records import key_of

FOLLOWED_MAX = 500
"""A follower's records are recorded as scans of at most so many."""


class Recorder:
    """Takes down operations with strictly increasing stamps."""

    def __init__(self, clock: Callable[[], float], keep: Callable[[Operation], None]) -> None:
        """Make a recorder.

        Args:
            clock: A clock that all clients of the history share. Not one that a loop reads once
                a turn: an operation would seem to have ended before its answer came.
            keep: Takes each operation once it has ended.
        """
        self._clock = clock
        self._stamps = Stamps()
        self.keep = keep

    def now(self) -> float:
        """Return a stamp of this moment."""
        return self._stamps.stamp(self._clock())


class Followed:
    """What one follow has given, recorded as scans that lie side by side."""

    def __init__(
        self, recorder: Recorder, client: str, start: Offset, invoked: float | None = None
    ) -> None:
        """Begin at an offset; `invoked`: when the follow began (None: now)."""
        self._recorder = recorder
        self._client = client
        # Of every part: what a later one gives may have been fetched long before.
        self._invoked = recorder.now() if invoked is None else invoked
        self._begin: Place = (start, 0)
        self._items: list[tuple[Place, str]] = []
        self.reached = self._begin

    def add(self, record: Record) -> None:
        """Take down one record."""
        place = record.position
        self._items.append(((place.offset, place.index), key_of(record.data)))
        self.reached = (place.offset, place.index + 1)
        if len(self._items) >= FOLLOWED_MAX:
            self.end()

    def trimmed(self, error: TrimmedError) -> None:
        """Take down what its end has said of the offsets below the trim mark."""
        ended = self._recorder.now()
        offset = error.trim_mark - 1
        self._recorder.keep(
            Read(self._invoked, ended, self._client, offset, Mark.TRIMMED, cached=True)
        )

    def end(self) -> None:
        """Record what has come since the last part."""
        self._recorder.keep(
            Scan(
                self._invoked,
                self._recorder.now(),
                self._client,
                self._begin,
                self.reached,
                tuple(self._items),
                cached=True,
                followed=True,
            )
        )
        self._begin, self._items = self.reached, []
