"""Asking the processes of a cluster one thing each, without opening the log."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from corfu.addresses import parse_addresses
from corfu.messages import GetStatus, Message, StatusIs
from corfu.ports import Network, UnansweredError
from corfu.runtime.asking import asking_driver
from corfu.runtime.driver import Driver
from corfu.types import Address, ClusterId, RequestId

from .failure import CommandError, Status
from .health import Health, assess


class Asker:
    """Asks replicas and units; made by `asking`."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver

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
            self._driver.link.cluster = found[0].layout.cluster
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
        # One that took another's place is asked, too, though the cluster string does not name it.
        members = {each.address for answer in answers for each in answer.replicas}
        more = tuple(sorted(members - {*asked}))
        return assess(asked, [*answers, *await self.statuses(more, budget_s)])


@contextlib.asynccontextmanager
async def asking(
    replicas: tuple[Address, ...], cluster: ClusterId | None = None
) -> AsyncIterator[Asker]:
    """Open a socket from which these replicas, and the units of their cluster, can be asked."""
    async with asking_driver(replicas, cluster) as driver:
        yield Asker(driver)


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


async def _ask(network: Network, to: Address, budget_s: float) -> StatusIs | None:
    try:
        answer = await network.ask(to, GetStatus(network.new_request()), budget_s)
    except UnansweredError:
        return None
    return answer if isinstance(answer, StatusIs) else None
