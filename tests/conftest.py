"""What holds for every test."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from itertools import chain, zip_longest

import pytest

_COMPUTES = ("sim", "crash", "exhaustive", "fuzz", "planted")
"""Folders whose tests take seconds of a processor each, and never wait."""


def pytest_configure() -> None:
    """Hear Ctrl-C, and let processes that tests start hear it, in a job in the background, too.

    A shell starts such a job with SIGINT ignored, which every process inherits.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Spread over processes, begin with what takes long: nobody is left alone with it at the end.

    What mostly waits (real processes) goes beside what computes, or either the processors idle or
    the waiting becomes longer than it need be. One process keeps the order of the files.
    """
    if not hasattr(config, "workerinput"):
        return
    waits = [item for item in items if item.get_closest_marker("processes")]
    computes = [item for item in items if item.path.parent.name in _COMPUTES]
    first = _merged(waits, computes)
    early = set(first)
    items[:] = [*first, *(item for item in items if item not in early)]


def _merged(one: Sequence[pytest.Item], other: Sequence[pytest.Item]) -> list[pytest.Item]:
    """Return the items of both in their orders, spread evenly through each other."""
    fewer, more = sorted((one, other), key=len)
    each = max(1, -(-len(more) // max(1, len(fewer))))
    parts = (more[at : at + each] for at in range(0, len(more), each))
    pairs = zip_longest(((item,) for item in fewer), parts, fillvalue=())
    return list(chain.from_iterable(chain.from_iterable(pairs)))


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
