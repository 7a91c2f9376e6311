"""A shared log: one totally ordered, write-once, durable log that many clients append to.

`connect` opens the log of a cluster, `local` one in a folder, for one process. `corfu.sync` has
the same without an event loop.
"""

from __future__ import annotations

from corfu.client.connecting import connect
from corfu.client.settings import ClientSettings
from corfu.embedded.opening import local
from corfu.errors import (
    AppendError,
    AppendUnknownError,
    ConflictError,
    CorfuError,
    CorruptionError,
    JunkError,
    LogStateError,
    LostError,
    NotAppendedError,
    TrimmedError,
    UnavailableError,
    UnwrittenError,
    UsageError,
)
from corfu.log import EARLIEST, LATEST, Edge, Log, Place
from corfu.types import Position, Record, State

__all__ = [
    "EARLIEST",
    "LATEST",
    "AppendError",
    "AppendUnknownError",
    "ClientSettings",
    "ConflictError",
    "CorfuError",
    "CorruptionError",
    "Edge",
    "JunkError",
    "Log",
    "LogStateError",
    "LostError",
    "NotAppendedError",
    "Place",
    "Position",
    "Record",
    "State",
    "TrimmedError",
    "UnavailableError",
    "UnwrittenError",
    "UsageError",
    "connect",
    "local",
]
