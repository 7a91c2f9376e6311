"""What a unit keeps in memory beside its index: recent entries, and names it may be asked for."""

from __future__ import annotations

from collections import OrderedDict, deque

from corfu.types import Offset

from .names import HeldEntry, Name

_CACHED_OVERHEAD_BYTES = 400
"""What one entry in the cache costs beside its bytes: objects and dictionary slots."""


class Memory:
    """Recent entries, bounded in bytes; all names at and above closed_until, some below.

    An entry whose record is not committed stays, whatever the bound says: it can be read from
    nowhere else.
    """

    def __init__(
        self, names: dict[Offset, Name], *, cache_bytes_max: int, names_loaded_max: int
    ) -> None:
        self.uncommitted_bytes = 0
        """Entries that wait for their commit."""
        self._names = names
        # Ordered: the oldest key of a plain dict is found behind all that were deleted before it.
        self._loaded: OrderedDict[Offset, Name] = OrderedDict()
        self._loaded_max = names_loaded_max
        self._cache: OrderedDict[Offset, HeldEntry] = OrderedDict()
        self._cache_bytes = 0
        self._cache_bytes_max = cache_bytes_max
        self._pending: set[Offset] = set()
        self._commits: deque[tuple[int, Offset, int]] = deque()

    def put(self, offset: Offset, held: HeldEntry, commit: int, *, closed: bool) -> None:
        """Take an entry that goes to disk with the commit after number `commit`.

        Args:
            offset: Its place.
            held: The entry.
            commit: How many commits were begun before.
            closed: It lies below closed_until: its name need not stay.
        """
        size = len(held.entry)
        # In a rebuild an entry takes the place of another one, whose name must not come back.
        self._loaded.pop(offset, None)
        if not closed:
            self._names[offset] = held.name
        self._commits.append((commit, offset, size))
        self._pending.add(offset)
        self.uncommitted_bytes += size
        before = self._cache.pop(offset, None)
        if before is not None:
            self._cache_bytes -= _cached_bytes(before)
        self._cache_bytes += size + _CACHED_OVERHEAD_BYTES
        self._cache[offset] = held
        if self._cache_bytes > self._cache_bytes_max:
            self._evict()

    def committed(self, done: int) -> None:
        """Note that so many commits are durable."""
        commits = self._commits
        while commits and commits[0][0] < done:
            _, offset, size = commits.popleft()
            self._pending.discard(offset)
            self.uncommitted_bytes -= size
        if self._cache_bytes > self._cache_bytes_max:
            self._evict()

    def pending(self, offset: Offset) -> bool:
        """Tell whether the entry here waits for its commit."""
        return offset in self._pending

    def held(self, offset: Offset) -> HeldEntry | None:
        """Return the entry if it is here."""
        return self._cache.get(offset)

    def name(self, offset: Offset) -> Name | None:
        """Return the name of the entry if it is here."""
        name = self._names.get(offset)
        if name is None and (held := self._cache.get(offset)) is not None:
            return held.name
        return name or self._loaded.get(offset)

    def remember(self, offset: Offset, name: Name) -> None:
        """Keep the name of an old entry for a while; the oldest of them gives way."""
        self._loaded[offset] = name
        if len(self._loaded) > self._loaded_max:
            self._loaded.popitem(last=False)

    def forget_name(self, offset: Offset) -> None:
        """Drop the name of an entry that turned out to be damaged."""
        self._names.pop(offset, None)
        self._loaded.pop(offset, None)

    def closed(self, start: Offset, end: Offset) -> None:
        """Drop the names in `[start, end)`: closed_until has risen from `start` to `end`."""
        if end - start > len(self._names):
            self._names = {known: self._names[known] for known in self._names if known >= end}
        else:
            for offset in range(start, end):
                self._names.pop(Offset(offset), None)

    def _evict(self) -> None:
        while self._cache_bytes > self._cache_bytes_max:
            oldest = next(iter(self._cache))
            if oldest in self._pending:
                break
            self._cache_bytes -= _cached_bytes(self._cache.pop(oldest))


def _cached_bytes(held: HeldEntry) -> int:
    return len(held.entry) + _CACHED_OVERHEAD_BYTES
