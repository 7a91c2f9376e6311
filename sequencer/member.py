"""This replica among the others: its memory, its role of the moment, and how it talks to them."""

from __future__ import annotations

import enum
import random
from typing import Protocol

from corfu.layout import Replica
from corfu.messages import Nack, PaxosMessage, UnitView
from corfu.types import Address, Ballot, Incarnation, ReplicaId, RequestId, Slot

from .acceptor import AcceptedRecord, PromisedRecord
from .identity import ReplicaIdentity
from .outbox import Outbox
from .proposer import majority
from .settings import SequencerSettings
from .state import State
from .storage import Restored


class Phase(enum.Enum):
    """What this replica is doing about leadership."""

    FOLLOWING = 1
    SETTLING = 2
    """Its acceptor is in doubt: it asks the others what they hold, and votes for nobody."""
    ASKING = 3
    """Pre-vote: would a majority promise?"""
    PREPARING = 4
    CATCHING_UP = 5
    """Has its majority; fetches what is chosen."""
    RECOVERING = 6
    """Proposes what was voted for, and a no-op of its own."""
    LEADING = 7


ALARMS_MAX = 1000
"""Different alarms that one process raises."""

WITH_BALLOT = frozenset({Phase.CATCHING_UP, Phase.RECOVERING, Phase.LEADING})
"""The phases of a term: a majority has promised the own ballot."""


class Watcher(Protocol):
    """Who is told what becomes of the group."""

    def leading(self, ballot: Ballot, now: float) -> None:
        """This replica's no-op is applied under `ballot`: it leads."""
        ...

    def deposed(self) -> None:
        """It leads no more."""
        ...

    def applied(self, now: float) -> None:
        """The state changed."""
        ...

    def confirmed(self, now: float) -> None:
        """A later heartbeat round was confirmed by a majority."""
        ...

    def told(self, replica: ReplicaId, views: tuple[UnitView, ...], now: float) -> None:
        """Another replica tells how it sees the units."""
        ...

    def own_views(self, now: float) -> tuple[UnitView, ...]:
        """Return how this replica sees the units."""
        ...

    def expelled(self) -> None:
        """Another replica has taken the place of this one: it is a member no more."""
        ...

    def alarm(self, text: str) -> None:
        """Something happened that an operator must know."""
        ...


class Member:
    """What all Paxos roles of this replica share."""

    def __init__(
        self,
        *,
        identity: ReplicaIdentity,
        session: Incarnation,
        settings: SequencerSettings,
        restored: Restored,
        rng: random.Random,
        outbox: Outbox,
        watcher: Watcher,
        now: float,
    ) -> None:
        self.id = identity.replica
        self.incarnation = identity.incarnation
        self.settings = settings
        self.acceptor = restored.acceptor
        self.learner = restored.learner
        self.votes = restored.votes
        self.watcher = watcher
        self.phase = Phase.FOLLOWING
        self.leader: ReplicaId | None = None
        self.leader_heard_at = now
        self.timeout_at = now + settings.election_s_max
        self.round_seen = self.acceptor.promised.round
        self.installed = self.acceptor.snapshot
        self.admitted_at: Slot | None = None
        self.look_for_own_place()
        self._session = session
        self._rng = rng
        self._out = outbox
        self._sequence = 0
        self._alarmed: set[str] = set()

    @property
    def state(self) -> State:
        """The applied state."""
        return self.learner.state

    @property
    def applied(self) -> Slot:
        """Every slot up to it is chosen and applied."""
        return self.learner.applied

    @property
    def quorum(self) -> int:
        """How many members are a majority."""
        return majority(len(self.state.replicas))

    @property
    def others(self) -> list[Replica]:
        """The other members."""
        return [member for member in self.state.replicas if member.id != self.id]

    def is_member(self, id_: ReplicaId, incarnation: Incarnation) -> bool:
        """Tell if exactly this replica belongs to the group."""
        return any(m.id == id_ and m.incarnation == incarnation for m in self.state.replicas)

    def look_for_own_place(self) -> None:
        """Note the first slot after which this replica is known to be a member."""
        if self.admitted_at is None and self.is_member(self.id, self.incarnation):
            self.admitted_at = self.applied

    @property
    def was_replaced(self) -> bool:
        """Tell if this replica was a member, and by what it has applied is none any more."""
        return self.admitted_at is not None and not self.is_member(self.id, self.incarnation)

    @property
    def may_vote(self) -> bool:
        """Tell if its answers count."""
        # A member votes only with a state that admits it: it then knows all that was chosen
        # before it was a member.
        return self.acceptor.votes and self.is_member(self.id, self.incarnation)

    def has_room(self, body_bytes: int) -> bool:
        """Tell if a vote of this size can be journalled; else it is not given."""
        return self.votes.has_room(body_bytes)

    def raise_promise(self, ballot: Ballot) -> None:
        """Promise `ballot`, which is at least what is promised, and journal it."""
        record = self.acceptor.promise(ballot)
        if record is not None:
            self.journal(record)

    def journal(self, record: PromisedRecord | AcceptedRecord) -> None:
        """Journal a vote."""
        # No hint while an installed state is on no disk: after a restart the votes for the slots
        # it covers would be taken for what was chosen there.
        hint = self.applied if self.installed <= self.acceptor.snapshot else Slot(0)
        self.votes.append(record, hint)
        self._out.persist()

    def persisted(self) -> None:
        """Note that something else was journalled."""
        self._out.persist()

    def request(self) -> RequestId:
        """Return a request id never used before."""
        self._sequence += 1
        return RequestId(self._session, self._sequence)

    def reply(self, to: ReplicaId, message: PaxosMessage, *, ordered: bool = True) -> None:
        """Send to a member, itself included, at the address that the members list names."""
        for member in self.state.replicas:
            if member.id == to:
                self._out.send(member.address, message, ordered=ordered)

    def send_to(self, address: Address, message: PaxosMessage) -> None:
        """Send to a replica that is no member, as far as is known here."""
        self._out.send(address, message, ordered=False)

    def nack(self, to: ReplicaId, ballot: Ballot) -> None:
        """Refuse a ballot that is lower than the promised one."""
        nack = Nack(self.request(), self.id, self.incarnation, ballot, self.acceptor.promised)
        self.reply(to, nack, ordered=False)

    def random_timeout(self) -> float:
        """Return how long to wait for a leader this time."""
        return self._rng.uniform(self.settings.election_s_min, self.settings.election_s_max)

    def random_start(self) -> float:
        """Return a short random wait, so that replicas started together do not collide."""
        return self._rng.uniform(0, self.settings.heartbeat_s)

    def alarm(self, text: str) -> None:
        """Raise an alarm, each text once."""
        # Texts hold numbers that others chose: of very many, the first ones say enough.
        if text not in self._alarmed and len(self._alarmed) < ALARMS_MAX:
            self._alarmed.add(text)
            self.watcher.alarm(text)
