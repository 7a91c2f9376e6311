"""Running the `corfu` command and whole clusters as real processes, with a deadline on everything.

What is started here is ended here, by process id.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

from corfu.tools.cluster import LocalCluster, Shape, free_base_port, open_cluster
from corfu.tools.processes import Program
from corfu.types import SyncMode

DEADLINE_S = 40.0
"""Longest wait for one command; far more than it takes, the machine may be busy."""

ROOT = Path(__file__).parent.parent.parent


def command(*arguments: str) -> list[str]:
    """Return the command line of `corfu` with `arguments`."""
    return [sys.executable, "-m", "corfu.tools", *arguments]


def environment(cluster: str | None) -> dict[str, str]:
    """Return our environment with CORFU_CLUSTER as given, or without it, and `corfu` in PATH."""
    kept = {name: value for name, value in os.environ.items() if name != "CORFU_CLUSTER"}
    kept["PATH"] = os.pathsep.join([os.path.dirname(sys.executable), kept.get("PATH", "")])
    return kept if cluster is None else {**kept, "CORFU_CLUSTER": cluster}


def corfu(
    *arguments: str, cluster: str | None = None, stdin: bytes = b""
) -> subprocess.CompletedProcess[bytes]:
    """Run `corfu` to its end."""
    return subprocess.run(
        command(*arguments),
        input=stdin,
        capture_output=True,
        env=environment(cluster),
        timeout=DEADLINE_S,
        check=False,
    )


def complaint(result: subprocess.CompletedProcess[bytes]) -> str:
    """Return the one line a failed command said on stderr, having said nothing else."""
    lines = result.stderr.decode().splitlines()
    assert len(lines) == 1, result.stderr.decode()
    assert result.stdout == b""
    return lines[0]


def alive(pid: int) -> bool:
    """Tell whether a process runs (one that ended and was not waited for yet does not)."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def wait_until_gone(pids: list[int]) -> None:
    """Wait until none of the processes runs; fails after the deadline."""
    give_up = time.monotonic() + DEADLINE_S
    while left := [pid for pid in pids if alive(pid)]:
        assert time.monotonic() < give_up, f"still running: {left}"
        time.sleep(0.02)


def remove_journals(folder: Path) -> None:
    """Remove what takes space (preallocated files) from all data folders below `folder`."""
    for pattern in ("journal-*", "spare-*"):
        for file in folder.rglob(pattern):
            file.unlink()


class Dev:
    """A running `corfu dev` without a command."""

    def __init__(self, folder: Path, popen: subprocess.Popen[bytes]) -> None:
        self.folder = folder
        self.popen = popen
        description = json.loads((folder / "cluster.json").read_text())
        self.cluster: str = description["cluster"]
        self.processes: list[dict[str, object]] = description["processes"]

    @property
    def pids(self) -> list[int]:
        """Ids of the servers."""
        return [int(str(process["pid"])) for process in self.processes]

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Stop it; return its exit status."""
        self.popen.send_signal(number)
        return self.popen.wait(DEADLINE_S)


SMALL = ("--sequencers", "1", "--chains", "1", "--replicas", "1")


def shape_options(base_port: int, *more: str) -> tuple[str, ...]:
    """Return the options of a cluster of one replica and one unit, or of `more`."""
    return ("--base-port", str(base_port), *(more or SMALL))


@contextlib.contextmanager
def dev(folder: Path, *options: str) -> Iterator[Dev]:
    """Run `corfu dev`, wait until it serves, and stop it at the end."""
    with (folder.parent / f"{folder.name}.out").open("w+b") as out:
        popen = subprocess.Popen(
            command("dev", "--data", str(folder), *options),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            env=environment(None),
        )
        try:
            give_up = time.monotonic() + DEADLINE_S
            while b"export CORFU_CLUSTER=" not in (said := Path(out.name).read_bytes()):
                assert popen.poll() is None, said.decode()
                assert time.monotonic() < give_up, said.decode()
                time.sleep(0.02)
            yield Dev(folder, popen)
        finally:
            if popen.poll() is None:
                popen.terminate()
                try:
                    popen.wait(DEADLINE_S)
                except subprocess.TimeoutExpired:
                    popen.kill()
                    popen.wait(DEADLINE_S)


class _Altered(LocalCluster):
    def __init__(self, opened: LocalCluster, alter: Callable[[Program], Program]) -> None:
        super().__init__(opened.folder, opened.shape, opened._lock)
        self._alter = alter

    def programs(self) -> list[Program]:
        return [self._alter(program) for program in super().programs()]


@contextlib.asynccontextmanager
async def local_cluster(
    folder: Path,
    *,
    sequencers: int = 3,
    chains: int = 2,
    replicas: int = 3,
    spares: int = 0,
    sync: SyncMode = SyncMode.ALWAYS,
    alter: Callable[[Program], Program] = lambda program: program,
) -> AsyncIterator[LocalCluster]:
    """Run a cluster whose processes the test kills and restarts itself.

    `alter` may have a process started in another way than usual.
    """
    base_port = free_base_port(sequencers + chains * replicas + spares)
    shape = Shape(
        base_port=base_port,
        sequencers=sequencers,
        chains=chains,
        replicas=replicas,
        spares=spares,
        sync=sync,
    )
    cluster = _Altered(open_cluster(folder, lambda known: known or shape), alter)
    try:
        await cluster.start()
        await cluster.serving()
        yield cluster
    finally:
        await cluster.stop()
        cluster.close()
