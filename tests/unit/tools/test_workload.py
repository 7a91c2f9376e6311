"""How clients under test record what they did."""

from __future__ import annotations

import ast
import asyncio
import inspect
import random
from collections.abc import Iterator
from itertools import count
from typing import cast

import pytest

from corfu.errors import AppendUnknownError, NotAppendedError, UsageError
from corfu.log import Log
from corfu.tools import recorded_log, workload
from corfu.tools.operations import Append, Fill, Operation, Outcome, Scan, Trim
from corfu.tools.recorded_log import RecordedLog
from corfu.tools.recording import FOLLOWED_MAX, Followed, Recorder
from corfu.tools.records import make_record
from corfu.tools.workload_options import WorkloadOptions
from corfu.types import Offset, Position, Record


def _recorder(kept: list[Operation]) -> Recorder:
    ticks = map(float, count())
    return Recorder(lambda: next(ticks), kept.append)


def _records(number: int) -> Iterator[Record]:
    for each in range(number):
        _key, data = make_record("c1", each, 40)
        yield Record(Position(Offset(each // 2), each % 2), data)


def test_recorder_stamps_rise_though_the_clock_stands() -> None:
    kept: list[Operation] = []
    recorder = Recorder(lambda: 5.0, kept.append)
    stamps = [recorder.now() for _ in range(3)]
    assert stamps[0] == 5.0
    assert stamps == sorted(set(stamps))


def test_followed_is_recorded_in_parts_that_lie_side_by_side() -> None:
    kept: list[Operation] = []
    followed = Followed(_recorder(kept), "c1", Offset(0))
    records = list(_records(FOLLOWED_MAX + 3))
    for record in records:
        followed.add(record)
    followed.end()
    first, second = kept
    assert isinstance(first, Scan)
    assert isinstance(second, Scan)
    assert (len(first.items), len(second.items)) == (FOLLOWED_MAX, 3)
    assert first.start == (0, 0)
    assert first.end == second.start
    assert second.end == followed.reached == (records[-1].position.offset, 1)
    # What a later part gives may have been fetched when the first one was.
    assert first.invoked == second.invoked < first.completed < second.completed  # type: ignore[operator]
    assert [key for _, key in (*first.items, *second.items)] == [
        f"c1-{number}" for number in range(len(records))
    ]


def test_followed_with_nothing_claims_nothing() -> None:
    kept: list[Operation] = []
    Followed(_recorder(kept), "c1", Offset(7)).end()
    (scan,) = kept
    assert isinstance(scan, Scan)
    assert scan.start == scan.end == (7, 0)


def test_workload_uses_every_operation_that_a_log_has() -> None:
    """A generator that leaves out an operation leaves its bugs to the users."""
    public = {name for name, _ in inspect.getmembers(Log, callable) if not name.startswith("_")}
    used: set[str] = set()
    for module in (recorded_log, workload):
        for node in ast.walk(ast.parse(inspect.getsource(module))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                owner = ast.unparse(node.func.value)
                if owner in ("self.log", "log"):
                    used.add(node.func.attr)
    assert used == public


class _Refusing:
    """A log of which every operation ends as told, or waits for ever."""

    def __init__(self, error: Exception | None) -> None:
        self._error = error

    async def append(self, *_: object, **__: object) -> None:
        if self._error is not None:
            raise self._error
        await asyncio.get_running_loop().create_future()

    append_many = trim = fill = append


def _recorded(error: Exception | None, kept: list[Operation]) -> RecordedLog:
    log = cast("Log", _Refusing(error))
    options = WorkloadOptions(trim_share=1.0)
    recorder = _recorder(kept)
    return RecordedLog("c1", log, recorder, options, random.Random(1), [], ordered=False)


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (NotAppendedError("no"), Outcome.NOT_APPENDED),
        (AppendUnknownError("perhaps"), Outcome.UNKNOWN),
        (UsageError("closed"), Outcome.NOT_APPENDED),
    ],
)
async def test_append_that_fails_is_recorded_with_its_outcome(
    error: Exception, outcome: Outcome
) -> None:
    kept: list[Operation] = []
    await _recorded(error, kept).append(1)
    (append,) = kept
    assert isinstance(append, Append)
    assert append.outcome is outcome
    assert append.completed is not None


async def test_operation_cancelled_is_recorded_as_one_that_may_still_happen() -> None:
    kept: list[Operation] = []
    doing = _recorded(None, kept)
    for step in (doing.append(2), doing.trim(), doing.fill()):
        task = asyncio.create_task(step)
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    append, trim, fill = kept
    assert isinstance(append, Append)
    assert append.outcome is Outcome.UNKNOWN
    assert append.places == (None, None)
    assert isinstance(trim, Trim)
    assert trim.reached is None
    assert isinstance(fill, Fill)
    assert fill.seen is None
    assert [each.completed for each in kept] == [None] * 3
