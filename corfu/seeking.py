"""Finding a time in the log, by what entries say of their time. Pure procedure over reads."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime

from corfu.client.values import Value
from corfu.errors import UsageError
from corfu.types import Offset, State

_RANGE_OFFSETS = 8
"""So few offsets are read at once; each step of the search would cost as much as all of them."""

_REACHES = (4, 32, 256, 2048)
"""How far on both sides of the middle is read, step by step, until there is an entry: where a
reach has none, there are few in the next one, however large they are."""

ReadOne = Callable[[Offset], Awaitable[Value]]
ReadRange = Callable[[Offset, Offset], Awaitable[list[Value]]]


def time_us(time: float | datetime) -> int:
    """Return a time in microseconds since 1970.

    Raises:
        UsageError: It is no time, or a datetime that does not say in which zone.
    """
    if isinstance(time, datetime):
        if time.tzinfo is None:
            raise UsageError(f"{time} names no time zone: there is no telling when that was")
        time = time.timestamp()
    if isinstance(time, bool) or not isinstance(time, int | float):
        raise UsageError(f"a time is seconds since 1970 or a datetime, not {type(time).__name__}")
    if not abs(time) < 1e12:
        raise UsageError(f"{time} is no time")
    return round(time * 1e6)


async def seek_time(
    start: Offset, end: Offset, wanted_us: int, *, one: ReadOne, several: ReadRange
) -> Offset:
    """Return an offset of `[start, end]` where timestamps cross `wanted_us`.

    What holds at each step: the last entry known before `start`, if any, is older than wanted,
    and the first known from `end` on is not. An offset without a time (junk, trimmed, lost) says
    nothing, so its neighbours are looked at: ranges that grow, then single offsets in distances
    that double. So a step takes O(log n) reads at most, and one of offsets with entries takes
    one. Where none of these has a time the search ends at `start`, the early side: nothing that
    is wanted lies before it.
    """
    while end - start > _RANGE_OFFSETS:
        found, all_seen = await _near_middle(start, end, one, several)
        cross = _first_from(found, wanted_us, end)
        if all_seen:
            return cross
        if not found:
            return start
        older = [value.offset for value in found if value.offset < cross]
        start, end = Offset(older[-1] + 1) if older else start, cross
    if start == end:
        return end
    return _first_from(_entries(await several(start, end)), wanted_us, end)


async def _near_middle(
    start: Offset, end: Offset, one: ReadOne, several: ReadRange
) -> tuple[list[Value], bool]:
    """Return entries of `[start, end)` near its middle, and whether they are all it has."""
    middle = Offset((start + end) // 2)
    value = await one(middle)
    if value.state is State.DATA:
        return [value], False
    for reach in _REACHES:
        first, last = Offset(max(start, middle - reach)), Offset(min(end, middle + reach))
        found = _entries(await several(first, last))
        if found or (first, last) == (start, end):
            return found, (first, last) == (start, end)
    distance = 2 * _REACHES[-1]
    while middle + distance < end or middle - distance >= start:
        for offset in (middle + distance, middle - distance):
            if not start <= offset < end:
                continue
            known = await one(Offset(offset))
            if known.state is State.DATA:
                return [known], False
        distance *= 2
    return [], False


def _entries(values: list[Value]) -> list[Value]:
    return [value for value in values if value.state is State.DATA]


def _first_from(entries: list[Value], wanted_us: int, end: Offset) -> Offset:
    """Return the offset of the first entry that is not older than wanted, `end` if all are."""
    return next((e.offset for e in entries if e.timestamp_us >= wanted_us), end)
