"""Sound histories of any length, made by running a model of the log one operation at a time. Pure.

Each operation takes effect at a moment of its own, and its call and answer lie around that
moment, so calls overlap as those of many clients do. They measure the checker, and are what other
checkers are compared with.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from .operations import (
    Append,
    Fill,
    FinalLog,
    Mark,
    Operation,
    Outcome,
    Place,
    Read,
    Scan,
    Seen,
    Tail,
    Trim,
)

OVERLAP = 3.0
"""Calls come, and answers leave, at most so many operations away from the effect."""

NEAR = 40
"""Reads look at offsets at most so far below the tail."""


@dataclass(frozen=True, slots=True)
class Shares:
    """How often each kind of operation comes, as weights."""

    append: float = 5.0
    read: float = 3.0
    scan: float = 0.3
    follow: float = 0.3
    tail: float = 1.0
    fill: float = 0.3
    trim: float = 0.1


class _Follower:
    """One follow: where it stands, and when it began."""

    def __init__(self, began: float) -> None:
        self.began = began
        self.reached: Place = (0, 0)


class _Maker:
    """A log, and what is done to it."""

    def __init__(self, rng: random.Random) -> None:
        self.history: list[Operation] = []
        self._rng = rng
        self._tail = 0
        self._mark = 0
        self._entries: dict[int, tuple[str, ...]] = {}
        self._number = 0
        self._records = 0
        self._follower = _Follower(0.0)

    def run(self, count: int, shares: Shares) -> None:
        """Do `count` operations."""
        kinds: list[tuple[Callable[[], None], float]] = [
            (self._append, shares.append),
            (self._read, shares.read),
            (self._scan, shares.scan),
            (self._follow, shares.follow),
            (self._ask_tail, shares.tail),
            (self._fill, shares.fill),
            (self._trim, shares.trim),
        ]
        steps = [step for step, _ in kinds]
        weights = [weight for _, weight in kinds]
        for step in self._rng.choices(steps, weights, k=count):
            self._number += 1
            step()

    def final(self) -> FinalLog:
        """Return what a full scan would find."""
        return FinalLog(
            {o: self._entries[o] for o in range(self._mark, self._tail) if o in self._entries},
            self._tail,
            frozenset(o for o in range(self._mark, self._tail) if o not in self._entries),
            self._mark,
        )

    def _times(self) -> tuple[float, float]:
        moment = float(self._number)
        return moment - self._rng.random() * OVERLAP, moment + self._rng.random() * OVERLAP

    def _keys(self, count: int) -> tuple[str, ...]:
        first = self._records
        self._records += count
        return tuple(f"r{number}" for number in range(first, first + count))

    def _append(self) -> None:
        rng = self._rng
        start, end = self._times()
        records = self._keys(rng.choice((1, 1, 1, 2, 3)))
        fate = rng.choice((Outcome.APPENDED,) * 8 + (Outcome.UNKNOWN, Outcome.NOT_APPENDED))
        client = f"c{rng.randrange(8)}"
        nowhere: tuple[Place | None, ...] = (None,) * len(records)
        entries = (len(records),)
        if fate is Outcome.NOT_APPENDED or (fate is Outcome.UNKNOWN and rng.random() < 0.5):
            # Whether it was granted an offset or not, there is a hole at most.
            self._tail += rng.randrange(2)
            self._keep(Append(start, end, client, records, nowhere, fate, False, entries))
            return
        self._tail += rng.choice((0, 0, 0, 1))
        offset = self._tail
        # Calls of one client at one time share an entry.
        others = self._keys(1) if rng.random() < 0.1 else ()
        self._entries[offset] = others + records
        self._tail = offset + 1
        for number, record in enumerate(others):
            began, ended = self._times()
            where: tuple[Place | None, ...] = ((offset, number),)
            self._keep(
                Append(began, ended, client, (record,), where, Outcome.APPENDED, False, (1,))
            )
        places = tuple((offset, index) for index in range(len(others), len(others + records)))
        if fate is Outcome.UNKNOWN:
            ended_at = None if rng.random() < 0.5 else end
            self._keep(Append(start, ended_at, client, records, nowhere, fate, False, entries))
        elif rng.random() < 0.2:
            # Called in the very order of the log, as an ordered client's are.
            moment = float(self._number)
            self._keep(Append(moment, end, "ordered", records, places, fate, True, entries))
        else:
            self._keep(Append(start, end, client, records, places, fate, False, entries))

    def _seen(self, offset: int) -> Seen:
        if offset >= self._tail:
            return Mark.UNWRITTEN
        if offset < self._mark:
            return Mark.TRIMMED
        return self._entries.get(offset, Mark.JUNK)

    def _near(self) -> int:
        return max(0, self._tail + 2 - self._rng.randrange(NEAR))

    def _read(self) -> None:
        start, end = self._times()
        offset = self._near()
        seen = self._seen(offset)
        if isinstance(seen, tuple) and self._rng.random() < 0.7:
            index = self._rng.randrange(len(seen))
            self._keep(Read(start, end, "reader", offset, (seen[index],), index))
        else:
            self._keep(Read(start, end, "reader", offset, seen))

    def _given(self, start: Place, end: int) -> tuple[tuple[Place, str], ...]:
        return tuple(
            ((offset, index), record)
            for offset in range(start[0], end)
            for index, record in enumerate(self._entries.get(offset, ()))
            if (offset, index) >= start
        )

    def _scan(self) -> None:
        began, ended = self._times()
        low = max(self._mark, self._near() - NEAR)
        high = min(self._tail, low + self._rng.randrange(NEAR))
        if low < high:
            given = self._given((low, 0), high)
            self._keep(Scan(began, ended, "scanner", (low, 0), (high, 0), given))

    def _follow(self) -> None:
        follower = self._follower
        ended = self._times()[1]
        if follower.reached[0] < self._mark:
            follower.reached, follower.began = (self._mark, 0), float(self._number)
        given = self._given(follower.reached, self._tail)
        reached = (given[-1][0][0], given[-1][0][1] + 1) if given else follower.reached
        # As a follower's client does, it may give what it fetched before a trim.
        start, began = follower.reached, follower.began
        self._keep(
            Scan(began, ended, "follower", start, reached, given, cached=True, followed=True)
        )
        follower.reached = reached

    def _ask_tail(self) -> None:
        start, end = self._times()
        self._tail += self._rng.choice((0, 0, 0, 1))
        if self._rng.random() < 0.7:
            self._keep(Tail(start, end, "asker", self._tail))
        else:
            self._keep(Tail(start, end, "asker", max(0, self._tail - 2), confirmed=False))

    def _fill(self) -> None:
        start, end = self._times()
        offset = self._near()
        if offset < self._tail:
            self._keep(Fill(start, end, "filler", offset, self._seen(offset)))

    def _trim(self) -> None:
        start, end = self._times()
        wanted = max(0, self._tail + 2 - self._rng.randrange(3 * NEAR))
        self._mark = max(self._mark, min(wanted, self._tail))
        answered = self._rng.random() < 0.8
        self._keep(Trim(start, end, "trimmer", wanted, self._mark if answered else None))

    def _keep(self, operation: Operation) -> None:
        self.history.append(operation)


def made_history(
    rng: random.Random, count: int, shares: Shares | None = None
) -> tuple[list[Operation], FinalLog]:
    """Make about `count` operations that break no rule, and the log that they leave."""
    maker = _Maker(rng)
    maker.run(count, Shares() if shares is None else shares)
    return maker.history, maker.final()
