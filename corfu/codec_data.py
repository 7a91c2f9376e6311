"""Bodies of what each append needs: fixed `struct` layouts, so that an entry costs one copy.

Epoch and offset travel in the frame header; a body is what is left of the message. Decoders are
total: they return a message or raise WireError, whatever the bytes, in time linear in them.
Encoders assert what decoders demand: a message of ours that would be refused is our bug.
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from corfu.config import HELD_MAX, NOTICE_ENTRIES_MAX
from corfu.errors import WireError
from corfu.messages.data import (
    AlreadyWritten,
    Copy,
    Durable,
    Entries,
    Entry,
    Fill,
    Filled,
    FillList,
    Forward,
    HeldOffset,
    NotWritten,
    Read,
    Reason,
    Refused,
    Write,
    Written,
    WrongEpoch,
)
from corfu.messages.sequencer import GetToken, Grant
from corfu.types import (
    OFFSET_MAX,
    Address,
    Digest,
    EntryId,
    Epoch,
    Offset,
    Range,
    RequestId,
    State,
)

ID_BYTES = 16
RUNS_MAX = 2 * HELD_MAX
"""Most junk runs of one list: between two runs stands a held offset, or the trim mark."""

_WRITE = struct.Struct(">16sQ")
_ID_FLAG = struct.Struct(">16sB")
_ID_STATE = struct.Struct(">16sB")
_END_FLAG = struct.Struct(">QB")
_READ = struct.Struct(">QII")
_LIST = struct.Struct(">QHH")
_RANGE = struct.Struct(">QQ")
_HELD = struct.Struct(">QB16sQ")
_COUNT = struct.Struct(">H")
_OFFSET = struct.Struct(">Q")
_NOTED = struct.Struct(">Q16s")
_ENTRIES = struct.Struct(">QQI")
_ENTRY = struct.Struct(">QB16sQI")
_PORT = struct.Struct(">BH")
_GET_TOKEN = struct.Struct(">5Q")
_GRANT = struct.Struct(">4Q")

Parts = tuple[bytes, ...]
"""A body in pieces, so that an entry is copied once: into the frame that it leaves in."""

_STATES = {state.value: state for state in State}
_REASONS = {reason.value: reason for reason in Reason}
_STATES_SETTLED = {s.value: s for s in (State.DATA, State.JUNK, State.TRIMMED, State.LOST)}


@lru_cache(maxsize=4096)
def pack_address(address: Address) -> bytes:
    """Encode an address: family (4 or 6), port, then 4 or 16 bytes.

    Raises:
        ValueError: The host is no numeric address without a scope, or the port no UDP port.
    """
    host = ipaddress.ip_address(address.host)
    if isinstance(host, ipaddress.IPv6Address) and host.scope_id:
        raise ValueError(f"{address.host} means something on one machine only")
    if not 0 <= address.port <= 0xFFFF:
        raise ValueError(f"{address.port} is no UDP port")
    return _PORT.pack(host.version, address.port) + host.packed


@lru_cache(maxsize=4096)
def _host(packed: bytes) -> str:
    return str(ipaddress.ip_address(packed))


def unpack_address(body: memoryview, position: int) -> tuple[Address, int]:
    """Decode an address at `position`; returns it and where it ends."""
    family, port = _unpack(_PORT, body, position)
    if family not in (4, 6):
        raise WireError(f"address family {family}")
    start = position + _PORT.size
    end = start + (4 if family == 4 else 16)
    if end > len(body):
        raise WireError("the body ends within an address")
    return Address(_host(bytes(body[start:end])), port), end


def _unpack(layout: struct.Struct, body: memoryview, position: int = 0) -> tuple[Any, ...]:
    try:
        return layout.unpack_from(body, position)
    except struct.error as error:
        raise WireError(f"the body is too short: {error}") from error


def _unpack_all(layout: struct.Struct, body: memoryview) -> tuple[Any, ...]:
    if len(body) != layout.size:
        raise WireError(f"{len(body)} bytes where {layout.size} are wanted")
    return layout.unpack(body)


def _offset(value: int) -> Offset:
    if value > OFFSET_MAX:
        raise WireError(f"{value} is no offset")
    return Offset(value)


def _state(number: int, allowed: dict[int, State]) -> State:
    state = allowed.get(number)
    if state is None:
        raise WireError(f"state {number}")
    return state


def _flag(number: int) -> bool:
    if number > 1:
        raise WireError(f"{number} where a flag is wanted")
    return number == 1


def _empty(body: memoryview) -> None:
    if body:
        raise WireError("a body where none is wanted")


# Encoders.


def _encode_write(message: Write) -> Parts:
    assert len(message.entry_id) == ID_BYTES
    return _WRITE.pack(message.entry_id, message.window_end), message.entry


def _encode_forward(message: Forward) -> Parts:
    assert len(message.entry_id) == ID_BYTES
    head = _ID_FLAG.pack(message.entry_id, message.durable_above)
    return head + pack_address(message.client), message.entry


def _encode_written(message: Written) -> Parts:
    assert len(message.entry_id) == ID_BYTES
    return (message.entry_id,)


def _encode_already_written(message: AlreadyWritten) -> Parts:
    assert len(message.entry_id) == ID_BYTES
    assert message.state in _STATES_SETTLED
    return (_ID_STATE.pack(message.entry_id, message.state),)


def _encode_fill(message: Fill) -> Parts:
    return (_END_FLAG.pack(message.end, message.only_if_written),)


def _encode_fill_list(message: FillList) -> Parts:
    return (pack_address(message.client) + _pack_list(message),)


def _encode_filled(message: Filled) -> Parts:
    return (_pack_list(message),)


def _pack_list(message: FillList | Filled) -> bytes:
    assert len(message.junk) <= RUNS_MAX
    assert len(message.held) <= HELD_MAX
    assert all(held.state in _STATES_SETTLED for held in message.held)
    return b"".join(
        (
            _LIST.pack(message.end, len(message.junk), len(message.held)),
            *(_RANGE.pack(run.start, run.end) for run in message.junk),
            *(_HELD.pack(h.offset, h.state, h.entry_id, h.digest) for h in message.held),
        )
    )


def _encode_nothing(_message: NotWritten | WrongEpoch) -> Parts:
    return ()


def _encode_read(message: Read) -> Parts:
    return (_READ.pack(message.end, message.bytes_max, message.wait_ms),)


def _encode_copy(message: Copy) -> Parts:
    assert len(message.offsets) <= HELD_MAX
    count = len(message.offsets)
    return (struct.pack(f">H{count}Q", count, *message.offsets),)


def _encode_entries(message: Entries) -> Parts:
    entries = message.entries
    rows = [_ENTRY.pack(e.offset, e.state, e.entry_id, e.digest, len(e.entry)) for e in entries]
    head = _ENTRIES.pack(message.end, message.trim_mark, len(entries))
    return head + b"".join(rows), *[e.entry for e in entries if e.entry]


def _encode_durable(message: Durable) -> Parts:
    assert 0 < len(message.entries) <= NOTICE_ENTRIES_MAX
    assert message.offset == message.entries[0][0]
    return (b"".join(_NOTED.pack(offset, entry_id) for offset, entry_id in message.entries),)


def _encode_refused(message: Refused) -> Parts:
    return (bytes((message.reason,)),)


def _encode_get_token(message: GetToken) -> Parts:
    m = message
    return (_GET_TOKEN.pack(m.count, m.oldest, m.write_p99_us, m.tokens_lost, m.tokens_used),)


def _encode_grant(message: Grant) -> Parts:
    m = message
    return (_GRANT.pack(m.count, m.window_end, m.write_p99_us, m.lost_permille),)


# Decoders: (request, epoch, offset, body) -> message.


def _decode_write(request: RequestId, epoch: Epoch, offset: Offset, body: memoryview) -> Write:
    entry_id, window_end = _unpack(_WRITE, body)
    entry = bytes(body[_WRITE.size :])
    return Write(request, epoch, offset, EntryId(entry_id), _offset(window_end), entry)


def _decode_forward(request: RequestId, epoch: Epoch, offset: Offset, body: memoryview) -> Forward:
    entry_id, durable = _unpack(_ID_FLAG, body)
    client, end = unpack_address(body, _ID_FLAG.size)
    entry = bytes(body[end:])
    return Forward(request, epoch, offset, EntryId(entry_id), client, entry, _flag(durable))


def _decode_written(request: RequestId, epoch: Epoch, offset: Offset, body: memoryview) -> Written:
    if len(body) != ID_BYTES:
        raise WireError("no entry id")
    return Written(request, epoch, offset, EntryId(bytes(body)))


def _decode_already_written(
    request: RequestId, epoch: Epoch, offset: Offset, body: memoryview
) -> AlreadyWritten:
    entry_id, state = _unpack_all(_ID_STATE, body)
    settled = _state(state, _STATES_SETTLED)
    return AlreadyWritten(request, epoch, offset, EntryId(entry_id), settled)


def _decode_fill(request: RequestId, epoch: Epoch, offset: Offset, body: memoryview) -> Fill:
    end, only_if_written = _unpack_all(_END_FLAG, body)
    return Fill(request, epoch, offset, _offset(end), _flag(only_if_written))


def _decode_fill_list(
    request: RequestId, epoch: Epoch, offset: Offset, body: memoryview
) -> FillList:
    client, start = unpack_address(body, 0)
    end, junk, held = _decode_list(body[start:])
    return FillList(request, epoch, offset, end, client, junk, held)


def _decode_filled(request: RequestId, epoch: Epoch, offset: Offset, body: memoryview) -> Filled:
    return Filled(request, epoch, offset, *_decode_list(body))


def _decode_list(body: memoryview) -> tuple[Offset, tuple[Range, ...], tuple[HeldOffset, ...]]:
    end, runs, held = _unpack(_LIST, body)
    if runs > RUNS_MAX or held > HELD_MAX:
        raise WireError(f"a list of {runs} runs and {held} held offsets")
    middle = _LIST.size + runs * _RANGE.size
    if len(body) != middle + held * _HELD.size:
        raise WireError("a list whose length is not that of its parts")
    return (
        _offset(end),
        tuple(
            Range(_offset(first), _offset(last))
            for first, last in _RANGE.iter_unpack(body[_LIST.size : middle])
        ),
        tuple(
            HeldOffset(
                _offset(place), _state(state, _STATES_SETTLED), EntryId(entry_id), Digest(digest)
            )
            for place, state, entry_id, digest in _HELD.iter_unpack(body[middle:])
        ),
    )


def _decode_not_written(
    request: RequestId, epoch: Epoch, offset: Offset, body: memoryview
) -> NotWritten:
    _empty(body)
    return NotWritten(request, epoch, offset)


def _decode_wrong_epoch(
    request: RequestId, epoch: Epoch, offset: Offset, body: memoryview
) -> WrongEpoch:
    _empty(body)
    return WrongEpoch(request, epoch, offset)


def _decode_read(request: RequestId, epoch: Epoch, offset: Offset, body: memoryview) -> Read:
    end, bytes_max, wait_ms = _unpack_all(_READ, body)
    return Read(request, epoch, offset, _offset(end), bytes_max, wait_ms)


def _decode_copy(request: RequestId, epoch: Epoch, offset: Offset, body: memoryview) -> Copy:
    (count,) = _unpack(_COUNT, body)
    if count > HELD_MAX or len(body) != _COUNT.size + count * _OFFSET.size:
        raise WireError(f"{count} offsets in {len(body)} bytes")
    places = _OFFSET.iter_unpack(body[_COUNT.size :])
    return Copy(request, epoch, offset, tuple(_offset(place) for (place,) in places))


def _decode_entries(request: RequestId, epoch: Epoch, offset: Offset, body: memoryview) -> Entries:
    end, trim_mark, count = _unpack(_ENTRIES, body)
    position = _ENTRIES.size + count * _ENTRY.size
    if position > len(body):
        raise WireError(f"{count} entries in {len(body)} bytes")
    entries: list[Entry] = []
    for row in _ENTRY.iter_unpack(body[_ENTRIES.size : position]):
        place, number, entry_id, digest, length = row
        state = _state(number, _STATES)
        if length > len(body) - position or (length and state is not State.DATA):
            raise WireError(f"an entry of {length} bytes, state {state}")
        data = bytes(body[position : position + length])
        position += length
        entries.append(Entry(_offset(place), state, EntryId(entry_id), Digest(digest), data))
    if position != len(body):
        raise WireError("bytes after the last entry")
    return Entries(request, epoch, offset, _offset(end), _offset(trim_mark), tuple(entries))


def _decode_durable(request: RequestId, epoch: Epoch, offset: Offset, body: memoryview) -> Durable:
    count, rest = divmod(len(body), _NOTED.size)
    if rest or not 0 < count <= NOTICE_ENTRIES_MAX:
        raise WireError(f"{len(body)} bytes are no list of entries")
    entries = tuple((_offset(place), EntryId(id_)) for place, id_ in _NOTED.iter_unpack(body))
    if entries[0][0] != offset:
        raise WireError(f"the first entry is at {entries[0][0]}, not at {offset}")
    return Durable(request, epoch, offset, entries)


def _decode_refused(request: RequestId, epoch: Epoch, offset: Offset, body: memoryview) -> Refused:
    reason = _REASONS.get(body[0]) if len(body) == 1 else None
    if reason is None:
        raise WireError("no reason")
    return Refused(request, epoch, offset, reason)


def _decode_get_token(
    request: RequestId, epoch: Epoch, _offset: Offset, body: memoryview
) -> GetToken:
    return GetToken(request, epoch, *_unpack_all(_GET_TOKEN, body))


def _decode_grant(request: RequestId, epoch: Epoch, offset: Offset, body: memoryview) -> Grant:
    count, window_end, p99_us, lost_permille = _unpack_all(_GRANT, body)
    return Grant(request, epoch, offset, count, _offset(window_end), p99_us, lost_permille)


Encode = Callable[[Any], Parts]
Decode = Callable[[RequestId, Epoch, Offset, memoryview], Any]

DATA_CODECS: dict[type, tuple[Encode, Decode]] = {
    Write: (_encode_write, _decode_write),
    Forward: (_encode_forward, _decode_forward),
    Written: (_encode_written, _decode_written),
    AlreadyWritten: (_encode_already_written, _decode_already_written),
    Fill: (_encode_fill, _decode_fill),
    FillList: (_encode_fill_list, _decode_fill_list),
    Filled: (_encode_filled, _decode_filled),
    NotWritten: (_encode_nothing, _decode_not_written),
    Read: (_encode_read, _decode_read),
    Copy: (_encode_copy, _decode_copy),
    Entries: (_encode_entries, _decode_entries),
    WrongEpoch: (_encode_nothing, _decode_wrong_epoch),
    Refused: (_encode_refused, _decode_refused),
    Durable: (_encode_durable, _decode_durable),
    GetToken: (_encode_get_token, _decode_get_token),
    Grant: (_encode_grant, _decode_grant),
}
"""How each data message's body is written and read."""
