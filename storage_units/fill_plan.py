"""What a fill means, offset by offset: at the head out of what it holds, after it out of a list.

Pure: looks at the store, changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

from corfu.config import HELD_MAX
from corfu.messages import FillList, HeldOffset
from corfu.types import JUNK_ID, OFFSET_MAX, Digest, Epoch, Offset, Range, State

from .standing import Seat
from .store import Store

LIST_OFFSETS_MAX = 65536
"""Most offsets of junk in one list: bounds the work that one message can ask for."""


class Runs:
    """Joins offsets that follow each other in a chain into ranges."""

    def __init__(self, step: int) -> None:
        self._step = step
        self._runs: list[Range] = []

    def add(self, offset: Offset) -> None:
        """Add an offset above all before it."""
        runs = self._runs
        if runs and runs[-1].end - 1 + self._step == offset:
            runs[-1] = Range(runs[-1].start, Offset(offset + 1))
        else:
            runs.append(Range(offset, Offset(offset + 1)))

    def ranges(self) -> tuple[Range, ...]:
        """Return the ranges; each starts at, and ends right after, an offset of the chain."""
        return tuple(self._runs)


@dataclass(frozen=True, slots=True)
class HeadPlan:
    """The head's decision for `[start, end)`.

    Attributes:
        end: Where it ends; not past what a list may hold, nor past damage.
        junk: Ranges in which each offset of the chain is, or becomes, junk.
        empty: Those parts of them where junk has yet to be stored.
        held: All else that is not trimmed.
        unnamed: Offsets whose id must be read first; then the plan is not complete.
    """

    end: Offset
    junk: tuple[Range, ...]
    empty: tuple[Range, ...]
    held: tuple[HeldOffset, ...]
    unnamed: tuple[Offset, ...]


def plan_at_head(
    store: Store, seat: Seat, start: Offset, end: Offset, offsets_max: int
) -> HeadPlan:
    """Decide a fill of `[start, end)`.

    Rule "a range fill is turned by the head into an explicit list": what is junk is said for
    each offset, here and nowhere else. "Junk where EMPTY", applied by each unit for itself, would
    make junk on a later unit of a value that only the head holds yet.

    A record that waits for its fsync counts as held; the list waits with it.
    """
    junk, empty = Runs(seat.step), Runs(seat.step)
    held: list[HeldOffset] = []
    unnamed: list[Offset] = []
    trimmed_below = store.standing.trim_mark
    for looked_at, number in enumerate(seat.offsets(max(start, trimmed_below), end)):
        offset = Offset(number)
        if looked_at == offsets_max or len(held) + len(unnamed) == HELD_MAX:
            return HeadPlan(offset, junk.ranges(), empty.ranges(), tuple(held), tuple(unnamed))
        match store.state_at_head(offset):
            case State.EMPTY:
                junk.add(offset)
                empty.add(offset)
            case State.JUNK:
                junk.add(offset)
            case State.DATA:
                name = store.name(offset)
                if name is None:
                    unnamed.append(offset)
                else:
                    held.append(HeldOffset(offset, State.DATA, name.entry_id, name.digest))
            case State.LOST:
                held.append(HeldOffset(offset, State.LOST, JUNK_ID, Digest(0)))
            case State.DAMAGED:
                # Rule "the range ends before a damaged offset": it must not be filled, since an
                # acknowledged entry may have stood there.
                return HeadPlan(offset, junk.ranges(), empty.ranges(), tuple(held), tuple(unnamed))
            case State.TRIMMED:
                raise AssertionError("the walk begins at the trim mark")
    return HeadPlan(end, junk.ranges(), empty.ranges(), tuple(held), tuple(unnamed))


@dataclass(slots=True)
class ListWork:
    """What a unit after the head still has to do for a list.

    Attributes:
        lacking: Values it must copy from the unit before it.
        empty: Ranges in which junk has yet to be stored.
        lost: Offsets it has not heard to be lost.
        unnamed: Offsets whose id must be read before they can be compared.
        tentative: Offsets where what the head names is tentative here: it is no more.
        conflict: Says what differs from the head's decision; None if nothing does.
    """

    lacking: list[HeldOffset] = field(default_factory=list)
    empty: tuple[Range, ...] = ()
    lost: list[Offset] = field(default_factory=list)
    unnamed: list[Offset] = field(default_factory=list)
    tentative: list[Offset] = field(default_factory=list)
    conflict: str | None = None


def work_of_list(store: Store, seat: Seat, message: FillList) -> ListWork:
    """Compare a list with what is held here."""
    work = ListWork()
    for held in message.held:
        _compare_held(store, held, message.epoch, work)
    empty = Runs(seat.step)
    for run in message.junk:
        for number in range(run.start, run.end, seat.step):
            offset = Offset(number)
            match store.state(offset):
                case State.EMPTY | State.DAMAGED:
                    # Rule "the forwarded value is the repair", junk as well. A tentative entry
                    # of an older epoch gives way: the head lost it, and nobody was shown it.
                    tentative = store.tentative.get(offset)
                    if tentative is not None and tentative.epoch == message.epoch:
                        work.conflict = f"{offset} was forwarded in this epoch, now it is junk"
                    empty.add(offset)
                case State.DATA:
                    work.conflict = f"{offset} holds an entry, the head decided for junk"
                case State.JUNK | State.TRIMMED | State.LOST:
                    pass
    work.empty = empty.ranges()
    return work


def _compare_held(store: Store, held: HeldOffset, epoch: Epoch, work: ListWork) -> None:
    state = store.state(held.offset)
    if state in (State.TRIMMED, State.LOST):
        return
    if held.state is State.LOST:
        work.lost.append(held.offset)
        return
    match state:
        case State.EMPTY | State.DAMAGED:
            tentative = store.tentative.get(held.offset)
            if tentative is None:
                work.lacking.append(held)
            elif tentative.name[:2] == (held.entry_id, held.digest):
                # Every unit above has journalled what the list names.
                work.tentative.append(held.offset)
            elif tentative.epoch == epoch:
                work.conflict = f"{held.offset} was forwarded in this epoch as another entry"
            else:
                work.lacking.append(held)
        case State.JUNK:
            work.conflict = f"{held.offset} holds junk, the head holds {held.entry_id.hex()}"
        case State.DATA:
            name = store.name(held.offset)
            if name is None:
                work.unnamed.append(held.offset)
            elif name[:2] != (held.entry_id, held.digest):
                work.conflict = f"{held.offset} holds another entry than the head"


def list_is_sane(seat: Seat, message: FillList) -> bool:
    """Tell whether a list is well formed: within the range and the chain, ascending, disjoint."""
    if len(message.held) > HELD_MAX or not message.offset < message.end <= OFFSET_MAX:
        return False
    parts: list[Range] = []
    for held in message.held:
        parts.append(Range(held.offset, Offset(held.offset + 1)))
        if held.state not in (State.DATA, State.LOST):
            return False
        if held.state is State.DATA and held.entry_id == JUNK_ID:
            return False
    before = len(parts)
    parts += message.junk
    if any(not run.start < run.end for run in message.junk):
        return False
    if sum((run.end - run.start - 1) // seat.step + 1 for run in message.junk) > LIST_OFFSETS_MAX:
        return False
    if not (_ascending(parts[:before]) and _ascending(parts[before:])):
        return False
    if any(not seat.holds(part.start) for part in parts):
        return False
    if any(part.start < message.offset or part.end > message.end for part in parts):
        return False
    step = seat.step
    in_junk = {o for run in message.junk for o in range(run.start, run.end, step)}
    return not any(held.offset in in_junk for held in message.held)


def _ascending(parts: list[Range]) -> bool:
    return all(a.end <= b.start for a, b in pairwise(parts))
