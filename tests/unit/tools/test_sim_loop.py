"""The event loop in virtual time."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from corfu.tools.sim.loop import (
    FAILURE_GRACE_S,
    SimulationError,
    SimulationStalled,
    VirtualLoop,
)


@pytest.fixture
def loop() -> Iterator[VirtualLoop]:
    loop = VirtualLoop()
    yield loop
    loop.close()


def test_sleep_an_hour_takes_only_virtual_time(loop: VirtualLoop) -> None:
    async def main() -> float:
        await asyncio.sleep(3600)
        return asyncio.get_running_loop().time()

    assert loop.run(main()) == 3600.0


def test_timers_at_one_instant_fire_in_the_order_of_the_calls(loop: VirtualLoop) -> None:
    fired: list[int] = []

    async def main() -> None:
        for number in range(500):
            loop.call_at(1.0, fired.append, number)
        await asyncio.sleep(2)

    loop.run(main())
    assert fired == list(range(500))


def test_timers_in_the_past_fire_next_turn_at_the_current_time(loop: VirtualLoop) -> None:
    times: list[float] = []

    async def main() -> None:
        await asyncio.sleep(5)
        loop.call_at(1.0, lambda: times.append(loop.time()))
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    loop.run(main())
    assert times == [5.0]


def test_asyncio_tools_run_unchanged(loop: VirtualLoop) -> None:
    async def produce(queue: asyncio.Queue[int]) -> None:
        for number in range(3):
            await asyncio.sleep(0.5)
            await queue.put(number)

    async def main() -> tuple[list[int], bool]:
        queue: asyncio.Queue[int] = asyncio.Queue()
        async with asyncio.TaskGroup() as group:
            group.create_task(produce(queue))
            got = [await queue.get() for _ in range(3)]
        timed_out = False
        try:
            async with asyncio.timeout(2):
                await queue.get()
        except TimeoutError:
            timed_out = True
        assert loop.time() == 3.5
        return got, timed_out

    assert loop.run(main()) == ([0, 1, 2], True)


def test_run_main_raises_is_raised_to_the_caller(loop: VirtualLoop) -> None:
    async def main() -> None:
        raise ValueError("main")

    with pytest.raises(ValueError, match="main"):
        loop.run(main())


def test_run_callback_raises_stops_the_run_at_that_instant(loop: VirtualLoop) -> None:
    def broken() -> None:
        raise ValueError("callback")

    async def main() -> None:
        loop.call_later(1, broken)
        await asyncio.sleep(10)

    with pytest.raises(ValueError, match="callback"):
        loop.run(main())
    assert loop.time() == 1.0


async def _fail_after(seconds: float) -> None:
    await asyncio.sleep(seconds)
    raise ValueError("task")


def test_run_task_nobody_awaits_fails_stops_the_run(loop: VirtualLoop) -> None:
    kept: list[asyncio.Task[None]] = []

    async def main() -> None:
        kept.append(asyncio.create_task(_fail_after(1)))
        await asyncio.sleep(1000)

    with pytest.raises(ValueError, match="task"):
        loop.run(main())
    assert loop.time() == 1.0 + FAILURE_GRACE_S


def test_run_failed_task_awaited_a_little_later_goes_on(loop: VirtualLoop) -> None:
    async def main() -> str:
        task = asyncio.create_task(_fail_after(1))
        await asyncio.sleep(1.5)
        with pytest.raises(ValueError, match="task"):
            await task
        await asyncio.sleep(10)
        return "done"

    assert loop.run(main()) == "done"


def test_run_main_ends_before_a_failure_was_taken_raises_it(loop: VirtualLoop) -> None:
    kept: list[asyncio.Task[None]] = []

    async def main() -> None:
        kept.append(asyncio.create_task(_fail_after(1)))
        await asyncio.sleep(1.1)

    with pytest.raises(ValueError, match="task"):
        loop.run(main())


def test_run_nothing_scheduled_raises_stalled_with_names(loop: VirtualLoop) -> None:
    async def wait_for_ever() -> None:
        await loop.create_future()

    async def main() -> None:
        # Cancelled timers are no reason to go on.
        loop.call_later(5, print).cancel()
        await asyncio.gather(
            asyncio.create_task(wait_for_ever(), name="reader"),
            asyncio.create_task(wait_for_ever()),
        )

    with pytest.raises(SimulationStalled) as caught:
        loop.run(main())
    assert caught.value.pending == ["main", "reader", "task-3"]


def test_run_stalled_after_a_task_died_raises_what_killed_it(loop: VirtualLoop) -> None:
    async def main() -> None:
        task = asyncio.create_task(_fail_after(1))
        await loop.create_future()
        await task

    with pytest.raises(ValueError, match="task"):
        loop.run(main())


def test_run_callbacks_for_ever_stops_at_events_max() -> None:
    loop = VirtualLoop(events_max=1000)

    def again() -> None:
        loop.call_soon(again)

    async def main() -> None:
        again()
        await asyncio.sleep(1)

    with pytest.raises(SimulationError, match="1000 events"):
        loop.run(main())
    loop.close()


def test_timers_many_cancelled_are_dropped_and_the_rest_fires_in_order(loop: VirtualLoop) -> None:
    fired: list[int] = []

    async def main() -> None:
        handles = [loop.call_at(1 + number % 7, fired.append, number) for number in range(5000)]
        for number, handle in enumerate(handles):
            if number % 10:
                handle.cancel()
        assert len(loop._timers) < 2500
        await asyncio.sleep(20)

    loop.run(main())
    assert fired == sorted(range(0, 5000, 10), key=lambda number: (number % 7, number))
    assert loop._cancelled_timers == 0


@pytest.mark.parametrize("wanted", ["executor", "datagrams", "subprocess", "resolver"])
def test_loop_asked_for_real_things_refuses(loop: VirtualLoop, wanted: str) -> None:
    async def main() -> None:
        match wanted:
            case "executor":
                await asyncio.to_thread(print)
            case "datagrams":
                await loop.create_datagram_endpoint(asyncio.DatagramProtocol)
            case "subprocess":
                await asyncio.create_subprocess_exec("true")
            case _:
                await loop.getaddrinfo("localhost", 1)

    with pytest.raises(SimulationError, match="no threads, sockets or subprocesses"):
        loop.run(main())


def test_finish_cancels_every_task_in_order() -> None:
    loop = VirtualLoop()
    ended: list[str] = []

    async def wait(name: str) -> None:
        try:
            await asyncio.sleep(1000)
        finally:
            ended.append(name)

    async def main() -> list[asyncio.Task[None]]:
        tasks = [asyncio.create_task(wait(name)) for name in ("b", "a", "c")]
        await asyncio.sleep(1)
        return tasks

    tasks = loop.run(main())
    loop.finish()
    assert ended == ["b", "a", "c"]
    assert all(task.cancelled() for task in tasks)
    assert loop.is_closed()


def test_note_same_parts_same_hash_other_time_other_hash() -> None:
    hashes: list[int] = []
    for seconds in (1.0, 1.0, 2.0):
        loop = VirtualLoop()
        loop.run(asyncio.sleep(seconds))
        loop.note("write", 7, b"bytes", 0.25, None)
        hashes.append(loop.trace_hash())
        loop.close()
    assert hashes[0] == hashes[1] != hashes[2]


_PROGRAM = """
import asyncio, random
from corfu.tools.sim.loop import VirtualLoop
loop, rng = VirtualLoop(), random.Random(5)
async def worker(name):
    for step in range(20):
        await asyncio.sleep(rng.random())
        loop.note(name, step, asyncio.current_task().get_name())
async def main():
    pending = {asyncio.create_task(worker(f"w{n}")) for n in range(20)}
    while pending:
        done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        loop.note(len(done))
loop.run(main())
print(loop.trace_hash(), loop.events)
"""


def test_run_other_hash_seed_same_trace() -> None:
    """The same program in two fresh processes whose sets and dicts hash differently."""
    outputs = [
        subprocess.run(
            [sys.executable, "-c", _PROGRAM],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert outputs[0] == outputs[1] != ""
