"""The rules of appending, one test each."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from corfu.client.log import LogClient
from corfu.errors import AppendUnknownError, NotAppendedError
from corfu.layout import Segment
from corfu.messages import (
    Fill,
    Filled,
    GetLayout,
    GetToken,
    LayoutIs,
    Message,
    NotLeader,
    Reason,
    Refused,
    Write,
    WrongEpoch,
)
from corfu.types import Address, EntryId, Epoch, Offset, Position, State, UnitId
from tests.unit.corfu.client_world import (
    CHAINS,
    DROP,
    REPLICAS,
    Drop,
    FakeCluster,
    data,
    junk_at,
    make_layout,
    records_written,
    run,
)


def test_append_alone_returns_position_after_one_token_and_one_write() -> None:
    async def test(cluster: FakeCluster, log: LogClient) -> None:
        assert await log.append(b"a") == Position(Offset(0), 0)
        assert await log.append(b"") == Position(Offset(1), 0)
        assert len(cluster.requests(GetToken)) == len(cluster.requests(Write)) == 2
        assert records_written(cluster) == [(b"a",), (b"",)]

    run(test)


def test_append_of_one_turn_share_one_entry() -> None:
    async def test(cluster: FakeCluster, log: LogClient) -> None:
        positions = await asyncio.gather(*(log.append(bytes([i])) for i in range(5)))
        assert positions == [Position(Offset(0), i) for i in range(5)]
        assert len(cluster.requests(Write)) == 1

    run(test)


def test_append_queued_while_entry_in_flight_goes_into_next_entry() -> None:
    async def test(cluster: FakeCluster, log: LogClient) -> None:
        first = asyncio.create_task(log.append(b"first"))
        await asyncio.sleep(0.0005)
        rest = [asyncio.create_task(log.append(b"%d" % i)) for i in range(3)]
        assert await first == Position(Offset(0), 0)
        assert [p.offset for p in await asyncio.gather(*rest)] == [1, 1, 1]
        assert [m.count for m in cluster.requests(GetToken)] == [1, 1]

    run(test)


def test_append_called_after_token_request_left_is_never_in_its_entry() -> None:
    """The token reply is late and others append meanwhile: what is called now comes after."""

    async def test(cluster: FakeCluster, log: LogClient) -> None:
        async def slow_first_grant(to: Address, message: Message) -> Message | Drop | None:
            if isinstance(message, GetToken) and len(cluster.requests(GetToken)) == 1:
                reply = cluster.answer_replica(to, message)
                await asyncio.sleep(0.3)
                return reply
            return None

        cluster.script = slow_first_grant
        first = asyncio.create_task(log.append(b"1"))
        await asyncio.sleep(0.1)
        cluster.put(data(1, b"", b"o" * 16))
        second = await log.append(b"2")
        assert (await first).offset == 0
        assert second.offset == 2

    run(test)


def test_append_full_entries_share_token_request() -> None:
    async def test(cluster: FakeCluster, log: LogClient) -> None:
        await asyncio.gather(*(log.append(bytes(1000)) for _ in range(20)))
        assert cluster.requests(GetToken)[0].count == 7
        assert len(cluster.requests(Write)) == 7

    run(test, entry_bytes_target=3100)


def test_append_in_flight_entries_are_bounded() -> None:
    async def test(cluster: FakeCluster, log: LogClient) -> None:
        await asyncio.gather(*(log.append(bytes(3000)) for _ in range(20)))
        assert max(message.count for message in cluster.requests(GetToken)) <= 4

    run(test, entry_bytes_target=3100, entries_in_flight_max=4)


def test_append_unanswered_write_is_settled_by_fill_as_appended() -> None:
    async def test(cluster: FakeCluster, log: LogClient) -> None:
        async def stored_without_reply(to: Address, message: Message) -> Message | Drop | None:
            if isinstance(message, Write):
                cluster.write(message)
                return DROP
            return None

        cluster.script = stored_without_reply
        assert await log.append(b"x") == Position(Offset(0), 0)
        assert len(cluster.requests(GetToken)) == 1
        assert records_written(cluster) == [(b"x",)]

    run(test)


def test_append_unanswered_write_is_settled_as_junk_before_next_token() -> None:
    async def test(cluster: FakeCluster, log: LogClient) -> None:
        async def lost(to: Address, message: Message) -> Message | Drop | None:
            return DROP if isinstance(message, Write) and message.offset == 0 else None

        cluster.script = lost
        assert await log.append(b"x") == Position(Offset(1), 0)
        kinds = [m for _, m in cluster.asked if isinstance(m, GetToken | Write | Fill)]
        # The same Write sent again is one request.
        requests_in_order = dict.fromkeys((type(m), m.request) for m in kinds)
        assert [kind for kind, _ in requests_in_order] == [GetToken, Write, Fill, GetToken, Write]
        ids = {m.entry_id for m in cluster.requests(Write)}
        assert len(ids) == 1
        requests = [m.request for m in cluster.requests(Write)]
        assert len(set(requests)) == 2

    run(test)


def test_append_silent_write_looks_for_a_new_layout_long_before_its_budget_ends() -> None:
    """A unit has died: the epoch without it is active before the Write is given up."""

    async def test(cluster: FakeCluster, log: LogClient) -> None:
        async def dead(to: Address, message: Message) -> Message | Drop | None:
            if isinstance(message, Write) and message.offset == 0:
                cluster.layout = make_layout(2, 100)
                return DROP
            return None

        cluster.script = dead
        began = cluster.now()
        assert await log.append(b"x") == Position(Offset(1), 0)
        assert cluster.now() - began < 0.5
        # In the new epoch nothing is written with the old token: its offset is settled.
        old = [m for m in cluster.requests(Write) if m.offset == 0]
        assert {m.epoch for m in old} == {1}
        assert [m.offset for m in cluster.requests(Fill)] == [0]

    run(test)


@pytest.mark.parametrize(
    "reason", [Reason.NO_SPACE, Reason.REBUILDING, Reason.DAMAGED, Reason.CONFLICT, Reason.BUSY]
)
def test_append_refusal_settles_nothing(reason: Reason) -> None:
    """A copy of the Write is stored although a unit refuses: only the fill tells the truth."""

    async def test(cluster: FakeCluster, log: LogClient) -> None:
        async def refuse(to: Address, message: Message) -> Message | Drop | None:
            if not isinstance(message, Write):
                return None
            cluster.write(message)
            return Refused(message.request, message.epoch, message.offset, reason)

        cluster.script = refuse
        assert await log.append(b"x") == Position(Offset(0), 0)
        assert len(cluster.requests(GetToken)) == 1

    run(test)


def test_append_refused_for_a_full_disk_until_its_time_is_over_says_so() -> None:
    async def test(cluster: FakeCluster, log: LogClient) -> None:
        async def refuse(to: Address, message: Message) -> Message | Drop | None:
            if isinstance(message, Write):
                return Refused(message.request, message.epoch, message.offset, Reason.NO_SPACE)
            return None

        cluster.script = refuse
        with pytest.raises(NotAppendedError, match=r"the disk of unit [0-9]+ is full"):
            await log.append(b"x", timeout=2)

    run(test)


def test_append_refused_fill_is_asked_again_until_it_settles() -> None:
    async def test(cluster: FakeCluster, log: LogClient) -> None:
        fills = itertools.count()

        async def refuse(to: Address, message: Message) -> Message | Drop | None:
            if isinstance(message, Write) and message.offset == 0:
                return Refused(message.request, message.epoch, message.offset, Reason.NO_SPACE)
            if isinstance(message, Fill) and next(fills) < 3:
                return Refused(message.request, message.epoch, message.offset, Reason.ABOVE_WINDOW)
            return None

        cluster.script = refuse
        assert await log.append(b"x") == Position(Offset(1), 0)
        assert [m.offset for m in cluster.requests(Fill)] == [0] * 4

    run(test)


def test_append_already_written_by_another_settles_in_own_epoch() -> None:
    async def test(cluster: FakeCluster, log: LogClient) -> None:
        cluster.head[Offset(0)] = junk_at(0)
        cluster.head[Offset(1)] = data(1, b"other", b"o" * 16)
        assert await log.append(b"x") == Position(Offset(2), 0)
        assert not cluster.requests(Fill)

    run(test)


def test_append_already_written_with_own_id_or_other_epoch_settles_nothing() -> None:
    from corfu.messages import AlreadyWritten

    async def test(cluster: FakeCluster, log: LogClient) -> None:
        async def strange(to: Address, message: Message) -> Message | Drop | None:
            if not isinstance(message, Write):
                return None
            cluster.write(message)
            own = message.offset == 0
            epoch = message.epoch if own else Epoch(message.epoch + 1)
            id_ = message.entry_id if own else EntryId(b"o" * 16)
            return AlreadyWritten(message.request, epoch, message.offset, id_, State.DATA)

        cluster.script = strange
        assert await log.append(b"x") == Position(Offset(0), 0)
        assert await log.append(b"y") == Position(Offset(1), 0)

    run(test)


@pytest.mark.parametrize("state", [State.TRIMMED, State.LOST])
def test_append_offset_gone_before_settled_ends_unknown(state: State) -> None:
    async def test(cluster: FakeCluster, log: LogClient) -> None:
        async def gone(to: Address, message: Message) -> Message | Drop | None:
            if isinstance(message, Write):
                return DROP
            if isinstance(message, Fill):
                cluster.head[message.offset] = gone_entry
            return None

        gone_entry = junk_at(0)
        gone_entry = type(gone_entry)(Offset(0), state, gone_entry.entry_id, gone_entry.digest, b"")
        cluster.script = gone
        with pytest.raises(AppendUnknownError, match="offset 0"):
            await log.append(b"x")
        assert len(cluster.requests(GetToken)) == 1

    run(test)


def test_append_wrong_epoch_takes_new_layout_and_settles_there() -> None:
    async def test(cluster: FakeCluster, log: LogClient) -> None:
        async def seal(to: Address, message: Message) -> Message | Drop | None:
            if isinstance(message, Write) and message.epoch == 1:
                cluster.layout = make_layout(2, 100)
                cluster.tail = 100
            return None

        cluster.script = seal
        assert await log.append(b"x") == Position(Offset(100), 0)
        (fill,) = cluster.requests(Fill)
        assert (fill.epoch, fill.offset) == (2, 0)
        assert [m.epoch for m in cluster.requests(Write)] == [1, 2]

    run(test)


def test_append_stale_layout_of_lagging_replica_is_ignored() -> None:
    async def test(cluster: FakeCluster, log: LogClient) -> None:
        cluster.layouts_told = {address: make_layout(1, 0) for address in REPLICAS}
        cluster.layout = make_layout(3, 100)
        del cluster.layouts_told[REPLICAS[2]]
        cluster.tail = 100
        assert (await log.append(b"x")).offset == 100
        before = len(cluster.asked)
        # Now all but nobody know epoch 3: the client does not go back to epoch 1.
        cluster.layouts_told = {address: make_layout(1, 0) for address in REPLICAS}
        assert (await log.append(b"y")).offset == 101
        epochs = [m.epoch for _, m in cluster.asked[before:] if isinstance(m, GetToken | Write)]
        assert epochs == [3, 3]

    run(test)


def test_append_unit_behind_own_layout_is_asked_again_with_same_request() -> None:
    async def test(cluster: FakeCluster, log: LogClient) -> None:
        writes = itertools.count()

        async def behind(to: Address, message: Message) -> Message | Drop | None:
            if isinstance(message, Write) and next(writes) < 2:
                return WrongEpoch(message.request, Epoch(0), message.offset)
            return None

        cluster.script = behind
        assert (await log.append(b"x")).offset == 0
        assert len({m.request for m in cluster.requests(Write)}) == 1
        assert len(cluster.requests(GetToken)) == 1

    run(test)


def test_append_token_of_left_epoch_is_filled_and_never_used() -> None:
    """While the token request is under way a newer layout becomes known."""

    async def test(cluster: FakeCluster, log: LogClient) -> None:
        async def late(to: Address, message: Message) -> Message | Drop | None:
            if isinstance(message, GetToken) and message.epoch == 1:
                reply = cluster.answer_replica(to, message)
                cluster.layout = make_layout(2, 100)
                cluster.tail = 100
                await log._cluster.refresh()
                return reply
            return None

        cluster.script = late
        assert (await log.append(b"x")).offset == 100
        assert [(m.epoch, m.offset) for m in cluster.requests(Write)] == [(2, 100)]
        await asyncio.sleep(1)
        assert [m.offset for m in cluster.requests(Fill)] == [0]

    run(test)


def test_append_repeated_token_request_is_the_same_and_granted_once() -> None:
    async def test(cluster: FakeCluster, log: LogClient) -> None:
        async def lose_reply(to: Address, message: Message) -> Message | Drop | None:
            if isinstance(message, GetToken) and message.request not in cluster.grants:
                cluster.answer_replica(to, message)
                return DROP
            return None

        cluster.script = lose_reply
        assert (await log.append(b"x")).offset == 0
        assert cluster.tail == 1
        assert len({m.request for m in cluster.requests(GetToken)}) == 1

    run(test)


def test_append_abandoned_chain_ends_unknown() -> None:
    async def test(cluster: FakeCluster, log: LogClient) -> None:
        async def abandon(to: Address, message: Message) -> Message | Drop | None:
            if isinstance(message, Write) and message.epoch == 1:
                open_ = Segment(Offset(10), None, CHAINS)
                closed = Segment(Offset(0), Offset(10), ((), CHAINS[1]))
                cluster.layout = make_layout(2, 10, (closed, open_))
                cluster.tail = 10
                return DROP
            return None

        cluster.script = abandon
        with pytest.raises(AppendUnknownError, match="trimmed or lost"):
            await log.append(b"x")

    run(test)


def test_append_reports_lost_tokens_and_write_times() -> None:
    async def test(cluster: FakeCluster, log: LogClient) -> None:
        cluster.head[Offset(0)] = junk_at(0)
        await log.append(b"x")
        second = cluster.requests(GetToken)[1]
        assert (second.tokens_lost, second.tokens_used) == (1, 1)
        assert 500 < second.write_p99_us < 5000
        assert second.oldest == second.request.sequence

    run(test)


def test_append_filled_of_another_epoch_is_not_believed() -> None:
    async def test(cluster: FakeCluster, log: LogClient) -> None:
        fills = itertools.count()

        async def odd(to: Address, message: Message) -> Message | Drop | None:
            if isinstance(message, Write):
                cluster.write(message)
                return DROP
            if isinstance(message, Fill) and next(fills) == 0:
                whole = (type(junk_range)(message.offset, message.end),)
                return Filled(message.request, Epoch(9), message.offset, message.end, whole, ())
            return None

        from corfu.types import Range

        junk_range = Range(Offset(0), Offset(1))
        cluster.script = odd
        assert (await log.append(b"x")).offset == 0

    run(test)


def test_append_unit_ids_of_the_layout_are_used() -> None:
    async def test(cluster: FakeCluster, log: LogClient) -> None:
        await log.append(b"x")
        await log.append(b"y")
        heads = [to.port - 9800 for to, m in cluster.asked if isinstance(m, Write)]
        assert heads == [UnitId(1), UnitId(3)]

    run(test)


def test_append_follows_the_leader_and_passes_silent_replicas() -> None:
    async def test(cluster: FakeCluster, log: LogClient) -> None:
        leader = [REPLICAS[2]]

        async def elsewhere(to: Address, message: Message) -> Message | Drop | None:
            if not isinstance(message, GetToken) or to == leader[0]:
                return None
            if to == REPLICAS[1]:
                return DROP
            return NotLeader(message.request, Epoch(1), leader[0])

        cluster.script = elsewhere
        assert (await log.append(b"x")).offset == 0
        began = len(cluster.asked)
        assert (await log.append(b"y")).offset == 1
        # The leader that answered last is asked first.
        assert [to for to, m in cluster.asked[began:] if isinstance(m, GetToken)] == [REPLICAS[2]]
        leader[0] = REPLICAS[0]
        assert (await log.append(b"z")).offset == 2
        assert cluster.tail == 3

    run(test)


def test_append_older_layout_told_anyway_is_not_taken() -> None:
    async def test(cluster: FakeCluster, log: LogClient) -> None:
        async def tell_old(to: Address, message: Message) -> Message | Drop | None:
            if isinstance(message, GetLayout):
                zero = Offset(0)
                return LayoutIs(
                    message.request, Epoch(1), make_layout(1), REPLICAS[0], zero, zero, ()
                )
            return DROP if isinstance(message, Write) and message.offset == 100 else None

        cluster.script = tell_old
        assert (await log.append(b"x")).offset == 101
        assert {m.epoch for m in cluster.requests(Write)} == {3}
        assert {m.epoch for m in cluster.requests(Fill)} == {3}

    run(test, FakeCluster(layout=make_layout(3, 100), tail=100))


def test_write_that_takes_as_long_as_all_do_is_not_sent_again() -> None:
    """Units with more to do than they can are not given the same entry twice."""

    async def test(cluster: FakeCluster, log: LogClient) -> None:
        async def busy(to: Address, message: Message) -> Message | Drop | None:
            if isinstance(message, Write):
                await asyncio.sleep(0.22)
            return None

        cluster.script = busy
        for _ in range(40):
            await log.append(b"a")
        assert len(cluster.requests(Write)) == 40

        async def busier(to: Address, message: Message) -> Message | Drop | None:
            if isinstance(message, Write):
                await asyncio.sleep(0.6)
            return None

        cluster.script = busier
        await log.append(b"b")
        assert len(cluster.requests(Write)) == 41
        assert cluster.requests(Fill) == []

    run(test)


def test_first_silent_write_is_looked_after_soon_where_writes_are_quick() -> None:
    async def test(cluster: FakeCluster, log: LogClient) -> None:
        for _ in range(40):
            await log.append(b"a")
        looks = len(cluster.requests(GetLayout))

        async def silent(to: Address, message: Message) -> Message | Drop | None:
            return DROP if isinstance(message, Write) else None

        cluster.script = silent
        with pytest.raises(AppendUnknownError):
            await log.append(b"b", timeout=0.4)
        assert len(cluster.requests(GetLayout)) > looks

    run(test)
