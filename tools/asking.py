"""Asking the processes of a cluster one thing each, without opening the log."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import os
import random
from collections.abc import AsyncIterator

from corfu.addresses import parse_addresses
from corfu.config import LinkSettings
from corfu.link import Link
from corfu.messages import GetStatus, Message, StatusIs
from corfu.ports import Network, UnansweredError
from corfu.runtime.driver import Driver
from corfu.runtime.udp import bind_udp
from corfu.types import Address, ClusterId, Incarnation, RequestId

from .failure import CommandError, Status
from .health import Health, assess


class Asker:
    """Asks replicas and units; made by `asking`."""

    def __init__(self, driver: Driver, link: Link) -> None:
        self._driver = driver
        self._link = link

    @property
    def driver(self) -> Driver:
        """What the procedures over ports ask with."""
        return self._driver

    def new_request(self) -> RequestId:
        """Return the id for the next message."""
        return self._driver.new_request()

    async def ask(self, to: Address, message: Message, budget_s: float) -> Message | None:
        """Return the answer; None if none came within `budget_s`.

        All but `GetStatus` is answered only once the cluster is known: ask for `statuses` first.
        """
        try:
            return await self._driver.ask(to, message, budget_s)
        except UnansweredError:
            return None

    async def statuses(self, replicas: tuple[Address, ...], budget_s: float) -> list[StatusIs]:
        """Return what each replica that answers says of the cluster."""
        found = await statuses(self._driver, replicas, budget_s)
        if found:
            self._link.cluster = found[0].layout.cluster
        return found

    async def health(self, cluster: str, budget_s: float) -> Health:
        """Ask the replicas of a cluster string, and judge the cluster.

        Raises:
            UsageError: It is no list of addresses.
            CommandError: No replica answers.
        """
        asked = parse_addresses(cluster)
        answers = await self.statuses(asked, budget_s)
        if not answers:
            raise CommandError(
                f"no replica answers at {', '.join(map(str, asked))}", Status.UNAVAILABLE
            )
        return assess(asked, answers)


@contextlib.asynccontextmanager
async def asking(
    replicas: tuple[Address, ...], cluster: ClusterId | None = None
) -> AsyncIterator[Asker]:
    """Open a socket from which these replicas, and the units of their cluster, can be asked."""
    datagrams = await bind_udp(_own_host(replicas), 0)
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
        yield Asker(driver, link)
    finally:
        driver.stop()
        await datagrams.wait_closed()


async def statuses(
    network: Network, replicas: tuple[Address, ...], budget_s: float
) -> list[StatusIs]:
    """Return what each replica that answers within `budget_s` says of the cluster."""
    answers = await asyncio.gather(*(_ask(network, to, budget_s) for to in replicas))
    return [answer for answer in answers if answer is not None]


async def ask_replicas(replicas: tuple[Address, ...], budget_s: float) -> list[StatusIs]:
    """Return what each replica that answers within `budget_s` says of the cluster."""
    async with asking(replicas) as asker:
        return await asker.statuses(replicas, budget_s)


async def ask_health(cluster: str, budget_s: float) -> Health:
    """Look once at a whole cluster; see `Asker.health`."""
    async with asking(parse_addresses(cluster)) as asker:
        return await asker.health(cluster, budget_s)


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
