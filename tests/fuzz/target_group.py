"""Three replicas with a leader that grants: mutants go to the leader, or to a follower."""

from __future__ import annotations

import random
from typing import get_args

from corfu.link import Link
from corfu.messages import Grant, PaxosMessage, SequencerMessage
from corfu.types import Address, Ballot, Epoch, Incarnation, Slot
from tests.unit.sequencer.group_bench import CLIENT, Pump, replica_address

from .bounds import LINK, BrokenRuleError, check_link
from .corpus import Corpus, build
from .stages import Stages
from .world import group_names

_RENEWED_EVERY = 3000
_SWEEP_EVERY = 64
_STEP_S = 0.00025


class GroupTarget:
    """A group in virtual time; what a mutant makes it do takes its course among the three."""

    name = "replica"
    dispatched_min = 0.15

    def __init__(self, seed: int) -> None:
        self.stages = Stages()
        self._seed = seed
        self._draw = random.Random(seed).random
        self._left = 0
        self._lives = 0
        self._granted: dict[Epoch, list[tuple[int, int]]] = {}
        self._promised: dict[int, Ballot] = {}
        self._votes: dict[tuple[int, Slot], tuple[Ballot, bytes]] = {}
        self._renew()
        names = group_names(self.pump.core(1).state.formatted)
        often = get_args(SequencerMessage) + get_args(PaxosMessage)
        self.corpus: Corpus = build(names, seed, often=often)

    def _renew(self) -> None:
        self._left = _RENEWED_EVERY
        self._lives += 1
        self.pump = Pump(self._seed * 1000 + self._lives)
        self.pump.start()
        self.pump.run_until(lambda: self.pump.granting() is not None)
        for client in (1, 2, 3):
            granting = self.pump.granting()
            assert granting is not None
            self.pump.ask_token(granting, 1, client)
            self.pump.run(0.01)
        cluster = self.pump.core(1).state.cluster
        session = Incarnation(b"replica-session-")
        self.link = Link(cluster=cluster, session=session, settings=LINK, rng=random.Random(1))
        self._granted, self._promised, self._votes = {}, {}, {}

    def take(self, datagram: bytes, kind: int) -> None:
        """Hand a datagram to one replica, and let the group run on a little."""
        if not self._left:
            self.finish()
            self._renew()
        self._left -= 1
        pump, stages, draw = self.pump, self.stages, self._draw()
        leader = pump.granting() or pump.leader() or 1
        number = leader if draw < 0.5 else 1 + (leader + int(8 * draw)) % 3
        sender = self._sender(number)
        for message, origin in stages.receive(self.link, datagram, kind, sender, pump.now):
            stages.count(message)
            if pump.nodes[number].core is not None:
                pump.deliver(number, message, origin)
                stages.dispatched += 1
        pump.run(_STEP_S)
        for _, _, reply in pump.to_client:
            self.link.send(CLIENT, reply, pump.now)
            stages.replies += 1
            if isinstance(reply, Grant):
                self._judge_grant(reply)
        pump.to_client.clear()
        pump.sent.clear()
        if not self._left % _SWEEP_EVERY:
            self.link.outgoing()
            self.link.tick(pump.now)
            self._sweep()

    def _sender(self, number: int) -> Address:
        draw = int(self._draw() * 4)
        return CLIENT if draw == 0 or draw == number else replica_address(draw)

    def close(self) -> None:
        """Free what the target holds: nothing."""

    def finish(self) -> None:
        """Count what the link dropped, and look at the replicas once more."""
        self._sweep()
        check_link(self.link)
        self.stages.take_drops(self.link)

    # The rules.

    def _judge_grant(self, grant: Grant) -> None:
        start, end = grant.offset, grant.offset + grant.count
        known = self._granted.setdefault(grant.epoch, [])
        if (start, end) in known:
            return
        if end > grant.window_end or any(start < b and a < end for a, b in known):
            raise BrokenRuleError(f"{grant} although {known} were granted")
        known.append((start, end))

    def _sweep(self) -> None:
        check_link(self.link)
        for number, core in self.pump.cores():
            acceptor = core.group._member.acceptor
            before = self._promised.get(number)
            if before is not None and acceptor.promised < before:
                raise BrokenRuleError(f"replica {number} promised {before}, now less")
            self._promised[number] = acceptor.promised
            for slot, vote in acceptor.accepted.items():
                if vote[0] > acceptor.promised:
                    raise BrokenRuleError(f"replica {number} accepted {vote} above its promise")
                known = self._votes.get((number, slot))
                if known is not None and (
                    vote[0] < known[0] or (vote[0] == known[0] and vote != known)
                ):
                    raise BrokenRuleError(f"replica {number}, slot {slot}: {known} became {vote}")
                self._votes[number, slot] = vote
            desk_tail, window = core.tail, core.window_end
            if desk_tail is not None and desk_tail > window:
                raise BrokenRuleError(f"replica {number} granted up to {desk_tail} of {window}")
