"""Arbitrary messages, built from their types, within the bounds that the messages state."""

from __future__ import annotations

import ipaddress
from dataclasses import fields
from typing import Any, get_type_hints

from hypothesis import strategies as st

from corfu.config import NOTICE_ENTRIES_MAX
from corfu.messages import KINDS, Message
from corfu.messages.data import AlreadyWritten, Durable, Entry, HeldOffset
from corfu.messages.units import Block, Inspect
from corfu.types import (
    OFFSET_MAX,
    Address,
    ClusterId,
    EntryId,
    GoalId,
    Incarnation,
    Offset,
    State,
)

OFFSETS = st.integers(0, OFFSET_MAX).map(Offset)
SETTLED = st.sampled_from([State.DATA, State.JUNK, State.TRIMMED, State.LOST])
ADDRESSES = st.builds(
    Address,
    st.one_of(
        st.binary(min_size=4, max_size=4).map(lambda packed: str(ipaddress.ip_address(packed))),
        st.binary(min_size=16, max_size=16).map(lambda packed: str(ipaddress.ip_address(packed))),
    ),
    st.integers(0, 0xFFFF),
)
ENTRIES = st.one_of(
    st.builds(Entry, state=st.just(State.DATA)),
    st.builds(Entry, state=st.sampled_from(State), entry=st.just(b"")),
)


def register() -> None:
    """Tell hypothesis what the types of fields cannot say."""
    st.register_type_strategy(int, st.integers(0, 2**32 - 1))
    st.register_type_strategy(bytes, st.binary(max_size=200))
    st.register_type_strategy(str, st.text(max_size=30))
    st.register_type_strategy(Address, ADDRESSES)
    st.register_type_strategy(Entry, ENTRIES)
    st.register_type_strategy(HeldOffset, st.builds(HeldOffset, state=SETTLED))
    bitmaps = st.binary(min_size=128, max_size=128)
    st.register_type_strategy(Block, st.builds(Block, bitmap=bitmaps))
    for kind, length in ((ClusterId, 8), (Incarnation, 16), (EntryId, 16), (GoalId, 16)):
        st.register_type_strategy(kind, st.binary(min_size=length, max_size=length))
    st.register_type_strategy(Offset, OFFSETS)


def messages_of(kind: type[Message]) -> st.SearchStrategy[Any]:
    """Return a strategy for messages of one kind."""
    register()
    if kind is AlreadyWritten:
        return st.builds(kind, state=SETTLED)
    if kind is Inspect:
        starts = st.integers(0, OFFSET_MAX - 1024)
        return st.builds(
            lambda request, start, length: Inspect(request, start, start + length),
            st.from_type(get_type_hints(kind)["request"]),
            starts,
            st.integers(0, 1024),
        )
    hints = get_type_hints(kind)
    if kind is Durable:
        noted = st.tuples(OFFSETS, st.from_type(EntryId))
        return st.builds(
            lambda request, epoch, entries: Durable(request, epoch, entries[0][0], tuple(entries)),
            st.from_type(hints["request"]),
            st.from_type(hints["epoch"]),
            st.lists(noted, min_size=1, max_size=NOTICE_ENTRIES_MAX),
        )
    return st.builds(kind, **{f.name: st.from_type(hints[f.name]) for f in fields(kind)})


MESSAGES = st.one_of([messages_of(kind) for kind in KINDS.values()])
