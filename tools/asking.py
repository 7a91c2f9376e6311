"""Asking the processes of a cluster one thing each, without opening the log."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import os
import random
from collections.abc import AsyncIterator, Callable

from corfu.config import LinkSettings
from corfu.link import Link
from corfu.messages import GetStatus, Message, StatusIs
from corfu.ports import UnansweredError
from corfu.runtime.driver import Driver
from corfu.runtime.udp import bind_udp
from corfu.types import Address, ClusterId, Incarnation, RequestId


class Asker:
    """Sends single requests to processes of one cluster."""

    def __init__(self, driver: Driver) -> None:
        """Take a driver that runs; see `asking`."""
        self._driver = driver

    def know(self, cluster: ClusterId) -> None:
        """Take the cluster's id: replicas answer those who do not know it, units do not."""
        self._driver.link.cluster = cluster

    async def ask(
        self, to: Address, request: Callable[[RequestId], Message], budget_s: float
    ) -> Message | None:
        """Return the answer to `request(id)`; None if there is none within `budget_s`."""
        try:
            return await self._driver.ask(to, request(self._driver.new_request()), budget_s)
        except UnansweredError:
            return None

    async def statuses(self, replicas: tuple[Address, ...], budget_s: float) -> list[StatusIs]:
        """Return what each replica that answers within `budget_s` says of the cluster."""
        answers = await asyncio.gather(*(self.ask(to, GetStatus, budget_s) for to in replicas))
        return [answer for answer in answers if isinstance(answer, StatusIs)]


@contextlib.asynccontextmanager
async def asking(replicas: tuple[Address, ...]) -> AsyncIterator[Asker]:
    """Open a socket to ask from, and close it at the end."""
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
        yield Asker(driver)
    finally:
        driver.stop()
        await datagrams.wait_closed()


async def ask_replicas(replicas: tuple[Address, ...], budget_s: float) -> list[StatusIs]:
    """Return what each replica that answers within `budget_s` says of the cluster."""
    async with asking(replicas) as asker:
        return await asker.statuses(replicas, budget_s)


def _own_host(replicas: tuple[Address, ...]) -> str:
    """Return where to listen for answers: on loopback alone if all replicas are there."""
    ipv6 = ":" in replicas[0].host
    if all(ipaddress.ip_address(replica.host).is_loopback for replica in replicas):
        return "::1" if ipv6 else "127.0.0.1"
    return "::" if ipv6 else "0.0.0.0"  # noqa: S104 - which interface, the kernel knows
