"""The link: requests, repeated until answered, over datagrams that get lost. No I/O in here.

`core` is what a driver holds, `peer` what is known of one address (round trips, window, retry
budget), `transfer` sends a large body, `reassembly` puts fragments together, `control` is what
links say to each other, `counters` what an operator wants to know.
"""

from __future__ import annotations

from corfu.link.core import Delivery, Link
from corfu.link.counters import LinkCounters

__all__ = ["Delivery", "Link", "LinkCounters"]
