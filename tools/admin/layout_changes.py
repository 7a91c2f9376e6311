"""What one layout changed from the one before, in words. Pure."""

from __future__ import annotations

from corfu.layout import Layout, Segment
from corfu.tools.tables import offsets_text
from corfu.types import UnitId


def changes(before: Layout, after: Layout) -> tuple[str, ...]:
    """Return what changed, the most important first; never nothing."""
    found = [
        *_leader(before, after),
        *_replicas(before, after),
        *_units(before, after),
        *_open_chains(before, after),
        *_old_chains(before, after),
        *_merges(before, after),
        *(
            [f"at least {after.min_replicas} units a chain, not {before.min_replicas}"]
            if before.min_replicas != after.min_replicas
            else []
        ),
        *([f"sync {before.sync} -> {after.sync}"] if before.sync != after.sync else []),
    ]
    # The same leader makes one when a unit restarted, to seal it.
    return tuple(found) or ("the same chains",)


def _leader(before: Layout, after: Layout) -> list[str]:
    old, new = before.leader, after.leader
    if old.replica != new.replica:
        return [f"leader {old.replica} -> {new.replica}"]
    return [] if old == new else [f"leader {new.replica} again"]


def _replicas(before: Layout, after: Layout) -> list[str]:
    old = {(each.id, each.incarnation) for each in before.replicas}
    new = {(each.id, each.incarnation) for each in after.replicas}
    return [
        *(f"replica {id_} left" for id_, _ in sorted(old - new)),
        *(f"replica {id_} joined" for id_, _ in sorted(new - old)),
    ]


def _units(before: Layout, after: Layout) -> list[str]:
    """Return which units left and came, by incarnation: a wiped one that returns is another."""
    old = {(unit.id, unit.incarnation) for unit in before.units}
    new = {(unit.id, unit.incarnation) for unit in after.units}
    found = [f"unit {id_} left" for id_, _ in sorted(old - new)]
    for id_, _ in sorted(new - old):
        again = " as a new incarnation" if any(id_ == gone for gone, _ in old) else ""
        found.append(f"unit {id_} joined{_open_place(after, id_)}{again}")
    return found


def _open_place(layout: Layout, id_: UnitId) -> str:
    for number, chain in enumerate(layout.open_segment.chains):
        if id_ in chain:
            return f" chain {number}"
    return ""


def _open_chains(before: Layout, after: Layout) -> list[str]:
    """Return how the chains that take appends changed, beyond units that left or joined."""
    old, new = before.open_segment.chains, after.open_segment.chains
    found: list[str] = []
    if len(old) != len(new):
        found.append(f"{len(old)} -> {len(new)} chains take appends")
    stayed = {u.id for u in before.units} & {u.id for u in after.units}
    was = {id_ for chain in old for id_ in chain}
    now = {id_ for chain in new for id_ in chain}
    found += [f"unit {id_} keeps old entries only" for id_ in sorted((was - now) & stayed)]
    found += [
        f"unit {id_} takes appends again in{_open_place(after, id_)}"
        for id_ in sorted((now - was) & stayed)
    ]
    return found


def _old_chains(before: Layout, after: Layout) -> list[str]:
    """Return what happened to the offsets below T: who got old entries, what was abandoned."""
    found: list[str] = []
    for segment in before.segments:
        if segment.start >= after.first_offset:
            continue
        # Bounds change by merges only, so all of the old segment lies in one new one.
        end = after.first_offset if segment.end is None else segment.end
        following = after.segment_of(segment.start).chains
        for number, (old, new) in enumerate(zip(segment.chains, following, strict=False)):
            where = f"{offsets_text(segment.start, end)} of chain {number}"
            if old and not new:
                found.append(f"{where} is LOST")
            found += [f"unit {id_} holds {where}, too" for id_ in new if id_ not in old]
    return found


def _merges(before: Layout, after: Layout) -> list[str]:
    ends = {segment.start for segment in after.segments}
    gone = [s for s in before.segments if s.start not in ends and not _empty(s, after)]
    return [f"merged at {segment.start:,}" for segment in gone]


def _empty(segment: Segment, after: Layout) -> bool:
    """Tell whether a segment is gone because nothing was ever granted in it."""
    return segment.end is None and segment.start == after.first_offset
