"""What holds for every test."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest


def pytest_configure() -> None:
    """Hear Ctrl-C, and let processes that tests start hear it, in a job in the background, too.

    A shell starts such a job with SIGINT ignored, which every process inherits.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _signals_restored() -> Iterator[None]:
    """Put signal handlers back: a server run in-process leaves those of its event loop."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.getsignal(number) for number in numbers]
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what tests have counted (the property `figures`), for docs/evidence.md."""
    counted = [
        (report.nodeid, value)
        for report in terminalreporter.getreports("passed")
        for name, value in report.user_properties
        if name == "figures" and report.when == "call"
    ]
    if counted:
        terminalreporter.section("figures")
        for test, value in sorted(counted):
            terminalreporter.write_line(f"{test}: {value}")
