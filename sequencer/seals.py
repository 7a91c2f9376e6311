"""What the answers to a seal show: has a unit lost what it held?

Pure. Compares each unit with what the sequencer recorded and with the later units of its chains:
what a unit holds, every unit before it in the chain holds durably.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from corfu.config import BLOCK_OFFSETS
from corfu.layout import Layout, Segment
from corfu.messages import Block, Sealed
from corfu.types import Offset, UnitId

from .state import State


class SealProblem(NamedTuple):
    """Why a layout must not be activated. `lost`: the unit that has lost what it held, if one."""

    text: str
    lost: UnitId | None = None


def seal_problems(
    state: State, layout: Layout, sealed: Mapping[UnitId, Sealed]
) -> list[SealProblem]:
    """Return why the layout must not be activated with these units; [] if it may.

    Args:
        state: The applied state; its active layout is the one before.
        layout: The pending intent's layout.
        sealed: The answers, by unit; they cover the chains that reach above closed_until.
    """
    return (
        _epochs_lost(state, sealed)
        + _tails_too_high(state, layout, sealed)
        + [
            problem
            for segment in layout.segments
            if segment.end is None or segment.end > state.closed_until
            for index in range(len(segment.chains))
            for problem in _chain_problems(state, segment, index, sealed)
        ]
    )


def _epochs_lost(state: State, sealed: Mapping[UnitId, Sealed]) -> list[SealProblem]:
    # ActivateLayout says that the unit was durably sealed for that epoch; one that knows only an
    # older one has lost its disk's content, or got an old copy of it back.
    return [
        SealProblem(
            f"unit {before.unit} was sealed for epoch {before.epoch} and now says "
            f"{answer.epoch_before}: it has lost state",
            before.unit,
        )
        for before in state.sealed_for
        if (answer := sealed.get(before.unit)) is not None
        and answer.incarnation == before.incarnation
        and answer.epoch_before < before.epoch
    ]


def _tails_too_high(
    state: State, layout: Layout, sealed: Mapping[UnitId, Sealed]
) -> list[SealProblem]:
    """Return which units hold offsets that were never granted."""
    high = [
        id_ for id_, answer in sorted(sealed.items()) if answer.local_tail > state.reserved_until
    ]
    chains = {
        index
        for index, chain in enumerate(layout.open_segment.chains)
        if any(id_ in chain for id_ in high)
    }
    if len(chains) > 1:
        # One unit may be damaged; several chains at once hold what this group granted and has
        # forgotten. To jump ahead would hide that.
        return [
            SealProblem(
                f"units {high} of several chains hold offsets above {state.reserved_until}: "
                "the sequencer has lost its own state"
            )
        ]
    return [
        SealProblem(f"unit {id_} holds offsets above {state.reserved_until}: damaged", id_)
        for id_ in high
    ]


def _chain_problems(
    state: State, segment: Segment, index: int, sealed: Mapping[UnitId, Sealed]
) -> list[SealProblem]:
    chain = segment.chains[index]
    found: list[SealProblem] = []
    for position, earlier_id in enumerate(chain):
        earlier = sealed.get(earlier_id)
        # With doubt that it cannot name a unit may hold anything: the doubt is settled later.
        if earlier is None or earlier.doubt:
            continue
        for later_id in chain[position + 1 :]:
            later = sealed.get(later_id)
            if later is None:
                continue
            found += _compare(state, segment, index, earlier, later)
    return found


def _compare(
    state: State, segment: Segment, index: int, earlier: Sealed, later: Sealed
) -> list[SealProblem]:
    """Return what the earlier unit lacks, or has otherwise, that the later one soundly holds."""
    blocks = {block.number: block for block in earlier.blocks}
    start = max(
        segment.start, state.closed_until, earlier.closed_until, earlier.trim_mark,
        later.closed_until,
    )  # fmt: skip
    for theirs in later.blocks:
        mask = _mask(segment, index, theirs.number, start)
        own = blocks.get(theirs.number)
        held = int.from_bytes(own.bitmap, "little") if own is not None else 0
        named = _named(own)
        lacking = int.from_bytes(theirs.bitmap, "little") & mask & ~held & ~named
        if lacking:
            offset = theirs.number * BLOCK_OFFSETS + (lacking & -lacking).bit_length() - 1
            return [
                SealProblem(
                    f"unit {earlier.unit} does not hold offset {offset}, which unit {later.unit} "
                    "after it in the chain holds: it has lost state",
                    earlier.unit,
                )
            ]
        if own is not None and own.bitmap == theirs.bitmap and own.digest != theirs.digest:
            return [
                SealProblem(
                    f"units {earlier.unit} and {later.unit} hold different values between "
                    f"{theirs.number * BLOCK_OFFSETS} and {(theirs.number + 1) * BLOCK_OFFSETS}"
                )
            ]
    return []


def _named(block: Block | None) -> int:
    """Return the offsets held damaged or in doubt, as a bitmap."""
    bits = 0
    if block is not None:
        for offset in block.named:
            place = offset - block.number * BLOCK_OFFSETS
            if 0 <= place < BLOCK_OFFSETS:
                bits |= 1 << place
    return bits


def _mask(segment: Segment, index: int, number: int, start: Offset) -> int:
    """Return which offsets of a block are the chain's, at or above `start`, as a bitmap."""
    step = len(segment.chains)
    first = number * BLOCK_OFFSETS
    end = first + BLOCK_OFFSETS if segment.end is None else min(first + BLOCK_OFFSETS, segment.end)
    begin = max(first, start)
    begin += (index - begin) % step
    bits = 0
    for offset in range(begin, end, step):
        bits |= 1 << (offset - first)
    return bits
