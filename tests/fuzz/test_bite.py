"""Each target finds a bug planted in what it feeds; and the corpus has all there is."""

from __future__ import annotations

import math
from typing import Any

import pytest

from corfu import codec
from corfu.client import cluster
from corfu.codec import OPEN_KINDS
from corfu.link import Link
from corfu.link.control import FRAGMENT_ACK, FRAGMENT_PROBE
from corfu.link.reassembly import Reassembly
from corfu.messages import KINDS, Grant
from corfu.sequencer import group
from corfu.sequencer.tokens import TokenDesk
from corfu.storage_units.repair import Repair
from corfu.storage_units.writes import Writes
from corfu.types import Offset
from tests.unit.machines import Plant

from . import bounds
from .corpus import build, every_datagram
from .mutate import Mutator
from .run import CrashError, replay, run
from .target_link import LinkTarget
from .world import UNIT_NAMES


def test_corpus_has_every_kind_of_the_registry_in_every_form() -> None:
    forms = build(UNIT_NAMES, 1).forms
    control = {FRAGMENT_ACK, FRAGMENT_PROBE}
    assert set(forms) == set(KINDS) | control
    for kind in KINDS:
        wanted = {"single", "burst", "transfer"} | ({"no cluster"} if kind in OPEN_KINDS else set())
        assert forms[kind] == wanted
    assert all(forms[kind] == {"control"} for kind in control)


def test_corpus_is_valid_and_its_messages_are_whole() -> None:
    target = LinkTarget(1)
    for sample in every_datagram(target.corpus):
        target.take(sample.datagram, sample.kind)
    stages = target.stages
    assert stages.digest == stages.frame == 0
    whole = {name for name, count in stages.kinds.items() if count}
    assert whole == {kind.__name__ for kind in KINDS.values()}


def test_mutants_of_one_seed_are_the_same_and_nearly_all_differ_from_the_corpus() -> None:
    corpus = build(UNIT_NAMES, 1)
    one, other = Mutator(corpus, 7), Mutator(corpus, 7)
    mutants = [one.next() for _ in range(5000)]
    assert mutants == [other.next() for _ in range(5000)]
    valid = {sample.datagram for sample in every_datagram(corpus)}
    # Fragments of a set are sent as they are, but in another order.
    assert sum(mutant in valid for mutant in mutants) < 500
    assert len(set(mutants)) > 4000


def eviction_is_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Reassembly, "_evict", lambda self: None)
    monkeypatch.setattr(bounds, "STUCK_CPU_S", 2.0)


def held_bytes_are_not_counted_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Reassembly, "_remove", lambda self, key: self._partials.pop(key))


def decoder_of_lists_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    decode = codec.decode_body

    def planted(kind: int, *args: Any) -> Any:
        message = decode(kind, *args)
        if isinstance(message, Grant) and message.count > 2**40:
            raise IndexError("planted")
        return message

    monkeypatch.setattr(codec, "decode_body", planted)


def window_is_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    write = Writes.write

    def planted(self: Writes, message: Any, sender: Any, now: float) -> Any:
        standing = self._context.standing
        standing.window_end = max(standing.window_end, min(message.offset + 1, Offset(2**40)))
        return write(self, message, sender, now)

    monkeypatch.setattr(Writes, "write", planted)


def verdicts_reach_above_the_window(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bug that the fuzz found: kept here as a plant."""
    resolve = Repair.resolve

    def planted(self: Repair, message: Any, sender: Any, now: float) -> Any:
        standing = self._context.standing
        before, standing.window_end = standing.window_end, Offset(2**63)
        try:
            return resolve(self, message, sender, now)
        finally:
            standing.window_end = before

    monkeypatch.setattr(Repair, "resolve", planted)


def strangers_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Link, "_is_ours", lambda self, frame: True)


def paxos_values_are_not_screened(monkeypatch: pytest.MonkeyPatch) -> None:
    """The other bugs that the fuzz found in replicas: unknown commands, and the last round."""
    monkeypatch.setattr(group, "objection", lambda message, known, applied: None)


def desk_grants_an_offset_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    grant = TokenDesk._grant

    def planted(self: TokenDesk, request: Any, now: float) -> Any:
        answer = grant(self, request, now)
        self.next = Offset(self.next - 1)
        return answer

    monkeypatch.setattr(TokenDesk, "_grant", planted)


def slow_writers_are_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the fuzz found in clients: a number that fits no Read."""

    monkeypatch.setattr(cluster, "_HOLE_WAIT_S_MAX", math.inf)


def _run_until_found(target: str) -> None:
    for seed in range(5, 15):
        run(target, seed, 30_000)


@pytest.mark.parametrize(
    ("target", "plant"),
    [
        ("link", eviction_is_off),
        ("link", held_bytes_are_not_counted_back),
        ("link", decoder_of_lists_raises),
        ("link", strangers_are_taken),
        ("unit", window_is_not_looked_at),
        ("unit", verdicts_reach_above_the_window),
        ("replica", paxos_values_are_not_screened),
        ("replica", desk_grants_an_offset_twice),
        ("client", slow_writers_are_believed),
    ],
)
def test_target_finds_a_planted_bug(
    target: str, plant: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch)
    with pytest.raises(CrashError) as crash:
        _run_until_found(target)
    assert f"--replay {target}:" in str(crash.value)


def test_crash_is_found_again_by_its_replay(monkeypatch: pytest.MonkeyPatch) -> None:
    decoder_of_lists_raises(monkeypatch)
    with pytest.raises(CrashError) as first:
        run("link", 5, 100_000)
    with pytest.raises(CrashError) as second:
        replay("link", 5, first.value.number)
    assert str(first.value) == str(second.value)
    monkeypatch.undo()
    assert replay("link", 5, first.value.number) == first.value.datagram
