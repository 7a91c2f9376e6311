"""The workload on a log inside this process: every kind of call, and a follower that stalls."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

import corfu
from corfu.tools.check import check
from corfu.tools.final_read import read_whole
from corfu.tools.operations import Append, Operation, Outcome
from corfu.tools.recording import Recorder
from corfu.tools.verify.report import KINDS, kind_of
from corfu.tools.workload import FollowerStalledError, Workload, WorkloadOptions

BUSY = WorkloadOptions(
    append_gap_s=0.002,
    read_gap_s=0.002,
    large_share=0.0,
    trim_clients=1.0,
    trimmed_share=0.5,
    cancel_share=0.3,
    cancel_s_max=0.002,
    to_tail_share=0.5,
    catch_up_s=20.0,
)


def _workload(log: corfu.Log, history: list[Operation], options: WorkloadOptions) -> Workload:
    async def opened() -> corfu.Log:
        return log

    recorder = Recorder(time.monotonic, history.append)
    return Workload("c1", opened, recorder, options, seed=1, ordered=False)


async def _appended(history: list[Operation], working: asyncio.Task[None], count: int) -> None:
    async with asyncio.timeout(60):
        while Counter(map(kind_of, history))["append"] < count:
            assert not working.done(), working
            await asyncio.sleep(0.01)


async def test_workload_of_every_kind_on_an_embedded_log_is_sound(tmp_path: Path) -> None:
    history: list[Operation] = []
    workload = _workload(await corfu.local(tmp_path / "log"), history, BUSY)
    working = asyncio.create_task(workload.run())
    await _appended(history, working, 150)
    workload.end()
    await working
    assert set(KINDS) == set(map(kind_of, history))
    fates = {each.outcome for each in history if isinstance(each, Append)}
    assert Outcome.UNKNOWN in fates, "some were cancelled"
    async with corfu.local(tmp_path / "log") as log:
        final = await read_whole(log)
    assert [str(violation) for violation in check(history, final)] == []
    assert final.entries


async def test_workload_whose_follower_stalls_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def silent(*_: object, **__: object) -> AsyncGenerator[corfu.Record, None]:
        await asyncio.Event().wait()
        yield corfu.Record(corfu.Position(0, 0), b"")  # type: ignore[arg-type]

    history: list[Operation] = []
    options = WorkloadOptions(append_gap_s=0.002, large_share=0.0, catch_up_s=0.05)
    async with corfu.local(tmp_path / "log") as log:
        for name in ("follow", "follow_batches"):
            monkeypatch.setattr(type(log), name, silent)
        workload = _workload(log, history, options)
        working = asyncio.create_task(workload.run())
        await _appended(history, working, 3)
        workload.end()
        with pytest.raises(FollowerStalledError, match="c1: a follower had not come to"):
            await working


async def test_workload_whose_follower_fails_raises_what_it_failed_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: object, **__: object) -> AsyncGenerator[corfu.Record, None]:
        raise corfu.ConflictError("a rule was broken")
        yield

    history: list[Operation] = []
    options = WorkloadOptions(append_gap_s=0.002, large_share=0.0)
    async with corfu.local(tmp_path / "log") as log:
        for name in ("follow", "follow_batches"):
            monkeypatch.setattr(type(log), name, broken)
        workload = _workload(log, history, options)
        working = asyncio.create_task(workload.run())
        await _appended(history, working, 3)
        workload.end()
        with pytest.raises(corfu.ConflictError):
            await working
