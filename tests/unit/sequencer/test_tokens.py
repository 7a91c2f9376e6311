"""Grants: each offset once, each request one answer, from the applied window only."""

from __future__ import annotations

from corfu.config import WINDOW_OFFSETS_MAX
from corfu.messages import GetToken, Grant, Rejected, Rejection
from corfu.sequencer.grant_times import GrantTimes
from corfu.sequencer.settings import TOKENS_PER_REQUEST_MAX, SequencerSettings
from corfu.sequencer.tokens import Answer, TokenDesk, WriteReports
from corfu.types import Address, Epoch, Offset, RequestId
from tests.unit.sequencer.group_bench import incarnation

CLIENT = Address("10.9.9.9", 1)
SETTINGS = SequencerSettings(window_offsets_min=8, answers_max=4, clients_max=2, waiting_max=3)


def desk(window_end: int = 100) -> TokenDesk:
    return TokenDesk(
        Epoch(3), Offset(10), Offset(window_end), SETTINGS, WriteReports(), GrantTimes()
    )


def get(sequence: int, count: int = 1, *, client: int = 1, oldest: int = 0, epoch: int = 3,
        p99: int = 0, lost: int = 0, used: int = 0) -> GetToken:  # fmt: skip
    return GetToken(
        RequestId(incarnation(client), sequence), Epoch(epoch), count, oldest, p99, lost, used
    )


def ask(
    at: TokenDesk, request: GetToken, now: float = 0.0, *, paused: bool = False
) -> list[Answer]:
    return at.ask(request, CLIENT, now, paused=paused)


def only(answers: list[Answer]) -> Grant | Rejected:
    (answer,) = answers
    return answer.message


def grant(answers: list[Answer]) -> Grant:
    message = only(answers)
    assert isinstance(message, Grant)
    return message


def reason(answers: list[Answer]) -> Rejection:
    message = only(answers)
    assert isinstance(message, Rejected)
    return message.reason


def test_grants_ascend_without_gap_or_overlap() -> None:
    at = desk()
    assert [grant(ask(at, get(n, n))).offset for n in (1, 2, 3)] == [10, 11, 13]
    assert at.next == 16


def test_grant_of_a_repeated_request_is_the_same() -> None:
    at = desk()
    first = grant(ask(at, get(1, 2)))
    grant(ask(at, get(2)))
    assert grant(ask(at, get(1, 2))) == first


def test_request_of_another_epoch_is_rejected() -> None:
    assert reason(ask(desk(), get(1, epoch=2))) is Rejection.WRONG_EPOCH


def test_request_for_no_or_too_many_tokens_is_rejected() -> None:
    assert reason(ask(desk(), get(1, 0))) is Rejection.MALFORMED
    assert reason(ask(desk(), get(1, TOKENS_PER_REQUEST_MAX + 1))) is Rejection.MALFORMED


def test_request_below_what_the_client_waits_for_is_too_old() -> None:
    at = desk()
    for sequence in (1, 2, 3):
        grant(ask(at, get(sequence)))
    grant(ask(at, get(4, oldest=3)))
    assert reason(ask(at, get(2))) is Rejection.TOO_OLD
    grant(ask(at, get(3)))


def test_request_whose_answer_was_dropped_for_room_is_too_old() -> None:
    at = desk()
    for sequence in range(1, 7):
        grant(ask(at, get(sequence)))
    assert reason(ask(at, get(1))) is Rejection.TOO_OLD
    assert grant(ask(at, get(6))).offset == 15


def test_window_used_up_makes_requests_wait_in_order() -> None:
    at = desk(12)
    assert ask(at, get(1, 3)) == []
    assert ask(at, get(2, 1)) == []
    assert [a.message.request.sequence for a in at.reserved(Offset(50), 0.0)] == [1, 2]
    assert at.next == 14


def test_waiting_request_sent_again_is_granted_once() -> None:
    at = desk(10)
    assert ask(at, get(1)) == []
    assert ask(at, get(1)) == []
    assert len(at.reserved(Offset(50), 0.0)) == 1


def test_waiting_for_too_long_ends_busy() -> None:
    at = desk(10)
    assert ask(at, get(1), 0.0) == []
    assert at.deadline == SETTINGS.waiting_s
    assert reason(at.serve(SETTINGS.waiting_s + 0.1)) is Rejection.BUSY


def test_too_many_waiting_are_told_to_come_back() -> None:
    at = desk(10)
    for sequence in range(3):
        assert ask(at, get(sequence)) == []
    assert reason(ask(at, get(9))) is Rejection.BUSY


def test_paused_desk_grants_nothing() -> None:
    at = desk()
    assert ask(at, get(1), paused=True) == []
    assert at.next == 10
    assert grant(at.serve(0.0)).offset == 10


def test_reserve_is_wanted_at_half_a_window_and_once() -> None:
    at = desk(18)
    assert at.reserve(0.0) is None
    grant(ask(at, get(1, 4)))
    assert at.reserve(0.0) == 22
    assert at.reserve(0.0) is None


def test_reserve_counts_who_waits() -> None:
    at = desk(10)
    ask(at, get(1, 1000))
    assert at.reserve(0.0) == 10 + 1000 + 8


def test_reserve_counts_only_when_applied() -> None:
    at = desk(12)
    ask(at, get(1, 5))
    assert at.reserve(0.0) == 23
    assert at.reserved(None, 0.0) == []
    assert at.next == 10
    assert at.reserve(0.0) == 23


def test_reserve_grows_with_the_rate_up_to_the_largest_window() -> None:
    at = desk(1 << 40)
    now = 0.0
    for sequence in range(200):
        now += 0.01
        ask(at, get(sequence, 1000), now)
    at.window_end = at.next
    until = at.reserve(now)
    assert until is not None
    assert 5_000 < until - at.next < 20_000
    assert until - at.window_end <= WINDOW_OFFSETS_MAX


def test_grant_carries_what_clients_report_of_their_writes() -> None:
    at = desk()
    ask(at, get(1, p99=500, lost=1, used=10))
    ask(at, get(2, client=2, p99=900, used=90))
    answer = grant(ask(at, get(3), 1.0))
    assert (answer.write_p99_us, answer.lost_permille) == (900, 10)
    assert grant(ask(at, get(4), 60.0)).write_p99_us == 0


def test_closed_desk_grants_nothing_more() -> None:
    at = desk(12)
    ask(at, get(1, 5))
    assert at.close() == [CLIENT]
    assert ask(at, get(2)) == []
    assert at.next == 10
