"""`corfu nemesis`: a short run that is sound, runs that are not, and one that is interrupted."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from corfu.tools.history import decode_history, encode_history
from tests.integration.running import DEADLINE_S, alive, command, corfu, environment

pytestmark = [pytest.mark.processes, pytest.mark.timeout(300)]

RUN_S = 240.0
"""About 25 s on an idle machine, most of it waiting until chains may be merged."""

SMALL = ("--sequencers", "3", "--chains", "2", "--replicas", "2", "--spares", "1", "--clients", "2")


def _nemesis(folder: Path, *arguments: str) -> subprocess.Popen[bytes]:
    """Start `corfu nemesis`; temporary folders lie in `folder`."""
    return subprocess.Popen(
        command("nemesis", *SMALL, *arguments),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**environment(None), "TMPDIR": str(folder)},
    )


@contextlib.contextmanager
def _running(folder: Path, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    popen = _nemesis(folder, *arguments)
    try:
        yield popen
    finally:
        if popen.poll() is None:
            popen.terminate()
        popen.communicate(timeout=DEADLINE_S)


def _pids_on(folder: Path) -> list[int]:
    """Return the processes that have a path below `folder` in their command line."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if os.fsencode(f"{folder}{os.sep}") in path.read_bytes():
                found.append(int(path.parent.name))
    return [pid for pid in found if alive(pid)]


def _wait_for_appends(popen: subprocess.Popen[bytes], folder: Path) -> Path:
    """Wait until both clients append; return the folder of the cluster."""
    give_up = time.monotonic() + DEADLINE_S
    while True:
        histories = list(folder.glob("*/history-c*.jsonl"))
        if len(histories) == 2 and all(b'"append"' in each.read_bytes() for each in histories):
            return histories[0].parent
        assert popen.poll() is None
        assert time.monotonic() < give_up
        time.sleep(0.05)


def test_nemesis_short_run_is_sound_and_its_history_can_be_judged_again(tmp_path: Path) -> None:
    kept = tmp_path / "kept.jsonl"
    kinds = ("--kind", "kill-leader", "--kind", "stop-tail", "--kind", "wipe")
    with _running(
        tmp_path, "--cycles", "3", "--seed", "4", *kinds, "--history", str(kept), "-o", "json"
    ) as popen:
        out, err = popen.communicate(timeout=RUN_S)
    assert popen.returncode == 0, err.decode()
    report: dict[str, Any] = json.loads(out)
    assert report["sound"]
    assert {fault["kind"] for fault in report["faults"]} == {"kill-leader", "stop-tail", "wipe"}
    assert all(fault["next_append_s"] is not None for fault in report["faults"])
    assert report["records_appended"] > 100
    assert report["records_found"] > 0
    assert err.decode().count("cycle ") == 3, "progress goes to stderr"
    assert list(tmp_path.glob("corfu-nemesis-*")) == [], "nothing is left of a sound run"

    assert corfu("nemesis", "--check", str(kept)).returncode == 0
    with kept.open() as lines:
        history, final = decode_history(lines)
    assert final is not None
    entries = dict(final.entries)
    gone = max(entries)
    del entries[gone]
    doctored = replace(final, entries=entries, junk=final.junk | {gone})
    kept.write_text("\n".join(encode_history(history, doctored)))
    judged = corfu("nemesis", "--check", str(kept))
    assert judged.returncode == 1
    assert f"at {gone}.0 has vanished" in judged.stdout.decode()


def test_nemesis_that_sees_a_unit_die_by_itself_fails_and_keeps_all(tmp_path: Path) -> None:
    with _running(tmp_path, "--cycles", "50", "--seed", "4", "--kind", "kill-replica") as popen:
        folder = _wait_for_appends(popen, tmp_path)
        processes = json.loads((folder / "cluster.json").read_text())["processes"]
        (unit,) = (p for p in processes if (p["role"], p["id"]) == ("storage", 2))
        os.kill(unit["pid"], signal.SIGKILL)
        out, err = popen.communicate(timeout=RUN_S)
    assert popen.returncode == 1, err.decode()
    assert "VIOLATION: storage-2 was killed by SIGKILL" in out.decode(), err.decode()
    assert f"folder: {folder}" in out.decode()
    assert corfu("nemesis", "--check", str(folder / "history.jsonl")).returncode == 0
    assert _pids_on(tmp_path) == []


def test_nemesis_interrupted_leaves_no_process_and_no_folder(tmp_path: Path) -> None:
    with _running(tmp_path, "--cycles", "50", "--seed", "4", "--kind", "stop-tail") as popen:
        folder = _wait_for_appends(popen, tmp_path)
        assert len(_pids_on(folder)) == 8 + 2
        popen.send_signal(signal.SIGINT)
        popen.communicate(timeout=RUN_S)
    assert popen.returncode == 130
    assert _pids_on(tmp_path) == []
    assert not folder.exists()


def test_nemesis_refuses_what_it_cannot_do(tmp_path: Path) -> None:
    for arguments in (
        ("--kind", "stop-middle", *SMALL),
        ("--kind", "no-such-kind"),
        ("--sequencers", "2"),
        ("--cycles", "0"),
    ):
        refused = corfu("nemesis", *arguments)
        assert refused.returncode == 2
        assert refused.stdout == b""
    (tmp_path / "history.jsonl").write_text("{}")
    assert corfu("nemesis", "--check", str(tmp_path / "history.jsonl")).returncode == 5
