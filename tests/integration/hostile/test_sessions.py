"""`corfu nemesis` for longer: kills, stops and wipes, also over a network that does its worst."""

from __future__ import annotations

import contextlib
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.integration.bad_cases.network import OwnNetwork
from tests.integration.hostile.chaos import chaos
from tests.integration.hostile.figures import Figures
from tests.integration.hostile.proxy import Chaos
from tests.integration.running import DEADLINE_S, command, environment

SESSION_S_MAX = 3000.0

pytestmark = [
    pytest.mark.processes,
    pytest.mark.long,
    pytest.mark.timeout(SESSION_S_MAX + 2 * DEADLINE_S),
]

ROUGH = Chaos(
    seed=5,
    delay_s=(0.0, 0.005),
    late=0.01,
    late_s=1.0,
    lost=0.05,
    doubled=0.02,
    damaged=0.01,
    cut_short=0.005,
)


def _session(folder: Path, *arguments: str) -> dict[str, Any]:
    """Run a session to its end; return its report."""
    popen = subprocess.Popen(
        command("nemesis", "-o", "json", *arguments),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**environment(None), "TMPDIR": str(folder)},
    )
    try:
        out, err = popen.communicate(timeout=SESSION_S_MAX)
    finally:
        if popen.poll() is None:
            popen.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                popen.communicate(timeout=DEADLINE_S)
        if popen.poll() is None:
            popen.kill()
            popen.communicate()
    assert popen.returncode == 0, err.decode() + out.decode()
    report: dict[str, Any] = json.loads(out)
    assert report["sound"]
    return report


def _kinds(report: dict[str, Any], beginning: str) -> int:
    return sum(str(fault["kind"]).startswith(beginning) for fault in report["faults"])


def _note(figures: Figures, report: dict[str, Any], **more: int) -> None:
    figures.note(
        cycles=len(report["faults"]),
        operations=report["operations"],
        acknowledged=report["records_appended"],
        found=report["records_found"],
        read=report["records_read"],
        **more,
    )


def test_session_of_sixty_faults_is_sound(tmp_path: Path, figures: Figures) -> None:
    report = _session(tmp_path, "--cycles", "60", "--seed", "4", "--clients", "10")
    assert _kinds(report, "kill-") >= 20
    assert _kinds(report, "stop-") >= 10
    _note(figures, report)


def test_session_over_a_hostile_network_is_sound(
    tmp_path: Path, network: OwnNetwork, figures: Figures
) -> None:
    with chaos(network, ROUGH) as path:
        report = _session(tmp_path, "--cycles", "20", "--seed", "5")
    assert path.did["lost"] > 1000
    _note(figures, report, **{f"datagrams_{what}": many for what, many in path.did.items()})
