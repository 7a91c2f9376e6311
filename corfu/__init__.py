"""A shared log: one totally ordered, write-once, durable log that many clients append to.

`connect` opens the log of a cluster, `local` one in a folder, for one process. `corfu.sync` has
the same without an event loop.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from corfu.batch import Batch
    from corfu.client.connecting import connect
    from corfu.client.settings import ClientSettings
    from corfu.compression import Compression
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
        MissingCodecError,
        NotAppendedError,
        TrimmedError,
        UnavailableError,
        UnwrittenError,
        UsageError,
    )
    from corfu.log import EARLIEST, LATEST, Edge, Log, Place
    from corfu.stats import LogStats
    from corfu.types import Position, Record, State

__all__ = [
    "EARLIEST",
    "LATEST",
    "AppendError",
    "AppendUnknownError",
    "Batch",
    "ClientSettings",
    "Compression",
    "ConflictError",
    "CorfuError",
    "CorruptionError",
    "Edge",
    "JunkError",
    "Log",
    "LogStateError",
    "LogStats",
    "LostError",
    "MissingCodecError",
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

_HOMES = {
    "Batch": "corfu.batch",
    "connect": "corfu.client.connecting",
    "ClientSettings": "corfu.client.settings",
    "Compression": "corfu.compression",
    "local": "corfu.embedded.opening",
    "AppendError": "corfu.errors",
    "AppendUnknownError": "corfu.errors",
    "ConflictError": "corfu.errors",
    "CorfuError": "corfu.errors",
    "CorruptionError": "corfu.errors",
    "JunkError": "corfu.errors",
    "LogStateError": "corfu.errors",
    "LostError": "corfu.errors",
    "MissingCodecError": "corfu.errors",
    "NotAppendedError": "corfu.errors",
    "TrimmedError": "corfu.errors",
    "UnavailableError": "corfu.errors",
    "UnwrittenError": "corfu.errors",
    "UsageError": "corfu.errors",
    "EARLIEST": "corfu.log",
    "LATEST": "corfu.log",
    "Edge": "corfu.log",
    "Log": "corfu.log",
    "LogStats": "corfu.stats",
    "Place": "corfu.log",
    "Position": "corfu.types",
    "Record": "corfu.types",
    "State": "corfu.types",
}
"""Where each public name is, imported when it is first used.

Servers and commands import this package, too, and most need no client.
"""

if not TYPE_CHECKING:  # a type checker would take any name for one that is there

    def __getattr__(name):
        """Import a public name; see PEP 562."""
        home = _HOMES.get(name)
        if home is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        found = globals()[name] = getattr(importlib.import_module(home), name)
        return found


def __dir__() -> list[str]:
    """Return the public names, imported or not."""
    return sorted({*globals(), *__all__})
