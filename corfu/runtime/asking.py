"""A socket to ask from, for a program that is neither client nor server: tools, and `format`."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import os
import random
from collections.abc import AsyncIterator

from corfu.config import LinkSettings
from corfu.link import Link
from corfu.runtime.driver import Driver
from corfu.runtime.udp import bind_udp
from corfu.types import Address, ClusterId, Incarnation


@contextlib.asynccontextmanager
async def asking_driver(
    peers: tuple[Address, ...], cluster: ClusterId | None = None
) -> AsyncIterator[Driver]:
    """Open a socket from which these processes can be asked; `cluster` may be set later."""
    datagrams = await bind_udp(own_host(peers), 0)
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


def own_host(peers: tuple[Address, ...]) -> str:
    """Return where to listen for answers: on loopback alone if all peers are there."""
    ipv6 = ":" in peers[0].host
    if all(ipaddress.ip_address(peer.host).is_loopback for peer in peers):
        return "::1" if ipv6 else "127.0.0.1"
    return "::" if ipv6 else "0.0.0.0"  # noqa: S104 - which interface, the kernel knows
