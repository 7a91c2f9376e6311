"""Tokens: which offsets are granted to whom, from a window that Paxos has chosen.

Pure. One `TokenDesk` serves one epoch in the one process that activated it; it lives in memory
only, so a restarted process can never grant from it. Source: CORFU, NSDI 2012, section 3.4 (the
sequencer); the window makes its counter safe to lose.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass, field

from corfu.config import WINDOW_OFFSETS_MAX
from corfu.messages import GetToken, Grant, Rejected, Rejection
from corfu.types import Address, Epoch, Incarnation, Offset, RequestId

from .grant_times import GrantTimes
from .settings import TOKENS_PER_REQUEST_MAX, SequencerSettings

_REPORTS_KEPT_S = 10.0
_REPORTS_MAX = 256
_USED_HALVED_AT = 20_000
_RATE_WEIGHT = 0.3
_RATE_PERIOD_S = 0.1


class WriteReports:
    """What clients report of their writes: how slow, and how many tokens ended as junk."""

    def __init__(self) -> None:
        # Falling: what is followed by something slower can never be the slowest again.
        self._slow: deque[tuple[float, int]] = deque(maxlen=_REPORTS_MAX)
        self._used = 0
        self._lost = 0

    def add(self, request: GetToken, now: float) -> None:
        """Take the report that a token request carries."""
        slow = self._slow
        if request.write_p99_us:
            while slow and slow[-1][1] <= request.write_p99_us:
                slow.pop()
            slow.append((now, request.write_p99_us))
        if request.tokens_used:
            self._used += request.tokens_used
            self._lost += min(request.tokens_lost, request.tokens_used)
        if self._used > _USED_HALVED_AT:
            self._used //= 2
            self._lost //= 2

    def p99_us(self, now: float) -> int:
        """Return the slowest p99 that was reported in the last seconds: a reader waits for all."""
        while self._slow and now - self._slow[0][0] > _REPORTS_KEPT_S:
            self._slow.popleft()
        return self._slow[0][1] if self._slow else 0

    def lost_permille(self) -> int:
        """Return how many of a thousand tokens were lost to junk, of the last ten thousand."""
        return 1000 * self._lost // self._used if self._used else 0


@dataclass(slots=True)
class _Client:
    """The answers kept for one client; requests below `floor` are too old."""

    floor: int = 0
    answers: dict[int, Grant] = field(default_factory=dict)

    def prune(self, floor: int) -> None:
        if floor <= self.floor:
            return
        self.floor = floor
        answers = self.answers
        # The oldest answers first. One that was given out of turn goes later: to know it still does
        # no harm, and each costs its own removal only.
        while answers and next(iter(answers)) < floor:
            del answers[next(iter(answers))]


@dataclass(frozen=True, slots=True)
class Answer:
    """A reply that is due, and to whom."""

    to: Address
    message: Grant | Rejected


class TokenDesk:
    """Grants each offset of the window once, in ascending order."""

    def __init__(
        self,
        epoch: Epoch,
        first: Offset,
        window_end: Offset,
        settings: SequencerSettings,
        reports: WriteReports,
        times: GrantTimes,
    ) -> None:
        self.epoch = epoch
        self.next = first
        self.window_end = window_end
        self._settings = settings
        self._reports = reports
        self._times = times
        self._clients: OrderedDict[Incarnation, _Client] = OrderedDict()
        self._waiting: OrderedDict[RequestId, tuple[GetToken, Address, float]] = OrderedDict()
        self._wanted = 0
        self._reserving = False
        self._rate = 0.0
        self._counted = 0
        self._counted_since: float | None = None

    def ask(self, request: GetToken, sender: Address, now: float, *, paused: bool) -> list[Answer]:
        """Take a request; returns the answers that are due, perhaps none yet.

        Args:
            request: What is asked.
            sender: Who asks.
            now: The time.
            paused: A new layout is pending: nothing is granted, the request waits.
        """
        if not 1 <= request.count <= TOKENS_PER_REQUEST_MAX:
            return [self._reject(request, sender, Rejection.MALFORMED, "count")]
        # A token is good in its own epoch only.
        if request.epoch != self.epoch:
            return [self._reject(request, sender, Rejection.WRONG_EPOCH, "")]
        client = self._client(request.request.client)
        sequence = request.request.sequence
        known = client.answers.get(sequence)
        if known is not None:
            return [Answer(sender, known)]
        if sequence < client.floor:
            # Its answer is forgotten. A second grant would be a hole that nobody fills.
            return [self._reject(request, sender, Rejection.TOO_OLD, "")]
        if request.request in self._waiting:
            return []
        self._reports.add(request, now)
        client.prune(min(request.oldest, sequence))
        if not self._waiting and not paused and self.next + request.count <= self.window_end:
            return [Answer(sender, self._grant(request, now))]
        if len(self._waiting) >= self._settings.waiting_max:
            return [self._reject(request, sender, Rejection.BUSY, "too many wait")]
        self._waiting[request.request] = (request, sender, now + self._settings.waiting_s)
        self._wanted += request.count
        return [] if paused else self.serve(now)

    def serve(self, now: float) -> list[Answer]:
        """Grant to who waits, in the order they came, while the window lasts."""
        answers: list[Answer] = []
        while self._waiting:
            request, sender, until = next(iter(self._waiting.values()))
            if now > until:
                answers.append(self._reject(request, sender, Rejection.BUSY, "no window in time"))
            elif self.next + request.count <= self.window_end:
                answers.append(Answer(sender, self._grant(request, now)))
            else:
                break
            self._waiting.popitem(last=False)
            self._wanted -= request.count
        return answers

    @property
    def deadline(self) -> float | None:
        """When the first who waits is told to come back."""
        return next(iter(self._waiting.values()))[2] if self._waiting else None

    def reserve(self, now: float) -> Offset | None:
        """Return the window end to be chosen next, None if enough is left or one is under way.

        Ahead of need: at half a window, so that no client waits for the reserve.
        """
        if self._reserving:
            return None
        size = self._window(now)
        left = self.window_end - self.next
        if left - self._wanted > size // 2:
            return None
        self._reserving = True
        wanted = self.next + self._wanted + size
        return Offset(max(self.window_end, min(wanted, self.window_end + WINDOW_OFFSETS_MAX)))

    def reserved(self, until: Offset | None, now: float) -> list[Answer]:
        """Note how a reserve ended: applied with success up to `until`, or None."""
        self._reserving = False
        # Only the applied result counts: a reserve that was chosen after an intent is rejected
        # by the state machine, and its offsets belong to the next epoch.
        if until is None:
            return []
        self.window_end = max(self.window_end, until)
        return self.serve(now)

    def close(self) -> list[Address]:
        """Drop all who wait; the desk grants no more."""
        self.window_end = self.next
        waiting = [sender for _, sender, _ in self._waiting.values()]
        self._waiting.clear()
        return waiting

    def waiting(self) -> list[tuple[GetToken, Address]]:
        """Return who waits."""
        return [(request, sender) for request, sender, _ in self._waiting.values()]

    def _grant(self, request: GetToken, now: float) -> Grant:
        first = self.next
        self._times.note(first, now)
        self.next = Offset(first + request.count)
        assert self.next <= self.window_end
        self._count(request.count, now)
        grant = Grant(
            request.request,
            self.epoch,
            first,
            request.count,
            self.window_end,
            self._reports.p99_us(now),
            self._reports.lost_permille(),
        )
        self._remember(request.request, grant)
        return grant

    def _remember(self, request: RequestId, grant: Grant) -> None:
        client = self._client(request.client)
        client.answers[request.sequence] = grant
        if len(client.answers) > self._settings.answers_max:
            client.prune(min(client.answers) + 1)

    def _client(self, incarnation: Incarnation) -> _Client:
        client = self._clients.get(incarnation)
        if client is None:
            client = self._clients[incarnation] = _Client()
            # A client forgotten here may be granted twice for one request. The second grant has
            # offsets of its own: it is a hole, never two owners of one offset.
            if len(self._clients) > self._settings.clients_max:
                self._clients.popitem(last=False)
        else:
            self._clients.move_to_end(incarnation)
        return client

    def _reject(self, request: GetToken, sender: Address, reason: Rejection, detail: str) -> Answer:
        return Answer(sender, Rejected(request.request, self.epoch, reason, detail))

    def _count(self, granted: int, now: float) -> None:
        if self._counted_since is None:
            self._counted_since = now
        self._counted += granted
        passed = now - self._counted_since
        if passed >= _RATE_PERIOD_S:
            self._rate += _RATE_WEIGHT * (self._counted / passed - self._rate)
            self._counted, self._counted_since = 0, now

    def _window(self, now: float) -> int:
        self._count(0, now)
        size = max(self._settings.window_offsets_min, int(self._rate * self._settings.window_s))
        return min(size, WINDOW_OFFSETS_MAX // 2)
