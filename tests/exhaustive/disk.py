"""The driver's part at a node: the real `Committer`, over a disk that finishes when told to."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from corfu.effects import Effect, Send
from corfu.journal.execute import execute_all
from corfu.journal.planner import Journal
from corfu.ports import DiskOperation
from corfu.runtime.committer import Committer
from tests.unit.corfu.fake_disk import FakeDisk


class _Timer:
    def cancel(self) -> None:
        pass


class _NoTimers:
    """The committer's loop: its timer writes idle marks, which only make a restart shorter."""

    def call_later(self, delay: float, callback: Callable[[], None]) -> _Timer:
        return _Timer()


class _Worker:
    """Holds one batch until it is told to finish it."""

    def __init__(self, disk: FakeDisk) -> None:
        self.disk = disk
        self.batch: tuple[tuple[DiskOperation, ...], Callable[[], None]] | None = None

    def run(self, operations: Sequence[DiskOperation], done: Callable[[], None]) -> None:
        assert self.batch is None
        self.batch = (tuple(operations), done)

    def background(
        self, operations: Sequence[DiskOperation], done: Callable[[OSError | None], None]
    ) -> None:
        execute_all(self.disk, operations)
        done(None)

    def fetch(
        self,
        name: str,
        position: int,
        length: int,
        done: Callable[[bytes | None], None],
        *,
        fresh: bool = False,
    ) -> None:
        raise AssertionError("all that a small cluster holds is in memory")


class DiskSide:
    """Sends wait for what was appended before them; a batch is durable when `finish` is called."""

    def __init__(
        self,
        disk: FakeDisk,
        journal: Journal,
        on_cut: Callable[[], None],
        on_durable: Callable[[], Sequence[Effect]] = tuple,
    ) -> None:
        """Take a node's disk and journal.

        Args:
            disk: Where batches go.
            journal: Where they come from.
            on_cut: Called when a batch begins.
            on_durable: Called when one is durable; returns what the core does then.
        """
        self._worker = _Worker(disk)
        self._journal = journal
        self._on_cut = on_cut
        self._left: list[Send] = []
        self._committer = Committer(
            journal,
            self._worker,
            _NoTimers(),  # type: ignore[arg-type]
            release=self._left.append,
            flush=self._work,
            guarded=lambda step: step(),
            durable=lambda: self._carry_out(on_durable()),
        )

    @property
    def busy(self) -> bool:
        """A batch is on its way to the disk."""
        return self._worker.batch is not None

    @property
    def held(self) -> tuple[tuple[int, Send], ...]:
        """What waits, with how many batches it waits for."""
        committer = self._committer
        return tuple((cut - committer._cuts_durable, send) for cut, send in committer._held)

    def run(self, effects: Sequence[Effect]) -> list[Send]:
        """Carry out effects; returns what leaves now, in order."""
        self._carry_out(effects)
        self._work()
        return self._take()

    def _carry_out(self, effects: Sequence[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Send):
                if effect.ordered:
                    self._committer.send_when_durable(effect)
                else:
                    self._left.append(effect)

    def finish(self) -> list[Send]:
        """The batch is durable; returns what leaves for it."""
        assert self._worker.batch is not None
        operations, done = self._worker.batch
        self._worker.batch = None
        execute_all(self._worker.disk, operations)
        done()
        return self._take()

    def crash(self, *, kept: bool) -> None:
        """The process ends here; `kept`: its last batch reached the disk, unanswered."""
        if kept:
            assert self._worker.batch is not None
            execute_all(self._worker.disk, self._worker.batch[0])

    def _work(self) -> None:
        before = self._worker.batch
        self._committer.work()
        if self._worker.batch is not None and self._worker.batch is not before:
            self._on_cut()

    def _take(self) -> list[Send]:
        left, self._left[:] = list(self._left), []
        return left
