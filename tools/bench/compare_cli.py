"""`corfu bench compare`: the same work against this log and against others, in turn."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import cast, get_args

import click

from corfu.tools.connection import output_option, run
from corfu.tools.failure import STATUS_HELP, CommandError, Ended, Status
from corfu.tools.tables import table_console
from corfu.types import SyncMode

from .compare import Findings, Plan, compare, left_out
from .compare_report import (
    as_json,
    complaints,
    durability_table,
    heading,
    load_text,
    ratio_table,
    ratios,
    work_table,
)
from .peers.base import Work
from .peers.contenders import CONTENDERS, OURS, PEERS

WORKS: tuple[Work, ...] = get_args(Work)
SIZE_MAX = 1 << 19

EPILOG = f"""\
\b
Work:
  producer   one process appends with many records outstanding: records/s
  serial     one append at a time: p50, p99
  read       one reader of 20,000 records, from the beginning to the end and again: records/s

\b
Peers:
  nats       3 NATS servers, JetStream stream of 3 replicas in files, publish_async
  redis      1 Redis server with an append-only file, pipelined XADD; needs redis-server
  kafka      brokers that run already, given --kafka; acks=all

\b
Durability:
  --sync os      nats: its defaults; redis: appendfsync everysec; kafka: as the brokers are set
  --sync always  nats: sync_interval "always"; redis: appendfsync always; kafka: flush.messages=1

\b
Examples:
  corfu bench compare                               every peer that can run here
  corfu bench compare --with nats --size 1024,100 --rounds 5
  corfu bench compare --with nats,redis --sync always --work producer -o json
  corfu bench compare --with nats --work read
  corfu bench compare --with kafka --kafka 127.0.0.1:9092

Everything else runs on this machine, over loopback, in new folders, and is stopped at the end.
`corfu` appends a record with each call, `corfu-many` an entry of many. A round measures everybody
once, one after the other; a ratio is of one round, and given as median, least and most of all
rounds. Needs `pip install 'corfu-log[bench]'`.

{STATUS_HELP}"""


@click.command("compare", epilog=EPILOG)
@click.option(
    "--with",
    "peers",
    metavar="PEER,...",
    help=f"Of {', '.join(PEERS)}; one that cannot run is an error.  [default: those that can]",
)
@click.option(
    "--work",
    "works",
    default="producer,serial",
    show_default=True,
    metavar="WORK,...",
    help="What to measure.",
)
@click.option(
    "--size",
    "sizes",
    default="1024",
    show_default=True,
    metavar="BYTES,...",
    help="Bytes in a record; they are random.",
)
@click.option(
    "--rounds", type=click.IntRange(1), default=3, show_default=True, metavar="N", help="Rounds."
)
@click.option(
    "--seconds",
    type=click.FloatRange(min=0, min_open=True),
    default=3.0,
    show_default=True,
    metavar="S",
    help="How long one measurement takes, after --warmup.",
)
@click.option(
    "--warmup",
    "warm_s",
    type=click.FloatRange(min=0),
    default=1.0,
    show_default=True,
    metavar="S",
    help="How long work goes on before it counts.",
)
@click.option(
    "--inflight",
    type=click.IntRange(1),
    metavar="N",
    help="Records outstanding at a producer.  [default: what each is best at]",
)
@click.option(
    "--sync",
    type=click.Choice([mode.value for mode in SyncMode]),
    default=SyncMode.OS.value,
    show_default=True,
    help="What an acknowledged record has reached: fsynced disks, or page caches (os).",
)
@click.option(
    "--chains",
    type=click.IntRange(1, 8),
    default=1,
    show_default=True,
    metavar="N",
    help="Chains of 3 units.",
)
@click.option("--kafka", metavar="HOST:PORT", help="A Kafka broker.")
@click.option(
    "--kafka-topic",
    metavar="NAME",
    help="A topic to write to, which stays.  [one of its own, removed afterwards]",
)
@click.option(
    "--data",
    "folder",
    type=click.Path(path_type=Path, exists=True, file_okay=False, writable=True),
    metavar="DIR",
    help="Where servers make their folders.  [default: for temporary files]",
)
@output_option
def compare_command(
    peers: str | None,
    works: str,
    sizes: str,
    rounds: int,
    seconds: float,
    warm_s: float,
    inflight: int | None,
    sync: str,
    chains: int,
    kafka: str | None,
    kafka_topic: str | None,
    folder: Path | None,
    output: str,
) -> None:
    """Measure the same work against this log and against others, in turn; print ratios."""
    names, findings = _takers(peers, kafka), Findings()
    findings.left_out.update(left_out(names))
    _require_peers(names, findings.left_out, named=peers is not None)
    wanted = cast("tuple[Work, ...]", tuple(_listed("--work", works, WORKS)))
    takers = [*OURS, *(name for name in names if name not in findings.left_out)]
    plan = Plan(
        contenders=tuple(name for name in takers if set(CONTENDERS[name].works) & set(wanted)),
        works=wanted,
        sizes=_sizes(sizes),
        sync=SyncMode(sync),
        chains=chains,
        rounds=rounds,
        seconds=seconds,
        warm_s=warm_s,
        inflight=inflight,
        kafka=kafka,
        kafka_topic=kafka_topic,
        folder=folder,
    )
    _run(plan, findings, output)
    if findings.failed:
        raise Ended(Status.NO)


def _run(plan: Plan, findings: Findings, output: str) -> None:
    """Run all rounds; what was found is printed, however that ends."""
    before = os.getloadavg()[0]
    try:
        run(compare(plan, findings, lambda text: click.echo(text, err=True)))
    finally:
        load = (before, os.getloadavg()[0])
        if output == "json":
            click.echo(json.dumps(as_json(plan, findings, load)))
        else:
            _print(plan, findings, load)


def _print(plan: Plan, findings: Findings, load: tuple[float, float]) -> None:
    console = table_console()
    for size in plan.sizes:
        for work in plan.works:
            table = work_table(plan, findings.trials, work, size)
            if table is not None:
                click.echo(heading(plan, work, size))
                console.print(table)
                console.print()
    if findings.durability:
        console.print(durability_table(plan, findings))
        console.print()
    found = ratios(plan, findings.trials)
    if found:
        console.print(ratio_table(found))
        console.print()
    for line in complaints(findings):
        click.echo(line)
    click.echo(load_text(*load, os.cpu_count() or 1))


def _takers(peers: str | None, kafka: str | None) -> list[str]:
    """Return the peers that are asked for: without a word, those that need nothing more said."""
    if peers is not None:
        names = _listed("--with", peers, PEERS)
        if "kafka" in names and kafka is None:
            raise CommandError("--with kafka needs --kafka HOST:PORT", Status.USAGE)
        return names
    return [name for name in PEERS if name != "kafka" or kafka is not None]


def _require_peers(names: list[str], lacking: dict[str, str], *, named: bool) -> None:
    """Refuse to leave out who was asked for by name, or everybody."""
    if lacking and (named or len(lacking) == len(names)):
        text = "; ".join(f"{name}: {reason}" for name, reason in lacking.items())
        raise CommandError(f"cannot compare with {text}", Status.LOCAL)


def _listed(option: str, text: str, known: tuple[str, ...]) -> list[str]:
    """Return the names in a list with commas, each once, in the order given."""
    names = list(dict.fromkeys(part.strip() for part in text.split(",")))
    for name in names:
        if name not in known:
            raise CommandError(f"{option} knows {', '.join(known)}, not {name!r}", Status.USAGE)
    return names


def _sizes(text: str) -> tuple[int, ...]:
    try:
        sizes = tuple(dict.fromkeys(int(part) for part in text.split(",")))
    except ValueError:
        raise CommandError(f"--size takes numbers of bytes, not {text!r}", Status.USAGE) from None
    if not all(1 <= size <= SIZE_MAX for size in sizes):
        raise CommandError(f"--size must be 1 to {SIZE_MAX:,}", Status.USAGE)
    return sizes
