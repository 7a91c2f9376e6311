"""What is under test: code that keeps promises in a folder, and what a recovery must bring back.

Every subject is looked at in the same terms: values at offsets (entries, votes), marks that only
rise (sealed epoch, trim mark, promised ballot), and what a recovery says is damaged or in doubt.
"""

from __future__ import annotations

import abc
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from corfu.ports import Disk
from tests.crash.trace import Trace

Value = tuple[object, ...]
Mark = tuple[int, ...]

TRIMMED = "trimmed"
"""The mark below which values may be gone: of the last offset that is."""


@dataclass(frozen=True, slots=True)
class Promised:
    """What had left the process: it holds for ever.

    Attributes:
        formatted: The folder was formatted: it is never refused, and never taken for a new one.
        values: Offset -> what was acknowledged there.
        marks: Name -> the highest value that was told.
        gone: Offsets whose value a recovery did not bring back: it must never come again.
    """

    formatted: bool = False
    values: Mapping[int, Value] = field(default_factory=dict)
    marks: Mapping[str, Mark] = field(default_factory=dict)
    gone: frozenset[int] = frozenset()


@dataclass(slots=True)
class Ever:
    """All that was ever handed to the subject in one recording; nothing else may come back."""

    values: dict[int, set[Value]] = field(default_factory=dict)
    marks: dict[str, Mark] = field(default_factory=dict)

    def note(self, offset: int, value: Value) -> None:
        """Note a value that was on its way to the disk."""
        self.values.setdefault(offset, set()).add(value)

    def note_mark(self, name: str, mark: Mark) -> None:
        """Note how far a mark was raised."""
        self.marks[name] = max(self.marks.get(name, mark), mark)


@dataclass(frozen=True, slots=True)
class View:
    """What a recovery brought back.

    Attributes:
        values: Offset -> what is served there.
        marks: See `Promised`.
        suspected: Offsets that are answered DAMAGED or LOST.
        unknown: Anything else that seems unwritten may be in doubt; nobody is told EMPTY.
        damaged: What was durable and is bad; after a mere crash there must be none.
        torn: What was written last and is not whole.
    """

    values: Mapping[int, Value]
    marks: Mapping[str, Mark]
    suspected: frozenset[int] = frozenset()
    unknown: bool = False
    damaged: tuple[str, ...] = ()
    torn: tuple[str, ...] = ()

    @property
    def complaints(self) -> tuple[str, ...]:
        """All lines for the operator."""
        return (*self.damaged, *self.torn)


class Subject(abc.ABC):
    """One kind of process, over a folder."""

    name: str
    refusals: tuple[type[Exception], ...]
    """The documented errors of a folder that cannot be used."""
    trim_may_be_forgotten = False
    """A trim mark that rots away is gone without a word: what was trimmed can be read again."""
    names_files = True
    """Whether it tells which file is damaged; else only the offsets."""

    @abc.abstractmethod
    def record(self, seed: int) -> Trace:
        """Run the real code, and write down what it does; `Trace.ever` is an `Ever`."""

    @abc.abstractmethod
    def recover(self, disk: Disk) -> View:
        """Recover, as a process does that starts on this folder."""

    def covers(self, found: Value, wanted: Value) -> bool:
        """Tell whether a value found is what was promised."""
        return found == wanted

    def excused(self, found: View) -> bool:
        """Tell whether the process answers nothing before it has asked others."""
        return False


def broken(subject: Subject, found: View, promised: Promised, ever: Ever) -> Iterator[str]:
    """Yield what is wrong with the recovery of a crashed disk."""
    trimmed = _trimmed(found)
    for offset, value in promised.values.items():
        if offset <= trimmed:
            continue
        here = found.values.get(offset)
        if here is None:
            yield f"acknowledged value at {offset} is lost"
        elif not subject.covers(here, value):
            yield f"at {offset} is {here}, acknowledged was {value}"
    for name, mark in promised.marks.items():
        if found.marks.get(name, mark[:0]) < mark:
            yield f"{name} went back from {mark} to {found.marks.get(name)}"
    yield from _invented(found, promised, ever)
    for line in found.damaged:
        yield f"a crash is taken for damage: {line}"


def hidden(subject: Subject, found: View, promised: Promised, ever: Ever) -> Iterator[str]:
    """Yield what is wrong with the recovery of a rotten disk: what is bad and not said to be."""
    trimmed = _trimmed(found)
    yield from _invented(found, promised, ever)
    if subject.excused(found):
        return
    for offset, value in promised.values.items():
        if offset <= trimmed:
            continue
        here = found.values.get(offset)
        if here is not None and not subject.covers(here, value):
            yield f"at {offset} is {here}, acknowledged was {value}"
        elif here is None and offset not in found.suspected and not found.unknown:
            yield f"acknowledged value at {offset} is lost, and nobody says so"
    for name, mark in promised.marks.items():
        if name == TRIMMED and subject.trim_may_be_forgotten:
            continue
        if found.marks.get(name, mark[:0]) < mark and not found.complaints:
            yield f"{name} went back from {mark} to {found.marks.get(name)}, and nobody says so"


def _trimmed(found: View) -> int:
    return found.marks.get(TRIMMED, (-1,))[0]


def _invented(found: View, promised: Promised, ever: Ever) -> Iterator[str]:
    for offset, value in found.values.items():
        if value not in ever.values.get(offset, ()):
            yield f"at {offset} is {value}, which nobody ever wrote there"
        if offset in promised.gone:
            yield f"the value at {offset} was gone, and is back"
    for name, mark in found.marks.items():
        if mark > ever.marks.get(name, mark[:0]):
            yield f"{name} is {mark}, and was never above {ever.marks.get(name)}"
