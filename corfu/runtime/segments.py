"""Datagrams that may leave in one system call: runs of equal length to one address.

Linux cuts one buffer into datagrams of a length that the socket was told (UDP_SEGMENT), and joins
what arrives (UDP_GRO). Frames tell their own length, so what was joined is read as it is. Measured
in docs/performance.md. Pure but for the probe of what the system can do.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

from corfu.types import Address

UDP_SEGMENT = 103
UDP_GRO = 104
"""From linux/udp.h; the socket module does not name them before Python 3.12 or so."""

RUN_DATAGRAMS_MAX = 64
"""What every kernel with UDP_SEGMENT takes (UDP_MAX_SEGMENTS before Linux 6.9)."""

RUN_BYTES_MAX = 65_000


class Run(NamedTuple):
    """One send: `data` is cut every `segment` bytes; 0: it is one datagram. so many datagrams."""

    data: bytes
    to: Address
    segment: int
    datagrams: int


class Options(Protocol):
    """A socket of which options are set."""

    def setsockopt(self, level: int, option: int, value: int, /) -> None:
        """Set an option; raises OSError if there is none of that kind."""
        ...


def runs(datagrams: Sequence[tuple[bytes, Address]]) -> Iterator[Run]:
    """Yield all datagrams in their order, neighbours that may leave together as one run.

    All of a run but the last one have the same length, and the last one is no longer.
    """
    group: list[bytes] = []
    to: Address | None = None
    segment = total = 0
    open_ = False
    for data, target in datagrams:
        size = len(data)
        joins = (
            open_
            and target == to
            and 0 < size <= segment
            and total + size <= RUN_BYTES_MAX
            and len(group) < RUN_DATAGRAMS_MAX
        )
        if not joins:
            if to is not None:
                yield _run(group, to, segment)
            group, to, segment, total = [], target, size, 0
        group.append(data)
        total += size
        # A shorter one ends its run: the kernel cuts at equal distances.
        open_ = size == segment
    if to is not None:
        yield _run(group, to, segment)


def _run(group: list[bytes], to: Address, segment: int) -> Run:
    if len(group) == 1:
        return Run(group[0], to, 0, 1)
    return Run(b"".join(group), to, segment, len(group))


def cut_sent(own: Options, segment: int) -> bool:
    """Let the system cut what this socket sends every `segment` bytes; 0: not at all.

    Tells whether it does; never raises.
    """
    return _set(own, UDP_SEGMENT, segment)


def join_received(own: Options) -> bool:
    """Let the system join what this socket receives; tells whether it does."""
    return _set(own, UDP_GRO, 1)


def _set(own: Options, option: int, value: int) -> bool:
    try:
        own.setsockopt(socket.IPPROTO_UDP, option, value)
    except OSError:
        return False
    return True
