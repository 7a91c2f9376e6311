"""Who is looked at, and how the states are shared out."""

from __future__ import annotations

from collections.abc import Callable

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
    ("journal", "crash"): 130_000,
    ("journal", "crash again"): 20_000,
    ("journal", "flip"): 170_000,
    ("journal", "sector"): 25_000,
    ("journal", "cut"): 4_000,
    ("unit", "crash"): 12_000,
    ("unit", "crash again"): 4_000,
    ("unit", "flip"): 16_000,
    ("unit", "sector"): 3_000,
    ("unit", "cut"): 1_500,
    ("replica", "crash"): 5_000,
    ("replica", "crash again"): 3_000,
    ("replica", "flip"): 20_000,
    ("replica", "sector"): 4_000,
    ("replica", "cut"): 1_500,
    ("local", "crash"): 35_000,
    ("local", "crash again"): 5_000,
    ("local", "flip"): 35_000,
    ("local", "sector"): 5_000,
    ("local", "cut"): 1_500,
}
"""States in `make test`. The journal is everybody's, so most are looked at there, where a recovery
is quick; whole processes follow, for what they make of their journals and for the other files."""
