"""How a command ends: the exit statuses, and the error that carries one.

Every module of a command raises `CommandError` or an error of the library; only `cli.main`
turns them into a line on stderr and a status.
"""

from __future__ import annotations

import enum

from corfu.errors import (
    AppendUnknownError,
    ConflictError,
    CorfuError,
    CorruptionError,
    UnavailableError,
    UsageError,
)


class Status(enum.IntEnum):
    """Exit status of the `corfu` command."""

    OK = 0
    NO = 1
    """A definite no: nothing at that place, not appended, cluster degraded."""
    USAGE = 2
    """The command was wrong: an option, an argument, a cluster string."""
    UNAVAILABLE = 3
    """No answer in time; nothing was done."""
    UNKNOWN = 4
    """No answer in time; it may have been done."""
    LOCAL = 5
    """A local file, folder or port is missing, in use, damaged or full."""
    INTERRUPTED = 130
    BROKEN_PIPE = 141
    TERMINATED = 143


STATUS_HELP = """\
\b
Exit statuses:
  0    done
  1    a definite no: nothing at that place, not appended, cluster degraded
  2    wrong usage: an option, an argument or the cluster string
  3    no answer in time, and nothing was done
  4    no answer in time, and it may have been done
  5    a local file, folder or port is missing, in use, damaged or full
  130  interrupted by Ctrl-C
  141  whoever read the output stopped reading
  143  ended by SIGTERM
"""


class CommandError(Exception):
    """A command cannot go on: one line for a person, and the status to exit with."""

    def __init__(self, text: str, status: Status) -> None:
        super().__init__(text)
        self.status = status


class Ended(Exception):  # noqa: N818 - not an error: somebody wants no more
    """A command was ended from outside; nothing is to be said about it."""

    def __init__(self, status: Status) -> None:
        super().__init__(status)
        self.status = status


def text_of(error: CorfuError | OSError) -> str:
    """Say what went wrong; of an OSError without the number that Python puts before it."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror if error.filename is None else f"{error.filename}: {error.strerror}"
    return str(error)


def status_of(error: CorfuError | OSError) -> Status:
    """Return the exit status that tells a script what it can do about `error`."""
    match error:
        case UsageError():
            return Status.USAGE
        case AppendUnknownError() | ConflictError():
            return Status.UNKNOWN
        case UnavailableError():
            return Status.UNKNOWN if error.outcome == "unknown" else Status.UNAVAILABLE
        case CorruptionError() | OSError():
            return Status.LOCAL
        case _:
            return Status.NO
