"""How far datagrams came, and the floors below which a fuzz run is too shallow to say anything."""

from __future__ import annotations

from dataclasses import dataclass, field, fields

from corfu.codec_data import DATA_CODECS
from corfu.link import Link
from corfu.link.control import LINK_KINDS_MIN
from corfu.link.core import Delivery
from corfu.messages import KINDS, Message
from corfu.types import Address

from .bounds import BrokenRuleError
from .mutate import FOREIGN

_CLUSTER = slice(20, 28)
_FRAME_FAULTS = ("short", "foreign", "malformed")
_FRAGMENT_FAULTS = ("fragment", "late", "evicted")


@dataclass(slots=True)
class Stages:
    """Totals. Each datagram of a run is counted once in `datagrams`; frames may be more.

    Attributes:
        datagrams: Mutants handed to the receive path.
        digest: Dropped at the checksum.
        frame: Dropped at the frame: short, foreign, or with lengths that contradict.
        cluster: Dropped as another cluster's.
        kind: Frames of a kind or with flags that are not known.
        fragments: Fragments dropped: contradicting, late, or evicted.
        fixed: Bodies of fixed form that their decoder refused.
        schema: CBOR bodies (and link control) that are not one canonical value of their type.
        decoded: Messages that came out whole.
        dispatched: Messages that a core or a waiting ask took.
        replies: What the cores sent, each encoded by a link.
    """

    datagrams: int = 0
    digest: int = 0
    frame: int = 0
    cluster: int = 0
    kind: int = 0
    fragments: int = 0
    fixed: int = 0
    schema: int = 0
    decoded: int = 0
    dispatched: int = 0
    replies: int = 0
    kinds: dict[str, int] = field(default_factory=dict)
    """How many messages of each kind came out whole."""

    @property
    def bodies(self) -> int:
        """Whole bodies that were handed to a decoder of messages."""
        return self.fixed + self.schema + self.decoded

    def add(self, other: Stages) -> None:
        """Count another part of the run in."""
        for each in fields(Stages):
            if each.name != "kinds":
                setattr(self, each.name, getattr(self, each.name) + getattr(other, each.name))
        for kind, count in other.kinds.items():
            self.kinds[kind] = self.kinds.get(kind, 0) + count

    def count(self, message: Message) -> None:
        """Count a message that came out whole."""
        name = type(message).__name__
        self.kinds[name] = self.kinds.get(name, 0) + 1

    def take_drops(self, link: Link) -> None:
        """Count what a link has dropped, all but bodies: those are counted one by one."""
        drops = link.counters.drops
        self.digest += drops["digest"]
        self.frame += sum(drops[fault] for fault in _FRAME_FAULTS)
        self.cluster += drops["cluster"]
        self.kind += drops["kind"]
        self.fragments += sum(drops[fault] for fault in _FRAGMENT_FAULTS)

    def receive(
        self, link: Link, datagram: bytes, kind: int, sender: Address, now: float
    ) -> list[Delivery]:
        """Hand a datagram to a link's receive path and count what became of its bodies.

        A refused body counts for the form of the datagram's kind as it was before the change.
        """
        drops = link.counters.drops
        before = drops["body"]
        deliveries = link.receive(datagram, sender, now)
        if deliveries and datagram[_CLUSTER] == FOREIGN:
            raise BrokenRuleError(f"taken from another cluster: {deliveries}")
        self.datagrams += 1
        self.refused(kind, drops["body"] - before)
        self.decoded += len(deliveries)
        return deliveries

    def refused(self, kind: int, bodies: int) -> None:
        """Count refused bodies by the form that messages of this kind have."""
        if kind < LINK_KINDS_MIN and KINDS[kind] in DATA_CODECS:
            self.fixed += bodies
        else:
            self.schema += bodies

    def shortfalls(self, *, dispatched: float) -> list[str]:
        """Return why this run is too shallow; `dispatched` is the least share that cores took."""
        floors = (
            ("past the checksum", self.datagrams - self.digest - self.frame, 0.75),
            ("decoders of messages reached", self.bodies, 0.4),
            ("refused by fixed decoders", self.fixed, 0.01),
            ("refused by the schema", self.schema, 0.05),
            ("decoded", self.decoded, 0.15),
            ("dispatched", self.dispatched, dispatched),
        )
        return [
            f"{what}: {count} of {self.datagrams}, wanted {share:.0%}"
            for what, count, share in floors
            if count < share * self.datagrams
        ]
