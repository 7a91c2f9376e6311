"""Dictionaries as users hand them over: their bytes, or files."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from corfu.compression import DICTIONARY_BYTES_MAX
from corfu.errors import UsageError

Dictionary = bytes | str | os.PathLike[str]
"""A trained zstd dictionary, or the path of the file that holds it."""


def dictionaries_of(given: Dictionary | Sequence[Dictionary] | None) -> tuple[bytes, ...]:
    """Return the bytes of what was given; raises UsageError if a file cannot be read."""
    if given is None:
        return ()
    if isinstance(given, bytes | str | os.PathLike):
        given = (given,)
    return tuple(each if isinstance(each, bytes) else _read(Path(each)) for each in given)


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            # One more than may be: what is too large is refused where its size is checked, and a
            # mistaken path cannot fill the memory.
            return file.read(DICTIONARY_BYTES_MAX + 1)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from error
