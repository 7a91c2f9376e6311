"""A disk in memory with two layers: a killed process keeps the cache, a power cut the platter."""

from __future__ import annotations

import copy
import errno
import random
from dataclasses import dataclass, field

SECTOR = 512


class Crash(BaseException):
    """The process ends here, before the disk operation at hand."""


@dataclass(slots=True)
class _Content:
    cache: bytearray = field(default_factory=bytearray)
    platter: bytearray = field(default_factory=bytearray)
    dirty: set[int] = field(default_factory=set)

    def cut_power(self, rng: random.Random) -> None:
        share = rng.choice((0.0, 0.5, 1.0))
        kept = {sector for sector in sorted(self.dirty) if rng.random() < share}
        length = len(rng.choice((self.cache, self.platter)) if self.dirty else self.cache)
        self.platter.extend(bytes(max(0, length - len(self.platter))))
        for sector in kept:
            part = self.cache[sector * SECTOR : (sector + 1) * SECTOR]
            self.platter[sector * SECTOR : sector * SECTOR + len(part)] = part
        del self.platter[max(length, 0) :]
        self.cache = bytearray(self.platter)
        self.dirty = set()


class FakeDisk:
    """A `Disk`; `crash_in` counts down with each change and raises `Crash` at 0."""

    def __init__(self, capacity: int | None = None) -> None:
        self.capacity = capacity
        self.crash_in: int | None = None
        self.rng = random.Random(0)
        self.changes = 0
        self.unreadable: dict[str, set[int]] = {}
        self._names: dict[str, _Content] = {}
        self._platter_names: dict[str, _Content] = {}
        self._pending: list[tuple[str, str | None, _Content | None]] = []

    # What tests do to it.

    def power_cut(self, rng: random.Random) -> None:
        """Keep what was synced, and a random part of what was not."""
        share = rng.choice((0.0, 0.5, 1.0))
        names = dict(self._platter_names)
        frozen: set[str] = set()
        for name, old, content in self._pending:
            touched = {name} if old is None else {name, old}
            if rng.random() >= share or touched & frozen:
                # A change that depends on a lost one is lost, too.
                frozen |= touched
                continue
            if old is not None:
                names.pop(old, None)
            if content is None:
                names.pop(name, None)
            else:
                names[name] = content
        self._names = names
        self._platter_names = dict(names)
        self._pending = []
        for content in names.values():
            content.cut_power(rng)

    def copy(self) -> FakeDisk:
        """Return a disk with the same content, all of it durable."""
        twin = FakeDisk(self.capacity)
        for name, content in self._names.items():
            twin._names[name] = _Content(bytearray(content.cache), bytearray(content.cache))
        twin._platter_names = dict(twin._names)
        return twin

    def twin(self) -> FakeDisk:
        """Return a disk in the same state, in both layers."""
        return copy.deepcopy(self)

    def flip(self, name: str, position: int, mask: int) -> None:
        """Change bits of one byte in both layers."""
        content = self._names[name]
        content.cache[position] ^= mask
        if position < len(content.platter):
            content.platter[position] ^= mask

    def truncate(self, name: str, length: int) -> None:
        del self._names[name].cache[length:]
        del self._names[name].platter[length:]

    # What the journal does.

    def names(self) -> list[str]:
        return sorted(self._names)

    def size(self, name: str) -> int:
        return len(self._content(name).cache)

    def read(self, name: str, position: int, length: int) -> bytes:
        for bad in self.unreadable.get(name, ()):
            if position <= bad < position + length:
                raise OSError(errno.EIO, "unreadable")
        return bytes(self._content(name).cache[position : position + length])

    def forget(self, name: str) -> None:
        self._content(name)

    def write(self, name: str, position: int, data: bytes) -> None:
        if self.crash_in == 0:
            # The process may die with a part of the write done.
            part = data[: self.rng.randrange(len(data) // SECTOR + 1) * SECTOR]
            self._write(name, position, part)
        self._count()
        self._write(name, position, data)

    def allocate(self, name: str, length: int) -> None:
        if self.crash_in == 0:
            self._allocate(name, self.rng.randrange(length + 1))
        self._count()
        if self.capacity is not None and self._used() + length > self.capacity:
            raise OSError(errno.ENOSPC, "full")
        self._allocate(name, length)

    def sync(self, name: str) -> None:
        self._count()
        content = self._content(name)
        content.platter = bytearray(content.cache)
        content.dirty = set()

    def sync_folder(self) -> None:
        self._count()
        self._platter_names = dict(self._names)
        self._pending = []

    def rename(self, old: str, new: str) -> None:
        self._count()
        content = self._content(old)
        del self._names[old]
        self._names[new] = content
        self._pending.append((new, old, content))

    def remove(self, name: str) -> None:
        self._count()
        self._content(name)
        del self._names[name]
        self._pending.append((name, None, None))

    def free_bytes(self) -> int:
        return 2**40 if self.capacity is None else self.capacity - self._used()

    def _count(self) -> None:
        self.changes += 1
        if self.crash_in is not None:
            if self.crash_in == 0:
                raise Crash
            self.crash_in -= 1

    def _content(self, name: str) -> _Content:
        if name not in self._names:
            raise FileNotFoundError(errno.ENOENT, name)
        return self._names[name]

    def _used(self) -> int:
        return sum(len(content.cache) for content in self._names.values())

    def _allocate(self, name: str, length: int) -> None:
        content = _Content(bytearray(length))
        content.dirty = set(range(-(-length // SECTOR)))
        self._names[name] = content
        self._pending.append((name, None, content))

    def _write(self, name: str, position: int, data: bytes) -> None:
        if name not in self._names:
            self._allocate(name, 0)
        content = self._names[name]
        if len(content.cache) < position:
            content.cache.extend(bytes(position - len(content.cache)))
        content.cache[position : position + len(data)] = data
        content.dirty |= set(range(position // SECTOR, -(-(position + len(data)) // SECTOR)))
