"""What an offset holds, as the reading procedures hand it on."""

from __future__ import annotations

from typing import NamedTuple

from corfu.types import Offset, State


class Value(NamedTuple):
    """What one offset holds for ever: records for DATA, none for JUNK, TRIMMED and LOST.

    `size` is that of the entry in bytes, `timestamp_us` what its client's clock said when it was
    packed. A tuple: one is made for every offset read.
    """

    offset: Offset
    state: State
    records: tuple[bytes, ...] = ()
    size: int = 0
    timestamp_us: int = 0
