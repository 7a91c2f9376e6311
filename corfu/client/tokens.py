"""Getting tokens: several entries to a request, and none for an entry that is not frozen."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass

from corfu.client.cluster import Cluster
from corfu.client.packing import OutgoingEntry
from corfu.errors import UnavailableError
from corfu.layout import Layout
from corfu.messages import GetToken, Grant, Rejected, Rejection
from corfu.types import Offset, RequestId, Token

_SAMPLES_MAX = 256

Spawn = Callable[[Coroutine[object, object, None]], object]


@dataclass(frozen=True, slots=True)
class Granted:
    """A token, the layout of its epoch, and the end of the window it came from."""

    token: Token
    layout: Layout
    window_end: Offset


_Taker = tuple[OutgoingEntry, "asyncio.Future[Granted | None]"]


class WriteStatistics:
    """What a client reports with each token request: how long writes take, how many lost."""

    def __init__(self) -> None:
        self._samples: deque[float] = deque(maxlen=_SAMPLES_MAX)
        self._fresh = 0
        self._p99_us = 0
        self.usual_s = 0.0
        """The median of the newest writes, as of the last report; 0 before there is one."""
        self._lost = 0
        self._used = 0

    def add(self, write_s: float, *, lost: bool) -> None:
        """Note a write that ended, in an entry or (`lost`) because its offset was filled."""
        self._samples.append(write_s)
        self._fresh += 1
        self._used += 1
        self._lost += lost

    def take(self) -> tuple[int, int, int]:
        """Return (p99 of the newest writes in us, tokens lost, tokens used) since last time."""
        if self._fresh >= 32 or (self._fresh and not self._p99_us):
            times = sorted(self._samples)
            self._p99_us = int(times[len(times) * 99 // 100] * 1e6)
            self.usual_s = times[len(times) // 2]
            self._fresh = 0
        lost, used = self._lost, self._used
        self._lost = self._used = 0
        return self._p99_us, lost, used


class TokenDesk:
    """Gets each frozen entry a token of the newest epoch."""

    def __init__(self, cluster: Cluster, spawn: Spawn, fill: Callable[[Granted], None]) -> None:
        """Make a desk.

        Args:
            cluster: The way to the leader.
            spawn: Starts a background task.
            fill: Is given each token that no entry needs any more (also by others, as
                `give_back`), to fill its offset in the background.
        """
        self.statistics = WriteStatistics()
        self._cluster = cluster
        self._spawn = spawn
        self.give_back = fill
        self._waiting: deque[_Taker] = deque()
        self._asked: set[int] = set()
        self._scheduled = False

    async def take(self, entry: OutgoingEntry) -> Granted | None:
        """Return a token for `entry`, which is frozen; None if its time is over before.

        Cancelled after the token was granted, the token is filled: it is never given to
        another entry, which may have been frozen after its offset was granted.
        """
        future: asyncio.Future[Granted | None] = asyncio.get_running_loop().create_future()
        self._waiting.append((entry, future))
        if not self._scheduled:
            self._scheduled = True
            # One turn later: entries frozen in the same turn share a request.
            asyncio.get_running_loop().call_soon(self._ask_for_waiting)
        try:
            return await future
        except asyncio.CancelledError:
            granted = future.result() if future.done() and not future.cancelled() else None
            if granted is not None:
                self.give_back(granted)
            raise

    def _ask_for_waiting(self) -> None:
        self._scheduled = False
        count_max = self._cluster.settings.tokens_per_request_max
        while self._waiting:
            count = min(len(self._waiting), count_max)
            self._spawn(self._get([self._waiting.popleft() for _ in range(count)]))

    async def _get(self, takers: list[_Taker]) -> None:
        """Ask until every taker has a token, is gone, or has no time left."""
        backoff = self._cluster.backoff()
        while takers := self._still_waiting(takers):
            layout = self._cluster.layout
            grant = await self._ask(layout, [entry for entry, _ in takers])
            if grant is None:
                await self._cluster.endpoint.sleep(backoff.next_s())
                continue
            self._cluster.learn_write_times(grant.write_p99_us, grant.lost_permille)
            for number in range(grant.count):
                offset = Offset(grant.offset + number)
                self._cluster.saw(offset)
                granted = Granted(Token(grant.epoch, offset), layout, grant.window_end)
                if number < len(takers) and not takers[number][1].done():
                    takers[number][1].set_result(granted)
                else:
                    self.give_back(granted)

    def _still_waiting(self, takers: list[_Taker]) -> list[_Taker]:
        """Return those that want a token, and turn away those whose time is over.

        Nobody else would: a call that its caller gave up has no deadline that anybody looks at,
        and its entry would keep its place among those in flight for ever.
        """
        now = self._cluster.endpoint.now()
        waiting: list[_Taker] = []
        for entry, future in takers:
            if future.done():
                continue
            if now < entry.deadline:
                waiting.append((entry, future))
            else:
                future.set_result(None)
        return waiting

    async def _ask(self, layout: Layout, entries: list[OutgoingEntry]) -> Grant | None:
        """Ask the leader of this epoch once; None if it came to nothing (see `trouble`)."""
        endpoint = self._cluster.endpoint
        request = endpoint.new_request()
        self._asked.add(request.sequence)
        try:
            message = self._message(request, layout, len(entries))
            # A little longer than anybody waits: a token that is granted late is filled at once
            # and not a hole until the leader sweeps.
            budget = self._cluster.settings.replica_budget_s
            deadline = max(entry.deadline for entry in entries) + budget
            reply = await self._cluster.ask_leader(message, deadline, "append")
        except UnavailableError as error:
            trouble = str(error)
        else:
            # Exactly what was asked for: each token beyond that would cost a fill.
            if (
                isinstance(reply, Grant)
                and reply.epoch == layout.epoch
                and reply.count == len(entries)
            ):
                return reply
            trouble = "the leader's answer made no sense"
            if isinstance(reply, Rejected):
                trouble = f"the leader refused tokens: {reply.reason.name} {reply.detail}".rstrip()
                if reply.reason is not Rejection.TOO_OLD:
                    await self._cluster.refresh()
        finally:
            self._asked.discard(request.sequence)
        for entry in entries:
            entry.trouble = trouble
        return None

    def _message(self, request: RequestId, layout: Layout, count: int) -> GetToken:
        p99_us, lost, used = self.statistics.take()
        return GetToken(request, layout.epoch, count, min(self._asked), p99_us, lost, used)
