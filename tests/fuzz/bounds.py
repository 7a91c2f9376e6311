"""Bounds of work and of tables that no row of datagrams may break."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType

from corfu.config import LinkSettings
from corfu.link import Link
from corfu.link.reassembly import COMPLETED_MAX, PARTIAL_BYTES_MIN
from corfu.link.sending import PEERS_MAX

LINK = LinkSettings(reassembly_bytes_max=1 << 20)
"""A small bound of bodies under way, so that a run meets it all the time."""

STUCK_CPU_S = 20.0
"""CPU time after which one batch of datagrams counts as never ending."""


class BrokenRuleError(AssertionError):
    """A target did what no valid message of that content allows."""


class StuckError(Exception):
    """A datagram kept the receive path busy without an end."""


def check_link(link: Link) -> None:
    """Hold a link to its bounds.

    Raises:
        BrokenRuleError: A table grew beyond its bound.
    """
    reassembly, sending = link._reassembly, link._sending
    partials = reassembly._partials
    held = sum(len(partial.buffer) + PARTIAL_BYTES_MIN for partial in partials.values())
    rules = (
        ("bytes of bodies under way as counted", link.reassembly_bytes == held),
        # One body may stand alone above the bound; a second one evicts it.
        ("bodies under way", held <= LINK.reassembly_bytes_max or len(partials) == 1),
        ("completed transfers", len(reassembly._completed) <= COMPLETED_MAX),
        ("peers", len(sending._peers) <= PEERS_MAX),
        ("asks", link.asks <= LINK.asks_max),
    )
    for what, holds in rules:
        if not holds:
            raise BrokenRuleError(f"{what}: beyond the bound")


@contextlib.contextmanager
def unstuck() -> Iterator[None]:
    """Raise StuckError in the block once it has used `STUCK_CPU_S` of CPU time."""

    def fire(_number: int, _frame: FrameType | None) -> None:
        raise StuckError(f"over {STUCK_CPU_S} s of CPU time")

    before = signal.signal(signal.SIGVTALRM, fire)
    signal.setitimer(signal.ITIMER_VIRTUAL, STUCK_CPU_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0.0)
        signal.signal(signal.SIGVTALRM, before)
