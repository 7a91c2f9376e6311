"""docs/operations.md, "Start by hand": its commands, as they stand there, give a cluster."""

from __future__ import annotations

import os
import re
import secrets
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.integration.running import DEADLINE_S, ROOT, corfu, wait_until_gone

pytestmark = pytest.mark.processes


def _blocks() -> list[str]:
    text = (ROOT / "docs" / "operations.md").read_text()
    return re.findall(r"^```sh by-hand\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def _run(block: str, folder: Path, host: str) -> None:
    path = os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]])
    # All of 127.0.0.0/8 is this machine: the ports as they are written are free on some address.
    result = subprocess.run(
        ["sh", "-eu", "-c", block.replace("127.0.0.1", host)],
        cwd=folder,
        env={**os.environ, "PATH": path, "CORFU_CLUSTER": ""},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""


def test_commands_to_start_by_hand_give_a_cluster(tmp_path: Path) -> None:
    make, start, stop = _blocks()
    host = f"127.{1 + secrets.randbelow(250)}.{secrets.randbelow(250)}.1"
    cluster = ",".join(f"{host}:{port}" for port in (9701, 9702, 9703))
    _run(make, tmp_path, host)
    pids: list[int] = []
    try:
        _run(start, tmp_path, host)
        pids = [int(path.read_text()) for path in tmp_path.glob("*.pid")]
        assert len(pids) == 7
        give_up = time.monotonic() + DEADLINE_S
        while (status := corfu("status", cluster=cluster)).returncode != 0:
            assert time.monotonic() < give_up, status.stdout.decode() + status.stderr.decode()
            time.sleep(0.1)
        assert corfu("append", cluster=cluster, stdin=b"one\n").returncode == 0
        assert corfu("read", cluster=cluster).stdout == b"one\n"
        _run(stop, tmp_path, host)
        wait_until_gone(pids)
        for log in tmp_path.glob("*.log"):
            assert log.read_text().count("ready: ") == 1
            assert "Traceback" not in log.read_text()
    finally:
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
