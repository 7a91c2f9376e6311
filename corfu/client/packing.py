"""From records to entries: the queue of calls, and entries from their freezing to their verdict.

No I/O, no clock. The rule that everything here serves: **an entry is frozen before the token
request that counts it leaves.** A record that comes later goes into a later entry; were it put
into a frozen one, it could be ordered before an append that ended before it began.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence

import xxhash

from corfu.config import ENTRY_BYTES_MAX
from corfu.entry import ENTRY_HEAD_BYTES, encode_entry, packed_bytes
from corfu.errors import AppendError
from corfu.types import Digest, EntryId, Offset, Position

Encode = Callable[[Sequence[bytes], int], bytes]
"""Records and a timestamp in microseconds to the bytes of their entry."""


class Call:
    """One call of `append`, or one entry's part of an `append_many`: all of it in one entry."""

    __slots__ = ("deadline", "entry", "future", "packed", "records")

    def __init__(
        self,
        records: tuple[bytes, ...],
        deadline: float,
        future: asyncio.Future[tuple[Position, ...]],
    ) -> None:
        self.records = records
        self.deadline = deadline
        self.future = future
        self.packed = sum(map(packed_bytes, records))
        self.entry: OutgoingEntry | None = None

    def fail(self, error: AppendError) -> None:
        """End the waiting with `error`, if somebody still waits."""
        if not self.future.done():
            self.future.set_exception(error)


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
            end = index + len(call.records)
            if not call.future.done():
                call.future.set_result(tuple(Position(offset, i) for i in range(index, end)))
            index = end


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
