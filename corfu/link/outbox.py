"""Frames on their way out, packed into datagrams."""

from __future__ import annotations

from collections.abc import Iterator

from corfu.codec import HEADER_BYTES, NO_CLUSTER, Encoded, Frame, encode_frame, encode_whole
from corfu.link.counters import LinkCounters
from corfu.link.transfer import fragment_frame, fragments_of
from corfu.types import Address, ClusterId


class Outbox:
    """Frames per peer, in order. `cluster` is stamped on every frame made from now on."""

    __slots__ = ("_counters", "_datagram_bytes_max", "_frames", "cluster")

    def __init__(
        self, cluster: ClusterId | None, datagram_bytes_max: int, counters: LinkCounters
    ) -> None:
        self.cluster = cluster or NO_CLUSTER
        self._datagram_bytes_max = datagram_bytes_max
        self._counters = counters
        self._frames: dict[Address, list[bytes]] = {}

    def burst(self, wire: Encoded) -> list[bytes]:
        """Return all frames of a message."""
        size = wire.size
        if HEADER_BYTES + size <= self._datagram_bytes_max:
            return [encode_whole(wire, self.cluster)]
        layout = fragments_of(size, self._datagram_bytes_max)
        body = memoryview(wire.body)
        cluster = self.cluster
        return [fragment_frame(wire, body, cluster, 0, n, layout) for n in range(layout[0])]

    def put(self, to: Address, frame: bytes) -> None:
        """Let a frame leave with the next datagrams."""
        frames = self._frames.get(to)
        if frames is None:
            self._frames[to] = [frame]
        else:
            frames.append(frame)

    def put_all(self, to: Address, frames: list[bytes]) -> None:
        """Let frames leave with the next datagrams."""
        self._frames.setdefault(to, []).extend(frames)

    def put_control(self, to: Address, kind: int, about: Frame, payload: bytes) -> None:
        """Let a link's own frame leave, about the transfer that `about` belongs to."""
        head = (kind, about.flags, 0, 1, len(payload), self.cluster)
        frame = Frame(*head, about.request, about.epoch, about.offset, payload)
        self.put(to, encode_frame(frame))

    def take(self) -> list[tuple[bytes, Address]]:
        """Return and forget the datagrams to send: per peer in order, frames packed together."""
        if not self._frames:
            return []
        queued, self._frames = self._frames, {}
        datagrams = [
            (datagram, to) for to, frames in queued.items() for datagram in self._packed(frames)
        ]
        counters = self._counters
        counters.frames_out += sum(len(frames) for frames in queued.values())
        counters.datagrams_out += len(datagrams)
        counters.bytes_out += sum(len(datagram) for datagram, _ in datagrams)
        return datagrams

    def _packed(self, frames: list[bytes]) -> Iterator[bytes]:
        if len(frames) == 1:
            yield frames[0]
            return
        group: list[bytes] = []
        size = 0
        for frame in frames:
            if group and size + len(frame) > self._datagram_bytes_max:
                yield group[0] if len(group) == 1 else b"".join(group)
                group, size = [], 0
            group.append(frame)
            size += len(frame)
        yield b"".join(group)
