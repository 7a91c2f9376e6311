"""All that a core may ask of its driver.

A core returns a list of effects in order, and order is the contract: a record handed to
`Persist` is durable before any `Send` that follows it, in this list or in a later one, leaves
(external synchrony: Nightingale et al., OSDI 2006). So a core's memory may run ahead of its disk,
and nobody outside ever sees it. Only a `Send` with `ordered=False` may leave at once: one that
says nothing which a crash could take back.
"""

from __future__ import annotations

from dataclasses import dataclass

from corfu.messages import Message
from corfu.types import Address


@dataclass(frozen=True, slots=True)
class Send:
    """Send `message` once, best effort, after every record persisted before it is durable."""

    to: Address
    message: Message
    ordered: bool = True


@dataclass(frozen=True, slots=True)
class Persist:
    """The core appended to its journal: hold every later ordered `Send` until that is durable.

    Which bytes and files, the core's journal knows; the driver asks it (`cut`) when the worker
    is free, so that one sync serves all that waits.
    """


@dataclass(frozen=True, slots=True)
class Fetch:
    """Read from a journal or index file, then call the core's `fetched(ticket, data, now)`.

    `data` is None if the bytes could not be read. `fresh`: from the disk itself, by the file's
    name, and not from what the system keeps in memory of it; only for files that are written no
    more.
    """

    ticket: int
    name: str
    position: int
    length: int
    fresh: bool = False


Effect = Send | Persist | Fetch
