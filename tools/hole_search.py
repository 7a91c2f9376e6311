"""Finding the offsets that are not whole on their chain: what each unit says, put together."""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from corfu.config import BLOCK_OFFSETS
from corfu.layout import Layout, Segment, Unit, parts
from corfu.messages import Inspect, Inspected, TailSample
from corfu.types import Offset, Range, State, UnitId

from .asking import Asker

INSPECT_S = 1.0
"""A unit that is silent for so long is not asked again in the same search."""


class HoleState(enum.Enum):
    """Why an offset is not whole."""

    HOLE = "hole"
    """EMPTY on all units: nobody has written it, or its writer is under way."""
    HALF_WRITTEN = "half-written"
    """The head has decided; a later unit has yet to hold it."""
    DAMAGED = "damaged"
    """A unit holds it damaged or in doubt, or lacks what a later one holds."""
    UNKNOWN = "unknown"
    """The head does not answer, and no unit says that it is damaged."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What an offset is, and for which unit it waits; a hole waits for its writer, or a fill."""

    state: HoleState
    waits_for: UnitId | None


@dataclass(frozen=True, slots=True)
class Age:
    """How long ago an offset was granted; `at_least`: by an earlier leader, so longer ago."""

    ms: int
    at_least: bool


@dataclass(frozen=True, slots=True)
class HoleRun:
    """Offsets of one chain that follow each other in it and share a verdict.

    Attributes:
        start: The first of them.
        end: 1 + the last one.
        count: How many they are.
        chain: Number of their chain in its segment.
        units: The units of the chain, head first.
        verdict: What they are.
        age: Of the first one: the oldest.
    """

    start: Offset
    end: Offset
    count: int
    chain: int
    units: tuple[UnitId, ...]
    verdict: Verdict
    age: Age


def judge(chain: Sequence[UnitId], states: Sequence[State | None]) -> Verdict | None:
    """Return what an offset is by what its chain's units say of it; None if it is whole.

    A state of None: the unit does not answer.
    """
    for id_, state in zip(chain, states, strict=True):
        if state is State.DAMAGED:
            return Verdict(HoleState.DAMAGED, id_)
    lacking = [at for at, state in enumerate(states) if state is None or state is State.EMPTY]
    if not lacking:
        return None
    first = lacking[0]
    # What a unit holds, every unit before it holds: one that soundly lacks it has lost it.
    if states[first] is State.EMPTY and any(_held(state) for state in states[first:]):
        return Verdict(HoleState.DAMAGED, chain[first])
    if first > 0:
        return Verdict(HoleState.HALF_WRITTEN, chain[first])
    if states[0] is None:
        return Verdict(HoleState.UNKNOWN, chain[0])
    return Verdict(HoleState.HOLE, None)


def _held(state: State | None) -> bool:
    return state is not None and state is not State.EMPTY


def age_of(samples: Sequence[TailSample], offset: Offset) -> Age:
    """Return how long ago an offset was granted, by a leader's samples of its tail."""
    if not samples:
        return Age(0, at_least=True)
    if offset < samples[0].tail:
        return Age(samples[0].ago_ms, at_least=True)
    for sample in reversed(samples):
        if sample.tail <= offset:
            return Age(sample.ago_ms, at_least=False)
    raise AssertionError("the first sample lies at or below the offset")


class HoleSearch:
    """Asks the units of a layout block by block, and joins what is not whole into runs."""

    def __init__(
        self, asker: Asker, layout: Layout, samples: Sequence[TailSample], older_than_ms: int
    ) -> None:
        """Prepare a search.

        Args:
            asker: Reaches the units.
            layout: Says which chain an offset belongs to.
            samples: Say how old it is.
            older_than_ms: Younger offsets count as on their way.
        """
        self._asker = asker
        self._layout = layout
        self._samples = samples
        self._older_than_ms = older_than_ms
        self._silent: set[UnitId] = set()
        self._open: dict[tuple[Offset, int], HoleRun] = {}
        self._runs: list[HoleRun] = []

    @property
    def silent(self) -> frozenset[UnitId]:
        """Units that did not answer, or not as the incarnation that the layout names."""
        return frozenset(self._silent)

    async def run(self, span: Range, on_block: Callable[[int], None]) -> tuple[HoleRun, ...]:
        """Return what is not whole in `span`, ascending; `on_block` hears how much was seen."""
        start = span.start
        while start < span.end:
            end = Offset(min(span.end, (start // BLOCK_OFFSETS + 1) * BLOCK_OFFSETS))
            await self._block(Range(start, end))
            on_block(end - start)
            start = end
        found = [*self._runs, *self._open.values()]
        return tuple(sorted(found, key=lambda run: (run.start, run.chain)))

    async def _block(self, block: Range) -> None:
        pieces = [
            (segment, part)
            for segment in self._layout.segments
            if (part := parts(segment, block)).start < part.end
        ]
        wanted = {id_ for segment, _ in pieces for chain in segment.chains for id_ in chain}
        units = [unit for unit in self._layout.units if unit.id in wanted - self._silent]
        answers = await asyncio.gather(*(self._inspect(unit, block) for unit in units))
        held = {
            unit.id: answer
            for unit, answer in zip(units, answers, strict=True)
            if answer is not None
        }
        self._silent.update(unit.id for unit in units if unit.id not in held)
        for segment, part in pieces:
            self._judge_part(segment, part, held)

    def _judge_part(
        self, segment: Segment, part: Range, held: dict[UnitId, dict[Offset, State]]
    ) -> None:
        for number in range(part.start, part.end) if segment.chains else ():
            offset = Offset(number)
            index = offset % len(segment.chains)
            chain = segment.chains[index]
            # An abandoned chain's offsets are LOST: decided.
            states = [held[id_].get(offset, State.EMPTY) if id_ in held else None for id_ in chain]
            verdict = judge(chain, states) if chain else None
            if verdict is not None:
                self._add(segment, index, offset, verdict)

    def _add(self, segment: Segment, index: int, offset: Offset, verdict: Verdict) -> None:
        age = age_of(self._samples, offset)
        if age.ms < self._older_than_ms:
            return
        place = (segment.start, index)
        run = self._open.get(place)
        step = len(segment.chains)
        if run is not None and run.end - 1 + step == offset and run.verdict == verdict:
            self._open[place] = replace(run, end=Offset(offset + 1), count=run.count + 1)
            return
        if run is not None:
            self._runs.append(run)
        self._open[place] = HoleRun(
            offset, Offset(offset + 1), 1, index, segment.chains[index], verdict, age
        )

    async def _inspect(self, unit: Unit, block: Range) -> dict[Offset, State] | None:
        """Return the state of each offset of a block that a unit knows anything of."""
        known: dict[Offset, State] = {}
        at = block.start
        while at < block.end:
            message = Inspect(self._asker.new_request(), at, block.end)
            reply = await self._asker.ask(unit.address, message, INSPECT_S)
            if not isinstance(reply, Inspected) or reply.start != at or reply.end <= at:
                return None
            if (reply.unit, reply.incarnation) != (unit.id, unit.incarnation):
                return None
            trimmed = range(at, min(reply.end, max(at, reply.trim_mark)))
            known |= {Offset(offset): State.TRIMMED for offset in trimmed}
            known |= {each.offset: each.state for each in reply.offsets if not each.tentative}
            at = reply.end
        return known
