"""A network of a test's own, in which datagrams are lost, doubled, or too long for the path.

Loopback has no cables to cut. A network namespace has a loopback of its own, and all that a test
starts from inside lives in it; nft drops there what a rule names, in one direction or both, and
counts it: that shows that something was held up.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from corfu.messages import KIND_OF, Message

_CLONE_NEWNET = 0x40000000
_UDP = "meta l4proto udp"
_KIND_BITS = (8 + 3) * 8
"""Where a datagram's first frame says its kind: behind 8 bytes of UDP and 3 of the frame."""


class Cut:
    """Datagrams of one sort that nobody gets; until it is healed."""

    def __init__(self, name: str) -> None:
        self._name = name

    @property
    def dropped(self) -> int:
        """How many datagrams were dropped."""
        listed = json.loads(_nft("-j", f"list chain inet cuts {self._name}"))
        return sum(_packets(each) for each in listed["nftables"])

    def heal(self) -> None:
        """Let the datagrams through again."""
        _nft(f"flush chain inet cuts {self._name}; delete chain inet cuts {self._name}")


class OwnNetwork:
    """The network that a test is in."""

    def __init__(self) -> None:
        _nft("add table inet cuts")
        # Here each IP packet passes once, fragments still apart: whoever sent it to whom.
        _nft(
            "add table netdev path; add chain netdev path in "
            "{ type filter hook ingress device lo priority 0; }"
        )
        self._cuts = 0

    def cut(
        self,
        *,
        sources: Iterable[int] = (),
        targets: Iterable[int] = (),
        message: type[Message] | None = None,
    ) -> Cut:
        """Drop what goes from one of these ports to one of those; none means: any.

        Args:
            sources: Ports that datagrams come from.
            targets: Ports that they go to.
            message: Only datagrams that begin with such a message.
        """
        self._cuts += 1
        name = f"cut{self._cuts}"
        matches = [
            f"udp {end} {{ {', '.join(map(str, ports))} }}"
            for end, ports in (("sport", tuple(sources)), ("dport", tuple(targets)))
            if ports
        ]
        if message is not None:
            matches.append(f"@th,{_KIND_BITS},8 {KIND_OF[message]}")
        assert matches
        _nft(
            f"add chain inet cuts {name} {{ type filter hook input priority 0; }}; "
            f"add rule inet cuts {name} {' '.join(matches)} counter drop"
        )
        return Cut(name)

    def lose(self, percent: int) -> None:
        """Lose so many of a hundred datagrams, drawn at random."""
        _nft(f"add rule netdev path in {_UDP} {_chance(percent)} counter drop")

    def duplicate(self, percent: int) -> None:
        """Deliver so many of a hundred datagrams twice, drawn at random."""
        # The second one comes by here again; a copy of a copy may be made, too, or be lost.
        _nft(f'add rule netdev path in {_UDP} {_chance(percent)} counter dup to "lo"')

    def swallow_longer_than(self, packet_bytes: int) -> None:
        """Lose every IP packet that is longer, and tell nobody: a path with a black hole."""
        _nft(f"add rule netdev path in {_UDP} ip length > {packet_bytes} counter drop")

    def heal(self) -> None:
        """Let the path be as it should: nothing is lost, doubled or swallowed any more."""
        _nft("flush chain netdev path in")

    def set_mtu(self, packet_bytes: int) -> None:
        """Make `packet_bytes` the length of the longest IP packet."""
        subprocess.run(["ip", "link", "set", "lo", "mtu", str(packet_bytes)], check=True)

    def let_through_only(self, mark: int) -> None:
        """Drop every datagram without this mark; who looks at loopback still sees it."""
        _nft(
            "add chain inet cuts marked { type filter hook input priority 0; }; "
            f"add rule inet cuts marked {_UDP} mark != {mark} counter drop"
        )

    @property
    def hits(self) -> list[int]:
        """How many packets were lost, doubled or swallowed, in the order the rules were made."""
        listed = json.loads(_nft("-j", "list chain netdev path in"))
        return [_packets(each) for each in listed["nftables"] if "rule" in each]

    @property
    def fragments(self) -> int:
        """How many fragments IP has made of datagrams that were too long for the path."""
        return _ip_statistics()["FragCreates"]


@contextlib.contextmanager
def own_network() -> Iterator[OwnNetwork]:
    """Put this thread, and all that it starts, in a network of its own for a while.

    Skips the test where that is not possible.
    """
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("needs root on Linux, to make a network namespace")
    if shutil.which("nft") is None or shutil.which("ip") is None:
        pytest.skip("needs nft and ip: install nftables and iproute2")
    with _namespace():
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        yield OwnNetwork()


@contextlib.contextmanager
def _namespace() -> Iterator[None]:
    libc = ctypes.CDLL(None, use_errno=True)
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        if libc.unshare(_CLONE_NEWNET) != 0:
            pytest.skip(f"no network namespace: {os.strerror(ctypes.get_errno())}")
        try:
            yield
        finally:
            # It ends with the last process that is in it.
            assert libc.setns(before, _CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
    finally:
        os.close(before)


def _nft(*arguments: str) -> str:
    return subprocess.run(
        ["nft", *arguments],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout


def _packets(listed: dict[str, Any]) -> int:
    parts = listed.get("rule", {}).get("expr", [])
    return sum(part["counter"]["packets"] for part in parts if "counter" in part)


def _chance(percent: int) -> str:
    return f"numgen random mod 100 < {percent}"


def _ip_statistics() -> dict[str, int]:
    """Return the counters of IP in this thread's network."""
    lines = Path("/proc/thread-self/net/snmp").read_text().splitlines()
    names, values = (line.split()[1:] for line in lines if line.startswith("Ip:"))
    return dict(zip(names, map(int, values), strict=True))
