"""All planted bugs, by name."""

from __future__ import annotations

from . import chains, clients, epochs, paxos, storage, trims
from .bug import Bug

BUGS: dict[str, Bug] = {
    bug.name: bug for part in (paxos, epochs, chains, trims, storage, clients) for bug in part.BUGS
}
