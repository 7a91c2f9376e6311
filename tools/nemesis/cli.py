"""`corfu nemesis`: a real cluster under load, random faults, and a proof that nothing was lost."""

from __future__ import annotations

import json
import secrets
import shutil
import sys
import tempfile
import textwrap
import time
from dataclasses import dataclass, replace
from pathlib import Path

import click
from rich.console import Console

from corfu.tools.cluster import LocalCluster, Shape, free_base_port, open_cluster
from corfu.tools.connection import output_option, run
from corfu.tools.failure import STATUS_HELP, CommandError, Ended, Status
from corfu.tools.verify.check_cli import judge_files
from corfu.types import SyncMode

from .plan import Cycle, Kind, draw_cycles, possible
from .report import STRICT, Report, as_json, table_of, totals_line
from .run import Run, write_history

KINDS_TEXT = "\n".join(
    f"  {line}" for line in textwrap.wrap(", ".join(Kind), 90, break_on_hyphens=False)
)

EPILOG = f"""\
\b
Kinds of fault (kill: SIGKILL, stop: SIGSTOP for 2 to 10 s, restart: SIGTERM):
{KINDS_TEXT}

\b
Examples:
  corfu nemesis                                   20 cycles, drawn from a random seed
  corfu nemesis --cycles 60 --seed 7 --resume-leader-s 1 --resume-unit-s 2
  corfu nemesis --kind kill-leader --cycles 10    one kind of fault only
  corfu nemesis --data run --history run.jsonl    keep the folder and the history
  corfu nemesis --check run.jsonl                 judge a kept history again

The same seed draws the same faults; whom they hit follows from who leads and who stands where.
A cycle is one fault. Only faults are made that the log promises to survive. What was killed is
started again and what was wiped is formatted, by the nemesis, and nothing else is done for the
cluster. In the end redundancy must be full, and the history of all clients free of violations.

Exit status 1: a rule was broken, or the cluster did not heal; folder and history are kept then.

{STATUS_HELP}"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What one run was asked for."""

    cycles: tuple[Cycle, ...]
    seed: int
    clients: int
    leader_s: float | None
    unit_s: float | None
    history: Path | None
    output: str


@click.command(epilog=EPILOG)
@click.option(
    "--cycles",
    type=click.IntRange(1),
    default=20,
    show_default=True,
    metavar="N",
    help="How many faults to make, one after the other.",
)
@click.option("--seed", type=click.IntRange(0), metavar="N", help="Draws the faults.  [random]")
@click.option(
    "--kind",
    "kinds",
    multiple=True,
    type=click.Choice([kind.value for kind in Kind]),
    metavar="KIND",
    help="Only faults of this kind; may be given several times.  [default: all but replace]",
)
@click.option("--sequencers", type=int, default=3, show_default=True, metavar="N", help="Replicas.")
@click.option("--chains", type=int, default=2, show_default=True, metavar="N", help="Chains.")
@click.option(
    "--replicas", type=int, default=3, show_default=True, metavar="N", help="Units in each chain."
)
@click.option("--spares", type=int, default=2, show_default=True, metavar="N", help="Spare units.")
@click.option(
    "--sync",
    type=click.Choice([mode.value for mode in SyncMode]),
    default=SyncMode.ALWAYS.value,
    show_default=True,
    help="What an acknowledged append has reached.",
)
@click.option(
    "--clients",
    type=click.IntRange(1, 64),
    default=4,
    show_default=True,
    metavar="N",
    help="Processes that append, read, follow, fill and trim; every second one in call order.",
)
@click.option(
    "--base-port", type=click.IntRange(1, 65535), metavar="N", help="First UDP port.  [free ones]"
)
@click.option(
    "--data",
    "folder",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="New folder for the cluster, which stays.  [a temporary one]",
)
@click.option(
    "--history",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Where to keep what all clients did, as JSON lines.",
)
@click.option(
    "--resume-leader-s",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="Fail if appends take longer (p99) to resume when a leader is lost.",
)
@click.option(
    "--resume-unit-s",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="The same for a storage unit.",
)
@click.option(
    "--check",
    "kept",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    metavar="FILE",
    help="Make no faults: judge the history in FILE.",
)
@output_option
def nemesis(
    cycles: int,
    seed: int | None,
    kinds: tuple[str, ...],
    sequencers: int,
    chains: int,
    replicas: int,
    spares: int,
    sync: str,
    clients: int,
    base_port: int | None,
    folder: Path | None,
    history: Path | None,
    resume_leader_s: float | None,
    resume_unit_s: float | None,
    kept: Path | None,
    output: str,
) -> None:
    """Torment a local cluster with kills, stops and wipes under load, and check every promise."""
    if kept is not None:
        # What a run of the nemesis promises is strict, whatever the file says that is known of it.
        sys.exit(judge_files((kept,), lambda _: STRICT, output, needs_final=True))
    count_ = sequencers + chains * replicas + spares
    shape = Shape(
        base_port=base_port or free_base_port(count_),
        sequencers=sequencers,
        chains=chains,
        replicas=replicas,
        spares=spares,
        sync=SyncMode(sync),
    )
    if history is not None:
        # Not found out only after an hour.
        history.open("w").close()
    seed = secrets.randbelow(1_000_000) if seed is None else seed
    wish = Wish(
        cycles=draw_cycles(seed, cycles, _kinds(kinds, shape)),
        seed=seed,
        clients=clients,
        leader_s=resume_leader_s,
        unit_s=resume_unit_s,
        history=history,
        output=output,
    )
    report = _run_in(folder, shape, wish)
    _show(report, wish)
    sys.exit(report.status)


def _kinds(names: tuple[str, ...], shape: Shape) -> tuple[Kind, ...]:
    wanted = tuple(map(Kind, names)) or tuple(Kind)
    found = possible(
        wanted, sequencers=shape.sequencers, replicas=shape.replicas, spares=shape.spares
    )
    if not found or (names and len(found) < len(set(wanted))):
        excluded = sorted(set(wanted) - set(found))
        raise CommandError(
            f"a cluster of this shape cannot be asked to survive {', '.join(excluded)}",
            Status.USAGE,
        )
    return found


def _run_in(folder: Path | None, shape: Shape, wish: Wish) -> Report:
    """Run in `folder`, or in a temporary one that stays only if it tells of a violation."""
    if folder is not None:
        return _run(folder.absolute(), shape, wish)
    temporary = Path(tempfile.mkdtemp(prefix="corfu-nemesis-"))
    try:
        report = _run(temporary, shape, wish)
    except (KeyboardInterrupt, Ended, CommandError):
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    if report.violations:
        return report
    shutil.rmtree(temporary, ignore_errors=True)
    return replace(report, kept=None)


def _run(folder: Path, shape: Shape, wish: Wish) -> Report:
    began = time.monotonic()
    cluster = open_cluster(folder, lambda known: _new(folder, known, shape))
    _say(wish, _announcement(cluster, wish))
    tormented = Run(
        cluster,
        wish.cycles,
        seed=wish.seed,
        clients=wish.clients,
        say=lambda text: _say(wish, text),
    )
    try:
        run(tormented.run())
    finally:
        cluster.close()
    report = tormented.report(
        seconds=time.monotonic() - began, leader_s=wish.leader_s, unit_s=wish.unit_s
    )
    path = wish.history or (folder / "history.jsonl" if report.violations else None)
    if path is not None:
        write_history(path, tormented.history, tormented.final)
        _say(wish, f"history: {path}")
    return replace(report, kept=str(folder))


def _new(folder: Path, known: Shape | None, shape: Shape) -> Shape:
    if known is not None:
        raise CommandError(
            f"{folder} holds a cluster already: its records would count as invented", Status.USAGE
        )
    return shape


def _announcement(cluster: LocalCluster, wish: Wish) -> str:
    shape = cluster.shape
    return (
        f"seed {wish.seed}: {len(wish.cycles)} cycles, {shape.sequencers} replicas, "
        f"{shape.chains} chains of {shape.replicas} units, {shape.spares} spares, "
        f"sync {shape.sync}, {wish.clients} clients, in {cluster.folder}"
    )


def _say(wish: Wish, text: str) -> None:
    # With -o json the report stands alone on stdout.
    click.echo(text, err=wish.output == "json")


def _show(report: Report, wish: Wish) -> None:
    if wish.output == "json":
        click.echo(json.dumps(as_json(report), indent=2))
        return
    console = Console(highlight=False)
    if report.faults:
        console.print(table_of(report.faults), soft_wrap=True)
    if report.totals is not None:
        console.print(totals_line(report.totals), soft_wrap=True)
    for violation in report.violations:
        console.print(f"VIOLATION: {violation}", style="bold red", soft_wrap=True, markup=False)
    if report.kept is not None:
        console.print(f"folder: {report.kept}", soft_wrap=True)
    if not report.violations:
        console.print(
            f"{len(report.faults)} faults in {report.seconds:.0f} s: nothing lost, nothing twice, "
            "nothing out of order, redundancy full",
            style="bold green",
            soft_wrap=True,
        )
