"""The simulated datagram network: each fault does what it says, and nothing else."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from dataclasses import replace

import pytest

from corfu.ports import Datagrams
from corfu.tools.sim.loop import VirtualLoop
from corfu.tools.sim.network import NetworkSettings, SimDatagrams, SimNetwork
from corfu.types import Address

A, B, C = (Address("10.0.0.1", port) for port in (1, 2, 3))


class _Peers:
    """Three endpoints and what each received."""

    def __init__(self, seed: int = 1, **changes: float) -> None:
        self.loop = VirtualLoop()
        settings = replace(NetworkSettings(), **changes)  # type: ignore[arg-type]
        self.network = SimNetwork(self.loop, random.Random(seed), settings)
        self.got: dict[Address, list[bytes]] = {}
        self.ends: dict[Address, SimDatagrams] = {}
        for address in (A, B, C):
            self.open(address)

    def open(self, address: Address) -> SimDatagrams:
        end = self.network.endpoint(address)
        got = self.got.setdefault(address, [])
        end.listen(lambda data, _source: got.append(data))
        self.ends[address] = end
        return end

    def send(self, source: Address, target: Address, *data: bytes) -> None:
        self.ends[source].send([(each, target) for each in data])

    def run_for(self, seconds: float) -> None:
        self.loop.run(asyncio.sleep(seconds))


@pytest.fixture
def peers() -> Iterator[_Peers]:
    peers = _Peers()
    yield peers
    peers.loop.close()


def _numbered(count: int) -> list[bytes]:
    return [number.to_bytes(4, "big") for number in range(count)]


def test_endpoint_is_what_the_port_asks_for(peers: _Peers) -> None:
    end: Datagrams = peers.ends[A]
    assert end.address == A


def test_send_without_faults_delivers_each_once_in_any_order(peers: _Peers) -> None:
    peers.send(A, B, *_numbered(200))
    assert peers.got[B] == []
    peers.run_for(1)
    assert sorted(peers.got[B]) == _numbered(200)
    assert peers.got[B] != _numbered(200)
    assert peers.got[C] == []


def test_send_to_oneself_arrives_also_when_isolated(peers: _Peers) -> None:
    peers.network.isolate(A)
    peers.send(A, A, b"self")
    peers.run_for(1)
    assert peers.got[A] == [b"self"]


def test_loss_and_duplicates_happen_at_their_rates() -> None:
    peers = _Peers(loss=0.3, duplicate=0.2)
    for data in _numbered(2000):
        peers.send(A, B, data)
    peers.run_for(1)
    counters = peers.network.counters
    assert 500 < counters.lost < 700
    assert 320 < counters.duplicated < 480
    assert len(peers.got[B]) == 2000 - counters.lost + counters.duplicated
    assert counters.as_dict()["delivered"] == len(peers.got[B])
    peers.loop.close()


def test_long_delay_arrives_seconds_later() -> None:
    peers = _Peers(long_delay=1.0, long_delay_s_min=5.0, long_delay_s_max=6.0)
    peers.send(A, B, b"old")
    peers.run_for(4.9)
    assert peers.got[B] == []
    peers.run_for(1.2)
    assert peers.got[B] == [b"old"]
    peers.loop.close()


def test_corrupt_and_truncated_copies_come_besides_the_sound_one() -> None:
    peers = _Peers(corrupt=1.0, truncate=1.0)
    data = bytes(64)
    peers.send(A, B, data)
    peers.run_for(1)
    assert len(peers.got[B]) == 3
    flipped = [each for each in peers.got[B] if len(each) == 64 and each != data]
    assert [sum(byte.bit_count() for byte in each) for each in flipped] == [1]
    assert sum(len(each) < 64 for each in peers.got[B]) == 1
    assert data in peers.got[B]
    peers.loop.close()


def test_oversize_datagram_is_dropped_and_counted() -> None:
    peers = _Peers(datagram_bytes_max=100)
    peers.send(A, B, bytes(101), bytes(100))
    peers.run_for(1)
    assert peers.got[B] == [bytes(100)]
    assert peers.network.counters.oversize == 1
    peers.loop.close()


def test_block_one_way_leaves_the_way_back_open(peers: _Peers) -> None:
    peers.network.block([A], [B])
    peers.send(A, B, b"x")
    peers.send(B, A, b"y")
    peers.send(A, C, b"z")
    peers.run_for(1)
    assert peers.got == {A: [b"y"], B: [], C: [b"z"]}
    peers.network.unblock([A], [B])
    peers.send(A, B, b"x")
    peers.run_for(1)
    assert peers.got[B] == [b"x"]


def test_partition_cuts_what_is_under_way_until_healed(peers: _Peers) -> None:
    peers.send(A, B, b"x")
    peers.network.partition([A], [B, C])
    peers.run_for(1)
    peers.send(B, A, b"y")
    peers.run_for(1)
    assert peers.got == {A: [], B: [], C: []}
    assert peers.network.counters.blocked == 2
    peers.network.heal()
    peers.send(B, A, b"y")
    peers.run_for(1)
    assert peers.got[A] == [b"y"]


def test_isolate_cuts_everybody_until_rejoined(peers: _Peers) -> None:
    peers.network.isolate(B)
    peers.send(A, B, b"x")
    peers.send(B, C, b"y")
    peers.run_for(1)
    assert peers.got == {A: [], B: [], C: []}
    peers.network.rejoin(B)
    peers.send(A, B, b"x")
    peers.run_for(1)
    assert peers.got[B] == [b"x"]


def test_pause_piles_up_to_the_buffer_and_resume_delivers_in_order() -> None:
    peers = _Peers(buffer_datagrams_max=3, delay_s_min=1e-3, delay_s_max=1e-3)
    peers.network.pause(B)
    peers.send(A, B, *_numbered(5))
    peers.run_for(1)
    assert peers.got[B] == []
    assert peers.network.counters.overflowed == 2
    peers.network.resume(B)
    peers.run_for(1)
    assert peers.got[B] == _numbered(3)
    peers.loop.close()


def test_resume_arrival_while_emptying_is_delivered_after(peers: _Peers) -> None:
    """It joins the buffer, so it must not be left lying there."""
    peers.network.pause(B)
    peers.send(A, B, b"first")
    peers.run_for(1)
    peers.network.resume(B)
    peers.network._deliver(A, B, b"second")
    peers.run_for(1)
    assert peers.got[B] == [b"first", b"second"]


def test_resume_buffered_delivery_runs_as_part_of_the_listening_process(peers: _Peers) -> None:
    group, ran = peers.loop.group("listener"), list[bytes]()
    fresh = Address("10.0.0.1", 9)

    def receive(data: bytes, _source: Address) -> None:
        peers.loop.call_later(5, ran.append, data)

    group.run(peers.network.endpoint(fresh).listen, receive)
    peers.network.pause(fresh)
    peers.send(A, fresh, b"x")
    peers.run_for(1)
    peers.network.resume(fresh)
    peers.run_for(1)
    group.kill()
    peers.run_for(10)
    assert ran == []


def test_burst_beyond_the_receive_buffer_is_dropped() -> None:
    peers = _Peers(buffer_datagrams_max=10, receive_s=1e-3, delay_s_min=1e-3, delay_s_max=1e-3)
    peers.send(A, B, *_numbered(50))
    peers.run_for(0.01)
    assert len(peers.got[B]) == 10
    assert peers.network.counters.overflowed == 40
    peers.run_for(1)
    peers.send(A, B, *_numbered(10))
    peers.run_for(1)
    assert len(peers.got[B]) == 20
    peers.loop.close()


def test_close_drops_and_the_next_owner_hears_late_datagrams(peers: _Peers) -> None:
    peers.send(A, B, b"to the old one")
    peers.ends[B].close()
    peers.ends[B].send([(b"from the dead", A)])
    with pytest.raises(OSError, match="in use"):
        peers.network.endpoint(A)
    peers.open(B)
    peers.run_for(1)
    assert peers.got[B] == [b"to the old one"]
    assert peers.got[A] == []
    peers.ends[B].close()
    peers.send(A, B, b"x")
    peers.run_for(1)
    assert peers.network.counters.unheard == 1


def test_listen_late_gets_what_waits(peers: _Peers) -> None:
    fresh = Address("10.0.0.1", 9)
    end = peers.network.endpoint(fresh)
    peers.send(A, fresh, b"early")
    peers.run_for(1)
    got: list[tuple[bytes, Address]] = []
    end.listen(lambda data, source: got.append((data, source)))
    peers.run_for(1)
    assert got == [(b"early", A)]


def test_late_sends_one_old_datagram_of_each_kind_again(peers: _Peers) -> None:
    peers.network.capture(lambda data: data[:1] if data else None, each_max=4)
    for number in range(100):
        peers.send(A, B, b"w%d" % number, b"s%d" % number)
    peers.run_for(10)
    peers.send(A, B, b"young")
    peers.got[B].clear()
    again = peers.network.late(older_than_s=5)
    peers.run_for(1)
    assert [each.data[:1] for each in again] == [b"w", b"s"]
    assert sorted(peers.got[B]) == sorted([b"young", *(each.data for each in again)])
    assert all(len(sample) <= 4 for sample in peers.network._captured.values())


def test_settings_changed_during_the_run_hold_for_what_is_sent_after(peers: _Peers) -> None:
    peers.send(A, B, b"before")
    peers.network.settings = replace(peers.network.settings, loss=1.0)
    peers.send(A, B, b"after")
    peers.run_for(1)
    assert peers.got[B] == [b"before"]


def test_same_seed_same_trace_other_seed_another() -> None:
    hashes: list[int] = []
    for seed in (1, 1, 2):
        peers = _Peers(seed, loss=0.1, duplicate=0.1, corrupt=0.1, truncate=0.1, long_delay=0.1)
        for data in _numbered(300):
            peers.send(A, B, data)
            peers.send(B, A, data)
        peers.run_for(60)
        hashes.append(peers.loop.trace_hash())
        peers.loop.close()
    assert hashes[0] == hashes[1] != hashes[2]


def test_endpoint_that_is_spent_sends_nothing_more_and_tells_once(peers: _Peers) -> None:
    told: list[int] = []
    peers.ends[A].spend(3, lambda: told.append(1))
    peers.send(A, B, b"1", b"2")
    assert told == []
    peers.send(A, B, b"3", b"4", b"5")
    peers.send(A, B, b"6")
    assert told == [1]
    peers.run_for(1)
    assert sorted(peers.got[B]) == [b"1", b"2", b"3"]
    peers.ends[A].spend(None)
    peers.send(A, B, b"7")
    peers.run_for(1)
    assert b"7" in peers.got[B]
