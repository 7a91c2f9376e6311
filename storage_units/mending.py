"""Mending: a unit that has found damage asks its chain for what it lost, without any reader.

Who can say what belongs at a damaged offset depends on the unit's place in the offset's chain:

- *A later unit* asks its head for a Fill with only-if-written. The head's word is the repair at
  every unit after it: a value is copied down, junk and LOST are taken over. Safe at every offset,
  in closed segments and below closed_until as well: the head acts on what it holds and never makes
  a value of its own (an EMPTY is answered NotWritten, damage is refused), and what this unit held
  the head held first. It is what a reader sends that meets the damage.
- *A head* that knows id and digest of what it lost copies exactly that from a unit after it. Safe
  in the epoch that goes on: the head had decided for this entry, durably, and has answered DAMAGED
  since, so nobody can have got another word from it; id and digest name one value for ever.
- All else (a head that cannot name the record, or whose chain has no sound copy) stays, is told by
  the Probe, and settled by the leader in a new epoch: copied, EMPTY or LOST. A doubtful record of a
  restart belongs there, too: it may never have been acknowledged.

No answer is waited for: an offset is mended when the store says so, else it is tried again.
"""

from __future__ import annotations

import math
from collections import deque

from corfu.effects import Effect, Send
from corfu.messages import Fill
from corfu.types import Offset, RequestId

from .context import Context
from .copies import Copies, Wanted
from .standing import Seat

_AT_ONCE = 16
"""Offsets under way; far fewer than the copies that requests may wait for."""

_ANSWER_S = 1.0
"""After that an offset that is still damaged is left to the next round."""

_ROUND_S_MIN = 0.5
_ROUND_S_MAX = 30.0
"""Between two rounds over all damage; doubles while nothing gets better."""


class Mending:
    """Goes over what is damaged, in rounds."""

    def __init__(self, context: Context, copies: Copies) -> None:
        self._context = context
        self._copies = copies
        self._queue: deque[Offset] = deque()
        self._asked: dict[Offset, tuple[RequestId, float]] = {}
        self._round = 0
        self._round_began = -math.inf
        self._pause_s = _ROUND_S_MIN
        self._seen = (0, 0)

    @property
    def deadline(self) -> float | None:
        """When to go on; None if nothing is damaged, or nothing served."""
        if not self._is_needed():
            return None
        named = self._context.store.suspicion.named
        expires = [until for offset, (_, until) in self._asked.items() if offset in named]
        if self._queue:
            return min(expires) if len(expires) == _AT_ONCE else -math.inf
        return min(expires) if expires else self._next_round()

    def answered(self, request: RequestId) -> None:
        """Take any answer: a refusal, or word that there is nothing to copy, frees the place."""
        for offset, (asked, _) in self._asked.items():
            if asked == request:
                del self._asked[offset]
                return

    def installed(self) -> None:
        """Begin anew: the chains may be others, and what was asked in the old epoch is void."""
        self._queue.clear()
        self._asked.clear()
        self._pause_s, self._round_began = _ROUND_S_MIN, -math.inf

    def tick(self, now: float) -> list[Effect]:
        """Ask for what is damaged, as much as may be under way."""
        if not self._is_needed():
            self._queue.clear()
            self._asked.clear()
            return []
        named = self._context.store.suspicion.named
        for offset, (_, until) in list(self._asked.items()):
            if offset not in named or until <= now:
                del self._asked[offset]
        if not self._queue and not self._asked and now >= self._next_round():
            self._begin_round(now)
        effects: list[Effect] = []
        while self._queue and len(self._asked) < _AT_ONCE:
            effects += self._mend(self._queue.popleft(), now)
        return effects

    def _is_needed(self) -> bool:
        context = self._context
        standing = context.standing
        return bool(context.store.suspicion.named) and standing.serving and not standing.frozen

    def _next_round(self) -> float:
        # What was found or healed since may let more heal at once.
        changed = self._seen != self._progress()
        return self._round_began + (_ROUND_S_MIN if changed else self._pause_s)

    def _progress(self) -> tuple[int, int]:
        suspicion = self._context.store.suspicion
        return suspicion.found, suspicion.repaired

    def _begin_round(self, now: float) -> None:
        seen = self._progress()
        changed = seen != self._seen
        self._pause_s = _ROUND_S_MIN if changed else min(2 * self._pause_s, _ROUND_S_MAX)
        self._seen = seen
        self._round += 1
        self._round_began = now
        self._queue.extend(sorted(self._context.store.suspicion.named))

    def _mend(self, offset: Offset, now: float) -> list[Effect]:
        context = self._context
        suspicion = context.store.suspicion
        seat = context.standing.seat_of(offset)
        if seat is None or offset not in suspicion.named:
            return []
        if seat.previous is not None:
            return self._ask_head(offset, seat, now)
        name = suspicion.named[offset]
        if name is None or offset in suspicion.doubtful or seat.next is None:
            return []
        # Another unit each round: the copy of one may be damaged, too.
        others = seat.chain[1:]
        source = others[self._round % len(others)].address
        origin = self._copies.new_request()
        self._asked[offset] = (origin, now + _ANSWER_S)
        wanted = [Wanted(offset, name.entry_id, name.digest)]
        epoch = context.standing.sealed
        return self._copies.start(
            origin, source, epoch, wanted, lambda _: [], now, reserve=False
        )  # fmt: skip

    def _ask_head(self, offset: Offset, seat: Seat, now: float) -> list[Effect]:
        request = self._copies.new_request()
        self._asked[offset] = (request, now + _ANSWER_S)
        epoch, end = self._context.standing.sealed, Offset(offset + 1)
        fill = Fill(request, epoch, offset, end, only_if_written=True)
        return [Send(seat.chain[0].address, fill, ordered=False)]
