"""The link alone: frames, fragments, control frames and decoders. Most datagrams end here."""

from __future__ import annotations

import random

from corfu.codec import Encoded, decode_untrusted
from corfu.link import Link
from corfu.messages import Write
from corfu.types import Address, Incarnation, Offset

from .bounds import LINK, check_link
from .corpus import Sample, build, control_samples
from .stages import Stages
from .world import UNIT_NAMES

PEERS = tuple(Address(f"10.1.0.{n}", 7000 + n) for n in range(1, 9))
STRANGERS = 1 << 15
_RENEWED_EVERY = 50_000
_STEP_S = 0.00002


class LinkTarget:
    """A link with transfers of its own under way, so that acks and probes mean something."""

    name = "link"
    dispatched_min = 0.0

    def __init__(self, seed: int) -> None:
        self.stages = Stages()
        self.corpus = build(UNIT_NAMES, seed)
        self._draw = random.Random(seed).random
        self._now = 0.0
        self._left = 0
        self.link = self._renew()
        self.corpus.control.extend(self._about_transfers())

    def _renew(self) -> Link:
        self._left = _RENEWED_EVERY
        session = Incarnation(b"fuzzed-session--")
        # The same numbers each time: what the corpus says of the transfers stays true.
        link = Link(
            cluster=UNIT_NAMES.cluster, session=session, settings=LINK, rng=random.Random(1)
        )
        for number, peer in enumerate(PEERS):
            entry = bytes(70_000 + 50_000 * number)
            epoch, offset = UNIT_NAMES.layouts[-1].epoch, Offset(64 + number)
            id_ = UNIT_NAMES.entry_ids[0]
            write = Write(link.new_request(), epoch, offset, id_, Offset(5000), entry)
            if number % 2:
                link.send(peer, write, self._now)
            else:
                link.ask(peer, write, self._now, 60.0)
        return link

    def _about_transfers(self) -> list[Sample]:
        found: list[Sample] = []
        seen: set[object] = set()
        for datagram, _ in self.link.outgoing():
            for frame in decode_untrusted(datagram).frames:
                if frame.flags and frame.request not in seen:
                    seen.add(frame.request)
                    wire = Encoded(frame.kind, frame.request, frame.epoch, frame.offset, ())
                    found += 4 * control_samples(wire, UNIT_NAMES.cluster, frame.flags)
        return found

    def take(self, datagram: bytes, kind: int) -> None:
        """Hand a datagram to the link, as one from somebody."""
        if not self._left:
            self.finish()
            self.link = self._renew()
        self._left -= 1
        self._now += _STEP_S
        draw = self._draw()
        peer = PEERS[int(draw * len(PEERS))]
        if draw > 0.97:
            # More senders than any table may have room for.
            peer = Address("10.2.0.1", int(self._draw() * STRANGERS))
        stages = self.stages
        for message, _ in stages.receive(self.link, datagram, kind, peer, self._now):
            stages.count(message)
        if not self._left & 63:
            self.link.outgoing()
            if not self._left & 1023:
                self.link.tick(self._now)
                check_link(self.link)

    def close(self) -> None:
        """Free what the target holds: nothing."""

    def finish(self) -> None:
        """Count what the link dropped, and hold it to its bounds."""
        check_link(self.link)
        self.stages.take_drops(self.link)
