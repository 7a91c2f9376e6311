"""One verification of a live cluster: clients at work beside everybody else, then the verdict."""

from __future__ import annotations

import asyncio
import secrets
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import corfu
from corfu.compression import CodecName
from corfu.errors import CorfuError, UnavailableError
from corfu.tools.check import check
from corfu.tools.check_options import CheckOptions
from corfu.tools.failure import CommandError, Status
from corfu.tools.final_read import FinalLogError, read_whole
from corfu.tools.nemesis.load import Clients, Load
from corfu.tools.operations import FinalLog, Operation
from corfu.tools.sightings import Violation
from corfu.tools.workload import WorkloadOptions
from corfu.types import Offset

from .files import without_gc

LOOK_S = 0.2
END_S_MAX = 60.0
"""An operation of a client takes at most 30 s, and its follower then has `CATCH_UP_S`."""

CATCH_UP_S = 20.0
FINAL_READ_S_MAX = 600.0
ANSWER_S = 10.0
"""A cluster that gives this command itself no answer for so long is not there."""

APPENDERS = 2
LARGE_BYTES_MAX = 150_000
"""Some records have up to so many bytes: they travel in fragments."""

LARGE_SHARE = 0.001


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What was asked for."""

    cluster: str
    seconds: float
    clients: int
    processes: int
    rate: float
    """Appends a second of all clients together; about as many other calls come with them."""

    record_bytes: int
    trim: bool
    fill: bool
    seed: int
    compression: CodecName | None = None
    dictionaries: tuple[bytes, ...] = ()
    """Those that other users of the log compress with, or this run is to."""


class Run:
    """One run; what it found is in its attributes."""

    def __init__(self, wish: Wish, folder: Path, say: Callable[[str], None]) -> None:
        """Prepare a run.

        Args:
            wish: What was asked for.
            folder: For what the clients record.
            say: Tells a person how far it is.
        """
        self.history: list[Operation] = []
        self.final: FinalLog | None = None
        self.violations: list[Violation] = []
        self.complaints: list[str] = []
        """What is wrong and no rule of histories: a client that died, a follower that stalled."""

        self.unavailable: str | None = None
        """Why there is no final log, if the cluster stopped answering."""

        self.start = Offset(0)
        self.interrupted = False
        self.prefix = f"verify-{secrets.token_hex(4)}-"
        """What the keys of this run's records begin with, and nobody else's."""

        self._wish = wish
        self._folder = folder
        self._say = say
        self._stop = asyncio.Event()

    @property
    def status(self) -> Status:
        """The exit status that says it all."""
        if self.violations:
            return Status.NO
        if self.unavailable is not None:
            # That clients could not end is no finding then: nothing was promised.
            return Status.UNKNOWN
        if self.complaints:
            return Status.NO
        return Status.INTERRUPTED if self.interrupted else Status.OK

    @property
    def options(self) -> CheckOptions:
        """What is known: others may append and trim, but have none of our records."""
        return CheckOptions(appends_complete=False, own_prefix=self.prefix, trims_complete=False)

    async def run(self) -> None:
        """Do all of it. The first Ctrl-C ends the work early, the second one everything.

        Raises:
            CorfuError: The cluster does not answer at all.
        """
        self._say("connecting")
        async with corfu.connect(
            self._wish.cluster, timeout=ANSWER_S, dictionary=self._wish.dictionaries
        ) as log:
            # What is older is not ours: nothing below is looked at.
            self.start = await log.tail()
            loop = asyncio.get_running_loop()
            loop.add_signal_handler(signal.SIGINT, self._interrupt)
            try:
                await self._work()
                await self._read(log)
            finally:
                loop.remove_signal_handler(signal.SIGINT)
        self._say(f"checking {len(self.history):,} operations")
        with without_gc():
            self.violations = check(self.history, self.final, options=self.options)

    def _interrupt(self) -> None:
        self.interrupted = True
        self._stop.set()
        asyncio.get_running_loop().remove_signal_handler(signal.SIGINT)

    async def _work(self) -> None:
        """Let the clients work for as long as was asked for, and keep what they recorded."""
        wish = self._wish
        clients = Clients(
            wish.clients,
            wish.processes,
            f"{self.prefix}c",
            self._workload(),
            wish.compression,
            self._dictionary_files(),
        )
        load = Load(self._folder, wish.cluster, wish.seed, clients, sampling=False)
        try:
            await load.start()
            await self._watch(load)
            self._say("ending what is under way")
            self.complaints += await load.end(END_S_MAX)
        finally:
            await load.kill()
        self.history = load.history()

    def _dictionary_files(self) -> tuple[str, ...]:
        """Write the dictionaries where the clients' processes find them."""
        paths: list[str] = []
        for number, dictionary in enumerate(self._wish.dictionaries):
            path = self._folder / f"dictionary-{number}"
            path.write_bytes(dictionary)
            paths.append(str(path))
        return tuple(paths)

    def _workload(self) -> WorkloadOptions:
        wish = self._wish
        return WorkloadOptions(
            appenders=APPENDERS,
            append_gap_s=APPENDERS * wish.clients / wish.rate,
            read_gap_s=wish.clients / wish.rate,
            append_timeout_s=10.0,
            record_bytes_max=wish.record_bytes,
            large_share=LARGE_SHARE,
            large_bytes_max=max(wish.record_bytes, LARGE_BYTES_MAX),
            trim_clients=1.0 if wish.trim else 0.0,
            trimmed_share=0.5,
            first=self.start,
            fill_own_only=not wish.fill,
            to_tail_share=0.3,
            cancel_share=0.02,
            catch_up_s=CATCH_UP_S,
        )

    async def _watch(self, load: Load) -> None:
        began = time.monotonic()
        while (passed := time.monotonic() - began) < self._wish.seconds:
            try:
                load.require_all()
            except CommandError as error:
                self.complaints.append(str(error))
                return
            self._say(f"{passed:.0f} of {self._wish.seconds:.0f} s: {load.operations:,} operations")
            try:
                async with asyncio.timeout(min(LOOK_S, self._wish.seconds - passed)):
                    await self._stop.wait()
                    return
            except TimeoutError:
                continue

    async def _read(self, log: corfu.Log) -> None:
        """Read all that came since the start, of whomever it is."""
        self._say(f"reading the log from offset {self.start} on")
        try:
            async with asyncio.timeout(FINAL_READ_S_MAX):
                self.final = await read_whole(log, self.start)
        except TimeoutError:
            self.unavailable = f"the log was not read in {FINAL_READ_S_MAX:.0f} s"
        except UnavailableError as error:
            self.unavailable = str(error)
        except (CorfuError, FinalLogError) as error:
            self.complaints.append(f"reading the log: {error}")
