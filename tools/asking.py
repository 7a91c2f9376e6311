"""Asking the servers of a cluster one thing each, without opening the log."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from corfu.config import LinkSettings
from corfu.link import Link
from corfu.messages import GetStatus, StatusIs
from corfu.ports import UnansweredError
from corfu.runtime.driver import Driver
from corfu.runtime.udp import bind_udp
from corfu.types import Address, ClusterId, Incarnation


async def ask_replicas(replicas: tuple[Address, ...], budget_s: float) -> list[StatusIs]:
    """Return what each replica that answers within `budget_s` says of the cluster."""
    async with asking(replicas) as driver:
        answers = await asyncio.gather(*(_ask(driver, to, budget_s) for to in replicas))
    return [answer for answer in answers if answer is not None]


@asynccontextmanager
async def asking(
    peers: tuple[Address, ...], cluster: ClusterId | None = None
) -> AsyncIterator[Driver]:
    """Open a socket to ask `peers` from; units answer only who names their cluster."""
    datagrams = await bind_udp(_own_host(peers), 0)
    link = Link(
        cluster=cluster,
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


def _own_host(replicas: tuple[Address, ...]) -> str:
    """Return where to listen for answers: on loopback alone if all replicas are there."""
    ipv6 = ":" in replicas[0].host
    if all(ipaddress.ip_address(replica.host).is_loopback for replica in replicas):
        return "::1" if ipv6 else "127.0.0.1"
    return "::" if ipv6 else "0.0.0.0"  # noqa: S104 - which interface, the kernel knows


async def _ask(driver: Driver, to: Address, budget_s: float) -> StatusIs | None:
    try:
        answer = await driver.ask(to, GetStatus(driver.new_request()), budget_s)
    except UnansweredError:
        return None
    return answer if isinstance(answer, StatusIs) else None
