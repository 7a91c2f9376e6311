"""Token grants against a small model: what was granted, to whom, in which epoch."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from corfu.messages import GetToken, Grant, Rejected, Rejection
from corfu.sequencer.grant_times import GrantTimes
from corfu.sequencer.settings import SequencerSettings
from corfu.sequencer.tokens import Answer, TokenDesk, WriteReports, _Client
from corfu.types import Address, Epoch, Offset, RequestId
from tests.unit.machines import Plant, explore
from tests.unit.sequencer.group_bench import incarnation

SETTINGS = SequencerSettings(
    window_offsets_min=8, answers_max=2, clients_max=3, waiting_max=4, waiting_s=1.0
)
BACK = st.sampled_from([0, 0, 0, 1])
CLIENTS = st.integers(1, 3)


class TokenModel(RuleBasedStateMachine):
    """One desk at a time; a new epoch's desk begins where the reserve of the one before ends."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.closed = False
        self.epoch = 0
        self.reserved = 0
        self.sequences = dict.fromkeys((1, 2, 3), 0)
        self.granted: dict[tuple[Epoch, RequestId], Grant] = {}
        self.owners: dict[int, RequestId] = {}
        self.waiting: dict[RequestId, GetToken] = {}
        self.old: dict[RequestId, GetToken] = {}
        self.begin(8)

    @rule(window=st.integers(0, 30))
    def begin(self, window: int) -> None:
        """Begin the next epoch: who waits is asked anew, nothing that was reserved is used."""
        self.epoch += 1
        first = self.reserved
        self.reserved = first + window
        self.desk = TokenDesk(
            Epoch(self.epoch), Offset(first), Offset(self.reserved), SETTINGS, WriteReports(),
            GrantTimes(),
        )  # fmt: skip
        self.waiting.clear()
        self.closed = False

    @precondition(lambda self: not self.closed)
    @rule(
        client=CLIENTS,
        count=st.integers(0, 5),
        back=st.sampled_from([0, 0, 0, 1]),
        oldest=st.booleans(),
    )
    def ask(self, client: int, count: int, back: int, oldest: bool) -> None:
        """Ask for the first time, now and then in the epoch before."""
        self.sequences[client] += 1
        request = RequestId(incarnation(client), self.sequences[client])
        low = request.sequence if oldest else 0
        self._ask(GetToken(request, Epoch(self.epoch - back), count, low, 0, 0, 0))

    @precondition(lambda self: not self.closed)
    @rule(data=st.data())
    def ask_again(self, data: st.DataObject) -> None:
        """Repeat a request, most often of this epoch: the same grant, or none."""
        of_now = [r for r, message in self.old.items() if message.epoch == self.epoch]
        choices = sorted(of_now) or sorted(self.old)
        if choices:
            self._ask(self.old[data.draw(st.sampled_from(choices))])

    @precondition(lambda self: not self.closed)
    @rule(accepted=st.booleans())
    def reserve(self, accepted: bool) -> None:
        """Have more reserved, as far as the desk wants it; not always with success."""
        until = self.desk.reserve(self.now)
        if until is None:
            return
        assert until >= self.reserved
        if accepted:
            self.reserved = until
        self._take(self.desk.reserved(until if accepted else None, self.now))

    @precondition(lambda self: not self.closed)
    @rule(seconds=st.sampled_from([0.1, 0.6, 1.1]))
    def wait(self, seconds: float) -> None:
        """Let time pass: nobody waits for more than a second."""
        self.now += seconds
        self._take(self.desk.serve(self.now))

    @rule()
    def close(self) -> None:
        """Depose the leader: nothing more is granted before the next epoch."""
        self.desk.close()
        assert self.desk.serve(self.now) == []
        self.waiting.clear()
        self.closed = True

    @invariant()
    def window_is_kept(self) -> None:
        """Nothing is granted beyond what was reserved."""
        assert self.desk.next <= self.reserved
        assert len(self.desk.waiting()) <= SETTINGS.waiting_max

    def _ask(self, message: GetToken) -> None:
        self.old[message.request] = message
        self.waiting[message.request] = message
        answers = self.desk.ask(message, Address("10.9.9.9", 1), self.now, paused=False)
        if message.epoch != self.epoch or not message.count:
            assert len(answers) == 1
            (only,) = answers
            assert isinstance(only.message, Rejected)
            assert only.message.reason in (Rejection.WRONG_EPOCH, Rejection.MALFORMED)
            del self.waiting[message.request]
            return
        self._take(answers)

    def _take(self, answers: list[Answer]) -> None:
        for answer in answers:
            message = answer.message
            asked = self.waiting.pop(message.request)
            key = (Epoch(self.epoch), message.request)
            if isinstance(message, Rejected):
                assert message.reason in (Rejection.TOO_OLD, Rejection.BUSY)
                # Too old is only what was granted before, or is below what its client waits for.
                continue
            known = self.granted.setdefault(key, message)
            assert known == message, "a repeated request got a second grant"
            assert (message.epoch, message.count) == (asked.epoch, asked.count)
            assert message.offset + message.count <= message.window_end <= self.reserved
            for offset in range(message.offset, message.offset + message.count):
                assert self.owners.setdefault(offset, message.request) == message.request


def test_grants_after_any_row_of_requests_are_those_of_the_model() -> None:
    explore(TokenModel, 150, 40)


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_grants_after_very_many_rows_of_requests_are_those_of_the_model() -> None:
    explore(TokenModel, 4000, 50)


def answers_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TokenDesk, "_remember", lambda self, request, grant: None)


def pruned_requests_are_granted_again(monkeypatch: pytest.MonkeyPatch) -> None:
    prune = _Client.prune

    def planted(self: _Client, floor: int) -> None:
        prune(self, floor)
        self.floor = 0

    monkeypatch.setattr(_Client, "prune", planted)


def refused_reserve_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    reserved = TokenDesk.reserved
    monkeypatch.setattr(
        TokenDesk, "reserved", lambda self, until, now: reserved(self, until or Offset(10**6), now)
    )


def epoch_is_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    ask = TokenDesk.ask

    def planted(self, request, sender, now, *, paused):  # type: ignore[no-untyped-def]
        self.epoch = request.epoch
        return ask(self, request, sender, now, paused=paused)

    monkeypatch.setattr(TokenDesk, "ask", planted)


@pytest.mark.parametrize(
    "plant",
    [
        answers_are_not_kept,
        pruned_requests_are_granted_again,
        refused_reserve_counts,
        epoch_is_not_looked_at,
    ],
)
def test_token_model_finds_a_planted_bug(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch)
    with pytest.raises((AssertionError, KeyError)):
        explore(TokenModel, 400, 40, shrink=False)
