"""The layout: one epoch's configuration, and which chain an offset belongs to.

Pure. What makes a proposed layout a valid successor is decided by the sequencer's state
machine, out of the functions here. "Layout" is the CORFU paper's projection (NSDI 2012,
section 2.2).
"""

from __future__ import annotations

from dataclasses import dataclass

import xxhash

from corfu import schema
from corfu.types import (
    Address,
    Ballot,
    ClusterId,
    Epoch,
    Incarnation,
    Offset,
    Range,
    ReplicaId,
    SyncMode,
    UnitId,
)


@dataclass(frozen=True, slots=True)
class Unit:
    """One storage unit process: its id, the incarnation of its data folder, its address."""

    id: UnitId
    incarnation: Incarnation
    address: Address


@dataclass(frozen=True, slots=True)
class Replica:
    """One sequencer replica: its id, the incarnation of its data folder, its address."""

    id: ReplicaId
    incarnation: Incarnation
    address: Address


@dataclass(frozen=True, slots=True)
class Leader:
    """Who may grant tokens in an epoch: the process that won exactly this ballot."""

    replica: ReplicaId
    ballot: Ballot


@dataclass(frozen=True, slots=True)
class Segment:
    """An offset range `[start, end)` and its chains; `end` is None for the open segment.

    A chain lists unit ids from head to tail unit. An empty chain in a closed segment was
    abandoned: its offsets from the trim mark on are LOST.
    """

    start: Offset
    end: Offset | None
    chains: tuple[tuple[UnitId, ...], ...]

    def holds(self, offset: Offset) -> bool:
        """Tell whether `offset` lies in this segment."""
        return self.start <= offset and (self.end is None or offset < self.end)

    def chain_of(self, offset: Offset) -> tuple[UnitId, ...]:
        """Return the chain of an offset of this segment; () if it has none.

        The index is absolute (offset modulo the number of chains), so merging neighbours with
        equal chains moves no offset to another chain.
        """
        return self.chains[offset % len(self.chains)] if self.chains else ()


@dataclass(frozen=True, slots=True)
class Layout:
    """One epoch's configuration; immutable, activated at most once, never changed.

    `first_offset` is T: the first offset of this epoch. Tokens of the epoch lie at or above it,
    Writes below it are refused.
    """

    cluster: ClusterId
    epoch: Epoch
    first_offset: Offset
    leader: Leader
    replicas: tuple[Replica, ...]
    units: tuple[Unit, ...]
    sync: SyncMode
    min_replicas: int
    segments: tuple[Segment, ...]

    def segment_of(self, offset: Offset) -> Segment:
        """Return the segment that holds `offset` (every offset from 0 on has one)."""
        # From the end: nearly every request is about the open segment.
        for segment in reversed(self.segments):
            if segment.start <= offset:
                return segment
        raise AssertionError(f"offset {offset} lies below the first segment")

    @property
    def open_segment(self) -> Segment:
        """The last segment: the one that grows."""
        return self.segments[-1]

    def chain_of(self, offset: Offset) -> tuple[Unit, ...]:
        """Return the units of an offset's chain, head first; () if its chain is gone."""
        return tuple(self.unit(id_) for id_ in self.segment_of(offset).chain_of(offset))

    def unit(self, id_: UnitId) -> Unit:
        """Return the unit of this id; raises KeyError."""
        for unit in self.units:
            if unit.id == id_:
                return unit
        raise KeyError(id_)

    def replica(self, id_: ReplicaId) -> Replica:
        """Return the replica of this id; raises KeyError."""
        for replica in self.replicas:
            if replica.id == id_:
                return replica
        raise KeyError(id_)

    def chain_units(self, from_offset: Offset) -> tuple[Unit, ...]:
        """Return each unit that stands in a chain of a segment reaching above `from_offset`."""
        ids = {
            id_
            for segment in self.segments
            if segment.end is None or segment.end > from_offset
            for chain in segment.chains
            for id_ in chain
        }
        return tuple(unit for unit in self.units if unit.id in ids)

    def digest(self) -> int:
        """Return xxh3_64 of the canonical encoding: equal layouts, equal digest."""
        return xxhash.xxh3_64_intdigest(schema.pack(self))


def merged(segments: tuple[Segment, ...]) -> tuple[Segment, ...]:
    """Join neighbours with equal chains and leave out empty segments. No offset changes chains."""
    result: list[Segment] = []
    for segment in segments:
        if segment.end is not None and segment.end == segment.start:
            continue
        if result and result[-1].chains == segment.chains:
            result[-1] = Segment(result[-1].start, segment.end, segment.chains)
        else:
            result.append(segment)
    return tuple(result)


def parts(segment: Segment, offsets: Range) -> Range:
    """Return the part of `offsets` that lies in `segment` (possibly empty)."""
    end = offsets.end if segment.end is None else min(offsets.end, segment.end)
    start = max(offsets.start, segment.start)
    return Range(start, max(start, end))


def problems(layout: Layout) -> list[str]:
    """Return what is wrong with a layout by itself; [] for a well-formed one."""
    found: list[str] = []
    ids = [unit.id for unit in layout.units]
    if len(set(ids)) != len(ids):
        found.append("a unit is listed twice")
    if not layout.segments or layout.segments[0].start != 0:
        found.append("the first segment does not start at 0")
    if layout.segments and layout.segments[-1].end is not None:
        found.append("the last segment is not open")
    for before, after in zip(layout.segments, layout.segments[1:], strict=False):
        if before.end != after.start:
            found.append(f"a gap or overlap at {after.start}")
    for segment in layout.segments:
        if segment.end is not None and segment.end <= segment.start:
            found.append(f"the segment at {segment.start} is empty")
        members = [id_ for chain in segment.chains for id_ in chain]
        if len(set(members)) != len(members):
            found.append(f"a unit stands in two places of the segment at {segment.start}")
        found.extend(f"unit {id_} is not listed" for id_ in members if id_ not in ids)
    return found
