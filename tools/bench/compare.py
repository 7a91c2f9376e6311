"""The rounds of `corfu bench compare`: one contender after the other, again and again.

Servers are started anew for every turn, so that nobody works beside another's idle servers, or
behind what another has left in the page cache.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from corfu.tools.processes import dying_with_us, ending, last_line
from corfu.types import SyncMode

from .peers.base import TIMEOUT_S, Job, Measured, Missing, PeerError, Servers, Setup, Work
from .peers.contenders import CONTENDERS, Contender
from .usage import cpu_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is to be compared, and how."""

    contenders: tuple[str, ...]
    works: tuple[Work, ...]
    sizes: tuple[int, ...]
    sync: SyncMode
    chains: int
    rounds: int
    seconds: float
    warm_s: float
    inflight: int | None
    kafka: str | None
    kafka_topic: str | None
    folder: Path | None
    """Where the servers' folders go; None: the system's place for temporary files."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One measurement."""

    round: int
    contender: str
    work: Work
    size: int
    measured: Measured
    servers_cpu_s: float | None
    """Processor time of the servers meanwhile; None: they are not ours."""


@dataclass(slots=True)
class Findings:
    """What has been found so far: whole at every moment, for who ends the run early."""

    trials: list[Trial] = field(default_factory=list)
    durability: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    """Peers that cannot run here, and why."""

    failed: dict[str, str] = field(default_factory=dict)
    """Contenders that failed on the way, and how: they take no further part."""


async def compare(plan: Plan, findings: Findings, say: Callable[[str], None]) -> None:
    """Run all rounds into `findings`; `say` is told what is done now."""
    for number in range(1, plan.rounds + 1):
        for size, name in itertools.product(plan.sizes, plan.contenders):
            if name not in findings.failed:
                say(f"round {number} of {plan.rounds}: {size:,} B, {name}")
                await _turn(plan, number, size, CONTENDERS[name], findings)
                if name in findings.failed:
                    say(f"{name} failed: {findings.failed[name]}")


async def _turn(
    plan: Plan, number: int, size: int, contender: Contender, findings: Findings
) -> None:
    """Start a contender's servers, measure, and stop them; its failure is a finding."""
    folder = Path(tempfile.mkdtemp(prefix=f"corfu-bench-{contender.name}-", dir=plan.folder))
    setup = Setup(
        folder=folder,
        sync=plan.sync,
        chains=plan.chains,
        kafka=plan.kafka,
        kafka_topic=plan.kafka_topic,
    )
    try:
        async with contender.make(setup) as servers:
            findings.durability[contender.name] = servers.durability
            for work in works_of(plan, contender):
                trial = await _measure(plan, servers, contender, work, size, number)
                findings.trials.append(trial)
    except (PeerError, Missing) as error:
        kept = keep_logs(folder)
        findings.failed[contender.name] = f"{error} (logs: {folder})" if kept else str(error)
    finally:
        if contender.name not in findings.failed:
            shutil.rmtree(folder)


def works_of(plan: Plan, contender: Contender) -> list[Work]:
    """Return what a contender does: reading first, while nothing else is in its stream."""
    works = [work for work in plan.works if work in contender.works]
    return sorted(works, key=lambda work: work != "read")


async def _measure(
    plan: Plan, servers: Servers, contender: Contender, work: Work, size: int, number: int
) -> Trial:
    job = Job(
        peer=contender.name,
        target=servers.target(),
        work=work,
        size=size,
        seconds=plan.seconds,
        warm_s=plan.warm_s,
        inflight=plan.inflight,
    )
    if work == "read":
        await client_process(replace(job, work="fill"))
    pids = servers.pids()
    before = _cpu_s(pids)
    measured = await client_process(job)
    spent = _cpu_s(pids) - before if pids else None
    return Trial(number, contender.name, work, size, measured, spent)


async def client_process(job: Job) -> Measured:
    """Do a job in a process of its own.

    Raises:
        PeerError: The client failed, or did not end in time, or nothing was acknowledged.
    """
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "corfu.tools.bench.peers.worker", json.dumps(asdict(job))),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        # Ctrl-C at the terminal reaches us alone.
        start_new_session=True,
        preexec_fn=dying_with_us(),
    )
    budget_s = job.warm_s + job.seconds + 2 * TIMEOUT_S
    try:
        async with asyncio.timeout(budget_s):
            output, complaint = await process.communicate()
    except TimeoutError:
        raise PeerError(f"its client had not ended after {budget_s:.0f} s") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    status = await process.wait()
    if status != 0:
        said = last_line(complaint.decode(errors="replace"))
        raise PeerError(f"its client {ending(status)}: {said}")
    measured = Measured.from_json(json.loads(output))
    if not measured.records and job.work != "fill":
        raise PeerError(f"{job.work}: not one record in {job.seconds:g} s")
    return measured


def _cpu_s(pids: Sequence[int]) -> float:
    """Return the processor time that servers have taken so far.

    Raises:
        PeerError: One of them is gone.
    """
    used = [cpu_s(pid) for pid in pids]
    if None in used:
        raise PeerError("a server has ended")
    return sum(value for value in used if value is not None)


def keep_logs(folder: Path) -> bool:
    """Remove everything but the log files of a peer's folder, or all of it if there is none."""
    logs = set(folder.glob("*.log"))
    if not logs:
        shutil.rmtree(folder)
        return False
    for path in set(folder.iterdir()) - logs:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    return True


def left_out(peers: Sequence[str]) -> dict[str, str]:
    """Return which of `peers` cannot run here, and why."""
    reasons = {name: CONTENDERS[name].missing() for name in peers}
    return {name: reason for name, reason in reasons.items() if reason is not None}
