"""Values asked of another unit: for a fill that names what is lacking here, or for a repair."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from corfu.config import HELD_MAX
from corfu.effects import Effect, Send
from corfu.messages import Copy, Entries
from corfu.types import Address, Digest, EntryId, Epoch, Incarnation, Offset, RequestId, State

from .names import entry_digest
from .settings import UnitSettings
from .store import Store

Then = Callable[[float], list[Effect]]

_PATIENCE_S = 1.0
"""A request that comes again is not begun anew before."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """One value to copy: only an entry with this id and digest will do."""

    offset: Offset
    entry_id: EntryId
    digest: Digest


@dataclass(slots=True)
class _Copying:
    origin: RequestId
    source: Address
    epoch: Epoch
    wanted: dict[Offset, Wanted]
    reserve: bool
    replace: bool
    expires: float
    then: Then
    no_room: Then | None


class Copies:
    """The copies under way, bounded; keyed by the request that needs them.

    Nothing is repeated from here: the request that needs the values comes again, if it matters,
    and then asks again for what still lacks. What came is kept either way.
    """

    def __init__(self, store: Store, settings: UnitSettings, session: Incarnation) -> None:
        self._store = store
        self._settings = settings
        self._session = session
        self._sequence = 0
        self._asked: dict[RequestId, _Copying] = {}

    @property
    def deadline(self) -> float | None:
        """When the first of them is given up."""
        return min((copying.expires for copying in self._asked.values()), default=None)

    def new_request(self) -> RequestId:
        """Return a request id of this unit's own."""
        self._sequence += 1
        return RequestId(self._session, self._sequence)

    def start(
        self,
        origin: RequestId,
        source: Address,
        epoch: Epoch,
        wanted: Sequence[Wanted],
        then: Then,
        now: float,
        *,
        reserve: bool,
        replace: bool = False,
        no_room: Then | None = None,
    ) -> list[Effect]:
        """Ask `source` for what is wanted; `then` once all of it is stored here.

        Args:
            origin: The request that needs it; takes the place of an earlier start for it.
            source: A unit of the chain.
            epoch: The epoch that admitted the request.
            wanted: What to copy.
            then: Goes on with the request.
            now: The time.
            reserve: The values may use the journal's last file.
            replace: They take the place of what is held; never where the unit has a seat.
            no_room: Says that there is no room for them; None: nobody waits to be told.
        """
        for request in [r for r, copying in self._asked.items() if copying.origin == origin]:
            del self._asked[request]
        if len(self._asked) >= self._settings.copies_max:
            del self._asked[next(iter(self._asked))]
        by_offset = {each.offset: each for each in wanted}
        expires = now + self._settings.copy_s_max
        return self._ask(
            _Copying(origin, source, epoch, by_offset, reserve, replace, expires, then, no_room)
        )

    def busy(self, origin: RequestId, now: float) -> bool:
        """Tell whether values for a request were asked for lately, and are not all here yet."""
        began = now + self._settings.copy_s_max - _PATIENCE_S
        return any(c.origin == origin and c.expires > began for c in self._asked.values())

    def received(self, message: Entries, sender: Address, now: float) -> list[Effect]:
        """Take the answer of a Copy; store what is sound and wanted."""
        copying = self._asked.pop(message.request, None)
        if copying is None or copying.epoch != message.epoch or copying.source != sender:
            return []
        before = len(copying.wanted)
        lacks_room = False
        for entry in message.entries:
            wanted = copying.wanted.get(entry.offset)
            if wanted is None or entry.state is not State.DATA:
                continue
            # Rule "copies are verified": exactly the entry that the head named, whole.
            if entry.entry_id != wanted.entry_id or entry_digest(entry.entry) != wanted.digest:
                continue
            if self._take(copying, wanted, entry.entry):
                del copying.wanted[entry.offset]
            else:
                lacks_room = True
        if not copying.wanted:
            return copying.then(now)
        if lacks_room and copying.no_room is not None:
            # A refusal settles nothing, so it may always be said; silence would cost the asker
            # all its time, and it would blame whom it asked.
            return copying.no_room(now)
        # A reply carries as many values as fit; without progress the source lacks them, too.
        return self._ask(copying) if len(copying.wanted) < before else []

    def sealed(self) -> None:
        """Drop all: what an old epoch admitted is not completed in a new one."""
        self._asked.clear()

    def expire(self, now: float) -> None:
        """Drop those that waited too long."""
        for request in [r for r, copying in self._asked.items() if copying.expires <= now]:
            del self._asked[request]

    def _take(self, copying: _Copying, wanted: Wanted, entry: bytes) -> bool:
        store, offset = self._store, wanted.offset
        free = {State.EMPTY, State.DAMAGED}
        if copying.replace:
            free |= {State.DATA, State.JUNK}
        tentative = store.tentative.get(offset)
        if tentative is not None and tentative.name[:2] == (wanted.entry_id, wanted.digest):
            # A forward brought it meanwhile; who asked for it knows it to be durable above.
            store.confirm(offset)
            return True
        if store.state(offset) not in free:
            # A forward brought it meanwhile, or it was trimmed; the request will see.
            return True
        size = len(entry)
        fits = store.has_room(size, reserve=copying.reserve)
        if not (fits or store.has_completion_room(size)):
            return False
        store.put_data(offset, copying.epoch, wanted.entry_id, wanted.digest, entry)
        return True

    def _ask(self, copying: _Copying) -> list[Effect]:
        request = self.new_request()
        self._asked[request] = copying
        offsets = tuple(sorted(copying.wanted)[:HELD_MAX])
        return [Send(copying.source, Copy(request, copying.epoch, offsets[0], offsets))]
