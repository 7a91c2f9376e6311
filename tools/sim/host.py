"""One simulated machine: a disk that stays, and at most one process at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from corfu.sequencer.identity import ExpelledError
from corfu.sequencer.process import ReplicaProcess
from corfu.storage_units.process import UnitProcess
from corfu.tools.sim.disk import Crashed, SimDisk
from corfu.tools.sim.disk_worker import DiskLatency, SimDiskWorker
from corfu.tools.sim.group import Group
from corfu.tools.sim.invariants import tells_of_broken_rule
from corfu.tools.sim.network import SimDatagrams
from corfu.types import Address

if TYPE_CHECKING:
    from corfu.tools.sim.world import World

Process = UnitProcess | ReplicaProcess


class RuleBroken(Exception):  # noqa: N818 - a finding, not an error of the simulator
    """Something happened that must never happen; the text says what."""


@dataclass(slots=True)
class Host:
    """One machine: a disk that stays, and at most one process at a time."""

    world: World
    name: str
    address: Address
    disk: SimDisk
    build: Callable[[Host, SimDatagrams, SimDiskWorker], Process]
    boot: int = 1
    process: Process | None = None
    group: Group | None = None
    worker: SimDiskWorker | None = None
    datagrams: SimDatagrams | None = None
    excused: bool = False
    """A fault was injected that may end the process by itself."""

    starts: int = 0
    log: list[str] = field(default_factory=list)

    @property
    def running(self) -> bool:
        """Whether there is a process, paused or not."""
        return self.process is not None

    @property
    def paused(self) -> bool:
        """Whether the process is stopped, as by SIGSTOP."""
        return self.group is not None and self.group.paused

    def start(self) -> None:
        """Start the process; does nothing if one runs. A crash in its recovery is a kill."""
        if self.process is not None:
            return
        world = self.world
        self.starts += 1
        self.group = world.loop.group(f"{self.name}#{self.starts}")
        self.datagrams = world.network.endpoint(self.address)
        self.worker = SimDiskWorker(
            self.disk, world.loop, world.rng, world.options.latency, self._died
        )
        world.note(self.name, "starts")
        try:
            self.process = self.group.run(self.build, self, self.datagrams, self.worker)
            self.group.run(self.process.start)
        except Crashed:
            world.note(self.name, "crashed while it started")
            self.kill()
        except OSError as error:
            if not self.excused:
                raise
            world.note(self.name, f"could not start: {error}")
            self.kill()

    def kill(self) -> None:
        """SIGKILL: nothing of the process runs any more; the page cache stays."""
        if self.group is None:
            return
        self.world.note(self.name, "killed")
        self.disk.before_operation = None
        if self.worker is not None:
            self.worker.stop()
        if self.datagrams is not None:
            self.datagrams.close()
        self.group.kill()
        self.process = self.group = self.worker = self.datagrams = None
        self.disk.kill()

    def cut_power(self) -> None:
        """The machine loses power: what was not synced is gone, in part or wholly."""
        self.kill()
        self.world.note(self.name, "loses power")
        self.boot += 1
        self.disk.power_cut(self.world.rng)

    def pause(self) -> None:
        """SIGSTOP."""
        if self.group is not None and self.worker is not None and not self.paused:
            self.world.note(self.name, "paused")
            self.group.pause()
            self.worker.pause()
            self.world.network.pause(self.address)

    def resume(self) -> None:
        """SIGCONT."""
        if self.group is not None and self.worker is not None and self.paused:
            self.world.note(self.name, "resumed")
            self.group.resume()
            self.worker.resume()
            self.world.network.resume(self.address)

    def heal(self) -> None:
        """End what is wrong with the machine and its process; what the disk lost is lost."""
        self.resume()
        self.disk.before_operation = None
        self.disk.capacity_bytes = None
        self.disk.mend()
        self.excused = False
        self.slow_down(self.world.options.latency)
        if self.group is not None and self.group.clock is not None:
            self.set_clock(1.0)
        self.crash_after_sends(None)

    def slow_down(self, latency: DiskLatency) -> None:
        """Let operations of the disk take so long from now on, until the process ends."""
        if self.worker is not None:
            self.worker.latency = latency

    def set_clock(self, rate: float) -> None:
        """Let the process's clock go `rate` times as fast from now on; 0 freezes it."""
        if self.group is not None:
            self.world.note(self.name, f"clock at rate {rate}")
            self.group.set_clock(rate)

    def crash_after_sends(self, count: int | None) -> None:
        """Kill the process when it has sent so many datagrams more, before it can do anything.

        None: do not, any more.
        """
        if self.datagrams is not None:
            self.datagrams.spend(count, self._spent)

    def _spent(self) -> None:
        self.world.note(self.name, "crashes while it sends")
        if self.worker is not None:
            self.worker.stop()
        self.world.loop.call_soon(self.kill, context=self.world.network.context)

    def fatal(self, error: BaseException) -> None:
        """The process ends itself: allowed only where a fault explains it."""
        self._died(error)

    def _died(self, error: BaseException) -> None:
        self.world.note(self.name, f"dies of {error!r}")
        if isinstance(error, ExpelledError):
            self.world.retire(self)
        elif not isinstance(error, Crashed | OSError) or not self.excused:
            self.world.fail(error)
        # Not from within its own callback: the process has to be out of its context.
        self.world.loop.call_soon(self.kill, context=self.world.network.context)

    def reborn(self) -> None:
        """The unit has a new incarnation: its process ends, and another one starts."""
        self.world.note(self.name, "is reborn")
        self.world.loop.call_soon(self._start_again, context=self.world.network.context)

    def _start_again(self) -> None:
        self.kill()
        self.start()

    def say(self, text: str) -> None:
        """Take a line of the process's log."""
        self.log.append(f"{self.world.loop.now:.6f} {text}")
        self.world.note(self.name, "log", text)
        if tells_of_broken_rule(text, disks_stay=self.world.disks_stay()):
            self.world.fail(RuleBroken(f"alarm: {self.name}: {text}"))
