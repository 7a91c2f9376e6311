"""Asking the replicas of a cluster one thing each, without opening the log."""

from __future__ import annotations

import asyncio
import os
import random

from corfu.client.connecting import parse_cluster
from corfu.config import LinkSettings
from corfu.link import Link
from corfu.messages import GetStatus, StatusIs
from corfu.ports import UnansweredError
from corfu.runtime.driver import Driver
from corfu.runtime.udp import bind_udp
from corfu.types import Address, Incarnation

__all__ = ["ask_replicas", "parse_cluster"]


async def ask_replicas(replicas: tuple[Address, ...], budget_s: float) -> list[StatusIs]:
    """Return what each replica that answers within `budget_s` says of the cluster."""
    any_host = "::" if ":" in replicas[0].host else "0.0.0.0"  # noqa: S104 - a client's own socket
    datagrams = await bind_udp(any_host, 0)
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
        answers = await asyncio.gather(*(_ask(driver, to, budget_s) for to in replicas))
    finally:
        driver.stop()
        datagrams.close()
    return [answer for answer in answers if answer is not None]


async def _ask(driver: Driver, to: Address, budget_s: float) -> StatusIs | None:
    try:
        answer = await driver.ask(to, GetStatus(driver.new_request()), budget_s)
    except UnansweredError:
        return None
    return answer if isinstance(answer, StatusIs) else None
