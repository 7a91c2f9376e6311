"""The demo's tally: it must see everything that could go wrong with a log."""

from __future__ import annotations

import pytest

from corfu.tools.demo_records import MismatchError, Stream, Tally, tagged

LINES = [b"import os", b"", b"print(1 2 E)"]


def _appended() -> tuple[list[bytes], Stream]:
    stream = Stream()
    return list(tagged(0, LINES, stream)), stream


def test_tally_of_two_interleaved_producers_matches_both() -> None:
    one, two = Stream(), Stream()
    first, second = list(tagged(0, LINES, one)), list(tagged(1, LINES, two))
    tally = Tally(2)
    for record in (first[0], *second, *first[1:]):
        assert not tally.complete
        tally.add(record)
    assert tally.complete
    assert [s.digest for s in tally.streams] == [one.digest, two.digest]
    assert tally.records == 6


@pytest.mark.parametrize(
    "order", [[0, 2], [0, 1, 1], [1], [0, 1, 3], [0, 1, 2, 3, 2], [0, 1, 2, 3, 3]]
)
def test_tally_of_lost_repeated_or_swapped_records_refuses(order: list[int]) -> None:
    records, _ = _appended()
    tally = Tally(1)
    for index in order[:-1]:
        tally.add(records[index])
    with pytest.raises(MismatchError):
        tally.add(records[order[-1]])


def test_tally_of_a_changed_record_has_another_digest() -> None:
    records, stream = _appended()
    tally = Tally(1)
    for record in (records[0], b"0 1 L changed", *records[2:]):
        tally.add(record)
    assert tally.complete
    assert tally.streams[0].digest != stream.digest
