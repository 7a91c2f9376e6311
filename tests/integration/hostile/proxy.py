"""A hostile path for datagrams, on loopback: each is delayed, some overtaken, doubled, damaged.

    python -m tests.integration.hostile.proxy '{"seed": 1, "lost": 0.02, ...}'

Servers name their addresses to each other, and a chain's tail unit answers whoever asked the head,
so no address may change on the way. A packet socket sees every IP packet on loopback before nft
does; nft drops what has no mark; this process sends, by a raw socket and with the mark, what it
wants to get through, from the address it came from to the one it goes to. Nobody knows of it.

Runs in a network namespace of its own until SIGTERM, then prints what it did.
"""

from __future__ import annotations

import ctypes
import heapq
import itertools
import json
import random
import select
import signal
import socket
import struct
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass
from types import FrameType

MARK = 0x0C05
"""On every packet that went through here."""

_SO_ATTACH_FILTER = 26
_SO_RCVBUFFORCE = 33
_BUFFER_BYTES = 64 << 20
_ETH_P_IP = 0x0800
_UDP = 17
_PACKET_HOST = 0
_ANCILLARY = 0xFFFFF000
_PACKET_TYPE = _ANCILLARY + 4
_PACKET_MARK = _ANCILLARY + 20
_LOAD_BYTE, _LOAD_WORD, _JUMP_IF_EQUAL, _RETURN = 0x30, 0x20, 0x15, 0x06
_IDLE_S = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Chaos:
    """What happens to datagrams. Shares are of 1.

    Attributes:
        seed: Draws everything.
        delay_s: Least and most that any is held up: neighbours overtake each other.
        late: Share that is held up for up to `late_s` instead.
        lost: Share that never arrives.
        doubled: Share that arrives twice, each time by its own delay.
        damaged: Share of which some bytes are changed. Their UDP checksum is left out, so that
            the receiver's own digest has to find it.
        cut_short: Share of which only the beginning arrives.
    """

    seed: int
    delay_s: tuple[float, float] = (0.0, 0.01)
    late: float = 0.0
    late_s: float = 0.0
    lost: float = 0.0
    doubled: float = 0.0
    damaged: float = 0.0
    cut_short: float = 0.0


class Path:
    """Decides what becomes of each packet. Pure."""

    def __init__(self, chaos: Chaos) -> None:
        self.did: Counter[str] = Counter()
        self._chaos = chaos
        self._rng = random.Random(chaos.seed)
        self._numbers = itertools.count()
        self._held: list[tuple[float, int, bytes, tuple[bytes, bytes]]] = []
        self._newest: dict[tuple[bytes, bytes], int] = {}

    def take(self, packet: bytes, now: float) -> None:
        """Take an IP packet that carries UDP."""
        chaos, rng, did = self._chaos, self._rng, self.did
        did["taken"] += 1
        if rng.random() < chaos.lost:
            did["lost"] += 1
            return
        copies = 1
        if rng.random() < chaos.doubled:
            did["doubled"] += 1
            copies = 2
        for _ in range(copies):
            self._hold(packet, now)

    def due(self, now: float) -> list[bytes]:
        """Return what arrives now, in its order."""
        packets = []
        while self._held and self._held[0][0] <= now:
            _, number, packet, ends = heapq.heappop(self._held)
            if number < self._newest.get(ends, -1):
                self.did["overtaken"] += 1
            self._newest[ends] = max(number, self._newest.get(ends, -1))
            packets.append(packet)
        return packets

    @property
    def deadline(self) -> float | None:
        """When the next one arrives; None: there is none."""
        return self._held[0][0] if self._held else None

    def _hold(self, packet: bytes, now: float) -> None:
        chaos, rng = self._chaos, self._rng
        header = 4 * (packet[0] & 15)
        changed = bytearray(packet)
        # No checksum, which IPv4 allows: the one of loopback is not filled in.
        changed[header + 6 : header + 8] = bytes(2)
        begin = header + 8
        if len(changed) > begin and rng.random() < chaos.damaged:
            self.did["damaged"] += 1
            for _ in range(rng.randint(1, 4)):
                changed[rng.randrange(begin, len(changed))] ^= rng.randint(1, 255)
        if len(changed) > begin and rng.random() < chaos.cut_short:
            self.did["cut short"] += 1
            del changed[rng.randrange(begin, len(changed)) :]
            changed[header + 4 : header + 6] = struct.pack("!H", len(changed) - header)
        delay = rng.uniform(*chaos.delay_s)
        if rng.random() < chaos.late:
            self.did["late"] += 1
            delay = rng.uniform(0.0, chaos.late_s)
        ends = (packet[12:20], packet[header : header + 4])
        heapq.heappush(self._held, (now + delay, next(self._numbers), bytes(changed), ends))


def run(chaos: Chaos) -> Counter[str]:
    """Be the path until SIGTERM; returns what was done."""
    ended = False

    def end(_: int, __: FrameType | None) -> None:
        nonlocal ended
        ended = True

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    path = Path(chaos)
    with _incoming() as incoming, _outgoing() as outgoing:
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        while not ended:
            now = time.monotonic()
            for packet in path.due(now):
                outgoing.sendto(packet, (socket.inet_ntoa(packet[16:20]), 0))
            deadline = path.deadline
            wait = _IDLE_S if deadline is None else min(_IDLE_S, max(0.0, deadline - now))
            if select.select((incoming,), (), (), wait)[0]:
                path.take(incoming.recv(1 << 16), time.monotonic())
    return path.did


def _incoming() -> socket.socket:
    """Return a socket that gives each IP packet with UDP in it that arrives without the mark."""
    opened = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0)
    steps = (
        # Loopback shows each packet twice, as it leaves and as it arrives.
        (_LOAD_BYTE, 0, 0, _PACKET_TYPE),
        (_JUMP_IF_EQUAL, 0, 5, _PACKET_HOST),
        (_LOAD_WORD, 0, 0, _PACKET_MARK),
        (_JUMP_IF_EQUAL, 3, 0, MARK),
        (_LOAD_BYTE, 0, 0, 9),
        (_JUMP_IF_EQUAL, 0, 1, _UDP),
        (_RETURN, 0, 0, 1 << 16),
        (_RETURN, 0, 0, 0),
    )
    code = bytearray(b"".join(struct.pack("HBBI", *step) for step in steps))
    address = struct.pack("@HP", len(steps), _address_of(code))
    opened.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, address)
    opened.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER_BYTES)
    opened.bind(("lo", _ETH_P_IP))
    return opened


def _address_of(buffer: bytearray) -> int:
    return ctypes.addressof((ctypes.c_char * len(buffer)).from_buffer(buffer))


def _outgoing() -> socket.socket:
    opened = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, MARK)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER_BYTES)
    return opened


def as_json(chaos: Chaos) -> str:
    """Return the argument for a process that makes this chaos."""
    return json.dumps(asdict(chaos))


def main() -> None:
    """Run the process."""
    fields = json.loads(sys.argv[1])
    fields["delay_s"] = tuple(fields["delay_s"])
    did = run(Chaos(**fields))
    sys.stdout.write(json.dumps(did) + "\n")


if __name__ == "__main__":
    main()
