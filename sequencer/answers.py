"""What any replica answers of its own state, whether it leads or not."""

from __future__ import annotations

from corfu import schema
from corfu.messages import GetState, LayoutIs, Register, Registered, StateIs
from corfu.types import Address, Epoch, RequestId, Slot

from .state import State
from .status import LOST_SHOWN_MAX


def layout_is(
    request: RequestId, state: State, leader: Address | None, *, newer_than: Epoch
) -> LayoutIs:
    """Return the activated layout, if it is newer than what the asker has, and the marks."""
    # Activated layouts only: an intent that clients used could yet be replaced by another.
    layout = state.activated
    known = layout is not None and layout.epoch > newer_than
    return LayoutIs(
        request,
        layout.epoch if layout is not None else Epoch(0),
        layout if known else None,
        leader,
        state.trim_mark,
        state.closed_until,
        state.lost[:LOST_SHOWN_MAX],
    )


def registered(message: Register, state: State) -> Registered:
    """Tell a unit what the state knows of it."""
    unit = message.unit
    listed = next(
        (
            known
            for known in state.active.units
            if (known.id, known.incarnation) == (unit.id, unit.incarnation)
        ),
        None,
    )
    gone = state.left_unit(unit.id, unit.incarnation)
    return Registered(
        message.request,
        state.active.epoch,
        listed is not None,
        listed is not None and listed.address != unit.address,
        gone is not None,
        None if gone is None else gone.bound,
        tuple(replica.address for replica in state.replicas),
    )


def state_is(message: GetState, state: State, applied: Slot) -> StateIs:
    """Return the whole state, as of slot `applied`."""
    return StateIs(message.request, state.cluster, applied, schema.pack(state))
