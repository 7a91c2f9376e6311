"""What a process did to its folder, step by step, and what it had promised by each step."""

from __future__ import annotations

import errno
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from corfu.ports import Allocate, DiskOperation, Remove, Rename, Sync, SyncFolder, WriteAt
from corfu.tools.sim.disk import SimDisk

Image = dict[str, bytes]
"""What a disk holds: file names and contents."""


@dataclass(frozen=True, slots=True)
class PowerCut:
    """The machine lost power, and this is what it found on the platter afterwards."""

    image: Mapping[str, bytes]


@dataclass(slots=True)
class Promises:
    """From here on this holds, whatever the disk loses; `what` is the subject's own value."""

    what: object


Step = DiskOperation | PowerCut | Promises


@dataclass(slots=True)
class Trace:
    """Steps in order. `ever` is what the subject wants to know of the whole recording.

    `failure`: the recorded process ended itself, and why; no fault was injected that explains it.
    """

    steps: list[Step] = field(default_factory=list)
    ever: object = None
    failure: str | None = None

    @property
    def promises(self) -> int:
        """How often something was promised."""
        return sum(isinstance(step, Promises) for step in self.steps)


def touched(step: Step) -> str:
    """Return the name of the file that a step is about; "" if it is about none."""
    match step:
        case WriteAt(name, _, _) | Sync(name) | Remove(name) | Allocate(name, _):
            return name
        case Rename(_, new):
            return new
        case _:
            return ""


def kind_of(name: str) -> str:
    """Return the kind of file that a name stands for."""
    base = name.removesuffix(".tmp")
    for prefix in ("journal", "spare", "index", "identity", "snapshot"):
        if base.startswith(prefix):
            return prefix
    return "folder"


class RecordingDisk(SimDisk):
    """A simulated disk that writes down all that is done to it."""

    def __init__(self) -> None:
        super().__init__()
        self.trace = Trace()

    def promise(self, what: object) -> None:
        """Note what is promised from now on."""
        self.trace.steps.append(Promises(what))

    def write(self, name: str, position: int, data: bytes) -> None:
        super().write(name, position, data)
        self.trace.steps.append(WriteAt(name, position, bytes(data)))

    def allocate(self, name: str, length: int) -> None:
        super().allocate(name, length)
        self.trace.steps.append(Allocate(name, length))

    def sync(self, name: str) -> None:
        super().sync(name)
        self.trace.steps.append(Sync(name))

    def sync_folder(self) -> None:
        super().sync_folder()
        self.trace.steps.append(SyncFolder())

    def rename(self, old: str, new: str) -> None:
        super().rename(old, new)
        self.trace.steps.append(Rename(old, new))

    def remove(self, name: str) -> None:
        super().remove(name)
        self.trace.steps.append(Remove(name))

    def power_cut(self, rng: random.Random) -> None:
        super().power_cut(rng)
        self.trace.steps.append(PowerCut(self.copy().files))


class ImageDisk:
    """A `Disk` that holds an image; as quick as can be, for it is made for each state.

    With `steps`, what is done to it is written down there.
    """

    __slots__ = ("files", "steps")

    def __init__(self, image: Mapping[str, bytes], steps: list[Step] | None = None) -> None:
        self.files = dict(image)
        self.steps = steps

    def names(self) -> list[str]:
        return sorted(self.files)

    def size(self, name: str) -> int:
        return len(self._of(name))

    def read(self, name: str, position: int, length: int) -> bytes:
        data = self._of(name)
        if position == 0 and length >= len(data):
            return data
        return data[position : position + length]

    def forget(self, name: str) -> None:
        self._of(name)

    def write(self, name: str, position: int, data: bytes) -> None:
        old = self.files.get(name, b"")
        if len(old) < position:
            old += bytes(position - len(old))
        self.files[name] = old[:position] + data + old[position + len(data) :]
        self._note(WriteAt(name, position, data))

    def allocate(self, name: str, length: int) -> None:
        self.files[name] = bytes(length)
        self._note(Allocate(name, length))

    def sync(self, name: str) -> None:
        self._of(name)
        self._note(Sync(name))

    def sync_folder(self) -> None:
        self._note(SyncFolder())

    def rename(self, old: str, new: str) -> None:
        self.files[new] = self._of(old)
        del self.files[old]
        self._note(Rename(old, new))

    def remove(self, name: str) -> None:
        self._of(name)
        del self.files[name]
        self._note(Remove(name))

    def free_bytes(self) -> int:
        return 1 << 40

    def _of(self, name: str) -> bytes:
        try:
            return self.files[name]
        except KeyError:
            raise FileNotFoundError(errno.ENOENT, "no such file", name) from None

    def _note(self, step: Step) -> None:
        if self.steps is not None:
            self.steps.append(step)


def differences(image: Mapping[str, bytes], other: Mapping[str, bytes]) -> Iterator[str]:
    """Say in what an image differs from another one, sector by sector."""
    for name in sorted({*image, *other}):
        mine, yours = image.get(name), other.get(name)
        if mine is None or yours is None:
            yield f"{name} is {'missing' if mine is None else 'there'}"
            continue
        if len(mine) != len(yours):
            yield f"{name} has {len(mine)} bytes instead of {len(yours)}"
        sectors = [
            at // 512
            for at in range(0, min(len(mine), len(yours)), 512)
            if mine[at : at + 512] != yours[at : at + 512]
        ]
        if sectors:
            yield f"{name} differs in sectors {sectors}"
