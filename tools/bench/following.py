"""The follower: measures from the call of `append`, in another process, to the delivery here."""

from __future__ import annotations

import asyncio
import contextlib
import time
from contextlib import aclosing

from corfu.errors import CorfuError
from corfu.types import Offset

from .assignment import STAMP_BYTES, STAMPED_BYTES_MIN, TAG_BYTES, Assignment
from .job import LogJob
from .meter import Meter


class Following(LogJob):
    """Follows the log from the tail on; counts the records that have this benchmark's tag.

    A record carries the time of its call. All processes of one machine share the clock.
    """

    def __init__(self, assignment: Assignment) -> None:
        super().__init__(assignment)
        self._from = Offset(0)
        self._tag = bytes.fromhex(assignment.tag)
        assert len(self._tag) == TAG_BYTES

    async def open(self) -> None:
        """See `Job`."""
        await super().open()
        # The producers begin later: nothing of theirs is missed.
        self._from = await self.log.tail()

    def meter(self) -> Meter:
        """See `Job`."""
        return Meter()

    async def work(self, meter: Meter, stop: asyncio.Event) -> None:
        """See `Job`. A follower has no end of its own: it is ended where it waits."""
        following = asyncio.create_task(self._follow(meter, stop))
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait((following, stopping), return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if following.done():
            following.result()
            return
        following.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await following

    async def _follow(self, meter: Meter, stop: asyncio.Event) -> None:
        tag, samples, clock = self._tag, meter.samples, time.monotonic_ns
        try:
            async with aclosing(self.log.follow_batches(self._from)) as batches:
                async for batch in batches:
                    now = clock()
                    if stop.is_set():
                        return
                    for record in batch:
                        data = record.data
                        if data[:TAG_BYTES] == tag and len(data) >= STAMPED_BYTES_MIN:
                            begun = data[TAG_BYTES : TAG_BYTES + STAMP_BYTES]
                            samples.append(now - int.from_bytes(begun, "little"))
                            meter.add(1, len(data))
        except CorfuError as error:
            meter.error(error)
