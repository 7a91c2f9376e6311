"""Goes through the states of a subject's disk, one after the other, and judges each recovery."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from corfu.ports import Sync, SyncFolder, WriteAt
from tests.crash.platter import SECTOR, Platter
from tests.crash.rot import Rot, Rotten, cuts, flips, sectors
from tests.crash.subject import Ever, Promised, Subject, View, broken, hidden
from tests.crash.trace import (
    Image,
    ImageDisk,
    PowerCut,
    Promises,
    Step,
    differences,
    kind_of,
    touched,
)

DAMAGES = ("crash", "crash again", "flip", "sector", "cut")
"""What is done to a disk. `crash again`: in or after the recovery from a crash, or from a kill."""


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is looked at, at most, at one point of a trace."""

    point: int = 2048
    """Images of a crash: all of them if there are no more, else a sample."""
    again_every: int = 40
    """Of so many images one is recovered while it crashes again."""
    again: int = 30
    """Images at each step of such a recovery."""
    rot: int = 4096
    """Bad places."""
    start_again_every: int = 16
    """Of so many bad places that were found, one is recovered from twice."""
    problems: int = 20
    """After so many it ends."""


@dataclass(frozen=True, slots=True)
class Problem:
    """A rule broken in one state; `seed` and `number` find it again."""

    subject: str
    damage: str
    seed: int
    number: int
    position: int
    text: str
    difference: tuple[str, ...]

    def __str__(self) -> str:
        lines = [
            f"{self.subject}, {self.damage}: {self.text}",
            f"  at step {self.position} of the trace of seed {self.seed}, state {self.number}",
            *(f"  {line}" for line in self.difference),
            f"  again: python -m tests.crash --kind {self.subject} --damage "
            f"'{self.damage}' --seed {self.seed} --only {self.number}",
        ]
        return "\n".join(lines)


@dataclass(slots=True)
class Tally:
    """What was looked at and found."""

    states: Counter[tuple[str, str]] = field(default_factory=Counter)
    """(kind of file, damage) -> distinct states."""
    checked: int = 0
    """Promised values and marks compared, over all states."""
    detected: int = 0
    harmless: int = 0
    beyond: int = 0
    """Whole sectors lost of what was written last: no file on the same disk can tell."""
    traces: int = 0
    steps: int = 0
    promises: int = 0
    problems: list[Problem] = field(default_factory=list)

    @property
    def total(self) -> int:
        """How many distinct states."""
        return sum(self.states.values())

    def add(self, other: Tally) -> None:
        """Take over another's counts."""
        self.states += other.states
        self.checked += other.checked
        self.detected += other.detected
        self.harmless += other.harmless
        self.beyond += other.beyond
        self.traces += other.traces
        self.steps += other.steps
        self.promises += other.promises
        self.problems += other.problems


class Campaign:
    """All states of one kind of damage to one subject, trace after trace."""

    def __init__(self, subject: Subject, damage: str, effort: Effort, only: int | None = None):
        """Take what to look at.

        Args:
            subject: Whose disk.
            damage: One of `DAMAGES`.
            effort: How much.
            only: The number of the one state to judge; the others are only counted.
        """
        self._subject = subject
        self._damage = damage
        self._effort = effort
        self._only = only
        self._seen: dict[int, int] = {}
        self.tally = Tally()

    def run(
        self, seed: int, states: int, progress: Callable[[int], None] = lambda states: None
    ) -> Tally:
        """Record the traces of `seed` and the seeds after it until so many states were seen."""
        while self.tally.total < states and len(self.tally.problems) < self._effort.problems:
            before = self.tally.total
            run = _Run(
                self._subject, self._damage, self._effort, seed, self.tally, self._only, self._seen
            )
            run.go(states - before)
            progress(self.tally.total)
            seed += 1
            if self._only is not None:
                break
        return self.tally


class _Run:
    """One trace."""

    def __init__(
        self,
        subject: Subject,
        damage: str,
        effort: Effort,
        seed: int,
        tally: Tally,
        only: int | None,
        seen: dict[int, int],
    ) -> None:
        self._subject = subject
        self._damage = damage
        self._effort = effort
        self._seed = seed
        self._tally = tally
        self._only = only
        self._rng = random.Random(f"{subject.name}-{damage}-{seed}")
        self._seen = seen
        """Hash of each image that was judged -> the seed and the promises it was held to."""
        self._number = 0
        self._position = 0
        self._promised = Promised()
        self._promises = 0
        self._ever = Ever()
        self._left = self._point_max = self._rot_max = 0
        self._steps: list[Step] = []

    def go(self, states: int) -> None:
        """Go through the trace, until so many states were seen."""
        trace = self._subject.record(self._seed)
        assert isinstance(trace.ever, Ever)
        self._ever, self._left, self._steps = trace.ever, states, trace.steps
        tally = self._tally
        tally.traces += 1
        tally.steps += len(trace.steps)
        tally.promises += trace.promises
        # Spread over the whole trace: it is to end before the states do.
        effort = self._effort
        points = sum(not isinstance(step, Promises | Sync | SyncFolder) for step in trace.steps)
        self._point_max = min(effort.point, max(64, 8 * states // max(1, points)))
        self._rot_max = min(effort.rot, max(32, 2 * states // max(1, trace.promises)))
        if trace.failure is not None:
            self._report(f"while it was recorded: {trace.failure}", ())
        platter = Platter()
        stale: Image = {}
        for position, step in enumerate(trace.steps):
            self._position = position
            platter.apply(step)
            if isinstance(step, Promises):
                assert isinstance(step.what, Promised)
                self._promised = step.what
                self._promises += 1
            if self._left <= 0 or len(tally.problems) >= effort.problems:
                return
            if self._damage == "crash":
                self._crash(platter, kind_of(touched(step)))
            elif self._damage == "crash again":
                self._crash_again(platter, step)
            elif isinstance(step, Promises) and self._promised.formatted and platter.settled:
                image = platter.cached()
                self._rot(image, stale)
                stale = image

    # Crashes.

    def _crash(self, platter: Platter, kind: str) -> None:
        for image in platter.images(self._rng, self._point_max):
            if self._left <= 0:
                return
            if self._is_new(image, kind):
                self._judge(image, platter)

    def _judge(self, image: Image, platter: Platter) -> View | None:
        """Recover from an image that a crash left, and hold it to what was promised."""
        found, refusal = self._recovered(ImageDisk(image))
        texts = [refusal] if refusal else []
        if found is not None:
            texts += broken(self._subject, found, self._promised, self._ever)
        elif refusal and not self._promised.formatted:
            return None
        for text in texts:
            self._report(text, tuple(differences(image, platter.cached())))
        return found

    def _crash_again(self, platter: Platter, step: Step) -> None:
        """Crash, or kill, and recover; then crash at each step of that recovery, and after it."""
        if not self._promised.formatted or isinstance(step, PowerCut):
            return
        effort = self._effort
        chosen = self._rng.sample(
            images := list(platter.images(self._rng, self._point_max)),
            -(-len(images) // effort.again_every),
        )
        starts = [Platter(image) for image in chosen]
        if not platter.settled:
            # Killed: what it wrote is in the page cache only, and a power cut may still take it.
            starts.append(platter.copy())
        for start in starts:
            steps: list[Step] = []
            found, refusal = self._recovered(ImageDisk(start.cached(), steps))
            if found is None:
                self._number += 1
                self._report(f"before it could crash again: {refusal}", ())
                continue
            for each in steps:
                start.apply(each)
                for image in start.images(self._rng, effort.again):
                    if self._left <= 0:
                        return
                    if self._is_new(image, kind_of(touched(each))):
                        self._judge(image, start)
            self._compare_after(start, found)

    def _compare_after(self, start: Platter, found: View) -> None:
        """What a recovery has shown stays, whatever is lost of what it wrote last."""
        for image in start.images(self._rng, self._effort.again):
            self._number += 1
            if self._only not in (None, self._number):
                continue
            again, refusal = self._recovered(ImageDisk(image))
            difference = tuple(differences(image, start.cached()))
            if again is None:
                self._report(f"after a recovery: {refusal}", difference)
            elif (again.values, again.marks) != (found.values, found.marks):
                self._report("a second recovery shows something else than the first", difference)
            elif again.suspected != found.suspected or again.unknown != found.unknown:
                self._report("a second recovery has other doubts than the first", difference)

    # Rot.

    def _rot(self, image: Image, stale: Image) -> None:
        sound, refusal = self._recovered(ImageDisk(image))
        if sound is None:
            self._report(f"before anything rots: {refusal}", ())
            return
        rotten: Iterator[Rotten]
        if self._damage == "flip":
            rotten = flips(image, stale, self._rng, self._rot_max)
        elif self._damage == "sector":
            rotten = sectors(image, self._rng, self._rot_max)
        else:
            rotten = cuts(image, self._rng)
        for each in rotten:
            if self._left <= 0:
                return
            if self._is_new(each.image, kind_of(each.file)):
                self._judge_rot(each, sound)

    def _judge_rot(self, rotten: Rotten, sound: View) -> None:
        tally = self._tally
        disk = ImageDisk(rotten.image)
        found, refusal = self._recovered(disk)
        if found is None:
            assert refusal is not None
            if refusal.startswith("!"):
                self._report(f"{rotten}: {refusal}", ())
            elif not _names(refusal, rotten):
                self._report(f"{rotten}: refused without naming the file: {refusal}", ())
            tally.detected += 1
            self._start_again(disk, rotten)
            return
        if found == sound:
            tally.harmless += 1
            return
        texts = list(hidden(self._subject, found, self._promised, self._ever))
        new = [line for line in found.complaints if line not in sound.complaints]
        told = " ".join(found.complaints)
        if not texts and (found.values, found.marks) == (sound.values, sound.marks) and not new:
            tally.harmless += 1
            return
        if not texts and not self._subject.excused(found) and self._subject.names_files:
            texts = [] if _names(told, rotten) else ["found, and the file not named"]
        if texts and rotten.rot is not Rot.FLIP and self._is_last_write(rotten):
            tally.beyond += 1
            return
        for text in texts:
            self._report(f"{rotten}: {text}", found.complaints)
        tally.detected += 1
        self._start_again(disk, rotten)

    def _start_again(self, disk: ImageDisk, rotten: Rotten) -> None:
        """Now and then recover once more: what was found is not to be forgotten by a restart."""
        if self._only is None and self._tally.detected % self._effort.start_again_every:
            return
        found, refusal = self._recovered(disk)
        if found is None:
            if refusal is not None and refusal.startswith("!"):
                self._report(f"{rotten}, started again: {refusal}", ())
            return
        # Of a mark that rotted away the first start has told; a value must be suspected for ever.
        values = replace(self._promised, marks={})
        for text in hidden(self._subject, found, values, self._ever):
            self._report(f"{rotten}, started again: {text}", found.complaints)

    def _is_last_write(self, rotten: Rotten) -> bool:
        """Tell whether the damage took the head of what the process wrote last, unmarked yet.

        A disk that lost the first sector of its last write without a word looks like one that
        never got it: no format on the same disk can tell. The next batch, or the mark that an
        idle process writes, ends that.
        """
        last = next(
            step
            for step in reversed(self._steps[: self._position])
            if isinstance(step, WriteAt) and kind_of(step.name) == "journal"
        )
        # A new file begins with a sector for its own header.
        heads = {last.position, last.position or SECTOR}
        return last.name == rotten.file and rotten.start in heads

    # Inside.

    def _is_new(self, image: Image, kind: str) -> bool:
        """Tell whether the image must be judged: it is new, or more was promised since."""
        key = hash(tuple(sorted(image.items())))
        held = self._seen.get(key)
        # One number, and no pair: the collector need not look at hundreds of thousands of them.
        now = self._seed << 20 | self._promises
        if held == now:
            return False
        self._seen[key] = now
        self._number += 1
        if held is None:
            self._tally.states[kind, self._damage] += 1
            self._left -= 1
        self._tally.checked += len(self._promised.values) + len(self._promised.marks)
        return self._only in (None, self._number)

    def _recovered(self, disk: ImageDisk) -> tuple[View | None, str | None]:
        """Recover; returns what came back, or how it was refused ("!": no documented error)."""
        try:
            return self._subject.recover(disk), None
        except self._subject.refusals as error:
            return None, f"{type(error).__name__}: {error}"
        except Exception as error:  # noqa: BLE001 - whatever escapes is the finding
            return None, f"! {type(error).__name__}: {error}"

    def _report(self, text: str, difference: tuple[str, ...]) -> None:
        if len(self._tally.problems) < self._effort.problems:
            self._tally.problems.append(
                Problem(
                    self._subject.name,
                    self._damage,
                    self._seed,
                    self._number,
                    self._position,
                    text,
                    difference,
                )
            )


def _names(text: str, rotten: Rotten) -> bool:
    """Tell whether a text names the file, and of a journal file the place."""
    kind = kind_of(rotten.file)
    if kind == "journal" and "no journal file counts" in text:
        # Where nothing at all is left of the journal, no file of it is worse than the others.
        return True
    # Other files are used whole or not at all.
    return rotten.file in text and (kind != "journal" or bool(_PLACE.search(text)))


_PLACE = re.compile(r"(?:byte|at) \d+")
