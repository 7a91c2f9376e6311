"""What an offset holds, as the reading procedures hand it on."""

from __future__ import annotations

from dataclasses import dataclass

from corfu.types import Offset, State


@dataclass(frozen=True, slots=True)
class Value:
    """What one offset holds for ever: records for DATA, none for JUNK, TRIMMED and LOST.

    `size` is that of the entry in bytes.
    """

    offset: Offset
    state: State
    records: tuple[bytes, ...] = ()
    size: int = 0
