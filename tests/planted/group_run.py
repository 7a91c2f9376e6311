"""Replicas alone, without units and clients, under many more faults than a whole cluster bears.

A run is short, so that schedules are met which need three faults in the right order. Every answer
that leaves a replica is looked at.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from corfu.messages import Accept, Accepted, Grant, HeartbeatAck, Message, Promise
from corfu.sequencer.proposer import majority
from corfu.types import Ballot, Incarnation, ReplicaId, Slot
from tests.unit.sequencer.group_bench import Pump

RULES = {
    "agreement": "one value is chosen at a slot",
    "promise": "an acceptor answers nothing below a ballot that it has promised",
    "ballot": "one value is proposed at a slot under one ballot",
    "grants": "an offset is granted once",
}
"""What is looked for besides equal states and the replicas' own alarms and assertions."""


class RuleBroken(Exception):  # noqa: N818 - a finding
    """A rule of Paxos was broken; the text begins with its name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupRun:
    """One run. Times are virtual seconds; `fault_gap_s` is the mean of exponential gaps."""

    replicas: int = 3
    seconds: float = 8.0
    loss: float = 0.2
    fault_gap_s: float = 0.15
    token_gap_s: float = 0.01
    kinds: tuple[str, ...] = ("kill", "isolate", "cut")


class Witness:
    """Looks at what replicas send. `members`: how many they are."""

    def __init__(self, members: int) -> None:
        self._members = members
        self._promised: dict[tuple[ReplicaId, Incarnation], Ballot] = {}
        self._values: dict[tuple[Slot, Ballot], bytes] = {}
        self._votes: dict[tuple[Slot, Ballot], set[ReplicaId]] = {}
        self._chosen: dict[Slot, bytes] = {}
        self._granted: dict[int, Grant] = {}

    def saw(self, message: Message) -> None:
        """Take a message that left its sender.

        Raises:
            RuleBroken: It must never have left.
        """
        match message:
            case Promise(doubt=False) | HeartbeatAck():
                self._answers(message)
            case Accepted():
                self._answers(message)
                self._vote(message.slot, message.ballot, message.replica)
            case Accept():
                held = self._values.setdefault((message.slot, message.ballot), message.value)
                if held != message.value:
                    raise RuleBroken(f"ballot: {message.ballot} has two values at {message.slot}")
                self._choose(message.slot, message.ballot)
            case Grant():
                self._grant(message)
            case _:
                pass

    def _answers(self, message: Promise | HeartbeatAck | Accepted) -> None:
        key = (message.replica, message.incarnation)
        promised = self._promised.get(key)
        if promised is not None and message.ballot < promised:
            raise RuleBroken(
                f"promise: replica {message.replica} answered {message.ballot}"
                f" after it had promised {promised}"
            )
        self._promised[key] = message.ballot

    def _vote(self, slot: Slot, ballot: Ballot, replica: ReplicaId) -> None:
        self._votes.setdefault((slot, ballot), set()).add(replica)
        self._choose(slot, ballot)

    def _choose(self, slot: Slot, ballot: Ballot) -> None:
        value = self._values.get((slot, ballot))
        if value is None or len(self._votes.get((slot, ballot), ())) < majority(self._members):
            return
        if self._chosen.setdefault(slot, value) != value:
            raise RuleBroken(f"agreement: two values are chosen at {slot}")

    def _grant(self, grant: Grant) -> None:
        for offset in range(grant.offset, grant.offset + grant.count):
            held = self._granted.setdefault(offset, grant)
            if held.request != grant.request:
                raise RuleBroken(f"grants: offset {offset} was granted twice")


class _Run:
    def __init__(self, seed: int, options: GroupRun) -> None:
        self._options = options
        self._rng = random.Random(f"group-{seed}")
        self._pump = Pump(seed, options.replicas, loss=options.loss)
        self._witness = Witness(options.replicas)
        self._cut: set[tuple[int, int]] = set()
        self._pump.dropped = lambda source, to, message: (source, to) in self._cut
        self._looked_at = self._answered = 0

    def run(self) -> None:
        pump, options, rng = self._pump, self._options, self._rng
        pump.start()
        fault_at = 1.0
        while pump.now < options.seconds:
            pump.run(options.token_gap_s)
            for number, core in pump.cores():
                if core.tail is not None:
                    pump.ask_token(number, rng.randint(1, 4))
            self._look()
            if pump.now >= fault_at:
                fault_at = pump.now + rng.expovariate(1 / options.fault_gap_s)
                self._fault(rng.choice(options.kinds))

    def _look(self) -> None:
        pump = self._pump
        for _, _, message in pump.sent[self._looked_at :]:
            self._witness.saw(message)
        self._looked_at = len(pump.sent)
        if told := [line for line in pump.log if "another value" in line or "has another" in line]:
            raise RuleBroken(f"alarm: {told[0]}")
        states: dict[int, int] = {}
        for number, core in pump.cores():
            digest = core.state.digest()
            if states.setdefault(core.group.applied, digest) != digest:
                raise RuleBroken(
                    f"replica {number} and another differ at slot {core.group.applied}"
                )

    def _fault(self, kind: str) -> None:
        pump, rng = self._pump, self._rng
        number = rng.choice(list(pump.nodes))
        down_s = rng.choice((0.0, 0.05, rng.uniform(0, 0.6)))
        match kind:
            case "kill" | "power":
                if pump.nodes[number].core is None:
                    return
                if kind == "kill":
                    pump.kill(number)
                else:
                    pump.cut_power(number)
                pump.at(pump.now + down_s, lambda: pump.start(number))
            case "power_all":
                for each, node in pump.nodes.items():
                    if node.core is not None:
                        pump.cut_power(each)
                        pump.at(pump.now + down_s, lambda each=each: pump.start(each))  # type: ignore[misc]
            case "isolate":
                if number not in pump.cut_off:
                    pump.cut_off.add(number)
                    pump.at(pump.now + rng.uniform(0, 1), lambda: pump.cut_off.discard(number))
            case "cut":
                pair = (number, rng.choice([n for n in pump.nodes if n != number]))
                self._cut.add(pair)
                pump.at(pump.now + rng.uniform(0, 1), lambda: self._cut.discard(pair))
            case _:
                raise AssertionError(kind)


def run_group(seed: int, options: GroupRun) -> str | None:
    """Run one seed; returns the rule that was broken, None if all held."""
    try:
        _Run(seed, options).run()
    except Exception as error:  # noqa: BLE001 - the boundary: whatever escapes is the finding
        return f"{type(error).__name__}: {error}"
    return None
