"""How commands print to people: tables, places in chains, offsets, sizes. Pure but for rich."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from corfu.types import Incarnation, Offset, UnitId

WIDTH_IN_FILES = 160
"""Columns of a table that goes to no terminal: rich would take 80 and cut what does not fit."""


def table_console() -> Console:
    """Return what prints tables to the standard output."""
    plain = Console(highlight=False)
    return plain if plain.is_terminal else Console(highlight=False, width=WIDTH_IN_FILES)


def counted(count: int, noun: str) -> str:
    """Return a count and its noun."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def plain_table(*headings: str) -> Table:
    """Return an empty table without lines."""
    table = Table(box=None, pad_edge=False)
    for heading in headings:
        # Folded, where a terminal is narrow, not cut: an address without its end is of no use.
        table.add_column(heading, overflow="fold")
    return table


def place_text(number: int, index: int, chain: Sequence[UnitId]) -> str:
    """Return a unit's place in the chain of this number, such as `0 head`."""
    if len(chain) == 1:
        return f"{number} head, tail"
    role = {0: "head", len(chain) - 1: "tail"}.get(index, "")
    return f"{number} {role}".rstrip()


def offsets_text(start: Offset, end: Offset | None) -> str:
    """Return a range as people say it: both ends included."""
    return f"from {start:,} on" if end is None else f"{start:,} to {end - 1:,}"


def lost_text(start: Offset, end: Offset) -> str:
    """Return a range with its noun: `offset 3`, `offsets 3 to 9`."""
    return f"offset {start:,}" if end - start == 1 else f"offsets {offsets_text(start, end)}"


def chain_text(chain: Sequence[UnitId]) -> str:
    """Return a chain, head first; one without units was abandoned."""
    return "-".join(map(str, chain)) if chain else "LOST"


def short(incarnation: Incarnation) -> str:
    """Return enough of an incarnation to tell it from others."""
    return incarnation.hex()[:8]


def gigabytes(count: int) -> str:
    """Return a size of disk."""
    return f"{count / 1e9:.1f} GB"


def mebibytes(count: int) -> str:
    """Return a size of files, whose lengths are powers of two."""
    return f"{count / (1 << 20):,.1f} MiB"
