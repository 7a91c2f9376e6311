"""Who waits to hear a confirmed tail, and for which round."""

from __future__ import annotations

from dataclasses import dataclass

from corfu.types import Address, RequestId


@dataclass(frozen=True, slots=True)
class WaitingTail:
    """One request, answered once `round` has confirmed the leader."""

    request: RequestId
    sender: Address
    round: int


class WaitingTails:
    """The requests for a confirmed tail that are not answered yet; at most `most`."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._waiting: dict[RequestId, WaitingTail] = {}

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def add(self, request: RequestId, sender: Address, current_round: int) -> bool:
        """Let a request wait for the round after the current one; False: too many wait."""
        if request in self._waiting:
            # Sent again: the round that it waits for is later than the first copy, which is
            # enough.
            return True
        if len(self._waiting) >= self._most:
            return False
        # A round begun before the request came proves nothing: a successor may have been
        # activated, and have completed appends, between that round and the request.
        self._waiting[request] = WaitingTail(request, sender, current_round + 1)
        return True

    def confirmed(self, round_: int) -> list[WaitingTail]:
        """Return who waits no more now that `round_` has confirmed the leader, and forget them."""
        ready = [waiting for waiting in self._waiting.values() if waiting.round <= round_]
        for waiting in ready:
            del self._waiting[waiting.request]
        return ready

    def clear(self) -> list[WaitingTail]:
        """Return all who wait, and forget them."""
        waiting = list(self._waiting.values())
        self._waiting.clear()
        return waiting
