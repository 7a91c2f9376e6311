"""Which datagrams leave together."""

from __future__ import annotations

import socket

from hypothesis import given
from hypothesis import strategies as st

from corfu.runtime.segments import RUN_BYTES_MAX, RUN_DATAGRAMS_MAX, Run, cut_sent, runs
from corfu.types import Address

A, B = Address("127.0.0.1", 1), Address("127.0.0.1", 2)


def test_equal_lengths_and_a_shorter_last_one_leave_together() -> None:
    datagrams = [(b"aaaa", A), (b"bbbb", A), (b"cc", A), (b"dd", A), (b"eeee", B), (b"ffff", A)]
    assert list(runs(datagrams)) == [
        Run(b"aaaabbbbcc", A, 4, 3),
        Run(b"dd", A, 0, 1),
        Run(b"eeee", B, 0, 1),
        Run(b"ffff", A, 0, 1),
    ]


def test_longer_one_begins_a_new_run() -> None:
    assert list(runs([(b"a", A), (b"bb", A)])) == [Run(b"a", A, 0, 1), Run(b"bb", A, 0, 1)]


def test_run_keeps_to_what_one_call_takes() -> None:
    many = list(runs([(b"x", A)] * 150))
    assert [run.datagrams for run in many] == [64, 64, 22]
    large = list(runs([(bytes(30_000), A)] * 5))
    assert [len(run.data) for run in large] == [60_000, 60_000, 30_000]


@given(
    st.lists(
        st.tuples(
            st.sampled_from([0, 1, 2, 2, 1200, 1200, 30_000]).map(bytes), st.sampled_from([A, B])
        ),
        max_size=200,
    )
)
def test_runs_cut_again_are_the_datagrams_in_their_order(
    datagrams: list[tuple[bytes, Address]],
) -> None:
    again: list[tuple[bytes, Address]] = []
    for run in runs(datagrams):
        assert len(run.data) <= max(RUN_BYTES_MAX, 30_000)
        assert run.datagrams <= RUN_DATAGRAMS_MAX
        step = run.segment or max(1, len(run.data))
        pieces = [run.data[at : at + step] for at in range(0, len(run.data), step)] or [b""]
        assert len(pieces) == run.datagrams
        again += [(piece, run.to) for piece in pieces]
    assert again == datagrams


def test_system_that_cannot_says_so() -> None:
    class Old:
        def setsockopt(self, level: int, option: int, value: int, /) -> None:
            raise OSError(92, "Protocol not available")

    assert not cut_sent(Old(), 0)
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as stream:
        assert not cut_sent(stream, 0)
