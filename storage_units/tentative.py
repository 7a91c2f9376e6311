"""Tentative entries: stored here, and not known to be durable at every unit above.

With parallel persistence a unit forwards an entry before its own fsync has finished, so the units
above may still lose it in a power cut. Until this unit knows better it counts the offset as EMPTY:
nothing is read, answered, copied down or reported as held from here. What ends that is the word of
the unit above, which says it only when it and all units above it hold the entry durably; so it
stays true that *what a unit holds, every unit before it holds durably*.

An offset is granted in one epoch, writes to it are forwarded in that epoch alone, and the process
that is head in it decides once; so whatever is tentative at an offset, anywhere and at any time, is
the same entry. The question is only whether it stays, or junk of a later epoch takes its place.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice

from corfu.types import Address, Epoch, Offset, Range, RequestId

from .names import Name
from .standing import Seat


@dataclass(frozen=True, slots=True)
class Waiter:
    """Whom to tell, and by which seat, when an entry is no longer tentative."""

    request: RequestId
    client: Address
    seat: Seat


@dataclass(slots=True)
class TentativeEntry:
    """One of them.

    Attributes:
        name: Which entry.
        epoch: That stored it.
        serial: The journal file that its record lies in.
        commit: The record is durable once more commits than this are done.
        waiter: Of the last Forward that brought it; None after a seal or a restart.
    """

    name: Name
    epoch: Epoch
    serial: int
    commit: int
    waiter: Waiter | None = None


class Tentatives:
    """The book of them, and of those that are none any more but whose journal still says so."""

    def __init__(self, recovered: dict[Offset, TentativeEntry]) -> None:
        self.entries = recovered
        self._serials = Counter(entry.serial for entry in recovered.values())
        self._confirmed: set[Offset] = set()
        self.flushed_commit = -1
        """The commit that the last confirmations went with."""

    def __contains__(self, offset: Offset) -> bool:
        return offset in self.entries

    def get(self, offset: Offset) -> TentativeEntry | None:
        """Return what is tentative at an offset."""
        return self.entries.get(offset)

    def lies_in(self, serial: int) -> bool:
        """Tell whether a journal file holds the record of one of them."""
        return self._serials[serial] > 0

    def add(self, offset: Offset, entry: TentativeEntry) -> None:
        """Take one."""
        assert offset not in self.entries
        self.entries[offset] = entry
        self._serials[entry.serial] += 1

    def drop(self, offset: Offset) -> TentativeEntry | None:
        """Forget one, if there is one: another value took its place, or it is not asked for."""
        entry = self.entries.pop(offset, None)
        if entry is not None:
            self._serials[entry.serial] -= 1
        return entry

    def confirm(self, offset: Offset) -> TentativeEntry:
        """Take one out that is durable above; the journal has yet to say so."""
        entry = self.drop(offset)
        assert entry is not None
        self._confirmed.add(offset)
        return entry

    def in_range(self, start: Offset, end: Offset) -> list[Offset]:
        """Return those in `[start, end)`."""
        return [offset for offset in self.entries if start <= offset < end]

    def end_waiting(self) -> None:
        """Forget whom to tell: an epoch ends. The entries stay."""
        for entry in self.entries.values():
            entry.waiter = None

    @property
    def unjournalled(self) -> bool:
        """Some are confirmed, and the journal does not say so."""
        return bool(self._confirmed)

    def take_confirmed(self, runs_max: int) -> list[tuple[Range, int]]:
        """Take out up to so many (range, step) of what the journal has yet to say."""
        found = list(islice(_runs(sorted(self._confirmed)), runs_max))
        for run, step in found:
            self._confirmed.difference_update(range(run.start, run.end, step))
        return found


def _runs(offsets: list[Offset]) -> Iterable[tuple[Range, int]]:
    """Join ascending offsets into ranges with a step; each stands for exactly its members."""
    at = 0
    while at < len(offsets):
        last = at
        step = offsets[at + 1] - offsets[at] if at + 1 < len(offsets) else 1
        while last + 1 < len(offsets) and offsets[last + 1] - offsets[last] == step:
            last += 1
        yield Range(offsets[at], Offset(offsets[last] + 1)), step
        at = last + 1
