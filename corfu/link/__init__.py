"""The link: requests, repeated until answered, over datagrams that get lost. No I/O in here.

`core` is what a driver holds. `sending` has the requests and large bodies under way, over `peer`
(round trips, window, retry budget), `transfer` (fragments sent and held), `timers` and `outbox`
(frames into datagrams). `reassembly` is the receiving side, `control` what links say to each
other, `counters` what an operator wants to know.
"""

from __future__ import annotations

from corfu.link.core import Delivery, Link
from corfu.link.counters import LinkCounters

__all__ = ["Delivery", "Link", "LinkCounters"]
