"""A heap of things that are due some time, cheap where most of them are done before."""

from __future__ import annotations

import heapq
from typing import Generic, TypeVar


class Timed:
    """Something with a time at which it is looked at.

    `scheduled` is the time under which it stands in the heap, if it does; `due` may have moved
    further since. What is `done` is dropped when its time comes.
    """

    __slots__ = ("done", "due", "scheduled")

    def __init__(self) -> None:
        self.done = False
        self.due = 0.0
        self.scheduled: float | None = None


T = TypeVar("T", bound=Timed)


class Timers(Generic[T]):
    """Each item has at most one time; a later one replaces it without touching the heap."""

    __slots__ = ("_heap", "_pushes")

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, T]] = []
        self._pushes = 0

    def set(self, item: T, due: float) -> None:
        """Look at `item` at `due`, and no earlier."""
        item.due = due
        if item.scheduled is None or due < item.scheduled:
            item.scheduled = due
            # The number keeps ties in the order in which they were made.
            self._pushes += 1
            heapq.heappush(self._heap, (due, self._pushes, item))

    @property
    def deadline(self) -> float | None:
        """When the next item is due; None if there is none."""
        heap = self._heap
        while heap:
            when, _, item = heap[0]
            if not item.done and item.scheduled == when and item.due <= when:
                return when
            heapq.heappop(heap)
            if not item.done and item.scheduled == when:
                item.scheduled = None
                self.set(item, item.due)
        return None

    def pop(self, now: float) -> T | None:
        """Take the next item that is due at `now`; None if there is none."""
        deadline = self.deadline
        if deadline is None or deadline > now:
            return None
        item = heapq.heappop(self._heap)[2]
        item.scheduled = None
        return item
