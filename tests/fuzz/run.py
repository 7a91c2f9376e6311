"""One run: mutants from a seed into a target, until the count is reached or something breaks."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from .bounds import unstuck
from .corpus import Corpus
from .mutate import Mutator
from .stages import Stages
from .target_client import ClientTarget
from .target_group import GroupTarget
from .target_link import LinkTarget
from .target_unit import UnitTarget

_BATCH = 2000


class Target(Protocol):
    """A receive path, and the rules that it is held to."""

    name: str
    dispatched_min: float
    stages: Stages
    corpus: Corpus

    def take(self, datagram: bytes, kind: int) -> None:
        """Hand a datagram in."""
        ...

    def finish(self) -> None:
        """Count and look for the last time."""
        ...

    def close(self) -> None:
        """Free what the target holds, also after a crash."""
        ...


TARGETS: dict[str, Callable[[int], Target]] = {
    "link": LinkTarget,
    "unit": UnitTarget,
    "replica": GroupTarget,
    "client": ClientTarget,
}


SHARES = {"link": 0.9, "unit": 0.04, "replica": 0.05, "client": 0.01}
"""How the datagrams of a run over all targets are divided: most are cheap."""


class CrashError(Exception):
    """Something broke: the datagram, and what repeats it."""

    def __init__(self, target: str, seed: int, number: int, datagram: bytes, why: str) -> None:
        super().__init__(
            f"{target}: {why}\n"
            f"datagram {number} of seed {seed}: {datagram.hex()}\n"
            f"again: python -m tests.fuzz --replay {target}:{seed}:{number}"
        )
        self.target, self.seed, self.number, self.datagram = target, seed, number, datagram


@dataclass(slots=True)
class Outcome:
    """What a run found. `worst_s` is 0 if it was not timed."""

    stages: Stages
    worst_s: float = 0.0
    worst: bytes = b""
    cpu_s: float = 0.0


def run(
    name: str,
    seed: int,
    datagrams: int,
    *,
    timed: bool = False,
    progress: Callable[[int], None] | None = None,
) -> Outcome:
    """Hand `datagrams` mutants to a target.

    Args:
        name: Of the target.
        seed: What all follows from.
        datagrams: How many.
        timed: Find the slowest one, in CPU time.
        progress: Told how many were done since it was last told.

    Raises:
        CrashError: A core raised, or broke a rule.
    """
    began = time.process_time()
    target = TARGETS[name](seed)
    mutator = Mutator(target.corpus, seed)
    outcome = Outcome(target.stages)
    done, datagram = 0, b""
    try:
        while done < datagrams:
            count = min(_BATCH, datagrams - done)
            with unstuck():
                for _ in range(count):
                    datagram = mutator.next()
                    done += 1
                    if timed:
                        started = time.thread_time()
                        target.take(datagram, mutator.kind)
                        took = time.thread_time() - started
                        if took > outcome.worst_s:
                            outcome.worst_s, outcome.worst = took, datagram
                    else:
                        target.take(datagram, mutator.kind)
            if progress is not None:
                progress(count)
        target.finish()
    except Exception as error:
        why = f"{type(error).__name__}: {error}"
        target.close()
        raise CrashError(name, seed, done, datagram, why) from error
    outcome.cpu_s = time.process_time() - began
    return outcome


def warm_up(name: str, seed: int) -> None:
    """Take up the memory that a target needs at most, so that growth above it is a leak."""
    run(name, seed, 5000)


def replay(name: str, seed: int, number: int) -> bytes:
    """Repeat a run up to datagram `number` (from 1); returns that datagram if nothing breaks.

    Raises:
        CrashError: Something broke again.
    """
    target = TARGETS[name](seed)
    mutator = Mutator(target.corpus, seed)
    datagram = b""
    run(name, seed, number)
    for _ in range(number):
        datagram = mutator.next()
    return datagram
