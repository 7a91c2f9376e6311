"""From records to entries: the queue of calls, and entries from their freezing to their verdict.

No I/O, no clock. The rule that everything here serves: **an entry is frozen before the token
request that counts it leaves.** A record that comes later goes into a later entry; were it put
into a frozen one, it could be ordered before an append that ended before it began.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Generator, Sequence

import xxhash

from corfu.config import ENTRY_BYTES_MAX
from corfu.entry import ENTRY_HEAD_BYTES, encode_entry, packed_bytes
from corfu.errors import AppendError
from corfu.types import Digest, EntryId, Offset, Position

Encode = Callable[[Sequence[bytes], int], bytes]
"""Records and a timestamp in microseconds to the bytes of their entry."""

_LENGTH_BYTES = packed_bytes(b"")

SHARED_DEADLINE_S = 0.05
"""A submitted record is given up so much sooner than it was told to be, at most."""


class Call:
    """What was handed in together and stands together in one entry.

    That is one call of `append`, one entry's part of an `append_many`, or the records of many calls
    of `submit`: such a call is `collecting` while it is the last one queued, and takes more.

    `future` is given the position of the first record; the others follow it.
    """

    __slots__ = ("collecting", "deadline", "entry", "future", "packed", "records")

    def __init__(
        self,
        records: Sequence[bytes],
        deadline: float,
        future: asyncio.Future[Position],
        *,
        collecting: bool = False,
    ) -> None:
        self.records = list(records)
        self.deadline = deadline
        self.future = future
        self.packed = sum(map(packed_bytes, records))
        self.collecting = collecting
        self.entry: OutgoingEntry | None = None

    async def positions(self) -> tuple[Position, ...]:
        """Wait for the verdict; return where each record stands."""
        first = await self.future
        count = len(self.records)
        return tuple(Position(first.offset, first.index + number) for number in range(count))

    def fail(self, error: AppendError) -> None:
        """End the waiting with `error`, if somebody still waits."""
        if not self.future.done():
            self.future.set_exception(error)


class Submitted:
    """A record on its way into the log. Await it, any number of times, for its position.

    Raises what `append` raises. Cancelling ends the waiting only: the record goes on. If nobody
    awaits any record of a failed entry, asyncio logs that its exception was never retrieved.
    """

    __slots__ = ("_call", "_number")

    def __init__(self, call: Call, number: int) -> None:
        self._call = call
        self._number = number

    def done(self) -> bool:
        """Tell whether the verdict is there: awaiting does not wait any more."""
        return self._call.future.done()

    def __await__(self) -> Generator[object, None, Position]:
        future = self._call.future
        if not future.done():
            try:
                # The other records of the call have waiters of their own.
                yield from asyncio.shield(future).__await__()
            except asyncio.CancelledError:
                # Who gave up waiting has not overlooked an error that comes later.
                future.add_done_callback(_retrieve)
                raise
        first = future.result()
        return Position(first.offset, first.index + self._number)


def _retrieve(future: asyncio.Future[Position]) -> None:
    if not future.cancelled():
        future.exception()


class OutgoingEntry:
    """A frozen entry: its records, bytes and id, and what is known of its fate.

    `unsettled` is the one offset at which a Write of it has left and whose outcome is open. There
    is never a second one: no token is taken before the offset tried last is settled. `failed`
    tells that its calls were told so, in ordered mode; `started`, that its task has made its first
    step.
    """

    __slots__ = (
        *("body", "calls", "digest", "failed", "id"),
        *("ordered", "started", "task", "trouble", "unsettled"),
    )

    def __init__(
        self,
        calls: list[Call],
        id_: EntryId,
        now_us: int,
        *,
        ordered: bool,
        encode: Encode = encode_entry,
    ) -> None:
        assert calls
        self.calls = calls
        self.ordered = ordered
        self.failed = False
        self.started = False
        self.unsettled: Offset | None = None
        self.trouble = "no token was granted"
        self.task: asyncio.Task[None] | None = None
        for call in calls:
            call.entry = self
        self._form(id_, now_us, encode)

    def _form(self, id_: EntryId, now_us: int, encode: Encode) -> None:
        self.id = id_
        records = [record for call in self.calls for record in call.records]
        # Here alone is anything compressed: however often the entry is sent, its bytes stay.
        self.body = encode(records, now_us)
        self.digest = Digest(xxhash.xxh3_64_intdigest(self.body))

    @property
    def deadline(self) -> float:
        """When the entry is given up: when the last of its calls is.

        In ordered mode the first: a record must not be appended after one before it has failed.
        """
        times = [call.deadline for call in self.calls]
        return (min if self.ordered else max)(times, default=0.0)

    def withdraw(
        self, call: Call, id_: EntryId, now_us: int, encode: Encode = encode_entry
    ) -> None:
        """Take a call out of an entry that stands nowhere and of which no Write is under way.

        Every offset tried is settled as another's, so the bytes so far will never be seen.
        What is left is another entry, hence another id: one id never has two digests. Taking
        out keeps the order of the rest; only adding could break it.
        """
        assert self.unsettled is None
        self.calls.remove(call)
        if self.calls:
            self._form(id_, now_us, encode)

    def appended(self, offset: Offset) -> None:
        """Tell every waiting call its positions."""
        index = 0
        for call in self.calls:
            if not call.future.done():
                call.future.set_result(Position(offset, index))
            index += len(call.records)


class Queue:
    """Calls that are not frozen yet, in order. One that nobody waits for any more is dropped."""

    def __init__(self) -> None:
        self._calls: deque[Call] = deque()
        self.packed = 0
        """Bytes that the queued records take in entries."""

    def __len__(self) -> int:
        return len(self._calls)

    def put(self, call: Call) -> None:
        """Queue a call behind all others."""
        self._calls.append(call)
        self.packed += call.packed

    def submit(
        self, record: bytes, deadline: float, bytes_target: int, begin: Callable[[float], Call]
    ) -> Submitted:
        """Add a record to the call that collects; `begin` queues one where none may take it.

        Only the last call of the queue collects: log order is to be call order. It has to have
        room, and about the same deadline.
        """
        calls = self._calls
        call = calls[-1] if calls else None
        size = _LENGTH_BYTES + len(record)
        if (
            call is None
            or not call.collecting
            or not 0 <= deadline - call.deadline <= SHARED_DEADLINE_S
            or ENTRY_HEAD_BYTES + call.packed + size > bytes_target
            or call.future.done()
        ):
            call = begin(deadline)
        records = call.records
        records.append(record)
        call.packed += size
        self.packed += size
        return Submitted(call, len(records) - 1)

    def first_packed(self) -> int | None:
        """Return the bytes of the first call that somebody waits for, None if there is none."""
        while self._calls and self._calls[0].future.done():
            self._drop_first()
        return self._calls[0].packed if self._calls else None

    def take(self, bytes_target: int) -> list[Call]:
        """Return the calls of the next entry, in order; none if nothing is queued.

        Whole calls up to `bytes_target`; a larger one goes alone.
        """
        taken: list[Call] = []
        size = ENTRY_HEAD_BYTES
        calls = self._calls
        while calls:
            call = calls[0]
            if call.future.done():
                # Cancelled or given up before it was frozen: it did not happen.
                self._drop_first()
                continue
            if taken and size + call.packed > bytes_target:
                break
            assert ENTRY_HEAD_BYTES + call.packed <= ENTRY_BYTES_MAX
            size += call.packed
            taken.append(call)
            self._drop_first()
        return taken

    def fail_all(self, error: Callable[[], AppendError], *, behind: Call | None = None) -> None:
        """End every queued call, or those behind a given queued one."""
        calls = list(self._calls)
        first = calls.index(behind) + 1 if behind is not None else 0
        for call in calls[first:]:
            call.fail(error())
        while len(self._calls) > first:
            self.packed -= self._calls.pop().packed

    def _drop_first(self) -> None:
        self.packed -= self._calls.popleft().packed


def chunks(records: tuple[bytes, ...], bytes_max: int) -> list[tuple[bytes, ...]]:
    """Cut the records of one call into runs that each fit an entry, as few as possible."""
    result: list[tuple[bytes, ...]] = []
    run: list[bytes] = []
    size = ENTRY_HEAD_BYTES
    for record in records:
        packed = packed_bytes(record)
        if run and size + packed > bytes_max:
            result.append(tuple(run))
            run, size = [], ENTRY_HEAD_BYTES
        run.append(record)
        size += packed
    if run:
        result.append(tuple(run))
    return result
