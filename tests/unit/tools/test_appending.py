"""Cutting a stream of bytes into groups of lines."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corfu.entry import RECORD_BYTES_MAX
from corfu.tools.appending import BATCH_BYTES, BATCH_LINES, groups, split
from corfu.tools.failure import CommandError, Status


@given(st.lists(st.binary(max_size=20)), st.booleans())
def test_split_of_any_chunks_gives_the_lines_of_the_whole(chunks: list[bytes], end: bool) -> None:
    whole = b"".join(chunks) + (b"\n" if end else b"")
    expected = whole.split(b"\n")
    if expected[-1] == b"":
        expected.pop()
    found = [line for group in split(iter([*chunks, b"\n" if end else b""])) for line in group]
    assert found == expected


def test_split_of_complete_lines_hands_them_over_at_once() -> None:
    seen = split(iter([b"a\nb\nhal", b"f\n"]))
    assert next(seen) == [b"a", b"b"]
    assert next(seen) == [b"half"]


def test_split_of_an_endless_line_is_refused_before_it_fills_memory() -> None:
    with pytest.raises(CommandError) as refused:
        list(split(b"x" * 100_000 for _ in range(1_000_000)))
    assert refused.value.status is Status.USAGE


@pytest.mark.parametrize("end", [b"", b"\n", b"\nlast\n"])
def test_split_of_a_line_too_long_names_it_after_those_before(end: bytes) -> None:
    lines = split(iter([b"a\nb\n", b"c\n" + b"x" * (RECORD_BYTES_MAX + 1) + end]))
    assert [next(lines), next(lines)] == [[b"a", b"b"], [b"c"]]
    with pytest.raises(CommandError, match="line 4 has more than") as refused:
        next(lines)
    assert refused.value.status is Status.USAGE


def test_split_of_a_line_as_long_as_a_record_can_be_gives_it() -> None:
    longest = b"x" * RECORD_BYTES_MAX
    assert list(split(iter([longest, b"\n", longest]))) == [[longest], [longest]]


def test_groups_stay_within_their_bounds() -> None:
    found = list(groups([b"x" * 1000] * 100 + [b"y" * (2 * BATCH_BYTES)] + [b""] * 5000))
    assert sum(map(len, found)) == 5101
    for group in found:
        assert len(group) <= BATCH_LINES
        assert len(group) == 1 or sum(map(len, group)) <= BATCH_BYTES
