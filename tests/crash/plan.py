"""Who is looked at, and how the states are shared out."""

from __future__ import annotations

from collections.abc import Callable

from tests.crash.campaign import DAMAGES
from tests.crash.journal_subject import JournalSubject
from tests.crash.local_subject import LocalSubject
from tests.crash.process_subjects import ReplicaSubject, UnitSubject
from tests.crash.subject import Subject

SUBJECTS: dict[str, Callable[[], Subject]] = {
    "journal": JournalSubject,
    "unit": UnitSubject,
    "replica": ReplicaSubject,
    "local": LocalSubject,
}

SHARES: dict[tuple[str, str], int] = {
    ("journal", "crash"): 100_000,
    ("journal", "crash again"): 12_000,
    ("journal", "flip"): 297_000,
    ("journal", "sector"): 20_000,
    ("journal", "cut"): 3_000,
    ("unit", "crash"): 4_000,
    ("unit", "crash again"): 1_500,
    ("unit", "flip"): 6_000,
    ("unit", "sector"): 1_500,
    ("unit", "cut"): 1_000,
    ("replica", "crash"): 2_500,
    ("replica", "crash again"): 1_500,
    ("replica", "flip"): 8_000,
    ("replica", "sector"): 1_500,
    ("replica", "cut"): 1_000,
    ("local", "crash"): 16_000,
    ("local", "crash again"): 2_000,
    ("local", "flip"): 22_000,
    ("local", "sector"): 1_500,
    ("local", "cut"): 1_000,
}
"""States in `make test`. The journal is everybody's, so most are looked at there, where a recovery
is quick; whole processes follow, for what they make of their journals and for the other files."""


def first_seed(damage: str, seed: int) -> int:
    """Return where a kind of damage begins: each has recordings, and so images, of its own."""
    return seed + 1_000_000 * DAMAGES.index(damage)
