"""The commands on records, against one running cluster of three replicas and two chains."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from corfu import connect
from corfu.tools.cluster import free_base_port
from tests.integration.running import (
    DEADLINE_S,
    ROOT,
    Dev,
    command,
    complaint,
    corfu,
    dev,
    environment,
    remove_journals,
)

# One cluster for all of them, so one worker.
pytestmark = [pytest.mark.processes, pytest.mark.xdist_group("commands")]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dev]:
    """A cluster that all tests of this file share; each knows only its own records."""
    folder = tmp_path_factory.mktemp("dev") / "log"
    with dev(folder, "--base-port", str(free_base_port(9))) as it:
        yield it
    remove_journals(folder)


@pytest.fixture
def cluster(running: Dev) -> str:
    return running.cluster


def _append(cluster: str, lines: bytes) -> dict[str, Any]:
    result = corfu("append", "-o", "json", cluster=cluster, stdin=lines)
    assert result.returncode == 0, result.stderr
    totals: dict[str, Any] = json.loads(result.stdout)
    return totals


def test_append_then_read_gives_the_same_lines(cluster: str) -> None:
    lines = [b"line %d" % number for number in range(20_000)]
    lines[7] = b""
    lines[9] = bytes(range(11, 256))
    body = b"\n".join(lines)  # and no line end after the last
    totals = _append(cluster, body)
    assert totals["records"] == 20_000
    assert totals["bytes"] == sum(map(len, lines))
    result = corfu("read", "--from", totals["first"], cluster=cluster)
    assert result.returncode == 0
    assert result.stdout == body + b"\n"


def test_append_of_nothing_appends_nothing(cluster: str) -> None:
    totals = _append(cluster, b"")
    assert (totals["records"], totals["first"], totals["last"]) == (0, None, None)


def test_append_of_a_file_says_where(cluster: str, tmp_path: Path) -> None:
    file = tmp_path / "lines"
    file.write_bytes(b"a\nb\n")
    result = corfu("append", str(file), "--cluster", cluster)
    assert result.returncode == 0
    assert result.stdout.startswith(b"appended 2 records (2 bytes) at ")


def test_append_of_a_pipe_appends_each_line_as_it_comes(cluster: str) -> None:
    before = corfu("tail", cluster=cluster).stdout.decode().strip()
    with subprocess.Popen(
        command("append"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment(cluster)
    ) as appending:
        assert appending.stdin is not None
        appending.stdin.write(b"early\n")
        appending.stdin.flush()
        result = corfu("read", "--follow", "-n", "1", "--from", before, cluster=cluster)
        assert result.stdout == b"early\n"
        appending.stdin.close()
        assert appending.wait(DEADLINE_S) == 0


def test_append_of_a_silent_pipe_ends_at_ctrl_c_and_says_how_far_it_got(cluster: str) -> None:
    before = corfu("tail", cluster=cluster).stdout.decode().strip()
    with subprocess.Popen(
        command("append"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(cluster),
    ) as appending:
        assert appending.stdin is not None
        assert appending.stderr is not None
        appending.stdin.write(b"early\n")
        appending.stdin.flush()
        corfu("read", "--follow", "-n", "1", "--from", before, cluster=cluster)
        appending.send_signal(signal.SIGINT)
        assert appending.wait(DEADLINE_S) == 130
        said = appending.stderr.read().decode().splitlines()
    assert len(said) == 1
    assert said[0].startswith("interrupted; 1 records are certainly in the log")


def test_append_of_an_endless_line_is_refused(cluster: str) -> None:
    result = corfu("append", cluster=cluster, stdin=b"x" * (3 << 20))
    assert result.returncode == 2
    assert "0 records" in complaint(result)


def test_read_of_part_gives_that_part(cluster: str) -> None:
    totals = _append(cluster, b"p\nq\nr\n")
    offset = totals["first"].split(".")[0]
    of = {"p": "0", "q": "1", "r": "2"}
    if totals["last"] == f"{offset}.2":  # all in one entry
        result = corfu(
            *("read", "--from", f"{offset}.{of['q']}", "--to", f"{offset}.{of['r']}"),
            cluster=cluster,
        )
        assert result.stdout == b"q\n"
    result = corfu("read", "--from", totals["first"], "-n", "2", cluster=cluster)
    assert result.stdout == b"p\nq\n"
    result = corfu("read", "--from", totals["first"], "-n", "0", cluster=cluster)
    assert (result.returncode, result.stdout) == (0, b"")


def test_read_from_a_time_gives_what_was_appended_since(cluster: str) -> None:
    _append(cluster, b"earlier a\nearlier b\n")
    time.sleep(0.05)
    moment = datetime.now(UTC)
    time.sleep(0.05)
    _append(cluster, b"later c\nlater d\n")
    result = corfu("read", "--from-time", moment.isoformat(), "-v", cluster=cluster)
    assert result.stdout.splitlines() == [b"later c", b"later d"]
    assert b"offsets (" in result.stderr
    ago = f"-{(datetime.now(UTC) - moment).total_seconds():.6f}s"
    result = corfu("read", "--from-time", ago, cluster=cluster)
    assert result.stdout.splitlines()[-2:] == [b"later c", b"later d"]
    assert corfu("read", "--from-time", "2999-01-01", cluster=cluster).stdout == b""
    refused = corfu("read", "--from-time", "yesterday", cluster=cluster)
    assert refused.returncode == 2
    assert b"is no time" in refused.stderr


def test_scan_of_large_and_small_entries_is_whole_and_the_second_asks_nobody(cluster: str) -> None:
    rng = random.Random(5)
    records = [rng.randbytes(rng.choice((1, 300, 30_000, 30_000, 300_000))) for _ in range(120)]

    async def scan_twice() -> None:
        async with connect(cluster, cache_bytes=64 << 20) as log:
            positions = [await log.append(record) for record in records]
            first, end = positions[0].offset, positions[-1].offset + 1
            for _ in range(2):
                assert [r.data async for r in log.scan(first, end)] == records
            assert log.stats.cache_hits >= len({position.offset for position in positions})
            assert await log.seek(0) <= first
            assert await log.seek(4e9) == await log.tail()

    asyncio.run(scan_twice())


def test_read_at_the_tail_is_empty_and_above_it_refused(cluster: str) -> None:
    tail = int(corfu("tail", cluster=cluster).stdout)
    at = corfu("read", "--from", str(tail), cluster=cluster)
    assert (at.returncode, at.stdout) == (0, b"")
    above = corfu("read", "--from", str(tail + 1), cluster=cluster)
    assert above.returncode == 1
    assert "nothing is written" in complaint(above)


def test_read_follow_gives_new_records_and_ends_at_ctrl_c(cluster: str) -> None:
    tail = corfu("tail", cluster=cluster).stdout.decode().strip()
    with subprocess.Popen(
        command("read", "--follow", "--from", tail),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(cluster),
    ) as following:
        assert following.stdout is not None
        assert following.stderr is not None
        for round_ in (b"first\n", b"second\n"):
            _append(cluster, round_)
            assert following.stdout.readline() == round_
        following.send_signal(signal.SIGINT)
        assert following.wait(DEADLINE_S) == 130
        assert following.stderr.read() == b""


def test_read_into_a_closed_pipe_ends_quietly(cluster: str) -> None:
    totals = _append(cluster, b"".join(b"%d\n" % number for number in range(50_000)))
    with subprocess.Popen(
        command("read", "--from", totals["first"]),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(cluster),
    ) as reading:
        assert reading.stdout is not None
        assert reading.stderr is not None
        assert reading.stdout.readline() == b"0\n"
        reading.stdout.close()
        assert reading.wait(DEADLINE_S) == 141
        assert reading.stderr.read() == b""


def test_fill_of_a_written_offset_says_data_and_above_the_tail_is_refused(cluster: str) -> None:
    offset = _append(cluster, b"x\n")["first"].split(".")[0]
    result = corfu("fill", offset, cluster=cluster)
    assert (result.returncode, result.stdout) == (0, b"data\n")
    tail = int(corfu("tail", cluster=cluster).stdout)
    above = corfu("fill", str(tail + 1000), cluster=cluster)
    assert above.returncode == 2
    complaint(above)


def test_trim_deletes_a_prefix_and_never_more_than_the_tail(cluster: str) -> None:
    first = int(_append(cluster, b"gone\n")["first"].split(".")[0])
    kept = _append(cluster, b"kept\n")["first"].split(".")[0]
    before = json.loads(corfu("trim", "0", "-o", "json", cluster=cluster).stdout)["mark"]
    dry = corfu("trim", str(first + 1), "--dry-run", "-o", "json", cluster=cluster)
    assert json.loads(dry.stdout) == {"dry_run": True, "mark_before": before, "mark": first + 1}
    result = corfu("trim", str(first + 1), "-o", "json", cluster=cluster)
    assert result.returncode == 0
    told = json.loads(result.stdout)
    assert (told["mark_before"], told["mark"], told["units"]) == (before, first + 1, 6)
    gone = corfu("read", "--from", str(first), "--to", str(first + 1), cluster=cluster)
    assert gone.returncode == 1
    assert "trimmed" in complaint(gone)
    assert corfu("read", "--from", kept, cluster=cluster).stdout == b"kept\n"
    said = corfu("trim", "0", cluster=cluster).stdout.decode()
    assert said.startswith(f"trimmed below {first + 1:,}: freed ")
    dry = corfu("trim", "0", "--dry-run", cluster=cluster)
    assert dry.stdout.startswith(b"would change nothing")


def test_status_of_a_healthy_cluster_says_so(cluster: str) -> None:
    give_up = time.monotonic() + DEADLINE_S
    while (result := corfu("status", "-o", "json", cluster=cluster)).returncode != 0:
        assert time.monotonic() < give_up, result.stdout
    told = json.loads(result.stdout)
    assert told["healthy"]
    assert told["leader"] in (1, 2, 3)
    assert [unit["up"] for unit in told["units"]] == [True] * 6
    assert told["segments"][-1]["chains"] == [[1, 2, 3], [4, 5, 6]]
    text = corfu("status", cluster=cluster)
    assert text.returncode == 0
    assert b"healthy" in text.stdout


def test_garbage_datagrams_change_nothing(cluster: str, running: Dev) -> None:
    seeded = random.Random(7)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as noise:
        for process in running.processes:
            host, _, port = str(process["address"]).rpartition(":")
            for _ in range(300):
                noise.sendto(seeded.randbytes(seeded.randrange(0, 1200)), (host, int(port)))
    totals = _append(cluster, b"still here\n")
    assert corfu("read", "--from", totals["first"], cluster=cluster).stdout == b"still here\n"


@pytest.mark.parametrize("name", ["append", "status"])
def test_commands_without_a_running_cluster_end_in_time(name: str) -> None:
    address = f"127.0.0.1:{free_base_port(1)}"
    begun = time.monotonic()
    result = corfu(name, "--cluster", address, "--timeout", "0.5", stdin=b"x\n")
    assert result.returncode == 3
    assert address in complaint(result)
    assert time.monotonic() - begun < 10


def test_readme_example_runs(cluster: str, tmp_path: Path) -> None:
    text = (ROOT / "README.md").read_text()
    program = text.split("```python\n")[1].split("```")[0]
    file = tmp_path / "example.py"
    file.write_text(program)
    result = subprocess.run(
        [os.fspath(command()[0]), str(file)],
        env=environment(cluster),
        capture_output=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    said = [line.split(": ")[1] for line in result.stdout.decode().splitlines()]
    assert said == ["hello", "hello", "one", "two", "three"]
