"""What the replicas' answers say about a cluster. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from corfu.messages import StatusIs, UnitStatus
from corfu.types import Address, Range, ReplicaId

SILENT_MS = 2000
"""A unit or replica not heard for longer counts as down; probes go out several times a second."""

FREE_BYTES_MIN = 256 << 20
"""A unit refuses writes one journal file (32 MiB) before its disk is full: time to act sooner."""


@dataclass(frozen=True, slots=True)
class ReplicaHealth:
    """One replica: what it answered to us, or None."""

    id: ReplicaId | None
    address: Address
    answer: StatusIs | None


@dataclass(frozen=True, slots=True)
class Health:
    """A cluster as one look showed it. `best` is the answer the rest is taken from."""

    best: StatusIs
    leader: StatusIs | None
    replicas: tuple[ReplicaHealth, ...]
    problems: tuple[str, ...]


def leader_of(answers: Sequence[StatusIs]) -> StatusIs | None:
    """Return the answer of the replica that grants; of two, the one in the newer epoch.

    Two can say so: a deposed leader that does not know it yet is harmless, its epoch is sealed.
    """
    granting = [answer for answer in answers if answer.granting]
    return max(granting, key=lambda answer: answer.layout.epoch, default=None)


def assess(asked: Sequence[Address], answers: Sequence[StatusIs]) -> Health:
    """Judge a cluster by the answers of its replicas; `answers` must not be empty."""
    leader = leader_of(answers)
    best = leader or max(answers, key=lambda answer: answer.applied)
    replicas = _replicas(asked, answers, best)
    problems = [
        *([] if leader else ["no replica leads: nothing can be appended now"]),
        *(
            f"replica {replica.id} at {replica.address} does not answer"
            if replica.id is not None
            else f"no member is at {replica.address}: take it out of the cluster string"
            for replica in replicas
            if replica.answer is None
        ),
        *(problem for unit in best.units for problem in _unit_problems(best, unit)),
        *([] if best.pending_epoch is None else [f"epoch {best.pending_epoch} is being made"]),
        *([] if any(best.layout.open_segment.chains) else ["no chain takes appends"]),
        *_short_chains(best),
        *(
            f"unit {each.unit} is being rebuilt: offsets {each.start} to {each.end - 1}, "
            f"{percent(each.reached - each.start, each.end - each.start)} %"
            for each in best.rebuilds
        ),
        *(f"lost: {_range(lost)}" for lost in best.lost),
        *_abandoned(best),
    ]
    return Health(best, leader, replicas, tuple(problems))


def is_up(unit: UnitStatus) -> bool:
    """Tell whether a unit answered its replica lately."""
    return unit.heard_ms is not None and unit.heard_ms <= SILENT_MS


def _replicas(
    asked: Sequence[Address], answers: Sequence[StatusIs], best: StatusIs
) -> tuple[ReplicaHealth, ...]:
    by_id = {answer.replica: answer for answer in answers}
    members = {replica.id: replica.address for replica in best.layout.replicas}
    known = [ReplicaHealth(id_, address, by_id.get(id_)) for id_, address in members.items()]
    strangers = [
        ReplicaHealth(None, address, None) for address in asked if address not in members.values()
    ]
    return (*known, *strangers)


def _unit_problems(best: StatusIs, unit: UnitStatus) -> list[str]:
    name = f"storage unit {unit.unit} at {unit.address}"
    if unit.heard_ms is None:
        return [f"{name} has never answered"]
    if not is_up(unit):
        return [f"{name} has been silent for {unit.heard_ms / 1000:.1f} s"]
    # A spare is in no epoch before it gets a place, and none is made for it.
    listed = any(each.id == unit.unit for each in best.layout.units)
    said = {
        "has restarted and waits for a new epoch": unit.restarted and listed,
        "holds records in doubt": unit.doubt,
        "takes no writes: it saw a conflict": unit.frozen,
        f"is still in epoch {unit.epoch}": unit.epoch < best.layout.epoch and listed,
        f"has only {unit.free_bytes >> 20} MiB of free disk": unit.free_bytes < FREE_BYTES_MIN,
    }
    return [f"{name} {what}" for what, holds in said.items() if holds]


def _short_chains(best: StatusIs) -> list[str]:
    """Return what the open segment lacks of full redundancy."""
    chains, wanted = best.layout.open_segment.chains, best.wanted_replicas
    found = [
        f"chain {number} has {len(chain)} units instead of {wanted}"
        for number, chain in enumerate(chains)
        if len(chain) < wanted
    ]
    if 0 < len(chains) < best.wanted_chains:
        lacking = best.wanted_chains - len(chains)
        what = "1 chain takes" if lacking == 1 else f"{lacking} chains take"
        found.append(f"{what} no appends: too few units")
    return found


def percent(done: int, all_: int) -> int:
    """Return how many of a hundred are done, rounded down: 100 only when all is."""
    return 100 * done // all_ if all_ else 100


def _abandoned(best: StatusIs) -> list[str]:
    """Return what was lost with chains that were abandoned, as far as it is not trimmed."""
    return [
        f"lost: {_range(Range(max(segment.start, best.trim_mark), segment.end))}, those of chain "
        f"{number} of {len(segment.chains)}, which was abandoned"
        for segment in best.layout.segments
        if segment.end is not None and segment.end > best.trim_mark
        for number, chain in enumerate(segment.chains)
        if not chain
    ]


def _range(offsets: Range) -> str:
    start, last = offsets.start, offsets.end - 1
    return f"offset {start}" if start == last else f"offsets {start} to {last}"
