"""System calls that fail in a running process, by libfiu."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from corfu.tools.processes import Process, Program, Role
from tests.integration.running import DEADLINE_S


class FailingCalls:
    """Starts programs so that calls of theirs can be made to fail at any time."""

    def __init__(self, folder: Path, *roles: Role) -> None:
        """Make it for all programs of these roles.

        `folder` is for the pipes over which each process is told.
        """
        self._pipes = folder / "fiu"
        self._roles = roles

    def alter(self, program: Program) -> Program:
        """Return how to start a program; see `local_cluster`."""
        if program.role not in self._roles:
            return program
        argv = ("fiu-run", "-x", "-f", str(self._pipes), *program.argv)
        return replace(program, argv=argv)

    def fail(self, process: Process, call: str, number: int) -> None:
        """Let every further call of this kind fail.

        Args:
            process: Who makes the call.
            call: What libfiu calls it, as "posix/io/sync/fdatasync".
            number: The error that the call returns.
        """
        told = subprocess.run(
            [
                *("fiu-ctrl", "-f", str(self._pipes)),
                *("-c", f"enable name={call},failinfo={number}", str(process.pid)),
            ],
            check=True,
            timeout=DEADLINE_S,
            capture_output=True,
            text=True,
        )
        # It does not say by its status that there is nobody to be told.
        assert not told.stdout, told.stdout


def require_failing_calls() -> None:
    """Skip the test where calls cannot be made to fail."""
    if sys.platform != "linux" or shutil.which("fiu-run") is None:
        pytest.skip("needs fiu-run, to make system calls fail: install fiu-utils")
