"""`corfu bench` with real processes: each command runs, its figures are sane, nothing is left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from corfu.tools.cluster import free_base_port
from tests.integration.running import (
    DEADLINE_S,
    Dev,
    command,
    complaint,
    corfu,
    dev,
    environment,
    remove_journals,
    shape_options,
)

pytestmark = [pytest.mark.processes, pytest.mark.timeout(200)]

SHAPE = ("--sequencers", "1", "--chains", "1", "--replicas", "2")
SHORT = ("--seconds", "1", "--warmup", "0.3", "-o", "json")


def _bench(folder: Path, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    """Run `corfu bench`; its temporary files go into `folder`."""
    return subprocess.run(
        command("bench", *arguments),
        capture_output=True,
        env={**environment(None), "TMPDIR": str(folder)},
        stdin=subprocess.DEVNULL,
        timeout=DEADLINE_S * 2,
        check=False,
    )


def _measured(folder: Path, *arguments: str) -> dict[str, Any]:
    """Return what a benchmark printed; it has ended well and left nothing."""
    result = _bench(folder, *arguments)
    assert result.returncode == 0, (result.stdout, result.stderr)
    assert result.stderr == b""
    assert list(folder.iterdir()) == []
    found: dict[str, Any] = json.loads(result.stdout)
    assert found["command"] == arguments[0]
    assert found["machine"]["processors"] == os.cpu_count()
    assert not found["interrupted"]
    for row in found["results"]:
        _require_sane(row)
    return found


def _require_sane(row: dict[str, Any]) -> None:
    """The figures of a row agree with each other."""
    assert row["records"] > 0
    assert row["errors"] == {}
    assert 0.5 < row["seconds"] < 3
    assert row["records_per_s"] == pytest.approx(row["records"] / row["seconds"], rel=0.01)
    latency = row["latency_us"]
    assert 0 < latency["p50"] <= latency["p99"] <= latency["p99.9"] <= latency["max"]
    assert latency["max"] < 60e6
    assert 1 <= len(row["rates"]) <= 8
    assert max(rate for _, rate in row["rates"]) >= row["records_per_s"] * 0.9


def _row(found: dict[str, Any], what: str) -> dict[str, Any]:
    row: dict[str, Any] = {row["what"]: row for row in found["results"]}[what]
    return row


def _roles(found: dict[str, Any]) -> dict[str, int]:
    """Return how many processes of each role were measured; all have used some CPU."""
    for use in found["cpu"]:
        assert use["seconds"] >= 0
        assert use["us_per_record"] >= 0
        assert use["kernel_drops"] is None or use["kernel_drops"] >= 0
    assert sum(use["seconds"] for use in found["cpu"]) > 0
    return {use["role"]: use["processes"] for use in found["cpu"]}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dev]:
    data = tmp_path_factory.mktemp("bench") / "data"
    with dev(data, *shape_options(free_base_port(3), *SHAPE)) as it:
        yield it
    remove_journals(data)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    own = tmp_path / "tmp"
    own.mkdir()
    return own


def test_append_tells_rates_latencies_and_the_cpu_of_each_role(
    folder: Path, tmp_path: Path
) -> None:
    plot = tmp_path / "append.svg"
    found = _measured(
        folder, "append", *SHAPE, *SHORT, "--sync", "os", "--size", "200", "--clients", "2",
        "--inflight", "100", "--plot", str(plot),
    )  # fmt: skip
    row = _row(found, "append")
    assert row["bytes"] == 200 * row["records"]
    assert row["mb_per_s"] == pytest.approx(row["records_per_s"] * 200 / 1e6, rel=0.01)
    assert _roles(found) == {"client": 2, "leader": 1, "units": 2}
    assert found["target"]["sync"] == "os"
    assert (found["target"]["chains"], found["target"]["replicas"]) == (1, 2)
    assert found["settings"]["inflight"] == 100
    assert found["counters"]["datagrams_out"] > 0
    assert found["counters"]["retransmits"] >= 0
    assert ET.parse(plot).getroot().tag == "{http://www.w3.org/2000/svg}svg"


def test_serial_append_is_one_at_a_time(running: Dev, folder: Path) -> None:
    found = _measured(
        folder, "append", "--cluster", running.cluster, *SHORT, "--serial", "--set", "ordered=true"
    )
    assert found["settings"]["set"] == {"ordered": True}
    row = _row(found, "append")
    assert found["settings"]["inflight"] == 1
    assert row["latency_us"]["mean"] * row["records"] <= row["seconds"] * 1e6 * 1.2


def test_append_in_batches_counts_records(running: Dev, folder: Path) -> None:
    row = _row(
        _measured(folder, "append", "--cluster", running.cluster, *SHORT, "--batch", "7"), "append"
    )
    assert row["records"] % 7 == 0
    assert row["latency_us"]["count"] >= row["records"] // 7


def test_read_scans_what_it_has_appended(folder: Path) -> None:
    found = _measured(folder, "read", *SHAPE, *SHORT, "--megabytes", "2")
    assert _row(found, "scan")["bytes"] == 1024 * _row(found, "scan")["records"]
    assert _roles(found) == {"client": 1, "leader": 1, "units": 2}


def test_random_read_reads_whole_entries(running: Dev, folder: Path) -> None:
    found = _measured(
        folder, "read", "--cluster", running.cluster, *SHORT, "--megabytes", "2", "--random"
    )
    row = _row(found, "read")
    assert row["records"] >= row["latency_us"]["count"] // 2


def test_cold_read_reads_the_log_once(folder: Path) -> None:
    result = _bench(folder, "read", *SHAPE, "-o", "json", "--megabytes", "2", "--cold")
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    assert _row(found, "scan")["records"] == 2_000_000 // 1024
    assert list(folder.iterdir()) == []


def test_follow_tells_the_delay_of_each_record(running: Dev, folder: Path) -> None:
    found = _measured(
        folder, "follow", "--cluster", running.cluster, *SHORT, "--clients", "2", "--rate", "100"
    )
    appended, delivered = _row(found, "append"), _row(found, "follow")
    assert 20 < appended["records"] <= 120
    # Two followers got each record, but for those under way at the end.
    assert delivered["records"] > appended["records"]
    assert _roles(found) == {"producer": 1, "follower": 2, "leader": 1, "units": 2}
    assert found["ratios"]["follow p50 / append p50"] > 0


def test_tokens_are_granted_one_a_request(running: Dev, folder: Path) -> None:
    found = _measured(
        folder, "tokens", "--cluster", running.cluster, *SHORT, "--clients", "8", "--processes", "2"
    )
    assert _row(found, "tokens")["records"] > 100
    assert found["counters"]["datagrams_in"] >= _row(found, "tokens")["records"]
    assert _roles(found)["client"] == 2


def test_mixed_has_a_row_for_each_kind_of_work(running: Dev, folder: Path) -> None:
    found = _measured(folder, "mixed", "--cluster", running.cluster, *SHORT, "--inflight", "20")
    assert [row["what"] for row in found["results"]] == ["append", "follow", "read"]
    assert _roles(found) == {"producer": 1, "follower": 1, "reader": 1, "leader": 1, "units": 2}


def test_disk_sums_up_its_processes(folder: Path) -> None:
    found = _measured(folder, "disk", "--clients", "2", "--group", "4", *SHORT)
    row = _row(found, "disk")
    assert row["bytes"] == 32768 * row["records"]
    assert found["ratios"]["MB/s of each process"] == pytest.approx(row["mb_per_s"] / 2, rel=0.01)


@pytest.mark.parametrize("more", [(), ("--trimmed",)])
def test_disk_of_units_counts_the_entries_that_they_have_made_durable(
    folder: Path, more: tuple[str, ...]
) -> None:
    given = ("--units", "--clients", "2", "--group", "4")
    found = _measured(folder, "disk", *given, *more, *SHORT)
    row = _row(found, "unit")
    assert row["bytes"] == 32768 * row["records"]
    assert 1 < found["ratios"]["entries of each commit"] <= 8


def test_restart_tells_the_time_and_the_memory_of_a_unit_with_entries(folder: Path) -> None:
    result = _bench(folder, "restart", "--entries", "20000", "--rounds", "1", "-o", "json")
    assert result.returncode == 0, (result.stdout, result.stderr)
    assert list(folder.iterdir()) == []
    found = json.loads(result.stdout)
    assert found["settings"]["entries"] == 20000
    assert 0 < found["ready_s"] == found["starts"][0]["seconds"] < 60
    assert 164 * 20000 < found["disk_bytes_an_entry"] * 20000 < 300e6
    assert found["starts"][0]["resident_bytes"] > 10e6
    assert found["processor_us_an_entry_last"] > 1


def test_running_cluster_is_measured_and_left_running(running: Dev, folder: Path) -> None:
    found = _measured(folder, "append", "--cluster", running.cluster, *SHORT, "--inflight", "10")
    assert _roles(found) == {"client": 1, "leader": 1, "units": 2}
    again = _measured(folder, "read", "--cluster", running.cluster, *SHORT)
    assert _row(again, "scan")["records"] > 0


def test_text_has_a_table_of_figures_and_one_of_processes(running: Dev, folder: Path) -> None:
    result = _bench(folder, "append", "--cluster", running.cluster, *SHORT[:-2])
    assert result.returncode == 0, result.stderr
    words = result.stdout.decode().split()
    for wanted in ("records/s", "MB/s", "p50", "p99.9", "us/record", "client", "leader", "units"):
        assert wanted in words


def _tail(cluster: Dev) -> bytes:
    return corfu("tail", cluster=cluster.cluster).stdout


def test_ctrl_c_prints_what_there_is_so_far(running: Dev, folder: Path) -> None:
    before = _tail(running)
    bench = subprocess.Popen(
        command("bench", "append", "--cluster", running.cluster, "--seconds", "60", "--warmup",
                "0", "-o", "json"),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL,
        env={**environment(None), "TMPDIR": str(folder)},
    )  # fmt: skip
    while _tail(running) == before:
        assert bench.poll() is None
        time.sleep(0.1)
    time.sleep(0.5)
    bench.send_signal(signal.SIGINT)
    out, err = bench.communicate(timeout=DEADLINE_S)
    assert bench.returncode == 130, (out, err)
    assert err == b""
    found = json.loads(out)
    assert found["interrupted"]
    row = _row(found, "append")
    assert row["records"] > 0
    assert 0 < row["seconds"] < 30


def test_client_that_dies_is_one_line_and_status_1(running: Dev, folder: Path) -> None:
    bench = subprocess.Popen(
        command("bench", "append", "--cluster", running.cluster, "--seconds", "60"),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL,
        env={**environment(None), "TMPDIR": str(folder)},
    )  # fmt: skip
    before = _tail(running)
    while _tail(running) == before:
        assert bench.poll() is None
        time.sleep(0.1)
    children = Path(f"/proc/{bench.pid}/task/{bench.pid}/children").read_text().split()
    assert len(children) == 1
    os.kill(int(children[0]), signal.SIGKILL)
    out, err = bench.communicate(timeout=DEADLINE_S)
    assert (bench.returncode, out) == (1, b"")
    assert err.decode().splitlines() == [
        "corfu: client 1 was killed by SIGKILL: it printed nothing"
    ]


def test_sigterm_stops_its_own_cluster_and_removes_it(folder: Path) -> None:
    bench = subprocess.Popen(
        command("bench", "append", *SHAPE, "--seconds", "60"),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL,
        env={**environment(None), "TMPDIR": str(folder)},
    )  # fmt: skip
    give_up = time.monotonic() + DEADLINE_S
    while not list(folder.glob("*/cluster.json")):
        assert time.monotonic() < give_up
        time.sleep(0.05)
    time.sleep(1)
    bench.send_signal(signal.SIGTERM)
    out, err = bench.communicate(timeout=DEADLINE_S)
    assert (bench.returncode, out, err) == (143, b"", b"")
    assert list(folder.iterdir()) == []
    assert str(folder) not in _command_lines(), "a process of it still runs"


def _command_lines() -> str:
    lines: list[str] = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                lines.append((entry / "cmdline").read_bytes().replace(b"\0", b" ").decode())
            except OSError:
                continue
    return "\n".join(lines)


def test_nobody_at_the_cluster_is_one_line_and_status_3(folder: Path) -> None:
    result = _bench(folder, "tokens", "--cluster", "127.0.0.1:9", "--seconds", "0.5")
    assert result.returncode == 3
    assert "no replica answers at 127.0.0.1:9" in complaint(result)
