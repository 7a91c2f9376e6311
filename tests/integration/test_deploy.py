"""deploy/compose.yaml, run without containers: its own commands, on loopback addresses."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.integration.running import DEADLINE_S, ROOT, corfu

pytestmark = pytest.mark.processes

SCRIPT = ROOT / "deploy" / "bootstrap.sh"


NETWORK = f"127.{1 + secrets.randbelow(250)}.{secrets.randbelow(250)}."
"""Another one in each run: the ports are as they are written."""


def _local(text: str) -> str:
    """All of 127.0.0.0/8 is this machine: each service keeps an address and port of its own."""
    return text.replace("172.28.9.", NETWORK)


SERVICES: dict[str, dict[str, Any]] = yaml.safe_load(
    _local((ROOT / "deploy" / "compose.yaml").read_text())
)["services"]


def _environment(data: Path) -> dict[str, str]:
    """Return the bootstrap service's environment, with the folders in `data`."""
    path = os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]])
    told = {k: v for k, v in SERVICES["bootstrap"]["environment"].items() if k != "OWNER"}
    return {**told, "DATA": str(data), "PATH": path}


def _bootstrap(data: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(SCRIPT)],
        env=_environment(data),
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )


@contextmanager
def _server(name: str, data: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a service; its volume is a folder of `data`, and its output stays beside it."""
    mine = str(data / name)
    argv = [part.replace("/data", mine) for part in SERVICES[name]["command"]]
    with (
        (data / f"{name}.log").open("wb") as log,
        subprocess.Popen(argv, env=_environment(data), stdout=log, stderr=log) as process,
    ):
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                assert process.wait(DEADLINE_S) == 0
            finally:
                process.kill()


def _wait_until_healthy(cluster: str, data: Path) -> dict[str, Any]:
    give_up = time.monotonic() + DEADLINE_S
    while (said := corfu("status", "-o", "json", cluster=cluster)).returncode != 0:
        logs = "".join(path.read_text() for path in data.glob("*.log"))
        assert time.monotonic() < give_up, f"{said}\n{logs}"
        time.sleep(0.2)
    found: dict[str, Any] = json.loads(said.stdout)
    return found


@pytest.mark.long
@pytest.mark.timeout(300)
def test_compose_commands_give_a_working_cluster(tmp_path: Path) -> None:
    assert _bootstrap(tmp_path).returncode == 0
    cluster = SERVICES["client"]["environment"]["CORFU_CLUSTER"]
    names = [name for name in SERVICES if name not in ("bootstrap", "client")]
    with ExitStack() as running:
        for name in names:
            running.enter_context(_server(name, tmp_path))
        status = _wait_until_healthy(cluster, tmp_path)
        assert [segment["chains"] for segment in status["segments"]] == [[[1, 2, 3], [4, 5, 6]]]
        assert corfu("append", cluster=cluster, stdin=b"one\ntwo\n").returncode == 0
        assert corfu("read", cluster=cluster).stdout == b"one\ntwo\n"
    # `docker compose up` runs it again each time: it must touch nothing.
    assert _bootstrap(tmp_path).returncode == 0
    with ExitStack() as running:
        for name in names:
            running.enter_context(_server(name, tmp_path))
        _wait_until_healthy(cluster, tmp_path)
        assert corfu("read", cluster=cluster).stdout == b"one\ntwo\n"


def test_bootstrap_that_was_cut_short_goes_on_where_it_was(tmp_path: Path) -> None:
    assert _bootstrap(tmp_path).returncode == 0
    records = tmp_path / "bootstrap"
    written = (records / "bootstrap.json").read_text()
    identity = (tmp_path / "storage-1" / "unit" / "identity").read_bytes()
    # A unit whose format was cut short has no identity yet, nor a record; a replica no identity.
    for path in (tmp_path / "storage-8" / "unit" / "identity", records / "unit-8"):
        path.unlink()
    (tmp_path / "sequencer-2" / "replica" / "identity").unlink()
    (records / "replica-2").unlink()
    again = _bootstrap(tmp_path)
    assert again.returncode == 0, again.stderr
    assert (records / "bootstrap.json").read_text() == written
    assert (tmp_path / "storage-1" / "unit" / "identity").read_bytes() == identity
    assert (tmp_path / "storage-8" / "unit" / "identity").exists()
    assert (tmp_path / "sequencer-2" / "replica" / "identity").exists()


def test_bootstrap_never_formats_a_folder_that_may_hold_data(tmp_path: Path) -> None:
    assert _bootstrap(tmp_path).returncode == 0
    for path in (tmp_path / "bootstrap").iterdir():
        path.unlink()
    identity = (tmp_path / "storage-1" / "unit" / "identity").read_bytes()
    refused = _bootstrap(tmp_path)
    assert refused.returncode == 3
    assert "is formatted" in refused.stderr
    assert (tmp_path / "storage-1" / "unit" / "identity").read_bytes() == identity
