"""Asking the replicas of a cluster one thing each, without opening the log."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import os
import random
from collections.abc import AsyncIterator

from corfu.config import LinkSettings
from corfu.link import Link
from corfu.messages import GetStatus, StatusIs
from corfu.ports import Network, UnansweredError
from corfu.runtime.driver import Driver
from corfu.runtime.udp import bind_udp
from corfu.types import Address, Incarnation


@contextlib.asynccontextmanager
async def endpoint(replicas: tuple[Address, ...]) -> AsyncIterator[Driver]:
    """Yield a socket of our own and what it takes to ask over it; its link knows no cluster yet."""
    datagrams = await bind_udp(_own_host(replicas), 0)
    link = Link(
        cluster=None,
        session=Incarnation(os.urandom(16)),
        settings=LinkSettings(),
        rng=random.Random(),  # noqa: S311 - jitter
    )
    driver = Driver(
        core=None,
        link=link,
        datagrams=datagrams,
        worker=None,
        loop=asyncio.get_running_loop(),
    )
    driver.start()
    try:
        yield driver
    finally:
        driver.stop()
        await datagrams.wait_closed()


async def ask_replicas(replicas: tuple[Address, ...], budget_s: float) -> list[StatusIs]:
    """Return what each replica that answers within `budget_s` says of the cluster."""
    async with endpoint(replicas) as driver:
        return await statuses(driver, replicas, budget_s)


async def statuses(
    network: Network, replicas: tuple[Address, ...], budget_s: float
) -> list[StatusIs]:
    """Return what each replica that answers within `budget_s` says of the cluster."""
    answers = await asyncio.gather(*(_ask(network, to, budget_s) for to in replicas))
    return [answer for answer in answers if answer is not None]


def _own_host(replicas: tuple[Address, ...]) -> str:
    """Return where to listen for answers: on loopback alone if all replicas are there."""
    ipv6 = ":" in replicas[0].host
    if all(ipaddress.ip_address(replica.host).is_loopback for replica in replicas):
        return "::1" if ipv6 else "127.0.0.1"
    return "::" if ipv6 else "0.0.0.0"  # noqa: S104 - which interface, the kernel knows


async def _ask(network: Network, to: Address, budget_s: float) -> StatusIs | None:
    try:
        answer = await network.ask(to, GetStatus(network.new_request()), budget_s)
    except UnansweredError:
        return None
    return answer if isinstance(answer, StatusIs) else None
