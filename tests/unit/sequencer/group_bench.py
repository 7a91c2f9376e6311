"""A group of replica cores on simulated disks, driven in virtual time by one seeded pump.

Messages are lost, doubled and reordered; disks lose power. The leader's procedures are replaced by
the shortest possible ones: there are no storage units here, and every seal is taken as given.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from corfu.effects import Effect, Send
from corfu.journal.execute import execute_all
from corfu.journal.format import JournalSettings
from corfu.layout import Leader, Replica, Unit
from corfu.messages import GetToken, Grant, Message, SetGoal, Trim
from corfu.sequencer.bootstrap import Bootstrap
from corfu.sequencer.commands import ActivateLayout, ProposeLayout, SealedUnit
from corfu.sequencer.identity import ReplicaIdentity, read_identity
from corfu.sequencer.process import format_joining, format_replica
from corfu.sequencer.replica import Replica as Core
from corfu.sequencer.settings import SequencerSettings
from corfu.sequencer.state import Outcome
from corfu.sequencer.storage import restore, snapshot_operations
from corfu.tools.sim.disk import SimDisk
from corfu.types import (
    Address,
    Ballot,
    ClusterId,
    Epoch,
    Incarnation,
    Offset,
    ReplicaId,
    RequestId,
    SyncMode,
    UnitId,
)

CLUSTER = ClusterId(b"testtest")
CLIENT = Address("10.9.9.9", 1)
SETTINGS = SequencerSettings(
    journal=JournalSettings(file_bytes=16 << 10), snapshot_slots=20, window_offsets_min=8
)


def incarnation(number: int) -> Incarnation:
    return Incarnation(number.to_bytes(16, "big"))


def replica_address(number: int) -> Address:
    return Address(f"10.0.1.{number}", 9700)


def bootstrap(
    replicas: int = 3, chains: tuple[tuple[int, ...], ...] = ((1, 2),), min_replicas: int = 2
) -> Bootstrap:
    ids = sorted({id_ for chain in chains for id_ in chain})
    return Bootstrap(
        cluster=CLUSTER,
        replicas=tuple(
            Replica(ReplicaId(n), incarnation(n), replica_address(n))
            for n in range(1, replicas + 1)
        ),
        units=tuple(
            Unit(UnitId(n), incarnation(100 + n), Address(f"10.0.2.{n}", 9800)) for n in ids
        ),
        chains=tuple(tuple(UnitId(id_) for id_ in chain) for chain in chains),
        sync=SyncMode.ALWAYS,
        min_replicas=min_replicas,
    )


@dataclass
class Node:
    """One replica: its disk stays, its core comes and goes."""

    number: int
    disk: SimDisk
    life: int = 0
    core: Core | None = None
    held: list[tuple[int, Send]] = field(default_factory=list)
    cuts: int = 0
    durable: int = 0
    committing: bool = False
    tick_at: float | None = None


class Pump:
    """Runs the group; all that is random follows from the seed."""

    def __init__(
        self,
        seed: int,
        replicas: int = 3,
        *,
        loss: float = 0.0,
        settings: SequencerSettings = SETTINGS,
        grant: bool = True,
    ) -> None:
        self.rng = random.Random(seed)
        self.loss = loss
        self.settings = settings
        self.grant = grant
        self.now = 0.0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self.cut_off: set[int] = set()
        self.dropped: Callable[[int, int, Message], bool] = lambda source, to, message: False
        self.log: list[str] = []
        self.to_client: list[tuple[float, int, Message]] = []
        self.sent: list[tuple[float, int, Message]] = []
        self.nodes = {n: Node(n, SimDisk()) for n in range(1, replicas + 1)}
        what = bootstrap(replicas)
        for node in self.nodes.values():
            format_replica(
                node.disk,
                replica=ReplicaId(node.number),
                incarnation=incarnation(node.number),
                bootstrap=what,
                settings=settings,
            )
        self._sequence = 0

    def join(self, number: int, source: int) -> Replica:
        """Format and start a replica that is to take another's place, with `source`'s state."""
        node = self.nodes[number] = Node(number, SimDisk())
        core = self.core(source)
        identity = ReplicaIdentity(CLUSTER, ReplicaId(number), incarnation(number))
        format_joining(node.disk, identity, core.group.applied, core.state, self.settings)
        self.start(number)
        return Replica(identity.replica, identity.incarnation, replica_address(number))

    # Life and death.

    def start(self, *numbers: int) -> None:
        for number in numbers or tuple(self.nodes):
            node = self.nodes[number]
            node.life += 1
            identity = read_identity(node.disk)
            restored = restore(node.disk, identity, self.settings)
            node.held, node.cuts, node.durable = [], 0, 0
            node.committing, node.tick_at = False, None
            listener = MiniLeader(self, node)
            node.core = Core(
                identity=identity,
                session=Incarnation(self.rng.randbytes(16)),
                settings=self.settings,
                restored=restored,
                rng=random.Random(self.rng.random()),
                listener=listener,
                now=self.now,
            )
            self._run(node, [])
            self._poll_snapshot(node, node.life)

    def kill(self, *numbers: int) -> None:
        for number in numbers:
            self.nodes[number].core = None
            self.nodes[number].life += 1
            self.nodes[number].disk.kill()

    def cut_power(self, *numbers: int) -> None:
        self.kill(*numbers)
        for number in numbers:
            self.nodes[number].disk.power_cut(self.rng)

    # Running.

    def run(self, seconds: float) -> None:
        until = self.now + seconds
        while self._events and self._events[0][0] <= until:
            self.now, _, event = heapq.heappop(self._events)
            event()
        self.now = until

    def run_until(self, condition: Callable[[], bool], seconds: float = 20.0) -> None:
        until = self.now + seconds
        while not condition():
            assert self._events
            assert self._events[0][0] <= until, "it did not happen in time"
            self.now, _, event = heapq.heappop(self._events)
            event()

    def at(self, when: float, event: Callable[[], None]) -> None:
        heapq.heappush(self._events, (when, next(self._numbers), event))

    def deliver(self, number: int, message: Message, sender: Address = CLIENT) -> None:
        """Hand a message to a replica now."""
        node = self.nodes[number]
        if node.core is not None:
            self._run(node, node.core.handle(message, sender, self.now))

    def act(self, number: int, step: Callable[[Core], list[Effect]]) -> None:
        node = self.nodes[number]
        assert node.core is not None
        self._run(node, step(node.core))

    def core(self, number: int) -> Core:
        core = self.nodes[number].core
        assert core is not None
        return core

    def leader(self) -> int | None:
        """Return the replica that leads under the highest ballot."""
        leading = [(c.ballot, n) for n, c in self.cores() if c.leads]
        return max(leading)[1] if leading else None

    def granting(self) -> int | None:
        leading = [(c.ballot, n) for n, c in self.cores() if c.tail is not None]
        return max(leading)[1] if leading else None

    def cores(self) -> list[tuple[int, Core]]:
        return [(n, node.core) for n, node in self.nodes.items() if node.core is not None]

    def request(self, client: int = 1) -> RequestId:
        self._sequence += 1
        return RequestId(incarnation(1000 + client), self._sequence)

    def ask_token(self, number: int, count: int = 1, client: int = 1) -> RequestId:
        request = self.request(client)
        epoch = self.core(number).state.active.epoch
        self.deliver(number, GetToken(request, epoch, count, 0, 0, 0, 0))
        return request

    def grants(self) -> list[Grant]:
        return [message for _, _, message in self.to_client if isinstance(message, Grant)]

    # The driver's part.

    def _run(self, node: Node, effects: list[Effect]) -> None:
        core = node.core
        assert core is not None
        covering = node.cuts + 1 if core.journal.dirty else node.cuts
        for effect in effects:
            if not isinstance(effect, Send):
                continue
            if effect.ordered and covering > node.durable:
                node.held.append((covering, effect))
            else:
                self._send(node, effect)
        if core.journal.dirty and not node.committing:
            node.committing = True
            self._after(node, self.rng.uniform(0, 0.0005), lambda: self._cut(node))
        self._arm(node)

    def _cut(self, node: Node) -> None:
        core = node.core
        assert core is not None
        operations = core.journal.cut()
        node.cuts += 1
        number = node.cuts
        split = self.rng.randrange(len(operations) + 1)
        execute_all(node.disk, operations[:split])

        def finish() -> None:
            execute_all(node.disk, operations[split:])
            core.journal.committed()
            node.committing, node.durable = False, number
            spare = core.journal.spare_wanted()
            if spare is not None:
                execute_all(node.disk, spare)
                core.journal.spare_ready()
            ready = [send for cut, send in node.held if cut <= number]
            node.held = [(cut, send) for cut, send in node.held if cut > number]
            for send in ready:
                self._send(node, send)
            self._run(node, [])

        self._after(node, self.rng.uniform(0.0002, 0.003), finish)

    def _after(self, node: Node, delay: float, event: Callable[[], None]) -> None:
        life = node.life

        def guarded() -> None:
            if node.life == life:
                event()

        self.at(self.now + delay, guarded)

    def _arm(self, node: Node) -> None:
        core = node.core
        assert core is not None
        deadline = core.deadline
        if deadline is None or (node.tick_at is not None and node.tick_at <= deadline):
            return
        node.tick_at = deadline

        def tick() -> None:
            node.tick_at = None
            self._run(node, core.tick(self.now))

        self._after(node, max(0.0, deadline - self.now), tick)

    def _poll_snapshot(self, node: Node, life: int) -> None:
        def poll() -> None:
            core = node.core
            assert core is not None
            wanted = core.group.snapshot_wanted()
            if wanted is not None:
                slot, state = wanted
                execute_all(node.disk, snapshot_operations(slot, state))
                self._run(node, core.snapshot_saved(slot, self.now))
            self._after(node, 0.02, poll)

        self._after(node, 0.02, poll)

    def _send(self, node: Node, send: Send) -> None:
        self.sent.append((self.now, node.number, send.message))
        to = next((n for n in self.nodes if replica_address(n) == send.to), None)
        if to is None:
            self.to_client.append((self.now, node.number, send.message))
            return
        source = node.number
        if source != to and self.dropped(source, to, send.message):
            return
        copies = 0 if source != to and self.rng.random() < self.loss else 1
        copies += self.rng.random() < self.loss / 2
        for _ in range(copies):
            delay = self.rng.uniform(0.0001, 0.002)
            if self.rng.random() < self.loss / 4:
                delay = self.rng.uniform(0.1, 3.0)
            self.at(self.now + delay, lambda: self._arrive(source, to, send.message))

    def _arrive(self, source: int, to: int, message: Message) -> None:
        if source != to and {source, to} & self.cut_off:
            return
        if self.nodes[to].core is not None:
            self.deliver(to, message, replica_address(source))


class MiniLeader:
    """Makes an epoch of the same chains as soon as it leads, with seals taken as given."""

    def __init__(self, pump: Pump, node: Node) -> None:
        self._pump = pump
        self._node = node
        self._life = node.life

    def leading(self, ballot: Ballot) -> None:
        if self._pump.grant:
            self._pump.at(self._pump.now, lambda: self._if_alive(lambda: self._propose(ballot)))

    def deposed(self) -> None:
        pass

    def trim(self, request: Trim, sender: Address) -> None:
        pass

    def set_goal(self, request: SetGoal, sender: Address) -> None:
        pass

    def expelled(self) -> None:
        self._pump.log.append(f"{self._node.number}: expelled")

    def alarm(self, text: str) -> None:
        self._pump.log.append(f"{self._node.number}: {text}")

    def _if_alive(self, step: Callable[[], None]) -> None:
        if self._node.life == self._life:
            step()

    def _propose(self, ballot: Ballot) -> None:
        core = self._node.core
        assert core is not None
        if not core.leads or core.ballot != ballot:
            return
        command = same_chains(core, ballot)
        self._decide(core, command, lambda outcome: self._activate(core, ballot, outcome))

    def _activate(self, core: Core, ballot: Ballot, outcome: Outcome | None) -> None:
        intent = core.state.intent
        if outcome is None or not outcome.accepted or intent is None:
            return
        layout = intent.layout
        sealed = tuple(SealedUnit(unit.id, unit.incarnation) for unit in layout.units)
        until = Offset(layout.first_offset + 2 * self._pump.settings.window_offsets_min)
        command = ActivateLayout(layout.epoch, sealed, until)
        self._decide(core, command, lambda outcome: self._grant(core, ballot, outcome))

    def _grant(self, core: Core, ballot: Ballot, outcome: Outcome | None) -> None:
        if outcome is not None and outcome.accepted and core.leads and core.ballot == ballot:
            self._pump.act(self._node.number, lambda core: core.begin_granting(self._pump.now))

    def _decide(
        self,
        core: Core,
        command: ProposeLayout | ActivateLayout,
        then: Callable[[Outcome | None], None],
    ) -> None:
        pump = self._pump

        def done(outcome: Outcome | None) -> None:
            # Not from within the core's own event.
            pump.at(pump.now, lambda: self._if_alive(lambda: then(outcome)))

        pump.act(self._node.number, lambda core: core.propose(command, done, pump.now))


def same_chains(core: Core, ballot: Ballot) -> ProposeLayout:
    state = core.state
    return ProposeLayout(
        based_on=Epoch(state.active.epoch),
        last_epoch=state.last_epoch,
        leader=Leader(core.identity.replica, ballot),
        units=state.active.units,
        chains_below=tuple(segment.chains for segment in state.active.segments),
        open_chains=state.active.open_segment.chains,
        abandoned=(),
        conflicted=(),
    )
