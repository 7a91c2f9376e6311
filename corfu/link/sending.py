"""The sending side: requests until they are answered, large bodies until they have arrived."""

from __future__ import annotations

import random
from typing import NamedTuple

from corfu import codec
from corfu.codec import Encoded, Frame
from corfu.config import BURST_BYTES_MAX, LinkSettings
from corfu.link.control import ATTEMPT_MASK, COMPLETE, FLAG_TRANSFER, FragmentAck
from corfu.link.counters import LinkCounters
from corfu.link.outbox import Outbox
from corfu.link.peer import Peer
from corfu.link.timers import Timers
from corfu.link.transfer import Ask, Transfer
from corfu.messages import Message, Read
from corfu.types import Address, Epoch, Offset, RequestId

PEERS_MAX = 4096
"""Peers remembered; beyond it, those with nothing under way are forgotten."""


class _TransferKey(NamedTuple):
    """A body on its way: while it is, the same message sent again changes nothing."""

    to: Address
    kind: int
    request: RequestId
    epoch: Epoch
    offset: Offset


class Sending:
    """Asks and transfers, their timers, and what is known of each peer."""

    def __init__(
        self,
        settings: LinkSettings,
        rng: random.Random,
        outbox: Outbox,
        counters: LinkCounters,
    ) -> None:
        self._settings = settings
        self._rng = rng
        self._outbox = outbox
        self._counters = counters
        self._attempts = rng.randrange(ATTEMPT_MASK + 1)
        self._asks: dict[RequestId, Ask] = {}
        self._transfers: dict[_TransferKey, Transfer] = {}
        self._peers: dict[Address, Peer] = {}
        self._timers: Timers[Ask | Transfer] = Timers()

    @property
    def asks(self) -> int:
        """How many requests wait for their answer."""
        return len(self._asks)

    def peer(self, to: Address, now: float) -> Peer:
        """Return what is known of a peer."""
        peer = self._peers.get(to)
        if peer is None:
            if len(self._peers) >= PEERS_MAX:
                self._forget_a_peer()
            peer = self._peers[to] = Peer(self._settings, self._rng, now)
        return peer

    def send(self, to: Address, message: Message, now: float) -> None:
        """See `Link.send`."""
        wire = codec.encode(message)
        if wire.size <= BURST_BYTES_MAX:
            self._outbox.put_all(to, self._outbox.burst(wire))
            return
        key = _TransferKey(to, wire.kind, wire.request, wire.epoch, wire.offset)
        if key not in self._transfers:
            self._begin_transfer(key, wire, now, now + self._settings.transfer_s_max)

    def ask(self, to: Address, message: Message, now: float, budget_s: float) -> bool:
        """See `Link.ask`."""
        request = message.request
        assert request not in self._asks
        if len(self._asks) >= self._settings.asks_max:
            self._counters.refused += 1
            return False
        wire = codec.encode(message)
        # A parked read is rightly silent for so long; to ask again sooner would be a waste, and
        # its round trip says nothing about the network.
        patience = message.wait_ms / 1000 if isinstance(message, Read) else 0.0
        large = wire.size > BURST_BYTES_MAX
        frames = [] if large else self._outbox.burst(wire)
        ask = self._asks[request] = Ask(to, wire, now + budget_s, patience, frames)
        peer = self.peer(to, now)
        peer.earn_retry()
        if large:
            self._begin_ask_transfer(ask, now)
        else:
            peer.waiting.append(ask)
            self._pump(peer, now)
            if ask.waiting:
                self._timers.set(ask, ask.expires)
        return True

    def complete(self, request: RequestId, now: float) -> bool:
        """See `Link.complete`."""
        ask = self._asks.get(request)
        if ask is None:
            return False
        peer = self.peer(ask.to, now)
        # Karn: the answer to a repeated request measures nothing. Nor does that to a large body,
        # whose transfer has measured already. Who answers does not matter: a chain's tail unit
        # answers what its head was asked, and that is the time to wait for.
        if ask.frames and not (ask.waiting or ask.repetitions or ask.patience):
            peer.sample(now - ask.sent_at)
        self._forget(ask, peer, now, answered=True)
        return True

    def cancel(self, request: RequestId, now: float) -> None:
        """See `Link.cancel`."""
        ask = self._asks.get(request)
        if ask is not None:
            self._forget(ask, self.peer(ask.to, now), now, answered=False)

    @property
    def deadline(self) -> float | None:
        """When `tick` has something to do; None: never."""
        return self._timers.deadline

    def tick(self, now: float) -> list[RequestId]:
        """Repeat and probe what is due; returns the requests whose time is over."""
        expired: list[RequestId] = []
        while (item := self._timers.pop(now)) is not None:
            peer = self.peer(item.to, now)
            if isinstance(item, Transfer):
                self._transfer_due(item, peer, now)
            elif now < item.expires:
                self._repeat(item, peer, now)
            else:
                if not item.waiting:
                    peer.timed_out(now)
                self._counters.expired += 1
                expired.append(item.wire.request)
                self._forget(item, peer, now, answered=False)
        return expired

    def acknowledged(self, ack: FragmentAck, frame: Frame, sender: Address, now: float) -> None:
        """Take what a receiver says about a transfer; late and foreign acks change nothing."""
        key = _TransferKey(sender, ack.kind, frame.request, frame.epoch, frame.offset)
        transfer = self._transfers.get(key)
        if transfer is None or transfer.flags != frame.flags:
            return
        peer = self.peer(sender, now)
        round_trip = transfer.round_trip(ack, now)
        if round_trip is not None:
            peer.sample(round_trip)
        if ack.state == COMPLETE:
            self._end_transfer(transfer, peer, answered=True)
            if transfer.ask is not None:
                self._await_reply(transfer.ask, peer, now - transfer.started, now)
        else:
            peer.landed(transfer.acknowledge(ack), answered=not ack.serial)
            transfer.repetitions = 0
            self._timers.set(transfer, min(transfer.expires, now + peer.interval(0)))
            if transfer.next_size and not transfer.queued:
                transfer.queued = True
                peer.waiting.append(transfer)
        self._pump(peer, now)

    # Requests.

    def _repeat(self, ask: Ask, peer: Peer, now: float) -> None:
        """The answer is overdue: send the request again, if the budget allows."""
        peer.timed_out(now)
        wait = peer.interval(ask.repetitions + 1)
        if not peer.spend_retry(now):
            self._counters.deferred += 1
        elif ask.frames:
            ask.repetitions += 1
            wait += ask.patience
            self._counters.retransmits += len(ask.frames)
            self._outbox.put_all(ask.to, ask.frames)
        else:
            # The receiver had it all, so the answer was lost or is late: only the whole request,
            # as a new attempt, makes it answer again.
            ask.repetitions += 1
            self._begin_ask_transfer(ask, now)
            return
        self._timers.set(ask, min(ask.expires, now + wait))

    def _await_reply(self, ask: Ask, peer: Peer, took_s: float, now: float) -> None:
        """A large body has arrived: wait for the answer.

        What took so long to get there takes as long again at each further unit of the chain.
        """
        ask.transfer = None
        wait = peer.interval(ask.repetitions) + 4 * took_s
        self._timers.set(ask, min(ask.expires, now + wait))

    def _forget(self, ask: Ask, peer: Peer, now: float, *, answered: bool) -> None:
        ask.done = True
        del self._asks[ask.wire.request]
        if ask.transfer is not None:
            self._end_transfer(ask.transfer, peer, answered=answered)
        if not ask.waiting:
            peer.landed(ask.size, answered=answered)
        self._pump(peer, now)

    # Transfers.

    def _begin_ask_transfer(self, ask: Ask, now: float) -> None:
        wire = ask.wire
        key = _TransferKey(ask.to, wire.kind, wire.request, wire.epoch, wire.offset)
        ask.waiting = False
        ask.transfer = self._begin_transfer(key, wire, now, ask.expires, ask)
        # The transfer has its own timer; until it is done nothing else is to be repeated.
        self._timers.set(ask, ask.expires)

    def _begin_transfer(
        self, key: _TransferKey, wire: Encoded, now: float, expires: float, ask: Ask | None = None
    ) -> Transfer:
        self._attempts = self._attempts + 1 & ATTEMPT_MASK
        transfer = Transfer(
            key.to,
            wire,
            flags=FLAG_TRANSFER | self._attempts,
            datagram_bytes_max=self._settings.datagram_bytes_max,
            ask=ask,
        )
        transfer.started, transfer.expires = now, expires
        self._transfers[key] = transfer
        peer = self.peer(key.to, now)
        transfer.queued = True
        peer.waiting.append(transfer)
        self._timers.set(transfer, min(expires, now + peer.interval(0)))
        self._pump(peer, now)
        return transfer

    def _end_transfer(self, transfer: Transfer, peer: Peer, *, answered: bool) -> None:
        transfer.done = True
        peer.landed(transfer.in_flight, answered=answered)
        wire = transfer.wire
        key = _TransferKey(transfer.to, wire.kind, wire.request, wire.epoch, wire.offset)
        del self._transfers[key]

    def _transfer_due(self, transfer: Transfer, peer: Peer, now: float) -> None:
        """Nothing was heard of a transfer for a while: give it up, or ask what has arrived."""
        if now >= transfer.expires:
            if transfer.ask is None:
                self._counters.abandoned += 1
            else:
                transfer.ask.transfer = None
            self._end_transfer(transfer, peer, answered=False)
            self._pump(peer, now)
            return
        if not transfer.queued or transfer.in_flight:
            # Not from the retry budget: a probe is small, and what it makes us send again is
            # known to be missing.
            peer.timed_out(now)
            transfer.repetitions += 1
            self._counters.probes += 1
            self._outbox.put(transfer.to, transfer.probe(self._outbox.cluster, now))
        wait = peer.interval(transfer.repetitions)
        self._timers.set(transfer, min(transfer.expires, now + wait))

    # The window.

    def _pump(self, peer: Peer, now: float) -> None:
        """Send what the window has room for, in the order in which it was asked for."""
        waiting = peer.waiting
        while waiting:
            item = waiting[0]
            if isinstance(item, Transfer):
                if not item.done and not self._send_fragments(item, peer, now):
                    return
                item.queued = False
            elif not item.done:
                if not peer.fits(item.size):
                    return
                item.waiting = False
                item.sent_at = now
                peer.took_off(item.size)
                self._outbox.put_all(item.to, item.frames)
                wait = item.patience + peer.interval(0)
                self._timers.set(item, min(item.expires, now + wait))
            waiting.popleft()

    def _send_fragments(self, transfer: Transfer, peer: Peer, now: float) -> bool:
        """Send fragments as the window allows; False if some have to wait for it."""
        sent = False
        while transfer.probe_sent_at is None and (size := transfer.next_size):
            if not peer.fits(size):
                return False
            frame, again = transfer.next_frame(self._outbox.cluster, now)
            peer.took_off(size)
            self._counters.retransmits += again
            self._outbox.put(transfer.to, frame)
            sent = True
        if sent:
            wait = peer.interval(transfer.repetitions)
            self._timers.set(transfer, min(transfer.expires, now + wait))
        return True

    def _forget_a_peer(self) -> None:
        for to in list(self._peers)[:64]:
            peer = self._peers.pop(to)
            if peer.idle:
                return
            self._peers[to] = peer
