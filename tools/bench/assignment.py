"""What one client process of a benchmark is told to do. Crosses the process boundary as JSON."""

from __future__ import annotations

import enum
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace

from .client_options import Scalar

TAG_BYTES = 8
STAMP_BYTES = 8
STAMPED_BYTES_MIN = TAG_BYTES + STAMP_BYTES


class Kind(enum.StrEnum):
    """What a client does."""

    APPEND = "append"
    SCAN = "scan"
    READ = "read"
    FOLLOW = "follow"
    TOKENS = "tokens"
    DISK = "disk"
    UNIT = "unit"


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """The work of one client process.

    Attributes:
        kind: What it does.
        cluster: Where; a process that only writes files has none.
        folder: Where that one writes.
        sync: Whether it syncs.
        size: Bytes of each record it appends.
        inflight: Calls that it keeps under way.
        batch: Records in each call that appends.
        rate: Calls a second at most; 0: the next one as soon as one has ended.
        limit: Records that it appends at most, and then it ends; 0: no end.
        tag: Hex of `TAG_BYTES` bytes that its records begin with, followed by the time of the
            call; empty: records are random bytes throughout. A follower looks for this tag.
        sessions: Clients in this process, each with a socket of its own (tokens only).
        trimmed: A storage unit's log is trimmed behind what is written.
        once: A scan ends at the tail, and is not begun again.
        timeout_s: Longest wait for one call.
        settings: Of the client, where they are not the default ones.
    """

    kind: Kind
    cluster: str = ""
    folder: str = ""
    sync: bool = True
    size: int = 1024
    inflight: int = 1
    batch: int = 1
    rate: float = 0.0
    limit: int = 0
    tag: str = ""
    sessions: int = 1
    trimmed: bool = False
    once: bool = False
    timeout_s: float = 30.0
    settings: Mapping[str, Scalar] = field(default_factory=dict)

    def encode(self) -> str:
        """Return it as an argument."""
        return json.dumps(asdict(self))

    @classmethod
    def decode(cls, text: str) -> Assignment:
        """Return what was encoded."""
        known = cls(**json.loads(text))
        return replace(known, kind=Kind(known.kind))


@dataclass(frozen=True, slots=True)
class Span:
    """When to work: from `start_ns` of the machine's clock on, at first without counting."""

    start_ns: int
    warmup_s: float
    seconds: float

    def encode(self) -> str:
        """Return it as a line, without its end."""
        return json.dumps(asdict(self))

    @classmethod
    def decode(cls, text: str) -> Span:
        """Return what was encoded."""
        return cls(**json.loads(text))

    @property
    def begin_ns(self) -> int:
        """When counting begins."""
        return self.start_ns + int(self.warmup_s * 1e9)
