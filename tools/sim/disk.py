"""A disk in memory with two layers, so that kills and power cuts differ as they do in life.

The upper layer is the page cache: it survives a killed process. The lower one is the platter: all
that survives a power cut for certain is what `sync` and `sync_folder` have put there.
"""

from __future__ import annotations

import errno
import random
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field

from corfu.ports import Remove, Rename

SECTOR_BYTES = 512
"""What a disk writes whole or not at all."""

_FREE_BYTES_UNBOUNDED = 1 << 50


class Crashed(BaseException):
    """The simulated process or machine ends at this disk operation.

    No `Exception`, so that no handler of the program under test survives its own death.
    """


@dataclass(slots=True)
class DiskCounters:
    """How often each thing was done to a disk, or happened to it."""

    reads: int = 0
    writes: int = 0
    bytes_written: int = 0
    allocates: int = 0
    syncs: int = 0
    syncs_failed: int = 0
    folder_syncs: int = 0
    renames: int = 0
    removes: int = 0
    full: int = 0
    kills: int = 0
    power_cuts: int = 0
    sectors_lost: int = 0
    names_lost: int = 0
    flips: int = 0

    def as_dict(self) -> dict[str, int]:
        """Return the counts by name."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class FolderCopy:
    """The content of a whole folder at one moment, as a backup holds it."""

    files: Mapping[str, bytes]


@dataclass(slots=True, eq=False)
class _File:
    """One file: the cached content, and what the platter holds where it differs.

    `dirty` and `stuck` map a sector's number to its content on the platter, None for zeros.
    Dirty sectors are written by the next sync. Stuck ones were dirty at a failed sync: the
    kernel now calls them clean, so no later sync writes them.
    """

    content: bytearray = field(default_factory=bytearray)
    platter_length: int = 0
    dirty: dict[int, bytes | None] = field(default_factory=dict)
    stuck: dict[int, bytes | None] = field(default_factory=dict)

    def remember(self, position: int, length: int) -> None:
        """Note the platter's content of the sectors that `[position, position + length)` touch."""
        for sector in range(position // SECTOR_BYTES, -(-(position + length) // SECTOR_BYTES)):
            if sector in self.dirty:
                continue
            if sector in self.stuck:
                self.dirty[sector] = self.stuck.pop(sector)
                continue
            start = sector * SECTOR_BYTES
            inside = start < self.platter_length
            self.dirty[sector] = (
                bytes(self.content[start : start + SECTOR_BYTES]) if inside else None
            )

    def put(self, position: int, data: bytes) -> None:
        self.remember(position, len(data))
        if position > len(self.content):
            self.content.extend(bytes(position - len(self.content)))
        self.content[position : position + len(data)] = data

    def synced(self) -> None:
        self.dirty.clear()
        self.platter_length = len(self.content)

    def lose_power(self, rng: random.Random) -> int:
        """Make the content one that the platter may hold; returns how many sectors were lost."""
        # The extremes lose or keep everything; between them each sector has its own luck.
        kept_share = rng.choice((0.0, 1.0, 0.5, rng.random()))
        lost = 0
        for sector, before in sorted((self.dirty | self.stuck).items()):
            if rng.random() >= kept_share:
                self._restore(sector, before)
                lost += 1
        longest = len(self.content)
        if longest > self.platter_length:
            length = rng.choice(
                (self.platter_length, longest, rng.randint(self.platter_length, longest))
            )
            del self.content[length:]
        self.dirty.clear()
        self.stuck.clear()
        self.platter_length = len(self.content)
        return lost

    def _restore(self, sector: int, before: bytes | None) -> None:
        start = sector * SECTOR_BYTES
        end = min(start + SECTOR_BYTES, len(self.content))
        if end > start:
            old = (before or b"").ljust(SECTOR_BYTES, b"\0")
            self.content[start:end] = old[: end - start]

    def flip(self, position: int, bit: int) -> None:
        """Flip one bit in both layers."""
        self.content[position] ^= 1 << bit
        sector, place = divmod(position, SECTOR_BYTES)
        for layer in (self.dirty, self.stuck):
            before = layer.get(sector)
            if before is not None and place < len(before):
                damaged = bytearray(before)
                damaged[place] ^= 1 << bit
                layer[sector] = bytes(damaged)


@dataclass(frozen=True, slots=True)
class _Create:
    name: str
    file: _File


_NameOperation = _Create | Rename | Remove


class SimDisk:
    """A `corfu.ports.Disk` in memory; every call takes effect at once.

    Args:
        capacity_bytes: What all files together may hold; None: no bound. May be changed.

    Attributes:
        before_operation: Called with the operation's name and the file's name before each call
            that changes something ("write", "allocate", "sync", "sync_folder", "rename",
            "remove"); it may raise `Crashed`, then the operation has not begun.
        counters: What was done so far.
    """

    def __init__(self, capacity_bytes: int | None = None) -> None:
        self.capacity_bytes = capacity_bytes
        self.before_operation: Callable[[str, str], None] | None = None
        self.counters = DiskCounters()
        self._files: dict[str, _File] = {}
        self._platter_names: dict[str, _File] = {}
        self._unsynced_names: list[_NameOperation] = []
        self._used_bytes = 0
        self._sync_errors: deque[int] = deque()

    # The port.

    def names(self) -> list[str]:
        """Return the names of all files in the folder, sorted."""
        return sorted(self._files)

    def size(self, name: str) -> int:
        """Return a file's length in bytes; raises FileNotFoundError."""
        return len(self._file(name).content)

    def read(self, name: str, position: int, length: int) -> bytes:
        """Return up to `length` bytes from `position`; fewer only at the end of the file."""
        self.counters.reads += 1
        return bytes(self._file(name).content[position : position + length])

    def forget(self, name: str) -> None:
        """Do nothing: rot (`flip`) goes through both layers, so every read sees it."""
        self._file(name)

    def write(self, name: str, position: int, data: bytes) -> None:
        """Write all of `data`; on a full disk the part that fits, then ENOSPC."""
        self._begin("write", name)
        file = self._files.get(name) or self._create(name)
        self.counters.writes += 1
        growth = position + len(data) - len(file.content)
        room = self.free_bytes()
        if growth > room:
            # As pwrite does: first it writes what fits, then the next call finds no space.
            data = data[: max(0, len(data) - (growth - room))]
        if data:
            length = len(file.content)
            file.put(position, data)
            self._used_bytes += len(file.content) - length
            self.counters.bytes_written += len(data)
        if growth > room:
            raise self._no_space(name)

    def allocate(self, name: str, length: int) -> None:
        """Create (or overwrite) a file of `length` zero bytes; on ENOSPC nothing has changed."""
        self._begin("allocate", name)
        self.counters.allocates += 1
        old = self._files.get(name)
        if length - (len(old.content) if old else 0) > self.free_bytes():
            raise self._no_space(name)
        file = old or self._create(name)
        self._used_bytes += length - len(file.content)
        # Sectors never written before need no note: lost or kept, they read as zeros.
        file.remember(0, min(len(file.content), length))
        file.content = bytearray(length)
        file.platter_length = min(file.platter_length, length)

    def sync(self, name: str) -> None:
        """Make the file's content durable, unless this call was told to fail."""
        self._begin("sync", name)
        file = self._file(name)
        self.counters.syncs += 1
        if self._sync_errors:
            file.stuck.update(file.dirty)
            file.dirty.clear()
            self.counters.syncs_failed += 1
            raise OSError(self._sync_errors.popleft(), "simulated sync failure", name)
        file.synced()

    def sync_folder(self) -> None:
        """Make the folder's list of names durable."""
        self._begin("sync_folder", "")
        self.counters.folder_syncs += 1
        self._platter_names = dict(self._files)
        self._unsynced_names.clear()

    def rename(self, old: str, new: str) -> None:
        """Rename atomically, replacing `new`."""
        self._begin("rename", old)
        self._file(old)
        self.counters.renames += 1
        self._change_name(Rename(old, new))

    def remove(self, name: str) -> None:
        """Remove a file."""
        self._begin("remove", name)
        self._file(name)
        self.counters.removes += 1
        self._change_name(Remove(name))

    @property
    def used_bytes(self) -> int:
        """What all files together take."""
        return self._used_bytes

    def free_bytes(self) -> int:
        """Return how many bytes the file system would still take."""
        if self.capacity_bytes is None:
            return _FREE_BYTES_UNBOUNDED
        return max(0, self.capacity_bytes - self._used_bytes)

    # Faults.

    def kill(self) -> None:
        """The process was killed: the cache stays, so nothing is lost."""
        self.counters.kills += 1

    def power_cut(self, rng: random.Random) -> None:
        """Drop the cache: what was not synced survives by luck, sector by sector, name by name."""
        self.counters.power_cuts += 1
        names = self._surviving_names(rng)
        for name in sorted(names):
            self.counters.sectors_lost += names[name].lose_power(rng)
        self._settle(names)

    def fail_next_sync(self, error: int = errno.EIO, times: int = 1) -> None:
        """Let the next `times` calls of `sync` raise OSError(error), as a bad disk does."""
        self._sync_errors.extend([error] * times)

    def mend(self) -> None:
        """Let syncs succeed again."""
        self._sync_errors.clear()

    def flip(self, name: str, position: int, bit: int) -> None:
        """Flip bit 0..7 of one byte, in the cache and on the platter: the medium rots."""
        self._file(name).flip(position, bit)
        self.counters.flips += 1

    def copy(self) -> FolderCopy:
        """Return the folder as a process sees it now."""
        return FolderCopy({name: bytes(self._files[name].content) for name in self.names()})

    def restore(self, copy: FolderCopy) -> None:
        """Replace the folder by `copy`, durably: an old backup was put back."""
        restored = {name: _File(bytearray(data), len(data)) for name, data in copy.files.items()}
        self._settle(restored)

    def wipe(self) -> None:
        """Remove everything, durably: a new disk."""
        self._settle({})

    # Names.

    def _begin(self, operation: str, name: str) -> None:
        if self.before_operation is not None:
            self.before_operation(operation, name)

    def _file(self, name: str) -> _File:
        try:
            return self._files[name]
        except KeyError:
            raise FileNotFoundError(errno.ENOENT, "no such file", name) from None

    def _create(self, name: str) -> _File:
        file = _File()
        self._change_name(_Create(name, file))
        return file

    def _change_name(self, operation: _NameOperation) -> None:
        replaced = _apply_name(self._files, operation)
        if replaced is not None:
            self._used_bytes -= len(replaced.content)
        self._unsynced_names.append(operation)

    def _surviving_names(self, rng: random.Random) -> dict[str, _File]:
        """Return a list of names that the platter may hold.

        Mostly a prefix of the unsynced operations, as a journalling file system commits them.
        Else each creation and removal has its own luck; renames still survive as a prefix of
        the renames, because file systems keep those ordered among themselves.
        """
        names = dict(self._platter_names)
        operations = self._unsynced_names
        kept = rng.randint(0, len(operations))
        in_order = rng.random() < 0.75
        for place, operation in enumerate(operations):
            survives = place < kept
            if not in_order and not isinstance(operation, Rename):
                survives = rng.random() < 0.5
            if survives:
                _apply_name(names, operation)
            else:
                self.counters.names_lost += 1
        return names

    def _settle(self, names: dict[str, _File]) -> None:
        """Make `names` the folder, in the cache and on the platter."""
        self._files = names
        self._platter_names = dict(names)
        self._unsynced_names.clear()
        self._sync_errors.clear()
        self._used_bytes = sum(len(file.content) for file in names.values())

    def _no_space(self, name: str) -> OSError:
        self.counters.full += 1
        return OSError(errno.ENOSPC, "no space left on the simulated disk", name)


def _apply_name(names: dict[str, _File], operation: _NameOperation) -> _File | None:
    """Apply one change of names; returns the file that lost its name, if one did.

    What an operation needs may be missing after a power cut; then it does nothing.
    """
    match operation:
        case _Create(name, file):
            replaced = names.get(name)
            names[name] = file
            return replaced
        case Rename(old, new):
            file_or_none = names.pop(old, None)
            if file_or_none is None:
                return None
            replaced = names.get(new)
            names[new] = file_or_none
            return replaced
        case Remove(name):
            return names.pop(name, None)
