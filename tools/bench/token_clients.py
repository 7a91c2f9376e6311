"""Clients that want nothing but tokens: how many grants a second one leader makes.

Each session is a client of its own: a socket, a link, one request for one token at a time. The
messages are those of an appending client; the entries never come, so every offset is a hole that
the leader closes in the background, as it does when clients die.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from dataclasses import dataclass

from corfu.config import LinkSettings
from corfu.effects import Effect
from corfu.errors import UnavailableError
from corfu.link import Link
from corfu.messages import GetToken, Grant, Message, NotLeader, Rejected, Rejection
from corfu.runtime.asking import own_host
from corfu.runtime.committer import CommitLog
from corfu.runtime.driver import Driver
from corfu.runtime.udp import UdpDatagrams, bind_udp
from corfu.tools.asking import ask_health
from corfu.tools.failure import CommandError, Status
from corfu.types import Address, ClusterId, Epoch, Incarnation

from .assignment import Assignment
from .job import Counters, driver_counters
from .meter import Meter

BUDGET_S = 2.0
"""How long one request is repeated; after that it counts as failed."""

LOOK_S = 0.1
"""How often it is looked for requests that failed, and for a new leader if one was refused."""

ANSWER_S = 2.0
END_S = 3.0


@dataclass(frozen=True, slots=True)
class Aim:
    """Who grants, and in which epoch."""

    cluster: ClusterId
    leader: Address
    epoch: Epoch


class TokenSession:
    """One client as a core under the driver: each answer makes the next request, with no task."""

    def __init__(self, link: Link, aim: Aim, inflight: int) -> None:
        """Make a session; `start` begins.

        Args:
            link: Its link; the driver sends what is asked here.
            aim: Whom to ask; may be set anew.
            inflight: Requests to keep under way.
        """
        self.aim = aim
        self.is_stale = False
        """The aim leads no more, or in another epoch."""

        self._link = link
        self._inflight = inflight
        self._asked: dict[int, int] = {}
        """When each request that waits was made, by its sequence; ascending."""

        self._meter = Meter()
        self._deadline: float | None = None

    @property
    def journal(self) -> CommitLog | None:
        """No disk."""
        return None

    @property
    def deadline(self) -> float | None:
        """When to look for requests that failed; None: not at work."""
        return self._deadline

    @property
    def waits(self) -> bool:
        """Tell whether an answer is awaited."""
        return bool(self._asked)

    def start(self, meter: Meter, now: float) -> None:
        """Begin to ask."""
        self._meter = meter
        self._fill_up(now)

    def stop(self) -> None:
        """Ask no more; what is under way may still be answered."""
        self._deadline = None

    def handle(self, message: Message, sender: Address, now: float) -> list[Effect]:
        """Take an answer, and ask anew: at once if it was a grant."""
        begun = self._asked.pop(message.request.sequence, None)
        if begun is None:
            # Of a request that was given up.
            return []
        self._link.complete(message.request, now)
        match message:
            case Grant():
                self._meter.samples.append(time.monotonic_ns() - begun)
                if self._deadline is not None:
                    self._ask(now)
            case Rejected():
                self.is_stale = self.is_stale or message.reason is Rejection.WRONG_EPOCH
                self._fail(f"refused, {message.reason.name} {message.detail}".rstrip())
            case NotLeader():
                self.is_stale = True
                self._fail(f"{sender} does not lead")
            case _:
                self._fail(f"answered by {type(message).__name__}")
        return []

    def tick(self, now: float) -> list[Effect]:
        """Count what was never answered, and ask anew for all that failed."""
        overdue = time.monotonic_ns() - int((BUDGET_S + LOOK_S) * 1e9)
        for sequence in [each for each, begun in self._asked.items() if begun < overdue]:
            del self._asked[sequence]
            self._fail(f"no answer within {BUDGET_S:g} s")
        self._fill_up(now)
        return []

    def _fill_up(self, now: float) -> None:
        while len(self._asked) < self._inflight and self._ask(now):
            pass
        self._deadline = now + LOOK_S

    def _ask(self, now: float) -> bool:
        request = self._link.new_request()
        oldest = next(iter(self._asked), request.sequence)
        message = GetToken(request, self.aim.epoch, 1, oldest, 0, 0, 0)
        if not self._link.ask(self.aim.leader, message, now, BUDGET_S):
            self._fail("too many requests wait")
            return False
        self._asked[request.sequence] = time.monotonic_ns()
        return True

    def _fail(self, text: str) -> None:
        self._meter.error(UnavailableError(f"token: {text}"))


@dataclass(frozen=True, slots=True)
class _Client:
    datagrams: UdpDatagrams
    driver: Driver
    session: TokenSession


class TokenClients:
    """All sessions of one process."""

    def __init__(self, assignment: Assignment) -> None:
        self._assignment = assignment
        self._clients: list[_Client] = []

    async def open(self) -> None:
        """See `Job`.

        Raises:
            CommandError: Nobody leads.
        """
        aim = await self._aim()
        for _ in range(self._assignment.sessions):
            self._clients.append(await _connect(aim, self._assignment.inflight))

    def meter(self) -> Meter:
        """See `Job`."""
        return Meter(records=1)

    async def work(self, meter: Meter, stop: asyncio.Event) -> None:
        """See `Job`."""
        for client in self._clients:
            client.session.start(meter, client.driver.now())
            client.driver.run(())
        while not stop.is_set():
            try:
                async with asyncio.timeout(LOOK_S):
                    await stop.wait()
            except TimeoutError:
                await self._aim_anew()
        for client in self._clients:
            client.session.stop()
        give_up = time.monotonic() + END_S
        while any(client.session.waits for client in self._clients):
            if time.monotonic() > give_up:
                break
            await asyncio.sleep(LOOK_S / 10)  # an answer sets no event

    def counters(self) -> Counters:
        """See `Job`."""
        return driver_counters([client.driver for client in self._clients])

    async def close(self) -> None:
        """See `Job`."""
        for client in self._clients:
            client.driver.stop()
            await client.datagrams.wait_closed()

    async def _aim_anew(self) -> None:
        stale = [client.session for client in self._clients if client.session.is_stale]
        if not stale:
            return
        try:
            aim = await self._aim()
        except CommandError:
            # An election is under way; the requests that fail meanwhile are counted.
            return
        for session in stale:
            session.aim, session.is_stale = aim, False

    async def _aim(self) -> Aim:
        health = await ask_health(self._assignment.cluster, ANSWER_S)
        if health.leader is None:
            raise CommandError("no replica leads: there are no tokens", Status.UNAVAILABLE)
        layout = health.leader.layout
        leader = layout.replica(health.leader.replica)
        return Aim(layout.cluster, leader.address, layout.epoch)


async def _connect(aim: Aim, inflight: int) -> _Client:
    datagrams = await bind_udp(own_host((aim.leader,)), 0)
    link = Link(
        cluster=aim.cluster,
        session=Incarnation(os.urandom(16)),
        settings=LinkSettings(),
        rng=random.Random(),  # noqa: S311 - jitter
    )
    session = TokenSession(link, aim, inflight)
    driver = Driver(
        core=session,
        link=link,
        datagrams=datagrams,
        worker=None,
        loop=asyncio.get_running_loop(),
    )
    driver.start()
    return _Client(datagrams, driver, session)
