"""The learner: chosen values, applied in slot order without gaps.

Pure. It keeps the state, and enough chosen values to help replicas that are behind.
"""

from __future__ import annotations

from dataclasses import dataclass

from corfu import schema
from corfu.layout import Replica
from corfu.messages import ChosenValue
from corfu.types import Slot

from .commands import decode
from .machine import apply
from .state import Outcome, State

DIGEST_SLOTS = 1000
"""The state's digest is taken every so many slots, to be compared between replicas."""


@dataclass(frozen=True, slots=True)
class AppliedSlot:
    """One slot that was applied, in order: the chosen value, and what it did."""

    slot: Slot
    value: bytes
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Missed:
    """What a replica that is behind lacks: a state if older values are gone, then values."""

    snapshot_slot: Slot
    snapshot: bytes
    values: tuple[ChosenValue, ...]


class Learner:
    """Applies chosen values. `applied`: every slot up to it is known chosen and applied."""

    def __init__(self, state: State, applied: Slot, keep_slots: int) -> None:
        self.state = state
        self.applied = applied
        self.digest_slot = applied
        self.digest = state.digest()
        self._keep_slots = keep_slots
        self._kept: dict[Slot, bytes] = {}
        self._waiting: dict[Slot, bytes] = {}

    def value(self, slot: Slot) -> bytes | None:
        """Return the chosen value of a slot, if it is known and still kept."""
        return self._kept.get(slot, self._waiting.get(slot))

    def learn(self, slot: Slot, value: bytes) -> list[AppliedSlot]:
        """Note that `value` is chosen at `slot`; returns the slots that could be applied now.

        Raises:
            WireError: The value is no command that this version knows: it cannot go on.
        """
        if slot <= self.applied:
            return []
        self._waiting[slot] = value
        done: list[AppliedSlot] = []
        # Without gaps: a command's result depends on all commands before it.
        while (following := Slot(self.applied + 1)) in self._waiting:
            chosen = self._waiting.pop(following)
            members = self.state.replicas
            self.state, outcome = apply(self.state, decode(chosen))
            self.applied = following
            self._forget_unless(members)
            self._kept[following] = chosen
            self._kept.pop(Slot(following - self._keep_slots), None)
            if following % DIGEST_SLOTS == 0:
                self.digest_slot, self.digest = following, self.state.digest()
            done.append(AppliedSlot(following, chosen, outcome))
        return done

    def install(self, slot: Slot, state: State) -> None:
        """Take over the state as of `slot`, which is above what is applied."""
        assert slot > self.applied
        members = self.state.replicas
        self.state = state
        self.applied = slot
        self.digest_slot, self.digest = slot, state.digest()
        self._kept.clear()
        self._waiting = {s: v for s, v in self._waiting.items() if s > slot}
        self._forget_unless(members)

    def _forget_unless(self, members: tuple[Replica, ...]) -> None:
        """Forget what waits behind a change of the members: it was counted with other votes.

        A leader counts votes for several slots at once. If a lower one turns out to be a change,
        which another leader had proposed and a later one found, then a majority of the old members
        has chosen nothing behind it: those slots are the new members' to choose.
        """
        if self.state.replicas != members:
            self._waiting.clear()

    def missed(self, from_slot: Slot, bytes_max: int) -> Missed:
        """Return what a replica lacks that has applied all below `from_slot`; a part of it."""
        if from_slot > self.applied:
            return Missed(Slot(0), b"", ())
        if from_slot not in self._kept:
            return Missed(self.applied, schema.pack(self.state), ())
        values: list[ChosenValue] = []
        size = 0
        for slot in range(from_slot, self.applied + 1):
            value = self._kept[Slot(slot)]
            size += len(value)
            if values and size > bytes_max:
                break
            values.append(ChosenValue(Slot(slot), value))
        return Missed(Slot(0), b"", tuple(values))
