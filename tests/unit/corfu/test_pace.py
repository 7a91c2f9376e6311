"""How far ahead a scan reads."""

from __future__ import annotations

from corfu.client.pace import Pace
from corfu.client.settings import ClientSettings
from corfu.client.values import Value
from corfu.types import Offset, State

SETTINGS = ClientSettings(read_bytes=256 << 10, window_bytes=1 << 20, ahead_bytes=2 << 20)


def arrived(pace: Pace, offsets: int, size: int) -> None:
    values = [Value(Offset(o), State.DATA, (b"",), size) for o in range(offsets)]
    pace.arrived(offsets, values)


def launched(pace: Pace, chains: int = 2) -> list[int]:
    """Ask for windows until there is no room."""
    windows = []
    while pace.has_room:
        windows.append(pace.window_offsets(chains))
        pace.launched(windows[-1])
    return windows


def test_first_windows_are_small_and_grow() -> None:
    windows = launched(Pace(SETTINGS))
    assert windows[0] == 2
    assert windows == sorted(windows)
    assert windows[-1] == 2 * 4


def test_window_is_one_read_of_every_chain_by_the_mean_size_seen() -> None:
    pace = Pace(SETTINGS)
    for _ in launched(pace):
        arrived(pace, 2, 1000)
    assert launched(pace)[-1] == 2 * ((256 << 10) // (1000 + 64))
    # Tiny entries: no more than one answer may list.
    for _ in range(60):
        arrived(pace, 2, 1)
    assert launched(pace)[-1] == 2 * 1024


def test_budget_bounds_what_is_ahead_and_is_refilled_in_one_go() -> None:
    pace = Pace(SETTINGS)
    for window in launched(pace):
        arrived(pace, window, 32_000)
    under_way = launched(pace)
    ahead = sum(under_way) * 32_064
    assert 2 << 20 <= ahead < (2 << 20) + 2 * (256 << 10)
    # One window that comes makes no room; when a quarter of all has come, there is for several.
    arrived(pace, under_way.pop(), 32_000)
    assert launched(pace) == []
    arrived(pace, under_way.pop(), 32_000)
    assert len(launched(pace)) == 2


def test_small_budget_is_kept_also_by_the_two_windows_that_are_always_asked_for() -> None:
    small = ClientSettings(ahead_bytes=100_000)
    pace = Pace(small)
    launched(pace)
    for _ in range(2):
        arrived(pace, 2, 1000)
    windows = launched(pace)
    assert len(windows) >= 1
    assert sum(windows) * 1064 <= 110_000


def test_entries_larger_than_a_read_come_one_of_each_chain() -> None:
    pace = Pace(SETTINGS)
    launched(pace)
    for _ in range(40):
        arrived(pace, 2, 1 << 20)
    assert pace.window_offsets(2) == 2
