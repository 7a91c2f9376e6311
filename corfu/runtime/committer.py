"""Group commit: what a core appended becomes durable, and sends wait for it.

One cut is on its way to the disk at a time; what is appended meanwhile goes with the next one.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Protocol

from corfu.effects import Send
from corfu.ports import DiskOperation, DiskWorker

MARK_IDLE_S = 0.05
"""A mark is written when nothing was committed for so long."""

SPARE_RETRY_S = 1.0
"""After a spare journal file could not be made, wait so long before the next try."""

HELD_SENDS_MAX = 65536
"""Most sends that wait for their commit; more are dropped, as the network might have done."""


class CommitLog(Protocol):
    """What the driver needs of a core's journal; `corfu.journal` provides it."""

    @property
    def dirty(self) -> bool:
        """Something was appended that no cut has taken yet."""
        ...

    def cut(self) -> tuple[DiskOperation, ...]:
        """Return what makes all that was appended durable; () if there is nothing to do."""
        ...

    def committed(self) -> None:
        """Note that the last cut or mark is durable."""
        ...

    @property
    def mark_wanted(self) -> bool:
        """Nothing is going on, and a mark would spare the next restart work."""
        ...

    def mark(self, *, clean: bool = False) -> tuple[DiskOperation, ...]:
        """Return what writes a mark alone; () if there is nothing to do."""
        ...

    def spare_wanted(self) -> tuple[DiskOperation, ...] | None:
        """Return what allocates a spare file; None if none is wanted."""
        ...

    def spare_ready(self) -> None:
        """Note that the spare last wanted is there."""
        ...

    def spare_failed(self) -> None:
        """Note that the spare last wanted could not be made."""
        ...


class Committer:
    """Keeps the rule that an ordered send leaves after all that was appended before it.

    All callbacks of the worker and the loop go through `guarded`, which drops them after a stop.
    """

    def __init__(
        self,
        journal: CommitLog,
        worker: DiskWorker,
        loop: asyncio.AbstractEventLoop,
        *,
        release: Callable[[Send], None],
        flush: Callable[[], None],
        guarded: Callable[[Callable[[], None]], None],
        durable: Callable[[], None] | None = None,
    ) -> None:
        """Make a committer.

        Args:
            journal: What is committed.
            worker: Who carries it out.
            loop: For timers.
            release: Takes each held send when what it waits for is durable, in order.
            flush: Called when something was released; it calls `work` again.
            guarded: Runs a callback, unless all has stopped, and reports what it raises.
            durable: Called after each commit, when what waited for it was released.
        """
        self._journal = journal
        self._worker = worker
        self._loop = loop
        self._release = release
        self._flush = flush
        self._guarded = guarded
        self._durable = durable
        # Cuts are numbered. A held send waits for the cut of its number.
        self._cuts = 0
        self._cuts_durable = 0
        self._held: deque[tuple[int, Send]] = deque()
        self._busy = False
        self._finishing = False
        self._clean_mark_due = True
        self._mark_timer: asyncio.TimerHandle | None = None
        self._spare_timer: asyncio.TimerHandle | None = None
        self._spare_wait = False
        self.finished = False
        """After `finish`: all is durable and marked clean."""
        self.sends_dropped = 0
        """Sends dropped because too many were held."""

    def send_when_durable(self, send: Send) -> None:
        """Release `send` when all that is appended by now is durable; at once if it is."""
        # The journal says whether something is appended, not the core's Persist effects: one
        # that was forgotten must not let a send out.
        covering = self._cuts + 1 if self._journal.dirty else self._cuts
        if covering <= self._cuts_durable:
            self._release(send)
        elif len(self._held) < HELD_SENDS_MAX:
            self._held.append((covering, send))
        else:
            self.sends_dropped += 1

    def work(self) -> None:
        """Give the worker what is to be done, if it is free."""
        if self._busy:
            return
        journal = self._journal
        if journal.dirty:
            operations = journal.cut()
            assert operations
            self._cuts += 1
            self._run(operations)
        elif self._finishing:
            self._finish()
        elif self._mark_timer is None and journal.mark_wanted:
            self._mark_timer = self._loop.call_later(MARK_IDLE_S, self._mark_due)
        if not self._finishing:
            self._want_spare()

    def finish(self) -> None:
        """Let `work` end with a clean mark; then `finished` is set. Nothing is appended after."""
        self._finishing = True

    def stop(self) -> None:
        """Begin nothing any more."""
        self._held.clear()
        for timer in (self._mark_timer, self._spare_timer):
            if timer is not None:
                timer.cancel()

    def _run(self, operations: tuple[DiskOperation, ...]) -> None:
        self._busy = True
        if self._mark_timer is not None:
            self._mark_timer.cancel()
            self._mark_timer = None
        cut = self._cuts
        self._worker.run(operations, lambda: self._guarded(lambda: self._committed(cut)))

    def _committed(self, cut: int) -> None:
        self._busy = False
        self._journal.committed()
        self._cuts_durable = cut
        while self._held and self._held[0][0] <= cut:
            self._release(self._held.popleft()[1])
        if self._durable is not None:
            self._durable()
        # At once, not at the end of the turn: the disk is idle and the replies are late.
        self._flush()

    def _mark_due(self) -> None:
        self._mark_timer = None
        self._guarded(self._mark)

    def _mark(self) -> None:
        if not self._busy and self._journal.mark_wanted:
            operations = self._journal.mark()
            if operations:
                self._run(operations)

    def _finish(self) -> None:
        assert not self._held
        operations = self._journal.mark(clean=True) if self._clean_mark_due else ()
        self._clean_mark_due = False
        if operations:
            self._run(operations)
        else:
            self.finished = True

    def _want_spare(self) -> None:
        if self._spare_wait:
            return
        operations = self._journal.spare_wanted()
        if operations is not None:
            self._spare_wait = True

            def done(error: OSError | None) -> None:
                self._guarded(lambda: self._spare_done(error))

            self._worker.background(operations, done)

    def _spare_done(self, error: OSError | None) -> None:
        if error is None:
            self._journal.spare_ready()
            self._spare_over()
        else:
            # The disk is full, most likely: the core sees that no room is left, and says so.
            self._journal.spare_failed()
            self._spare_timer = self._loop.call_later(
                SPARE_RETRY_S, lambda: self._guarded(self._spare_over)
            )

    def _spare_over(self) -> None:
        self._spare_wait = False
        self._flush()
