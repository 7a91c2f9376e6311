"""Histories in files: several recordings on one clock, read as one."""

from __future__ import annotations

import gc
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from corfu.tools.check_options import CheckOptions
from corfu.tools.failure import CommandError, Status
from corfu.tools.history import HistoryFormatError, HistoryReader, encode_history
from corfu.tools.operations import FinalLog, Operation

LINES_A_STEP = 20_000
"""Progress is told after so many lines."""


class Recording:
    """What files hold: a history ordered by its calls, and what is known of it."""

    def __init__(self) -> None:
        self.history: list[Operation] = []
        self.final: FinalLog | None = None
        self.options: CheckOptions | None = None
        self._paths: list[Path] = []
        self._order = array("q")
        self._file = array("q")
        self._line = array("q")

    def read(self, paths: Sequence[Path], progress: Callable[[int], None]) -> None:
        """Read all files.

        Args:
            paths: One, or one of each client, recorded on one clock.
            progress: Is told how many operations were read, now and then.

        Raises:
            CommandError: A file is missing, or a line is not one of a history.
        """
        reader = HistoryReader()
        self._paths = list(paths)
        for number, path in enumerate(paths):
            try:
                with path.open() as lines:
                    self._read_lines(reader, number, lines, progress)
                self.final = reader.final() if number == len(paths) - 1 else None
            except (HistoryFormatError, UnicodeDecodeError) as error:
                raise CommandError(f"{path}: {error}", Status.LOCAL) from error
        self.options = reader.options
        found = reader.history
        self._order = array("q", sorted(range(len(found)), key=lambda at: found[at].invoked))
        self.history = [found[at] for at in self._order]

    def where(self, index: int) -> str | None:
        """Return the file and line of an operation; None for the final log."""
        if index < 0:
            return None
        at = self._order[index]
        return f"{self._paths[self._file[at]]}:{self._line[at]}"

    def _read_lines(
        self,
        reader: HistoryReader,
        file: int,
        lines: Iterator[str],
        progress: Callable[[int], None],
    ) -> None:
        for number, line in enumerate(lines, 1):
            if line.isspace():
                continue
            try:
                is_operation = reader.read(line)
            except HistoryFormatError as error:
                raise HistoryFormatError(f"line {number}: {error}") from error
            if is_operation:
                self._file.append(file)
                self._line.append(number)
            if number % LINES_A_STEP == 0:
                progress(len(reader.history))


def write_recording(
    path: Path, history: Sequence[Operation], final: FinalLog | None, options: CheckOptions
) -> None:
    """Write a history so that `corfu check` reads it."""
    with path.open("w") as file:
        for line in encode_history(history, final, options):
            file.write(line + "\n")


@contextmanager
def without_gc() -> Iterator[None]:
    """Keep Python from looking for cycles among millions of values that have none."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
