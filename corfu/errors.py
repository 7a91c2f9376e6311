"""Every error a user can meet, sorted by what the caller can do next.

Each error carries fields; its text is built from them. `outcome` says whether the operation
may have happened: `not_applied` (certainly not) or `unknown`
(it may have, or may still happen).
"""

from __future__ import annotations

from typing import Literal

from corfu.types import Offset, Position

Outcome = Literal["not_applied", "unknown"]


class CorfuError(Exception):
    """Base of all errors of this package."""

    outcome: Outcome = "not_applied"
    """Whether the operation may have happened: `not_applied` is certain, `unknown` is not."""


class UsageError(CorfuError):
    """The caller's mistake: a bad argument, a closed log, a record too large, use after fork.

    Nothing was done.
    """


class MissingCodecError(UsageError):
    """An entry is sound, and this process lacks what reads it: a library, or a dictionary.

    `library` names the package that is not installed, "" if none; else `dictionary_id` names the
    dictionary to open the log with.
    """

    def __init__(self, offset: Offset, library: str, dictionary_id: int) -> None:
        super().__init__(
            f"offset {offset} holds a compressed entry: to read it takes "
            + (
                f"the package {library}: pip install 'corfu-log[compression]'"
                if library
                else f"the zstd dictionary {dictionary_id:016x}, which was not given"
            )
        )
        self.offset = offset
        self.library = library
        self.dictionary_id = dictionary_id


class LogStateError(CorfuError):
    """A definite answer about an offset; asking again gives no value."""

    def __init__(self, offset: Offset, text: str) -> None:
        super().__init__(text)
        self.offset = offset


class UnwrittenError(LogStateError):
    """Nothing is at this place: it is at or above the tail, or the entry has no such record."""

    def __init__(self, offset: Offset, detail: str = "it is at or above the tail") -> None:
        super().__init__(offset, f"nothing is written at {offset}: {detail}")


class JunkError(LogStateError):
    """The offset was filled: it holds no records, and never will."""

    def __init__(self, offset: Offset) -> None:
        super().__init__(offset, f"offset {offset} was filled: it holds no records")


class TrimmedError(LogStateError):
    """The offset lies below the trim mark: its value is gone, as asked for."""

    def __init__(self, offset: Offset, trim_mark: Offset) -> None:
        super().__init__(offset, f"offset {offset} was trimmed: the log begins at {trim_mark}")
        self.trim_mark = trim_mark


class LostError(LogStateError):
    """No sound copy of this offset is left on any unit of its chain. A scan can step over it."""

    def __init__(self, offset: Offset) -> None:
        super().__init__(offset, f"offset {offset} is lost: no unit holds a sound copy of it")


class AppendError(CorfuError):
    """An append that did not end with its position.

    `appended` holds the positions of the records of the same call that were appended before
    it (a call of several entries goes entry by entry, in order).
    """

    def __init__(self, text: str, appended: tuple[Position, ...] = ()) -> None:
        super().__init__(text)
        self.appended = appended


class NotAppendedError(AppendError):
    """The record is certainly not in the log and never will be; appending it again is safe."""


class AppendUnknownError(AppendError):
    """The record may be in the log, or still get there: the wait ended before its fate was known.

    Also raised when the offset it may stand at was trimmed or lost meanwhile.
    """

    outcome: Outcome = "unknown"


class UnavailableError(CorfuError):
    """No answer in time from enough of the cluster; `outcome` says if it may have happened."""

    def __init__(self, text: str, outcome: Outcome = "not_applied") -> None:
        super().__init__(text)
        self.outcome = outcome


class ConflictError(CorfuError):
    """A rule of the protocol was seen broken; an operator is needed, retrying is no use."""

    outcome: Outcome = "unknown"


class CorruptionError(CorfuError):
    """A local file fails its checksum or does not belong here; never retried by itself."""

    def __init__(self, path: str, text: str) -> None:
        super().__init__(f"{path}: {text}")
        self.path = path


class WireError(Exception):
    """Internal: bytes that are no message. Counted and dropped, never shown to a user."""
