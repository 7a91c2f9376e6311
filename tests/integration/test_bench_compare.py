"""`corfu bench compare` and its peers, for real: short runs against whatever is installed."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest

from corfu.tools.bench.compare import client_process
from corfu.tools.bench.peers.base import READ_RECORDS, Job, Measured, PeerError, Setup, Work
from corfu.tools.bench.peers.contenders import CONTENDERS
from corfu.types import SyncMode

from .running import DEADLINE_S, command, complaint, corfu, environment, wait_until_gone

REDIS_DEPTH = 250
"""Records of one pipeline: filling ends with a whole one."""

MODES = (SyncMode.ALWAYS, pytest.param(SyncMode.OS, marks=pytest.mark.long))
"""The other mode is a setting less."""

pytestmark = pytest.mark.processes


def require(peer: str) -> None:
    """Skip the test if a peer cannot run here."""
    reason = CONTENDERS[peer].missing()
    if reason is not None:
        pytest.skip(reason)


def job(peer: str, target: dict[str, object], work: Work | Literal["fill"]) -> Job:
    return Job(
        peer=peer,
        target=target,
        work=work,
        size=100,
        seconds=1.0,
        warm_s=0.1,
        inflight=None,
    )


@pytest.fixture
def kafka() -> Iterator[str]:
    """Brokers that librdkafka has for tests, in this process; a topic is made when written to."""
    require("kafka")
    from confluent_kafka import Producer

    holder = Producer({"bootstrap.servers": "none", "test.mock.num.brokers": 3, "log_level": 0})
    broker = next(iter(holder.list_topics(timeout=DEADLINE_S).brokers.values()))
    yield f"{broker.host}:{broker.port}"
    # They are there as long as their holder is.
    holder.flush(0)


def under_way(measured: Measured) -> float:
    """Return about how many records were outstanding."""
    return measured.rate * measured.latency.percentile(50) / 1e9


async def measures_all_works(peer: str, setup: Setup) -> str:
    """Run every work against a peer for a moment; return what it says of its durability."""
    async with CONTENDERS[peer].make(setup) as servers:
        filled = await client_process(job(peer, servers.target(), "fill"))
        read = await client_process(job(peer, servers.target(), "read"))
        produced = await client_process(job(peer, servers.target(), "producer"))
        serial = await client_process(job(peer, servers.target(), "serial"))
        durability, pids = servers.durability, servers.pids()
    wait_until_gone(pids)
    assert READ_RECORDS - REDIS_DEPTH <= filled.total <= READ_RECORDS + REDIS_DEPTH
    assert read.total >= read.records > 0
    # Little's law, however busy the machine is: many under way, or one.
    assert under_way(produced) > 20
    assert 0 < under_way(serial) < 3
    assert produced.total >= produced.records
    assert produced.cpu_s > 0
    return durability


async def test_corfu_many_appends_whole_entries(tmp_path: Path) -> None:
    setup = Setup(folder=tmp_path, sync=SyncMode.OS)
    async with CONTENDERS["corfu-many"].make(setup) as servers:
        measured = await client_process(job("corfu-many", servers.target(), "producer"))
    # Each call, timed once, appends 560 records of 100 bytes.
    assert measured.records == 560 * measured.latency.count > 0


@pytest.mark.parametrize("sync", MODES)
async def test_nats_peer_is_measured_in_the_mode_that_it_names(
    tmp_path: Path, sync: SyncMode
) -> None:
    require("nats")
    durability = await measures_all_works("nats", Setup(folder=tmp_path, sync=sync))
    written = json.loads((tmp_path / "nats-1.json").read_text())["jetstream"]
    assert written.get("sync_interval") == ("always" if sync is SyncMode.ALWAYS else None)
    assert ('sync_interval "always"' in durability) == (sync is SyncMode.ALWAYS)
    # Every server of three holds the stream.
    assert len(_found(tmp_path, "nats-*/jetstream/*/streams/bench")) == 3


@pytest.mark.parametrize("sync", MODES)
async def test_redis_peer_is_measured_in_the_mode_that_it_names(
    tmp_path: Path, sync: SyncMode
) -> None:
    require("redis")
    durability = await measures_all_works("redis", Setup(folder=tmp_path, sync=sync))
    assert durability.endswith("always" if sync is SyncMode.ALWAYS else "everysec")
    assert sum(path.stat().st_size for path in _found(tmp_path, "appendonlydir/*")) > 10_000


def _found(folder: Path, pattern: str) -> list[Path]:
    return sorted(folder.glob(pattern))


async def test_kafka_peer_is_measured_on_a_topic_that_is_named(tmp_path: Path, kafka: str) -> None:
    setup = Setup(folder=tmp_path, sync=SyncMode.OS, kafka=kafka, kafka_topic="logs")
    durability = await measures_all_works("kafka", setup)
    assert durability.startswith(f"brokers at {kafka}, topic logs as it is, acks=all")


async def test_client_that_fails_says_why_in_one_line() -> None:
    with pytest.raises(PeerError, match=r"^its client exited with status 1: UsageError: [^\n]+$"):
        await client_process(job("corfu", {"cluster": "nowhere"}, "serial"))


def test_compare_with_nats_prints_ratios_and_leaves_nothing(tmp_path: Path) -> None:
    require("nats")
    arguments = ("--with", "nats", "--work", "serial", "--rounds", "1", "--seconds", "1")
    result = subprocess.run(
        command("bench", "compare", *arguments, "--data", str(tmp_path), "-o", "json"),
        capture_output=True,
        env=environment(None),
        # It starts ten processes, one after the other.
        timeout=2 * DEADLINE_S,
        check=False,
    )
    assert result.returncode == 0, result.stderr.decode()
    found = json.loads(result.stdout)
    # `corfu-many` has no serial work, so its servers are not even started.
    assert [each["contender"] for each in found["trials"]] == ["corfu", "nats"]
    assert [each["name"] for each in found["contenders"]] == ["corfu", "nats"]
    mine, theirs = (each["latency_us"]["p50"] for each in found["trials"])
    (ratio,) = found["ratios"]
    assert (ratio["ours"], ratio["peer"], ratio["what"]) == ("corfu", "nats", "p50")
    assert ratio["spread"]["median"] == pytest.approx(mine / theirs, rel=0.01)
    assert all(each["servers_cpu_us_per_record"] > 0 for each in found["trials"])
    assert list(tmp_path.iterdir()) == []


def test_compare_that_is_interrupted_reports_the_rounds_so_far(tmp_path: Path) -> None:
    require("nats")
    arguments = ("--with", "nats", "--work", "producer", "--rounds", "99", "--seconds", "1")
    process = subprocess.Popen(
        command("bench", "compare", *arguments, "--warmup", "0", "--data", str(tmp_path)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(None),
    )
    assert process.stderr is not None
    try:
        while b"round 2" not in (line := process.stderr.readline()):
            assert line, "it ended by itself"
        children = _children(process.pid)
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=DEADLINE_S)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130
    lines = [line.split() for line in output.decode().splitlines() if line]
    assert [line[0] for line in lines[2:5]] == ["corfu", "corfu-many", "nats"]
    ratios = {tuple(line[:3]): line[-1] for line in lines if line[1:2] == ["/"]}
    assert ratios == {("corfu", "/", "nats"): "1", ("corfu-many", "/", "nats"): "1"}
    assert lines[-1][0] == "load"
    wait_until_gone(children)
    assert list(tmp_path.iterdir()) == []


def _children(pid: int) -> list[int]:
    """Return the processes that `pid` has started, once there is one."""
    give_up = time.monotonic() + DEADLINE_S
    listed = Path(f"/proc/{pid}/task/{pid}/children")
    while not (found := listed.read_text().split()):
        assert time.monotonic() < give_up
        time.sleep(0.01)
    return [int(each) for each in found]


def test_peer_that_is_named_and_missing_is_an_error(tmp_path: Path) -> None:
    # No `redis-server` in a PATH that has nothing.
    result = subprocess.run(
        command("bench", "compare", "--with", "redis"),
        capture_output=True,
        env={**environment(None), "PATH": str(tmp_path)},
        timeout=DEADLINE_S,
        check=False,
    )
    assert complaint(result) == "corfu: cannot compare with redis: no redis-server in PATH"
    assert result.returncode == 5


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--with", "kafka"), "--with kafka needs --kafka HOST:PORT"),
        (("--with", "pulsar"), "--with knows nats, redis, kafka, not 'pulsar'"),
        (("--with", "nats", "--work", "mixed"), "--work knows producer, serial, read, not 'mixed'"),
        (("--with", "nats", "--size", "1k"), "--size takes numbers of bytes, not '1k'"),
        (("--with", "nats", "--size", "0"), "--size must be 1 to 524,288"),
    ],
)
def test_wrong_usage_is_one_line(arguments: tuple[str, ...], said: str) -> None:
    if "nats" in arguments:
        require("nats")
    result = corfu("bench", "compare", *arguments)
    assert complaint(result) == f"corfu: {said}"
    assert result.returncode == 2
