"""`corfu verify` against a live cluster that others use, and `corfu check` of what it recorded."""

from __future__ import annotations

import json
import signal
import subprocess
import time
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
    wait_until_gone,
)

# One cluster for all of them, so one worker.
pytestmark = [
    pytest.mark.processes,
    pytest.mark.timeout(200),
    pytest.mark.xdist_group("verify"),
]

WORK = ("--seconds", "2", "--rate", "200", "--seed", "3")
SHAPE = ("--sequencers", "1", "--chains", "2", "--replicas", "2")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dev]:
    folder = tmp_path_factory.mktemp("verify") / "data"
    with dev(folder, *shape_options(free_base_port(5), *SHAPE)) as running:
        yield running
    remove_journals(folder)


def _records(cluster: Dev) -> list[bytes]:
    """Return the log's records that are not of a verification."""
    read = corfu("read", cluster=cluster.cluster)
    assert read.returncode == 0, read.stderr.decode()
    return [line for line in read.stdout.splitlines() if b"others-" in line]


def test_verify_beside_others_is_sound_and_its_history_is_checked_again(
    cluster: Dev, tmp_path: Path
) -> None:
    before = b"".join(b"others-%d\n" % number for number in range(20))
    assert corfu("append", cluster=cluster.cluster, stdin=before).returncode == 0
    kept = tmp_path / "run.jsonl"
    others = subprocess.Popen(
        command("append"), stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
        env=environment(cluster.cluster),
    )  # fmt: skip
    verifying = subprocess.Popen(
        command("verify", *WORK, "--history", str(kept), "-o", "json"),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(cluster.cluster),
    )  # fmt: skip
    assert others.stdin is not None
    # The same bytes again and again: only this run's own records must be there once.
    while verifying.poll() is None:
        others.stdin.write(b"others-same\n")
        others.stdin.flush()
        time.sleep(0.05)
    others.stdin.close()
    assert others.wait(DEADLINE_S) == 0
    out, err = verifying.communicate(timeout=DEADLINE_S)
    assert verifying.returncode == 0, (out, err)

    found: dict[str, Any] = json.loads(out)
    assert found["sound"]
    assert found["start"] > 0, "what was there before is not looked at"
    kinds = {kind["kind"]: kind for kind in found["kinds"]}
    assert {"append", "append_many", "read", "scan", "follow", "tail", "fill"} <= set(kinds)
    assert "trim" not in kinds
    assert kinds["append"]["records"] > 20
    assert 0 < kinds["append"]["p50_ms"] <= kinds["append"]["p99_ms"]
    assert len(_records(cluster)) > 25, "nobody trimmed them"

    sound = corfu("check", str(kept))
    assert sound.returncode == 0, sound.stdout.decode()
    _judge_with_one_answer_altered(kept, found["prefix"])


def _judge_with_one_answer_altered(kept: Path, prefix: str) -> None:
    """Have one read of a record give another one, in what was recorded."""
    lines = kept.read_text().splitlines()
    reads = [
        (number, fields)
        for number, fields in enumerate(map(json.loads, lines))
        if fields["op"] == "read"
        and fields["index"] is not None
        and str(fields["seen"]).startswith(f"['{prefix}")
    ]
    (number, altered), (_, other) = (
        reads[0],
        next(each for each in reads if each[1]["seen"] != reads[0][1]["seen"]),
    )
    altered["seen"] = other["seen"]
    lines[number] = json.dumps(altered)
    kept.write_text("\n".join(lines) + "\n")
    judged = corfu("check", str(kept))
    assert judged.returncode == 1
    told = judged.stdout.decode()
    assert "VIOLATION of one-value: an offset has one value for ever" in told
    assert f"{kept}:{number + 1})" in told, "the operation is named, and its line"


def test_verify_that_may_trim_and_fill_does(cluster: Dev) -> None:
    wishes = ("--trim", "--fill", "--clients", "2", "--processes", "1")
    ran = corfu("verify", *WORK, *wishes, "-o", "json", cluster=cluster.cluster)
    assert ran.returncode == 0, (ran.stdout, ran.stderr)
    kinds = {kind["kind"]: kind for kind in json.loads(ran.stdout)["kinds"]}
    assert kinds["trim"]["answered"] > 0
    assert kinds["fill"]["answered"] > 0


def test_verify_interrupted_checks_what_there_is_and_leaves_no_process(cluster: Dev) -> None:
    verifying = subprocess.Popen(
        command("verify", "--seconds", "600", "-o", "json"),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(cluster.cluster),
    )  # fmt: skip
    clients = _clients_of(verifying)
    verifying.send_signal(signal.SIGINT)
    out, err = verifying.communicate(timeout=100)
    assert verifying.returncode == 130, (out, err)
    found = json.loads(out)
    assert found["sound"]
    assert found["interrupted"]
    assert found["operations"] > 0
    wait_until_gone(clients)


def test_verify_whose_client_dies_is_no_sound_run(cluster: Dev) -> None:
    verifying = subprocess.Popen(
        command("verify", "--seconds", "600"),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(cluster.cluster),
    )  # fmt: skip
    clients = _clients_of(verifying)
    subprocess.run(["kill", "-KILL", str(clients[0])], check=True)
    out, err = verifying.communicate(timeout=100)
    assert verifying.returncode == 1, (out, err)
    assert "was killed by SIGKILL" in out.decode()
    wait_until_gone(clients)


def _clients_of(verifying: subprocess.Popen[bytes]) -> list[int]:
    """Wait until the clients of a verification record; return their process ids."""
    give_up = time.monotonic() + DEADLINE_S
    while True:
        assert verifying.poll() is None
        assert time.monotonic() < give_up
        children = Path(f"/proc/{verifying.pid}/task/{verifying.pid}/children").read_text().split()
        if len(children) == 2 and all(map(_records_something, children)):
            return [int(pid) for pid in children]
        time.sleep(0.05)


def _records_something(pid: str) -> bool:
    arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    histories = [Path(each.decode()) for each in arguments if each.endswith(b".jsonl")]
    return any(history.exists() and history.stat().st_size > 0 for history in histories)


def test_verify_without_a_cluster_says_so() -> None:
    refused = corfu("verify", "--seconds", "1", cluster=f"127.0.0.1:{free_base_port(1)}")
    assert refused.returncode == 3
    assert "no sequencer replica" in complaint(refused)
