"""Collects the effects of one event, in order, from all parts of the core."""

from __future__ import annotations

from corfu.effects import Effect, Persist, Send
from corfu.messages import Message
from corfu.types import Address


class Outbox:
    """What the core asks of its driver; drained at the end of each event."""

    def __init__(self) -> None:
        self._effects: list[Effect] = []

    def send(self, to: Address, message: Message, *, ordered: bool = True) -> None:
        """Send, after all that was journalled before unless `ordered` is False."""
        self._effects.append(Send(to, message, ordered))

    def persist(self) -> None:
        """Note that something was journalled."""
        self._effects.append(Persist())

    def drain(self) -> list[Effect]:
        """Return the collected effects and start anew."""
        effects, self._effects = self._effects, []
        return effects
