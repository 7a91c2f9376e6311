"""Simulated processes: paused as by SIGSTOP, killed as by SIGKILL."""

import asyncio
import random

import pytest

from corfu.tools.sim.loop import VirtualLoop
from corfu.tools.sim.network import NetworkSettings, SimNetwork
from corfu.types import Address

A, B = Address("10.0.0.1", 1), Address("10.0.0.2", 2)


def ticker(seen: list[float]) -> None:
    async def tick() -> None:
        try:
            while True:
                await asyncio.sleep(1)
                seen.append(asyncio.get_running_loop().time())
        finally:
            seen.append(-1.0)

    asyncio.get_running_loop().create_task(tick())


def test_group_paused_runs_nothing_until_resumed() -> None:
    loop, seen = VirtualLoop(), list[float]()

    async def main() -> None:
        group = loop.group("p")
        group.run(ticker, seen)
        await asyncio.sleep(1.5)
        group.pause()
        await asyncio.sleep(5)
        assert seen == [1.0]
        group.resume()
        await asyncio.sleep(1.5)

    loop.run(main())
    assert seen == [1.0, 6.5, 7.5]
    loop.close()


def test_group_killed_runs_no_finally() -> None:
    loop, seen = VirtualLoop(), list[float]()

    async def main() -> None:
        group = loop.group("p")
        group.run(ticker, seen)
        await asyncio.sleep(1.5)
        group.kill()
        await asyncio.sleep(5)

    loop.run(main())
    assert seen == [1.0]
    loop.close()


def test_network_datagram_of_killed_sender_arrives() -> None:
    loop, seen = VirtualLoop(), list[bytes]()
    network = SimNetwork(loop, random.Random(1), NetworkSettings())

    async def main() -> None:
        sender, receiver = loop.group("a"), loop.group("b")
        network.endpoint(B)
        target = receiver.run(network._endpoints.__getitem__, B)
        receiver.run(target.listen, lambda data, _source: seen.append(data))
        source = sender.run(network.endpoint, A)
        sender.run(source.send, [(b"last words", B)])
        sender.kill()
        await asyncio.sleep(1)
        receiver.kill()

    loop.run(main())
    assert seen == [b"last words"]
    loop.close()


def test_group_with_a_fast_clock_sees_more_time_go_by_than_there_is() -> None:
    loop, seen = VirtualLoop(), list[float]()

    async def main() -> None:
        group = loop.group("p")
        group.set_clock(2.0)
        group.run(ticker, seen)
        await asyncio.sleep(2.1)
        assert loop.time() == loop.now

    loop.run(main())
    assert seen == pytest.approx([1.0, 2.0, 3.0, 4.0]), "by its own clock, in 2.1 s"
    assert loop.now == 2.1
    loop.close()


def test_group_with_a_slowed_clock_is_not_woken_early() -> None:
    loop, seen = VirtualLoop(), list[float]()

    async def main() -> None:
        group = loop.group("p")
        group.run(ticker, seen)
        await asyncio.sleep(0.5)
        group.set_clock(0.5)
        await asyncio.sleep(0.9)
        assert seen == []
        await asyncio.sleep(0.2)
        assert seen == pytest.approx([1.0])

    loop.run(main())
    loop.close()


def test_group_with_a_frozen_clock_has_no_timer_until_it_goes_on() -> None:
    loop, seen = VirtualLoop(), list[float]()

    async def main() -> None:
        group = loop.group("p")
        group.run(ticker, seen)
        await asyncio.sleep(1.5)
        group.set_clock(0.0)
        assert group.run(loop.time) == 1.5
        await asyncio.sleep(10)
        assert group.run(loop.time) == 1.5
        assert seen == pytest.approx([1.0])
        group.set_clock(1.0)
        await asyncio.sleep(0.6)

    loop.run(main())
    assert seen == pytest.approx([1.0, 2.0])
    loop.close()


def test_group_with_a_skewed_clock_that_sleeps_until_a_time_wakes_once() -> None:
    """Rounding must not wake it a moment early, at which no virtual time ever goes by."""
    rng = random.Random(5)
    for _ in range(300):
        loop = VirtualLoop(events_max=100)
        loop.now = rng.uniform(0, 100)
        group = loop.group("p")
        group.set_clock(rng.choice((0.5, 0.8, 0.95, 1.05, 1.3)))
        until = group.run(loop.time) + rng.uniform(0.001, 1)

        async def sleeper(until: float = until) -> int:
            turns = 0
            while (left := until - asyncio.get_running_loop().time()) > 0:
                turns += 1
                await asyncio.sleep(left)
            return turns

        task = group.run(loop.create_task, sleeper())
        assert loop.run(asyncio.wait_for(task, 10)) == 1
        loop.close()
