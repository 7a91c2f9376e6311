"""Ports: what a shell must provide so that the logic can run.

Only Protocols and the values that cross them live here; no implementation. Production's
implementations stand in `corfu.runtime`, the simulator's in `tools.sim`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from corfu.messages import Message
from corfu.types import Address, RequestId


class Disk(Protocol):
    """One data folder of flat file names. Every call blocks until the system call returned.

    What `write`, `allocate`, `rename` and `remove` did is in the page cache only: it survives
    a killed process, not a power cut. `sync` makes a file's content durable, `sync_folder`
    makes creations, renames and removals durable.
    """

    def names(self) -> list[str]:
        """Return the names of all files in the folder, sorted."""
        ...

    def size(self, name: str) -> int:
        """Return a file's length in bytes; raises FileNotFoundError."""
        ...

    def read(self, name: str, position: int, length: int) -> bytes:
        """Return up to `length` bytes from `position`; fewer only at the end of the file."""
        ...

    def forget(self, name: str) -> None:
        """Let the next read come from the disk itself, by the name; raises FileNotFoundError.

        Best effort, and only for a file that is written no more.
        """
        ...

    def write(self, name: str, position: int, data: bytes) -> None:
        """Write all of `data` at `position`, creating the file if it is not there."""
        ...

    def allocate(self, name: str, length: int) -> None:
        """Create (or overwrite) a file of `length` zero bytes, really written; may raise ENOSPC."""
        ...

    def sync(self, name: str) -> None:
        """Make the file's content durable. After an OSError nothing about the file is known."""
        ...

    def sync_folder(self) -> None:
        """Make the folder's list of names durable."""
        ...

    def rename(self, old: str, new: str) -> None:
        """Rename atomically, replacing `new`."""
        ...

    def remove(self, name: str) -> None:
        """Remove a file."""
        ...

    def free_bytes(self) -> int:
        """Return how many bytes the file system would still take."""
        ...


@dataclass(frozen=True, slots=True)
class WriteAt:
    """Disk operation: write `data` at `position` of file `name`."""

    name: str
    position: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Sync:
    """Disk operation: make the content of file `name` durable."""

    name: str


@dataclass(frozen=True, slots=True)
class SyncFolder:
    """Disk operation: make the folder's list of names durable."""


@dataclass(frozen=True, slots=True)
class Rename:
    """Disk operation: rename `old` to `new`, replacing it."""

    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Remove:
    """Disk operation: remove file `name`."""

    name: str


@dataclass(frozen=True, slots=True)
class Allocate:
    """Disk operation: create file `name` as `length` zero bytes."""

    name: str
    length: int


DiskOperation = WriteAt | Sync | SyncFolder | Rename | Remove | Allocate


class Datagrams(Protocol):
    """An unreliable datagram socket, bound to one address."""

    @property
    def address(self) -> Address:
        """The own address, as peers reach it."""
        ...

    def send(self, datagrams: Sequence[tuple[bytes, Address]]) -> None:
        """Send each datagram, best effort: errors are counted, never raised."""
        ...

    def listen(self, receive: Callable[[bytes, Address], None]) -> None:
        """Hand every received datagram to `receive`, from now on."""
        ...

    def close(self) -> None:
        """Stop receiving and free the address."""
        ...


class DiskWorker(Protocol):
    """Runs disk work away from the event loop, in the order of the calls."""

    def run(self, operations: Sequence[DiskOperation], done: Callable[[], None]) -> None:
        """Carry out `operations` in order, then call `done` on the event loop.

        A failed `Sync` or `WriteAt` stops the process; `done` is then never called.
        """
        ...

    def background(
        self, operations: Sequence[DiskOperation], done: Callable[[OSError | None], None]
    ) -> None:
        """Like `run`, in another thread and in no order with it; errors are passed to `done`."""
        ...

    def fetch(
        self,
        name: str,
        position: int,
        length: int,
        done: Callable[[bytes | None], None],
        *,
        fresh: bool = False,
    ) -> None:
        """Read from a file, then call `done` with the bytes (None if they cannot be read).

        `fresh`: after `Disk.forget`.
        """
        ...


class Clock(Protocol):
    """Monotonic time; decides how soon something happens, never what."""

    def now(self) -> float:
        """Return seconds since an arbitrary start."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        ...


class Network(Protocol):
    """Requests over lossy datagrams, as the procedures of clients and leaders use it."""

    def new_request(self) -> RequestId:
        """Return a request id never used before, by this process or any other."""
        ...

    async def ask(self, to: Address, message: Message, budget_s: float) -> Message:
        """Send a request, repeat it with backoff, return the first reply with its request id.

        Cancelling ends the repeating; the request may still be executed.

        Raises:
            UnansweredError: no reply within `budget_s` seconds. It may have been executed.
        """
        ...

    async def ask_parts(
        self, to: Address, message: Message, budget_s: float, gap_s: float, take: Take
    ) -> bool:
        """Send a request as `ask` does, and hand each reply to `take` until it returns True.

        Parts of an answer may be lost, come twice or out of order, or stop coming.

        Args:
            to: Who is asked.
            message: The request.
            budget_s: How long it is repeated before there is a first reply.
            gap_s: How long the next part may take after another one.
            take: Takes a reply, at once, when it comes; returns whether it was the last one.

        Returns:
            Whether `take` has seen the last part; False if parts stopped coming before.

        Raises:
            UnansweredError: no reply at all within `budget_s` seconds. It may have been executed.
        """
        ...

    def send(self, to: Address, message: Message) -> None:
        """Send once, best effort."""
        ...


Take = Callable[[Message], bool]


class UnansweredError(Exception):
    """Internal: an ask ended without a reply. The request may have been executed."""
