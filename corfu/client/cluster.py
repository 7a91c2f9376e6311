"""What a client knows of its cluster: the layout, the leader, how far the log goes.

Everything here is a hint but the layout itself, which is a fact about its epoch for ever. A
client never goes back an epoch: a replica that lags tells it nothing.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from typing import Generic, Protocol, TypeVar

from corfu.client.settings import ClientSettings
from corfu.compression import EntryCodec
from corfu.errors import UnavailableError
from corfu.layout import Layout, problems
from corfu.messages import GetLayout, GetTail, LayoutIs, Message, NotLeader, Rejected, TailIs
from corfu.ports import Clock, Network, UnansweredError
from corfu.types import Address, ClusterId, Epoch, Offset

T = TypeVar("T")


_HOLE_WAIT_S_MAX = 10.0
"""However slow writers are said to be: well below the time that a read takes by default."""


class Endpoint(Network, Clock, Protocol):
    """Requests and time: all that a client needs of the world."""


class Backoff:
    """Waiting times that double, each drawn from its upper half so that clients spread out."""

    def __init__(self, settings: ClientSettings, rng: random.Random) -> None:
        self._next = settings.backoff_s_min
        self._max = settings.backoff_s_max
        self._rng = rng

    def next_s(self) -> float:
        """Return the next time to wait, in seconds."""
        delay = self._next * self._rng.uniform(0.5, 1.0)
        self._next = min(self._next * 2, self._max)
        return delay


class SharedRound(Generic[T]):
    """Lets callers share one run, but only a run that begins after they have asked.

    That is what makes a shared answer as good as an own one: it speaks of a moment within the
    time of each call that gets it.
    """

    def __init__(self, run: Callable[[], Coroutine[object, object, T]]) -> None:
        self._run = run
        self._running: asyncio.Task[T] | None = None
        self._next: asyncio.Task[T] | None = None

    async def join(self) -> T:
        """Return the result of the first run that begins from now on."""
        if self._next is None:
            self._next = asyncio.get_running_loop().create_task(self._begin())
        # One caller's cancellation is no other caller's.
        return await asyncio.shield(self._next)

    def cancel(self) -> None:
        """End what runs; those who wait are cancelled."""
        for task in (self._running, self._next):
            if task is not None:
                task.cancel()

    async def _begin(self) -> T:
        if self._running is not None:
            await asyncio.wait({self._running})
        # From here on it is under way: who asks now waits for the next one.
        self._running, self._next = self._next, None
        return await self._run()


class Cluster:
    """The way to the replicas, and what was learned from them."""

    def __init__(
        self,
        endpoint: Endpoint,
        settings: ClientSettings,
        rng: random.Random,
        sequencers: tuple[Address, ...],
        on_cluster: Callable[[ClusterId], None] | None = None,
    ) -> None:
        assert sequencers
        self._on_cluster = on_cluster
        self.endpoint = endpoint
        self.settings = settings
        self.codec = EntryCodec(settings.compression)
        self.rng = rng
        self.trim_mark = Offset(0)
        self.tail_seen = Offset(0)
        """Every offset below was granted: proves "below the tail", never "at or above"."""
        self.write_p99_s = 0.0
        self.lost_permille = 0
        self._layout: Layout | None = None
        self._given = sequencers
        self._turn = rng.randrange(len(sequencers))
        self._leader: Address | None = None
        # Who did not answer, and until when it is asked only if there is no other: for one more
        # budget, in which the others elect somebody. It may be just slow, and lead still.
        self._silent: Address | None = None
        self._silent_until = 0.0
        self._refreshing = SharedRound(self._ask_layout)
        self._tails = SharedRound(self._ask_tail)

    @property
    def layout(self) -> Layout:
        """The newest activated layout heard of."""
        assert self._layout is not None
        return self._layout

    @property
    def replicas(self) -> tuple[Address, ...]:
        """All known addresses of replicas: the layout's, then those given that it lacks."""
        if self._layout is None:
            return self._given
        known = tuple(replica.address for replica in self._layout.replicas)
        return known + tuple(address for address in self._given if address not in known)

    def close(self) -> None:
        """End the asks that are shared."""
        self._refreshing.cancel()
        self._tails.cancel()

    def backoff(self) -> Backoff:
        """Return a fresh series of waiting times."""
        return Backoff(self.settings, self.rng)

    def saw(self, offset: Offset) -> None:
        """Note that `offset` was granted."""
        self.tail_seen = max(self.tail_seen, Offset(offset + 1))

    async def open(self, timeout_s: float) -> None:
        """Get a first layout.

        Raises:
            UnavailableError: No replica told one in time.
        """
        deadline = self.endpoint.now() + timeout_s
        backoff = self.backoff()
        while self._layout is None:
            await self.refresh()
            if self._layout is None:
                if self.endpoint.now() >= deadline:
                    tried = ", ".join(str(address) for address in self._given)
                    raise UnavailableError(
                        f"no sequencer replica told an active layout within {timeout_s:g} s; "
                        f"tried {tried}"
                    )
                await self.endpoint.sleep(backoff.next_s())

    async def refresh(self) -> bool:
        """Ask one replica, another one each time, for a newer layout; tell if there was one.

        Another one each time, because the one asked before may be cut off from the rest.
        """
        before = self._layout
        await self._refreshing.join()
        return self._layout is not before

    async def ask_leader(
        self, message: Message, deadline: float, doing: str, budget_s: float | None = None
    ) -> Message:
        """Bring `message` to the leader, wherever it is; return its answer (never NotLeader).

        The request id stays the same: only one process grants in an epoch, so a token request
        asked at several replicas is still granted at most once.

        Args:
            message: The request.
            deadline: When to give up.
            doing: What for, in the error's text.
            budget_s: How long one replica may take; None: `replica_budget_s`.

        Raises:
            UnavailableError: No leader answered before `deadline`.
        """
        backoff = self.backoff()
        budget_s = budget_s or self.settings.replica_budget_s
        to = self._leader or self._leader_by_layout() or self._next_replica()
        if self._is_silent(to):
            to = self._next_replica()
        trouble = "no replica was asked"
        redirects = 0
        while (left := deadline - self.endpoint.now()) > 0:
            try:
                reply = await self.endpoint.ask(to, message, min(left, budget_s))
            except UnansweredError:
                trouble = f"replica {to} did not answer"
                self._leader = None
                self._silent = to
                self._silent_until = self.endpoint.now() + budget_s
                to = self._next_replica()
                continue
            if not isinstance(reply, NotLeader):
                self._leader = to
                return reply
            trouble = "the replicas that answered know no leader"
            self._leader = None
            if self._layout is not None and reply.epoch > self._layout.epoch:
                await self.refresh()
            # The others name a dead leader until they have elected another one: to follow them
            # then would cost a whole budget each time.
            named = None if reply.leader is None or self._is_silent(reply.leader) else reply.leader
            if named is not None and named != to and redirects < 2:
                redirects += 1
                to = named
            else:
                redirects = 0
                to = self._next_replica()
                await self.endpoint.sleep(backoff.next_s())
        raise UnavailableError(f"{doing}: no leader answered in time: {trouble}")

    async def confirmed_tail(self, deadline: float) -> TailIs:
        """Return the tail, confirmed by a majority in a round begun after this call.

        Raises:
            UnavailableError: Nobody could confirm it before `deadline`.
        """
        while (left := deadline - self.endpoint.now()) > 0:
            try:
                async with asyncio.timeout(left):
                    reply = await self._tails.join()
            except TimeoutError:
                break
            if reply is not None:
                return reply
        raise UnavailableError("tail: no leader confirmed it in time")

    async def cheap_tail(self, deadline: float) -> TailIs:
        """Return a tail that was true at some moment of this leader's term, unconfirmed."""
        backoff = self.backoff()
        while self.endpoint.now() < deadline:
            message = GetTail(self.endpoint.new_request(), False)
            reply = await self.ask_leader(message, deadline, "tail")
            if isinstance(reply, TailIs):
                self._learn_tail(reply)
                return reply
            await self.endpoint.sleep(backoff.next_s())
        raise UnavailableError("tail: no leader answered in time")

    def hole_wait_s(self) -> float:
        """Return how long a hole may stay empty before it is filled.

        Four times what slow writers take, and twice that while fills beat writers: else, under
        overload, every reader fills each offset before its writer comes and nobody gets on.
        """
        wait = max(self.settings.hole_timeout_s, 4 * self.write_p99_s)
        wait = 2 * wait if self.lost_permille > 10 else wait
        # A fill that beats a writer is harmless; a reader whose own time ends first learns nothing.
        # And one bad number must not make every reader wait for years at a hole.
        return max(self.settings.hole_timeout_s, min(wait, _HOLE_WAIT_S_MAX))

    def learn_write_times(self, p99_us: int, lost_permille: int) -> None:
        """Take over what the leader has heard from all writers."""
        self.write_p99_s = p99_us / 1e6
        self.lost_permille = lost_permille

    def _leader_by_layout(self) -> Address | None:
        if self._layout is None:
            return None
        id_ = self._layout.leader.replica
        return next((r.address for r in self._layout.replicas if r.id == id_), None)

    def _is_silent(self, replica: Address) -> bool:
        return replica == self._silent and self.endpoint.now() < self._silent_until

    def _next_replica(self) -> Address:
        """Return the next replica in turn; one that is silent only if there is no other."""
        replicas = self.replicas
        for _ in replicas:
            self._turn = (self._turn + 1) % len(replicas)
            if not self._is_silent(replicas[self._turn]):
                break
        return replicas[self._turn]

    async def _ask_layout(self) -> None:
        epoch = Epoch(0) if self._layout is None else self._layout.epoch
        message = GetLayout(self.endpoint.new_request(), epoch)
        budget = self.settings.replica_budget_s
        try:
            reply = await self.endpoint.ask(self._next_replica(), message, budget)
        except UnansweredError:
            return
        if isinstance(reply, LayoutIs):
            self._learn_layout(reply)

    def _learn_layout(self, reply: LayoutIs) -> None:
        self.trim_mark = max(self.trim_mark, reply.trim_mark)
        layout, held = reply.layout, self._layout
        if layout is None or problems(layout):
            return
        # Never back an epoch: a lagging replica's layout could call a granted offset ungranted.
        if held is not None and (layout.epoch <= held.epoch or layout.cluster != held.cluster):
            return
        if held is None and self._on_cluster is not None:
            self._on_cluster(layout.cluster)
        self._layout = layout
        self._leader = reply.leader
        # Everything below T was granted or will never be: it is below the tail.
        self.tail_seen = max(self.tail_seen, layout.first_offset)

    async def _ask_tail(self) -> TailIs | None:
        """One round; None if it led to nothing and should be begun again."""
        deadline = self.endpoint.now() + 2 * self.settings.replica_budget_s
        epoch_before = self.layout.epoch
        message = GetTail(self.endpoint.new_request(), True)
        try:
            reply = await self.ask_leader(message, deadline, "tail")
        except UnavailableError:
            return None
        if isinstance(reply, TailIs):
            self._learn_tail(reply)
            if reply.epoch > self.layout.epoch:
                await self.refresh()
            # An answer of an older epoch than the one known before the question is stale.
            return reply if reply.epoch >= epoch_before else None
        if isinstance(reply, Rejected):
            await self.refresh()
        await self.endpoint.sleep(self.backoff().next_s())
        return None

    def _learn_tail(self, reply: TailIs) -> None:
        self.tail_seen = max(self.tail_seen, reply.tail)
        self.trim_mark = max(self.trim_mark, reply.trim_mark)
        self.learn_write_times(reply.write_p99_us, reply.lost_permille)
