"""Every disk that a crash may leave: the rules of what survives, and the images they allow.

The rules, those of `tools/sim/disk.py` without its dice:

- What `sync` has put on the platter stays. Of what was written since, each 512-byte sector
  survives or not, on its own; one that was written twice since may also have its first content.
- A file that grew may have its old length, the new one, or one between; what was never written
  of it reads as zeros.
- Names that `sync_folder` has put on the platter stay. Of the changes since, a prefix survives;
  or creations and removals each on their own, and the renames up to one of them. To sync a file
  says nothing of its name.
"""

from __future__ import annotations

import functools
import itertools
import random
from collections.abc import Callable, Iterator, Mapping, Sequence

from corfu.ports import Allocate, Remove, Rename, Sync, SyncFolder, WriteAt
from tests.crash.trace import Image, PowerCut, Promises, Step

SECTOR = 512
_SUBSETS_OF_NAMES_MAX = 6


class _Inode:
    """One file: what the cache holds, what the platter holds, and what lay between."""

    __slots__ = ("content", "dirty", "platter")

    def __init__(self, content: bytes = b"") -> None:
        self.content = content
        self.platter = content
        self.dirty: dict[int, list[bytes]] = {}
        """Of each unsynced sector what the platter may hold beside the newest content."""

    def write(self, position: int, data: bytes) -> None:
        first, last = position // SECTOR, -(-(position + len(data)) // SECTOR)
        for sector in range(first, last):
            self._remember(sector)
        old = self.content.ljust(position, b"\0")
        self.content = old[:position] + data + old[position + len(data) :]

    def allocate(self, length: int) -> None:
        for sector in range(-(-len(self.content) // SECTOR)):
            self._remember(sector)
        # Sectors that were never written need no note: lost or kept, they read as zeros.
        self.content = bytes(length)

    def _remember(self, sector: int) -> None:
        now = _sector(self.content, sector)
        versions = self.dirty.get(sector)
        if versions is None:
            self.dirty[sector] = [_sector(self.platter, sector)]
            if now != self.dirty[sector][0]:
                self.dirty[sector].append(now)
        elif now not in versions:
            versions.append(now)

    def sync(self) -> None:
        self.platter = self.content
        self.dirty.clear()

    def copy(self) -> _Inode:
        twin = _Inode(self.content)
        twin.platter = self.platter
        twin.dirty = {sector: list(versions) for sector, versions in self.dirty.items()}
        return twin

    @property
    def clean(self) -> bool:
        return self.content == self.platter and not self.dirty

    def axes(self, rng: random.Random) -> tuple[list[int], list[tuple[int, list[bytes]]]]:
        """Return the lengths it may have, and of each unsynced sector its possible contents."""
        lengths = {len(self.platter), len(self.content)}
        low, high = sorted((len(self.platter), len(self.content)))
        if high - low > 1:
            lengths.add(rng.randrange(low + 1, high))
        sectors = []
        for sector, versions in sorted(self.dirty.items()):
            newest = _sector(self.content, sector)
            choices = [newest, *(each for each in versions if each != newest)]
            if len(choices) > 1:
                sectors.append((sector, choices))
        return sorted(lengths, reverse=True), sectors

    def made_of(self, length: int, sectors: Sequence[tuple[int, bytes]]) -> bytes:
        data = bytearray(self.content.ljust(length, b"\0"))
        for sector, content in sectors:
            start = sector * SECTOR
            if start >= len(data):
                continue
            end = min(start + SECTOR, len(data))
            data[start:end] = content[: end - start]
        return bytes(data[:length])


def _sector(data: bytes, number: int) -> bytes:
    return data[number * SECTOR : (number + 1) * SECTOR].ljust(SECTOR, b"\0")


_Names = dict[str, _Inode]
_Pick = Callable[[int], int]
"""Chooses one of so many possibilities; 0 is what survives."""


class Platter:
    """A disk between two steps: what its cache holds, and every image that a crash may leave."""

    def __init__(self, image: Mapping[str, bytes] | None = None) -> None:
        self._names: _Names = {name: _Inode(data) for name, data in (image or {}).items()}
        self._kept: _Names = dict(self._names)
        self._changes: list[Step] = []
        self._created: list[_Inode | None] = []

    def apply(self, step: Step) -> None:
        """Take a step."""
        match step:
            case WriteAt(name, position, data):
                self._file(name).write(position, data)
            case Allocate(name, length):
                self._file(name).allocate(length)
            case Sync(name):
                self._names[name].sync()
            case SyncFolder():
                self._kept = dict(self._names)
                self._changes.clear()
                self._created.clear()
            case Rename() | Remove():
                _change(self._names, step, None)
                self._changes.append(step)
                self._created.append(None)
            case PowerCut(image):
                self._names = {name: _Inode(data) for name, data in image.items()}
                self._kept = dict(self._names)
                self._changes.clear()
                self._created.clear()
            case Promises():
                pass

    def _file(self, name: str) -> _Inode:
        inode = self._names.get(name)
        if inode is None:
            inode = self._names[name] = _Inode()
            self._changes.append(Allocate(name, 0))
            self._created.append(inode)
        return inode

    def copy(self) -> Platter:
        """Return a disk in the same state, in both layers."""
        twin = Platter()
        inodes: dict[int, _Inode] = {}

        def of(inode: _Inode) -> _Inode:
            return inodes.setdefault(id(inode), inode.copy())

        twin._names = {name: of(inode) for name, inode in self._names.items()}
        twin._kept = {name: of(inode) for name, inode in self._kept.items()}
        twin._changes = list(self._changes)
        twin._created = [None if inode is None else of(inode) for inode in self._created]
        return twin

    @property
    def settled(self) -> bool:
        """All that was done is on the platter."""
        return not self._changes and all(inode.clean for inode in self._names.values())

    def cached(self) -> Image:
        """Return what a process reads: nothing is lost."""
        return {name: inode.content for name, inode in self._names.items()}

    def images(self, rng: random.Random, limit: int) -> Iterator[Image]:
        """Yield what a crash now may leave: all of it if that is at most `limit`, else a sample.

        Not all different: two ways to lose something may leave the same.
        """
        variants = list(self._name_variants(rng))
        axes = [_Axes(names, rng) for names in variants]
        if sum(each.count for each in axes) <= limit:
            for each in axes:
                yield from each.every()
            return
        # The extremes of each list of names, then by luck; the newest names have most to lose.
        for each in axes:
            yield each.picked(lambda count: 0)
            yield each.picked(lambda count: count - 1)
        for _ in range(limit - 2 * len(axes)):
            each = axes[-1] if rng.random() < 0.7 else rng.choice(axes)
            share = rng.choice((0.1, 0.5, 0.5, 0.5, 0.9))
            yield each.picked(functools.partial(_pick, rng, share))

    def _name_variants(self, rng: random.Random) -> Iterator[_Names]:
        changes = list(zip(self._changes, self._created, strict=True))
        seen: set[tuple[tuple[str, int], ...]] = set()
        masks: Iterator[tuple[bool, ...]]
        prefixes = [
            tuple(place < kept for place in range(len(changes))) for kept in range(len(changes) + 1)
        ]
        others = [place for place, (step, _) in enumerate(changes) if not isinstance(step, Rename)]
        renames = [place for place, (step, _) in enumerate(changes) if isinstance(step, Rename)]
        if len(changes) <= _SUBSETS_OF_NAMES_MAX:
            masks = (
                _mask(len(changes), [*renames[:kept], *chosen])
                for kept in range(len(renames) + 1)
                for size in range(len(others) + 1)
                for chosen in itertools.combinations(others, size)
            )
        else:
            masks = (
                _mask(
                    len(changes),
                    [
                        *renames[: rng.randint(0, len(renames))],
                        *(place for place in others if rng.random() < 0.5),
                    ],
                )
                for _ in range(8)
            )
        for mask in itertools.chain(masks, prefixes):
            names = dict(self._kept)
            for survives, (step, created) in zip(mask, changes, strict=True):
                if survives:
                    _change(names, step, created)
            key = tuple(sorted((name, id(inode)) for name, inode in names.items()))
            if key not in seen:
                seen.add(key)
                yield names


class _Axes:
    """What may vary in the contents of one list of names."""

    def __init__(self, names: _Names, rng: random.Random) -> None:
        self._fixed: Image = {}
        self._inodes: list[tuple[str, _Inode, list[int], list[tuple[int, list[bytes]]]]] = []
        self.count = 1
        for name, inode in sorted(names.items()):
            if inode.clean:
                self._fixed[name] = inode.content
                continue
            lengths, sectors = inode.axes(rng)
            self._inodes.append((name, inode, lengths, sectors))
            self.count *= len(lengths)
            for _, choices in sectors:
                self.count *= len(choices)

    def every(self) -> Iterator[Image]:
        each = [
            [
                inode.made_of(length, list(zip((at for at, _ in sectors), contents, strict=True)))
                for length in lengths
                for contents in itertools.product(*(choices for _, choices in sectors))
            ]
            for _, inode, lengths, sectors in self._inodes
        ]
        for contents in itertools.product(*each):
            image = dict(self._fixed)
            for (name, _, _, _), content in zip(self._inodes, contents, strict=True):
                image[name] = content
            yield image

    def picked(self, pick: _Pick) -> Image:
        image = dict(self._fixed)
        for name, inode, lengths, sectors in self._inodes:
            chosen = [(at, choices[pick(len(choices))]) for at, choices in sectors]
            image[name] = inode.made_of(lengths[pick(len(lengths))], chosen)
        return image


def _pick(rng: random.Random, share: float, count: int) -> int:
    """Return 0, what survives, with a probability; else one of the others."""
    return 0 if count == 1 or rng.random() < share else rng.randrange(1, count)


def _mask(length: int, places: Sequence[int]) -> tuple[bool, ...]:
    chosen = set(places)
    return tuple(place in chosen for place in range(length))


def _change(names: _Names, step: Step, created: _Inode | None) -> None:
    """Apply one change of names; one whose file is missing does nothing."""
    match step:
        case Allocate(name, _):
            assert created is not None
            names[name] = created
        case Rename(old, new):
            inode = names.pop(old, None)
            if inode is not None:
                names[new] = inode
        case Remove(name):
            names.pop(name, None)
        case _:
            raise AssertionError(step)
