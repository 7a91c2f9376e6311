"""Ctrl-C while the `corfu` command still loads: it ends with 130 and says nothing."""

import subprocess
import sys

import pytest

INTERRUPTING = """
import os, signal, sys
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Finder())
sys.argv = ["corfu", "tail", "--cluster", "127.0.0.1:9", "--timeout", "0.1"]
from corfu.tools.__main__ import main
main()
"""


@pytest.mark.parametrize(
    "module", ["click", "corfu.tools.failure", "corfu.tools.data", "corfu.client.connecting"]
)
def test_interrupt_while_a_module_is_imported_ends_it_in_silence(module: str) -> None:
    script = INTERRUPTING.format(module=module)
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, timeout=60, check=False
    )
    assert (result.returncode, result.stdout, result.stderr) == (130, b"", b"")


def test_ignored_interrupts_stay_ignored_while_it_loads() -> None:
    script = "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n"
    script += INTERRUPTING.format(module="click")
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, timeout=60, check=False
    )
    assert result.returncode == 3, "no replica answers"
    assert result.stderr.startswith(b"corfu: ")
