"""A local cluster in one folder: its shape, its files, its processes.

    DIR/lock              held while a cluster runs on the folder
    DIR/dev.json          its shape, written once
    DIR/cluster.json      addresses, and how to start each process; while it runs, the process ids
    DIR/sequencer-1/ ...  data folders
    DIR/storage-1/ ...
    DIR/*.log             what each process printed

`corfu dev`, the demo and the tests all run clusters through `LocalCluster`.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import secrets
import shutil
import socket
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

import corfu
from corfu.errors import UnavailableError
from corfu.types import Address, SyncMode

from .failure import CommandError, Status
from .formatting import format_folders
from .processes import Process, Program, Role, stop_all

HOST = "127.0.0.1"
FORMAT = 1
WAITING = "serving nothing until the cluster has dropped it"
"""What a unit says when it is ready and its folder may have lost entries."""

SERVING_S_MAX = 30.0
"""Longest wait for a first leader; normally well under a second."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What a local cluster consists of; fixed when its folder is made.

    Replicas listen from `base_port` on, units on the ports after them.
    """

    base_port: int = 9700
    sequencers: int = 3
    chains: int = 2
    replicas: int = 3
    spares: int = 0
    sync: SyncMode = SyncMode.ALWAYS

    def __post_init__(self) -> None:
        if self.sequencers not in (1, 3, 5):
            raise CommandError("--sequencers must be 1, 3 or 5", Status.USAGE)
        if not 1 <= self.chains <= 32 or not 1 <= self.replicas <= 8:
            raise CommandError("--chains must be 1 to 32, --replicas 1 to 8", Status.USAGE)
        if not 0 <= self.spares <= 32:
            raise CommandError("--spares must be 0 to 32", Status.USAGE)
        last = self.base_port + self.sequencers + self.units - 1
        if self.base_port < 1 or last > 65535:
            raise CommandError("--base-port must leave all ports in 1 to 65535", Status.USAGE)

    @property
    def units(self) -> int:
        """How many storage units there are, spares and all."""
        return self.chains * self.replicas + self.spares

    def sequencer_addresses(self) -> dict[int, Address]:
        """Return each replica's address by its id."""
        return {i + 1: Address(HOST, self.base_port + i) for i in range(self.sequencers)}

    def unit_addresses(self) -> dict[int, Address]:
        """Return each storage unit's address by its id; the spares come last."""
        first = self.base_port + self.sequencers
        return {i + 1: Address(HOST, first + i) for i in range(self.units)}

    def chain_units(self) -> list[list[int]]:
        """Return the unit ids of each chain, head first."""
        return [
            [chain * self.replicas + i + 1 for i in range(self.replicas)]
            for chain in range(self.chains)
        ]

    def cluster_string(self) -> str:
        """Return what clients connect to."""
        return ",".join(str(address) for address in self.sequencer_addresses().values())


class LocalCluster:
    """The processes of one folder; made by `open_cluster`, which holds the folder's lock."""

    def __init__(self, folder: Path, shape: Shape, lock: IO[str]) -> None:
        self.folder = folder
        self.shape = shape
        self.processes: list[Process] = []
        self._lock = lock

    @property
    def cluster(self) -> str:
        """The cluster string."""
        return self.shape.cluster_string()

    def programs(self) -> list[Program]:
        """Return how each process is started, units first: replicas look for them."""
        clusters = self.cluster
        storage = [
            self._program("storage", id_, address, ("--sequencers", clusters))
            for id_, address in self.shape.unit_addresses().items()
        ]
        sequencers = [
            self._program("sequencer", id_, address, ())
            for id_, address in self.shape.sequencer_addresses().items()
        ]
        return storage + sequencers

    def _program(self, role: Role, id_: int, address: Address, more: tuple[str, ...]) -> Program:
        module = "corfu.sequencer" if role == "sequencer" else "corfu.storage_units"
        data = self.folder / f"{role}-{id_}"
        argv = (sys.executable, "-m", module, "start", str(data), "--listen", str(address), *more)
        return Program(role, id_, address, data, argv)

    async def start(self) -> None:
        """Start every process and wait until each is ready; on failure none is left running.

        Raises:
            CommandError: a port is in use, a process did not come up, or a data folder is not
                this cluster's.
        """
        programs = self.programs()
        hint = f"{self.folder} was made with --base-port {self.shape.base_port}"
        for program in programs:
            _check_port(program.address, hint)
        try:
            self.processes = [Process(program, self._log(program)) for program in programs]
            for process in self.processes:
                await process.ready()
            self._require_own_folders()
            self._require_a_serving_unit()
        except BaseException:
            await self.stop()
            raise
        self._write_description()

    def _require_own_folders(self) -> None:
        """Refuse a data folder that somebody has put in the place of another.

        It would only be ignored by all others: they drop what names another cluster.
        """
        found = {process.program: _identity(process.output()) for process in self.processes}
        # Replicas come last; if as many say one thing as another, it is theirs that counts.
        clusters = [cluster for _, cluster in reversed(found.values())]
        usual = max(clusters, key=clusters.count)
        for program, (id_, cluster) in found.items():
            if cluster != usual:
                raise CommandError(
                    f"{program.data} belongs to cluster {cluster}, the others to {usual}",
                    Status.LOCAL,
                )
            if id_ != program.id:
                raise CommandError(
                    f"{program.data} belongs to {program.role}-{id_}, not to {program.name}",
                    Status.LOCAL,
                )

    def _require_a_serving_unit(self) -> None:
        """Refuse a folder of which no unit may be served; the cluster would wait for ever."""
        units = [process for process in self.processes if process.program.role == "storage"]
        if all(WAITING in process.output() for process in units):
            raise CommandError(
                f"{self.folder} was not stopped in order before the machine's last boot, and with "
                "--sync os that may have lost acknowledged entries: begin anew with another --data",
                Status.LOCAL,
            )

    async def serving(self, budget_s: float = SERVING_S_MAX) -> None:
        """Wait until the cluster has a leader that answers.

        Raises:
            CommandError: not within `budget_s` seconds.
        """
        try:
            async with corfu.connect(self.cluster, timeout=budget_s) as log:
                await log.tail()
        except UnavailableError as error:
            raise CommandError(
                f"the processes run but the cluster does not serve: {error} "
                f"(their logs are in {self.folder})",
                Status.UNAVAILABLE,
            ) from error

    def process(self, role: Role, id_: int) -> Process:
        """Return the newest process of this role and id; raises KeyError."""
        for process in self.processes:
            if (process.program.role, process.program.id) == (role, id_):
                return process
        raise KeyError((role, id_))

    async def restart(self, process: Process) -> Process:
        """Start a process that has ended again, on its own folder; returns the new one."""
        assert process.status is not None
        again = Process(process.program, process.log_path)
        self.processes[self.processes.index(process)] = again
        self._write_description()
        await again.ready()
        return again

    def deaths(self) -> list[Process]:
        """Return each process that has ended by itself, once."""
        dead = [p for p in self.processes if p.status is not None and not p.death_reported]
        for process in dead:
            process.death_reported = True
        return dead

    async def stop(self) -> list[Process]:
        """Stop every process; returns those that had to be killed."""
        for process in self.processes:
            # Its end is our doing: no death to report.
            process.death_reported = process.death_reported or process.status is None
        killed = await stop_all(self.processes)
        self.processes = []
        self._write_description()
        return killed

    def close(self) -> None:
        """Give the folder free for another run."""
        self._lock.close()

    def _log(self, program: Program) -> Path:
        return self.folder / f"{program.name}.log"

    def _write_description(self) -> None:
        pids = {
            process.program.name: process.pid
            for process in self.processes
            if process.status is None
        }
        description = {
            "cluster": self.cluster,
            "processes": [
                {
                    "role": program.role,
                    "id": program.id,
                    "pid": pids.get(program.name),
                    "argv": list(program.argv),
                    "address": str(program.address),
                    "data": str(program.data),
                }
                for program in self.programs()
            ],
        }
        _write_json(self.folder / "cluster.json", description)


def open_cluster(folder: Path, wish: Callable[[Shape | None], Shape]) -> LocalCluster:
    """Lock `folder`, format it if it is new, and return its cluster, not yet started.

    `wish` is given the shape that the folder has (None: it is new) and returns the one to run
    with; it raises if what the user asks for does not fit.

    Raises:
        CommandError: the folder is in use, is something else, or cannot be written.
    """
    if folder.exists() and not folder.is_dir():
        raise CommandError(f"cannot use {folder}: it is no folder", Status.LOCAL)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        others = {path.name for path in folder.iterdir()} - {"lock"}
        if others and "dev.json" not in others:
            raise CommandError(
                f"{folder} is not empty and holds no development cluster", Status.LOCAL
            )
        lock = (folder / "lock").open("w")
    except OSError as error:
        raise CommandError(f"cannot use {folder}: {error.strerror}", Status.LOCAL) from error
    try:
        _take(lock, folder)
        known = _read_shape(folder)
        shape = wish(known)
        if known is None:
            # Looked at before the folder is made for these ports for ever.
            for address in (
                *shape.sequencer_addresses().values(),
                *shape.unit_addresses().values(),
            ):
                _check_port(address, "another --base-port may be free")
            _format(folder, shape)
    except BaseException:
        lock.close()
        raise
    return LocalCluster(folder, shape, lock)


def free_base_port(count: int) -> int:
    """Return a port so that it and the `count - 1` after it are free now (not for long, maybe)."""
    for _ in range(200):
        base = 20000 + secrets.randbelow(30000 - count)
        with contextlib.suppress(CommandError):
            for port in range(base, base + count):
                _check_port(Address(HOST, port), "")
            return base
    raise CommandError(f"found no {count} free UDP ports in a row", Status.LOCAL)


def _take(lock: IO[str], folder: Path) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise CommandError(
            f"{folder} is in use: a development cluster runs on it", Status.LOCAL
        ) from error


def _read_shape(folder: Path) -> Shape | None:
    """Return the shape of a formatted folder; None if it is new or formatting was interrupted."""
    path = folder / "dev.json"
    if not path.exists():
        return None
    try:
        stored = json.loads(path.read_text())
        if stored["format"] != FORMAT:
            raise CommandError(
                f"{path} has format {stored['format']}, this version knows {FORMAT}", Status.LOCAL
            )
        if not stored["formatted"]:
            return None
        shape = stored["shape"]
        return Shape(**{**shape, "sync": SyncMode(shape["sync"])})
    except (ValueError, KeyError, TypeError) as error:
        raise CommandError(
            f"{path} is not a development cluster's: {error}", Status.LOCAL
        ) from error


def _format(folder: Path, shape: Shape) -> None:
    # Nothing was ever served from folders whose formatting was interrupted: begin again.
    for path in folder.iterdir():
        if path.is_dir() and path.name.startswith(("sequencer-", "storage-")):
            shutil.rmtree(path)
    stored = {"format": FORMAT, "formatted": False, "shape": asdict(shape)}
    _write_json(folder / "dev.json", stored)
    format_folders(
        folder,
        sequencers=shape.sequencer_addresses(),
        units=shape.unit_addresses(),
        chains=shape.chain_units(),
        sync=shape.sync,
    )
    _write_json(folder / "dev.json", {**stored, "formatted": True})


def _identity(output: str) -> tuple[int, str]:
    """Return the id and the cluster of which a server speaks when it is ready."""
    found = re.search(r"^ready: (?:unit|replica) ([0-9]+) of cluster ([0-9a-f]+)", output, re.M)
    assert found is not None
    return int(found[1]), found[2]


def _check_port(address: Address, hint: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind(address)
        except OSError as error:
            raise CommandError(
                f"cannot use UDP port {address}: {error.strerror}; {hint}",
                Status.LOCAL,
            ) from error


def _write_json(path: Path, value: object) -> None:
    """Replace `path` in one step, so that nobody ever reads half of it."""
    new = path.with_name(path.name + ".new")
    new.write_text(json.dumps(value, indent=2) + "\n")
    os.replace(new, path)
