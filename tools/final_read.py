"""The log as it is when every operation has ended: read whole, and compared on every unit."""

from __future__ import annotations

from corfu.errors import LostError, TrimmedError
from corfu.layout import Layout
from corfu.log import Log
from corfu.messages import Inspect, Inspected, InspectedOffset, Reason, Refused
from corfu.ports import UnansweredError
from corfu.runtime.driver import Driver
from corfu.types import Address, Offset, State

from .operations import FinalLog
from .records import key_of

_BEGIN = Offset(0)

INSPECTED_OFFSETS = 1024
INSPECT_BUDGET_S = 5.0
_BUSY_MAX = 100
_BUSY_S = 0.05


class FinalLogError(Exception):
    """What the log gave, or a unit holds, cannot be: a rule was broken."""


async def read_whole(log: Log, start: Offset = _BEGIN) -> FinalLog:
    """Scan all of the log; every operation of the history must have ended.

    Args:
        log: Others may go on appending to it.
        start: What lies below is not looked at.

    Raises:
        FinalLogError: The log contradicts itself.
    """
    tail = await log.tail()
    trim_mark = _BEGIN
    while True:
        entries: dict[int, list[str]] = {}
        lost: list[tuple[int, int]] = []
        try:
            await _scan(log, max(start, trim_mark), tail, entries, lost)
        except TrimmedError as error:
            if error.trim_mark <= trim_mark:
                raise FinalLogError(f"trimmed at {error.offset}, below no mark") from error
            trim_mark = error.trim_mark
            continue
        break
    gone = {offset for start, end in lost for offset in range(start, end)}
    junk = frozenset(
        offset
        for offset in range(max(start, trim_mark), tail)
        if offset not in entries and offset not in gone
    )
    return FinalLog(
        entries={offset: tuple(keys) for offset, keys in entries.items()},
        tail=tail,
        junk=junk,
        trimmed_below=trim_mark,
        lost=tuple(lost),
        start=start,
    )


async def _scan(
    log: Log,
    start: Offset,
    tail: Offset,
    entries: dict[int, list[str]],
    lost: list[tuple[int, int]],
) -> None:
    """Read `[start, tail)`, noting what is lost on the way."""
    while start < tail:
        try:
            async for record in log.scan(start, tail):
                entries.setdefault(record.position.offset, []).append(key_of(record.data))
        except LostError as error:
            lost.append((error.offset, error.offset + 1))
            start = Offset(error.offset + 1)
            continue
        return


async def compare_units(driver: Driver, layout: Layout, final: FinalLog) -> None:
    """Check that every unit of a chain holds, durably, exactly what the log showed.

    Raises:
        FinalLogError: One does not, or does not answer.
    """
    lost = {offset for start, end in final.lost for offset in range(start, end)}
    for unit in layout.units:
        held = await _inspect(driver, unit.address, final)
        for segment in layout.segments:
            end = final.tail if segment.end is None else min(segment.end, final.tail)
            for offset in range(max(segment.start, final.trimmed_below), end):
                if offset in lost or unit.id not in segment.chain_of(Offset(offset)):
                    continue
                state = held[offset].state if offset in held else State.EMPTY
                wanted = State.JUNK if offset in final.junk else State.DATA
                if state is not wanted:
                    raise FinalLogError(
                        f"unit {unit.id} has {state.name} at {offset}, not {wanted.name}"
                    )


async def _inspect(driver: Driver, address: Address, final: FinalLog) -> dict[int, InspectedOffset]:
    held: dict[int, InspectedOffset] = {}
    at = final.trimmed_below
    while at < final.tail:
        end = Offset(min(at + INSPECTED_OFFSETS, final.tail))
        reply = await _inspect_part(driver, address, Offset(at), end)
        held |= {each.offset: each for each in reply.offsets if not each.tentative}
        at = reply.end
    return held


async def _inspect_part(driver: Driver, address: Address, start: Offset, end: Offset) -> Inspected:
    for _ in range(_BUSY_MAX):
        request = Inspect(driver.new_request(), start, end)
        try:
            reply = await driver.ask(address, request, INSPECT_BUDGET_S)
        except UnansweredError as error:
            raise FinalLogError(f"the unit at {address} does not say what it holds") from error
        if isinstance(reply, Inspected):
            return reply
        if not isinstance(reply, Refused) or reply.reason is not Reason.BUSY:
            raise FinalLogError(f"the unit at {address} does not say what it holds: {reply}")
        await driver.sleep(_BUSY_S)
    raise FinalLogError(f"the unit at {address} stays busy")
