"""Constants of the protocol, and the settings that clients and both servers share.

Settings are frozen, carry their unit in each name, and are checked once, when they are made.
"""

from __future__ import annotations

from dataclasses import dataclass

ENTRY_BYTES_MAX = 1 << 20
"""Largest entry: its encoded body, records and all."""

BURST_BYTES_MAX = 64 << 10
"""A message up to this size leaves in one burst, unacknowledged; larger ones are transferred."""

PART_BYTES_MAX = BURST_BYTES_MAX - 256
"""What one part of an answer to a Read takes, beside its head: it leaves in one burst. A Read that
asks for more is answered in parts."""

HELD_MAX = 1024
"""Most held offsets in one fill list, and most offsets in one Copy or Inspect."""

NOTICE_ENTRIES_MAX = 40
"""Most entries in one `Durable`: it fits a datagram of 1,200 bytes, so it is never a transfer."""

BLOCK_OFFSETS = 1024
"""Offsets per block in a unit's report of what it holds."""

WINDOW_OFFSETS_MAX = 1 << 20
"""Largest window a leader reserves at once. A unit believes a token one such window ahead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkSettings:
    """How requests travel over datagrams. Sources: RFC 6298 (timers), RFC 8085 (UDP usage)."""

    datagram_bytes_max: int = 1200
    """Largest UDP payload sent. 1,200 passes every path; larger only where the MTU is known."""

    retransmit_s_initial: float = 0.1
    """Timeout before the first round trip to a peer was measured."""

    retransmit_s_min: float = 0.03
    retransmit_s_max: float = 2.0
    window_bytes_initial: int = 512 << 10
    window_bytes_min: int = 64 << 10
    window_bytes_max: int = 8 << 20
    """Bytes of requests in flight to one peer; grows and shrinks by AIMD."""

    retry_budget_ratio: float = 0.1
    """Retransmissions per first send allowed in the long run, beyond a small allowance."""

    retry_budget_burst: int = 64
    reassembly_bytes_max: int = 32 << 20
    reassembly_s_max: float = 10.0
    transfer_s_max: float = 5.0
    """A large one-way message (a forwarded entry) is given up after this time."""

    asks_max: int = 65536
    """Most requests waiting for an answer; more are refused to the caller."""

    def __post_init__(self) -> None:
        if not 256 <= self.datagram_bytes_max <= 65507:
            raise ValueError("datagram_bytes_max must be in [256, 65507]")
        if not 0 < self.retransmit_s_min <= self.retransmit_s_max:
            raise ValueError("retransmit_s_min must be above 0 and at most retransmit_s_max")


LOOPBACK_DATAGRAM_BYTES_MAX = 65_000
"""Default of `datagram_bytes_max` where every peer is on loopback, whose MTU is 65,536.

An entry of the usual size and all that stands beside it is one datagram.
"""
