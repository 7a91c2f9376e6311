"""What a link counts: for operators and for tests, never for a decision."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass(slots=True)
class LinkCounters:
    """Totals since the link was made.

    Attributes:
        retransmits: Requests and fragments sent again.
        probes: Questions about what of a transfer has arrived.
        deferred: Repetitions put off because the retry budget was used up.
        expired: Requests that ended without a reply.
        refused: Requests not taken because the table was full.
        abandoned: One-way transfers given up.
        drops: Received bytes that were no use, by reason: short, foreign, malformed, digest,
            cluster, kind, body, fragment, evicted, late.
    """

    datagrams_in: int = 0
    datagrams_out: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    frames_in: int = 0
    frames_out: int = 0
    messages_in: int = 0
    retransmits: int = 0
    probes: int = 0
    deferred: int = 0
    expired: int = 0
    refused: int = 0
    abandoned: int = 0
    drops: Counter[str] = field(default_factory=Counter)
