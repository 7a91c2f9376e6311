"""How clients under test record what they did."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

from corfu.tools.history import Operation, Scan
from corfu.tools.recorder import FOLLOWED_MAX, Followed, Recorder
from corfu.tools.records import make_record
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
