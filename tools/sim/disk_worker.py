"""Runs disk operations on a simulated disk in virtual time, each at an instant of its own."""

from __future__ import annotations

import contextvars
import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from corfu.journal.execute import execute
from corfu.ports import Allocate, DiskOperation, Remove, Rename, Sync, SyncFolder, WriteAt
from corfu.tools.sim.disk import Crashed, SimDisk
from corfu.tools.sim.loop import VirtualLoop


@dataclass(frozen=True, slots=True)
class DiskLatency:
    """How long each operation takes, in seconds of virtual time; each pair is [min, max]."""

    write_s_min: float = 5e-6
    write_s_max: float = 20e-6
    bytes_per_s: float = 1e9
    sync_s_min: float = 0.2e-3
    sync_s_max: float = 5e-3
    stall_probability: float = 0.001
    stall_s_max: float = 0.5
    fetch_s_min: float = 20e-6
    fetch_s_max: float = 80e-6


@dataclass(slots=True)
class _Batch:
    operations: Sequence[DiskOperation]
    done: Callable[[OSError | None], None]
    next: int = 0


class SimDiskWorker:
    """A `corfu.ports.DiskWorker` in virtual time: each operation has an instant of its own.

    An operation takes effect when its time is over, so a `stop` between two operations leaves
    exactly the first ones done. A failed operation of `run`, or a `Crashed` from the disk's
    hook, stops the worker and is handed to `on_fatal`, once.

    Attributes:
        latency: How long operations take that are begun from now on; assign to change it.
    """

    def __init__(
        self,
        disk: SimDisk,
        loop: VirtualLoop,
        rng: random.Random,
        latency: DiskLatency,
        on_fatal: Callable[[OSError | Crashed], None],
    ) -> None:
        self._disk = disk
        self._loop = loop
        self._rng = rng
        self.latency = latency
        self._on_fatal = on_fatal
        self._lanes: tuple[deque[_Batch], deque[_Batch]] = (deque(), deque())
        self._stopped = False
        self._paused = False
        self._held: list[Callable[[], None]] = []
        self._outside = contextvars.Context()

    def run(self, operations: Sequence[DiskOperation], done: Callable[[], None]) -> None:
        """Carry out `operations` in order, after those of earlier calls; then call `done`."""
        self._submit(self._lanes[0], _Batch(operations, lambda _error: done()))

    def background(
        self, operations: Sequence[DiskOperation], done: Callable[[OSError | None], None]
    ) -> None:
        """Like `run`, in a lane of its own; an error ends the batch and is passed to `done`."""
        self._submit(self._lanes[1], _Batch(operations, done))

    def fetch(
        self,
        name: str,
        position: int,
        length: int,
        done: Callable[[bytes | None], None],
        *,
        fresh: bool = False,
    ) -> None:
        """Read from a file, then call `done` with the bytes (None if they cannot be read)."""

        def fetched() -> None:
            try:
                if fresh:
                    self._disk.forget(name)
                data: bytes | None = self._disk.read(name, position, length)
            except OSError:
                data = None
            done(data)

        latency = self.latency
        seconds = self._rng.uniform(latency.fetch_s_min, latency.fetch_s_max)
        self._after(seconds + length / latency.bytes_per_s, fetched)

    def stop(self) -> None:
        """End at once: nothing more is executed and nobody is called any more."""
        self._stopped = True
        for lane in self._lanes:
            lane.clear()
        self._held.clear()

    def pause(self) -> None:
        """Hold everything that falls due from now on (a stopped process's threads)."""
        self._paused = True

    def resume(self) -> None:
        """Go on after `pause`; what fell due meanwhile happens now, in its order."""
        self._paused = False
        held, self._held = self._held, []
        for step in held:
            self._after(0.0, step)

    def _submit(self, lane: deque[_Batch], batch: _Batch) -> None:
        if self._stopped:
            return
        lane.append(batch)
        if len(lane) == 1:
            self._begin(lane)

    def _begin(self, lane: deque[_Batch]) -> None:
        """Set the clock for the lane's next operation, or for the end of an empty batch."""
        batch = lane[0]
        seconds = 0.0
        if batch.next < len(batch.operations):
            seconds = self._seconds(batch.operations[batch.next])
        self._after(seconds, lambda: self._step(lane))

    def _step(self, lane: deque[_Batch]) -> None:
        batch = lane[0]
        error: OSError | None = None
        if batch.next < len(batch.operations):
            try:
                execute(self._disk, batch.operations[batch.next])
            except Crashed as crash:
                self._die(crash)
                return
            except OSError as failure:
                if lane is self._lanes[0]:
                    self._die(failure)
                    return
                error = failure
            batch.next += 1
        if error is None and batch.next < len(batch.operations):
            self._begin(lane)
            return
        lane.popleft()
        # Before `done`, which may submit more: the lane's clock must be set exactly once.
        if lane:
            self._begin(lane)
        batch.done(error)

    def _die(self, cause: OSError | Crashed) -> None:
        self.stop()
        self._on_fatal(cause)

    def _after(self, seconds: float, step: Callable[[], None]) -> None:
        def due() -> None:
            if self._stopped:
                return
            if self._paused:
                self._held.append(step)
                return
            step()

        if not self._stopped:
            # As a part of the process, but not by its clock: a disk has its own time.
            process = contextvars.copy_context()
            self._outside.run(self._set_timer, seconds, lambda: process.run(due))

    def _set_timer(self, seconds: float, step: Callable[[], None]) -> None:
        self._loop.call_later(seconds, step)

    def _seconds(self, operation: DiskOperation) -> float:
        latency = self.latency
        rng = self._rng
        match operation:
            case WriteAt(_, _, data):
                seconds = rng.uniform(latency.write_s_min, latency.write_s_max)
                return seconds + len(data) / latency.bytes_per_s
            case Allocate(_, length):
                seconds = rng.uniform(latency.write_s_min, latency.write_s_max)
                return seconds + length / latency.bytes_per_s
            case Sync() | SyncFolder():
                if rng.random() < latency.stall_probability:
                    return rng.uniform(latency.sync_s_max, latency.stall_s_max)
                return rng.uniform(latency.sync_s_min, latency.sync_s_max)
            case Rename() | Remove():
                return rng.uniform(latency.write_s_min, latency.write_s_max)
