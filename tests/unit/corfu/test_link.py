"""The link: requests are answered, large bodies arrive, and nothing grows without bound."""

from __future__ import annotations

import random

import pytest

from corfu.codec import HEADER_BYTES, NO_CLUSTER, encode
from corfu.config import BURST_BYTES_MAX, LinkSettings
from corfu.link.peer import RETRIES_PER_S
from corfu.messages import (
    Entries,
    Entry,
    Forward,
    GetLayout,
    GetTail,
    LayoutIs,
    Message,
    Ping,
    Pong,
    Read,
    Write,
    Written,
)
from corfu.types import (
    Address,
    ClusterId,
    Digest,
    EntryId,
    Epoch,
    Offset,
    State,
    UnitId,
)
from tests.unit.corfu.link_world import A, B, C, Faults, Host, World

MIB = 1 << 20
ID = EntryId(b"e" * 16)


def ping(host: Host) -> Ping:
    return Ping(host.link.new_request(), UnitId(1))


def write(host: Host, entry: bytes, offset: int = 7) -> Write:
    request = host.link.new_request()
    return Write(request, Epoch(1), Offset(offset), ID, Offset(100), entry)


def answer(host: Host, message: Message, sender: Address) -> None:
    """Answer as a unit would, from memory, every time it is asked."""
    match message:
        case Ping():
            host.send(sender, Pong(message.request, message.unit))
        case Write():
            host.send(sender, Written(message.request, message.epoch, message.offset, ID))
        case Read():
            size = message.bytes_max
            entry = Entry(message.offset, State.DATA, ID, Digest(0), bytes(size))
            mark = Offset(0)
            reply = Entries(
                message.request, message.epoch, message.offset, message.end, mark, (entry,)
            )
            host.send(sender, reply)
        case _:
            raise AssertionError(message)


def test_ask_without_faults_is_answered_with_two_datagrams() -> None:
    world = World(1)
    a, _ = world.host(A), world.host(B, handler=answer)
    request = ping(a)
    assert a.ask(B, request)
    world.run(lambda: bool(a.answered))
    assert a.answered == {request.request: Pong(request.request, request.unit)}
    assert world.datagrams == 2
    assert a.link.deadline is None
    assert a.link.flight(B, world.now)[0] == 0


@pytest.mark.parametrize("seed", range(6))
def test_asks_under_loss_duplication_and_damage_are_all_answered(seed: int) -> None:
    faults = Faults(loss=0.2, duplicate=0.1, corrupt=0.02, delay_s=(0.0001, 0.02), long_delay=0.01)
    world = World(seed, faults)
    a, b = world.host(A), world.host(B, handler=answer)
    rng = random.Random(seed)
    asked: dict[object, Write] = {}
    for n in range(60):
        message = write(a, rng.randbytes(rng.choice((0, 10, 1000, 5000, 60_000))), n)
        asked[message.request] = message
        a.ask(B, message, 500)
    world.run(lambda: len(a.answered) == len(asked))
    assert not a.expired
    # No damaged or mixed body came through.
    for received in b.received:
        assert received == asked[received.request]


def test_large_asks_under_loss_arrive_with_few_bytes() -> None:
    world = World(3, Faults(loss=0.2))
    settings = LinkSettings()
    a, b = world.host(A, settings), world.host(B, settings, answer)
    body = random.Random(3).randbytes(MIB)
    count = 10
    for n in range(count):
        a.ask(B, write(a, body, n), 120)
    world.run(lambda: len(a.answered) == count)
    assert not a.expired
    assert world.bytes_sent < 2.5 * count * MIB
    assert all(isinstance(m, Write) and m.entry == body for m in b.received)
    assert world.longest <= settings.datagram_bytes_max


@pytest.mark.parametrize("datagram_bytes_max", [256, 1200, 8900, 32 << 10])
def test_large_forward_under_loss_is_delivered_once(datagram_bytes_max: int) -> None:
    """One way: nobody answers, so the fragments alone are acknowledged."""
    world = World(5, Faults(loss=0.05, duplicate=0.05, delay_s=(0.0001, 0.003)))
    settings = LinkSettings(datagram_bytes_max=datagram_bytes_max)
    a, b = world.host(A, settings), world.host(B, settings)
    entry = random.Random(1).randbytes(MIB - 100)
    message = Forward(a.link.new_request(), Epoch(2), Offset(3), ID, C, entry)
    a.send(B, message)
    world.run_for(8)
    assert b.received == [message]
    assert a.link.counters.abandoned == 0
    assert a.link.deadline is None
    assert a.link.flight(B, world.now)[0] == 0
    assert b.link.reassembly_bytes == 0


def test_large_forward_to_nobody_is_given_up() -> None:
    world = World(6)
    settings = LinkSettings()
    a = world.host(A, settings)
    a.send(B, Forward(a.link.new_request(), Epoch(2), Offset(3), ID, C, bytes(MIB)))
    world.run_for(settings.transfer_s_max + 1)
    assert a.link.counters.abandoned == 1
    assert a.link.deadline is None
    assert a.link.flight(B, world.now)[0] == 0
    # Not one window more than the first was sent into the void.
    assert world.bytes_sent < settings.window_bytes_initial + 20_000


def test_large_forward_sent_again_while_under_way_is_not_doubled() -> None:
    world = World(7)
    a, b = world.host(A), world.host(B)
    message = Forward(a.link.new_request(), Epoch(2), Offset(3), ID, C, bytes(200_000))
    a.send(B, message)
    a.send(B, message)
    world.run_for(1)
    assert b.received == [message]
    a.send(B, message)
    world.run_for(1)
    assert b.received == [message, message]


def test_late_fragments_of_completed_transfer_deliver_nothing() -> None:
    world = World(8)
    a, b = world.host(A), world.host(B)
    old: list[bytes] = []
    world.tap = lambda datagram, sender, _: old.append(datagram) if sender == A else None
    a.send(B, Forward(a.link.new_request(), Epoch(2), Offset(3), ID, C, bytes(200_000)))
    world.run_for(1)
    for datagram in old:
        world.transmit(datagram, A, B)
    world.run_for(1)
    assert len(b.received) == 1
    assert b.link.reassembly_bytes == 0


def test_large_ask_whose_reply_is_lost_is_repeated_whole() -> None:
    world = World(9)
    replies = 0

    def deaf_once(host: Host, message: Message, sender: Address) -> None:
        nonlocal replies
        replies += 1
        if replies > 1:
            answer(host, message, sender)

    a, _ = world.host(A), world.host(B, handler=deaf_once)
    a.ask(B, write(a, bytes(200_000)))
    world.run(lambda: bool(a.answered))
    assert replies == 2


def test_large_reply_under_loss_arrives() -> None:
    world = World(10, Faults(loss=0.1))
    a, _ = world.host(A), world.host(B, handler=answer)
    request = a.link.new_request()
    a.ask(B, Read(request, Epoch(1), Offset(0), Offset(1), MIB, 0), 60)
    world.run(lambda: bool(a.answered))
    reply = a.answered[request]
    assert isinstance(reply, Entries)
    assert reply.entries[0].entry == bytes(MIB)


def test_transfer_whose_partial_was_evicted_begins_anew() -> None:
    """The receiver forgets what it acknowledged: the sender must believe the newest answer."""
    world = World(11, Faults(loss=0.2))
    small = LinkSettings(reassembly_bytes_max=450_000, retransmit_s_initial=0.2)
    a, b = world.host(A), world.host(B, small, answer)
    for n in range(2):
        a.ask(B, write(a, bytes(200_000 + n), n), 300)
        world.run_for(0.002)
    c = world.host(C)
    c.send(B, Forward(c.link.new_request(), Epoch(2), Offset(3), ID, C, bytes(300_000)))
    world.run(lambda: len(a.answered) == 2)
    assert b.link.counters.drops["evicted"] > 0


def test_reassembly_of_endless_first_fragments_stays_bounded() -> None:
    settings = LinkSettings(reassembly_bytes_max=3 * MIB)
    world = World(12)
    b = world.host(B, settings)
    firsts: list[bytes] = []
    world.tap = lambda datagram, *_: firsts.append(datagram)
    for n in range(40):
        world.now += 0.001
        firsts.clear()
        a = world.host(A)
        a.link.send(B, Forward(a.link.new_request(), Epoch(1), Offset(n), ID, C, bytes(MIB)), 0.0)
        world.flush(a)
        b.link.receive(firsts[0], A, world.now)
        assert b.link.reassembly_bytes <= settings.reassembly_bytes_max
    deadline = b.link.deadline
    assert deadline is not None
    assert deadline <= world.now + settings.reassembly_s_max
    b.link.tick(world.now + settings.reassembly_s_max)
    assert b.link.reassembly_bytes == 0
    assert b.link.deadline is None


def test_ask_to_silent_peer_expires_and_backs_off() -> None:
    world = World(13)
    a = world.host(A)
    message = ping(a)
    a.ask(B, message, 10.0)
    world.run(lambda: bool(a.expired))
    assert a.expired == [message.request]
    assert 10.0 <= world.now < 10.1
    # 0.1, 0.2, ... 2 s with jitter: a repetition each, not one every 0.1 s.
    assert 5 <= a.link.counters.retransmits <= 9
    assert a.link.asks == 0


def test_retry_budget_with_silent_peer_stops_storm() -> None:
    settings = LinkSettings()
    world = World(14)
    a = world.host(A, settings)
    count, seconds = 2000, 10.0
    for _ in range(count):
        a.ask(B, ping(a), seconds)
    world.run(lambda: len(a.expired) == count)
    allowed = settings.retry_budget_burst + RETRIES_PER_S * seconds
    assert a.link.counters.retransmits <= allowed + count * settings.retry_budget_ratio
    assert a.link.counters.deferred > 0


def test_window_with_many_large_asks_is_kept() -> None:
    settings = LinkSettings(window_bytes_initial=128 << 10, window_bytes_max=256 << 10)
    world = World(15, Faults(loss=0.02))
    a, _ = world.host(A, settings), world.host(B, settings, answer)
    count = 50
    for n in range(count):
        a.ask(B, write(a, bytes(40_000 if n % 5 else 150_000), n), 60)
    highest = 0

    def all_answered() -> bool:
        nonlocal highest
        in_flight, window = a.link.flight(B, world.now)
        highest = max(highest, in_flight)
        assert settings.window_bytes_min <= window <= settings.window_bytes_max
        return len(a.answered) == count

    world.run(all_answered)
    assert highest <= settings.window_bytes_max
    assert a.link.flight(B, world.now)[0] == 0


def test_window_without_loss_grows_and_with_timeouts_halves() -> None:
    world = World(16)
    settings = LinkSettings()
    a, _ = world.host(A, settings), world.host(B, settings, answer)
    for n in range(200):
        a.ask(B, write(a, bytes(30_000), n))
    world.run(lambda: len(a.answered) == 200)
    grown = a.link.flight(B, world.now)[1]
    assert grown > settings.window_bytes_initial
    del world.hosts[B]
    a.ask(B, ping(a), 5.0)
    world.run(lambda: bool(a.expired))
    assert a.link.flight(B, world.now)[1] < grown / 2


def test_asks_beyond_table_are_refused() -> None:
    world = World(17)
    a = world.host(A, LinkSettings(asks_max=3))
    assert [a.ask(B, ping(a)) for _ in range(4)] == [True, True, True, False]


def test_cancelled_ask_is_not_repeated() -> None:
    world = World(18)
    a = world.host(A)
    message = ping(a)
    a.ask(B, message)
    a.link.cancel(message.request, world.now)
    world.run_for(5)
    assert a.link.counters.retransmits == 0
    assert not a.expired


def test_round_trip_is_sampled_from_unrepeated_requests_only() -> None:
    world = World(19, Faults(delay_s=(0.010, 0.010)))
    a, b = world.host(A), world.host(B, handler=answer)
    a.ask(B, ping(a))
    world.run(lambda: len(a.answered) == 1)
    assert a.link.round_trip(B, world.now) == pytest.approx(0.020)
    # Now slower than the timeout: repeated, so the answer measures nothing.
    world.faults.delay_s = (0.3, 0.3)
    a.ask(B, ping(a))
    world.run(lambda: len(a.answered) == 2)
    assert a.link.counters.retransmits > 0
    assert a.link.round_trip(B, world.now) == pytest.approx(0.020)
    # The timeout stays backed off until one comes through unrepeated, which then counts.
    for n in range(6):
        a.ask(B, ping(a))
        world.run(lambda n=n: len(a.answered) == 3 + n)  # type: ignore[misc]
    round_trip = a.link.round_trip(B, world.now)
    assert round_trip is not None
    assert round_trip > 0.05
    assert b.received


def test_round_trip_of_answer_from_third_party_counts_for_asked_peer() -> None:
    world = World(20, Faults(delay_s=(0.010, 0.010)))

    def pass_on(host: Host, message: Message, sender: Address) -> None:
        assert isinstance(message, Write)
        host.send(C, Forward(message.request, message.epoch, message.offset, ID, sender, b"x"))

    def reply(host: Host, message: Message, _: Address) -> None:
        assert isinstance(message, Forward)
        host.send(message.client, Written(message.request, message.epoch, message.offset, ID))

    a = world.host(A)
    world.host(B, handler=pass_on)
    world.host(C, handler=reply)
    a.ask(B, write(a, b"x"))
    world.run(lambda: bool(a.answered))
    assert a.link.round_trip(B, world.now) == pytest.approx(0.030)
    assert a.link.round_trip(C, world.now) is None


def test_parked_read_is_not_repeated_while_it_may_be_held() -> None:
    world = World(21)
    a, b = world.host(A), world.host(B)
    a.ask(B, Read(a.link.new_request(), Epoch(1), Offset(0), Offset(9), 100, 1000), 10)
    world.run_for(1.0)
    assert len(b.received) == 1
    world.run_for(1.0)
    assert len(b.received) > 1


def test_frames_to_one_peer_share_a_datagram_in_order() -> None:
    world = World(22)
    a, b = world.host(A), world.host(B)
    pings = [ping(a) for _ in range(5)]
    for message in pings:
        a.link.send(B, message, 0.0)
    a.link.send(C, pings[0], 0.0)
    world.flush(a)
    assert world.datagrams == 2
    world.run_for(1)
    assert b.received == pings


def test_frame_of_other_cluster_drops_the_datagram() -> None:
    world = World(23)
    a, b = world.host(A, cluster=ClusterId(b"strange!")), world.host(B)
    a.send(B, ping(a))
    world.run_for(1)
    assert not b.received
    assert b.link.counters.drops["cluster"] == 1


def test_link_that_learns_its_cluster_may_ask_for_the_layout_only() -> None:
    world = World(24)

    def tell(host: Host, message: Message, sender: Address) -> None:
        zero = Offset(0)
        host.send(sender, LayoutIs(message.request, Epoch(1), None, None, zero, zero, ()))

    a, b = world.host(A, cluster=None), world.host(B, handler=tell)
    a.ask(B, GetLayout(a.link.new_request(), Epoch(0)))
    world.run(lambda: bool(a.answered))
    a.send(B, GetTail(a.link.new_request(), linearizable=True))
    world.run_for(0.1)
    assert b.link.counters.drops["cluster"] == 1
    a.link.cluster = b.link.cluster or NO_CLUSTER
    a.send(B, GetTail(a.link.new_request(), linearizable=True))
    world.run_for(0.1)
    assert isinstance(b.received[-1], GetTail)


def test_fragments_of_two_attempts_at_different_offsets_never_mix() -> None:
    """RFC 4963's fault, one level up: same entry id, same request id even, other offset."""
    world = World(25)
    a, b = world.host(A), world.host(B)
    request = a.link.new_request()
    kept: dict[int, list[bytes]] = {1: [], 2: []}
    for offset, fill in ((1, b"x"), (2, b"y")):
        world.tap = lambda datagram, *_, offset=offset: kept[offset].append(datagram)
        entry = fill * 3000
        a.link.send(B, Write(request, Epoch(1), Offset(offset), ID, Offset(9), entry), 0.0)
        world.flush(a)
        world.tap = None
    whole = kept[1][:1] + kept[2][1:]
    assert [b.link.receive(datagram, A, 0.0) for datagram in whole] == [[]] * len(whole)


def test_body_of_burst_size_is_no_transfer() -> None:
    world = World(26)
    a, b = world.host(A), world.host(B)
    overhead = len(encode(write(a, b"")).body)
    a.send(B, write(a, bytes(BURST_BYTES_MAX - overhead)))
    sent = world.datagrams
    world.run_for(1)
    assert len(b.received) == 1
    assert world.datagrams == sent
    assert sent == -(-BURST_BYTES_MAX // (1200 - HEADER_BYTES))
