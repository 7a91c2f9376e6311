"""A disk that loses at a power cut what was not synced: names and sectors. Pure but for its files.

Contents lie in a folder of the host as they are now. Of what is not synced each node remembers
what the disk itself holds: old sectors, the old length, and of a folder the old names. A power cut
puts that back, all of it or a part drawn at random: then some sectors of a write are there and
others not, and only the first of some renames has happened.
"""

from __future__ import annotations

import errno
import itertools
import os
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

SECTOR = 512


class File:
    """A regular file: its contents now, and what of them is not synced."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC)
        self.size = 0
        self._durable_size = 0
        self._old: dict[int, bytes] = {}
        """What the disk holds in sectors that were written since; only below `_durable_size`."""

    @property
    def clean(self) -> bool:
        """Whether the disk holds all of it."""
        return not self._old and self.size == self._durable_size

    def read(self, position: int, length: int) -> bytes:
        """Return the contents as they are now."""
        return os.pread(self._descriptor, length, position)

    def write(self, position: int, data: bytes) -> None:
        """Change the contents, not yet those on the disk."""
        end = position + len(data)
        # Also what lies between the old end and the new beginning: it turns to zeros.
        self._remember(min(position, self.size), end)
        assert os.pwrite(self._descriptor, data, position) == len(data)
        self.size = max(self.size, end)

    def truncate(self, length: int) -> None:
        """Change the length, not yet that on the disk."""
        self._remember(min(length, self.size), max(length, self.size))
        os.ftruncate(self._descriptor, length)
        self.size = length

    def sync(self) -> None:
        """Bring everything to the disk."""
        self._old.clear()
        self._durable_size = self.size

    def cut(self, rng: random.Random | None, did: Counter[str]) -> None:
        """Lose what is not synced: all of it, or with `rng` each sector by chance."""
        if self.clean:
            return
        length = self._durable_size
        if rng is None:
            os.ftruncate(self._descriptor, min(length, self.size))
        elif self.size > length:
            self._lose_new_sectors(rng, did)
            length = rng.choice((length, self.size, rng.randint(length, self.size)))
        elif rng.random() < 0.5:
            length = self.size
        for sector, old in self._old.items():
            if rng is None or rng.random() < 0.5:
                did["sectors"] += 1
                os.pwrite(self._descriptor, old, sector * SECTOR)
            else:
                did["sectors kept"] += 1
        os.ftruncate(self._descriptor, length)
        self.size = length
        self.sync()

    def _lose_new_sectors(self, rng: random.Random, did: Counter[str]) -> None:
        begin = -(-self._durable_size // SECTOR)
        count = -(-self.size // SECTOR) - begin
        if count <= 0:
            return
        data = bytearray(os.pread(self._descriptor, count * SECTOR, begin * SECTOR))
        lost = rng.getrandbits(count)
        for number in range(count):
            if lost >> number & 1:
                position = number * SECTOR
                length = min(SECTOR, len(data) - position)
                data[position : position + length] = bytes(length)
        did["sectors"] += lost.bit_count()
        did["sectors kept"] += count - lost.bit_count()
        os.pwrite(self._descriptor, data, begin * SECTOR)

    def _remember(self, begin: int, end: int) -> None:
        """Keep what the disk holds in [begin, end), where it is not kept yet."""
        end = min(end, self._durable_size)
        for sector in range(begin // SECTOR, -(-end // SECTOR)):
            if sector not in self._old:
                length = min(SECTOR, self._durable_size - sector * SECTOR)
                old = os.pread(self._descriptor, length, sector * SECTOR)
                self._old[sector] = old + bytes(length - len(old))


@dataclass(slots=True)
class Folder:
    """A folder: its names now, those on the disk, and the steps from these to those."""

    names: dict[str, Node] = field(default_factory=dict)
    durable: dict[str, Node] = field(default_factory=dict)
    steps: list[dict[str, Node | None]] = field(default_factory=list)
    """Each step sets names, or removes them (None), all at once."""

    def step(self, changed: dict[str, Node | None]) -> None:
        """Change names, not yet on the disk."""
        self.steps.append(changed)
        _apply(self.names, changed)

    def sync(self) -> None:
        """Bring the names to the disk; not what they stand for."""
        self.durable = dict(self.names)
        self.steps.clear()

    def cut(self, rng: random.Random | None, did: Counter[str]) -> None:
        """Lose what is not synced, below too; with `rng` the first steps may stay."""
        kept = 0 if rng is None else rng.randint(0, len(self.steps))
        did["steps"] += len(self.steps) - kept
        for changed in self.steps[:kept]:
            _apply(self.durable, changed)
        self.names = dict(self.durable)
        self.steps.clear()
        for _, node in sorted(self.names.items()):
            node.cut(rng, did)


Node = File | Folder


def _apply(names: dict[str, Node], changed: dict[str, Node | None]) -> None:
    for name, node in changed.items():
        if node is None:
            names.pop(name, None)
        else:
            names[name] = node


class PowerDisk:
    """The tree. Errors are OSError with the number that a file system gives."""

    def __init__(self, contents: Path, *, lies: bool = False) -> None:
        """Make an empty disk.

        Args:
            contents: Empty folder for what files contain.
            lies: Say that all is synced, and sync nothing.
        """
        self.root = Folder()
        self._off: set[str] = set()
        self._contents = contents
        self._lies = lies
        self._numbers = itertools.count(1)

    def node(self, path: str) -> Node:
        """Return what a path leads to."""
        self.require_power(path)
        node: Node = self.root
        for name in _parts(path):
            if not isinstance(node, Folder):
                raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
            if name not in node.names:
                raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
            node = node.names[name]
        return node

    def file(self, path: str) -> File:
        """Return the file at a path."""
        node = self.node(path)
        if not isinstance(node, File):
            raise OSError(errno.EISDIR, os.strerror(errno.EISDIR))
        return node

    def folder(self, path: str) -> Folder:
        """Return the folder at a path."""
        node = self.node(path)
        if not isinstance(node, Folder):
            raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        return node

    def make_file(self, path: str) -> File:
        """Make an empty file."""
        made = File(self._contents / str(next(self._numbers)))
        self._add(path, made)
        return made

    def make_folder(self, path: str) -> None:
        """Make an empty folder."""
        self._add(path, Folder())

    def remove(self, path: str) -> None:
        """Remove a name, of a file or of an empty folder."""
        parent, name = self._place(path)
        node = self.node(path)
        if isinstance(node, Folder) and node.names:
            raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY))
        parent.step({name: None})

    def rename(self, old: str, new: str) -> None:
        """Give another name in the same folder, in one step."""
        node = self.node(old)
        from_, old_name = self._place(old)
        to, new_name = self._place(new)
        if from_ is not to:
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        from_.step({old_name: None, new_name: node})

    def sync(self, node: Node) -> None:
        """Do what a process asks for with fsync."""
        if not self._lies:
            node.sync()

    def settle(self) -> None:
        """Bring everything to the disk: as after a long time without a power cut."""
        _settle(self.root)

    def cut(self, paths: Sequence[str], rng: random.Random | None) -> Counter[str]:
        """Cut the power of some folders at once; returns how much was lost.

        From here on nothing works there. Who has a file open there must end.
        """
        did: Counter[str] = Counter()
        for path in paths:
            self.folder(path).cut(rng, did)
        self._off.update("/".join(_parts(path)) for path in paths)
        return did

    def restore_power(self) -> None:
        """Let everything work again."""
        self._off.clear()

    def require_power(self, path: str) -> None:
        """Raise if there is no power."""
        # What has lost power are folders of one process each, and they do not lie in each other.
        parts = _parts(path)
        if self._off and any("/".join(parts[:n]) in self._off for n in range(1, len(parts) + 1)):
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    def _add(self, path: str, node: Node) -> None:
        parent, name = self._place(path)
        if name in parent.names:
            raise OSError(errno.EEXIST, os.strerror(errno.EEXIST))
        parent.step({name: node})

    def _place(self, path: str) -> tuple[Folder, str]:
        *above, name = _parts(path)
        return self.folder("/".join(above)), name


def _settle(folder: Folder) -> None:
    folder.sync()
    for node in folder.names.values():
        if isinstance(node, Folder):
            _settle(node)
        else:
            node.sync()


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part]
