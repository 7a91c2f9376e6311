"""All planted bugs, by name."""

from __future__ import annotations

from . import chains, clients, epochs, parallel, paxos, storage, trims
from .bug import Bug
from .harmless import HARMLESS
from .unfound import UNFOUND

_PARTS = (paxos, epochs, chains, parallel, trims, storage, clients)

BUGS: dict[str, Bug] = {bug.name: bug for part in _PARTS for bug in part.BUGS}
"""Those that the suite has to find."""

EVERY = BUGS | {bug.name: bug for bug in (*HARMLESS, *UNFOUND)}
"""With what is harmless, and what nothing has found."""
